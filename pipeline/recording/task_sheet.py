"""Sheets of tasks as plain images: a column a class."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.predictions import Predictions

SIDE = 56  # pixels of an image
FRAME = 4
GAP = 4
LINE = 15  # pixels of a line of words
TASKS, SHOTS, QUERIES = 3, 5, 5  # drawn at most
PAPER, INK = (255, 255, 255), (60, 60, 60)
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion, distinct to colour-blind people


def on_paper(image: NDArray[np.float32]) -> Image.Image:
    """An image `[height, width]` or `[height, width, 3]`, from 0, dark, to 1, as `TaskBatch.by_class` gives it.

    Values beyond, as resizing may leave them, are clipped.
    """
    return Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8))


def paste_columns(
    sheet: Image.Image,
    images: NDArray[np.float32],
    corner: tuple[int, int],
    pitch: tuple[int, int],
    side: int | None = None,
) -> None:
    """Paste a task's images on a sheet, a column a class.

    Args:
        sheet: The sheet.
        images: `[ways, images of a class, height, width]`, and 3 where they have colour, as they are shown.
        corner: Left and top of the first image, in pixels.
        pitch: Pixels from an image to the next, across and down.
        side: Height and width to scale the images to; by default they keep theirs.
    """
    for column, row in np.ndindex(images.shape[:2]):
        image = on_paper(images[column, row])
        if side is not None:
            image = image.resize((side, side), Image.Resampling.BOX)
        sheet.paste(image, (corner[0] + column * pitch[0], corner[1] + row * pitch[1]))


def draw_predictions(tasks: TaskBatch, predictions: Predictions) -> NDArray[np.uint8]:
    """Draw the first of some tasks with their predictions, one below the other.

    A column is a class: its number, its support images, a line, its queries. A right prediction has a blue frame; a
    wrong one has a thick vermilion frame, and below it the number of the predicted class.

    Returns:
        uint8 `[height, width, 3]`, RGB.
    """
    support, query = tasks.by_class()
    support, query = support[:TASKS, :, :SHOTS], query[:TASKS, :, :QUERIES]
    count, ways, shots = support.shape[:3]
    queries = query.shape[2]
    pitch, below = SIDE + 2 * FRAME + GAP, SIDE + 2 * FRAME + LINE
    to_line = LINE + shots * pitch
    to_queries = to_line + 2 * GAP
    height = to_queries + queries * below + 2 * GAP
    sheet = Image.new("RGB", (ways * pitch + GAP, count * height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for task in range(count):
        top = task * height
        for way in range(ways):
            left = GAP + way * pitch
            _write(pen, str(way + 1), left, top)
            pen.line((left, top + to_line, left + pitch, top + to_line), INK)
            for place in range(queries):
                predicted, y = int(predictions.labels[task, way, place]), top + to_queries + place * below
                _frame(pen, left, y, predicted == way)
                if predicted != way:
                    _write(pen, f"as {predicted + 1}", left, y + SIDE + 2 * FRAME)
        paste_columns(sheet, support[task], (GAP + FRAME, top + LINE + FRAME), (pitch, pitch), SIDE)
        paste_columns(sheet, query[task], (GAP + FRAME, top + to_queries + FRAME), (pitch, below), SIDE)
    return np.asarray(sheet)


def _frame(pen: ImageDraw.ImageDraw, left: int, top: int, right: bool) -> None:
    """The frame of a query: thin and blue for a right prediction, thick and vermilion for a wrong one."""
    colour, width = (RIGHT, FRAME // 2) if right else (WRONG, FRAME)
    inset = FRAME - width
    end = SIDE + 2 * FRAME - 1 - inset
    pen.rectangle((left + inset, top + inset, left + end, top + end), outline=colour, width=width)


def _write(pen: ImageDraw.ImageDraw, words: str, left: int, top: int) -> None:
    """A line of words, centred over or under an image."""
    pen.text((left + SIDE // 2 + FRAME, top + 1), words, fill=INK, anchor="ma", font_size=12)

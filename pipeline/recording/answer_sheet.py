"""Tasks and what was answered to them as one picture, for whoever shows plain pictures.

A column is a class: its number, its support images, a line, its queries. A right answer has a blue frame; a wrong one a
thick vermilion frame and, below, the number of the class that it was taken for.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fanfold.pipeline.recording.paper import on_paper
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.predictions import Predictions

SIDE = 56  # pixels of an image
FRAME = 4
GAP = 4
LINE = 15  # pixels: a line of words
TASKS, SHOTS, QUERIES = 3, 5, 5  # drawn of each, at most
PAPER, INK = (255, 255, 255), (60, 60, 60)
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion, which colour-blind people tell apart


def draw_predictions(tasks: TaskBatch, predictions: Predictions) -> NDArray[np.uint8]:
    """The first of some tasks, one below the other.

    Args:
        tasks: The tasks.
        predictions: The predictions for them.

    Returns:
        uint8 `[height, width, 3]`, RGB.
    """
    ways, queries = predictions.labels.shape[1:]
    count = min(len(tasks), TASKS)
    support, query = tasks.by_class()
    shots, asked = min(support.shape[2], SHOTS), min(queries, QUERIES)
    pitch, below = SIDE + 2 * FRAME + GAP, SIDE + 2 * FRAME + LINE
    height = LINE + shots * pitch + 2 * GAP + asked * below + 2 * GAP
    sheet = Image.new("RGB", (ways * pitch + GAP, count * height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for task, way in np.ndindex(count, ways):
        left, top = GAP + way * pitch, task * height
        _write(pen, str(way + 1), left, top)
        top += LINE
        for shot in range(shots):
            sheet.paste(_scaled(support[task, way, shot]), (left + FRAME, top + shot * pitch + FRAME))
        top += shots * pitch
        pen.line((left, top, left + pitch, top), INK)
        top += 2 * GAP
        for place in range(asked):
            guess = int(predictions.labels[task, way, place])
            _frame(pen, left, top, guess == way)
            sheet.paste(_scaled(query[task, way, place]), (left + FRAME, top + FRAME))
            if guess != way:
                _write(pen, f"as {guess + 1}", left, top + SIDE + 2 * FRAME)
            top += below
    return np.asarray(sheet)


def _scaled(ink: NDArray[np.float32]) -> Image.Image:
    return on_paper(ink).resize((SIDE, SIDE), Image.Resampling.BOX)


def _frame(pen: ImageDraw.ImageDraw, left: int, top: int, right: bool) -> None:
    """The frame about a query: thin and blue, or thick and vermilion."""
    colour, width = (RIGHT, FRAME // 2) if right else (WRONG, FRAME)
    inset = FRAME - width
    end = SIDE + 2 * FRAME - 1 - inset
    pen.rectangle((left + inset, top + inset, left + end, top + end), outline=colour, width=width)


def _write(pen: ImageDraw.ImageDraw, words: str, left: int, top: int) -> None:
    """A line of words, centred over or under an image."""
    pen.text((left + SIDE // 2 + FRAME, top + 1), words, fill=INK, anchor="ma", font_size=12)

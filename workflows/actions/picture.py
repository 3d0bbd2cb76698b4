"""A picture of tasks."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from fanfold.pipeline.recording.task_sheet import paste_columns
from fanfold.tasks.batch import TaskBatch

GAP = 2  # pixels between and around images
GREY = 217  # of the gaps


def draw_tasks(tasks: TaskBatch) -> Figure:
    """Draw tasks one below the other: support images on the left, queries on the right, a column a class."""
    support, query = (list(map(_sheet, part)) for part in tasks.by_class())
    widths = [support[0].width, query[0].width]
    height = max(support[0].height, query[0].height)
    scale = 1 / 60  # inches a pixel
    figure = Figure(
        figsize=((sum(widths) + 30) * scale, (height + 8) * len(tasks) * scale + 0.3), dpi=150, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(tasks), 2, squeeze=False, width_ratios=widths)
    for number, (row, pair) in enumerate(zip(axes, zip(support, query, strict=True), strict=True)):
        for axis, sheet, title in zip(row, pair, ("support", "query"), strict=True):
            axis.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_anchor("N")
            axis.axis("off")
            if number == 0:
                axis.set_title(title, fontsize=9)
        row[0].text(
            -0.02, 0.5, f"task {number}", rotation=90, ha="right", va="center", fontsize=8, transform=row[0].transAxes
        )
    return figure


def _sheet(images: NDArray[np.float32]) -> Image.Image:
    """Images `[ways, images of a class, height, width]`, 3 at the end for colour, on one sheet: a column a class."""
    columns, rows, height, width = images.shape[:4]
    across, down = width + GAP, height + GAP
    mode, grey = ("RGB", (GREY,) * 3) if images.ndim == 5 else ("L", GREY)
    sheet = Image.new(mode, (across * columns + GAP, down * rows + GAP), grey)
    paste_columns(sheet, images, (GAP, GAP), (across, down))
    return sheet

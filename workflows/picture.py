"""Draw tasks as a picture: their support images and their queries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from fanfold.data.errors import FanfoldError
from fanfold.data.images import open_images
from fanfold.data.splits import split_classes
from fanfold.data.store import open_store
from fanfold.pipeline.experiment import resolve_dataset
from fanfold.pipeline.recording.task_sheet import paste_columns
from fanfold.tasks.batch import TaskBatch, gather_tasks
from fanfold.tasks.episodes import Stream, check_episode_shape, check_seed, draw_episodes
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import in_flags

GAP = 2  # pixels between and around images
GREY = 217  # of the gaps


def main(argv: Sequence[str]) -> None:
    parser = build_parser("workflows.picture", __doc__, argv, ["dataset", "task"])
    parser.add_argument("--seed", type=int, default=0, help="the seed of the tasks")
    parser.add_argument("--tasks", type=int, default=3, help="how many tasks to draw")
    parser.add_argument(
        "--out", type=str, default="tasks.png", help="the picture's path; its suffix decides the format"
    )
    options = parse(parser, argv)
    check_seed(options.seed)
    if options.tasks < 1:
        raise FanfoldError(f"--tasks must be at least 1, not {options.tasks}.")
    dataset, note = resolve_dataset(options.dataset)
    if note:
        print(in_flags(note))
    store = open_store(Path(dataset.store or ""))
    images, classes = open_images(store), split_classes(store, dataset.split).test
    check_episode_shape(Stream.TEST, options.task, classes, images.drawings)
    episodes = draw_episodes(options.seed, Stream.TEST, 0, options.tasks, options.task, classes, images.drawings)
    figure = draw_tasks(gather_tasks(episodes, options.task, images))
    try:
        figure.savefig(options.out)
    except (OSError, ValueError) as error:
        raise FanfoldError(f"The picture {options.out} can't be written ({error}).") from error
    print(f"{options.out}: {options.tasks} tasks of {store.dataset}, {dataset.split}")


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
    """Images `[ways, images of a class, height, width]` on one sheet, a column a class."""
    columns, rows, height, width = images.shape
    across, down = width + GAP, height + GAP
    sheet = Image.new("L", (across * columns + GAP, down * rows + GAP), GREY)
    paste_columns(sheet, images, (GAP, GAP), (across, down))
    return sheet


if __name__ == "__main__":
    run(main)

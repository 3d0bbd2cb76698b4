"""Test tasks drawn: what a learner was shown, what it was asked, and what it answered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from fanfold.data.source import ClassName
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions
from fanfold.workflows.reporting.characters import characters, label
from fanfold.workflows.reporting.style import FAINT, GREEN, GRID, INK, VERMILLION, WIDTH, Image, Picture, bare, tile

ACROSS = 10  # classes side by side, at most
DEEP = 5  # support images and queries of a class drawn, at most
HEAD = 0.24  # inches: a line of words above images
ANSWER = 0.34  # inches below a query, for the answer


@dataclass(frozen=True)
class DrawnTask:
    """A task with its images and predictions.

    Args:
        number: The task's number.
        characters: `[ways]`, what each class is called.
        support: float32 `[ways, shots, height, width]`, ink 1 on 0.
        query: float32 `[ways, queries, height, width]`.
        predictions: The predictions for this task alone.
    """

    number: int
    characters: Sequence[str]
    support: Image
    query: Image
    predictions: Predictions


def best_and_worst(predictions: Predictions, each: int = 2) -> tuple[list[int], list[int]]:
    """The best tasks and the worst, by right predictions, and among equals by their confidence.

    Args:
        predictions: The predictions for tasks 0, 1, 2, …
        each: How many of either, at most; no task is among both.

    Returns:
        The numbers of the best, best first, and of the worst, worst first.
    """
    sure = predictions.confidences.mean(axis=(1, 2))
    order = np.lexsort((np.arange(len(predictions)), -sure, -predictions.accuracies)).tolist()
    return order[: min(each, len(order) // 2)], order[::-1][: min(each, -(-len(order) // 2))]


def with_images(
    number: int, episodes: Episodes, tasks: TaskBatch, predictions: Predictions, names: Sequence[ClassName]
) -> DrawnTask:
    """A task to draw.

    Args:
        number: The task's number.
        episodes: This task alone, of what classes it is.
        tasks: This task alone, with its images.
        predictions: The predictions for it alone.
        names: The names of the store's classes.
    """
    (support,), (query,) = tasks.by_class()
    return DrawnTask(number, [label(one, names) for one in characters(episodes)[0]], support, query, predictions)


def draw_task(task: DrawnTask, name: str, kind: str) -> Picture:
    """One task: a column a class, its support images above, its queries with their predictions below.

    Args:
        task: The task.
        name: The picture's name.
        kind: What kind of task it is, such as "Best".
    """
    ways, queries = task.predictions.labels.shape[1:]
    across = min(ways, ACROSS)
    side = min(0.9, (WIDTH - 0.06) / across - 0.06)  # inches, as all here
    pitch = side + 0.06
    shown, asked = min(task.support.shape[1], DEEP), min(queries, DEEP)
    of_queries = 2 * HEAD + shown * pitch
    band = of_queries + asked * (pitch + ANSWER)
    figure, plane = bare(band * -(-ways // across), WIDTH)
    for way in range(ways):
        top, left = band * (way // across), 0.03 + pitch * (way % across)
        if way % across == 0:
            words = f"support, class {way + 1} to {min(way + across, ways)}"
            plane.text(0.03, top + HEAD - 0.06, words, color=FAINT, fontsize=8)
            plane.text(0.03, top + of_queries - 0.06, "queries, and what they were taken for", color=FAINT, fontsize=8)
        for shot in range(shown):
            y = top + HEAD + shot * pitch
            tile(plane, task.support[way, shot], (left, left + side, y + side, y), GRID)
        for row, query in enumerate(_drawn_first(task.predictions, way)):
            y = top + of_queries + row * (pitch + ANSWER)
            _answer(plane, task, way, query, (left, left + side, y + side, y))
    right, wrong = int(task.predictions.right.sum()), np.argwhere(~task.predictions.right[0]).tolist()
    mistakes = [f"{way + 1} for {task.predictions.labels[0, way, query] + 1}" for way, query in wrong[:6]]
    left_out = f" Of a class's {queries} queries {DEEP} are drawn, mistakes first." if queries > DEEP else ""
    return Picture(
        name,
        f"{kind} task: {right} of {ways * queries} right",
        f"{ways} classes: {right} of {ways * queries} queries answered right"
        f"{'; taken ' + ', '.join(mistakes) if mistakes else ''}.",
        figure,
        f"Task {task.number}: {', '.join(f'{way} {name}' for way, name in enumerate(task.characters, 1))}.{left_out}",
    )


def _drawn_first(predictions: Predictions, way: int) -> list[int]:
    """Which of a class's queries to draw: mistakes, then those given with least confidence; in their order."""
    right, sure = predictions.right[0, way], predictions.confidences[0, way]
    return sorted(np.lexsort((sure, right))[:DEEP].tolist())


def _answer(plane: Axes, task: DrawnTask, way: int, query: int, where: tuple[float, float, float, float]) -> None:
    """A query, and below it what it was taken for, and how surely; a mistake is not told by colour alone."""
    guess, sure = int(task.predictions.labels[0, way, query]), float(task.predictions.confidences[0, way, query])
    right = guess == way
    colour = GREEN if right else VERMILLION
    tile(plane, task.query[way, query], where, colour, width=1.2 if right else 2.8)
    left, end, bottom, _ = where
    lines = {0.05: (f"{'✓' if right else '✗'} {guess + 1}", colour), 0.18: (f"{100 * sure:.0f} %", INK)}
    for below, (words, of_words) in lines.items():
        plane.text((left + end) / 2, bottom + below, words, color=of_words, ha="center", va="top", fontsize=7.5)

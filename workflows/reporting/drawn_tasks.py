"""Drawings of test tasks: support images, queries and predictions."""

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

ACROSS = 10  # classes side by side at most
DEEP = 5  # support images and queries of a class drawn at most
HEAD = 0.24  # inches of a line of words above images
PREDICTION = 0.34  # inches of the prediction below a query


@dataclass(frozen=True)
class DrawnTask:
    """A task with its images and predictions."""

    number: int
    characters: Sequence[str]  # `[ways]`, the names of the classes
    support: Image  # float32 `[ways, shots, height, width]`, as shown, and 3 where there is colour
    query: Image  # float32 `[ways, queries, height, width]`, likewise
    predictions: Predictions  # for this task alone


def best_and_worst(predictions: Predictions, each: int = 2) -> tuple[list[int], list[int]]:
    """The best tasks, best first, and the worst, worst first: by accuracy, among equals by mean confidence.

    There are at most `each` of either; no task is among both.
    """
    sure = predictions.confidences.mean(axis=(1, 2))
    order = np.lexsort((np.arange(len(predictions)), -sure, -predictions.accuracies)).tolist()
    return order[: min(each, len(order) // 2)], order[::-1][: min(each, -(-len(order) // 2))]


def with_images(
    number: int, episodes: Episodes, tasks: TaskBatch, predictions: Predictions, names: Sequence[ClassName]
) -> DrawnTask:
    """A task to draw, from its episode, its images and its predictions alone, and the names of the store's classes."""
    (support,), (query,) = tasks.by_class()
    return DrawnTask(number, [label(one, names) for one in characters(episodes)[0]], support, query, predictions)


def draw_task(task: DrawnTask, name: str, kind: str) -> Picture:
    """Draw a task: a column a class, support images above, queries with their predictions below."""
    ways, queries = task.predictions.labels.shape[1:]
    across = min(ways, ACROSS)
    side = min(0.9, (WIDTH - 0.06) / across - 0.06)  # all lengths are in inches
    pitch = side + 0.06
    shown, asked = min(task.support.shape[1], DEEP), min(queries, DEEP)
    of_queries = 2 * HEAD + shown * pitch
    band = of_queries + asked * (pitch + PREDICTION)
    figure, plane = bare(band * -(-ways // across), WIDTH)
    for way in range(ways):
        top, left = band * (way // across), 0.03 + pitch * (way % across)
        if way % across == 0:
            words = f"support, class {way + 1} to {min(way + across, ways)}"
            plane.text(0.03, top + HEAD - 0.06, words, color=FAINT, fontsize=8)
            plane.text(0.03, top + of_queries - 0.06, "queries, and their predictions", color=FAINT, fontsize=8)
        for shot in range(shown):
            y = top + HEAD + shot * pitch
            tile(plane, task.support[way, shot], (left, left + side, y + side, y), GRID)
        for row, query in enumerate(_drawn_first(task.predictions, way)):
            y = top + of_queries + row * (pitch + PREDICTION)
            _prediction(plane, task, way, query, (left, left + side, y + side, y))
    right, wrong = int(task.predictions.right.sum()), np.argwhere(~task.predictions.right[0]).tolist()
    mistakes = [f"{way + 1} as {task.predictions.labels[0, way, query] + 1}" for way, query in wrong[:6]]
    left_out = f" Of a class's {queries} queries {DEEP} are drawn, mistakes first." if queries > DEEP else ""
    return Picture(
        name,
        f"{kind} task: {right} of {ways * queries} right",
        f"{ways} classes: {right} of {ways * queries} predictions right"
        f"{'; wrong: ' + ', '.join(mistakes) if mistakes else ''}.",
        figure,
        f"Task {task.number}: {', '.join(f'{way} {name}' for way, name in enumerate(task.characters, 1))}.{left_out}",
    )


def _drawn_first(predictions: Predictions, way: int) -> list[int]:
    """The queries of a class to draw, in order: mistakes, then those with the least confidence."""
    right, sure = predictions.right[0, way], predictions.confidences[0, way]
    return sorted(np.lexsort((sure, right))[:DEEP].tolist())


def _prediction(plane: Axes, task: DrawnTask, way: int, query: int, where: tuple[float, float, float, float]) -> None:
    """A query, and below it the prediction and its confidence; colour alone does not mark a mistake."""
    predicted, sure = int(task.predictions.labels[0, way, query]), float(task.predictions.confidences[0, way, query])
    right = predicted == way
    colour = GREEN if right else VERMILLION
    tile(plane, task.query[way, query], where, colour, width=1.2 if right else 2.8)
    left, end, bottom, _ = where
    lines = {0.05: (f"{'✓' if right else '✗'} {predicted + 1}", colour), 0.18: (f"{100 * sure:.0f} %", INK)}
    for below, (words, of_words) in lines.items():
        plane.text((left + end) / 2, bottom + below, words, color=of_words, ha="center", va="top", fontsize=7.5)

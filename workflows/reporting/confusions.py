"""The classes that are confused most often."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fanfold.data.source import ClassName
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions
from fanfold.workflows.reporting.characters import Character, characters, label
from fanfold.workflows.reporting.style import GRID, Image, Picture, bare, tile

COLUMNS = 2
LONGEST = 18  # letters of a drawn alphabet's name at most


@dataclass(frozen=True)
class Mistake:
    """A query with a wrong prediction."""

    task: int
    way: int  # the query's class, by its place in the task
    query: int  # its place in its class
    predicted: int


@dataclass(frozen=True)
class Confusion:
    """Two classes that were confused."""

    pair: tuple[Character, Character]  # the class of the example's query first
    mistakes: int  # how often one was predicted for the other
    asked: int  # how many queries of either there were in tasks with both
    example: Mistake  # the first mistake


def confusions(episodes: Episodes, predictions: Predictions, most: int) -> list[Confusion]:
    """Pairs of confused classes, at most `most`: most mistakes first, then fewest queries."""
    met, wrong = Counter[frozenset[Character]](), Counter[frozenset[Character]]()
    examples: dict[frozenset[Character], Mistake] = {}
    of_tasks = characters(episodes)
    for task, of_task in enumerate(of_tasks):
        met.update(map(frozenset, combinations(of_task, 2)))
        for way, query in np.argwhere(~predictions.right[task]).tolist():
            predicted = int(predictions.labels[task, way, query])
            pair = frozenset((of_task[way], of_task[predicted]))
            wrong[pair] += 1
            examples.setdefault(pair, Mistake(task, way, query, predicted))
    queries = predictions.labels.shape[2]
    found = []
    for pair, mistakes in wrong.items():
        example = examples[pair]
        pair_in_order = (of_tasks[example.task][example.way], of_tasks[example.task][example.predicted])
        found.append(Confusion(pair_in_order, mistakes, 2 * queries * met[pair], example))
    return sorted(found, key=lambda one: (-one.mistakes, one.asked, one.example.task))[:most]


def draw_confusions(
    found: Sequence[Confusion], images: Sequence[tuple[Image, Image]], names: Sequence[ClassName]
) -> list[Picture]:
    """Draw each pair's images: a query with a wrong prediction, and a support image of the predicted class."""
    if not found:
        return []
    rows = -(-len(found) // COLUMNS)
    cell, tall = 2.6, 0.8  # inches
    figure, plane = bare(tall * rows)
    for place, one in enumerate(found):
        left, top = cell * (place % COLUMNS), tall * (place // COLUMNS)
        for image, x in zip(images[place], (left + 0.04, left + 0.57), strict=True):
            tile(plane, image, (x, x + 0.5, top + 0.56, top + 0.06), GRID)
        plane.text(left + 1.13, top + 0.05, _in_words(one, names), va="top", fontsize=7.5, linespacing=1.25)
    first = found[0]
    a, b = (label(character, names) for character in first.pair)
    return [
        Picture(
            "confusions",
            "Confused classes",
            f"The {len(found)} pairs of classes that were confused most often, first {a} and {b}, "
            f"{first.mistakes} times in {first.asked} predictions.",
            figure,
            "Left a query with a wrong prediction, right a support image of the predicted class. The counts are of "
            "queries of either class in tasks with both.",
        )
    ]


def _wrapped(name: str) -> list[str]:
    return textwrap.wrap(name, 24, max_lines=2, placeholder="…")


def _in_words(one: Confusion, names: Sequence[ClassName]) -> str:
    lines = [part for character in one.pair for part in _wrapped(label(character, names, LONGEST))]
    return "\n".join([*lines, f"{one.mistakes} of {one.asked} wrong"])

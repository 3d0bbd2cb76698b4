"""The reduction: chunks' sums folded into one, in an order that depends on their number alone.

Sums of floats depend on their order. So every executor folds by `fold`, along the tree of `levels`, and gets the same
bits wherever the chunks were computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FAN_IN = 8  # parts that one fold adds up: wider folds mean fewer tasks, narrower ones more of them in parallel


@dataclass(frozen=True)
class ChunkSum:
    """The sum over some tasks of a meta-batch: one chunk's, or several chunks' folded."""

    gradient: Any  # of the tasks' meta-gradients, float32 `[P]`: an array, or a tensor
    loss: Any  # of their query losses, float64: a number, or a tensor of one
    accuracy: Any  # of their query accuracies, likewise
    tasks: int  # number of tasks
    broken: tuple[int, ...] = ()  # numbers of the tasks whose loss or gradient is not finite


def fold(parts: Sequence[ChunkSum]) -> ChunkSum:
    """Add up parts from the first to the last; the sum of one part has the part's own gradient."""
    first, *others = parts
    gradient, loss, accuracy = first.gradient, first.loss, first.accuracy
    for part in others:  # no sum(): from Python 3.12 on it rounds otherwise
        if gradient is first.gradient:
            gradient = gradient + part.gradient
        else:
            gradient += part.gradient
        loss = loss + part.loss
        accuracy = accuracy + part.accuracy
    broken = tuple(task for part in parts for task in part.broken)
    return ChunkSum(gradient, loss, accuracy, sum(part.tasks for part in parts), broken)


def levels(parts: int, fan_in: int = FAN_IN) -> list[list[range]]:
    """The tree of folds over some parts, level by level: each fold takes a range of the level below.

    The last level is one fold; a single part is folded too, so that there always is one.
    """
    tree = []
    while True:
        tree.append([range(first, min(first + fan_in, parts)) for first in range(0, parts, fan_in)])
        parts = len(tree[-1])
        if parts == 1:
            return tree


def fold_all(parts: Sequence[ChunkSum]) -> ChunkSum:
    """Fold along the tree, all in one place."""
    for level in levels(len(parts)):
        parts = [fold([parts[place] for place in places]) for places in level]
    return parts[0]


def owners_of(chunks: int, workers: int) -> list[int]:
    """The worker of each chunk of a meta-batch: neighbours share one, as their sums are folded together."""
    return [place * workers // chunks for place in range(chunks)]


def fold_ahead(parts: Sequence[ChunkSum], owners: Sequence[int], rank: int) -> tuple[Sequence[ChunkSum], Sequence[int]]:
    """Fold a rank's own sums, level by level, as long as no fold needs another rank's: then they need not travel.

    `owners` has the rank of each of all sums, in ascending order.

    Returns:
        The rank's own sums after that, and the ranks of all.
    """
    while len(owners) > 1:
        level = levels(len(owners))[0]
        if any(owners[places[0]] != owners[places[-1]] for places in level):
            break
        first = owners.index(rank) if rank in owners else 0
        own = [places for places in level if owners[places[0]] == rank]
        parts = [fold([parts[place - first] for place in places]) for places in own]
        owners = [owners[places[0]] for places in level]
    return parts, owners

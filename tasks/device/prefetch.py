"""Prefetch tasks: the host draws those of the next window while the device computes the current one.

A task depends on its number alone. Prefetching changes when a task is drawn, never which task it is.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fanfold.tasks.device.resident import encode
from fanfold.tasks.episodes import EpisodeShape, Stream, draw_ranges

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class RankTasks:
    """The tasks of a rank in a window: those at the same places in every meta-batch."""

    first: int  # number of the window's first task
    iterations: int  # meta-batches in the window
    batch: int  # tasks in a meta-batch
    places: tuple[tuple[int, int], ...]  # first and last (exclusive) place, in a meta-batch, of each chunk of the rank

    def ranges(self) -> list[tuple[int, int]]:
        """First and last (exclusive) number of each range of tasks; adjacent ranges are merged."""
        found: list[tuple[int, int]] = []
        for start in range(self.first, self.first + self.iterations * self.batch, self.batch):
            for first, last in self.places:
                begins = start + first
                if found and found[-1][1] == begins:
                    begins, _ = found.pop()
                found.append((begins, start + last))
        return found


@dataclass(frozen=True)
class TaskSource:
    """The source of a stream's tasks, see `tasks.episodes.draw_ranges`."""

    seed: int
    stream: Stream
    shape: EpisodeShape
    classes: NDArray[np.int64]
    counts: NDArray[np.int64]  # pictures of each class
    first: NDArray[np.int64]  # each class's first picture on the device, see `Resident.first`


def draw_codes(source: TaskSource, tasks: RankTasks) -> Codes:
    """Draw the tasks of a rank in a window, and no others.

    Drawing whole meta-batches and discarding other ranks' tasks would waste time in proportion to the number of ranks.
    Skipping tasks takes some microseconds per meta-batch.

    Returns:
        int32 `[iterations, the rank's tasks in a meta-batch, ways, shots + queries]`, see `encode`.
    """
    shape = source.shape
    drawn = draw_ranges(source.seed, source.stream, tasks.ranges(), shape, source.classes, source.counts)
    count = sum(last - first for first, last in tasks.places)
    return encode(drawn, source.first).reshape(tasks.iterations, count, shape.ways, shape.shots + shape.queries)


class Prefetch:
    """Draws tasks in a background thread. Only one thread may call its methods.

    NumPy releases the interpreter's lock in its loops, so that drawing hardly delays a thread that feeds a device.
    Codes come from a pure function of tasks, such as `draw_codes` of a source.
    """

    def __init__(self, draw: Callable[[RankTasks], Codes]) -> None:
        self._draw = draw
        self._thread = ThreadPoolExecutor(1, "prefetch")  # ends with this object
        self._next: tuple[RankTasks, Future[Codes]] | None = None

    def ahead(self, tasks: RankTasks) -> None:
        """Start drawing the next tasks. They replace any prefetched tasks that were not taken."""
        self._discard()
        self._next = (tasks, self._thread.submit(self._draw, tasks))

    def take(self, tasks: RankTasks) -> Codes:
        """The codes of some tasks: the prefetched ones if they are of these tasks, otherwise drawn now.

        Raises:
            Exception: Any exception of `draw`, raised in the thread or here.
        """
        if self._next is not None and self._next[0] == tasks:
            (_, drawn), self._next = self._next, None
            return drawn.result()
        self._discard()
        return self._draw(tasks)

    def _discard(self) -> None:
        if self._next is not None:
            self._next[1].cancel()
        self._next = None

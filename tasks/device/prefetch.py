"""Tasks drawn ahead: those of the next window on the host, while the device is at the one before.

What is drawn depends on the tasks' numbers alone. Drawing ahead changes when it is drawn, never what.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fanfold.tasks.device.resident import codes
from fanfold.tasks.episodes import EpisodeShape, Stream, draw_ranges

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Numbers:
    """Which tasks of a window are a rank's: in every meta-batch those in the same places.

    Args:
        first: Number of the window's first task.
        iterations: Meta-batches in the window.
        batch: Tasks in a meta-batch.
        places: First and last (exclusive) place of each of the rank's chunks in a meta-batch.
    """

    first: int
    iterations: int
    batch: int
    places: tuple[tuple[int, int], ...]

    def ranges(self) -> list[tuple[int, int]]:
        """First and last (exclusive) number of each run of tasks, neighbours as one."""
        found: list[tuple[int, int]] = []
        for start in range(self.first, self.first + self.iterations * self.batch, self.batch):
            for first, last in self.places:
                begins = start + first
                if found and found[-1][1] == begins:
                    begins, _ = found.pop()
                found.append((begins, start + last))
        return found


@dataclass(frozen=True)
class Deck:
    """What a stream's tasks are drawn from, see `draw_ranges`.

    Args:
        seed: The run's seed.
        stream: The sequence that the tasks belong to.
        shape: What a task is made of.
        classes: The classes to draw from, indices into the store.
        drawings: How many drawings each class of the store has.
        resident: How many drawings a class has on the device, see `Resident`.
    """

    seed: int
    stream: Stream
    shape: EpisodeShape
    classes: NDArray[np.int64]
    drawings: NDArray[np.int64]
    resident: int


def draw_codes(deck: Deck, numbers: Numbers) -> Codes:
    """Draw a rank's tasks of a window, no others, and all at once.

    A rank could as well draw whole meta-batches and keep its own tasks; what is drawn in vain then grows with the
    number of ranks, while to skip tasks takes some microseconds a meta-batch.

    Returns:
        int32 `[iterations, tasks of the rank in a meta-batch, ways, shots + queries]`, see `codes`.
    """
    shape = deck.shape
    drawn = draw_ranges(deck.seed, deck.stream, numbers.ranges(), shape, deck.classes, deck.drawings)
    own = sum(last - first for first, last in numbers.places)
    return codes(drawn, deck.resident).reshape(numbers.iterations, own, shape.ways, shape.shots + shape.queries)


class Prefetch:
    """Hands out tasks' codes, and has the next ones drawn in a thread. For one thread to ask.

    NumPy lets other threads run during its loops, so drawing hardly holds up a thread that feeds a device.

    Args:
        draw: What draws: a function of the numbers alone, as `draw_codes` of a deck is.
    """

    def __init__(self, draw: Callable[[Numbers], Codes]) -> None:
        self._draw = draw
        self._thread = ThreadPoolExecutor(1, "prefetch")  # which ends with this object
        self._next: tuple[Numbers, Future[Codes]] | None = None

    def ahead(self, numbers: Numbers) -> None:
        """Begin to draw tasks that are to be taken next, in the place of any that wait to be taken."""
        self._give_up()
        self._next = (numbers, self._thread.submit(self._draw, numbers))

    def take(self, numbers: Numbers) -> Codes:
        """The codes of some tasks: those drawn ahead, if they are these, and else drawn now.

        Raises:
            Exception: What drawing them raised, in the thread or here.
        """
        if self._next is not None and self._next[0] == numbers:
            (_, drawn), self._next = self._next, None
            return drawn.result()
        self._give_up()
        return self._draw(numbers)

    def _give_up(self) -> None:
        if self._next is not None:
            self._next[1].cancel()
        self._next = None

"""The meta-iterations of a gang's rank, on whatever it computes with."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fanfold.pipeline.executors.communicator import Communicator
from fanfold.pipeline.executors.segments import Share, segment_size
from fanfold.pipeline.executors.stopwatch import Stopwatch
from fanfold.pipeline.optimizer import Record, State, Vector, not_finite
from fanfold.pipeline.recipe import Recipe

Check = Callable[[], None]  # raises where nobody waits for the window any more


class MemberLoop(ABC):
    """A rank's part of a run's windows. It keeps the parameters, and the rank's segment of the state, between windows.

    Attributes:
        iteration: Meta-iterations done; -1 before any start.
    """

    def __init__(self, recipe: Recipe, share: Share, size: int) -> None:
        self._recipe, self._share, self._size = recipe, share, size
        self._length = segment_size(size, share.ranks)
        left = share.left()  # the sums that the ranks exchange
        self._counts = [[rank for rank, _ in left].count(rank) for rank in range(share.ranks)]
        self._left_tasks = [tasks for _, tasks in left]
        self.iteration = -1

    @abstractmethod
    def start(self, parameters: Vector, segment: State) -> None:
        """Start from the parameters of all ranks' segments, and the rank's own segment of a state."""

    @property
    @abstractmethod
    def standing(self) -> tuple[Vector, State]:
        """The parameters of all ranks' segments, and the rank's own segment of the state."""

    @abstractmethod
    def window(
        self, iterations: int, check: Check, stopwatch: Stopwatch, communicator: Communicator | None = None
    ) -> tuple[Record, ...]:
        """Compute the next meta-iterations; a rank that is alone may have no communicator.

        The stopwatch is told of every chunk, fold, step and exchange, where the host can tell them apart.

        Raises:
            RunError: A loss or gradient is not finite.
            DisbandedError: The gang broke.
        """


def raise_not_finite(
    share: Share, first: int, broken: NDArray[np.bool_], communicator: Communicator | None = None
) -> None:
    """Raise RunError, on all ranks, where a task of any has no finite loss or gradient, for the first such iteration.

    `broken` says which of the rank's own tasks broke, `[iterations, own tasks]`, from iteration `first` on. A rank that
    is alone has no communicator.
    """
    bad = np.flatnonzero(broken.any(axis=1))
    place = torch.tensor([int(bad[0]) if len(bad) else len(broken)])
    if communicator is not None:
        place = communicator.gather(place).min(0).values
    if int(place) == len(broken):
        return
    batch = torch.zeros(share.chunks[-1][1], dtype=torch.uint8)
    batch[[task for chunk in share.own for task in range(*chunk)]] = torch.from_numpy(broken[int(place)]).byte()
    if communicator is not None:
        batch = communicator.gather(batch).max(0).values
    iteration = first + int(place)
    raise not_finite(iteration, (iteration * len(batch) + batch.nonzero()[:, 0]).tolist())

"""How the workers of a gang exchange arrays, without waiting for ever for one that is gone."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed import Work

from fanfold.pipeline.fold import ChunkSum

FACTS = 4  # of a chunk's sum, besides its gradient: loss, accuracy, tasks, how many of them broke

LOOK = timedelta(seconds=0.5)  # how long to wait for the others between looks at whether it still makes sense

Rows = NDArray[np.float32]


class DisbandedError(Exception):
    """The gang has lost a member, or isn't wanted any more: nothing can come of its window."""


class Others:
    """A gang as one of its workers sees it. All of them must call the same methods, in the same order.

    Vectors are cut into as many segments as there are ranks, all of one length, which takes nought at the end.

    Args:
        group: The gang's `ProcessGroupGloo`, whose methods PyTorch declares no types for.
        rank: The worker's rank.
        ranks: How many there are.
        wanted: Whether anyone still waits for what comes of it.

    Each method raises DisbandedError where a connection is lost, or `wanted` says no.
    """

    def __init__(self, group: Any, rank: int, ranks: int, wanted: Callable[[], bool]) -> None:
        self.rank, self.ranks = rank, ranks
        self._group, self._wanted = group, wanted

    def check(self) -> None:
        """Raise where it makes no sense to go on."""
        if not self._wanted():
            raise DisbandedError("its window is no longer wanted")

    def broadcast(self, array: NDArray[Any]) -> None:
        """Overwrite an array with that of rank 0."""
        self._finish(self._group.broadcast(torch.from_numpy(array), 0))

    def all_gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """The arrays of all ranks, of one shape `[…]` and type: `[ranks, …]`."""
        found = np.empty((self.ranks, *array.shape), array.dtype)
        self._finish(self._group._allgather_base(torch.from_numpy(found).view(-1), torch.from_numpy(array).view(-1)))
        return found

    def all_to_all(self, rows: Rows, counts: Sequence[int]) -> Rows:
        """The rows that all ranks have for this one, rank by rank.

        Args:
            rows: What this rank has for each: `[ranks, own rows, width]`.
            counts: How many rows each rank has.
        """
        _, own, width = rows.shape
        found = np.empty((sum(counts), width), np.float32)
        into, out = [count * width for count in counts], [own * width] * self.ranks
        flat, sent = torch.from_numpy(found).view(-1), torch.from_numpy(rows).view(-1)
        self._finish(self._group.alltoall_base(flat, sent, into, out))
        return found

    def swap(self, rows: Tensor, found: Tensor, counts: Sequence[int]) -> None:
        """As `all_to_all`, of tensors on a device: overwrite `found`."""
        found.copy_(torch.from_numpy(self.all_to_all(rows.cpu().numpy(), counts)))

    def gather_into(self, found: Tensor, own: Tensor) -> None:
        """As `all_gather`, of tensors on a device: overwrite `found`, `[ranks · n]`, with all ranks' `[n]`."""
        found.copy_(torch.from_numpy(self.all_gather(own.cpu().numpy())).view(-1))

    def _finish(self, work: Work) -> None:
        # Time and again for a little while: an operation can't be called off, but waiting for it can.
        while True:
            over = work.is_completed()
            try:
                work.wait(LOOK)
                return
            except RuntimeError as error:
                if over:
                    raise DisbandedError("a connection was lost") from error
            try:
                self.check()
            except DisbandedError:
                # The group must outlive it: to end a group waits for what it is at, and holds up the whole process.
                threading.Thread(target=_outlive, args=(self._group, work), daemon=True).start()
                raise


def _outlive(_: Any, work: Work) -> None:
    with suppress(RuntimeError):
        work.wait()


def segment_size(size: int, ranks: int) -> int:
    """How long the segments of a vector are: the last ones may reach beyond its end."""
    return -(-size // ranks)


def to_rows(parts: Sequence[ChunkSum], ranks: int, size: int) -> Rows:
    """Chunks' sums cut up for the ranks: float32 `[ranks, parts, width]`, a segment of each gradient and its facts.

    Of the tasks that broke there is only how many they are: there are none, or the run is over.

    Args:
        parts: The sums.
        ranks: How many ranks there are.
        size: Length of a gradient.
    """
    length = segment_size(size, ranks)
    facts = np.zeros((len(parts), FACTS))  # float64: sums keep their bits
    rows = np.zeros((ranks, len(parts), length + 2 * FACTS), np.float32)
    for place, part in enumerate(parts):
        facts[place] = part.loss, part.accuracy, part.tasks, len(part.broken)
        for rank in range(ranks):
            segment = part.gradient[rank * length : (rank + 1) * length]
            rows[rank, place, : len(segment)] = segment
    rows[:, :, length:] = facts.view(np.float32)
    return rows


def from_rows(rows: Rows, length: int) -> tuple[list[ChunkSum], int]:
    """The sums of rows `[parts, width]`, each with a segment of its gradient, of some length; how many tasks broke."""
    facts = np.ascontiguousarray(rows[:, length:]).view(np.float64)
    sums = [
        ChunkSum(row[:length], loss, accuracy, int(tasks))
        for row, (loss, accuracy, tasks, _) in zip(rows, facts.tolist(), strict=True)
    ]
    return sums, int(facts[:, 3].sum())

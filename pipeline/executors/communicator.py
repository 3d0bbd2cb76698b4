"""How the workers of a gang exchange vectors, without waiting for ever for one that is gone."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch.distributed import Work

POLL = timedelta(seconds=0.5)  # how long to wait for the others between two checks that the window is still wanted


class DisbandedError(Exception):
    """The gang has lost a member, or nobody waits for its window any more."""


class Communicator:
    """A gang as one of its ranks sees it. All ranks must call the same methods, in the same order.

    Each method raises DisbandedError where a connection is lost, or `wanted` says that nobody waits for the window any
    more.
    """

    # The group is a `ProcessGroupGloo`, whose methods PyTorch declares no types for.
    def __init__(self, group: Any, rank: int, ranks: int, wanted: Callable[[], bool]) -> None:
        self.rank, self.ranks = rank, ranks
        self._group, self._wanted = group, wanted

    def check(self) -> None:
        """Raise DisbandedError where nobody waits for the window any more."""
        if not self._wanted():
            raise DisbandedError("its window is no longer wanted")

    def broadcast(self, tensor: Tensor) -> None:
        """Overwrite a tensor on the host with that of rank 0."""
        self._finish(self._group.broadcast(tensor, 0))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, on the host, of one shape `[…]` and type: `[ranks, …]`."""
        found = torch.empty((self.ranks, *tensor.shape), dtype=tensor.dtype)
        self._finish(self._group._allgather_base(found.view(-1), tensor.view(-1)))
        return found

    def exchange(self, rows: Tensor, found: Tensor, counts: Sequence[int]) -> None:
        """Overwrite `found` with the rows that all ranks have for this one, rank by rank.

        Args:
            rows: What this rank has for each, `[ranks, own rows, width]`.
            found: Where to write, `[sum(counts), width]`.
            counts: How many rows each rank has.
        """
        _, own, width = rows.shape
        into, out = [count * width for count in counts], [own * width] * self.ranks
        here = found.cpu()
        self._finish(self._group.alltoall_base(here.view(-1), rows.cpu().view(-1), into, out))
        if here is not found:
            found.copy_(here)

    def gather_into(self, found: Tensor, own: Tensor) -> None:
        """Overwrite `found`, `[ranks · n]`, with all ranks' `[n]`."""
        found.copy_(self.gather(own.cpu()).view(-1))

    def _finish(self, work: Work) -> None:
        # An operation can't be called off, but waiting for it can.
        while True:
            over = work.is_completed()
            try:
                work.wait(POLL)
                return
            except RuntimeError as error:
                if over:
                    raise DisbandedError("a connection was lost") from error
            try:
                self.check()
            except DisbandedError:
                # The group must outlive the operation: its end waits for it, and holds up the whole process.
                threading.Thread(target=_outlive, args=(self._group, work), daemon=True).start()
                raise


def _outlive(_: Any, work: Work) -> None:
    with suppress(RuntimeError):
        work.wait()

"""How the ranks of a gang share a meta-batch: each has some chunks, and a segment of every vector.

A vector of P numbers is cut into as many segments as there are ranks, all of one length; the last ones may reach beyond
its end, where they hold zeros. A chunk's sum travels as a row a rank: that rank's segment of the gradient, and the loss
and the accuracy, whose float64 keep their bits as two float32 each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fanfold.pipeline.fold import ChunkSum, fold_ahead, owners_of

FACTS = 4  # float32 beside a segment in a row: a loss and an accuracy


@dataclass(frozen=True)
class Share:
    """A rank's share of every meta-batch."""

    rank: int
    ranks: int
    chunks: tuple[tuple[int, int], ...]  # first and last (exclusive) place of each chunk of a meta-batch

    @property
    def owners(self) -> list[int]:
        """The rank of each chunk."""
        return owners_of(len(self.chunks), self.ranks)

    @property
    def own(self) -> tuple[tuple[int, int], ...]:
        """The rank's own chunks."""
        return self.chunks_of(self.rank)

    def chunks_of(self, rank: int) -> tuple[tuple[int, int], ...]:
        """The chunks of a rank."""
        return tuple(chunk for chunk, owner in zip(self.chunks, self.owners, strict=True) if owner == rank)

    def left(self) -> list[tuple[int, int]]:
        """The sums that are left when every rank has folded its own ahead: the rank and the number of tasks of each."""
        found = []
        for rank in range(self.ranks):
            parts = [ChunkSum(np.zeros(0, np.float32), 0.0, 0.0, last - first) for first, last in self.chunks_of(rank)]
            found += [(rank, part.tasks) for part in fold_ahead(parts, self.owners, rank)[0]]
        return found


def segment_size(size: int, ranks: int) -> int:
    """Length of the segments of a vector of some size."""
    return -(-size // ranks)


def pack(sums: Sequence[ChunkSum], ranks: int, length: int, device: torch.device) -> Tensor:
    """Sums, of arrays or of tensors, as rows for the ranks, float32 `[ranks, sums, length + FACTS]`."""
    rows = torch.zeros(ranks, len(sums), length + FACTS, device=device)
    for place, part in enumerate(sums):
        gradient = torch.as_tensor(part.gradient)
        rows[:, place, :length] = pad(gradient, (0, ranks * length - len(gradient))).view(ranks, length)
        facts = [torch.as_tensor(fact, dtype=torch.float64) for fact in (part.loss, part.accuracy)]
        rows[:, place, length:] = torch.stack(facts).view(torch.float32)
    return rows


def unpack(rows: Tensor, tasks: Sequence[int], length: int) -> list[ChunkSum]:
    """The sums of rows `[sums, length + FACTS]`, each with its segment of the gradient and its number of tasks."""
    facts = rows[:, length:].clone(memory_format=torch.contiguous_format).view(torch.float64)
    return [
        ChunkSum(row[:length], loss, accuracy, count)
        for row, (loss, accuracy), count in zip(rows, facts, tasks, strict=True)
    ]

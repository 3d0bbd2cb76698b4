"""Which drawings of a class are its support set, and which its queries, while a metric learner trains.

An episode embeds all of its drawings anyway. With every drawing taking its turn in the support set, the same
embeddings give as many episodes as a class has drawings: a less noisy gradient for next to no more time.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from fanfold.tasks.batch import TaskBatch


def by_class(tasks: TaskBatch, support: Tensor, query: Tensor) -> Tensor:
    """A task's images, class by class, support before queries: `[ways, shots + queries, 1, height, width]`."""
    return torch.cat([part.unflatten(0, (tasks.ways, -1)) for part in (support, query)], 1)


class Turns(NamedTuple):
    """The support sets that an episode's drawings take turns in, on a device; made once, and not in a CUDA graph.

    Args:
        is_support: bool `[turns, drawings]`, see `turns`.
        support: int64 `[turns, shots]`, each turn's support drawings, in order.
        queries: int64 `[turns, drawings - shots]`, each turn's other drawings, in order.
    """

    is_support: Tensor
    support: Tensor
    queries: Tensor


@lru_cache(maxsize=8)
def turns_on(device: torch.device, shots: int, drawings: int, *, every: bool) -> Turns:
    """The turns of `turns`, on a device."""
    is_support = turns(shots, drawings, every=every)
    support, queries = (part.nonzero()[:, 1].view(len(part), -1) for part in (is_support, ~is_support))
    return Turns(is_support.to(device), support.to(device), queries.to(device))


def turns(shots: int, drawings: int, *, every: bool) -> Tensor:
    """The support sets of an episode: bool `[turns, drawings]`, true where a drawing is support.

    Args:
        shots: Support drawings of each class.
        drawings: Support and query drawings of each class.
        every: Whether there are as many turns as drawings, each with `shots` neighbours, or just the first ones.
    """
    count = drawings if every else 1
    return (torch.arange(drawings) - torch.arange(count)[:, None]) % drawings < shots

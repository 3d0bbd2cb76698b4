"""Which drawings of a class are its support set, and which its queries, while a metric learner trains.

An episode embeds all of its drawings anyway. With every drawing taking its turn in the support set, the same
embeddings give as many episodes as a class has drawings: a less noisy gradient for next to no more time.
"""

import torch
from torch import Tensor

from tasks.batch import TaskBatch


def by_class(tasks: TaskBatch, support: Tensor, query: Tensor) -> Tensor:
    """A task's images, class by class, support before queries: `[ways, shots + queries, 1, height, width]`."""
    return torch.cat([part.unflatten(0, (tasks.ways, -1)) for part in (support, query)], 1)


def turns(shots: int, drawings: int, *, every: bool) -> Tensor:
    """The support sets of an episode: bool `[turns, drawings]`, true where a drawing is support.

    Args:
        shots: Support drawings of each class.
        drawings: Support and query drawings of each class.
        every: Whether there are as many turns as drawings, each with `shots` neighbours, or just the first ones.
    """
    count = drawings if every else 1
    return (torch.arange(drawings) - torch.arange(count)[:, None]) % drawings < shots

"""The split of an episode's images into support set and queries while a metric-based algorithm trains.

An episode embeds all its images anyway. Each rotation makes other images of every class the support set. The same
embeddings then give as many episodes as a class has images: a less noisy gradient in nearly the same time.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from fanfold.tasks.batch import TaskBatch


def by_class(tasks: TaskBatch, support: Tensor, query: Tensor) -> Tensor:
    """One task's images by class, support before queries: `[ways, shots + queries, channels, height, width]`."""
    return torch.cat([part.unflatten(0, (tasks.ways, -1)) for part in (support, query)], 1)


class Rotations(NamedTuple):
    """The rotations of a support set, on a device. The same split holds for every class."""

    is_support: Tensor  # bool `[rotations, images]`, whether an image of a class is in the support set
    support: Tensor  # int64 `[rotations, shots]`, the support images, in ascending order
    queries: Tensor  # int64 `[rotations, images - shots]`, the query images, in ascending order


@lru_cache(maxsize=8)  # tensors that a CUDA graph reads, and that can't be made while it is captured
def rotations_on(device: torch.device, shots: int, images: int, *, every: bool) -> Rotations:
    """The rotations of `support_masks`, on a device."""
    is_support = support_masks(shots, images, every=every)
    support, queries = (part.nonzero()[:, 1].view(len(part), -1) for part in (is_support, ~is_support))
    return Rotations(is_support.to(device), support.to(device), queries.to(device))


def support_masks(shots: int, images: int, *, every: bool) -> Tensor:
    """The support set of every rotation: bool `[rotations, images]`, of so many support and query images of a class.

    With `every`, there is a rotation for each image. Its support set is that image and the next `shots` - 1. Without,
    the first images are the only support set.
    """
    count = images if every else 1
    return (torch.arange(images) - torch.arange(count)[:, None]) % images < shots

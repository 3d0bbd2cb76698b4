"""Tasks with their images, as tensors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.data.images import Images
from fanfold.tasks.episodes import Episodes, EpisodeShape, check_turns


@dataclass(frozen=True)
class TaskBatch:
    """Some tasks of one shape. Images lie class by class, so the labels are those of every task.

    Args:
        support: Float `[tasks, ways · shots, 1, height, width]`, ink 1 on 0.
        support_labels: int64 `[ways · shots]`, 0 … ways - 1.
        query: Float `[tasks, ways · queries, 1, height, width]`.
        query_labels: int64 `[ways · queries]`.
        ways: How many classes each task has; by default what the labels say, which a device is waited for to tell.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    ways: int = 0

    def __post_init__(self) -> None:
        if not self.ways:
            object.__setattr__(self, "ways", int(self.support_labels[-1]) + 1)

    def __len__(self) -> int:
        return len(self.support)

    def parts(self, most: int) -> list["TaskBatch"]:
        """The same tasks in as few parts as have no more than so many each, as even as can be."""
        count = -(-len(self) // most)
        pairs = zip(self.support.tensor_split(count), self.query.tensor_split(count), strict=True)
        return [replace(self, support=support, query=query) for support, query in pairs]

    def by_class(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Support and query images as they are looked at: `[tasks, ways, images of a class, height, width]` each."""
        support, query = (part[:, :, 0].unflatten(1, (self.ways, -1)).numpy() for part in (self.support, self.query))
        return support, query

    def to(self, device: str) -> "TaskBatch":
        """The same tasks on another device."""
        return TaskBatch(
            self.support.to(device),
            self.support_labels.to(device),
            self.query.to(device),
            self.query_labels.to(device),
            self.ways,
        )


def gather_tasks(
    episodes: Episodes, shape: EpisodeShape, images: Images, dtype: torch.dtype = torch.float32
) -> TaskBatch:
    """Fetch the drawings of the episodes, mirrored and turned as they say.

    Raises:
        FanfoldError: A chunk of the store is damaged, or its images can't be turned.
    """
    check_turns(shape, images.size)
    classes, drawings, turns, mirrored = _places(episodes)
    return as_tasks(_ink(classes, drawings, turns, mirrored, images, dtype), shape)


def gather_distinct(
    episodes: Episodes, images: Images, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, NDArray[np.int64]]:
    """Fetch each drawing of the episodes once, however many tasks have it.

    Returns:
        Float `[n, 1, height, width]`, and int64 `[tasks, ways, shots + queries]`, the places in them.

    Raises:
        FanfoldError: A chunk of the store is damaged.
    """
    places = _places(episodes)
    distinct, of_tasks = np.unique(np.stack([part.ravel() for part in places]), axis=1, return_inverse=True)
    classes, drawings, turns, mirrored = distinct
    return _ink(classes, drawings, turns, mirrored.astype(bool), images, dtype), of_tasks.reshape(places[0].shape)


def as_tasks(parts: Tensor, shape: EpisodeShape) -> TaskBatch:
    """Tasks from what stands for their drawings: images or embeddings `[tasks, ways, shots + queries, …]`."""
    ways, drawings = parts.shape[1:3]
    label = torch.arange(ways, device=parts.device)
    return TaskBatch(
        support=parts[:, :, : shape.shots].flatten(1, 2),
        support_labels=label.repeat_interleave(shape.shots),
        query=parts[:, :, shape.shots :].flatten(1, 2),
        query_labels=label.repeat_interleave(drawings - shape.shots),
        ways=ways,
    )


def _places(episodes: Episodes) -> list[NDArray[Any]]:
    """Class, drawing, quarter turns and reflection of every drawing, `[tasks, ways, shots + queries]` each."""
    of_classes = (episodes.classes, episodes.rotations, episodes.reflections)
    classes, turns, mirrored = (np.broadcast_to(part[..., None], episodes.drawings.shape) for part in of_classes)
    return [classes, episodes.drawings, turns, mirrored]


def _ink(
    classes: NDArray[np.int64],
    drawings: NDArray[np.int64],
    turns: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    images: Images,
    dtype: torch.dtype,
) -> Tensor:
    """Images `[…, 1, height, width]` of drawings `[…]`, ink 1 on 0."""
    pixels = images.gather(classes, drawings)
    pixels[mirrored] = pixels[mirrored][..., ::-1]
    for quarters in (1, 2, 3):
        turned = turns == quarters
        if turned.any():
            pixels[turned] = np.rot90(pixels[turned], quarters, axes=(-2, -1))
    return torch.from_numpy(pixels).to(dtype).div_(255).unsqueeze(-3)

"""Tasks as tensors of images and labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.data.images import Images
from fanfold.tasks.episodes import Episodes, EpisodeShape, check_rotations
from fanfold.tasks.pixels import orientations, oriented


@dataclass(frozen=True)
class TaskBatch:
    """Some tasks of the same shape. Images are ordered by class, so that all tasks have the same labels.

    Args:
        support: Float `[tasks, ways · shots, channels, height, width]`, 0 to 1; or embeddings, `[tasks, ways · shots,
            d]`.
        support_labels: int64 `[ways · shots]`, 0 … ways - 1.
        query: Float `[tasks, ways · queries, channels, height, width]`; or embeddings `[tasks, ways · queries, d]`.
        query_labels: int64 `[ways · queries]`.
        ways: Classes in each task. By default it is read from the labels, which waits for their device.
        ink: Whether the images are handwriting, bright on 0, which is shown dark on white.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    ways: int = 0
    ink: bool = False

    def __post_init__(self) -> None:
        if not self.ways:
            object.__setattr__(self, "ways", int(self.support_labels[-1]) + 1)

    def __len__(self) -> int:
        return len(self.support)

    def parts(self, most: int) -> list["TaskBatch"]:
        """The tasks in as few parts as possible of at most `most` tasks, of nearly equal sizes."""
        count = -(-len(self) // most)
        pairs = zip(self.support.tensor_split(count), self.query.tensor_split(count), strict=True)
        return [replace(self, support=support, query=query) for support, query in pairs]

    def by_class(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Support and query images as they are shown, 0 to 1: `[tasks, ways, images of a class, height, width]` each.

        Coloured ones have a last axis of red, green and blue.
        """
        return self._shown(self.support), self._shown(self.query)

    def _shown(self, images: Tensor) -> NDArray[np.float32]:
        by_class = images.unflatten(1, (self.ways, -1)).movedim(-3, -1)
        shown = (by_class if by_class.shape[-1] == 3 else by_class[..., 0]).float()
        found: NDArray[np.float32] = (1 - shown if self.ink else shown).numpy()
        return found

    def to(self, device: str) -> "TaskBatch":
        """The tasks on another device."""
        return TaskBatch(
            self.support.to(device),
            self.support_labels.to(device),
            self.query.to(device),
            self.query_labels.to(device),
            self.ways,
            self.ink,
        )


def gather_tasks(
    episodes: Episodes, shape: EpisodeShape, images: Images, dtype: torch.dtype = torch.float32
) -> TaskBatch:
    """Read the images of some tasks from a store, and reflect and rotate them.

    Raises:
        FanfoldError: A chunk of the store is damaged, or its images can't be rotated.
    """
    check_rotations(shape, images.size)
    by_image = _by_image(episodes)
    support, query = (
        _read([part[..., places] for part in by_image], images, dtype)
        for places in (slice(shape.shots), slice(shape.shots, None))
    )
    return replace(_labelled(support, query), ink=images.handwriting)


def gather_distinct(
    episodes: Episodes, images: Images, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, NDArray[np.int64]]:
    """Read the distinct images of some tasks from a store, each once.

    Returns:
        The images, float `[n, channels, height, width]`; and int64 `[tasks, ways, shots + queries]`, the tasks' indices
        into them.

    Raises:
        FanfoldError: A chunk of the store is damaged.
    """
    by_image = _by_image(episodes)
    distinct, indices = np.unique(np.stack([part.ravel() for part in by_image]), axis=1, return_inverse=True)
    return _read(list(distinct), images, dtype), indices.reshape(by_image[0].shape)


def as_tasks(parts: Tensor, shape: EpisodeShape) -> TaskBatch:
    """Tasks of images or embeddings `[tasks, ways, shots + queries, …]`."""
    return _labelled(parts[:, :, : shape.shots], parts[:, :, shape.shots :])


def _labelled(support: Tensor, query: Tensor) -> TaskBatch:
    """Tasks of images by class, `[tasks, ways, shots, …]` and `[tasks, ways, queries, …]`."""
    ways = support.shape[1]
    label = torch.arange(ways, device=support.device)
    return TaskBatch(
        support=support.flatten(1, 2),
        support_labels=label.repeat_interleave(support.shape[2]),
        query=query.flatten(1, 2),
        query_labels=label.repeat_interleave(query.shape[2]),
        ways=ways,
    )


def _by_image(episodes: Episodes) -> list[NDArray[np.int64]]:
    """Class, index in it, and orientation of every image, `[tasks, ways, shots + queries]` each."""
    by_class = (episodes.classes, orientations(episodes))
    classes, of_each = (np.broadcast_to(part[..., None], episodes.pictures.shape) for part in by_class)
    return [classes, episodes.pictures, of_each]


def _read(by_image: Sequence[NDArray[np.int64]], images: Images, dtype: torch.dtype) -> Tensor:
    """Images from 0 to 1, `[…, channels, height, width]`, from their classes, indices and orientations, `[…]` each.

    Embeddings `[…, d]`, which no picture is turned for, are taken as they are.
    """
    classes, pictures, of_each = by_image
    pixels, numbers = images.rows(classes, pictures)
    if pixels.dtype != np.uint8:
        return torch.from_numpy(pixels[numbers]).to(dtype)
    computed = np.float64 if dtype == torch.float64 else np.float32  # shorter types are rounded from it, as by PyTorch
    return torch.from_numpy(oriented(pixels, numbers, of_each, computed)).to(dtype)

"""Tasks as tensors of images and labels."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.data.images import Images
from fanfold.tasks.episodes import Episodes, EpisodeShape, check_rotations


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
    classes, pictures, rotations, reflections = _by_image(episodes)
    tasks = as_tasks(_read(classes, pictures, rotations, reflections, images), shape)
    support, query = _scaled(tasks.support, dtype), _scaled(tasks.query, dtype)
    return replace(tasks, support=support, query=query, ink=images.handwriting)


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
    classes, pictures, rotations, reflections = distinct
    found = _read(classes, pictures, rotations, reflections.astype(bool), images)
    return _scaled(found, dtype), indices.reshape(by_image[0].shape)


def as_tasks(parts: Tensor, shape: EpisodeShape) -> TaskBatch:
    """Tasks of images or embeddings `[tasks, ways, shots + queries, …]`."""
    ways, images = parts.shape[1:3]
    label = torch.arange(ways, device=parts.device)
    return TaskBatch(
        support=parts[:, :, : shape.shots].flatten(1, 2),
        support_labels=label.repeat_interleave(shape.shots),
        query=parts[:, :, shape.shots :].flatten(1, 2),
        query_labels=label.repeat_interleave(images - shape.shots),
        ways=ways,
    )


def _by_image(episodes: Episodes) -> list[NDArray[Any]]:
    """Class, index in it, rotation and reflection of every image, `[tasks, ways, shots + queries]` each."""
    by_class = (episodes.classes, episodes.rotations, episodes.reflections)
    classes, rotations, reflections = (np.broadcast_to(part[..., None], episodes.pictures.shape) for part in by_class)
    return [classes, episodes.pictures, rotations, reflections]


def _read(
    classes: NDArray[np.int64],
    pictures: NDArray[np.int64],
    rotations: NDArray[np.int64],
    reflections: NDArray[np.bool_],
    images: Images,
) -> Tensor:
    """Images, uint8 `[…, channels, height, width]`, from their classes, indices, rotations and reflections `[…]`."""
    pixels = images.gather(classes, pictures)
    pixels[reflections] = pixels[reflections][..., ::-1]
    for rotation in (1, 2, 3):
        rotated = rotations == rotation
        if rotated.any():
            pixels[rotated] = np.rot90(pixels[rotated], rotation, axes=(-2, -1))
    return torch.from_numpy(pixels)


def _scaled(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels of 8 bits as floats, 0 to 1; one pass over them, as memory is the limit."""
    return torch.div(pixels, 255) if dtype == torch.float32 == torch.get_default_dtype() else pixels.to(dtype).div_(255)

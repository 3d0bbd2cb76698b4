"""A store's images resident on a device, where tasks are put together of them.

A task comes to the device as one number an image. There, images are gathered, mirrored, turned and scaled by a few
operations that wait for nothing on the host, so that a CUDA graph can capture them, and that give the bits of
`tasks.batch.gather_tasks`.

An image's **orientation** is one of eight, as a square has symmetries: its quarter turns, 0 to 3, and 4 more where it
is mirrored before them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.data.images import Images, WholeImages
from fanfold.tasks.batch import TaskBatch, as_tasks
from fanfold.tasks.episodes import Episodes, EpisodeShape, check_rotations

_BITS = 3  # of a code, that say the orientation
ORIENTATIONS = 1 << _BITS
_OF_FREE_MEMORY = 4  # images may take one part in so many of what a device has free


@dataclass(frozen=True)
class Resident:
    """The images of a store on a device.

    Args:
        pixels: uint8 `[classes · drawings, height · width]`, ink 255 on 0. Classes that have fewer drawings than
            others are filled up with blank ones.
        sources: int64 `[8, height · width]`, for each orientation, which of the stored pixels comes to lie at each
            place.
        full: A scalar of 255, in the type that tasks' images are to have.
        size: Height and width of the images, in pixels.
        drawings: How many drawings a class has here, the blank ones too.
    """

    pixels: Tensor
    sources: Tensor
    full: Tensor
    size: tuple[int, int]
    drawings: int

    def tasks(self, codes: Tensor, shape: EpisodeShape) -> TaskBatch:
        """Put tasks together of their images.

        Args:
            codes: int32 `[tasks, ways, shots + queries]` on the device, see `codes`.
            shape: What a task is made of.

        Raises:
            FanfoldError: The images can't be turned.
        """
        check_rotations(shape, self.size)
        code = codes.flatten()
        upright = self.pixels.index_select(0, code >> _BITS)
        pixels = upright.gather(1, self.sources.index_select(0, code & ORIENTATIONS - 1))
        # By a scalar on the device: by one of the host's, CUDA multiplies with the reciprocal, which rounds otherwise.
        ink = pixels / self.full
        return as_tasks(ink.view(*codes.shape, 1, *self.size), shape)


def reside(
    images: Images,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    memory_limit: int | None = None,
) -> Resident | None:
    """Copy a store's images to a device, where they lie whole in memory and fit there too.

    Args:
        images: The images.
        device: Where to.
        dtype: The type that tasks' images are to have.
        memory_limit: Bytes to spend on images there; by default a quarter of what a GPU has free.

    Returns:
        None where they don't: tasks are then to be gathered on the host.
    """
    if not isinstance(images, WholeImages):
        return None
    device = torch.device(device)
    if memory_limit is None and device.type == "cuda":
        memory_limit = torch.cuda.mem_get_info(device)[0] // _OF_FREE_MEMORY
    if memory_limit is not None and images.pixels.nbytes > memory_limit:
        return None
    drawings = images.pixels.shape[1]
    return Resident(
        pixels=torch.tensor(images.pixels, device=device).flatten(0, 1).flatten(1),
        sources=torch.tensor(_sources(images.size), device=device),
        full=torch.tensor(255, dtype=dtype, device=device),
        size=images.size,
        drawings=drawings,
    )


def codes(episodes: Episodes, drawings: int) -> NDArray[np.int32]:
    """Tasks as they are sent to a device: (class · drawings + drawing) · 8 + orientation of every image.

    Args:
        episodes: The tasks.
        drawings: How many drawings a class has there, see `Resident`.

    Returns:
        int32 `[tasks, ways, shots + queries]`.
    """
    orientation = episodes.rotations + 4 * episodes.reflections
    first = episodes.classes * (drawings << _BITS) + orientation
    tasks, ways, images = episodes.drawings.shape
    found = np.empty((tasks, ways, images), np.int32)
    # Image by image, along the tasks and ways: the last axis is too short to go along.
    for image in range(images):
        found[..., image] = first + (episodes.drawings[..., image] << _BITS)
    return found


def _sources(size: tuple[int, int]) -> NDArray[np.int64]:
    """Which pixel comes to lie at each place, `[8, height · width]`; of odd turns only where height is width."""
    places = np.arange(size[0] * size[1]).reshape(size)
    return np.stack([np.rot90(each, turns).ravel() for each in (places, places[:, ::-1]) for turns in range(4)])

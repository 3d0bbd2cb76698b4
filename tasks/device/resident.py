"""Keep a store's images on a device, and gather tasks from them there.

A task is sent to the device as one integer per image. The device gathers, reflects, rotates and scales the images by a
few operations that read nothing back, so that a CUDA graph can capture them. The result has the bits of
`tasks.batch.gather_tasks`. For orientations, see `tasks.pixels`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.data.images import Images, WholeImages
from fanfold.tasks.batch import TaskBatch, as_tasks
from fanfold.tasks.derivatives import backends
from fanfold.tasks.episodes import Episodes, EpisodeShape, check_rotations
from fanfold.tasks.pixels import ORIENTATIONS, orientations, sources

_BITS = 3  # low bits of a code that hold the orientation
_MOST_PICTURES = 2**31 >> _BITS
_FREE_MEMORY_SHARE = 4  # images may take a quarter of a device's free memory


@dataclass(frozen=True)
class Resident:
    """The images of a store on a device."""

    pixels: Tensor  # uint8 `[pictures, channels, height · width]`, class after class
    sources: Tensor  # int64 `[8, height · width]`, the index of the stored pixel at each place, for each orientation
    full: Tensor  # the scalar 255, in the type of the tasks' images
    size: tuple[int, int]  # height and width of the images, in pixels
    first: NDArray[np.int64]  # each class's first picture, on the host
    ink: bool  # see `TaskBatch`

    def tasks(self, codes: Tensor, shape: EpisodeShape) -> TaskBatch:
        """The tasks with codes of `encode`, which are on the device. Raises FanfoldError if images can't be rotated."""
        check_rotations(shape, self.size)
        if self.full.dtype == torch.float32 and backends.triton_runs(self.pixels.device):
            from fanfold.tasks.device.pictures import gathered  # only here: elsewhere there may be no Triton

            tasks = gathered(self.pixels, self.sources, codes, shape.shots, self.size, _BITS)
            return replace(tasks, ink=self.ink)
        code = codes.flatten()
        upright = self.pixels.index_select(0, code >> _BITS)
        sources = self.sources.index_select(0, code & ORIENTATIONS - 1).unsqueeze(1).expand(upright.shape)
        pixels = upright.gather(2, sources)
        # With a divisor on the host, CUDA would multiply by its reciprocal, which rounds differently.
        scaled = pixels / self.full
        tasks = as_tasks(scaled.view(*codes.shape, -1, *self.size), shape)
        return replace(tasks, ink=self.ink)


def make_resident(
    images: Images,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    memory_limit: int | None = None,
) -> Resident | None:
    """Copy a store's images to a device, if the host holds all of them in memory and they fit on the device.

    They may take `memory_limit` bytes there, by default a quarter of a GPU's free memory. Where they do not fit, the
    result is None, and the host must gather the tasks.
    """
    if not isinstance(images, WholeImages):
        return None
    device = torch.device(device)
    if memory_limit is None and device.type == "cuda":
        memory_limit = torch.cuda.mem_get_info(device)[0] // _FREE_MEMORY_SHARE
    if memory_limit is not None and images.pixels.nbytes > memory_limit:
        return None
    if len(images.pixels) > _MOST_PICTURES:
        return None
    return Resident(
        pixels=torch.tensor(images.pixels, device=device).flatten(2),
        sources=torch.tensor(sources(images.size).astype(np.int64), device=device),
        full=torch.tensor(255, dtype=dtype, device=device),
        size=images.size,
        first=images.first,
        ink=images.handwriting,
    )


def encode(episodes: Episodes, first: NDArray[np.int64]) -> NDArray[np.int32]:
    """The codes of some tasks: (first picture of the class + index in the class) · 8 + orientation for every image.

    The result is int32 `[tasks, ways, shots + queries]`; for `first`, see `Resident`.
    """
    begins = (first[episodes.classes] << _BITS) + orientations(episodes)
    tasks, ways, images = episodes.pictures.shape
    found = np.empty((tasks, ways, images), np.int32)
    # One image at a time, vectorized over tasks and ways: the last axis is too short for that.
    for image in range(images):
        found[..., image] = begins + (episodes.pictures[..., image] << _BITS)
    return found

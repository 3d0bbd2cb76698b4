"""Resizing by exact area averaging."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_LARGEST = 2**40
"""Pixels of a padded image at most: twice their sum fits 64 bits."""


def area_average(
    images: NDArray[np.uint8], size: tuple[int, int], *, background: int | None = None
) -> NDArray[np.uint8]:
    """Resize 8-bit images `[…, height, width]` so that every new pixel is the mean of the area it covers.

    With a background, the shorter side is padded with it to a square before, evenly at both ends. The square itself is
    never laid out.

    A pixel on the boundary of two new ones counts for each by its overlap. The sums are of integers, so the result is
    the same on every machine; halves round up. Convert 1-bit images first. The new height and width may be larger than
    the old.

    Raises:
        ValueError: An image has no pixels, or too many to be summed exactly.
    """
    height, width = images.shape[-2:]
    if min(height, width, *size) < 1:
        raise ValueError(f"can't resize images of {height} x {width} pixels to {size[0]} x {size[1]}")
    side = max(height, width)
    padded = (height, width) if background is None else (side, side)
    area = padded[0] * padded[1]  # of a new pixel, where an old one measures size[0] x size[1]
    if area > _LARGEST:
        raise ValueError(f"images of {height} x {width} pixels are too large to average")
    behind = background or 0
    top, left = (padded[0] - height) // 2, (padded[1] - width) // 2
    dtype = np.dtype(np.int32 if 512 * area < 2**31 else np.int64)
    ink = np.ascontiguousarray(np.moveaxis(images, -2, 0)).astype(dtype)  # `[height, …, width]`
    if behind:
        ink -= dtype.type(behind)
    ink = _sums(ink, padded[0], size[0], top)
    sums = _sums(np.moveaxis(ink, -1, 0), padded[1], size[1], left)  # `[new width, new height, …]`
    sums = np.moveaxis(sums, (1, 0), (-2, -1)) + behind * area
    averages: NDArray[np.uint8] = ((2 * sums + area) // (2 * area)).astype(np.uint8)
    return averages


def _sums(lines: NDArray[np.signedinteger], old: int, new: int, start: int) -> NDArray[np.signedinteger]:
    """The sums over each of `new` equal parts of `old` pixels, of which `lines` `[n, …]` are those from `start` on.

    A sparse product: by BLAS's dense ones, threads wait for each other where several images are resized at a time.
    """
    overlaps = _overlaps(old, new, lines.dtype)
    if len(lines) < old:
        overlaps = overlaps[:, start : start + len(lines)]
    found: NDArray[np.signedinteger] = overlaps @ lines.reshape(len(lines), -1)
    return found.reshape(new, *lines.shape[1:])


@lru_cache(maxsize=8)
def _overlaps(old: int, new: int, dtype: np.dtype[np.signedinteger]) -> csr_array:
    """The overlap of each old pixel with each new one, `[new, old]`, on a line of `old * new` units."""
    ends = np.unique(np.concatenate([np.arange(old + 1) * new, np.arange(new + 1) * old]))
    starts = ends[:-1]
    return csr_array((np.diff(ends).astype(dtype), (starts // old, starts // new)), shape=(new, old))

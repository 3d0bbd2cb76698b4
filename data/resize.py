"""Resizing by exact area averaging."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FILTER = "area"
"""The filter's name in a store's attributes."""

_FLOAT32_INTEGERS = 2**24
_FLOAT64_INTEGERS = 2**53


def area_average(
    images: NDArray[np.uint8], size: tuple[int, int], *, background: int | None = None
) -> NDArray[np.uint8]:
    """Resize 8-bit images `[…, height, width]` so that every new pixel is the mean of the area it covers.

    With a background, the shorter side is padded with it to a square before, evenly at both ends. The square itself is
    never laid out.

    A pixel on the boundary of two new ones counts for each by its overlap. The sums are integers that floating point
    holds exactly, so the result is the same on every machine; halves round up. Convert 1-bit images first. The new
    height and width may be larger than the old.

    Raises:
        ValueError: An image has no pixels, or too many to be summed exactly.
    """
    height, width = images.shape[-2:]
    if min(height, width, *size) < 1:
        raise ValueError(f"can't resize images of {height} x {width} pixels to {size[0]} x {size[1]}")
    side = max(height, width)
    padded = (height, width) if background is None else (side, side)
    area = padded[0] * padded[1]  # of a new pixel, where an old one measures size[0] x size[1]
    if area * 255 >= _FLOAT64_INTEGERS:
        raise ValueError(f"images of {height} x {width} pixels are too large to average")
    dtype = np.dtype(np.float32 if area * 255 < _FLOAT32_INTEGERS else np.float64)
    top, left = (padded[0] - height) // 2, (padded[1] - width) // 2
    rows = _overlaps(padded[0], size[0], dtype)[:, top : top + height]
    columns = _overlaps(padded[1], size[1], dtype)[:, left : left + width]
    behind = background or 0
    sums = (rows @ (images.astype(dtype) - behind) @ columns.T).astype(np.int64) + behind * area
    averages: NDArray[np.uint8] = ((2 * sums + area) // (2 * area)).astype(np.uint8)
    return averages


@lru_cache(maxsize=8)
def _overlaps(old: int, new: int, dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
    """The overlap of each old pixel with each new one, `[new, old]`, on a line of `old * new` units."""
    left_old, left_new = np.arange(old) * new, np.arange(new)[:, None] * old
    overlap = np.minimum(left_old + new, left_new + old) - np.maximum(left_old, left_new)
    weights: NDArray[np.floating] = np.maximum(overlap, 0).astype(dtype)
    return weights

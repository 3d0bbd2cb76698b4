"""Stored pixels as floats from 0 to 1, reflected and rotated, in one pass over memory.

A picture's **orientation** is one of the eight symmetries of a square: its rotation in units of 90°, 0 to 3, plus 4 if
it is reflected before.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fanfold.tasks.derivatives.numba_ops.compiled import compiled
from fanfold.tasks.episodes import Episodes

ORIENTATIONS = 8


def orientations(episodes: Episodes) -> NDArray[np.int64]:
    """The orientation of each class of some tasks, `[tasks, ways]`."""
    return episodes.rotations + 4 * episodes.reflections


def oriented(
    pixels: NDArray[np.uint8], numbers: NDArray[np.int64], orientations: NDArray[np.int64], dtype: DTypeLike
) -> NDArray[np.floating]:
    """Pictures by their numbers and orientations, `[…]` both, from 0 to 1: `[…, channels, height, width]`.

    The quotients are those of a division by 255 in the type asked for, float32 or float64.

    Args:
        pixels: `[pictures, channels, height, width]`, contiguous; they may be mapped from a file.
        numbers: Places in `pixels`, which are not checked.
        orientations: Of each picture; odd ones are for squares alone.
        dtype: The type of the result.
    """
    channels, height, width = pixels.shape[1:]
    found = np.empty((numbers.size, channels, height * width), dtype)
    turned = orientations.any()
    _copy(
        np.asarray(pixels).reshape(len(pixels), channels, -1),
        numbers.ravel(),
        orientations.ravel(),
        sources((height, width)) if turned else np.empty((ORIENTATIONS, 0), np.uint32),
        found,
    )
    return found.reshape(*numbers.shape, channels, height, width)


@lru_cache(maxsize=2)
def sources(size: tuple[int, int]) -> NDArray[np.uint32]:
    """The place of the stored pixel that each pixel of a picture shows, by orientation: `[8, height · width]`."""
    places = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size)
    return np.stack([np.rot90(each, rotation).ravel() for each in (places, places[:, ::-1]) for rotation in range(4)])


@compiled
def _copy(
    pixels: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    orientations: NDArray[np.int64],
    sources: NDArray[np.uint32],
    found: NDArray[np.floating],
) -> None:
    as_float, turned = found.dtype.type, np.empty(pixels.shape[2], np.uint8)
    for place in range(len(numbers)):
        source = sources[orientations[place]]
        for channel in range(pixels.shape[1]):
            stored, shown = pixels[numbers[place], channel], found[place, channel]
            if orientations[place]:
                for pixel in range(len(turned)):  # by itself: a loop of scattered reads has no quick division
                    turned[pixel] = stored[source[pixel]]
                for pixel in range(len(shown)):
                    shown[pixel] = as_float(turned[pixel]) / as_float(255)
            else:
                for pixel in range(len(shown)):
                    shown[pixel] = as_float(stored[pixel]) / as_float(255)

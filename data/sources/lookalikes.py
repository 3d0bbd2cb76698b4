"""Which letters look alike: upright, slanted a little, or rotated by quarters."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from fanfold.data.sources.strokes import Strokes

_FRAME = 47
_SPAN = 40
"""A letter's longer side, in pixels of the frame for comparisons."""

_STRETCH = 3
"""Largest stretch of the shorter side towards the longer one: handwriting may be narrow or wide."""

_SLANTS = (0, 1)
"""Slants for comparisons, in fifths of the height. Slanting one letter left is slanting the other right."""

_REACH = 3
"""Largest distance, in the frame's pixels, of a point to another letter's strokes that it agrees with."""

_STRAY_PERCENT = 11
"""Letters look alike if at most this share of either's points disagrees with the other.

Reach and share were set by hand, at pairs near the limit. A letter looks like a less hooked form of it, and a round
form like a pointed one; letters that differ in a stroke stay apart.
"""

_MARK = 0.55
"""A part of a letter up to this share of its length is a mark: a dot, a tick, a small prefix."""


def views(strokes: Strokes) -> NDArray[np.bool_]:
    """A letter's views for comparisons: its strokes without marks, of a common size, upright and slanted.

    All numbers are integers, so the comparison has the same result on every machine.

    Returns:
        `[2, 47, 47]`, true at the strokes' points; the upright view first.
    """
    rows, columns = _without_marks(strokes).astype(np.int64).T
    return np.stack([_framed(np.stack([5 * rows, 5 * columns + slant * rows], axis=1)) for slant in _SLANTS])


def alike(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two letters look alike by their `views`, in any slant, without a rotation."""
    agree = _agree(one, _within_reach(one), other, _within_reach(other))
    return bool(agree[0].any() or agree[:, 0].any())


def distinct(letters: Sequence[NDArray[np.bool_]]) -> list[int]:
    """The numbers of the letters whose `views` look like no earlier distinct one's, slanted or rotated by quarters."""
    images = np.stack(letters)
    within = _within_reach(images)
    like = np.zeros((len(letters), len(letters)), dtype=bool)
    for view in range(len(_SLANTS)):
        for quarters in range(4):
            ink, reach = (np.rot90(kind[:, view], quarters, axes=(1, 2)) for kind in (images, within))
            like |= _agree(ink, reach, images[:, 0], within[:, 0])
    like |= like.T

    kept: list[int] = []
    for number in range(len(letters)):
        if not like[number, kept].any():
            kept.append(number)
    return kept


def _without_marks(strokes: Strokes) -> NDArray[np.float64]:
    """A letter's points without those of its marks; all points if it consists of marks."""
    parts = strokes.parts()
    sizes = np.array([np.ptp(strokes.points[parts == part], axis=0).max() for part in range(parts.max() + 1)])
    large = sizes > _MARK * strokes.size
    return strokes.points[large[parts]] if large.any() else strokes.points


def _framed(points: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Points scaled to the frame and centred in it, `[47, 47]`."""
    low = points.min(axis=0)
    extent = np.maximum(points.max(axis=0) - low, 1)
    span = np.minimum(_SPAN, _STRETCH * _SPAN * extent // extent.max())
    rows, columns = ((2 * (points - low) * span + extent) // (2 * extent) + (_FRAME - 1 - span) // 2).T
    image = np.zeros((_FRAME, _FRAME), dtype=bool)
    image[rows, columns] = True
    return image


def _within_reach(images: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels near the ink of images: `[…, 47, 47]`, as the images."""
    rows, columns = np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1]
    disc = rows**2 + columns**2 <= _REACH**2
    near: NDArray[np.bool_] = binary_dilation(images, disc.reshape((1,) * (images.ndim - 2) + disc.shape))
    return near


def _agree(
    ink: NDArray[np.bool_], within: NDArray[np.bool_], other_ink: NDArray[np.bool_], other_within: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether each image looks like each other one: `[images, others]`."""
    return _near(ink, other_within) & _near(other_ink, within).T


def _near(ink: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether enough points of each image are within reach of each other one's: `[images, others]`."""
    # float32 holds sums of fewer than 2**24 ones exactly, in any order.
    points = ink.reshape(len(ink), -1).astype(np.float32)
    stray = points @ (~within).reshape(len(within), -1).astype(np.float32).T
    near: NDArray[np.bool_] = 100 * stray <= _STRAY_PERCENT * points.sum(axis=1, keepdims=True)
    return near

"""Which letters look alike, upright, slanted a little, or turned by quarters."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from fanfold.data.sources.strokes import Strokes

_FRAME = 47
_SPAN = 40
"""A letter's longer side, in pixels of the frame in which letters are compared."""

_STRETCH = 3
"""The shorter side is stretched towards the longer one, at most so many times: hands are narrow and wide."""

_SLANTS = (0, 1)
"""Slants in which letters are compared, in fifths of their height. (One to the left is the other's to the right.)"""

_REACH = 3
"""How near, in the frame's pixels, a point of one letter must come to another letter's strokes to agree with them."""

_STRAY_PERCENT = 11
"""Letters look alike if no more than this share of either's points disagrees with the other.

Reach and share were set by looking at the pairs on either side of them. What goes for looking alike is a hooked
letter and its less hooked kin, or a round and a pointed one; what stays apart differs in a stroke.
"""

_MARK = 0.55
"""A part of a letter is a mark (a dot, a tick, a small prefix) up to this share of the letter's length."""


def views(strokes: Strokes) -> NDArray[np.bool_]:
    """A letter as it is compared: its strokes without dots and ticks, of a common size, upright and slanted.

    Whole numbers throughout, so that the comparison comes out the same on every machine.

    Args:
        strokes: as traced, one point a pixel.

    Returns:
        ``[2, 47, 47]``, true at the strokes' points; the upright view first.
    """
    rows, columns = _without_marks(strokes).astype(np.int64).T
    return np.stack([_framed(np.stack([5 * rows, 5 * columns + slant * rows], axis=1)) for slant in _SLANTS])


def alike(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two letters look alike without being turned, but for their slant.

    Args:
        one: a letter's ``views``.
        other: another's.
    """
    agree = _agree(one, _within_reach(one), other, _within_reach(other))
    return bool(agree[0].any() or agree[:, 0].any())


def distinct(letters: Sequence[NDArray[np.bool_]]) -> list[int]:
    """The letters that look like no earlier one that stays, whatever its slant and quarter turn.

    Args:
        letters: every letter's ``views``, those that go before others first.

    Returns:
        The numbers of the letters that stay, in their order.
    """
    pictures = np.stack(letters)
    within = _within_reach(pictures)
    like = np.zeros((len(letters), len(letters)), dtype=bool)
    for view in range(len(_SLANTS)):
        for quarters in range(4):
            ink, reach = (np.rot90(kind[:, view], quarters, axes=(1, 2)) for kind in (pictures, within))
            like |= _agree(ink, reach, pictures[:, 0], within[:, 0])
    like |= like.T

    kept: list[int] = []
    for number in range(len(letters)):
        if not like[number, kept].any():
            kept.append(number)
    return kept


def _without_marks(strokes: Strokes) -> NDArray[np.float64]:
    """A letter's points less those of its marks; all of them, if it is made of such marks."""
    parts = strokes.parts()
    sizes = np.array([np.ptp(strokes.points[parts == part], axis=0).max() for part in range(parts.max() + 1)])
    large = sizes > _MARK * strokes.size
    return strokes.points[large[parts]] if large.any() else strokes.points


def _framed(points: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Points brought to the frame's size and middle, ``[47, 47]``."""
    low = points.min(axis=0)
    extent = np.maximum(points.max(axis=0) - low, 1)
    span = np.minimum(_SPAN, _STRETCH * _SPAN * extent // extent.max())
    rows, columns = ((2 * (points - low) * span + extent) // (2 * extent) + (_FRAME - 1 - span) // 2).T
    picture = np.zeros((_FRAME, _FRAME), dtype=bool)
    picture[rows, columns] = True
    return picture


def _within_reach(pictures: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels near a picture's ink: ``[..., 47, 47]``, as the pictures are."""
    rows, columns = np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1]
    disc = rows**2 + columns**2 <= _REACH**2
    near: NDArray[np.bool_] = binary_dilation(pictures, disc.reshape((1,) * (pictures.ndim - 2) + disc.shape))
    return near


def _agree(
    ink: NDArray[np.bool_], within: NDArray[np.bool_], other_ink: NDArray[np.bool_], other_within: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether each picture looks like each other one as they stand: ``[pictures, others]``."""
    return _near(ink, other_within) & _near(other_ink, within).T


def _near(ink: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether enough of each picture's points are within reach of each other one's: ``[pictures, others]``."""
    # Sums of fewer than 2**24 ones: float32 holds them exactly, in whatever order they are added.
    points = ink.reshape(len(ink), -1).astype(np.float32)
    stray = points @ (~within).reshape(len(within), -1).astype(np.float32).T
    near: NDArray[np.bool_] = 100 * stray <= _STRAY_PERCENT * points.sum(axis=1, keepdims=True)
    return near

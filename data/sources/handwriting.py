"""Letters drawn as if by hand, with the pen and on the paper of Omniglot.

Omniglot's drawings are binary, 105 x 105 pixels, drawn with one round pen; its characters fill about two thirds of the
paper. The spreads below were set so that these drawings match Omniglot's in ink, thickness of strokes, size, place, and
differences between the drawings of one character.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fanfold.data.sources.strokes import Strokes, smooth

PAPER = 105
"""Height and width of the paper, in pixels. All lengths below are in pixels of the paper."""

_PEN_RADIUS = 2.55
_PEN_RADIUS_SPREAD = 0.12

_LENGTH = 69.0
"""Typical length of a drawing's longer side, the pen's width included."""
_LENGTH_LIMITS = (28.0, 102.0)
_CHARACTER_SPREAD = 0.13
"""Standard deviation of the logarithm of the characters' lengths."""
_DRAWING_SPREAD = 0.12
"""The same for the drawings of one character."""

_CENTRE = 50.5
_CENTRE_SPREAD = 5.0

_ROTATION_SPREAD = np.deg2rad(4.0)
_SHEAR_SPREAD = 0.08
_ASPECT_SPREAD = 0.09

_BEND = (4, 0.6, 0.030)
"""Bending of a whole letter: number of waves, their frequency a letter, their amplitude in letters."""
_TREMOR = (4, 1.6, 0.004)
"""The same on a smaller scale: the unsteadiness of strokes."""

_SPACING = 0.7
"""Largest distance of points along a stroke, in pixels of a drawing of typical length."""


def outline(strokes: Strokes) -> NDArray[np.float64]:
    """The pen's path of a letter of more than one point: points close together along its strokes, `[points, 2]`.

    The box around the points, by row and column, is centred on 0, and its longer side is 1.
    """
    strokes = smooth(strokes)
    points = (strokes.points - (strokes.points.min(axis=0) + strokes.points.max(axis=0)) / 2) / strokes.size
    starts, ends = points[strokes.links[:, 0]], points[strokes.links[:, 1]]
    longest = np.hypot(*(ends - starts).T).max(initial=0.0)
    steps = max(int(np.ceil(longest * _LENGTH / _SPACING)), 1)
    along = np.arange(1, steps)[:, None, None] / steps
    return np.concatenate([points, (starts + along * (ends - starts)).reshape(-1, 2)])


def write(outlines: Sequence[NDArray[np.float64]], drawings: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw one character several times, each time as if by another hand, which draws one of the character's outlines.

    Returns:
        `[drawings, 105, 105]`, true where there is ink.
    """
    length = _LENGTH * np.exp(rng.normal(0, _CHARACTER_SPREAD))
    return np.stack([_draw(outlines[int(rng.integers(len(outlines)))], length, rng) for _ in range(drawings)])


def _draw(outline: NDArray[np.float64], length: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One drawing of an outline, `[105, 105]`."""
    points = _bend(_slant(outline, rng), *_BEND, rng)
    points = _bend(points, *_TREMOR, rng)
    radius = rng.normal(_PEN_RADIUS, _PEN_RADIUS_SPREAD)
    length = np.clip(length * np.exp(rng.normal(0, _DRAWING_SPREAD)), *_LENGTH_LIMITS) - 2 * radius

    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) * (length / (high - low).max())
    half = points.max(axis=0) + radius + 1
    centre = np.clip(rng.normal(_CENTRE, _CENTRE_SPREAD, 2), half, np.maximum(PAPER - 1 - half, half))
    return _ink(points + centre, radius)


def _slant(points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The points sheared, stretched and rotated a little."""
    angle, shear = rng.normal(0, _ROTATION_SPREAD), rng.normal(0, _SHEAR_SPREAD)
    stretch = np.exp(rng.normal(0, _ASPECT_SPREAD) / 2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slanted: NDArray[np.float64] = points @ (rotation @ [[1, 0], [shear, 1]] @ np.diag([stretch, 1 / stretch])).T
    return slanted


def _bend(
    points: NDArray[np.float64], waves: int, frequency: float, amplitude: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The points displaced by a few waves of random directions: a smooth elastic distortion."""
    directions = rng.normal(0, frequency, (2, waves))
    phases = rng.uniform(0, 2 * np.pi, waves)
    displacements = rng.normal(0, amplitude, (waves, 2))
    bent: NDArray[np.float64] = points + np.sin(2 * np.pi * points @ directions + phases) @ displacements
    return bent


def _ink(points: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """The ink of a round pen that touched each of the points, `[105, 105]`."""
    reach = int(np.ceil(radius))
    around = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    pixels = np.rint(points).astype(np.intp)[:, None] + around
    touched = pixels[((pixels - points[:, None]) ** 2).sum(axis=-1) <= radius**2]
    paper = np.zeros((PAPER, PAPER), dtype=bool)
    paper[*touched.T] = True
    return paper

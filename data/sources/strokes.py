"""The strokes of a printed letter: the centre lines of its ink, as a graph of points."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from skimage.morphology import skeletonize

_SPUR = 2.0
"""A branch up to this many times the ink's half-width at its foot is a spur, not a stroke."""

_SMOOTHING_STEPS = 6


@dataclass(frozen=True)
class Strokes:
    """Points along a letter's strokes, and the links between neighbours."""

    points: NDArray[np.float64]  # row and column in pixels, `[points, 2]`
    links: NDArray[np.intp]  # pairs of neighbouring points, `[links, 2]`

    @property
    def size(self) -> float:
        """The longer side of the box around the points, in pixels."""
        return float(np.ptp(self.points, axis=0).max())

    def neighbours(self) -> csr_array:
        """The neighbours: a symmetric `[points, points]` matrix of ones."""
        rows, columns = np.concatenate([self.links, self.links[:, ::-1]]).T
        return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(self.points),) * 2)

    def parts(self) -> NDArray[np.intp]:
        """The number of each point's connected part, `[points]`."""
        labels: NDArray[np.intp] = connected_components(self.neighbours(), directed=False)[1]
        return labels


def trace(ink: NDArray[np.bool_]) -> Strokes:
    """The centre lines of a letter's ink, `[height, width]` with one pixel at least, by thinning; one point a pixel.

    Thinning forks a stroke towards the corners of its ends, most in bold faces. These spurs are cut.
    """
    ink = np.pad(ink, 1)
    rows, columns = np.nonzero(skeletonize(ink))
    number = np.full(ink.shape, -1)
    number[rows, columns] = np.arange(len(rows))

    links = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = number[rows + down, columns + right]
        linked = other >= 0
        if down and right:  # no diagonal beside two straight links: they would form a triangle
            linked &= (number[rows + down, columns] < 0) & (number[rows, columns + right] < 0)
        links.append(np.stack([np.flatnonzero(linked), other[linked]], axis=1))

    strokes = Strokes(np.stack([rows, columns], axis=1).astype(np.float64), np.concatenate(links))
    half_width = distance_transform_edt(ink)[rows, columns]
    return _without(strokes, _spurs(strokes, half_width))


def smooth(strokes: Strokes) -> Strokes:
    """The strokes without the steps between pixels; loose ends stay in place."""
    neighbours = strokes.neighbours()
    degree = neighbours.sum(axis=1)
    inner = degree >= 2
    points = strokes.points.copy()
    for _ in range(_SMOOTHING_STEPS):
        middle = (neighbours @ points)[inner] / degree[inner, None]
        points[inner] = (points[inner] + middle) / 2
    return Strokes(points, strokes.links)


def _spurs(strokes: Strokes, half_width: NDArray[np.float64]) -> NDArray[np.intp]:
    """The points of short branches, from a loose end up to the fork, without the fork."""
    beside = defaultdict(list)
    for one, other in strokes.links.tolist():
        beside[one].append(other)
        beside[other].append(one)

    spurs: list[int] = []
    for end in [point for point, others in beside.items() if len(others) == 1]:
        path, here = [end], beside[end][0]
        while len(beside[here]) == 2:
            one, other = beside[here]
            before, path = path[-1], [*path, here]
            here = other if one == before else one
        if len(beside[here]) > 2 and len(path) <= _SPUR * half_width[here]:
            spurs += path
    return np.array(spurs, dtype=np.intp)


def _without(strokes: Strokes, points: NDArray[np.intp]) -> Strokes:
    """The strokes without some points."""
    kept = np.ones(len(strokes.points), dtype=bool)
    kept[points] = False
    number = np.cumsum(kept) - 1
    links = strokes.links[kept[strokes.links].all(axis=1)]
    return Strokes(strokes.points[kept], number[links])

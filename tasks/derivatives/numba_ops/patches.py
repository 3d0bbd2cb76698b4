"""The patches of the images that a network's first filters see, on a CPU: with their mean and covariance.

Batch norm's mean and variance of the first convolution's outputs follow from the patches' mean and covariance.
Activations within rounding of zero fall on one side of it or the other. After some inner steps, each that falls on the
wrong one moves a gradient by percents: so mean and covariance are summed in float64, which takes no longer than
float32 where a task's patches are one product of matrices.
"""

import numpy as np

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.numba_ops import kernels
from fanfold.tasks.derivatives.numba_ops.kernels import Array


def patches_of(images: Array, geometry: Geometry) -> tuple[Array, Array, Array]:
    """Patches of several tasks' images `[tasks, images, height, width, channels]`.

    Returns:
        The patches `[tasks, images, down, across, pool · pool, K]`, window by window, K = side · side · channels
        numbers a place, and zeros up to a multiple of `kernels.NINE`; and of those at all places, rows and columns
        that no window takes in among them, the mean `[tasks, K]` and the covariance `[tasks, K, K]`.
    """
    side, stride, pad, pool = geometry.side, geometry.stride, geometry.padding, geometry.pool
    padded = np.pad(images, [(0, 0), (0, 0), (pad, pad), (pad, pad), (0, 0)])
    seen = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3))[:, :, ::stride, ::stride]
    seen = seen.transpose(0, 1, 2, 3, 5, 6, 4)  # [tasks, images, height, width, side, side, channels]
    tasks, count, height, width = seen.shape[:4]
    down, across, size = height // pool, width // pool, side * side * images.shape[4]
    parts = seen[:, :, : down * pool, : across * pool].reshape(tasks, count, down, pool, across, pool, size)
    windows = parts.swapaxes(3, 4).reshape(tasks, count, down, across, pool * pool, size)
    whole = (down * pool, across * pool) == (height, width)
    moments = [_moments(of_task.reshape(-1, size)) for of_task in (windows if whole else seen)]
    mean, covariance = (np.stack(parts).astype(images.dtype) for parts in zip(*moments, strict=True))
    return kernels.nines(windows, 5), mean, covariance


def _moments(rows: Array) -> tuple[Array, Array]:
    """Mean `[K]` and covariance `[K, K]` of rows `[n, K]`, in float64."""
    exact = rows.astype(np.float64)
    mean = np.ones(len(exact)) @ exact / len(exact)
    return mean, exact.T @ exact / len(exact) - np.outer(mean, mean)

"""The first block by the compiled functions of `numba_ops.kernels`; see `tasks.derivatives.protocol.First`."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.numba_ops import kernels
from fanfold.tasks.derivatives.numba_ops import patches as gathered
from fanfold.tasks.derivatives.numba_ops.kernels import Array
from fanfold.tasks.derivatives.numba_ops.norms import (
    Backward,
    Forward,
    Tangent,
    as_backward,
    as_forward,
    as_tangent,
    of_channels,
    row,
)
from fanfold.tasks.derivatives.torch_ops.covariance import Sums
from fanfold.tasks.derivatives.torch_ops.covariance import derivative as derivative
from fanfold.tasks.derivatives.torch_ops.covariance import derivative_tangent as derivative_tangent
from fanfold.tasks.derivatives.torch_ops.covariance import moments as moments
from fanfold.tasks.derivatives.torch_ops.covariance import moments_tangent as moments_tangent


class Patches(NamedTuple):
    """Patches by pooling's windows, with their statistics; see `tasks.derivatives.numba_ops.patches`."""

    windows: Array  # `[tasks, images, down, across, pool · pool, K]`
    mean: Tensor  # `[tasks, K]`
    covariance: Tensor  # `[tasks, K, K]`


def patches_of(images: Tensor, geometry: Geometry) -> Patches:
    windows, mean, covariance = gathered.patches_of(images.numpy(), geometry)
    return Patches(windows, torch.from_numpy(mean), torch.from_numpy(covariance))


def forward(
    patches: Patches, matrix: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, eps: float
) -> Forward:
    matrices = _matrices(matrix, patches)
    count = _count(matrices)
    of_x, of_norm = (row(mean, count), row(variance, count)), (row(scale, count), row(shift, count))
    norm = kernels.first_forward(patches.windows, matrices, *of_x, *of_norm, eps)
    return as_forward(norm, scale.shape[1])


def backward(norm: Forward, patches: Patches, d_z: Tensor) -> tuple[Sums, Backward]:
    at_places, arrays = kernels.first_backward(norm.arrays, patches.windows, d_z.numpy())
    back = as_backward(arrays, norm.channels)
    return Sums(_by_matrix(at_places, patches), back.d_scale, back.d_shift), back


def tangent(
    norm: Forward, patches: Patches, matrix_t: Tensor, mean_t: Tensor, shared: Tensor, scale_t: Tensor, shift_t: Tensor
) -> Tangent:
    matrices = _matrices(matrix_t, patches)
    numbers = [row(part, _count(matrices)) for part in (mean_t, shared, scale_t, shift_t)]
    return as_tangent(kernels.first_tangent(norm.arrays, patches.windows, matrices, *numbers))


def backward_tangent(norm: Forward, back: Backward, forth: Tangent, patches: Patches, d_z_t: Tensor) -> Sums:
    at_places_t, d_scale_t, d_shift_t = kernels.first_backward_tangent(
        norm.arrays, back.arrays, forth.arrays, patches.windows, d_z_t.numpy()
    )
    by_channels = of_channels(d_scale_t, norm.channels), of_channels(d_shift_t, norm.channels)
    return Sums(_by_matrix(at_places_t, patches), *by_channels)


def _matrices(matrix: Tensor, patches: Patches) -> Array:
    """Each task's filters `[tasks, K, channels]`, contiguous, with zeros where patches have them."""
    of_task, tasks = matrix.numpy(), len(patches.windows)
    every = of_task if len(of_task) == tasks else np.tile(of_task, (tasks, 1, 1))
    return kernels.nines(np.ascontiguousarray(every), 1)


def _count(matrices: Array) -> int:
    """The number of all tasks' channels."""
    tasks, _, channels = matrices.shape
    return int(tasks * channels)


def _by_matrix(at_places: Array, patches: Patches) -> Tensor:
    found: Tensor = torch.from_numpy(at_places[:, : patches.mean.shape[1]])
    return found

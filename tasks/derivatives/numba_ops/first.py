"""The first block's passes for several tasks at once, by the compiled functions of `numba_ops.kernels`.

The functions are those of `tasks.derivatives.torch_ops.first`, and pictures lie as
`tasks.derivatives.numba_ops.products` has them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.numba_ops import kernels, patches
from fanfold.tasks.derivatives.numba_ops.kernels import Array
from fanfold.tasks.derivatives.numba_ops.norms import (
    Backward,
    Forward,
    Tangent,
    array,
    as_backward,
    as_forward,
    as_tangent,
    of_channels,
    row,
)


class Windows(NamedTuple):
    """Images as the first block takes them, see `tasks.derivatives.numba_ops.patches`.

    Args:
        windows: `[tasks, images, down, across, pool · pool, K]`.
        mean: `[tasks, K]`.
        covariance: `[tasks, K, K]`.
    """

    windows: Array
    mean: Tensor
    covariance: Tensor


def look(images: Tensor, geometry: Geometry) -> Windows:
    """Images `[tasks, images, height, width, channels]` as the first block takes them."""
    windows, mean, covariance = patches.look(images.numpy(), geometry)
    return Windows(windows, torch.from_numpy(mean), torch.from_numpy(covariance))


def forward(
    seen: Windows,
    geometry: Geometry,
    matrix: Tensor,
    mean: Tensor,
    variance: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
) -> Forward:
    """From x = patch · matrix, given its mean and variance `[tasks, channels]`, to z."""
    tasks = len(seen.windows)
    of_x, of_norm = (row(mean, tasks), row(variance, tasks)), (row(scale, tasks), row(shift, tasks))
    norm = kernels.first_forward(seen.windows, _matrices(matrix, tasks), *of_x, *of_norm, eps)
    return as_forward(norm, tasks)


def backward(norm: Forward, seen: Windows, geometry: Geometry, d_z: Tensor) -> tuple[Tensor, Backward]:
    """From d_z to Σ d_q · patch `[tasks, K, channels]`, with the patches at the places that were chosen."""
    at_places, back = kernels.first_backward(norm.arrays, seen.windows, array(d_z))
    return _by_matrix(at_places, seen), as_backward(back, len(seen.windows))


def tangent(
    norm: Forward,
    seen: Windows,
    geometry: Geometry,
    matrix_t: Tensor,
    mean_t: Tensor,
    shared: Tensor,
    scale_t: Tensor,
    shift_t: Tensor,
) -> Tangent:
    """From x_t = patch · matrix_t to z_t."""
    tasks = len(seen.windows)
    numbers = [row(part, tasks) for part in (mean_t, shared, scale_t, shift_t)]
    return as_tangent(kernels.first_tangent(norm.arrays, seen.windows, _matrices(matrix_t, tasks), *numbers), tasks)


def backward_tangent(
    norm: Forward, back: Backward, forth: Tangent, seen: Windows, geometry: Geometry, d_z_t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """From d_z_t to Σ d_q_t · patch `[tasks, K, channels]`, d_scale_t and d_shift_t."""
    at_places_t, *by_channels = kernels.first_backward_tangent(
        norm.arrays, back.arrays, forth.arrays, seen.windows, array(d_z_t)
    )
    d_scale_t, d_shift_t = (of_channels(numbers, len(seen.windows)) for numbers in by_channels)
    return _by_matrix(at_places_t, seen), d_scale_t, d_shift_t


def _matrices(matrix: Tensor, tasks: int) -> Array:
    """Each task's filters, with noughts where patches have them."""
    return kernels.nines(matrix.expand(tasks, -1, -1).contiguous().numpy(), 1)


def _by_matrix(at_places: Array, seen: Windows) -> Tensor:
    found: Tensor = torch.from_numpy(at_places)[:, : seen.mean.shape[1]]
    return found

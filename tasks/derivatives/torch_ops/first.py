"""The first block: convolution of the images, batch norm, ReLU and max-pooling; see `tasks.derivatives.protocol.First`.

The convolution has four times as many outputs as any other, of nine products each. They are computed on the way and
never stored; see `tasks.derivatives.layers.FirstBlock`. Names are those of `tasks.derivatives.torch_ops.norms`;
`tasks.derivatives.triton_ops.first` has the same functions as kernels for a GPU.

Filters are matrices `[tasks, K, channels]`, K = side · side · channels of the images, or `[1, …]` where all
tasks share them.
"""

from typing import NamedTuple

from torch import Tensor

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.torch_ops.covariance import Sums
from fanfold.tasks.derivatives.torch_ops.covariance import derivative as derivative
from fanfold.tasks.derivatives.torch_ops.covariance import derivative_tangent as derivative_tangent
from fanfold.tasks.derivatives.torch_ops.covariance import moments as moments
from fanfold.tasks.derivatives.torch_ops.covariance import moments_tangent as moments_tangent
from fanfold.tasks.derivatives.torch_ops.norms import (
    Backward,
    Forward,
    Tangent,
    at_places,
    gated,
    gated_tangent,
    largest,
    normalized,
    normalized_tangent,
    to_places,
    windows,
)
from fanfold.tasks.derivatives.torch_ops.products import unfold


class Patches(NamedTuple):
    """Images as the first block takes them."""

    images: Tensor  # `[tasks, images, height, width, channels]`
    mean: Tensor  # of the patches at all places, `[tasks, K]`
    covariance: Tensor  # of the patches at all places, `[tasks, K, K]`
    geometry: Geometry


def patches_of(images: Tensor, geometry: Geometry) -> Patches:
    """Images `[tasks, images, height, width, channels]` as the first block takes them."""
    # In float64: by float32, the variances that follow are off by 1e-5, and after some inner steps an activation next
    # to zero falls on the other side now and then, which moves a gradient by percents.
    every = _unfolded(images.double(), geometry).flatten(2, 3)
    mean = every.mean((1, 2))
    centred = every - mean[:, None, None]
    covariance = (centred.mT @ centred).sum(1) / (every.shape[1] * every.shape[2])
    return Patches(images, mean.to(images), covariance.to(images), geometry)


def forward(
    patches: Patches, matrix: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, eps: float
) -> Forward:
    x = _convolved(patches, matrix)
    place = largest(x, scale)
    return normalized(at_places(x, place), place, mean, variance, scale, shift, eps)


def backward(norm: Forward, patches: Patches, d_z: Tensor) -> tuple[Sums, Backward]:
    back = gated(norm, d_z)
    return Sums(_by_matrix(patches, norm.place, back.d_q), back.d_scale, back.d_shift), back


def tangent(
    norm: Forward, patches: Patches, matrix_t: Tensor, mean_t: Tensor, shared: Tensor, scale_t: Tensor, shift_t: Tensor
) -> Tangent:
    x_t = at_places(_convolved(patches, matrix_t), norm.place)
    return normalized_tangent(norm, x_t, mean_t, shared, scale_t, shift_t)


def backward_tangent(norm: Forward, back: Backward, forth: Tangent, patches: Patches, d_z_t: Tensor) -> Sums:
    d_q_t, *others = gated_tangent(norm, back, forth, d_z_t)
    return Sums(_by_matrix(patches, norm.place, d_q_t), *others)


def _unfolded(images: Tensor, geometry: Geometry) -> Tensor:
    return unfold(images, geometry.side, geometry.stride, geometry.padding)


def _convolved(patches: Patches, matrix: Tensor) -> Tensor:
    """The products patch · matrix, by pooling's windows."""
    return windows(_unfolded(patches.images, patches.geometry) @ matrix[:, None, None], patches.geometry.pool)


def _by_matrix(patches: Patches, place: Tensor, values: Tensor) -> Tensor:
    """Σ values · patch, each value's patch being that at its window's place."""
    every = _unfolded(patches.images, patches.geometry)
    spread = to_places(values, place, every.shape[2:4], patches.geometry.pool)
    return every.flatten(1, 3).mT @ spread.flatten(1, 3)

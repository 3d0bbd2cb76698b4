"""Batch norm, ReLU and max-pooling by the compiled functions of `numba_ops.kernels`, which know one task.

The functions of `tasks.derivatives.protocol.Norms`.
Several tasks' feature maps are those of one task with all tasks' channels, see `tasks.derivatives.numba_ops.products`.
Each channel has a mean and a variance of its own, so the same functions serve.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fanfold.tasks.derivatives.numba_ops import kernels
from fanfold.tasks.derivatives.numba_ops.kernels import Array
from fanfold.tasks.derivatives.protocol import Into


class Forward(NamedTuple):
    """The results of a kernel, of all tasks' channels, with tensors beside the arrays."""

    z: Tensor
    channels: int  # of one task
    arrays: kernels.Forward

    @property
    def inverse(self) -> Tensor:
        return of_channels(self.arrays.inverse, self.channels)


class Backward(NamedTuple):
    d_scale: Tensor
    d_shift: Tensor
    arrays: kernels.Backward


class Tangent(NamedTuple):
    z_t: Tensor
    arrays: kernels.Tangent


def forward(x: Tensor, scale: Tensor, shift: Tensor, eps: float, pool: int, moments: None = None) -> Forward:
    array = x.numpy()
    norm = kernels.forward(array, row(scale, array.shape[3]), row(shift, array.shape[3]), eps, pool)
    return as_forward(norm, scale.shape[1])


def backward(norm: Forward, x: Tensor, d_z: Tensor, pool: int, into: Into = None) -> tuple[Tensor, Backward]:
    d_x, back = kernels.backward(norm.arrays, x.numpy(), d_z.numpy(), pool)
    return torch.from_numpy(d_x), as_backward(back, norm.channels)


def tangent(norm: Forward, x: Tensor, x_t: Tensor, scale_t: Tensor, shift_t: Tensor, pool: int) -> Tangent:
    array = x.numpy()
    numbers = row(scale_t, array.shape[3]), row(shift_t, array.shape[3])
    return as_tangent(kernels.tangent(norm.arrays, array, x_t.numpy(), *numbers, pool))


def backward_tangent(
    norm: Forward,
    back: Backward,
    forth: Tangent,
    x: Tensor,
    x_t: Tensor,
    d_z_t: Tensor,
    pool: int,
    into: Into = None,
) -> tuple[Tensor, Tensor, Tensor]:
    d_x_t, d_scale_t, d_shift_t = kernels.backward_tangent(
        norm.arrays, back.arrays, forth.arrays, x.numpy(), x_t.numpy(), d_z_t.numpy(), pool
    )
    return torch.from_numpy(d_x_t), of_channels(d_scale_t, norm.channels), of_channels(d_shift_t, norm.channels)


def row(numbers: Tensor, count: int) -> Array:
    """Numbers of channels `[tasks, channels]`, or `[1, channels]` for all tasks, as `[count]` of all tasks."""
    flat: Array = numbers.numpy().ravel()
    return flat if len(flat) == count else np.tile(flat, count // len(flat))


def of_channels(numbers: Array, channels: int) -> Tensor:
    """The inverse of `row`: `[tasks, channels]`."""
    found: Tensor = torch.from_numpy(numbers.reshape(-1, channels))
    return found


def as_forward(norm: kernels.Forward, channels: int) -> Forward:
    return Forward(torch.from_numpy(norm.z), channels, norm)


def as_backward(back: kernels.Backward, channels: int) -> Backward:
    return Backward(of_channels(back.d_scale, channels), of_channels(back.d_shift, channels), back)


def as_tangent(forth: kernels.Tangent) -> Tangent:
    return Tangent(torch.from_numpy(forth.z_t), forth)

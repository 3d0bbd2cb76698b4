"""What lies between two convolutions, for several tasks at once, by the compiled functions of `numba_ops.kernels`.

Those know one task's pictures. As `tasks.derivatives.numba_ops.products` has pictures lie, several tasks' are one
picture with the channels of all, each of which has its own mean and variance: so the same functions serve.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fanfold.tasks.derivatives.numba_ops import kernels
from fanfold.tasks.derivatives.numba_ops.kernels import Array


class Forward(NamedTuple):
    """See `numba_ops.kernels.Forward`; numbers of channels are `[tasks, channels]`, as the layers take them."""

    scale: Tensor
    inverse: Tensor
    z: Tensor
    arrays: kernels.Forward


class Backward(NamedTuple):
    """See `tasks.derivatives.numba_ops.kernels.Backward`."""

    d_scale: Tensor
    d_shift: Tensor
    arrays: kernels.Backward


class Tangent(NamedTuple):
    """See `tasks.derivatives.numba_ops.kernels.Tangent`."""

    shared: Tensor
    scale_t: Tensor
    z_t: Tensor
    arrays: kernels.Tangent


def forward(x: Tensor, scale: Tensor, shift: Tensor, eps: float, pool: int) -> Forward:
    """From x, what the convolution gave, to z; see `tasks.derivatives.numba_ops.kernels.forward`."""
    tasks = len(x)
    return as_forward(kernels.forward(array(x), row(scale, tasks), row(shift, tasks), eps, pool), tasks)


def backward(norm: Forward, x: Tensor, d_z: Tensor, pool: int) -> tuple[Tensor, Backward]:
    """From d_z to d_x; see `tasks.derivatives.numba_ops.kernels.backward`."""
    d_x, back = kernels.backward(norm.arrays, array(x), array(d_z), pool)
    return pictures(d_x, len(x)), as_backward(back, len(x))


def tangent(norm: Forward, x: Tensor, x_t: Tensor, scale_t: Tensor, shift_t: Tensor, pool: int) -> Tangent:
    """From x_t to z_t; see `tasks.derivatives.numba_ops.kernels.tangent`."""
    tasks = len(x)
    forth = kernels.tangent(norm.arrays, array(x), array(x_t), row(scale_t, tasks), row(shift_t, tasks), pool)
    return as_tangent(forth, tasks)


def backward_tangent(
    norm: Forward, back: Backward, forth: Tangent, x: Tensor, x_t: Tensor, d_z_t: Tensor, pool: int
) -> tuple[Tensor, Tensor, Tensor]:
    """From d_z_t to d_x_t, d_scale_t and d_shift_t; see `tasks.derivatives.numba_ops.kernels.backward_tangent`."""
    d_x_t, *by_channels = kernels.backward_tangent(
        norm.arrays, back.arrays, forth.arrays, array(x), array(x_t), array(d_z_t), pool
    )
    d_scale_t, d_shift_t = (of_channels(numbers, len(x)) for numbers in by_channels)
    return pictures(d_x_t, len(x)), d_scale_t, d_shift_t


def array(pictures: Tensor) -> Array:
    """Pictures `[tasks, images, height, width, channels]` as one with all channels, the last."""
    found: Array = pictures.permute(1, 2, 3, 0, 4).contiguous().flatten(3).numpy()
    return found


def pictures(array: Array, tasks: int) -> Tensor:
    """What `array` was given."""
    found: Tensor = torch.from_numpy(array).unflatten(3, (tasks, -1)).permute(3, 0, 1, 2, 4)
    return found


def row(numbers: Tensor, tasks: int) -> Array:
    """Numbers of channels `[tasks, channels]`, or `[1, channels]` for all, one after the other."""
    found: Array = numbers.expand(tasks, -1).flatten().numpy()
    return found


def of_channels(numbers: Array, tasks: int) -> Tensor:
    """What `row` was given."""
    found: Tensor = torch.from_numpy(numbers).unflatten(0, (tasks, -1))
    return found


def as_forward(norm: kernels.Forward, tasks: int) -> Forward:
    """With what the layers ask for as tensors."""
    scale, inverse = (of_channels(numbers, tasks) for numbers in (norm.scale, norm.inverse))
    return Forward(scale, inverse, pictures(norm.z, tasks), norm)


def as_backward(back: kernels.Backward, tasks: int) -> Backward:
    """With what the layers ask for as tensors."""
    return Backward(of_channels(back.d_scale, tasks), of_channels(back.d_shift, tasks), back)


def as_tangent(forth: kernels.Tangent, tasks: int) -> Tangent:
    """With what the layers ask for as tensors."""
    shared, scale_t = (of_channels(numbers, tasks) for numbers in (forth.shared, forth.scale_t))
    return Tangent(shared, scale_t, pictures(forth.z_t, tasks), forth)

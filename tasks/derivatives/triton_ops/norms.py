"""Batch norm, ReLU and max-pooling as one operation, with its derivatives, as kernels for a GPU.

The functions of `tasks.derivatives.torch_ops.norms`, in float32. All of them wait for memory. Each is two kernels: one
takes sums over all places, in parts; the other adds the parts up, every block for itself, and goes once over the
feature maps, by windows.
"""

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from fanfold.tasks.derivatives.protocol import Into
from fanfold.tasks.derivatives.torch_ops.norms import Forward, Tangent
from fanfold.tasks.derivatives.triton_ops import norm_kernels as kernels
from fanfold.tasks.derivatives.triton_ops.launches import divisor, few, launch, task_stride
from fanfold.tasks.derivatives.triton_ops.moments import Moments, few_moments

ROWS_OF_SUMS = 64  # places that a block adds up


class Backward(NamedTuple):
    """Back through ReLU, scale and shift; see `triton_ops.norm_kernels` for what tells where ReLU let through."""

    d_z: Tensor
    d_scale: Tensor  # `[tasks, channels]`
    d_shift: Tensor  # `[tasks, channels]`


def rows_of_windows(tasks: int, windows: int) -> int:
    """How many windows a block goes over: more where even so every multiprocessor has several blocks."""
    return 32 if tasks * windows >= 32 * 4 * 132 else 16


def forward(x: Tensor, scale: Tensor, shift: Tensor, eps: float, pool: int, moments: Moments) -> Forward:
    tasks, images, height, width, channels = x.shape
    found = few_moments(moments)
    u = x.new_empty(tasks, images, height // pool, width // pool, channels)
    z, place = torch.empty_like(u), torch.empty_like(u, dtype=torch.uint8)
    mean, inverse = x.new_empty(2, tasks, channels)
    arguments = u, z, place, mean, inverse, x, *_each(scale), *_each(shift), *found, images, eps
    _by_windows(kernels.normalize, x, pool, u[0].numel() // channels, found.parts, *arguments)
    return Forward(mean, inverse, scale, place, u, z)


def backward(norm: Forward, x: Tensor, d_z: Tensor, pool: int, into: Into = None) -> tuple[Tensor, Backward]:
    d_x, d_z = torch.empty_like(x), d_z.contiguous()
    d_scale, d_shift = into or x.new_empty(2, len(x), x.shape[4])
    sums = _sums(kernels.gate, norm.u, norm.place, d_z, norm.u, d_z, norm.u, TANGENT=False)
    arguments = d_x, *_each(d_scale), *_each(d_shift), x, d_z, norm.place, norm.mean, norm.inverse, *_each(norm.scale)
    _by_windows(kernels.spread, x, pool, _all_windows(x, pool), sums, *arguments, sums, sums.shape[1], x.shape[1])
    return d_x, Backward(d_z, d_scale, d_shift)


def tangent(norm: Forward, x: Tensor, x_t: Tensor, scale_t: Tensor, shift_t: Tensor, pool: int) -> Tangent:
    u_t, z_t = torch.empty_like(norm.u), torch.empty_like(norm.u)
    mean_t, shared = x.new_empty(2, len(x), x.shape[4])
    sums = _sums(kernels.sum_tangent, x, x, x_t, norm.mean)
    arguments = u_t, z_t, mean_t, shared, x_t, norm.place, norm.u, norm.inverse, *_each(norm.scale)
    directions = *_each(scale_t), *_each(shift_t), sums, sums.shape[1], x.shape[1]
    windows = u_t[0].numel() // u_t.shape[4]
    _by_windows(kernels.normalize_tangent, x, pool, windows, sums, *arguments, *directions)
    return Tangent(mean_t, shared, scale_t, u_t, z_t)


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
    d_x_t, d_z_t = torch.empty_like(x), d_z_t.contiguous()
    d_scale_t, d_shift_t = into or x.new_empty(2, len(x), x.shape[4])
    sums = _sums(kernels.gate, norm.u, norm.place, back.d_z, norm.u, d_z_t, forth.u_t, TANGENT=True)
    written = d_x_t, *_each(d_scale_t), *_each(d_shift_t)
    arguments = *written, x, x_t, back.d_z, d_z_t, norm.place, norm.mean, norm.inverse
    of_back = *_each(back.d_scale), *_each(back.d_shift)
    directions = *_each(norm.scale), *of_back, forth.mean_t, forth.shared, *_each(forth.scale_t)
    more = sums, sums.shape[1], x.shape[1]
    _by_windows(kernels.spread_tangent, x, pool, _all_windows(x, pool), sums, *arguments, *directions, *more)
    return d_x_t, d_scale_t, d_shift_t


def _sums(kernel: Any, maps: Tensor, *arguments: Any, **constants: bool) -> Tensor:
    """Launch a kernel that takes two sums over feature maps' places, and have few parts of them."""
    tasks, channels = len(maps), maps.shape[4]
    places = maps[0].numel() // channels
    blocks, columns = triton.cdiv(places, ROWS_OF_SUMS), divisor(channels, 64)
    parts = maps.new_empty(tasks, blocks, 2, channels)
    tile = {"CHANNELS": channels, "ROWS": ROWS_OF_SUMS, "COLUMNS": columns}
    launch(kernel, tasks * blocks * (channels // columns), parts, *arguments, places, **tile, **constants)
    return few(parts)


def _by_windows(kernel: Any, x: Tensor, pool: int, windows: int, parts: Tensor, *arguments: Any) -> None:
    """Launch a kernel that goes over so many windows of each task's feature maps."""
    tasks, _, height, width, channels = x.shape
    rows, columns = rows_of_windows(tasks, windows), divisor(channels, 64)
    launch(
        kernel,
        tasks * triton.cdiv(windows, rows) * (channels // columns),
        *arguments,
        HEIGHT=height,
        WIDTH=width,
        CHANNELS=channels,
        POOL=pool,
        ROWS=rows,
        COLUMNS=columns,
        PARTS=triton.next_power_of_2(parts.shape[1]),
    )


def _all_windows(x: Tensor, pool: int) -> int:
    """A task's windows, with those that a feature map's edge cuts off."""
    return x.shape[1] * -(-x.shape[2] // pool) * -(-x.shape[3] // pool)


def _each(of_channels: Tensor) -> tuple[Tensor, int]:
    """Numbers of channels as kernels take them."""
    return of_channels, task_stride(of_channels)

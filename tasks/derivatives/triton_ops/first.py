"""The first block's passes as kernels for a GPU: a convolution of the images, batch norm, ReLU and max-pooling.

The functions of `tasks.derivatives.torch_ops.first`, in float32. A block of a kernel reads the pixels that some windows
see, and the filters, into registers, and has the convolution's outputs from them whenever it needs them. None is ever
in memory.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from fanfold.tasks.derivatives.torch_ops.first import Patches
from fanfold.tasks.derivatives.torch_ops.norms import Forward, Tangent
from fanfold.tasks.derivatives.triton_ops import first_kernels as kernels
from fanfold.tasks.derivatives.triton_ops.covariance import derivative as derivative
from fanfold.tasks.derivatives.triton_ops.covariance import derivative_tangent as derivative_tangent
from fanfold.tasks.derivatives.triton_ops.covariance import moments as moments
from fanfold.tasks.derivatives.triton_ops.covariance import moments_tangent as moments_tangent
from fanfold.tasks.derivatives.triton_ops.covariance import patches_of as patches_of
from fanfold.tasks.derivatives.triton_ops.launches import divisor, launch, task_stride

ROWS = 32  # windows that a block goes over
WARPS = 8  # that share them: with fewer, a thread would need too many registers


def forward(
    patches: Patches, matrix: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, eps: float
) -> Forward:
    images = patches.images
    tasks, count, height, width, _ = images.shape
    u = images.new_empty(tasks, count, *patches.geometry.pooled((height, width)), matrix.shape[2])
    z, place = torch.empty_like(u), torch.empty_like(u, dtype=torch.uint8)
    inverse = images.new_empty(tasks, matrix.shape[2])
    arguments = matrix, task_stride(matrix), mean, variance, scale, task_stride(scale), shift, task_stride(shift), eps
    _launch(kernels.normalize, patches, u, z, place, inverse, *arguments)
    return Forward(mean, inverse, scale, place, u, z)


def backward(norm: Forward, patches: Patches, d_z: Tensor) -> tuple[Tensor, Tensor]:
    """The sums by blocks `[tasks, blocks, K + 2, channels]`, for `triton_ops.covariance`; and d_z."""
    parts, d_z = _parts(patches, norm), d_z.contiguous()
    _launch(kernels.gate, patches, parts, norm.place, d_z, norm.u, d_z, norm.u, TANGENT=False)
    return parts, d_z


def tangent(
    norm: Forward, patches: Patches, matrix_t: Tensor, mean_t: Tensor, shared: Tensor, scale_t: Tensor, shift_t: Tensor
) -> Tangent:
    u_t, z_t = torch.empty_like(norm.u), torch.empty_like(norm.u)
    arguments = norm.place, norm.u, norm.inverse, norm.scale, task_stride(norm.scale)
    directions = matrix_t, task_stride(matrix_t), mean_t, shared
    more = scale_t, task_stride(scale_t), shift_t, task_stride(shift_t)
    _launch(kernels.normalize_tangent, patches, u_t, z_t, *arguments, *directions, *more)
    return Tangent(mean_t, shared, scale_t, u_t, z_t)


def backward_tangent(norm: Forward, d_z: Tensor, forth: Tangent, patches: Patches, d_z_t: Tensor) -> Tensor:
    parts = _parts(patches, norm)
    _launch(kernels.gate, patches, parts, norm.place, d_z, norm.u, d_z_t.contiguous(), forth.u_t, TANGENT=True)
    return parts


def _parts(patches: Patches, norm: Forward) -> Tensor:
    """Room for the parts of sums: a row for each number of a patch, one for the scale and one for the shift."""
    tasks, channels = len(norm.u), norm.u.shape[4]
    blocks = triton.cdiv(norm.u[0].numel() // channels, ROWS)
    return norm.u.new_empty(tasks, blocks, patches.mean.shape[1] + 2, channels)


def _launch(kernel: Any, patches: Patches, first: Tensor, *arguments: Any, **constants: bool) -> None:
    """Launch a kernel that goes over all windows; the first argument has the channels."""
    geometry, (tasks, images, height, width, inside) = patches.geometry, patches.images.shape
    down, across = geometry.pooled((height, width))
    channels = first.shape[-1]
    columns = divisor(channels, 64)
    launch(
        kernel,
        tasks * triton.cdiv(images * down * across, ROWS) * (channels // columns),
        first,
        *arguments,
        patches.images.contiguous(),
        images,
        HEIGHT=height,
        WIDTH=width,
        INSIDE=inside,
        DOWN=down,
        ACROSS=across,
        CHANNELS=channels,
        SIDE=geometry.side,
        STRIDE=geometry.stride,
        PADDING=geometry.padding,
        POOL=geometry.pool,
        ROWS=ROWS,
        COLUMNS=columns,
        warps=WARPS,
        **constants,
    )

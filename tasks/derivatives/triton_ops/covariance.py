"""The functions of `tasks.derivatives.torch_ops.covariance` as kernels for a GPU, and the patches' covariance itself.

Each is one launch. The sums over places come as parts of blocks, `[tasks, blocks, K + 2, channels]`, see
`triton_ops.first`: the kernel that corrects them adds them up.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.protocol import Into
from fanfold.tasks.derivatives.torch_ops.covariance import Derivative, Moments, MomentsTangent
from fanfold.tasks.derivatives.torch_ops.first import Patches
from fanfold.tasks.derivatives.triton_ops.launches import compiled, divisor, folded, launch, task_stride

MOST_PARTS = 128  # that a kernel adds up by itself
TILE = 2048  # numbers of parts that a block takes at a time


def patches_of(images: Tensor, geometry: Geometry) -> Patches:
    """See `tasks.derivatives.torch_ops.first.patches_of`; sums are float64 here as well."""
    tasks, count, height, width, inside = images.shape
    size = geometry.side * geometry.side * inside
    mean, covariance = images.new_empty(tasks, size), images.new_empty(tasks, size, size)
    down, across = geometry.outputs((height, width))
    launch(
        _covariance,
        tasks * size,
        mean,
        covariance,
        images,
        count,
        HEIGHT=height,
        WIDTH=width,
        INSIDE=inside,
        DOWN=down,
        ACROSS=across,
        SIDE=geometry.side,
        STRIDE=geometry.stride,
        PADDING=geometry.padding,
        SIZE=_padded(size),
        PLACES=max(1, TILE // _padded(size)),
        warps=8,
    )
    return Patches(images, mean, covariance, geometry)


def moments(patches: Patches, matrix: Tensor) -> Moments:
    tasks, size, channels = len(patches.mean), *matrix.shape[1:]
    mean, variance = (matrix.new_empty(tasks, channels) for _ in range(2))
    by_covariance = matrix.new_empty(tasks, size, channels)
    own = matrix, task_stride(matrix)
    _launch(_moments, patches, channels, mean, variance, by_covariance, *own, *own, mean, TANGENT=False)
    return Moments(mean, variance, by_covariance)


def moments_tangent(patches: Patches, matrix: Tensor, matrix_t: Tensor, inverse: Tensor) -> MomentsTangent:
    tasks, size, channels = len(patches.mean), *matrix.shape[1:]
    mean_t, shared = (matrix.new_empty(tasks, channels) for _ in range(2))
    by_covariance_t = matrix.new_empty(tasks, size, channels)
    given = matrix_t, task_stride(matrix_t), matrix, task_stride(matrix), inverse
    _launch(_moments, patches, channels, mean_t, shared, by_covariance_t, *given, TANGENT=True)
    return MomentsTangent(mean_t, shared, by_covariance_t)


def derivative(
    patches: Patches, found: Moments, inverse: Tensor, scale: Tensor, sums: Tensor, into: Into = None
) -> tuple[Sequence[Tensor], Derivative]:
    by_covariance = found.by_covariance
    by_matrix, d_scale, d_shift = into or _room(by_covariance)
    d_matrix, parts = by_covariance.new_empty(by_covariance.shape), _few(sums)
    written = by_matrix, task_stride(by_matrix), d_scale, task_stride(d_scale), d_shift, task_stride(d_shift)
    read = by_covariance, inverse, scale, task_stride(scale), parts, parts.shape[1]
    _launch(_derivative, patches, inverse.shape[1], d_matrix, *written, *read, **_parts_at_a_time(parts))
    return (by_matrix, d_scale, d_shift), Derivative(d_matrix, d_scale)


def derivative_tangent(
    patches: Patches,
    found: Moments,
    found_t: MomentsTangent,
    back: Derivative,
    inverse: Tensor,
    scale: Tensor,
    scale_t: Tensor,
    sums_t: Tensor,
    into: Into = None,
) -> Sequence[Tensor]:
    by_matrix_t, d_scale_t, d_shift_t = into or _room(found.by_covariance)
    parts = _few(sums_t)
    strides = task_stride(by_matrix_t), d_scale_t, task_stride(d_scale_t), d_shift_t, task_stride(d_shift_t)
    of_covariance = found.by_covariance, found_t.by_covariance_t, found_t.shared
    of_scale = inverse, scale, task_stride(scale), scale_t, task_stride(scale_t)
    read = back.d_matrix, back.d_scale, task_stride(back.d_scale), *of_covariance, *of_scale, parts, parts.shape[1]
    _launch(_derivative_tangent, patches, inverse.shape[1], by_matrix_t, *strides, *read, **_parts_at_a_time(parts))
    return by_matrix_t, d_scale_t, d_shift_t


def _room(by_covariance: Tensor) -> Sequence[Tensor]:
    tasks, size, channels = by_covariance.shape
    return [by_covariance.new_empty(shape) for shape in ((tasks, size, channels), (tasks, channels), (tasks, channels))]


def _few(parts: Tensor) -> Tensor:
    """Parts as they are; their sum as the one part where they are many."""
    return parts if parts.shape[1] <= MOST_PARTS else folded(parts).unsqueeze(1)


def _parts_at_a_time(parts: Tensor) -> dict[str, int]:
    size, channels = parts.shape[2] - 2, parts.shape[3]
    most = max(1, TILE // (_padded(size) * divisor(channels, 16)))
    return {"PARTS": min(most, triton.next_power_of_2(parts.shape[1]))}


def _padded(size: int) -> int:
    """A patch's numbers as a tile holds them."""
    return int(triton.next_power_of_2(size))


def _launch(kernel: object, patches: Patches, channels: int, *arguments: object, **constants: int) -> None:
    """Launch a kernel that has some channels of a task in each block."""
    tasks, size = patches.mean.shape
    columns = divisor(channels, 16)
    launch(
        kernel,
        tasks * (channels // columns),
        *arguments,
        patches.mean,
        patches.covariance,
        K=size,
        CHANNELS=channels,
        SIZE=_padded(size),
        COLUMNS=columns,
        **constants,
    )


@compiled
def _covariance(
    means: tl.tensor,
    covariances: tl.tensor,
    images_of: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    INSIDE: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    SIZE: tl.constexpr,
    PLACES: tl.constexpr,
) -> None:
    """One row of a task's covariance in a block, and with the first row the mean."""
    size: tl.constexpr = SIDE * SIDE * INSIDE
    task, row = (tl.program_id(0) // size).to(tl.int64), tl.program_id(0) % size
    k = tl.arange(0, SIZE)
    start = images_of + task * images * (HEIGHT * WIDTH * INSIDE)
    total, product = tl.zeros((SIZE, PLACES), tl.float64), tl.zeros((SIZE, PLACES), tl.float64)
    own = tl.zeros((1, PLACES), tl.float64)
    places = images * (DOWN * ACROSS)
    for first in range(0, places, PLACES):
        place = first + tl.arange(0, PLACES)
        image = place // (DOWN * ACROSS)
        top, left = place // ACROSS % DOWN * STRIDE - PADDING, place % ACROSS * STRIDE - PADDING
        y, x = top[None, :] + (k // INSIDE // SIDE)[:, None], left[None, :] + (k // INSIDE % SIDE)[:, None]
        valid = (place < places)[None, :] & (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH) & (k < size)[:, None]
        at = ((image[None, :] * HEIGHT + y) * WIDTH + x) * INSIDE + (k % INSIDE)[:, None]
        values = tl.load(start + at, valid, 0.0).to(tl.float64)
        y, x = top + row // INSIDE // SIDE, left + row // INSIDE % SIDE
        valid_row = (place < places) & (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
        at_row = ((image * HEIGHT + y) * WIDTH + x) * INSIDE + row % INSIDE
        of_row = tl.load(start + at_row, valid_row, 0.0).to(tl.float64)[None, :]
        total += values
        product += values * of_row
        own += of_row
    mean, mean_of_row = tl.sum(total, 1) / places, tl.sum(own, 1) / places
    result = tl.sum(product, 1) / places - mean * mean_of_row
    tl.store(covariances + (task * size + row) * size + k, result.to(tl.float32), k < size)
    if row == 0:
        tl.store(means + task * size + k, mean.to(tl.float32), k < size)


@compiled
def _block(
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, COLUMNS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """A block's task, its channels, a patch's numbers, and where those of the channels lie in a matrix."""
    columns: tl.constexpr = CHANNELS // COLUMNS
    column = tl.program_id(0) % columns * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, SIZE)
    return (tl.program_id(0) // columns).to(tl.int64), column, k, k[:, None] * CHANNELS + column[None, :]


@compiled
def _moments(
    means: tl.tensor,
    variances: tl.tensor,
    by_covariances: tl.tensor,
    matrices: tl.tensor,
    matrix_stride: tl.tensor,
    others: tl.tensor,
    other_stride: tl.tensor,
    inverses: tl.tensor,
    patch_means: tl.tensor,
    covariances: tl.tensor,
    K: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    COLUMNS: tl.constexpr,
    TANGENT: tl.constexpr,
) -> None:
    """For the tangent, `matrices` are the tangents, `others` the matrices, and `variances` the shared means."""
    task, column, k, at = _block(CHANNELS, SIZE, COLUMNS)
    matrix = matrices + task * matrix_stride
    by_covariance = tl.zeros((SIZE, COLUMNS), tl.float32)
    for row in tl.static_range(K):  # a row of the covariance is a column of it
        of_row = tl.load(covariances + (task * K + row) * K + k, k < K, 0.0)
        by_covariance += of_row[:, None] * tl.load(matrix + row * CHANNELS + column)[None, :]
    valid = (k < K)[:, None]
    patch = tl.load(patch_means + task * K + k, k < K, 0.0)[:, None]
    mean = tl.sum(patch * tl.load(matrix + at, valid, 0.0), 0)
    variance = tl.sum(by_covariance * tl.load(others + task * other_stride + at, valid, 0.0), 0)
    if TANGENT:
        variance *= tl.load(inverses + task * CHANNELS + column)
    tl.store(means + task * CHANNELS + column, mean)
    tl.store(variances + task * CHANNELS + column, variance)
    tl.store(by_covariances + task * (K * CHANNELS) + at, by_covariance, valid)


@compiled
def _sums(
    parts_of: tl.tensor,
    parts: tl.tensor,
    task: tl.tensor,
    column: tl.tensor,
    at: tl.tensor,
    valid: tl.tensor,
    K: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """A task's sums: by the numbers of a patch, and those for scale and shift."""
    start = parts_of + task * parts * ((K + 2) * CHANNELS)
    at_places = tl.zeros((PARTS, SIZE, COLUMNS), tl.float32)
    by_scale, by_shift = tl.zeros((PARTS, COLUMNS), tl.float32), tl.zeros((PARTS, COLUMNS), tl.float32)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)
        of_part = part * ((K + 2) * CHANNELS)
        there = (part < parts)[:, None, None] & valid[None, :, :]
        at_places += tl.load(start + of_part[:, None, None] + at[None, :, :], there, 0.0)
        of_scale = start + of_part[:, None] + K * CHANNELS + column[None, :]
        by_scale += tl.load(of_scale, (part < parts)[:, None], 0.0)
        by_shift += tl.load(of_scale + CHANNELS, (part < parts)[:, None], 0.0)
    return tl.sum(at_places, 0), tl.sum(by_scale, 0), tl.sum(by_shift, 0)


@compiled
def _derivative(
    d_matrices: tl.tensor,
    by_matrices: tl.tensor,
    by_matrix_stride: tl.tensor,
    d_scales: tl.tensor,
    d_scale_stride: tl.tensor,
    d_shifts: tl.tensor,
    d_shift_stride: tl.tensor,
    by_covariances: tl.tensor,
    inverses: tl.tensor,
    scales: tl.tensor,
    scale_stride: tl.tensor,
    parts_of: tl.tensor,
    parts: tl.tensor,
    patch_means: tl.tensor,
    covariances: tl.tensor,
    K: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:
    task, column, k, at = _block(CHANNELS, SIZE, COLUMNS)
    valid = (k < K)[:, None]
    at_places, d_scale, d_shift = _sums(parts_of, parts, task, column, at, valid, K, CHANNELS, SIZE, COLUMNS, PARTS)
    inverse = tl.load(inverses + task * CHANNELS + column)
    patch = tl.load(patch_means + task * K + k, k < K, 0.0)[:, None]
    by_covariance = tl.load(by_covariances + task * (K * CHANNELS) + at, valid, 0.0)
    d_matrix = at_places - patch * d_shift[None, :] - by_covariance * (inverse * d_scale)[None, :]
    gain = inverse * tl.load(scales + task * scale_stride + column)
    tl.store(d_matrices + task * (K * CHANNELS) + at, d_matrix, valid)
    tl.store(by_matrices + task * by_matrix_stride + at, gain[None, :] * d_matrix, valid)
    tl.store(d_scales + task * d_scale_stride + column, d_scale)
    tl.store(d_shifts + task * d_shift_stride + column, d_shift)


@compiled
def _derivative_tangent(
    by_matrices_t: tl.tensor,
    by_matrix_t_stride: tl.tensor,
    d_scales_t: tl.tensor,
    d_scale_t_stride: tl.tensor,
    d_shifts_t: tl.tensor,
    d_shift_t_stride: tl.tensor,
    d_matrices: tl.tensor,
    d_scales: tl.tensor,
    d_scale_stride: tl.tensor,
    by_covariances: tl.tensor,
    by_covariances_t: tl.tensor,
    shareds: tl.tensor,
    inverses: tl.tensor,
    scales: tl.tensor,
    scale_stride: tl.tensor,
    scales_t: tl.tensor,
    scale_t_stride: tl.tensor,
    parts_of: tl.tensor,
    parts: tl.tensor,
    patch_means: tl.tensor,
    covariances: tl.tensor,
    K: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:
    task, column, k, at = _block(CHANNELS, SIZE, COLUMNS)
    valid = (k < K)[:, None]
    at_places, d_scale_t, d_shift_t = _sums(parts_of, parts, task, column, at, valid, K, CHANNELS, SIZE, COLUMNS, PARTS)
    of_task, of_matrix = task * CHANNELS + column, task * (K * CHANNELS) + at
    inverse, d_scale = tl.load(inverses + of_task), tl.load(d_scales + task * d_scale_stride + column)
    inverse_t = -inverse * inverse * tl.load(shareds + of_task)
    scale = tl.load(scales + task * scale_stride + column)
    scale_t = tl.load(scales_t + task * scale_t_stride + column)
    patch = tl.load(patch_means + task * K + k, k < K, 0.0)[:, None]
    of_covariance = inverse_t * d_scale + inverse * d_scale_t
    d_matrix_t = at_places - patch * d_shift_t[None, :]
    d_matrix_t -= tl.load(by_covariances + of_matrix, valid, 0.0) * of_covariance[None, :]
    d_matrix_t -= tl.load(by_covariances_t + of_matrix, valid, 0.0) * (inverse * d_scale)[None, :]
    gain, gain_t = inverse * scale, inverse_t * scale + inverse * scale_t
    product = gain_t[None, :] * tl.load(d_matrices + of_matrix, valid, 0.0) + gain[None, :] * d_matrix_t
    tl.store(by_matrices_t + task * by_matrix_t_stride + at, product, valid)
    tl.store(d_scales_t + task * d_scale_t_stride + column, d_scale_t)
    tl.store(d_shifts_t + task * d_shift_t_stride + column, d_shift_t)

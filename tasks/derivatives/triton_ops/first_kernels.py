"""The kernels of `tasks.derivatives.triton_ops.first`; `gate` serves `backward` and its tangent.

Names and places are those of `tasks.derivatives.triton_ops.norm_kernels`; `…_stride` is from one task's numbers to the
next one's, 0 where all share them. Patches and matrices come as tuples of their numbers and rows, which Triton keeps in
registers.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

import triton.language as tl

from fanfold.tasks.derivatives.triton_ops.launches import block_of, compiled, offsets
from fanfold.tasks.derivatives.triton_ops.norm_kernels import SHUT, back_through, gated, store_rectified


@compiled
def _pixels(
    images_of: tl.tensor,
    task: tl.tensor,
    window: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    INSIDE: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    POOL: tl.constexpr,
) -> tl.tuple:
    """All that windows see: `[windows]` for each place about them and each channel of the images."""
    span: tl.constexpr = (POOL - 1) * STRIDE + SIDE
    image = window // (DOWN * ACROSS)
    top, left = window // ACROSS % DOWN * (POOL * STRIDE) - PADDING, window % ACROSS * (POOL * STRIDE) - PADDING
    start = images_of + task * images * (HEIGHT * WIDTH * INSIDE)
    pixels: tl.tuple = ()
    for number in tl.static_range(span * span * INSIDE):
        y, x = top + number // INSIDE // span, left + number // INSIDE % span
        valid = (image < images) & (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
        at = ((image * HEIGHT + y) * WIDTH + x) * INSIDE + number % INSIDE
        pixels = pixels + (tl.load(start + at, valid, 0.0),)  # noqa: RUF005  (Triton knows no other way)
    return pixels


@compiled
def _pixel(
    pixels: tl.tuple,
    number: tl.constexpr,
    other: tl.constexpr,
    INSIDE: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    POOL: tl.constexpr,
) -> tl.tensor:
    """A number of the patches at one of the windows' places, `[windows, 1]`."""
    span: tl.constexpr = (POOL - 1) * STRIDE + SIDE
    y: tl.constexpr = other // POOL * STRIDE + number // INSIDE // SIDE
    x: tl.constexpr = other % POOL * STRIDE + number // INSIDE % SIDE
    return pixels[(y * span + x) * INSIDE + number % INSIDE][:, None]


@compiled
def _rows(matrix: tl.tensor, CHANNELS: tl.constexpr, K: tl.constexpr) -> tl.tuple:
    """The rows of a matrix."""
    rows: tl.tuple = ()
    for number in tl.static_range(K):
        rows = rows + (tl.load(matrix + number * CHANNELS)[None, :],)  # noqa: RUF005
    return rows


@compiled
def _product(
    pixels: tl.tuple,
    rows: tl.tuple,
    other: tl.constexpr,
    INSIDE: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    POOL: tl.constexpr,
) -> tl.tensor:
    """The product patch · matrix at one of the windows' places, `[windows, channels]`."""
    total = _pixel(pixels, 0, other, INSIDE, SIDE, STRIDE, POOL) * rows[0]
    for number in tl.static_range(1, SIDE * SIDE * INSIDE):
        total += _pixel(pixels, number, other, INSIDE, SIDE, STRIDE, POOL) * rows[number]
    return total


@compiled
def _store_sums(
    parts: tl.tensor,
    task: tl.tensor,
    number: tl.tensor,
    blocks: tl.tensor,
    column: tl.tensor,
    pixels: tl.tuple,
    found: tl.tensor,
    value: tl.tensor,
    by_scale: tl.tensor,
    INSIDE: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    POOL: tl.constexpr,
) -> None:
    """Write this block's parts of Σ value · patch at the places found, Σ by_scale and Σ value."""
    size: tl.constexpr = SIDE * SIDE * INSIDE
    part = parts + (task * blocks + number) * ((size + 2) * CHANNELS) + column
    tl.store(part + size * CHANNELS, tl.sum(by_scale, 0))
    tl.store(part + (size + 1) * CHANNELS, tl.sum(value, 0))
    at_places: tl.tuple = ()
    for other in tl.static_range(POOL * POOL):
        at_places = at_places + (tl.where(found == other, value, 0.0),)  # noqa: RUF005
    for k in tl.static_range(size):
        total = _pixel(pixels, k, 0, INSIDE, SIDE, STRIDE, POOL) * at_places[0]
        for other in tl.static_range(1, POOL * POOL):
            total += _pixel(pixels, k, other, INSIDE, SIDE, STRIDE, POOL) * at_places[other]
        tl.store(part + k * CHANNELS, tl.sum(total, 0))


@compiled
def normalize(
    u: tl.tensor,
    z: tl.tensor,
    place: tl.tensor,
    inverses: tl.tensor,
    matrices: tl.tensor,
    matrix_stride: tl.tensor,
    means: tl.tensor,
    variances: tl.tensor,
    scales: tl.tensor,
    scale_stride: tl.tensor,
    shifts: tl.tensor,
    shift_stride: tl.tensor,
    eps: tl.tensor,
    images_of: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    INSIDE: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    windows = images * (DOWN * ACROSS)
    task, number, window, column = block_of(windows, CHANNELS, ROWS, COLUMNS)
    mean = tl.load(means + task * CHANNELS + column)
    inverse = tl.rsqrt(tl.load(variances + task * CHANNELS + column) + eps)
    if number == 0:
        tl.store(inverses + task * CHANNELS + column, inverse)
    # The scale is read for every window, though it is the same for all: how threads share such a reading is how they
    # share what is computed with it. Nothing else here is read so.
    scale = tl.load(scales + task * scale_stride + offsets(window * 0, column, CHANNELS))
    shift = tl.load(shifts + task * shift_stride + column)
    sign = tl.where(scale < 0, -1.0, 1.0)

    pixels = _pixels(images_of, task, window, images, HEIGHT, WIDTH, INSIDE, DOWN, ACROSS, SIDE, STRIDE, PADDING, POOL)
    rows = _rows(matrices + task * matrix_stride + column, CHANNELS, SIDE * SIDE * INSIDE)
    chosen = _product(pixels, rows, 0, INSIDE, SIDE, STRIDE, POOL)
    found = tl.zeros((ROWS, COLUMNS), tl.uint8)
    for other in tl.static_range(1, POOL * POOL):
        x = _product(pixels, rows, other, INSIDE, SIDE, STRIDE, POOL)
        larger = x * sign > chosen * sign
        chosen = tl.where(larger, x, chosen)
        found = tl.where(larger, other, found).to(tl.uint8)
    normalized = (chosen - mean[None, :]) * inverse[None, :]
    q = scale * normalized + shift[None, :]
    at = task * windows * CHANNELS + offsets(window, column, CHANNELS)
    valid = (window < windows)[:, None]
    tl.store(u + at, normalized, valid)
    store_rectified(z, place, at, q, found, valid)


@compiled
def gate(
    parts: tl.tensor,
    places: tl.tensor,
    d_z: tl.tensor,
    u: tl.tensor,
    d_z_t: tl.tensor,
    u_t: tl.tensor,
    images_of: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    INSIDE: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TANGENT: tl.constexpr,
) -> None:
    windows = images * (DOWN * ACROSS)
    task, number, window, column = block_of(windows, CHANNELS, ROWS, COLUMNS)
    valid = (window < windows)[:, None]
    at = task * windows * CHANNELS + offsets(window, column, CHANNELS)
    by_scale, value = back_through(at, places, d_z, u, d_z_t, u_t, valid, TANGENT)
    found = tl.load(places + at, valid, SHUT)
    pixels = _pixels(images_of, task, window, images, HEIGHT, WIDTH, INSIDE, DOWN, ACROSS, SIDE, STRIDE, PADDING, POOL)
    blocks = tl.cdiv(windows, ROWS)
    _store_sums(
        parts, task, number, blocks, column, pixels, found, value, by_scale, INSIDE, CHANNELS, SIDE, STRIDE, POOL
    )


@compiled
def normalize_tangent(
    u_t: tl.tensor,
    z_t: tl.tensor,
    place: tl.tensor,
    u: tl.tensor,
    inverses: tl.tensor,
    scales: tl.tensor,
    scale_stride: tl.tensor,
    matrices_t: tl.tensor,
    matrix_t_stride: tl.tensor,
    means_t: tl.tensor,
    shareds: tl.tensor,
    scales_t: tl.tensor,
    scale_t_stride: tl.tensor,
    shifts_t: tl.tensor,
    shift_t_stride: tl.tensor,
    images_of: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    INSIDE: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    windows = images * (DOWN * ACROSS)
    task, _, window, column = block_of(windows, CHANNELS, ROWS, COLUMNS)
    of_task = task * CHANNELS + column
    inverse, shared = tl.load(inverses + of_task)[None, :], tl.load(shareds + of_task)[None, :]
    mean_t = tl.load(means_t + of_task)[None, :]
    scale = tl.load(scales + task * scale_stride + column)[None, :]
    scale_t = tl.load(scales_t + task * scale_t_stride + column)[None, :]
    shift_t = tl.load(shifts_t + task * shift_t_stride + column)[None, :]

    valid = (window < windows)[:, None]
    at = task * windows * CHANNELS + offsets(window, column, CHANNELS)
    found = tl.load(place + at, valid, SHUT)
    pixels = _pixels(images_of, task, window, images, HEIGHT, WIDTH, INSIDE, DOWN, ACROSS, SIDE, STRIDE, PADDING, POOL)
    rows = _rows(matrices_t + task * matrix_t_stride + column, CHANNELS, SIDE * SIDE * INSIDE)
    chosen_t = _product(pixels, rows, 0, INSIDE, SIDE, STRIDE, POOL)
    for other in tl.static_range(1, POOL * POOL):
        chosen_t = tl.where(found == other, _product(pixels, rows, other, INSIDE, SIDE, STRIDE, POOL), chosen_t)
    normalized = tl.load(u + at, valid, 0.0)
    moved = inverse * (chosen_t - normalized * shared - mean_t)
    q_t = scale_t * normalized + scale * moved + shift_t
    tl.store(u_t + at, moved, valid)
    tl.store(z_t + at, gated(q_t, found), valid)

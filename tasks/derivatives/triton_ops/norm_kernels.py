"""The kernels of `tasks.derivatives.triton_ops.norms`, one or two for each of its functions.

A block has one task, some places or windows, and up to 64 channels, which follow one another in memory. Names are those
of `tasks.derivatives.torch_ops.norms`; `…_stride` is from one task's numbers to the next one's, 0 where all share them.

The place of a window's largest number is `SHUT` where ReLU lets nothing through: so that who gates reads a byte in the
place of z, and derivatives behind ReLU are nowhere kept. What u and its tangent are there, nobody asks.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

import triton.language as tl

from fanfold.tasks.derivatives.triton_ops.launches import block_of, compiled, offsets, summed
from fanfold.tasks.derivatives.triton_ops.moments import combined

SHUT = tl.constexpr(255)


@compiled
def _window(
    window: tl.tensor, DOWN: tl.constexpr, ACROSS: tl.constexpr, POOL: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The image of a window, and the row and column of its first place."""
    return window // (DOWN * ACROSS), window // ACROSS % DOWN * POOL, window % ACROSS * POOL


@compiled
def _place(
    task: tl.tensor,
    image: tl.tensor,
    row: tl.tensor,
    left: tl.tensor,
    other: tl.constexpr,
    column: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Where in a task's feature maps one of the windows' places is, and whether there is one."""
    y, x = row + other // POOL, left + other % POOL
    at = offsets((image * HEIGHT + y) * WIDTH + x, column, CHANNELS)
    return task * images * (HEIGHT * WIDTH * CHANNELS) + at, ((image < images) & (y < HEIGHT) & (x < WIDTH))[:, None]


@compiled
def _pooled(
    task: tl.tensor,
    image: tl.tensor,
    row: tl.tensor,
    left: tl.tensor,
    column: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Where in a task's pooled feature maps a window's number is, and whether there is one: it is whole."""
    down: tl.constexpr = HEIGHT // POOL
    across: tl.constexpr = WIDTH // POOL
    y, x = row // POOL, left // POOL
    at = offsets((image * down + y) * across + x, column, CHANNELS)
    return task * images * (down * across * CHANNELS) + at, ((image < images) & (y < down) & (x < across))[:, None]


@compiled
def gated(values: tl.tensor, place: tl.tensor) -> tl.tensor:
    """Values where ReLU has let numbers through, elsewhere zeros."""
    return values * (place != SHUT).to(tl.float32)


@compiled
def store_rectified(
    z: tl.tensor, place: tl.tensor, at: tl.tensor, q: tl.tensor, found: tl.tensor, valid: tl.tensor
) -> None:
    """Write ReLU's numbers, and the windows' places."""
    tl.store(z + at, tl.maximum(q, 0.0, propagate_nan=tl.PropagateNan.ALL), valid)
    tl.store(place + at, tl.where(q > 0, found, SHUT).to(tl.uint8), valid)


@compiled
def _store_parts(
    parts: tl.tensor,
    task: tl.tensor,
    number: tl.tensor,
    blocks: tl.tensor,
    column: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    CHANNELS: tl.constexpr,
) -> None:
    part = parts + (task * blocks + number) * (2 * CHANNELS) + column
    tl.store(part, tl.sum(first, 0))
    tl.store(part + CHANNELS, tl.sum(second, 0))


@compiled
def _two_sums(
    parts: tl.tensor,
    task: tl.tensor,
    column: tl.tensor,
    count: tl.tensor,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """A task's sums of the parts that `_store_parts` has written."""
    first = summed(parts, task, column, 2 * CHANNELS, count, PARTS)
    return first, summed(parts, task, CHANNELS + column, 2 * CHANNELS, count, PARTS)


@compiled
def normalize(
    u: tl.tensor,
    z: tl.tensor,
    place: tl.tensor,
    means: tl.tensor,
    inverses: tl.tensor,
    x: tl.tensor,
    scales: tl.tensor,
    scale_stride: tl.tensor,
    shifts: tl.tensor,
    shift_stride: tl.tensor,
    parts: tl.tensor,
    rows: tl.tensor,
    places: tl.tensor,
    images: tl.tensor,
    eps: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:
    windows = images * ((HEIGHT // POOL) * (WIDTH // POOL))
    task, number, window, column = block_of(windows, CHANNELS, ROWS, COLUMNS)
    mean, squares = combined(parts, task, column, rows, places, CHANNELS, PARTS)
    inverse = tl.rsqrt(squares / places + eps)
    if number == 0:
        tl.store(means + task * CHANNELS + column, mean)
        tl.store(inverses + task * CHANNELS + column, inverse)
    scale = tl.load(scales + task * scale_stride + column)
    shift = tl.load(shifts + task * shift_stride + column)
    sign = tl.where(scale < 0, -1.0, 1.0)[None, :]

    image, row, left = _window(window, HEIGHT // POOL, WIDTH // POOL, POOL)
    at, valid = _place(task, image, row, left, 0, column, images, HEIGHT, WIDTH, CHANNELS, POOL)
    chosen = tl.load(x + at, valid, 0.0)
    found = tl.zeros((ROWS, COLUMNS), tl.uint8)
    for other in tl.static_range(1, POOL * POOL):
        at, valid = _place(task, image, row, left, other, column, images, HEIGHT, WIDTH, CHANNELS, POOL)
        value = tl.load(x + at, valid, 0.0)
        larger = value * sign > chosen * sign
        chosen = tl.where(larger, value, chosen)
        found = tl.where(larger, other, found).to(tl.uint8)
    normalized = (chosen - mean[None, :]) * inverse[None, :]
    q = scale[None, :] * normalized + shift[None, :]
    result = task * windows * CHANNELS + offsets(window, column, CHANNELS)
    tl.store(u + result, normalized, valid)
    store_rectified(z, place, result, q, found, valid)


@compiled
def back_through(
    at: tl.tensor,
    places: tl.tensor,
    d_z: tl.tensor,
    u: tl.tensor,
    d_z_t: tl.tensor,
    u_t: tl.tensor,
    valid: tl.tensor,
    TANGENT: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Back through ReLU: what windows add to the derivatives by scale and shift, or to those derivatives' tangents."""
    place = tl.load(places + at, valid, SHUT)
    value, normalized = tl.load((d_z_t if TANGENT else d_z) + at, valid, 0.0), tl.load(u + at, valid, 0.0)
    by_scale = value * normalized
    if TANGENT:
        by_scale += tl.load(d_z + at, valid, 0.0) * tl.load(u_t + at, valid, 0.0)
    return gated(by_scale, place), gated(value, place)


@compiled
def gate(
    parts: tl.tensor,
    places: tl.tensor,
    d_z: tl.tensor,
    u: tl.tensor,
    d_z_t: tl.tensor,
    u_t: tl.tensor,
    windows: tl.tensor,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TANGENT: tl.constexpr,
) -> None:
    task, number, window, column = block_of(windows, CHANNELS, ROWS, COLUMNS)
    valid = (window < windows)[:, None]
    at = task * windows * CHANNELS + offsets(window, column, CHANNELS)
    by_scale, value = back_through(at, places, d_z, u, d_z_t, u_t, valid, TANGENT)
    _store_parts(parts, task, number, tl.cdiv(windows, ROWS), column, by_scale, value, CHANNELS)


@compiled
def sum_tangent(
    parts: tl.tensor,
    x: tl.tensor,
    x_t: tl.tensor,
    means: tl.tensor,
    places: tl.tensor,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    task, number, row, column = block_of(places, CHANNELS, ROWS, COLUMNS)
    valid = (row < places)[:, None]
    place = task * places * CHANNELS + offsets(row, column, CHANNELS)
    value_t = tl.load(x_t + place, valid, 0.0)
    off = tl.load(x + place, valid, 0.0) - tl.load(means + task * CHANNELS + column)[None, :]
    _store_parts(parts, task, number, tl.cdiv(places, ROWS), column, value_t, off * value_t, CHANNELS)


@compiled
def normalize_tangent(
    u_t: tl.tensor,
    z_t: tl.tensor,
    means_t: tl.tensor,
    shareds: tl.tensor,
    x_t: tl.tensor,
    place: tl.tensor,
    u: tl.tensor,
    inverses: tl.tensor,
    scales: tl.tensor,
    scale_stride: tl.tensor,
    scales_t: tl.tensor,
    scale_t_stride: tl.tensor,
    shifts_t: tl.tensor,
    shift_t_stride: tl.tensor,
    sums: tl.tensor,
    parts: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:
    windows = images * ((HEIGHT // POOL) * (WIDTH // POOL))
    places = images * (HEIGHT * WIDTH)
    task, number, window, column = block_of(windows, CHANNELS, ROWS, COLUMNS)
    inverse = tl.load(inverses + task * CHANNELS + column)
    of_x_t, of_both = _two_sums(sums, task, column, parts, CHANNELS, PARTS)
    mean_t, shared = of_x_t / places, inverse * (of_both / places)
    if number == 0:
        tl.store(means_t + task * CHANNELS + column, mean_t)
        tl.store(shareds + task * CHANNELS + column, shared)
    scale = tl.load(scales + task * scale_stride + column)[None, :]
    scale_t = tl.load(scales_t + task * scale_t_stride + column)[None, :]
    shift_t = tl.load(shifts_t + task * shift_t_stride + column)[None, :]

    valid = (window < windows)[:, None]
    result = task * windows * CHANNELS + offsets(window, column, CHANNELS)
    found = tl.load(place + result, valid, SHUT)
    image, row, left = _window(window, HEIGHT // POOL, WIDTH // POOL, POOL)
    chosen_t = tl.zeros((ROWS, COLUMNS), tl.float32)
    for other in tl.static_range(POOL * POOL):
        at, valid = _place(task, image, row, left, other, column, images, HEIGHT, WIDTH, CHANNELS, POOL)
        chosen_t = tl.where(found == other, tl.load(x_t + at, valid, 0.0), chosen_t)
    normalized = tl.load(u + result, valid, 0.0)
    moved = inverse[None, :] * (chosen_t - normalized * shared[None, :] - mean_t[None, :])
    q_t = scale_t * normalized + scale * moved + shift_t
    tl.store(u_t + result, moved, valid)
    tl.store(z_t + result, gated(q_t, found), valid)


@compiled
def spread(
    d_x: tl.tensor,
    d_scales: tl.tensor,
    d_scale_stride: tl.tensor,
    d_shifts: tl.tensor,
    d_shift_stride: tl.tensor,
    x: tl.tensor,
    d_z: tl.tensor,
    place: tl.tensor,
    means: tl.tensor,
    inverses: tl.tensor,
    scales: tl.tensor,
    scale_stride: tl.tensor,
    sums: tl.tensor,
    parts: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:
    down: tl.constexpr = (HEIGHT + POOL - 1) // POOL
    across: tl.constexpr = (WIDTH + POOL - 1) // POOL
    task, number, window, column = block_of(images * (down * across), CHANNELS, ROWS, COLUMNS)
    d_scale, d_shift = _two_sums(sums, task, column, parts, CHANNELS, PARTS)
    if number == 0:
        tl.store(d_scales + task * d_scale_stride + column, d_scale)
        tl.store(d_shifts + task * d_shift_stride + column, d_shift)
    places = images * (HEIGHT * WIDTH)
    of_task = task * CHANNELS + column
    inverse = tl.load(inverses + of_task)
    gain = tl.load(scales + task * scale_stride + column) * inverse
    of_x = -gain * inverse * d_scale / places
    constant = -gain * d_shift / places - of_x * tl.load(means + of_task)

    image, row, left = _window(window, down, across, POOL)
    pooled, chosen = _pooled(task, image, row, left, column, images, HEIGHT, WIDTH, CHANNELS, POOL)
    found = tl.load(place + pooled, chosen, SHUT)
    value = gain[None, :] * tl.load(d_z + pooled, chosen, 0.0)
    for other in tl.static_range(POOL * POOL):
        at, valid = _place(task, image, row, left, other, column, images, HEIGHT, WIDTH, CHANNELS, POOL)
        result = of_x[None, :] * tl.load(x + at, valid, 0.0) + constant[None, :]
        tl.store(d_x + at, result + tl.where(found == other, value, 0.0), valid)


@compiled
def spread_tangent(
    d_x_t: tl.tensor,
    d_scales_t: tl.tensor,
    d_scale_t_stride: tl.tensor,
    d_shifts_t: tl.tensor,
    d_shift_t_stride: tl.tensor,
    x: tl.tensor,
    x_t: tl.tensor,
    d_z: tl.tensor,
    d_z_t: tl.tensor,
    place: tl.tensor,
    means: tl.tensor,
    inverses: tl.tensor,
    scales: tl.tensor,
    scale_stride: tl.tensor,
    d_scales: tl.tensor,
    d_scale_stride: tl.tensor,
    d_shifts: tl.tensor,
    d_shift_stride: tl.tensor,
    means_t: tl.tensor,
    shareds: tl.tensor,
    scales_t: tl.tensor,
    scale_t_stride: tl.tensor,
    sums: tl.tensor,
    parts: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:
    """The tangent of `spread`; `sums` are those of `gate`'s."""
    down: tl.constexpr = (HEIGHT + POOL - 1) // POOL
    across: tl.constexpr = (WIDTH + POOL - 1) // POOL
    task, number, window, column = block_of(images * (down * across), CHANNELS, ROWS, COLUMNS)
    d_scale_t, d_shift_t = _two_sums(sums, task, column, parts, CHANNELS, PARTS)
    of_task = task * CHANNELS + column
    if number == 0:
        tl.store(d_scales_t + task * d_scale_t_stride + column, d_scale_t)
        tl.store(d_shifts_t + task * d_shift_t_stride + column, d_shift_t)
    places = images * (HEIGHT * WIDTH)
    inverse, shared = tl.load(inverses + of_task), tl.load(shareds + of_task)
    d_scale = tl.load(d_scales + task * d_scale_stride + column)
    d_shift = tl.load(d_shifts + task * d_shift_stride + column)
    gain = tl.load(scales + task * scale_stride + column) * inverse
    gain_t = inverse * (tl.load(scales_t + task * scale_t_stride + column) - gain * shared)
    of_u = (gain * inverse * shared - gain_t) * d_scale / places - gain * d_scale_t / places
    of_x, of_x_t = of_u * inverse, -gain * inverse * d_scale / places
    constant = -(gain_t * d_shift + gain * d_shift_t) / places
    constant -= of_x * tl.load(means + of_task) + of_x_t * tl.load(means_t + of_task)

    image, row, left = _window(window, down, across, POOL)
    pooled, chosen = _pooled(task, image, row, left, column, images, HEIGHT, WIDTH, CHANNELS, POOL)
    found = tl.load(place + pooled, chosen, SHUT)
    value = gain_t[None, :] * tl.load(d_z + pooled, chosen, 0.0)
    value += gain[None, :] * tl.load(d_z_t + pooled, chosen, 0.0)
    for other in tl.static_range(POOL * POOL):
        at, valid = _place(task, image, row, left, other, column, images, HEIGHT, WIDTH, CHANNELS, POOL)
        result = of_x[None, :] * tl.load(x + at, valid, 0.0) + of_x_t[None, :] * tl.load(x_t + at, valid, 0.0)
        result += constant[None, :] + tl.where(found == other, value, 0.0)
        tl.store(d_x_t + at, result, valid)

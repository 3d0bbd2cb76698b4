"""What lies between two convolutions, fused: batch norm, ReLU and max-pooling, each with its derivatives, on a CPU.

PyTorch passes over memory once for each of the three and a dozen times for their second derivatives. Here every
function passes once, with channels last, so that the channels fill the processor's vectors; Numba compiles them where
they are first called and keeps the result on disk.

A **window** is what one pooled number is the largest of: pool × pool neighbours; without pooling, one. Scaling and
shifting by batch norm keeps the order of numbers, or turns it round where the scale is negative, and ReLU keeps it: so
pooling comes first, and norm and ReLU work on a quarter of the numbers.

Names: `x` what the convolution gave, `[images, height, width, channels]`; `place` which of its window a pooled number
is; `u` the pooled numbers normalized; `z` = ReLU(scale · u + shift), the block's output; `gate` is where z > 0. A `d`
before a name is the loss's derivative by it, `_t` after it the tangent, the derivative in a direction.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Contraction fuses a product with a sum. Sums are not reordered: their order is as written, on every call.
_compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")

NINE = 9  # numbers of a 3 × 3 filter, by which patches are taken

_ROWS = 64  # rows that are added up in the arrays' own precision before they go to a total in float64


@_compiled
def moments(x: Array) -> tuple[Array, Array]:
    """Mean and variance `[channels]` of the rows of x `[rows, channels]`."""
    rows, channels = x.shape
    total, square = np.zeros(channels), np.zeros(channels)
    near = x[0].copy()  # close to the mean, so that little is lost where squares are subtracted
    part, part_square = np.empty_like(near), np.empty_like(near)
    for first in range(0, rows, _ROWS):
        part[:] = 0
        part_square[:] = 0
        for row in range(first, min(first + _ROWS, rows)):
            for c in range(channels):
                off = x[row, c] - near[c]
                part[c] += off
                part_square[c] += off * off
        for c in range(channels):
            total[c] += part[c]
            square[c] += part_square[c]
    mean, variance = np.empty_like(near), np.empty_like(near)
    for c in range(channels):
        mean[c] = near[c] + total[c] / rows
        variance[c] = square[c] / rows - (total[c] / rows) ** 2
        if variance[c] < 0:
            variance[c] = 0
    return mean, variance


@_compiled
def moments_tangent(x: Array, x_t: Array, mean: Array) -> tuple[Array, Array]:
    """Means `[channels]` of x_t, and of (x - mean) · x_t, over rows `[rows, channels]`."""
    rows, channels = x.shape
    total, total_product = np.zeros(channels), np.zeros(channels)
    part, part_product = np.empty_like(mean), np.empty_like(mean)
    for first in range(0, rows, _ROWS):
        part[:] = 0
        part_product[:] = 0
        for row in range(first, min(first + _ROWS, rows)):
            for c in range(channels):
                part[c] += x_t[row, c]
                part_product[c] += (x[row, c] - mean[c]) * x_t[row, c]
        for c in range(channels):
            total[c] += part[c]
            total_product[c] += part_product[c]
    mean_t, product = np.empty_like(mean), np.empty_like(mean)
    for c in range(channels):
        mean_t[c] = total[c] / rows
        product[c] = total_product[c] / rows
    return mean_t, product


@_compiled
def largest(x: Array, sign: Array, pool: int) -> tuple[Array, Array]:
    """Of every window the number that is largest when multiplied by its channel's sign.

    Args:
        x: `[images, height, width, channels]`.
        sign: 1 or -1, `[channels]`.
        pool: Side of a window; rows and columns left over take part in nothing.

    Returns:
        The numbers and their places, `[images, height // pool, width // pool, channels]` each.
    """
    images, height, width, channels = x.shape
    shape = (images, height // pool, width // pool, channels)
    chosen, place = np.empty(shape, x.dtype), np.zeros(shape, np.uint8)
    for image in range(images):
        for row in range(shape[1]):
            for column in range(shape[2]):
                best, places = chosen[image, row, column], place[image, row, column]
                first = x[image, row * pool, column * pool]
                for c in range(channels):
                    best[c] = first[c]
                for number in range(1, pool * pool):
                    other = x[image, row * pool + number // pool, column * pool + number % pool]
                    for c in range(channels):
                        larger = other[c] * sign[c] > best[c] * sign[c]
                        places[c] = np.uint8(number) if larger else places[c]
                        best[c] = other[c] if larger else best[c]
    return chosen, place


@_compiled
def at_places(x: Array, place: Array, pool: int) -> Array:
    """The numbers at the places that `largest` found, as place."""
    images, height, width, channels = place.shape
    chosen = np.empty(place.shape, x.dtype)
    for image in range(images):
        for row in range(height):
            for column in range(width):
                found, places = chosen[image, row, column], place[image, row, column]
                for number in range(pool * pool):
                    other = x[image, row * pool + number // pool, column * pool + number % pool]
                    for c in range(channels):
                        found[c] = other[c] if places[c] == np.uint8(number) else found[c]
    return chosen


@_compiled
def normalized(chosen: Array, mean: Array, inverse: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    """Normalize, scale and shift, and cut off below nought.

    Args:
        chosen: The pooled numbers, `[rows, channels]`.
        mean: `[channels]`.
        inverse: One over the standard deviation, `[channels]`.
        scale: `[channels]`.
        shift: `[channels]`.

    Returns:
        u and z, `[rows, channels]` each.
    """
    rows, channels = chosen.shape
    u, z = np.empty_like(chosen), np.empty_like(chosen)
    for row in range(rows):
        for c in range(channels):
            u[row, c] = (chosen[row, c] - mean[c]) * inverse[c]
            value = scale[c] * u[row, c] + shift[c]
            z[row, c] = value if value > 0 else value * 0  # not 0: what is not a number must show
    return u, z


@_compiled
def normalized_tangent(
    chosen_t: Array,
    u: Array,
    z: Array,
    of_chosen: Array,
    of_u: Array,
    constant: Array,
    scale: Array,
    scale_t: Array,
    shift_t: Array,
) -> tuple[Array, Array]:
    """u_t = of_chosen · chosen_t + of_u · u + constant, and z_t where z > 0; `[rows, channels]` each."""
    rows, channels = chosen_t.shape
    u_t, z_t = np.empty_like(chosen_t), np.empty_like(chosen_t)
    for row in range(rows):
        for c in range(channels):
            u_t[row, c] = of_chosen[c] * chosen_t[row, c] + of_u[c] * u[row, c] + constant[c]
            value = scale_t[c] * u[row, c] + scale[c] * u_t[row, c] + shift_t[c]
            z_t[row, c] = value if z[row, c] > 0 else value * 0
    return u_t, z_t


@_compiled
def normalized_backward(d_z: Array, z: Array, u: Array) -> tuple[Array, Array, Array]:
    """Back through ReLU, and to scale and shift.

    Args:
        d_z: `[rows, channels]`, as z and u.
        z: See the module.
        u: See the module.

    Returns:
        d_q `[rows, channels]`, the derivative by scale · u + shift, and those by scale and by shift, `[channels]`.
    """
    rows, channels = d_z.shape
    d_q, d_scale, d_shift = np.empty_like(d_z), np.zeros(channels, d_z.dtype), np.zeros(channels, d_z.dtype)
    for row in range(rows):
        for c in range(channels):
            value = d_z[row, c] if z[row, c] > 0 else d_z[row, c] * 0
            d_q[row, c] = value
            d_scale[c] += value * u[row, c]
            d_shift[c] += value
    return d_q, d_scale, d_shift


@_compiled
def normalized_backward_tangent(d_z_t: Array, z: Array, u: Array, u_t: Array, d_q: Array) -> tuple[Array, Array, Array]:
    """The tangents of what `normalized_backward` gives: d_q_t `[rows, channels]`, the others `[channels]`."""
    rows, channels = d_z_t.shape
    d_q_t, d_scale_t = np.empty_like(d_z_t), np.zeros(channels, d_z_t.dtype)
    d_shift_t = np.zeros(channels, d_z_t.dtype)
    for row in range(rows):
        for c in range(channels):
            value = d_z_t[row, c] if z[row, c] > 0 else d_z_t[row, c] * 0
            d_q_t[row, c] = value
            d_scale_t[c] += value * u[row, c] + d_q[row, c] * u_t[row, c]
            d_shift_t[c] += value
    return d_q_t, d_scale_t, d_shift_t


@_compiled
def spread(x: Array, place: Array, parts: Array, of_x: Array, constant: Array, pool: int) -> Array:
    """What every x gets: parts at the places that pooling chose, plus of_x · x + constant everywhere.

    That is the derivative of batch norm: what comes back to the chosen places, less what all of a channel's numbers
    share through its mean and variance.

    Args:
        x: `[images, height, width, channels]`.
        place: `[images, height // pool, width // pool, channels]`.
        parts: As place.
        of_x: `[channels]`.
        constant: `[channels]`.
        pool: Side of a window.
    """
    images, height, width, channels = x.shape
    out = np.empty_like(x)
    for image in range(images):
        for row in range(height):
            for column in range(width):
                values, result = x[image, row, column], out[image, row, column]
                for c in range(channels):
                    result[c] = of_x[c] * values[c] + constant[c]
                if row // pool < place.shape[1] and column // pool < place.shape[2]:
                    number = np.uint8(row % pool * pool + column % pool)
                    chosen = place[image, row // pool, column // pool]
                    part = parts[image, row // pool, column // pool]
                    for c in range(channels):
                        result[c] += part[c] if chosen[c] == number else part[c] * 0
    return out


@_compiled
def spread_tangent(
    x: Array, x_t: Array, place: Array, parts: Array, of_x: Array, of_x_t: Array, constant: Array, pool: int
) -> Array:
    """As `spread`, plus of_x_t · x_t."""
    images, height, width, channels = x.shape
    out = np.empty_like(x)
    for image in range(images):
        for row in range(height):
            for column in range(width):
                values, values_t = x[image, row, column], x_t[image, row, column]
                result = out[image, row, column]
                for c in range(channels):
                    result[c] = of_x[c] * values[c] + of_x_t[c] * values_t[c] + constant[c]
                if row // pool < place.shape[1] and column // pool < place.shape[2]:
                    number = np.uint8(row % pool * pool + column % pool)
                    chosen = place[image, row // pool, column // pool]
                    part = parts[image, row // pool, column // pool]
                    for c in range(channels):
                        result[c] += part[c] if chosen[c] == number else part[c] * 0
    return out


@_compiled
def largest_product(windows: Array, weight: Array, sign: Array) -> tuple[Array, Array]:
    """As `largest`, of x = patch · weight, which is computed on the way and nowhere kept.

    Args:
        windows: Patches `[windows, pool · pool, K]`; K is a multiple of `NINE`.
        weight: `[K, channels]`.
        sign: 1 or -1, `[channels]`.

    Returns:
        The numbers and their places, `[windows, channels]` each.
    """
    count, places, _ = windows.shape
    channels = weight.shape[1]
    chosen, place = np.empty((count, channels), weight.dtype), np.zeros((count, channels), np.uint8)
    x = np.empty(channels, weight.dtype)
    for window in range(count):
        best, found = chosen[window], place[window]
        for number in range(places):
            _product(windows[window, number], weight, x)
            for c in range(channels):
                larger = number == 0 or x[c] * sign[c] > best[c] * sign[c]
                found[c] = np.uint8(number) if larger else found[c]
                best[c] = x[c] if larger else best[c]
    return chosen, place


@_compiled
def product_at_places(windows: Array, weight: Array, place: Array) -> Array:
    """The products of patch and weight at the places that `largest_product` found, `[windows, channels]`."""
    count, places, _ = windows.shape
    channels = weight.shape[1]
    chosen, x = np.zeros((count, channels), weight.dtype), np.empty(channels, weight.dtype)
    for window in range(count):
        for number in range(places):
            _product(windows[window, number], weight, x)
            for c in range(channels):
                chosen[window, c] += x[c] if place[window, c] == np.uint8(number) else x[c] * 0
    return chosen


@_compiled
def product_by_weight(windows: Array, place: Array, parts: Array) -> Array:
    """The derivative by the weight `[K, channels]` of Σ parts · (patch · weight at the places)."""
    count, places, size = windows.shape
    channels = parts.shape[1]
    out, part = np.zeros((size, channels), parts.dtype), np.empty(channels, parts.dtype)
    for window in range(count):
        for number in range(places):
            for c in range(channels):
                part[c] = parts[window, c] if place[window, c] == np.uint8(number) else parts[window, c] * 0
            for k in range(size):
                value = windows[window, number, k]
                for c in range(channels):
                    out[k, c] += value * part[c]
    return out


@_compiled
def _product(patch: Array, weight: Array, x: Array) -> None:
    """The product of patch and weight, nine rows at a time: summed in registers, it takes half the time."""
    for k in range(0, len(patch), NINE):
        a, b, c, d, e = patch[k], patch[k + 1], patch[k + 2], patch[k + 3], patch[k + 4]
        f, g, h, i = patch[k + 5], patch[k + 6], patch[k + 7], patch[k + 8]
        for j in range(len(x)):
            value = a * weight[k, j] + b * weight[k + 1, j] + c * weight[k + 2, j]
            value += d * weight[k + 3, j] + e * weight[k + 4, j] + f * weight[k + 5, j]
            value += g * weight[k + 6, j] + h * weight[k + 7, j] + i * weight[k + 8, j]
            x[j] = value if k == 0 else x[j] + value

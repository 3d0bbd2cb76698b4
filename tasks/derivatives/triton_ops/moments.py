"""Means and variances of channels in parts, and their combination.

Of every block of places stand its mean and the sum of squares about that mean, which combine to those of all places
without the loss of a difference of large numbers (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample
variance"). They are written by what has the numbers at hand, a convolution.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

from typing import NamedTuple

import triton.language as tl
from torch import Tensor

from fanfold.tasks.derivatives.triton_ops.launches import PARTS, compiled, divisor, launch


class Moments(NamedTuple):
    """Means and variances of channels, by blocks of places."""

    parts: Tensor  # `[tasks, blocks, 2, channels]`: means, and sums of squares about them
    rows: int  # places of a block; the last has what is left
    places: int  # of a task, in all


def few_moments(found: Moments) -> Moments:
    """As they are, or combined to those of one block where there are more blocks than `PARTS`."""
    tasks, blocks, _, channels = found.parts.shape
    if blocks <= PARTS:
        return found
    parts, columns = found.parts.new_empty(tasks, 1, 2, channels), divisor(channels, 16)
    constants = {"CHANNELS": channels, "COLUMNS": columns, "PARTS": PARTS}
    launch(_fold_moments, tasks * (channels // columns), parts, *found, **constants)
    return Moments(parts, found.places, found.places)


@compiled
def store_moments(
    part: tl.tensor, values: tl.tensor, valid: tl.tensor, count: tl.tensor, CHANNELS: tl.constexpr
) -> None:
    """For kernels: write a block's part, of values `[rows, columns]`; rows that are not valid are zeros."""
    mean = tl.sum(values, 0) / count
    off = tl.where(valid[:, None], values - mean[None, :], 0.0)
    tl.store(part, mean)
    tl.store(part + CHANNELS, tl.sum(off * off, 0))


@compiled
def _fold_moments(
    folded: tl.tensor,
    parts: tl.tensor,
    rows: tl.tensor,
    places: tl.tensor,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:
    columns: tl.constexpr = CHANNELS // COLUMNS
    task = (tl.program_id(0) // columns).to(tl.int64)
    column = tl.program_id(0) % columns * COLUMNS + tl.arange(0, COLUMNS)
    mean, squares = combined(parts, task, column, rows, places, CHANNELS, PARTS)
    tl.store(folded + task * (2 * CHANNELS) + column, mean)
    tl.store(folded + task * (2 * CHANNELS) + CHANNELS + column, squares)


@compiled
def combined(
    parts: tl.tensor,
    task: tl.tensor,
    column: tl.tensor,
    rows: tl.tensor,
    places: tl.tensor,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """For kernels: a task's means, and sums of squares about them, of some columns."""
    blocks = tl.cdiv(places, rows)
    part = parts + task * blocks * (2 * CHANNELS) + column[None, :]
    total = tl.zeros_like(column).to(tl.float32)
    for first in range(0, blocks, PARTS):
        block = first + tl.arange(0, PARTS)
        count = tl.maximum(tl.minimum(places - block * rows, rows), 0)[:, None]
        total += tl.sum(count * tl.load(part + block[:, None] * (2 * CHANNELS), count > 0, 0.0), 0)
    mean = total / places
    squares = tl.zeros_like(mean)
    for first in range(0, blocks, PARTS):
        block = first + tl.arange(0, PARTS)
        count = tl.maximum(tl.minimum(places - block * rows, rows), 0)[:, None]
        of_block = part + block[:, None] * (2 * CHANNELS)
        off = tl.load(of_block, count > 0, 0.0) - mean[None, :]
        squares += tl.sum(tl.load(of_block + CHANNELS, count > 0, 0.0) + count * off * off, 0)
    return mean, squares

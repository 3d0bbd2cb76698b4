"""Shared by all kernels for a GPU: how they are compiled and launched, and sums whose order never changes.

A sum over all places is taken in parts, one by each block of a kernel. Parts are written out and added up afterwards in
their order, by the kernel that needs the sum where they are few, and by `folded` where they are many.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from fanfold.data.errors import FanfoldError

PARTS = 32  # parts that a kernel which needs their sum adds up itself


def compiled(function: Callable[..., Any]) -> Any:
    """A kernel, or a function that kernels call, compiled for its arguments where it is first launched."""
    return triton.jit(function)


def launch(
    kernel: Any,
    blocks: int,
    *arguments: Any,
    warps: int = 4,
    stages: int = 1,
    contracted: int = True,
    **constants: Any,
) -> None:
    """Run so many blocks of a kernel, of so many warps each, which load so many turns of a loop at a time.

    Contracted, what is added to a product is rounded once with it, by any version of Triton; otherwise twice, as NumPy
    does. The kernel is compiled for its constants.
    """
    kernel[(blocks,)](*arguments, **constants, num_warps=warps, num_stages=stages, enable_fp_fusion=bool(contracted))


def task_stride(values: Tensor) -> int:
    """How many numbers one task's part of `[tasks, …]` is from the next one's; 0 where all share one, `[1, …]`.

    Each part is contiguous; parts may lie apart, as in the vectors of all parameters.
    """
    if not values[0].is_contiguous():
        raise FanfoldError(f"Each task's part of a tensor {list(values.shape)} must be contiguous: copy it first.")
    return values.stride(0) if len(values) > 1 else 0


def divisor(number: int, limit: int) -> int:
    """The largest power of two that divides a number, up to a limit."""
    return min(number & -number, limit)


def few(parts: Tensor) -> Tensor:
    """Parts `[tasks, parts, …]`: as they are, or where there are more than `PARTS`, their sum as the one part."""
    return parts if parts.shape[1] <= PARTS else folded(parts).unsqueeze(1)


def folded(parts: Tensor) -> Tensor:
    """The sums `[tasks, …]` of parts `[tasks, parts, …]`."""
    tasks, count = parts.shape[:2]
    sums = parts.new_empty(tasks, *parts.shape[2:])
    numbers = sums[0].numel()
    launch(_fold, tasks * triton.cdiv(numbers, 64), sums, parts, count, numbers, PARTS=PARTS, BLOCK=64)
    return sums


@compiled
def block_of(
    places: tl.tensor, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """For kernels: a block's task, its number within the task, its places, and its channels."""
    columns: tl.constexpr = CHANNELS // COLUMNS
    block, column = tl.program_id(0) // columns, tl.program_id(0) % columns * COLUMNS + tl.arange(0, COLUMNS)
    blocks = tl.cdiv(places, ROWS)
    number = block % blocks
    return (block // blocks).to(tl.int64), number, number * ROWS + tl.arange(0, ROWS), column


@compiled
def offsets(row: tl.tensor, column: tl.tensor, CHANNELS: tl.constexpr) -> tl.tensor:
    """For kernels: where places of channels are in feature maps, `[rows, columns]`.

    A thread takes four channels: 16 bytes of numbers, as much as it reads at a time. Of the places of maxima, which are
    bytes, it would take 16, and then of the numbers as well, far from its neighbours' and too many for its registers.
    """
    return tl.max_contiguous(row[:, None] * CHANNELS + column[None, :], (1, 4))


@compiled
def _fold(
    sums: tl.tensor, parts: tl.tensor, count: tl.tensor, numbers: tl.tensor, PARTS: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    blocks = tl.cdiv(numbers, BLOCK)
    task = (tl.program_id(0) // blocks).to(tl.int64)
    number = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((PARTS, BLOCK), tl.float32)
    for first in range(0, count, PARTS):
        part = first + tl.arange(0, PARTS)
        inside = (part < count)[:, None] & (number < numbers)[None, :]
        total += tl.load(parts + task * count * numbers + part[:, None] * numbers + number[None, :], inside, 0.0)
    tl.store(sums + task * numbers + number, tl.sum(total, 0), number < numbers)


@compiled
def summed(
    parts: tl.tensor, task: tl.tensor, number: tl.tensor, numbers: tl.tensor, count: tl.tensor, PARTS: tl.constexpr
) -> tl.tensor:
    """For kernels: a task's sums of up to `PARTS` parts, of some of `numbers` numbers."""
    part = tl.arange(0, PARTS)
    places = parts + task * count * numbers + part[:, None] * numbers + number[None, :]
    return tl.sum(tl.load(places, (part < count)[:, None], 0.0), 0)

"""The functions of `tasks.derivatives.torch_ops.vectors` as kernels for a GPU."""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

import triton
import triton.language as tl
from torch import Tensor

from fanfold.tasks.derivatives.triton_ops.launches import compiled, launch

TASKS, BLOCK = 8, 128  # tasks, and places of their vectors, at a time


def total(directions: Tensor, along: Tensor | None, rate: float, there: Tensor, back: Tensor) -> Tensor:
    tasks, places = directions.shape
    found = directions.new_empty(len(back))
    arguments = found, directions, directions if along is None else along, there, float(rate), tasks, places, len(back)
    launch(_total, triton.cdiv(places, BLOCK), *arguments, ALONG=along is not None, TASKS=TASKS, BLOCK=BLOCK)
    return found


@compiled
def _total(
    totals: tl.tensor,
    directions: tl.tensor,
    along: tl.tensor,
    there: tl.tensor,
    rate: tl.tensor,
    tasks: tl.tensor,
    places: tl.tensor,
    numbers: tl.tensor,
    ALONG: tl.constexpr,
    TASKS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    number = tl.load(there + place, place < places, numbers)
    total = tl.zeros((TASKS, BLOCK), tl.float32)
    for first in range(0, tasks, TASKS):
        task = first + tl.arange(0, TASKS)
        at = task[:, None].to(tl.int64) * places + place[None, :]
        valid = (task < tasks)[:, None] & (place < places)[None, :]
        moved = tl.load(directions + at, valid, 0.0)
        if ALONG:
            moved -= rate * tl.load(along + at, valid, 0.0)
        total += moved
    tl.store(totals + number, tl.sum(total, 0), number < numbers)

"""The functions of `tasks.derivatives.torch_ops.cross_entropy` as kernels for a GPU.

One launch has all that follows from the logits: probabilities, derivatives, losses and accuracies; another the tangent.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fanfold.tasks.derivatives.triton_ops.launches import compiled, launch

ROWS = 16  # images at a time


class Loss(NamedTuple):
    probabilities: Tensor  # `[tasks, n, ways]`
    d_logits: Tensor  # `[tasks, n, ways]`
    losses: Tensor  # `[tasks]`
    accuracies: Tensor  # float64 `[tasks]`


def targets(labels: Tensor, ways: int, like: Tensor) -> Tensor:
    return labels


def forward(logits: Tensor, targets: Tensor) -> Loss:
    tasks, rows, ways = logits.shape
    loss = Loss(
        torch.empty_like(logits),
        torch.empty_like(logits),
        logits.new_empty(tasks),
        logits.new_empty(tasks, dtype=torch.float64),
    )
    launch(_cross_entropy, tasks, *loss, logits, targets, rows, **_constants(ways))
    return loss


def d_logits(loss: Loss) -> Tensor:
    return loss.d_logits


def d_logits_t(loss: Loss, logits_t: Tensor) -> Tensor:
    tasks, rows, ways = logits_t.shape
    found = torch.empty_like(logits_t)
    blocks = tasks * triton.cdiv(rows, ROWS)
    launch(_tangent, blocks, found, loss.probabilities, logits_t, rows, **_constants(ways))
    return found


def losses_and_accuracies(loss: Loss) -> tuple[Tensor, Tensor]:
    return loss.losses, loss.accuracies


def _constants(ways: int) -> dict[str, int]:
    return {"WAYS": ways, "ROWS": ROWS, "COLUMNS": triton.next_power_of_2(ways)}


@compiled
def _cross_entropy(
    probabilities: tl.tensor,
    d_logits: tl.tensor,
    losses: tl.tensor,
    accuracies: tl.tensor,
    logits: tl.tensor,
    labels: tl.tensor,
    rows: tl.tensor,
    WAYS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    task, way = tl.program_id(0).to(tl.int64), tl.arange(0, COLUMNS)
    loss, right = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float64)
    for first in range(0, rows, ROWS):
        row = first + tl.arange(0, ROWS)
        at = task * rows * WAYS + row[:, None] * WAYS + way[None, :]
        valid = (row < rows)[:, None] & (way < WAYS)[None, :]
        # A row that isn't there has zeros, so that nothing overflows.
        given = tl.load(logits + at, valid, 0.0)
        given = tl.where((way < WAYS)[None, :], given, float("-inf"))
        largest = tl.max(given, 1)
        shifted = given - largest[:, None]
        powers = tl.exp(shifted)
        total = tl.sum(powers, 1)
        probability = powers / total[:, None]
        label = tl.load(labels + row, row < rows, 0)
        own = way[None, :] == label[:, None]
        tl.store(probabilities + at, probability, valid)
        tl.store(d_logits + at, (probability - own.to(tl.float32)) / rows, valid)
        of_row = tl.log(total) - tl.sum(tl.where(own, shifted, 0.0), 1)
        loss += tl.where(row < rows, of_row, 0.0)
        hit = tl.argmax(given, 1) == label
        right += tl.where((row < rows) & hit, 1.0, 0.0)
    tl.store(losses + task, tl.sum(loss, 0) / rows)
    tl.store(accuracies + task, tl.sum(right, 0) / rows)


@compiled
def _tangent(
    d_logits_t: tl.tensor,
    probabilities: tl.tensor,
    logits_t: tl.tensor,
    rows: tl.tensor,
    WAYS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    way, blocks = tl.arange(0, COLUMNS), tl.cdiv(rows, ROWS)
    task = (tl.program_id(0) // blocks).to(tl.int64)
    row = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    at = task * rows * WAYS + row[:, None] * WAYS + way[None, :]
    valid = (row < rows)[:, None] & (way < WAYS)[None, :]
    p, moved = tl.load(probabilities + at, valid, 0.0), tl.load(logits_t + at, valid, 0.0)
    tl.store(d_logits_t + at, p * (moved - tl.sum(p * moved, 1)[:, None]) / rows, valid)

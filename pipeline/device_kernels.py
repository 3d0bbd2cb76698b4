"""The meta-iteration's own kernels for a GPU: the meta-optimizer's step, and what a chunk's tasks showed.

A step's are the bits of `pipeline.optimizer.moved` on the host.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

import torch
import triton
import triton.language as tl
from torch import Tensor

from fanfold.pipeline.fold import ChunkSum
from fanfold.pipeline.optimizer import BETA1, BETA2, EPSILON, REST1, REST2, Vectors
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.algorithm import MetaGradient
from fanfold.tasks.derivatives.triton_ops.launches import compiled, launch

BLOCK = 512  # parameters that a block steps
LOOKED_AT = 4096  # numbers of a gradient of which a block says whether they are finite


def step(own: Vectors, total: ChunkSum, rates: Tensor, sums: Tensor, at: Tensor, meta: Meta) -> None:
    """Step vectors in place by a meta-batch's sum; note its loss and accuracy.

    Args:
        own: The vectors.
        total: The meta-batch's sum.
        rates: Of some iterations, `[iterations, rates]`, see `pipeline.optimizer.Rates`.
        sums: Losses and accuracies of some iterations, float64 `[iterations, 2]`.
        at: The current iteration's place among them, int64 `[1]`.
        meta: How to step.
    """
    count = len(own.parameters)
    launch(
        _step,
        triton.cdiv(count, BLOCK),
        *own,
        total.gradient,
        rates,
        sums,
        total.loss,
        total.accuracy,
        at,
        float(meta.batch),
        meta.clip or 0.0,
        count,
        CLIP=meta.clip is not None,
        DECAY=meta.weight_decay != 0,
        ADAM=meta.optimizer == "adam",
        AVERAGE=meta.average != 0,
        BETA1=BETA1,
        REST1=REST1,
        BETA2=BETA2,
        REST2=REST2,
        EPSILON=EPSILON,
        BLOCK=BLOCK,
        contracted=False,
    )


def facts(found: MetaGradient, broken: Tensor, overflowed: Tensor, at: Tensor) -> Tensor:
    """The sums of a chunk's losses and accuracies, float64 `[2]`; and note what is not finite.

    Args:
        found: The chunk's.
        broken: Of some iterations, uint8 `[iterations, tasks]`: gets 1 where a task's loss is not finite, else 0.
        overflowed: Likewise `[iterations, parts]`, where a part of the gradient isn't; see `parts_of`.
        at: The current iteration's place among them, int64 `[1]`.
    """
    tasks, count = len(found.losses), len(found.gradient)
    sums = found.gradient.new_empty(2, dtype=torch.float64)
    noted = broken, broken.stride(0), overflowed, overflowed.stride(0), at
    given = found.gradient, found.losses, found.accuracies, tasks, count
    constants = {"TASKS": triton.next_power_of_2(tasks), "BLOCK": LOOKED_AT}
    launch(_facts, parts_of(count), sums, *noted, *given, **constants)
    return sums


def sums_of(found: MetaGradient) -> Tensor:
    """The sums of a chunk's losses and accuracies, float64 `[2]`: the bits of `facts`."""
    device, parts = found.gradient.device, parts_of(len(found.gradient))
    broken = torch.empty(1, max(parts, len(found.losses)), dtype=torch.uint8, device=device)
    return facts(found, broken, torch.empty_like(broken), torch.zeros(1, dtype=torch.int64, device=device))


def parts_of(count: int) -> int:
    """Parts in which a gradient of so many numbers is looked at."""
    return int(triton.cdiv(count, LOOKED_AT))


@compiled
def _step(
    parameters: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    averages: tl.tensor,
    gradients: tl.tensor,
    rates: tl.tensor,
    sums: tl.tensor,
    loss: tl.tensor,
    accuracy: tl.tensor,
    at: tl.tensor,
    batch: tl.tensor,
    clip: tl.tensor,
    count: tl.tensor,
    CLIP: tl.constexpr,
    DECAY: tl.constexpr,
    ADAM: tl.constexpr,
    AVERAGE: tl.constexpr,
    BETA1: tl.constexpr,
    REST1: tl.constexpr,
    BETA2: tl.constexpr,
    REST2: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    iteration = tl.load(at)
    rate = rates + iteration * 4  # in the order of `pipeline.optimizer.Rates`
    if tl.program_id(0) == 0:
        tl.store(sums + iteration * 2, tl.load(loss))
        tl.store(sums + iteration * 2 + 1, tl.load(accuracy))
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = place < count
    gradient = tl.div_rn(tl.load(gradients + place, valid, 0.0), tl.zeros((BLOCK,), tl.float32) + batch)
    if CLIP:
        gradient = tl.clamp(gradient, -clip, clip, propagate_nan=tl.PropagateNan.ALL)
    before = tl.load(parameters + place, valid, 0.0)
    if DECAY:
        before = tl.load(rate + 3) * before
    moved = tl.load(rate) * gradient
    if ADAM:
        mean = BETA1 * tl.load(means + place, valid, 0.0) + REST1 * gradient
        square = BETA2 * tl.load(squares + place, valid, 0.0) + REST2 * gradient * gradient
        moved = tl.div_rn(tl.load(rate) * mean, tl.sqrt_rn(square * tl.load(rate + 1)) + EPSILON)
        tl.store(means + place, mean, valid)
        tl.store(squares + place, square, valid)
    after = before - moved
    tl.store(parameters + place, after, valid)
    average = after
    if AVERAGE:
        kept = tl.load(rate + 2)
        average = kept * tl.load(averages + place, valid, 0.0) + (1 - kept) * after
    tl.store(averages + place, average, valid)


@compiled
def _facts(
    sums: tl.tensor,
    broken: tl.tensor,
    broken_stride: tl.tensor,
    overflowed: tl.tensor,
    overflowed_stride: tl.tensor,
    at: tl.tensor,
    gradients: tl.tensor,
    losses: tl.tensor,
    accuracies: tl.tensor,
    tasks: tl.tensor,
    count: tl.tensor,
    TASKS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    iteration, block = tl.load(at), tl.program_id(0)
    place = block * BLOCK + tl.arange(0, BLOCK)
    gradient = tl.load(gradients + place, place < count, 0.0)
    infinite = tl.where(gradient - gradient == 0, 0, 1)
    tl.store(overflowed + iteration * overflowed_stride + block, tl.max(infinite, 0).to(tl.uint8))
    if block == 0:
        task = tl.arange(0, TASKS)
        loss = tl.load(losses + task, task < tasks, 0.0)
        lost = tl.where(loss - loss == 0, 0, 1).to(tl.uint8)
        tl.store(broken + iteration * broken_stride + task, lost, task < tasks)
        tl.store(sums, tl.sum(loss.to(tl.float64), 0))
        tl.store(sums + 1, tl.sum(tl.load(accuracies + task, task < tasks, 0.0).to(tl.float64), 0))

"""MAML's meta-gradient with every derivative written out, vectorized over tasks; see `tasks.algorithms.maml`.

The query loss's gradient v at θ_S goes back through the inner steps, v ← v - α · H(θₛ) · v, with H the Hessian of the
support loss: with the step's intermediate results kept (`reverse`), or computed once more (`mixed`). Nothing waits for
the device, so that all of it can be captured as one CUDA graph.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fanfold.tasks.algorithm import MetaGradient, sum_parts
from fanfold.tasks.algorithms.support_loss import Order
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.derivatives.protocol import Kept, Patches
from fanfold.tasks.derivatives.stack import Pass, Stack

Operands = Sequence[Tensor]  # parameters, or what moves with them; see `tasks.derivatives.stack.Layout`


class Loss(NamedTuple):
    """The mean cross-entropy of images at some parameters, with the intermediate results of its derivatives."""

    of_logits: Kept  # see `tasks.derivatives.protocol.Losses`
    kept: Sequence[Kept]  # the stack's intermediate results

    def gradient(self, stack: Stack) -> tuple[Operands, Pass]:
        """The gradient `[tasks, …]`, and the stack's pass."""
        return stack.gradient(self.kept, stack.operations.loss.d_logits(self.of_logits))

    def hessian_times(self, stack: Stack, both: Pass, direction: Operands, summed: bool) -> Operands:
        """H · v, `[tasks, …]`, for directions v `[tasks, …]`; summed over the tasks, `[1, …]`."""
        logits_t, forth = stack.tangent(both, stack.layout.split(direction))
        return stack.products(both, forth, stack.operations.loss.d_logits_t(self.of_logits, logits_t), summed)


def meta_gradient(
    stack: Stack, parameters: Tensor, tasks: TaskBatch, rate: float, steps: int, order: Order, at_once: int
) -> MetaGradient:
    """The tasks' summed meta-gradient. Each operation computes at most `at_once` tasks."""
    theta, targets = stack.layout.lay_out(parameters.detach()), _targets(stack, tasks, parameters)
    return sum_parts(_meta_gradient(stack, theta, part, targets, rate, steps, order) for part in tasks.parts(at_once))


def logits(stack: Stack, parameters: Tensor, tasks: TaskBatch, rate: float, steps: int) -> Tensor:
    """The queries' logits `[tasks, queries, ways]` after some inner steps on the support sets."""
    support, (targets, _) = stack.first.patches(tasks.support), _targets(stack, tasks, parameters)
    theta: Operands = stack.layout.lay_out(parameters.detach())
    for _ in range(steps):
        gradient, _ = _loss(stack, theta, support, targets).gradient(stack)
        theta = _step(theta, gradient, rate)
    found, _ = stack.forward(stack.layout.split(theta), stack.first.patches(tasks.query))
    return found


def _meta_gradient(
    stack: Stack,
    theta: Operands,
    tasks: TaskBatch,
    targets: tuple[Kept, Kept],
    rate: float,
    steps: int,
    order: Order,
) -> MetaGradient:
    """The meta-gradient of one part of the tasks, from θ `[1, …]`."""
    support, passed = stack.first.patches(tasks.support), []
    of_support, of_query = targets
    for _ in range(steps):
        loss = _loss(stack, theta, support, of_support)
        gradient, both = loss.gradient(stack)
        if order != "first":
            passed.append((theta, (loss, both) if order == "reverse" else None))
        theta = _step(theta, gradient, rate)

    query_loss = _loss(stack, theta, stack.first.patches(tasks.query), of_query)
    direction, _ = query_loss.gradient(stack)
    products: Operands | None = None
    for step, (theta, kept) in reversed(list(enumerate(passed))):
        if kept is None:
            loss = _loss(stack, theta, support, of_support)
            kept = loss, loss.gradient(stack)[1]
        loss, both = kept
        last = step == 0  # on the way back: from here on, only the sum over the tasks is needed
        products = loss.hessian_times(stack, both, direction, summed=last and stack.layout.summed)
        if not last:
            direction = _step(direction, products, rate)
    facts = stack.operations.loss.losses_and_accuracies(query_loss.of_logits)
    return MetaGradient(stack.layout.total(direction, products, rate), *facts)


def _targets(stack: Stack, tasks: TaskBatch, like: Tensor) -> tuple[Kept, Kept]:
    """The targets of support and query images, see `tasks.derivatives.protocol.Losses`."""
    targets = stack.operations.loss.targets
    return targets(tasks.support_labels, tasks.ways, like), targets(tasks.query_labels, tasks.ways, like)


def _loss(stack: Stack, theta: Operands, images: Patches, targets: Kept) -> Loss:
    """The loss at parameters `[tasks, …]`, or `[1, …]` for all tasks."""
    outputs, kept = stack.forward(stack.layout.split(theta), images)
    return Loss(stack.operations.loss.forward(outputs, targets), kept)


def _step(values: Operands, along: Operands, rate: float) -> Operands:
    """The values moved by -rate · along."""
    return [torch.sub(value, part, alpha=rate) for value, part in zip(values, along, strict=True)]

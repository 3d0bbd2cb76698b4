"""MAML's meta-gradient with every derivative written out, vectorized over tasks; see `tasks.algorithms.maml`.

The query loss's gradient v at θ_S goes back through the inner steps, v ← v - α · H(θₛ) · v, with H the Hessian of the
support loss: with the step's intermediate results kept (`reverse`), or computed once more (`mixed`). Nothing waits for
the device, so that all of it can be captured as one CUDA graph.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from fanfold.tasks.algorithm import MetaGradient, sum_parts
from fanfold.tasks.algorithms.support_loss import Order
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.derivatives.protocol import Kept, Patches
from fanfold.tasks.derivatives.stack import Pass, Stack

Operands = Sequence[Tensor]  # parameters, or what moves with them; see `tasks.derivatives.stack.Layout`


class Loss(NamedTuple):
    """The mean cross-entropy of images at some parameters, with the intermediate results of its derivatives.

    Args:
        logits: `[tasks, n, ways]`.
        probabilities: The logits' softmax.
        kept: The stack's intermediate results.
        targets: `[n, ways]`: one at each image's label, zero elsewhere.
    """

    logits: Tensor
    probabilities: Tensor
    kept: Sequence[Kept]
    targets: Tensor

    def gradient(self, stack: Stack) -> tuple[Operands, Pass]:
        """The gradient `[tasks, …]`, and the stack's pass."""
        found, both = stack.backward(self.kept, (self.probabilities - self.targets) / len(self.targets))
        return stack.layout.join(found), both

    def hessian_times(self, stack: Stack, both: Pass, direction: Operands, summed: bool) -> Operands:
        """H · v, `[tasks, …]`, for directions v `[tasks, …]`; summed over the tasks, `[1, …]`."""
        logits_t, forth = stack.tangent(both, stack.layout.split(direction))
        p = self.probabilities
        d_logits_t = p * (logits_t - (p * logits_t).sum(2, keepdim=True)) / len(self.targets)
        return stack.layout.join(stack.backward_tangent(both, forth, d_logits_t, summed))


def meta_gradient(
    stack: Stack, parameters: Tensor, tasks: TaskBatch, rate: float, steps: int, order: Order, at_once: int
) -> MetaGradient:
    """The tasks' summed meta-gradient.

    Args:
        stack: The network.
        parameters: The meta-parameters `[P]`.
        tasks: The tasks.
        rate: Inner learning rate.
        steps: Inner steps.
        order: `first`, or how the exact meta-gradient goes through the steps.
        at_once: The most tasks that each operation computes.
    """
    theta, targets = stack.layout.lay_out(parameters.detach()), _targets(tasks, parameters)
    return sum_parts(_meta_gradient(stack, theta, part, targets, rate, steps, order) for part in tasks.parts(at_once))


def logits(stack: Stack, parameters: Tensor, tasks: TaskBatch, rate: float, steps: int) -> Tensor:
    """The queries' logits `[tasks, queries, ways]` after some inner steps on the support sets."""
    support, (targets, _) = stack.first.patches(tasks.support), _targets(tasks, parameters)
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
    targets: tuple[Tensor, Tensor],
    rate: float,
    steps: int,
    order: Order,
) -> MetaGradient:
    """See `meta_gradient`: of one part of the tasks, from θ `[1, …]`."""
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
    for step, (theta, kept) in reversed(list(enumerate(passed))):
        if kept is None:
            loss = _loss(stack, theta, support, of_support)
            kept = loss, loss.gradient(stack)[1]
        loss, both = kept
        last = step == 0  # on the way back: from here on, only the sum over the tasks is needed
        products = loss.hessian_times(stack, both, direction, summed=last)
        direction = _step(_summed(direction) if last else direction, products, rate)
    summed = stack.layout.restore(_summed(direction))
    return MetaGradient(summed, *_losses_and_accuracies(query_loss.logits, tasks.query_labels))


def _targets(tasks: TaskBatch, like: Tensor) -> tuple[Tensor, Tensor]:
    """The targets of support and query images, see `Loss`, in the precision of a tensor."""
    support, query = (one_hot(labels, tasks.ways).to(like) for labels in (tasks.support_labels, tasks.query_labels))
    return support, query


def _loss(stack: Stack, theta: Operands, images: Patches, targets: Tensor) -> Loss:
    """The loss at parameters `[tasks, …]`, or `[1, …]` for all tasks."""
    outputs, kept = stack.forward(stack.layout.split(theta), images)
    return Loss(outputs, outputs.softmax(2), kept, targets)


def _step(values: Operands, along: Operands, rate: float) -> Operands:
    """The values moved by -rate · along."""
    return [torch.sub(value, part, alpha=rate) for value, part in zip(values, along, strict=True)]


def _summed(operands: Operands) -> Operands:
    """The sums over the tasks, `[1, …]`."""
    return [part.sum(0, keepdim=True) if part.shape[0] > 1 else part for part in operands]


def _losses_and_accuracies(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each task's, `[tasks]`."""
    each = nll_loss(logits.log_softmax(2).transpose(1, 2), labels.expand(len(logits), -1), reduction="none")
    return each.mean(1), (logits.argmax(2) == labels).double().mean(1)

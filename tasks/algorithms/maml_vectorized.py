"""MAML's meta-gradient for several tasks side by side, every derivative written out; see `tasks.algorithms.maml`.

The query loss's gradient v at θ_S goes back through the inner steps, v ← v - α · H(θₛ) · v, with H the Hessian of the
support loss: by what was kept of the step (`reverse`), or by what is computed once more (`mixed`). Nothing waits for
the device, so that all of it can be captured as one CUDA graph.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from fanfold.tasks.algorithm import MetaGradient
from fanfold.tasks.algorithms.support_loss import Order
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.derivatives.passes import Kept, Pass
from fanfold.tasks.derivatives.stack import Stack
from fanfold.tasks.derivatives.torch_ops.first import Seen


class Judged(NamedTuple):
    """Some images' loss at some parameters, and what its derivatives take from there.

    Args:
        logits: `[tasks, n, ways]`.
        probabilities: Their softmax.
        kept: What the stack's layers kept.
        wanted: `[n, ways]`, one for each image's label.
    """

    logits: Tensor
    probabilities: Tensor
    kept: Sequence[Kept]
    wanted: Tensor

    def gradient(self, stack: Stack) -> tuple[Tensor, Pass]:
        """The mean cross-entropy's, `[tasks, W]`, and the stack's pass."""
        return stack.backward(self.kept, (self.probabilities - self.wanted) / len(self.wanted))

    def hessian_times(self, stack: Stack, both: Pass, direction: Tensor, summed: bool) -> Tensor:
        """H · v, `[tasks, W]`, for directions `[tasks, W]`; summed over the tasks, `[1, W]`."""
        logits_t, forth = stack.tangent(both, direction)
        p = self.probabilities
        d_logits_t = p * (logits_t - (p * logits_t).sum(2, keepdim=True)) / len(self.wanted)
        return stack.backward_tangent(both, forth, d_logits_t, summed)


def meta_gradient(
    stack: Stack, parameters: Tensor, tasks: TaskBatch, rate: float, steps: int, order: Order
) -> MetaGradient:
    """The summed meta-gradient of some tasks.

    Args:
        stack: The network.
        parameters: The meta-parameters `[P]`.
        tasks: The tasks.
        rate: Inner learning rate.
        steps: Inner steps.
        order: `first`, or how the exact meta-gradient goes through the steps.
    """
    support = stack.first.seen(tasks.support)
    theta, passed = stack.layout.lay_out(parameters), []
    for _ in range(steps):
        judged = _judge(stack, theta, support, tasks.support_labels, tasks.ways)
        gradient, both = judged.gradient(stack)
        if order != "first":
            passed.append((theta, (judged, both) if order == "reverse" else None))
        theta = torch.sub(theta, gradient, alpha=rate)

    asked = _judge(stack, theta, stack.first.seen(tasks.query), tasks.query_labels, tasks.ways)
    direction, _ = asked.gradient(stack)
    for step, (theta, kept) in reversed(list(enumerate(passed))):
        if kept is None:
            judged = _judge(stack, theta, support, tasks.support_labels, tasks.ways)
            kept = judged, judged.gradient(stack)[1]
        judged, both = kept
        last = step == 0  # on the way back, so that only the sum over the tasks is still wanted
        products = judged.hessian_times(stack, both, direction, summed=last)
        direction = torch.sub(direction.sum(0, keepdim=True) if last else direction, products, alpha=rate)
    return MetaGradient(
        stack.layout.restore(direction.sum(0)), *_losses_and_accuracies(asked.logits, tasks.query_labels)
    )


def logits(stack: Stack, parameters: Tensor, tasks: TaskBatch, rate: float, steps: int) -> Tensor:
    """The queries' logits `[tasks, queries, ways]` after some inner steps on the support sets."""
    support, theta = stack.first.seen(tasks.support), stack.layout.lay_out(parameters)
    for _ in range(steps):
        gradient, _ = _judge(stack, theta, support, tasks.support_labels, tasks.ways).gradient(stack)
        theta = torch.sub(theta, gradient, alpha=rate)
    found, _ = stack.forward(theta.expand(len(tasks), -1), stack.first.seen(tasks.query))
    return found


def _judge(stack: Stack, theta: Tensor, images: Seen, labels: Tensor, ways: int) -> Judged:
    outputs, kept = stack.forward(theta, images)
    return Judged(outputs, outputs.softmax(2), kept, one_hot(labels, ways).to(outputs))


def _losses_and_accuracies(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each task, `[tasks]`."""
    each = nll_loss(logits.log_softmax(2).transpose(1, 2), labels.expand(len(logits), -1), reduction="none")
    return each.mean(1), (logits.argmax(2) == labels).double().mean(1)

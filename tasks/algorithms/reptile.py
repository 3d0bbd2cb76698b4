"""Reptile (Nichol, Achiam and Schulman 2018, arXiv:1803.02999), in its batched form.

From the meta-parameters θ every task trains on its support set for k steps of its own optimizer, to φ = U_k(θ); the
meta-gradient is θ - φ, so that a step of rate ε is θ ← θ + ε · mean(φ - θ) (the paper's algorithm 2). The inner
optimizer is Adam without first-moment decay (β₁ = 0), started anew for each task, or plain SGD.

Steps see minibatches: the support set shot by shot, each class in turn, over and over. Which drawing is which shot was
drawn with the task, so nothing is drawn here. The paper shuffles classes too, and carries Adam's second moments from
task to task, which tasks computed in parallel can't.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Classify, MetaGradient, Normalization, accuracy
from fanfold.tasks.algorithms.inner_loop import check_inner_loop
from fanfold.tasks.algorithms.support_loss import SupportLoss
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import flatten


@dataclass(frozen=True)
class Reptile:
    """Reptile, reported with transduction (`batch`) and without (`single`) as in the paper's table 1.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate.
        inner_steps: Inner steps k of a task in training.
        inner_batch: Images an inner step in training.
        test_batch: Images an inner step at test.
        inner_optimizer: `adam`, with β₁ = 0, or `sgd`.
    """

    head: ClassVar[bool] = True
    steady: ClassVar[bool] = True
    normalizations: ClassVar[tuple[Normalization, ...]] = ("batch", "single")

    name: str = "reptile"
    inner_lr: float = 1e-3
    inner_steps: int = 5
    inner_batch: int = 10
    test_batch: int = 5
    inner_optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        check_inner_loop("Reptile", self.inner_lr, self.inner_steps)
        for name in ("inner_batch", "test_batch"):
            if getattr(self, name) < 2:
                raise FanfoldError(f"--algorithm.{name} must be at least 2, not {getattr(self, name)}.")

    def initialize(self, network: Network) -> Tensor:
        """The network's own initialization, `[P]`."""
        return flatten(network.initial())

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """See `Algorithm.meta_gradient`. The gradient is that of no loss; losses are those after adaptation."""

        def judge(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            seen = minibatches(len(support), tasks.ways, self.inner_steps, self.inner_batch, support.device)
            adapted = self._train(network, parameters, support, tasks.support_labels, seen)
            with torch.no_grad():
                logits = network(network.unflatten(adapted), query)
            return parameters - adapted, cross_entropy(logits, tasks.query_labels), accuracy(logits, tasks.query_labels)

        if network.vectorized:
            moves, losses, accuracies = torch.vmap(judge, randomness="different")(tasks.support, tasks.query)
            return MetaGradient(moves.sum(0), losses, accuracies)
        total = torch.zeros_like(parameters)
        found = []
        for support, query in zip(tasks.support, tasks.query, strict=True):
            move, *judged = judge(support, query)
            total += move
            found.append(judged)
        losses, accuracies = (torch.stack(part) for part in zip(*found, strict=True))
        return MetaGradient(total, losses, accuracies)

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """See `Algorithm.classifier`."""
        steps = self.inner_steps if steps is None else steps
        seen = minibatches(len(support), int(labels[-1]) + 1, steps, self.test_batch, support.device)
        adapted = network.unflatten(self._train(network, parameters, support, labels, seen))
        return lambda query: network(adapted, query)

    def _train(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, seen: Sequence[Tensor]
    ) -> Tensor:
        """φ `[P]`: the parameters after a step on each of the minibatches that are seen."""
        phi, square = parameters.detach(), torch.zeros_like(parameters)
        for step, images in enumerate(seen, start=1):
            loss = SupportLoss(network, support[images], labels[images])
            gradient = flatten(loss.gradient(network.unflatten(phi), "first"))
            if self.inner_optimizer == "adam":
                square = 0.999 * square + 0.001 * gradient * gradient
                gradient = gradient / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            phi = phi - self.inner_lr * gradient
        return phi


def minibatches(images: int, ways: int, steps: int, batch: int, device: torch.device) -> list[Tensor]:
    """Which images of a support set each step sees: shot by shot, each class in turn, over and over.

    Args:
        images: How many the support set has, class by class.
        ways: Of how many classes.
        steps: How many steps.
        batch: Images a step; the whole set where it has no more.
        device: Where the images are.

    Returns:
        int64 `[batch]`, places in the support set, for each step.
    """
    shot_by_shot = torch.arange(images, device=device).view(ways, -1).T.flatten()
    batch = min(batch, images)
    return [
        shot_by_shot[torch.arange(step * batch, (step + 1) * batch, device=device) % images] for step in range(steps)
    ]

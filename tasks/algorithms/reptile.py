"""Reptile (Nichol, Achiam and Schulman 2018, arXiv:1803.02999), in its batched form.

Each task takes k optimizer steps on its support set, from the meta-parameters θ to φ = U_k(θ). Its meta-gradient is
θ - φ, so that a meta step with rate ε is θ ← θ + ε · mean(φ - θ) (the paper's algorithm 2). The inner optimizer is SGD,
or Adam with β₁ = 0 and a new state for each task.

Each step has a minibatch. Minibatches go through the support set by shot, then by class, and start over at its end.
Nothing is drawn at random here, as the shots were drawn with the task.

The paper differs in two points: it shuffles the classes too, and it keeps Adam's second moments from one task to the
next, which tasks computed in parallel can't do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import MetaGradient, accuracy, sum_over_tasks
from fanfold.tasks.algorithms.inner_loop import AdaptedNetwork, check_inner_loop
from fanfold.tasks.algorithms.support_loss import SupportLoss
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, flatten


@dataclass(frozen=True)
class Reptile(AdaptedNetwork):
    """Reptile. Published as transductive (`batch`) and as inductive (`single`), in the paper's table 1.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate.
        inner_steps: Inner steps k of a task in training.
        inner_batch: Images of an inner step in training.
        test_batch: Images of an inner step at test.
        inner_optimizer: `adam`, with β₁ = 0, or `sgd`.
    """

    steady = True

    name: str = "reptile"
    inner_lr: float = 1e-3
    inner_steps: int = 5
    inner_batch: int = 10
    test_batch: int = 5
    inner_optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        check_inner_loop(self.inner_lr, self.inner_steps)
        for name in ("inner_batch", "test_batch"):
            if getattr(self, name) < 2:
                raise FanfoldError(f"`algorithm.{name}` must be at least 2, not {getattr(self, name)}.")

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """θ - φ is no loss's gradient; losses are the query losses after adaptation."""

        def of_task(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            batches = minibatches(tasks.support_labels, tasks.ways, self.inner_steps, self.inner_batch)
            adapted = self._train(network, parameters, support, tasks.support_labels, batches)
            with torch.no_grad():
                logits = network(network.unflatten(adapted), query)
            return parameters - adapted, cross_entropy(logits, tasks.query_labels), accuracy(logits, tasks.query_labels)

        if network.vectorized:
            gradients, losses, accuracies = torch.vmap(of_task, randomness="different")(tasks.support, tasks.query)
            return MetaGradient(gradients.sum(0), losses, accuracies)
        return sum_over_tasks(of_task, tasks)

    def adapted(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Parameters:
        batches = minibatches(labels, network.outputs, self.inner_steps if steps is None else steps, self.test_batch)
        return network.unflatten(self._train(network, parameters, support, labels, batches))

    def _train(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, batches: Sequence[Tensor]
    ) -> Tensor:
        """φ `[P]`, the parameters after a step on each minibatch."""
        phi, square = parameters.detach(), torch.zeros_like(parameters)
        for step, images in enumerate(batches, start=1):
            loss = SupportLoss(network, support[images], labels[images])
            gradient = flatten(loss.gradient(network.unflatten(phi), "first"))
            if self.inner_optimizer == "adam":
                square = 0.999 * square + 0.001 * gradient * gradient
                gradient = gradient / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            phi = phi - self.inner_lr * gradient
        return phi


def minibatches(labels: Tensor, ways: int, steps: int, batch: int) -> list[Tensor]:
    """The minibatch of each inner step: int64 `[batch]`, indices into a support set with labels `[n]`."""
    images = torch.arange(len(labels), device=labels.device)
    is_of = (labels[:, None] == torch.arange(ways, device=labels.device)).long()
    shot = is_of.cumsum(0).gather(1, labels[:, None])[:, 0]  # the image's number in its class
    by_shot = (shot * ways + labels).argsort()
    batch = min(batch, len(images))
    return [by_shot[(images[:batch] + step * batch) % len(images)] for step in range(steps)]

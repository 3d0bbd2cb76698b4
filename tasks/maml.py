"""Model-Agnostic Meta-Learning (Finn, Abbeel and Levine, ICML 2017, arXiv:1703.03400).

From the meta-parameters θ a task learns by gradient steps on its support loss,

    θ₀ = θ,   θₛ₊₁ = θₛ - α ∇L_support(θₛ),

and the meta-gradient is that of its query loss through all of them, dL_query(θ_S)/dθ (the paper's algorithm 2),
second derivatives included. The first-order form takes ∇L_query(θ_S) instead (the paper's section 5.2).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from data.errors import FanfoldError
from tasks.batch import TaskBatch
from tasks.learner import MetaGradient, accuracy
from tasks.network import Network, flatten


@dataclass(frozen=True)
class Maml:
    """MAML, exact or first-order. Transductive where the network normalizes by the batch (see `tasks.models`).

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate α.
        inner_steps: Inner gradient steps S of a task in training.
        first_order: Leave second derivatives out.
    """

    fixed_ways: ClassVar[bool] = True

    name: str = "maml"
    inner_lr: float = 0.4
    inner_steps: int = 1
    first_order: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.inner_lr < inf:
            raise FanfoldError(f"MAML needs an inner learning rate above 0, not {self.inner_lr}.")
        if self.inner_steps < 1:
            raise FanfoldError(f"MAML needs at least one inner step, not {self.inner_steps}.")

    def initialize(self, network: Network) -> Tensor:
        """The network's own initialization, `[P]`."""
        return flatten(dict(network.module.named_parameters())).detach()

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """See `Algorithm.meta_gradient`. One task after another: on a CPU their activations then stay in cache."""
        theta = {name: value.requires_grad_() for name, value in network.unflatten(parameters.detach()).items()}
        total = torch.zeros_like(parameters)
        losses, accuracies = [], []
        for support, query in zip(tasks.support, tasks.query, strict=True):
            adapted = self._adapt(network, theta, support, tasks.support_labels, self.inner_steps, not self.first_order)
            logits = network(adapted, query)
            loss = cross_entropy(logits, tasks.query_labels)
            total += torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(theta.values()))])
            losses.append(loss.detach())
            accuracies.append(accuracy(logits.detach(), tasks.query_labels))
        return MetaGradient(total, torch.stack(losses), torch.stack(accuracies))

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Callable[[Tensor], Tensor]:
        """See `Algorithm.classifier`."""
        theta = {name: value.requires_grad_() for name, value in network.unflatten(parameters.detach()).items()}
        adapted = self._adapt(network, theta, support, labels, self.inner_steps if steps is None else steps, False)
        return lambda query: network(adapted, query)

    def _adapt(
        self,
        network: Network,
        theta: Mapping[str, Tensor],
        support: Tensor,
        labels: Tensor,
        steps: int,
        differentiable: bool,
    ) -> Mapping[str, Tensor]:
        """θ after the inner steps; `differentiable` keeps the graph through the inner gradients."""
        for _ in range(steps):
            loss = cross_entropy(network(theta, support), labels)
            gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=differentiable)
            theta = {
                name: value - self.inner_lr * gradient
                for (name, value), gradient in zip(theta.items(), gradients, strict=True)
            }
        return theta

"""Meta-SGD (Li, Zhou, Chen and Li 2017, arXiv:1707.09835).

MAML (`tasks.maml`) with an inner rate of each single parameter, learned with the initialization: meta-parameters
(θ, α), α of θ's shape, and

    θₛ₊₁ = θₛ - α ∘ ∇L_support(θₛ),   meta-gradient dL_query(θ_S)/d(θ, α)

(the paper's equations 3 to 6, where S = 1).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tasks.batch import TaskBatch
from tasks.inner_loop import check_inner_loop, descend, rate_of
from tasks.learner import Classify, MetaGradient, Normalization, Parameters, sum_of_gradients
from tasks.network import Network, Shapes, flatten, unflatten


@dataclass(frozen=True)
class MetaSgd:
    """Meta-SGD. Batch norm sees all queries of a task, as in MAML: transductive.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate that all parameters start from.
        inner_steps: Inner gradient steps S of a task in training.
    """

    head: ClassVar[bool] = True
    normalizations: ClassVar[tuple[Normalization, ...]] = ("batch", "single")

    name: str = "meta-sgd"
    inner_lr: float = 0.4
    inner_steps: int = 1

    def __post_init__(self) -> None:
        check_inner_loop("Meta-SGD", self.inner_lr, self.inner_steps)

    def initialize(self, network: Network) -> Tensor:
        """The network's own initialization, then the rates, `[P]` = twice the network's."""
        theta = flatten(network.initial())
        return torch.cat([theta, torch.full_like(theta, self.inner_lr)])

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """See `Algorithm.meta_gradient`."""

        def judge(meta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            adapted = self._adapt(network, meta, support, tasks.support_labels, self.inner_steps, differentiable=True)
            logits = network(adapted, query)
            return cross_entropy(logits, tasks.query_labels), logits, tasks.query_labels

        return sum_of_gradients(_shapes(network), parameters, tasks, judge)

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """See `Algorithm.classifier`."""
        named = unflatten(_shapes(network), parameters.detach())
        meta = {name: value.requires_grad_() for name, value in named.items()}
        steps = self.inner_steps if steps is None else steps
        adapted = self._adapt(network, meta, support, labels, steps, differentiable=False)
        return lambda query: network(adapted, query)

    def _adapt(
        self, network: Network, meta: Parameters, support: Tensor, labels: Tensor, steps: int, *, differentiable: bool
    ) -> Parameters:
        """θ after the inner steps."""
        theta = {name: meta[name] for name in network.shapes}
        rates = {name: meta[rate_of(name)] for name in network.shapes}
        for _ in range(steps):
            theta = descend(theta, cross_entropy(network(theta, support), labels), rates, differentiable=differentiable)
        return theta


def _shapes(network: Network) -> Shapes:
    return {**network.shapes, **{rate_of(name): shape for name, shape in network.shapes.items()}}

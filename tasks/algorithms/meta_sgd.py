"""Meta-SGD (Li, Zhou, Chen and Li 2017, arXiv:1707.09835).

MAML (`tasks.algorithms.maml`) with an inner rate of each single parameter, learned with the initialization:
meta-parameters (θ, α), α of θ's shape, and

    θₛ₊₁ = θₛ - α ∘ ∇L_support(θₛ),   meta-gradient dL_query(θ_S)/d(θ, α)

(the paper's equations 3 to 6, where S = 1).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import Classify, MetaGradient, Normalization, sum_of_gradients
from fanfold.tasks.algorithms.inner_loop import check_inner_loop, descend, rate_of
from fanfold.tasks.algorithms.support_loss import Differentiation, Order, SupportLoss, order_of
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten


@dataclass(frozen=True)
class MetaSgd:
    """Meta-SGD. Batch norm sees all queries of a task, as in MAML: transductive.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate that all parameters start from.
        inner_steps: Inner gradient steps S of a task in training.
        differentiation: How the meta-gradient goes through the inner steps, see `tasks.algorithms.maml`.
    """

    head: ClassVar[bool] = True
    steady: ClassVar[bool] = True
    normalizations: ClassVar[tuple[Normalization, ...]] = ("batch", "single")

    name: str = "meta-sgd"
    inner_lr: float = 0.4
    inner_steps: int = 1
    differentiation: Differentiation = "auto"

    def __post_init__(self) -> None:
        check_inner_loop("Meta-SGD", self.inner_lr, self.inner_steps)

    def initialize(self, network: Network) -> Tensor:
        """The network's own initialization, then the rates, `[P]` = twice the network's."""
        theta = flatten(network.initial())
        return torch.cat([theta, torch.full_like(theta, self.inner_lr)])

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """See `Algorithm.meta_gradient`."""
        exact = order_of(self.differentiation, len(tasks.support_labels), self.inner_steps)

        def judge(meta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            adapted = self._adapt(meta, SupportLoss(network, support, tasks.support_labels), self.inner_steps, exact)
            logits = network(adapted, query)
            return cross_entropy(logits, tasks.query_labels), logits, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, judge, _shapes(network))

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """See `Algorithm.classifier`."""
        meta = unflatten(_shapes(network), parameters.detach())
        steps = self.inner_steps if steps is None else steps
        adapted = self._adapt(meta, SupportLoss(network, support, labels), steps, "first")
        return lambda query: network(adapted, query)

    def _adapt(self, meta: Parameters, loss: SupportLoss, steps: int, order: Order) -> Parameters:
        """θ after the inner steps."""
        names = loss.network.shapes
        theta, rates = {name: meta[name] for name in names}, {name: meta[rate_of(name)] for name in names}
        for _ in range(steps):
            theta = descend(theta, loss.gradient(theta, order), rates)
        return theta


def _shapes(network: Network) -> Shapes:
    return {**network.shapes, **{rate_of(name): shape for name, shape in network.shapes.items()}}

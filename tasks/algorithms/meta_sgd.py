"""Meta-SGD (Li, Zhou, Chen and Li 2017, arXiv:1707.09835).

MAML (`tasks.algorithms.maml`) with a learned inner rate for every parameter. The meta-parameters are θ and α, both of
one shape, and

    θₛ₊₁ = θₛ - α ∘ ∇L_support(θₛ),   meta-gradient dL_query(θ_S)/d(θ, α)

(the paper's equations 3 to 6, where S = 1).
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import MetaGradient, sum_of_gradients
from fanfold.tasks.algorithms.inner_loop import AdaptedNetwork, adapt, check_inner_loop, rate_of
from fanfold.tasks.algorithms.support_loss import Differentiation, Order, SupportLoss, order_of
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten


@dataclass(frozen=True)
class MetaSgd(AdaptedNetwork):
    """Meta-SGD. Transductive, as MAML: batch norm's statistics are of all queries of a task.

    Args:
        name: The algorithm's name.
        inner_lr: Initial inner learning rate of every parameter.
        inner_steps: Inner gradient steps S of a task in training.
        differentiation: How the meta-gradient is differentiated through the inner steps, see `tasks.algorithms.maml`.
    """

    steady = True

    name: str = "meta-sgd"
    inner_lr: float = 0.4
    inner_steps: int = 1
    differentiation: Differentiation = "auto"

    def __post_init__(self) -> None:
        check_inner_loop(self.inner_lr, self.inner_steps)

    def initialize(self, network: Network) -> Tensor:
        """The network's initial parameters, then their rates: P is twice the network's number of parameters."""
        theta = flatten(network.initial())
        return torch.cat([theta, torch.full_like(theta, self.inner_lr)])

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        exact = order_of(self.differentiation, len(tasks.support_labels), self.inner_steps)

        def task_loss(meta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            adapted = self._adapt(meta, SupportLoss(network, support, tasks.support_labels), self.inner_steps, exact)
            logits = network(adapted, query)
            return cross_entropy(logits, tasks.query_labels), logits, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, task_loss, self.shapes(network))

    def adapted(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Parameters:
        meta = unflatten(self.shapes(network), parameters.detach())
        steps = self.inner_steps if steps is None else steps
        return self._adapt(meta, SupportLoss(network, support, labels), steps, "first")

    def shapes(self, network: Network) -> Shapes:
        """The network's parameters, then a rate for each of their numbers."""
        return {**network.shapes, **{rate_of(name): shape for name, shape in network.shapes.items()}}

    def _adapt(self, meta: Parameters, loss: SupportLoss, steps: int, order: Order) -> Parameters:
        names = loss.network.shapes
        theta, rates = {name: meta[name] for name in names}, {name: meta[rate_of(name)] for name in names}
        return adapt(theta, partial(loss.gradient, order=order), rates, steps)

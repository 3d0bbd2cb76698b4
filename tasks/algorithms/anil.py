"""Almost No Inner Loop (Raghu, Raghu, Bengio and Vinyals, ICLR 2020, arXiv:1909.09157).

MAML (`tasks.algorithms.maml`) whose inner loop adapts the network's head alone: with features f_φ and head w,

    w₀ = w,   wₛ₊₁ = wₛ - α ∇_w L_support(wₛ · f_φ),   meta-gradient dL_query(w_S · f_φ)/d(φ, w)

(the paper's section 4). The features of a task are computed once for all inner steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import MetaGradient, sum_of_gradients
from fanfold.tasks.algorithms.inner_loop import AdaptedNetwork, adapt, check_inner_loop
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters


@dataclass(frozen=True)
class Anil(AdaptedNetwork):
    """ANIL, exact or first-order. Transductive, as MAML: batch norm's statistics are of all queries of a task.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate α.
        inner_steps: Inner gradient steps S of a task in training.
        first_order: Leave second derivatives out.
    """

    steady = True

    name: str = "anil"
    inner_lr: float = 0.1
    inner_steps: int = 5
    first_order: bool = False

    def __post_init__(self) -> None:
        check_inner_loop(self.inner_lr, self.inner_steps)

    def initialize(self, network: Network) -> Tensor:
        """The network's initial parameters; raises FanfoldError if it does not end in a linear layer."""
        if not network.ends_in_head:
            raise FanfoldError("ANIL adapts a linear head: the model must end in an nn.Linear.")
        return super().initialize(network)

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        def task_loss(theta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            head = self._adapt(
                {name: theta[name] for name in network.head},
                network.features(theta, support),
                tasks.support_labels,
                self.inner_steps,
                differentiable=not self.first_order,
            )
            logits = linear(network.features(theta, query), *head.values())
            return cross_entropy(logits, tasks.query_labels), logits, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, task_loss)

    def adapted(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Parameters:
        theta = network.unflatten(parameters.detach())
        head = {name: theta[name] for name in network.head}
        steps = self.inner_steps if steps is None else steps
        features = network.features(theta, support).detach()
        return {**theta, **self._adapt(head, features, labels, steps, differentiable=False)}

    def _adapt(
        self, head: Parameters, features: Tensor, labels: Tensor, steps: int, *, differentiable: bool
    ) -> Parameters:
        """The head after the inner steps: weight `[ways, d]`, and bias `[ways]` if it has one."""
        gradient = torch.func.grad(lambda head: cross_entropy(linear(features, *head.values()), labels))

        def gradient_at(head: Parameters) -> Parameters:
            found = gradient(head)
            return found if differentiable else {name: value.detach() for name, value in found.items()}

        return adapt(head, gradient_at, dict.fromkeys(head, self.inner_lr), steps)

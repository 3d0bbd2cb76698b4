"""Model-Agnostic Meta-Learning (Finn, Abbeel and Levine, ICML 2017, arXiv:1703.03400).

From the meta-parameters θ a task learns by gradient steps on its support loss,

    θ₀ = θ,   θₛ₊₁ = θₛ - α ∇L_support(θₛ),

and the meta-gradient is that of its query loss through all of them, dL_query(θ_S)/dθ (the paper's algorithm 2),
second derivatives included. The first-order form takes ∇L_query(θ_S) instead (the paper's section 5.2).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import Classify, MetaGradient, Normalization, sum_of_gradients
from fanfold.tasks.algorithms import maml_vectorized
from fanfold.tasks.algorithms.inner_loop import check_inner_loop, descend
from fanfold.tasks.algorithms.support_loss import KEPT, Differentiation, Order, SupportLoss, order_of
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, flatten

AT_ONCE = 8  # small tasks that are vectorized over on a CPU
IMAGES = 25  # of a support set: with more, a task by itself fills the processor's vectors as well


@dataclass(frozen=True)
class Maml:
    """MAML, exact or first-order. As published it is transductive: batch norm sees all queries of a task.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate α.
        inner_steps: Inner gradient steps S of a task in training.
        first_order: Leave second derivatives out.
        differentiation: How the meta-gradient goes through the inner steps, `reverse` or `mixed`, see
            `tasks.algorithms.support_loss`: both are exact, the second takes more time, and memory that doesn't grow
            with the steps. `auto` chooses by the support set's size and the steps.
    """

    head: ClassVar[bool] = True
    steady: ClassVar[bool] = True
    normalizations: ClassVar[tuple[Normalization, ...]] = ("batch", "single")

    name: str = "maml"
    inner_lr: float = 0.4
    inner_steps: int = 1
    first_order: bool = False
    differentiation: Differentiation = "auto"

    def __post_init__(self) -> None:
        check_inner_loop("MAML", self.inner_lr, self.inner_steps)

    def initialize(self, network: Network) -> Tensor:
        """The network's own initialization, `[P]`."""
        return flatten(network.initial())

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """See `Algorithm.meta_gradient`."""
        exact = order_of(self.differentiation, len(tasks.support_labels), self.inner_steps)
        order: Order = "first" if self.first_order else exact
        if network.stack is not None:
            at_once = _at_once(network, tasks, self.inner_steps)
            arguments = self.inner_lr, self.inner_steps, order, at_once
            return maml_vectorized.meta_gradient(network.stack, parameters, tasks, *arguments)

        def judge(theta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            loss = SupportLoss(network, support, tasks.support_labels)
            adapted = self._adapt(theta, loss, self.inner_steps, order)
            logits = network(adapted, query)
            return cross_entropy(logits, tasks.query_labels), logits, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, judge)

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """See `Algorithm.classifier`."""
        steps = self.inner_steps if steps is None else steps
        theta = network.unflatten(parameters.detach())
        adapted = self._adapt(theta, SupportLoss(network, support, labels), steps, "first")
        return lambda query: network(adapted, query)

    def logits(self, network: Network, parameters: Tensor, tasks: TaskBatch, steps: int | None) -> Tensor | None:
        """See `tasks.algorithm.ClassifiesSideBySide`."""
        if network.stack is None:
            return None
        steps = self.inner_steps if steps is None else steps
        return maml_vectorized.logits(network.stack, parameters, tasks, self.inner_lr, steps)

    def _adapt(self, theta: Parameters, loss: SupportLoss, steps: int, order: Order) -> Parameters:
        """θ after the inner steps."""
        rates = dict.fromkeys(theta, self.inner_lr)
        for _ in range(steps):
            theta = descend(theta, loss.gradient(theta, order), rates)
        return theta


def _at_once(network: Network, tasks: TaskBatch, steps: int) -> int:
    """The number of tasks that each operation computes.

    On a CPU a few if they are small, and keep no more images than one task may; otherwise one. It follows from the
    configuration alone, so that a run's numbers depend on nothing else.
    """
    if network.vectorized:
        return len(tasks)
    support, query = len(tasks.support_labels), len(tasks.query_labels)
    return AT_ONCE if support <= IMAGES and AT_ONCE * (support * steps + query) <= KEPT else 1

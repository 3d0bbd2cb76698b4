"""Model-Agnostic Meta-Learning (Finn, Abbeel and Levine, ICML 2017, arXiv:1703.03400).

A task learns from the meta-parameters θ by gradient steps on its support loss,

    θ₀ = θ,   θₛ₊₁ = θₛ - α ∇L_support(θₛ).

Its meta-gradient is the gradient of its query loss through all these steps, dL_query(θ_S)/dθ, second derivatives
included (the paper's algorithm 2). First-order MAML takes ∇L_query(θ_S) in its place (the paper's section 5.2).
"""

from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import MetaGradient, sum_of_gradients
from fanfold.tasks.algorithms import maml_vectorized
from fanfold.tasks.algorithms.inner_loop import AdaptedNetwork, adapt, check_inner_loop
from fanfold.tasks.algorithms.support_loss import KEPT, Differentiation, Order, SupportLoss, order_of
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters

CPU_TASKS = 8  # small tasks that a CPU computes in one vectorized batch
CPU_IMAGES = 25  # images of a small support set: a task with more of them fills the processor's vectors alone


@dataclass(frozen=True)
class Maml(AdaptedNetwork):
    """MAML, exact or first-order. Published as transductive: batch norm's statistics are of all queries of a task.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate α.
        inner_steps: Inner gradient steps S of a task in training.
        first_order: Leave second derivatives out.
        differentiation: How the exact meta-gradient is differentiated through the inner steps: `reverse`, or `mixed`,
            which takes more time, and memory that does not grow with the steps. See `tasks.algorithms.support_loss`.
            `auto` chooses by the size of the support set and the number of steps.
    """

    steady = True

    name: str = "maml"
    inner_lr: float = 0.4
    inner_steps: int = 1
    first_order: bool = False
    differentiation: Differentiation = "auto"

    def __post_init__(self) -> None:
        check_inner_loop(self.inner_lr, self.inner_steps)

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        exact = order_of(self.differentiation, len(tasks.support_labels), self.inner_steps)
        order: Order = "first" if self.first_order else exact
        if network.stack is not None:
            at_once = _vectorized_tasks(network, tasks, self.inner_steps)
            how = self.inner_lr, self.inner_steps, order, at_once
            return maml_vectorized.meta_gradient(network.stack, parameters, tasks, *how)

        def task_loss(theta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            loss = SupportLoss(network, support, tasks.support_labels)
            logits = network(self._adapt(theta, loss, self.inner_steps, order), query)
            return cross_entropy(logits, tasks.query_labels), logits, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, task_loss)

    def adapted(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Parameters:
        steps = self.inner_steps if steps is None else steps
        theta = network.unflatten(parameters.detach())
        return self._adapt(theta, SupportLoss(network, support, labels), steps, "first")

    def logits(self, network: Network, parameters: Tensor, tasks: TaskBatch, steps: int | None) -> Tensor | None:
        if network.stack is None:
            return None
        steps = self.inner_steps if steps is None else steps
        return maml_vectorized.logits(network.stack, parameters, tasks, self.inner_lr, steps)

    def _adapt(self, theta: Parameters, loss: SupportLoss, steps: int, order: Order) -> Parameters:
        return adapt(theta, partial(loss.gradient, order=order), dict.fromkeys(theta, self.inner_lr), steps)


def _vectorized_tasks(network: Network, tasks: TaskBatch, steps: int) -> int:
    """The number of tasks that each operation computes.

    A CPU vectorizes small tasks only, and keeps no more images for a batch of them than it may for one task. The number
    follows from the configuration alone, so that a run's results depend on nothing else.
    """
    if network.vectorized:
        return len(tasks)
    support, query = len(tasks.support_labels), len(tasks.query_labels)
    return CPU_TASKS if support <= CPU_IMAGES and CPU_TASKS * (support * steps + query) <= KEPT else 1

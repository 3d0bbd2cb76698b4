"""MAML++ (Antoniou, Edwards and Storkey, "How to train your MAML", ICLR 2019, arXiv:1810.09502).

MAML (`tasks.algorithms.maml`) with the changes of the paper's section 4:

- *multi-step loss*: the loss is Σₛ wₛ L_query(θₛ), a weighted sum of the query losses after every inner step. Over the
  first iterations, the weights change linearly from 1/S each to 1 for the last step and 0 for the others;
- *derivative-order annealing*: meta-gradients are first-order at the start of training, and exact afterwards;
- *learned inner rates per layer and step*: the meta-parameters hold one rate for each tensor and step;
- *batch norm per inner step*: the meta-parameters hold a scale and a shift for each step. The inner loop does not adapt
  them;
- a cosine-annealed meta learning rate: the configuration `meta.schedule` = `cosine`.

Batch norm normalizes by the batch, as in the authors' code; there are no running statistics per step.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import MetaGradient, sum_of_gradients
from fanfold.tasks.algorithms.inner_loop import AdaptedNetwork, check_inner_loop, descend, rate_of
from fanfold.tasks.algorithms.support_loss import Differentiation, Order, SupportLoss, order_of
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten


class Phase(NamedTuple):
    """A phase of training."""

    multi_step: bool  # whether the loss includes the query loss after every inner step
    first_order: bool  # whether meta-gradients are first-order


@dataclass(frozen=True)
class MamlPlusPlus(AdaptedNetwork):
    """MAML++. Published as transductive: batch norm's statistics are of all queries of a task.

    Args:
        name: The algorithm's name.
        inner_lr: Initial inner learning rate.
        inner_steps: Inner gradient steps S of a task in training.
        multi_step: Iterations with a multi-step loss; 0 for the query loss after the last step only.
        first_order: Iterations, at the start of training, with first-order meta-gradients.
        learn_rates: Whether the inner rates are learned.
        norm_per_step: Whether batch norm has a scale and a shift for each inner step.
        differentiation: How the exact meta-gradient is differentiated through the inner steps, see
            `tasks.algorithms.maml`.
    """

    name: str = "maml++"
    inner_lr: float = 0.1
    inner_steps: int = 5
    multi_step: int = 5000
    first_order: int = 0
    learn_rates: bool = True
    norm_per_step: bool = True
    differentiation: Differentiation = "auto"

    def __post_init__(self) -> None:
        check_inner_loop(self.inner_lr, self.inner_steps)
        for name in ("multi_step", "first_order"):
            if getattr(self, name) < 0:
                raise FanfoldError(f"`algorithm.{name}` must be at least 0, not {getattr(self, name)}.")

    def initialize(self, network: Network) -> Tensor:
        """The network's initial parameters, scales and shifts repeated for each step, then the inner rates."""
        initial, steps = network.initial(), self.inner_steps
        of_steps = {name: value.expand(steps, *value.shape) for name, value in initial.items()}
        tensors = {name: of_steps[name] if self._per_step(network, name) else initial[name] for name in initial}
        tensors |= {
            rate_of(name): torch.full([steps], self.inner_lr).to(initial[name]) for name in self._learned(network)
        }
        return flatten(tensors)

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        weights = torch.tensor(self.numbers(iteration), dtype=parameters.dtype, device=parameters.device)
        return self.gradient_in_phase(self.phase(iteration), weights, network, parameters, tasks)

    def phase(self, iteration: int) -> Phase:
        return Phase(iteration < self.multi_step, iteration < self.first_order)

    def numbers(self, iteration: int) -> list[float]:
        """The weights wₛ of the query losses after steps s = 1 … S, which sum to 1; see `Algorithm.numbers`."""
        done = min(iteration / self.multi_step, 1.0) if self.multi_step else 1.0
        early = (1 - done) / self.inner_steps
        return [early] * (self.inner_steps - 1) + [1 - early * (self.inner_steps - 1)]

    def gradient_in_phase(
        self, phase: Phase, numbers: Tensor, network: Network, parameters: Tensor, tasks: TaskBatch
    ) -> MetaGradient:
        exact = order_of(self.differentiation, len(tasks.support_labels), self.inner_steps)
        order: Order = "first" if phase.first_order else exact

        def task_loss(meta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            loss = SupportLoss(network, support, tasks.support_labels)
            theta, losses = self._start(network, meta), []
            for step in range(self.inner_steps):
                theta = self._step(meta, theta, step, loss, order)
                if phase.multi_step or step == self.inner_steps - 1:
                    logits = network(theta, query)
                    losses.append(numbers[step] * cross_entropy(logits, tasks.query_labels))
            return torch.stack(losses).sum(), logits, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, task_loss, self._shapes(network))

    def adapted(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Parameters:
        """More steps than in training use the rates, scales and shifts of the last one."""
        meta = unflatten(self._shapes(network), parameters.detach())
        theta, loss = self._start(network, meta), SupportLoss(network, support, labels)
        for step in range(self.inner_steps if steps is None else steps):
            theta = self._step(meta, theta, step, loss, "first")
        return theta

    def shapes(self, network: Network) -> Shapes:
        """The network's parameters and the inner rates; scales and shifts of later steps follow those of the first."""
        shapes = dict[str, torch.Size]()
        for name, shape in self._shapes(network).items():
            if self._per_step(network, name):
                shapes[name] = shape[1:]
                shapes |= {f"{name}:step{step}": shape[1:] for step in range(1, self.inner_steps)}
            else:
                shapes[name] = shape
        return shapes

    def _per_step(self, network: Network, name: str) -> bool:
        """Whether a parameter of the network has a value for each inner step."""
        return self.norm_per_step and name.rpartition(".")[0] in network.batch_norms

    def _adapted(self, network: Network) -> list[str]:
        """The names of the network's parameters that the inner loop adapts."""
        return [name for name in network.shapes if not self._per_step(network, name)]

    def _learned(self, network: Network) -> list[str]:
        """The names of the network's parameters whose inner rates are learned."""
        return self._adapted(network) if self.learn_rates else []

    def _shapes(self, network: Network) -> Shapes:
        """The names and shapes of the meta-parameters, as they are computed with."""
        steps = self.inner_steps
        shapes = {
            name: torch.Size((steps, *shape)) if self._per_step(network, name) else shape
            for name, shape in network.shapes.items()
        }
        return shapes | {rate_of(name): torch.Size((steps,)) for name in self._learned(network)}

    def _start(self, network: Network, meta: Parameters) -> Parameters:
        """The network's parameters before the first step."""
        return {name: meta[name][0] if self._per_step(network, name) else meta[name] for name in network.shapes}

    def _step(self, meta: Parameters, theta: Parameters, step: int, loss: SupportLoss, order: Order) -> Parameters:
        """θ after an inner step, numbered from 0; it holds that step's scales and shifts."""
        step, network = min(step, self.inner_steps - 1), loss.network
        theta = {name: meta[name][step] if self._per_step(network, name) else theta[name] for name in theta}
        rates = {
            name: meta[rate_of(name)][step] if self.learn_rates else self.inner_lr for name in self._adapted(network)
        }
        return descend(theta, loss.gradient(theta, order), rates)

"""MAML++ (Antoniou, Edwards and Storkey, "How to train your MAML", ICLR 2019, arXiv:1810.09502).

MAML (`tasks.algorithms.maml`) with the paper's remedies, section 4:

- *multi-step loss*: the meta-gradient is that of Σₛ wₛ L_query(θₛ), the query loss after every inner step; the weights
  move, over the first iterations, from 1/S each to the last step alone;
- *derivative-order annealing*: first-order gradients at the start of training, exact ones after;
- *learned inner rates per layer and step*: one for each of a layer's tensors and each step, part of the
  meta-parameters;
- *batch norm per inner step*: scale and shift are meta-parameters of each step's own, and the inner loop leaves them;
- the cosine-annealed meta learning rate, which is `--meta.schedule cosine`.

The paper's running batch-norm statistics per step aren't kept: its own code normalizes by the batch too.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Classify, MetaGradient, Normalization, sum_of_gradients
from fanfold.tasks.algorithms.inner_loop import check_inner_loop, descend, rate_of
from fanfold.tasks.algorithms.support_loss import Differentiation, Order, SupportLoss, order_of
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten


class Phase(NamedTuple):
    """How an iteration is computed.

    Args:
        multi_step: Whether the query loss after every inner step counts, or that after the last alone.
        first_order: Whether gradients are of first order.
    """

    multi_step: bool
    first_order: bool


@dataclass(frozen=True)
class MamlPlusPlus:
    """MAML++. As published it is transductive: batch norm sees all queries of a task.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate to start from.
        inner_steps: Inner gradient steps S of a task in training.
        multi_step: Iterations over which the loss's weights move to the last step; 0 for the last step alone.
        first_order: Iterations, at the start, with first-order gradients.
        learn_rates: Whether the inner rates are learned.
        norm_per_step: Whether batch norm's scale and shift are those of each inner step.
        differentiation: How the exact meta-gradient goes through the inner steps, see `tasks.algorithms.maml`.
    """

    head: ClassVar[bool] = True
    normalizations: ClassVar[tuple[Normalization, ...]] = ("batch", "single")

    name: str = "maml++"
    inner_lr: float = 0.1
    inner_steps: int = 5
    multi_step: int = 5000
    first_order: int = 0
    learn_rates: bool = True
    norm_per_step: bool = True
    differentiation: Differentiation = "auto"

    def __post_init__(self) -> None:
        check_inner_loop("MAML++", self.inner_lr, self.inner_steps)
        for name in ("multi_step", "first_order"):
            if getattr(self, name) < 0:
                raise FanfoldError(f"--algorithm.{name} counts iterations, and can't be {getattr(self, name)}.")

    def initialize(self, network: Network) -> Tensor:
        """The network's own initialization, scales and shifts repeated for each step, and the inner rates."""
        initial, steps = network.initial(), self.inner_steps
        of_steps = {name: value.expand(steps, *value.shape) for name, value in initial.items()}
        tensors = {name: of_steps[name] if self._per_step(network, name) else initial[name] for name in initial}
        tensors |= {
            rate_of(name): torch.full([steps], self.inner_lr).to(initial[name]) for name in self._learned(network)
        }
        return flatten(tensors)

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """See `Algorithm.meta_gradient`."""
        weights = torch.tensor(self.numbers(iteration), dtype=parameters.dtype, device=parameters.device)
        return self.gradient_in(self.phase(iteration), weights, network, parameters, tasks)

    def phase(self, iteration: int) -> Phase:
        """See `InPhases.phase`."""
        return Phase(iteration < self.multi_step, iteration < self.first_order)

    def numbers(self, iteration: int) -> list[float]:
        """wₛ for s = 1 … S: how much the query loss after each step counts in an iteration; they sum to 1."""
        done = min(iteration / self.multi_step, 1.0) if self.multi_step else 1.0
        early = (1 - done) / self.inner_steps
        return [early] * (self.inner_steps - 1) + [1 - early * (self.inner_steps - 1)]

    def gradient_in(
        self, phase: Phase, numbers: Tensor, network: Network, parameters: Tensor, tasks: TaskBatch
    ) -> MetaGradient:
        """See `InPhases.gradient_in`."""
        exact = order_of(self.differentiation, len(tasks.support_labels), self.inner_steps)
        order: Order = "first" if phase.first_order else exact

        def judge(meta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            loss = SupportLoss(network, support, tasks.support_labels)
            theta, losses = self._start(network, meta), []
            for step in range(self.inner_steps):
                theta = self._step(meta, theta, step, loss, order)
                if phase.multi_step or step == self.inner_steps - 1:
                    logits = network(theta, query)
                    losses.append(numbers[step] * cross_entropy(logits, tasks.query_labels))
            return torch.stack(losses).sum(), logits, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, judge, self._shapes(network))

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """See `Algorithm.classifier`. Steps beyond those trained with are like the last of them."""
        meta = unflatten(self._shapes(network), parameters.detach())
        theta, loss = self._start(network, meta), SupportLoss(network, support, labels)
        for step in range(self.inner_steps if steps is None else steps):
            theta = self._step(meta, theta, step, loss, "first")
        return lambda query: network(theta, query)

    def _per_step(self, network: Network, name: str) -> bool:
        """Whether a parameter of the network is one of each step's own."""
        return self.norm_per_step and name.rpartition(".")[0] in network.batch_norms

    def _adapted(self, network: Network) -> list[str]:
        """The network's parameters that the inner loop changes."""
        return [name for name in network.shapes if not self._per_step(network, name)]

    def _learned(self, network: Network) -> list[str]:
        """Those whose inner rates are learned."""
        return self._adapted(network) if self.learn_rates else []

    def _shapes(self, network: Network) -> Shapes:
        """The meta-parameters' names and shapes."""
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
        """θ after an inner step, numbered from 0, with that step's scales and shifts, which the query is judged by."""
        step, network = min(step, self.inner_steps - 1), loss.network
        theta = {name: meta[name][step] if self._per_step(network, name) else theta[name] for name in theta}
        rates = {
            name: meta[rate_of(name)][step] if self.learn_rates else self.inner_lr for name in self._adapted(network)
        }
        return descend(theta, loss.gradient(theta, order), rates)

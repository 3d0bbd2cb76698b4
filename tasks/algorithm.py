"""The protocol of a meta-learning algorithm: a base class with defaults.

The pipeline knows algorithms by this class alone, and so distributes and sums all of them in the same way.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fanfold.tasks import given
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten

Classify = Callable[[Tensor], Tensor]
"""Queries `[n, channels, height, width]` to logits `[n, ways]`."""

TaskLoss = Callable[[Parameters, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Meta-parameters by name, support images and query images of one task to the loss, a scalar, and the queries' logits
`[n, ways]` and labels `[n]`."""

Normalization = Literal["batch", "single", "population"]
"""The source of batch norm's statistics when a query is classified.

- `batch`: all queries of the task. Transductive.
- `single`: the support set and this one query. Inductive.
- `population`: training images, see `tasks.network.batch_statistics`. Inductive.
"""


@dataclass(frozen=True)
class MetaGradient:
    """The contribution of some tasks to a meta-batch.

    Args:
        gradient: `[P]`, the sum of the tasks' meta-gradients.
        losses: `[tasks]`, each task's mean loss over its queries.
        accuracies: `[tasks]`, each task's share of correctly classified queries.
    """

    gradient: Tensor
    losses: Tensor
    accuracies: Tensor


@dataclass(frozen=True)
class Algorithm(ABC):
    """A meta-learning algorithm: hyperparameters, and pure functions of explicit parameters.

    A subclass is a frozen dataclass whose fields are the hyperparameters. It defines `meta_gradient` and `classifier`,
    and overrides the other attributes and methods where their defaults do not fit.

    The meta-parameters are one flat vector `[P]`. They hold the network's parameters, and any others that the algorithm
    learns. With the normalization `population`, the network's parameters come first.

    Args:
        name: The algorithm's name.

    Attributes:
        head: Whether the algorithm classifies with the network's linear head, and so always with as many ways as in
            training. If not, the network is built without its last linear layer and gives embeddings `[n, d]`.
        normalizations: The normalizations that the algorithm is tested with if the network has batch norm. The first is
            the published one.
        steady: Whether every iteration is computed like the first, without reading values back from the device. On a
            GPU, iterations are then captured as a CUDA graph.
    """

    head: ClassVar[bool] = True
    normalizations: ClassVar[tuple[Normalization, ...]] = ("batch", "single")
    steady: ClassVar[bool] = False

    name: str

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as usual; one that was handed over in Python travels to each worker once, see `tasks.given`."""
        digest = given.digest_of(self)
        return super().__reduce_ex__(protocol) if digest is None else (given.shared, (digest,))

    @property
    def vectorizes(self) -> bool:
        """Whether `torch.vmap` can vectorize the algorithm over tasks. If not, tasks are computed one after another."""
        return True

    @property
    def defines_logits(self) -> bool:
        """Whether the algorithm overrides `logits`. On a GPU, testing is then captured as a CUDA graph."""
        return type(self).logits is not Algorithm.logits

    def initialize(self, network: Network) -> Tensor:
        """The meta-parameters `[P]` before the first iteration; by default the network's initial parameters.

        May draw from PyTorch's generator, which the pipeline seeds before the call.
        """
        return flatten(network.initial())

    def shapes(self, network: Network) -> Shapes:
        """The names and shapes of the meta-parameters, in the vector's order; by default the network's.

        A parameter of the network keeps its name and shape. Checkpoints are written by these names.
        """
        return network.shapes

    @abstractmethod
    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """The summed meta-gradient of some tasks.

        Args:
            network: The network.
            parameters: The meta-parameters `[P]`.
            iteration: The number of the meta-iteration, from 0, for hyperparameters that change during training.
            tasks: The tasks.
        """

    @abstractmethod
    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """Learn one task from its support set.

        Args:
            network: The network.
            parameters: The meta-parameters `[P]`.
            support: `[n, channels, height, width]`. With the normalization `population`, support and queries may be
                embeddings `[n, d]`, which the network then returns unchanged.
            labels: int64 `[n]`, 0 … ways - 1, in any order, and of each as many as there are, at least one.
            steps: Inner steps, for algorithms that have them; None for as many as in training.
        """

    def adapted(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Parameters | None:
        """The network's own parameters once they have learnt a task; arguments are those of `classifier`.

        For algorithms that adapt their network, whose `classifier` is the network at these parameters. Labelling needs
        them.

        Returns:
            The parameters by name; without a head, after them weight `[ways, d]` and bias `[ways]` of one that the task
            has. None where there are none, as by default.
        """
        return None

    def logits(self, network: Network, parameters: Tensor, tasks: TaskBatch, steps: int | None) -> Tensor | None:
        """Classify the queries of several tasks, vectorized over tasks, with the normalization `batch`.

        An optional fast path beside `classifier`, for networks that are vectorized over tasks; `steps` as there.

        Returns:
            The queries' logits `[tasks, queries, ways]`; None where there is no such path, as by default.
        """
        return None

    def phase(self, iteration: int) -> Hashable | None:
        """The phase of training that an iteration belongs to.

        All iterations of a phase run the same computation, on different `numbers`. On a GPU, each phase is captured as
        a CUDA graph.

        Returns:
            The phase; None if any iteration may differ from any other. By default, a `steady` algorithm has one phase,
            and any other has none.
        """
        return () if self.steady else None

    def numbers(self, iteration: int) -> Sequence[float]:
        """The numbers by which an iteration differs from others of its phase; as many in every iteration."""
        return ()

    def gradient_in_phase(
        self, phase: Any, numbers: Tensor, network: Network, parameters: Tensor, tasks: TaskBatch
    ) -> MetaGradient:
        """The summed meta-gradient of some tasks, as `meta_gradient` gives it for an iteration of the phase.

        The iteration's numbers are on the parameters' device and in their precision.
        """
        return self.meta_gradient(network, parameters, 0, tasks)


def sum_parts(parts: Iterable[MetaGradient]) -> MetaGradient:
    """The meta-gradient of all tasks of some parts, in their order."""
    parts = list(parts)
    if len(parts) == 1:  # which needs no copies
        return parts[0]
    gradients, losses, accuracies = zip(*((part.gradient, part.losses, part.accuracies) for part in parts), strict=True)
    return MetaGradient(reduce(torch.add, gradients), torch.cat(losses), torch.cat(accuracies))


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of rows of logits `[n, ways]` that have their maximum at the label, a float64 scalar."""
    return (logits.argmax(1) == labels).double().mean()


def sum_of_gradients(
    network: Network, parameters: Tensor, tasks: TaskBatch, task_loss: TaskLoss, shapes: Shapes | None = None
) -> MetaGradient:
    """Differentiate a loss of each task by the meta-parameters, and sum the gradients over the tasks.

    Args:
        network: The network. It says whether the tasks are vectorized, or computed one after another.
        parameters: The meta-parameters `[P]`.
        tasks: The tasks.
        task_loss: The loss of one task. Vectorized over tasks, it is called once for all of them, by `torch.vmap`.
        shapes: The names and shapes of the meta-parameters; by default the network's.
    """
    named = unflatten(shapes or network.shapes, parameters.detach())
    meta = {name: value.requires_grad_() for name, value in named.items()}

    def gradient_of(loss: Tensor) -> Tensor:
        gradients = torch.autograd.grad(loss, list(meta.values()), materialize_grads=True)
        return flatten(dict(zip(meta, gradients, strict=True)))

    def loss_of(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits, labels = task_loss(meta, support, query)
        return loss, accuracy(logits.detach(), labels)

    def of_task(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loss, share = loss_of(support, query)
        return gradient_of(loss), loss.detach(), share

    if network.vectorized:
        losses, accuracies = torch.vmap(loss_of, randomness="different")(tasks.support, tasks.query)
        return MetaGradient(gradient_of(losses.sum()), losses.detach(), accuracies)
    return sum_over_tasks(of_task, tasks)


def sum_over_tasks(
    of_task: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], tasks: TaskBatch
) -> MetaGradient:
    """The sum over some tasks, computed one after another, in their order.

    From a task's support images and query images, `of_task` gives its meta-gradient `[P]`, loss and accuracy.
    """
    total: Tensor | None = None
    losses, accuracies = [], []
    for support, query in zip(tasks.support, tasks.query, strict=True):
        gradient, loss, share = of_task(support, query)
        total = torch.zeros_like(gradient) if total is None else total
        total += gradient
        losses.append(loss)
        accuracies.append(share)
    assert total is not None, "a batch has at least one task"
    return MetaGradient(total, torch.stack(losses), torch.stack(accuracies))

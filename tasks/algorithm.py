"""What the pipeline asks of an algorithm, so that every one fans out and folds the same way."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Literal, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten
from fanfold.tasks.predictions import Answers

Classify = Callable[[Tensor], Tensor]
Judge = Callable[[Parameters, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

Normalization = Literal["batch", "single", "population"]
"""What batch norm takes a query's statistics from when a task is tested.

- `batch`: all queries of the task, judged together. Transductive.
- `single`: the support set and this one query. Inductive.
- `population`: training images, see `tasks.network.batch_statistics`. Inductive.
"""


@dataclass(frozen=True)
class MetaGradient:
    """The contribution of some tasks to a meta-batch.

    Args:
        gradient: `[P]`, the tasks' meta-gradients, summed.
        losses: `[tasks]`, each task's mean loss over its queries.
        accuracies: `[tasks]`, each task's share of queries classified right.
    """

    gradient: Tensor
    losses: Tensor
    accuracies: Tensor


def total(parts: Iterable[MetaGradient]) -> MetaGradient:
    """Of all tasks that some parts are of, in their order."""
    gradients, losses, accuracies = zip(*((part.gradient, part.losses, part.accuracies) for part in parts), strict=True)
    return MetaGradient(reduce(torch.add, gradients), torch.cat(losses), torch.cat(accuracies))


class Algorithm(Protocol):
    """A meta-learning algorithm: its hyperparameters, and pure functions of explicit parameters.

    The meta-parameters are one flat vector `[P]`: the network's, and whatever else the algorithm learns. For the
    normalization `population` the network's own come first.

    Attributes:
        name: What it is called.
        head: Whether it classifies by the network's own linear head, and so has as many ways as it was trained with.
            For one that does not, the network is without its last linear layer and gives embeddings `[n, d]`.
        normalizations: How its tasks may be tested with a network that has batch norm, as published first.

    On a GPU its tasks are computed side by side by `torch.vmap`, unless it has an attribute `one_by_one` that is true;
    and as CUDA graphs, where it says in what iterations differ: by `steady`, true where they don't, or as `InPhases`.
    """

    head: ClassVar[bool]
    normalizations: ClassVar[tuple[Normalization, ...]]

    @property
    def name(self) -> str: ...

    def initialize(self, network: Network) -> Tensor:
        """The meta-parameters `[P]` before the first iteration, given a freshly initialized network.

        May draw from PyTorch's generator, which the pipeline seeds before.
        """

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """The summed meta-gradient of some tasks.

        Args:
            network: The network.
            parameters: The meta-parameters `[P]`.
            iteration: The meta-iteration's number, from 0, for what changes as training goes on.
            tasks: The tasks.
        """

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """Learn one task from its support set.

        Args:
            network: The network.
            parameters: The meta-parameters `[P]`.
            support: `[ways · shots, 1, height, width]`, class by class. With the normalization `population` these, and
                the queries, may be embeddings, which the network hands on.
            labels: int64 `[ways · shots]`.
            steps: Inner steps, for algorithms that have them; None for as many as in training.

        Returns:
            The classifier: queries `[n, 1, height, width]` to logits `[n, ways]`.
        """


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of rows of logits `[n, ways]` whose largest entry is the label's, a scalar."""
    return (logits.argmax(1) == labels).double().mean()


def sum_of_gradients(
    network: Network, parameters: Tensor, tasks: TaskBatch, judge: Judge, shapes: Shapes | None = None
) -> MetaGradient:
    """The summed gradient of a loss of each task, for algorithms whose meta-gradient is one.

    Args:
        network: The network, which says whether tasks are computed side by side or one after another.
        parameters: The meta-parameters `[P]`.
        tasks: The tasks.
        judge: Meta-parameters by name, support and query images of one task to its loss, and logits and labels of
            queries. Side by side, it is called once for all tasks, by `torch.vmap`.
        shapes: The meta-parameters' names and shapes, by default the network's.
    """
    named = unflatten(shapes or network.shapes, parameters.detach())
    meta = {name: value.requires_grad_() for name, value in named.items()}
    return (_side_by_side if network.vectorized else _one_by_one)(meta, tasks, judge)


def _one_by_one(meta: Parameters, tasks: TaskBatch, judge: Judge) -> MetaGradient:
    summed = {name: torch.zeros_like(value) for name, value in meta.items()}
    losses, accuracies = [], []
    for support, query in zip(tasks.support, tasks.query, strict=True):
        loss, logits, labels = judge(meta, support, query)
        gradients = torch.autograd.grad(loss, list(meta.values()), materialize_grads=True)
        for part, gradient in zip(summed.values(), gradients, strict=True):
            part += gradient
        losses.append(loss.detach())
        accuracies.append(accuracy(logits.detach(), labels))
    return MetaGradient(flatten(summed), torch.stack(losses), torch.stack(accuracies))


def _side_by_side(meta: Parameters, tasks: TaskBatch, judge: Judge) -> MetaGradient:
    def judged(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits, labels = judge(meta, support, query)
        return loss, accuracy(logits.detach(), labels)

    losses, accuracies = torch.vmap(judged, randomness="different")(tasks.support, tasks.query)
    gradients = torch.autograd.grad(losses.sum(), list(meta.values()), materialize_grads=True)
    return MetaGradient(flatten(dict(zip(meta, gradients, strict=True))), losses.detach(), accuracies)


@runtime_checkable
class InPhases(Protocol):
    """An algorithm whose iterations are computed alike throughout a phase of training, of numbers that move."""

    def phase(self, iteration: int) -> Hashable:
        """What decides how an iteration is computed."""

    def numbers(self, iteration: int) -> Sequence[float]:
        """What an iteration is computed of besides, in every iteration as many numbers."""

    def gradient_in(
        self, phase: Any, numbers: Tensor, network: Network, parameters: Tensor, tasks: TaskBatch
    ) -> MetaGradient:
        """See `Algorithm.meta_gradient`, in a phase.

        Args:
            phase: The phase.
            numbers: The iteration's, on the parameters' device and in their precision.
            network: The network.
            parameters: The meta-parameters `[P]`.
            tasks: The tasks.
        """


def phase_of(algorithm: Algorithm, iteration: int) -> Hashable | None:
    """An iteration's phase: the same computation in all of a phase's iterations; None where all are taken to differ."""
    if _is_steady(algorithm):
        return ()
    return algorithm.phase(iteration) if _is_in_phases(algorithm) else None


def numbers_of(algorithm: Algorithm, iteration: int) -> Sequence[float]:
    """By what an iteration differs from others of its phase."""
    return algorithm.numbers(iteration) if _is_in_phases(algorithm) else ()


def gradient_in(
    algorithm: Algorithm, phase: Hashable, numbers: Tensor, network: Network, parameters: Tensor, tasks: TaskBatch
) -> MetaGradient:
    """The meta-gradient in a phase, of an iteration's numbers."""
    if _is_in_phases(algorithm):
        return algorithm.gradient_in(phase, numbers, network, parameters, tasks)
    return algorithm.meta_gradient(network, parameters, 0, tasks)  # every iteration is as the first


def _is_steady(algorithm: Algorithm) -> bool:
    return getattr(algorithm, "steady", False)


def _is_in_phases(algorithm: Algorithm) -> TypeGuard[InPhases]:
    # Asked for every iteration, and by far the faster of the two first.
    return not _is_steady(algorithm) and isinstance(algorithm, InPhases)


def together(algorithm: Algorithm, network: Network) -> bool:
    """Whether an algorithm's tasks are computed side by side with a network: unless it says that it can't."""
    return network.vectorized and not getattr(algorithm, "one_by_one", False)


@runtime_checkable
class ClassifiesSideBySide(Protocol):
    """An algorithm that classifies several tasks' queries side by side by code of its own."""

    def logits(self, network: Network, parameters: Tensor, tasks: TaskBatch, steps: int | None) -> Tensor | None:
        """The queries' logits `[tasks, queries, ways]`, with the normalization `batch`; None where it can't.

        Args:
            network: The network.
            parameters: The meta-parameters `[P]`.
            tasks: The tasks.
            steps: Inner steps; None for as many as in training.
        """


def answer_tasks(
    algorithm: Algorithm,
    network: Network,
    parameters: Tensor,
    tasks: TaskBatch,
    steps: int | None,
    normalization: Normalization,
) -> Answers:
    """What the algorithm answers when it is asked the tasks' queries.

    Args:
        algorithm: The algorithm.
        network: The network; for `population` one that has its statistics.
        parameters: The meta-parameters `[P]`.
        tasks: The tasks.
        steps: Inner steps; None for as many as in training.
        normalization: Which images a query is normalized with.
    """
    return as_answers(*answered(algorithm, network, parameters, tasks, steps, normalization), tasks.ways)


def answered(
    algorithm: Algorithm,
    network: Network,
    parameters: Tensor,
    tasks: TaskBatch,
    steps: int | None,
    normalization: Normalization,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `answer_tasks`, on the device: guesses and confidences, `[tasks, queries]`, and the tasks' losses."""
    logits = _logits(algorithm, network, parameters, tasks, steps, normalization)
    guesses = logits.argmax(2)
    confidences = logits.softmax(2).gather(2, guesses[..., None])[..., 0]
    each = cross_entropy(logits.transpose(1, 2), tasks.query_labels.expand(len(tasks), -1), reduction="none")
    return guesses, confidences, each.mean(1)


def as_answers(guesses: Tensor, confidences: Tensor, losses: Tensor, ways: int) -> Answers:
    """What `answered` gives, class by class, on the host."""
    shape = (len(guesses), ways, -1)
    return Answers(
        guesses.reshape(shape).to("cpu", torch.int16).numpy(),
        confidences.reshape(shape).to("cpu", torch.float32).numpy(),
        losses.to("cpu", torch.float32).numpy(),
    )


def _logits(
    algorithm: Algorithm,
    network: Network,
    parameters: Tensor,
    tasks: TaskBatch,
    steps: int | None,
    normalization: Normalization,
) -> Tensor:
    """The queries' logits `[tasks, queries, ways]`."""
    side_by_side = together(algorithm, network)
    if side_by_side and normalization == "batch" and isinstance(algorithm, ClassifiesSideBySide):
        with torch.no_grad():
            found = algorithm.logits(network, parameters, tasks, steps)
        if found is not None:
            return found
    each = _each_side_by_side if side_by_side else _each_one_by_one

    def of_task(support: Tensor, query: Tensor) -> Tensor:
        classify = algorithm.classifier(network, parameters, support, tasks.support_labels, steps)
        with torch.no_grad():
            if normalization == "single":
                return each(lambda one: classify(torch.cat([support, one[None]]))[-1], query)
            return classify(query)

    return each(of_task, tasks.support, tasks.query)


def _each_one_by_one(function: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
    """What a function gives for every place of some stacks `[n, …]`, `[n, …]`."""
    return torch.stack([function(*parts) for parts in zip(*stacks, strict=True)])


def _each_side_by_side(function: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
    """As `_each_one_by_one`."""
    found: Tensor = torch.vmap(function, randomness="different")(*stacks)
    return found

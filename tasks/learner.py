"""What the pipeline asks of an algorithm, so that every one fans out and folds the same way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tasks.answers import Answers
from tasks.batch import TaskBatch
from tasks.network import Network, Shapes, flatten, unflatten

Parameters = dict[str, Tensor]
Classify = Callable[[Tensor], Tensor]

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


class Algorithm(Protocol):
    """A meta-learning algorithm: its hyperparameters, and pure functions of explicit parameters.

    The meta-parameters are one flat vector `[P]`: the network's, and whatever else the algorithm learns. For the
    normalization `population` the network's own come first.

    Attributes:
        head: Whether it classifies by the network's own linear head, and so has as many ways as it was trained with.
            For one that does not, the network is without its last linear layer and gives embeddings `[n, d]`.
        normalizations: How its tasks may be tested with a network that has batch norm, as published first.
    """

    head: ClassVar[bool]
    normalizations: ClassVar[tuple[Normalization, ...]]

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
    shapes: Shapes,
    parameters: Tensor,
    tasks: TaskBatch,
    judge: Callable[[Parameters, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
) -> MetaGradient:
    """The summed gradient of a loss of each task, for algorithms whose meta-gradient is one.

    One task after another: on a CPU their activations then stay in cache.

    Args:
        shapes: The meta-parameters' names and shapes.
        parameters: The meta-parameters `[P]`.
        tasks: The tasks.
        judge: Meta-parameters by name, support and query images to the task's loss, and logits and labels of queries.
    """
    meta = {name: value.requires_grad_() for name, value in unflatten(shapes, parameters.detach()).items()}
    total = torch.zeros_like(parameters)
    losses, accuracies = [], []
    for support, query in zip(tasks.support, tasks.query, strict=True):
        loss, logits, labels = judge(meta, support, query)
        gradients = torch.autograd.grad(loss, list(meta.values()), materialize_grads=True)
        total += flatten(dict(zip(meta, gradients, strict=True)))
        losses.append(loss.detach())
        accuracies.append(accuracy(logits.detach(), labels))
    return MetaGradient(total, torch.stack(losses), torch.stack(accuracies))


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
    guesses, confidences, losses = [], [], []
    for support, query in zip(tasks.support, tasks.query, strict=True):
        classify = algorithm.classifier(network, parameters, support, tasks.support_labels, steps)
        with torch.no_grad():
            if normalization == "single":
                logits = torch.stack([classify(torch.cat([support, one[None]]))[-1] for one in query])
            else:
                logits = classify(query)
            guess = logits.argmax(1)
            guesses.append(guess)
            confidences.append(logits.softmax(1).gather(1, guess[:, None])[:, 0])
            losses.append(cross_entropy(logits, tasks.query_labels))
    shape = (len(tasks), tasks.ways, -1)
    return Answers(
        torch.stack(guesses).reshape(shape).to("cpu", torch.int16).numpy(),
        torch.stack(confidences).reshape(shape).to("cpu", torch.float32).numpy(),
        torch.stack(losses).to("cpu", torch.float32).numpy(),
    )

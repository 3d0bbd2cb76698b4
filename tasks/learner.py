"""What the pipeline asks of an algorithm, so that every one fans out and folds the same way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tasks.batch import TaskBatch
from tasks.network import Network


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

    The meta-parameters are one flat vector `[P]`: the network's, and whatever else the algorithm learns.

    Args:
        fixed_ways: Whether the classifier has as many ways as those trained with, as one with a linear head has.
    """

    fixed_ways: ClassVar[bool]

    def initialize(self, network: Network) -> Tensor:
        """The meta-parameters `[P]` before the first iteration, given a freshly initialized network."""

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
    ) -> Callable[[Tensor], Tensor]:
        """Learn one task from its support set.

        Args:
            network: The network.
            parameters: The meta-parameters `[P]`.
            support: `[ways · shots, 1, height, width]`.
            labels: int64 `[ways · shots]`.
            steps: Inner steps, for algorithms that have them; None for as many as in training.

        Returns:
            The classifier: queries `[n, 1, height, width]` to logits `[n, ways]`.
        """


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of rows of logits `[n, ways]` whose largest entry is the label's, a scalar."""
    return (logits.argmax(1) == labels).double().mean()


def evaluate_tasks(
    algorithm: Algorithm, network: Network, parameters: Tensor, tasks: TaskBatch, steps: int | None
) -> Tensor:
    """Each task's accuracy `[tasks]` on its queries, all of a task's queries classified together."""
    accuracies = []
    for support, query in zip(tasks.support, tasks.query, strict=True):
        classify = algorithm.classifier(network, parameters, support, tasks.support_labels, steps)
        with torch.no_grad():
            accuracies.append(accuracy(classify(query), tasks.query_labels))
    return torch.stack(accuracies)

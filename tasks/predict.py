"""Classify the queries of tasks with a meta-learning algorithm."""

from collections.abc import Callable, Sequence
from math import log

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import Algorithm, Normalization
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.predictions import Predictions


def predict(
    algorithm: Algorithm,
    network: Network,
    parameters: Tensor,
    tasks: TaskBatch,
    steps: int | None,
    normalization: Normalization,
) -> Predictions:
    """Learn each task from its support set, and classify its queries.

    For the normalization `population`, the network must have those statistics. Without `steps`, there are as many inner
    steps as in training.
    """
    logits = query_logits(algorithm, network, parameters, tasks, steps, normalization)
    return to_host(*from_logits(logits, tasks.query_labels), tasks.ways)


def query_logits(
    algorithm: Algorithm,
    network: Network,
    parameters: Tensor,
    tasks: TaskBatch,
    steps: int | None,
    normalization: Normalization,
) -> Tensor:
    """The queries' logits `[tasks, queries, ways]`, see `predict`."""
    vectorized = network.vectorized
    if vectorized and normalization == "batch":
        with torch.no_grad():
            logits = algorithm.logits(network, parameters, tasks, steps)
        if logits is not None:
            return logits

    def of_task(support: Tensor, query: Tensor) -> Tensor:
        classify = algorithm.classifier(network, parameters, support, tasks.support_labels, steps)

        def of_query(image: Tensor) -> Tensor:
            return classify(torch.cat([support, image[None]]))[-1]

        with torch.no_grad():
            return _map(of_query, query, vectorized=vectorized) if normalization == "single" else classify(query)

    return _map(of_task, tasks.support, tasks.query, vectorized=vectorized)


def from_logits(logits: Tensor, query_labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The predictions that logits `[tasks, queries, ways]` stand for, on their device; true labels are `[queries]`.

    Returns:
        Predicted labels and their probabilities, `[tasks, queries]` each; each task's mean cross-entropy, `[tasks]`.
    """
    labels = logits.argmax(2)
    confidences = logits.softmax(2).gather(2, labels[..., None])[..., 0]
    losses = cross_entropy(logits.transpose(1, 2), query_labels.expand(len(logits), -1), reduction="none")
    return labels, confidences, losses.mean(1)


def averaged(logits: Sequence[Tensor]) -> Tensor:
    """The logits of an ensemble, `[tasks, queries, ways]` as those of each member.

    They are the logarithms of the mean of the members' class probabilities, and so have that mean as their softmax.
    """
    logs = torch.stack([one.log_softmax(2) for one in logits])
    return logs.logsumexp(0) - log(len(logits))


def to_host(labels: Tensor, confidences: Tensor, losses: Tensor, ways: int) -> Predictions:
    """The result of `from_logits`, as arrays on the host."""
    shape = (len(labels), ways, -1)
    return Predictions(
        labels.reshape(shape).to("cpu", torch.int16).numpy(),
        confidences.reshape(shape).to("cpu", torch.float32).numpy(),
        losses.to("cpu", torch.float32).numpy(),
    )


def _map(function: Callable[..., Tensor], *stacks: Tensor, vectorized: bool) -> Tensor:
    """Apply a function to each entry of some stacks `[n, …]`, and stack its results."""
    if vectorized:
        mapped: Tensor = torch.vmap(function, randomness="different")(*stacks)
        return mapped
    return torch.stack([function(*entries) for entries in zip(*stacks, strict=True)])

"""Accuracy on held-out classes, spread over the workers."""

import math
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from data.errors import FanfoldError
from pipeline.cluster import Cluster
from pipeline.graph import evaluation_graph
from pipeline.optimizer import Vector
from pipeline.recipe import Recipe
from pipeline.waiting import results
from tasks.episodes import Stream


@dataclass(frozen=True)
class EvaluationConfig:
    """How parameters are judged.

    Args:
        every: Meta-iterations between validations.
        validation_tasks: Tasks a validation.
        tasks: Tasks a test.
        steps: Inner steps at validation and test; none for as many as in training.
    """

    every: int = 500
    validation_tasks: int = 200
    tasks: int = 1000
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("validation_tasks", 2), ("tasks", 2)):
            if getattr(self, name) < least:
                raise FanfoldError(f"--evaluation.{name} must be at least {least}, not {getattr(self, name)}.")
        if self.steps is not None and self.steps < 0:
            raise FanfoldError(f"--evaluation.steps can't be negative, and is {self.steps}.")


@dataclass(frozen=True)
class Accuracy:
    """A mean over tasks, as a share of 1.

    Args:
        mean: Mean accuracy of the tasks.
        ci95: Half the width of its 95 % confidence interval, 1.96 standard errors of the tasks' mean.
        tasks: How many tasks.
    """

    mean: float
    ci95: float
    tasks: int

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} ± {100 * self.ci95:.2f} %"


def summarize(accuracies: NDArray[np.float64]) -> Accuracy:
    """Mean and confidence interval of the tasks' accuracies `[tasks]`, at least two."""
    count = len(accuracies)
    return Accuracy(float(accuracies.mean()), 1.96 * float(accuracies.std(ddof=1)) / math.sqrt(count), count)


def evaluate(cluster: Cluster, recipe: Recipe, parameters: Vector, stream: Stream, tasks: int) -> Accuracy:
    """Judge parameters on the first tasks of a stream.

    Raises:
        RunError: The cluster lost all its workers.
    """
    graph = evaluation_graph(uuid4().hex[:8], recipe, parameters, stream, tasks, cluster.addresses)
    return summarize(np.concatenate(results(cluster, graph)))

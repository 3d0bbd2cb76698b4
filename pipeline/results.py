"""Accuracies of tests, and how they were measured."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fanfold.tasks.predictions import Predictions

if TYPE_CHECKING:  # it imports PyTorch, which a scheduler's process does without
    from fanfold.tasks.algorithm import Normalization


@dataclass(frozen=True)
class Accuracy:
    """The mean accuracy of tasks, as a share of 1."""

    mean: float
    ci95: float  # half the width of its 95 % confidence interval: 1.96 standard errors of the mean
    tasks: int  # number of tasks

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} ± {100 * self.ci95:.2f} %"


def summarize(accuracies: NDArray[np.float64]) -> Accuracy:
    """Mean and confidence interval of accuracies `[tasks]` of at least two tasks."""
    count = len(accuracies)
    return Accuracy(float(accuracies.mean()), 1.96 * float(accuracies.std(ddof=1)) / math.sqrt(count), count)


@dataclass(frozen=True)
class Tested:
    """A test's accuracy, and how it was measured."""

    normalization: "Normalization | None"  # None for a network without batch norm
    accuracy: Accuracy
    predictions: Predictions = field(repr=False, compare=False)

    @property
    def transductive(self) -> bool:
        """Whether a task's queries were normalized together, and so influenced each other."""
        return self.normalization == "batch"

    def __str__(self) -> str:
        return f"{self.accuracy}, {'transductive' if self.transductive else 'inductive'}"

"""Mean accuracies with their confidence intervals."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Accuracy:
    """The mean accuracy of tasks, as a share of 1."""

    mean: float
    ci95: float  # half the width of its 95 % confidence interval: 1.96 standard errors of the mean
    tasks: int  # number of tasks

    @property
    def deviation(self) -> float:
        """The standard deviation of a task's accuracy."""
        return self.ci95 / 1.96 * math.sqrt(self.tasks)

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} ± {100 * self.ci95:.2f} %"


def of_counts(right: NDArray[np.int64]) -> Accuracy:
    """Mean and confidence interval of at least two tasks, of which `right[k]` had k right of all predictions.

    Sums are those of whole numbers, and exact, however many tasks there are.
    """
    count, most = int(right.sum()), len(right) - 1
    total = sum(number * tasks for number, tasks in enumerate(right.tolist()))
    squares = sum(number**2 * tasks for number, tasks in enumerate(right.tolist()))
    variance = (squares - total * total / count) / (count - 1) / most**2
    return Accuracy(total / (count * most), 1.96 * math.sqrt(max(variance, 0.0) / count), count)


def summarize(accuracies: NDArray[np.float64]) -> Accuracy:
    """Mean and confidence interval of accuracies `[tasks]` of at least two tasks."""
    count = len(accuracies)
    return Accuracy(float(accuracies.mean()), 1.96 * float(accuracies.std(ddof=1)) / math.sqrt(count), count)

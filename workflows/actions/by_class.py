"""Accuracy by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import binomtest

from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions


@dataclass(frozen=True)
class OfClass:
    """The predictions for the queries of one class."""

    right: int  # how many are right
    asked: int  # of how many

    @property
    def accuracy(self) -> float:
        """The share of right predictions."""
        return self.right / self.asked

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % confidence interval of the accuracy, which is sound even for an accuracy of 1."""
        found = binomtest(self.right, self.asked).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f} %, {self.asked:,} queries)"


def by_class(names: Sequence[str], episodes: Episodes, predictions: Predictions) -> dict[str, OfClass]:
    """Accuracies by the classes of the queries, the lowest first. Rotated and mirrored ones count for their class."""
    of_way = episodes.classes.ravel()
    right = np.bincount(of_way, predictions.right.sum(axis=2).ravel(), len(names)).astype(int)
    asked = np.bincount(of_way, minlength=len(names)) * predictions.labels.shape[2]
    found = {name: OfClass(int(r), int(a)) for name, r, a in zip(names, right, asked, strict=True) if a}
    return dict(sorted(found.items(), key=lambda one: (one[1].accuracy, -one[1].asked, one[0])))

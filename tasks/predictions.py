"""Predictions for the queries of some tasks, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Predictions:
    """Predictions for the queries of some tasks. The queries are ordered by class: those in row w belong to class w."""

    labels: NDArray[np.int16]  # `[tasks, ways, queries]`, the class with the largest logit
    confidences: NDArray[np.float32]  # `[tasks, ways, queries]`, the softmax probability of that class
    losses: NDArray[np.float32]  # `[tasks]`, each task's mean cross-entropy over its queries, in nats

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which predictions are right, `[tasks, ways, queries]`."""
        right: NDArray[np.bool_] = self.labels == np.arange(self.labels.shape[1])[:, None]
        return right

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Each task's share of right predictions, float64 `[tasks]`."""
        shares: NDArray[np.float64] = self.right.mean(axis=(1, 2))
        return shares

    def part(self, first: int, last: int) -> "Predictions":
        """The predictions for tasks `first` up to, not including, `last`."""
        return Predictions(self.labels[first:last], self.confidences[first:last], self.losses[first:last])


def join(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several parts, one after another."""
    return Predictions(
        labels=np.concatenate([part.labels for part in parts]),
        confidences=np.concatenate([part.confidences for part in parts]),
        losses=np.concatenate([part.losses for part in parts]),
    )

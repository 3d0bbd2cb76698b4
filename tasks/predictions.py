"""What a learner answered when it was asked the queries of some tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """The answers to the queries of some tasks, which lie class by class: those of way w belong to class w.

    Args:
        guesses: int16 `[tasks, ways, queries]`, the class with the largest logit.
        confidences: float32 `[tasks, ways, queries]`, the probability of that class by softmax.
        losses: float32 `[tasks]`, each task's mean cross-entropy over its queries, in nats.
    """

    guesses: NDArray[np.int16]
    confidences: NDArray[np.float32]
    losses: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.guesses)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which are right, `[tasks, ways, queries]`."""
        right: NDArray[np.bool_] = self.guesses == np.arange(self.guesses.shape[1])[:, None]
        return right

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Each task's share of right answers, float64 `[tasks]`."""
        shares: NDArray[np.float64] = self.right.mean(axis=(1, 2))
        return shares

    def part(self, first: int, last: int) -> "Answers":
        """The answers to the tasks from place `first` up to `last`, exclusive."""
        return Answers(self.guesses[first:last], self.confidences[first:last], self.losses[first:last])


def join(parts: Sequence[Answers]) -> Answers:
    """The answers of several parts, one after the other."""
    return Answers(
        guesses=np.concatenate([part.guesses for part in parts]),
        confidences=np.concatenate([part.confidences for part in parts]),
        losses=np.concatenate([part.losses for part in parts]),
    )

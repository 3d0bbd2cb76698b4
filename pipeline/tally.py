"""What a test's tasks showed, added up task by task: memory follows the classes that were confused, not the tasks."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fanfold.pipeline.results import Accuracy, of_counts
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions

if TYPE_CHECKING:  # it imports PyTorch, which a scheduler's process does without
    from fanfold.tasks.algorithm import Normalization

Counts = NDArray[np.int64]
_ROWS = 1000  # tasks that are added at a time: their temporary arrays take some megabytes


@dataclass(frozen=True)
class Tally:
    """Sums over the tasks of a test. All are whole numbers but the loss, so their order and parts don't matter."""

    right: Counts  # how many tasks had 0, 1, … right predictions, `[ways · queries + 1]`
    loss: float  # sum of the tasks' losses; not finite where one isn't
    wild: int  # how many tasks have a loss that is not finite
    true: Counts  # `[pairs]`: a class of queries; pairs in rising order, those that were met alone
    said: Counts  # `[pairs]`: a class that was predicted for them
    queries: Counts  # `[pairs]`: how often

    @property
    def tasks(self) -> int:
        """The number of tasks."""
        return int(self.right.sum())

    @property
    def accuracy(self) -> Accuracy:
        """The mean accuracy of at least two tasks."""
        return of_counts(self.right)

    @property
    def mean_loss(self) -> float:
        """The mean of the tasks' losses, in nats."""
        return self.loss / self.tasks

    def __add__(self, other: "Tally") -> "Tally":
        pairs = (np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("true", "said", "queries"))
        return Tally(self.right + other.right, self.loss + other.loss, self.wild + other.wild, *_merged(*pairs))


@dataclass(frozen=True)
class Tested:
    """A test's accuracy, and how it was measured."""

    normalization: "Normalization | None"  # None for a network without batch norm
    accuracy: Accuracy
    tally: Tally = field(repr=False, compare=False)
    predictions: Predictions = field(repr=False, compare=False)  # of the first tasks

    @property
    def transductive(self) -> bool:
        """Whether a task's queries were normalized together, and so influenced each other."""
        return self.normalization == "batch"

    def __str__(self) -> str:
        return f"{self.accuracy}, {'transductive' if self.transductive else 'inductive'}"


def tally(episodes: Episodes, predictions: Predictions) -> Tally:
    """The tally of some tasks with their predictions."""
    _, ways, queries = predictions.labels.shape
    found = Tally(np.zeros(ways * queries + 1, np.int64), 0.0, 0, *(np.zeros(0, np.int64) for _ in range(3)))
    for first in range(0, len(predictions), _ROWS):
        part = predictions.part(first, first + _ROWS)
        true, said = predicted_classes(episodes.classes[first : first + _ROWS], part)
        right = np.bincount(part.right.sum((1, 2)), minlength=ways * queries + 1)
        losses = part.losses.astype(np.float64)
        wild = int((~np.isfinite(losses)).sum())
        found += Tally(right, float(losses.sum()), wild, *_merged(true, said, np.ones(len(true), np.int64)))
    return found


def predicted_classes(classes: Counts, predictions: Predictions) -> tuple[Counts, Counts]:
    """Each query's class and the predicted one, `[tasks · ways · queries]` both; tasks have classes `[tasks, ways]`."""
    tasks = len(predictions)
    true = np.broadcast_to(classes[:, :, None], predictions.labels.shape).reshape(-1)
    said = np.take_along_axis(classes, predictions.labels.reshape(tasks, -1).astype(np.int64), 1)
    return true, said.reshape(-1)


def _merged(true: Counts, said: Counts, queries: Counts) -> tuple[Counts, Counts, Counts]:
    """Pairs of classes in rising order, each once, with their queries added up."""
    span = int(max(true.max(initial=0), said.max(initial=0))) + 1
    pairs, places = np.unique(true * span + said, return_inverse=True)
    total = np.zeros(len(pairs), np.int64)
    np.add.at(total, places, queries)
    return pairs // span, pairs % span, total

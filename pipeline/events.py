"""What happens in a run, for whoever listens: the terminal, the metrics' file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fanfold.pipeline.optimizer import Record
from fanfold.tasks.predictions import Predictions

if TYPE_CHECKING:  # it imports PyTorch, which not everyone needs who hears of a run
    from fanfold.pipeline.evaluation import Tested


@dataclass(frozen=True)
class TrainingStarted:
    """Training goes on from an iteration; it ends at another, or after some seconds of training, or both.

    Args:
        run: The run's identifier, which stands in the keys of its tasks on the cluster.
        iteration: Iterations done.
        iterations: Iterations at the end, where it is bounded by them.
        seconds: Seconds of training so far.
        limit_seconds: Seconds at the end, where it is bounded by them.
    """

    run: str
    iteration: int
    iterations: int | None
    seconds: float
    limit_seconds: float | None


@dataclass(frozen=True)
class WindowEnded:
    """A window of meta-iterations is done.

    Args:
        records: What each iteration showed.
        tasks_per_second: Of this window.
        seconds: Seconds of training since the run began, stops not counted.
    """

    records: Sequence[Record]
    tasks_per_second: float
    seconds: float

    def some(self, limit: int = 100) -> Sequence[Record]:
        """So many of the records at most, evenly, the last among them: on a GPU a window has thousands."""
        every = -(-len(self.records) // limit) or 1
        return self.records[::-1][::every][::-1]


@dataclass(frozen=True)
class Validated:
    """The parameters after an iteration were judged on validation classes.

    Args:
        iteration: Iterations done.
        loss: Mean loss of the validation tasks.
        accuracy: Their mean accuracy.
        ci95: Half the width of its 95 % confidence interval.
        best: Whether no validation before was as good.
        predictions: The predictions for the tasks.
    """

    iteration: int
    loss: float
    accuracy: float
    ci95: float
    best: bool
    predictions: Predictions = field(repr=False, compare=False)


@dataclass(frozen=True)
class Noticed:
    """Something worth a line: a choice that was made, a worker that was lost."""

    text: str


@dataclass(frozen=True)
class ReductionPicked:
    """What brings the chunks together from now on.

    Args:
        reduction: `graph` or `collective`.
        why: Why; None at the start, before anything was measured.
    """

    reduction: Literal["graph", "collective"]
    why: str | None


@dataclass(frozen=True)
class TrainingEnded:
    """Training is over."""

    iteration: int
    seconds: float


@dataclass(frozen=True)
class MetaTested:
    """The parameters that did best on validation classes were tested.

    Args:
        tests: What was found: as published first, then in the other ways.
        name: What the test is called, where a run's parameters are tested on several kinds of tasks; None for the
            run's own.
    """

    tests: "tuple[Tested, ...]"
    name: str | None = None


Event = TrainingStarted | WindowEnded | Validated | Noticed | ReductionPicked | TrainingEnded | MetaTested
Listener = Callable[[Event], None]

"""What happens in a run, for whoever listens: the terminal, the metrics' file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fanfold.pipeline.optimizer import Record
from fanfold.pipeline.results import Tested
from fanfold.tasks.predictions import Predictions


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

    tests: tuple[Tested, ...]
    name: str | None = None


Event = TrainingStarted | WindowEnded | Validated | Noticed | ReductionPicked | TrainingEnded | MetaTested
Listener = Callable[[Event], None]


def share_done(started: TrainingStarted, window: WindowEnded) -> float:
    """How much of the run is done, 0 to 1: by iterations or by time, whichever is further."""
    by_iterations = _iteration(window) / started.iterations if started.iterations else 0.0
    by_time = window.seconds / started.limit_seconds if started.limit_seconds else 0.0
    return min(max(by_iterations, by_time), 1.0)


def seconds_left(started: TrainingStarted, window: WindowEnded) -> float:
    """Seconds left: at the pace since this start, up to the end that comes first."""
    ends, iteration = [], _iteration(window)
    if started.limit_seconds is not None:
        ends.append(started.limit_seconds - window.seconds)
    if started.iterations is not None and iteration > started.iteration:
        pace = (window.seconds - started.seconds) / (iteration - started.iteration)
        ends.append((started.iterations - iteration) * pace)
    return max(min(ends, default=0.0), 0.0)


def _iteration(window: WindowEnded) -> int:
    return window.records[-1].iteration + 1


def format_duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

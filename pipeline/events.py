"""The events of a run, for its listeners: the terminal, the metrics' file, recorders, the dashboard's page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fanfold.pipeline.optimizer import Record
from fanfold.pipeline.tally import Tested
from fanfold.tasks.predictions import Predictions


@dataclass(frozen=True)
class TrainingStarted:
    """A training begins or goes on."""

    run: str  # the run's identifier in the keys of its tasks on the cluster
    iteration: int  # iterations done
    iterations: int | None  # at the end; None where they have no bound
    seconds: float  # of training so far
    limit_seconds: float | None  # at the end; None where they have no bound


@dataclass(frozen=True)
class KernelsCompiling:
    """Workers compile kernels before the first window, which takes more than a moment once a machine."""

    workers: int


@dataclass(frozen=True)
class Embedding:
    """A frozen network embeds the store's pictures, each once."""

    done: int
    pictures: int


@dataclass(frozen=True)
class WindowEnded:
    """A window of meta-iterations has ended."""

    records: Sequence[Record]
    tasks_per_second: float  # training tasks in this window
    seconds: float  # of training since the run began, without interruptions

    def some(self, limit: int = 100) -> Sequence[Record]:
        """Evenly spaced records, at most `limit`, with the last one: on a GPU a window has thousands."""
        every = -(-len(self.records) // limit) or 1
        return self.records[::-1][::every][::-1]


@dataclass(frozen=True)
class Validated:
    """The parameters were validated: means over the validation tasks."""

    iteration: int  # iterations done
    loss: float
    accuracy: float
    ci95: float  # half the width of the 95 % confidence interval of the accuracy
    best: bool  # whether the accuracy is the highest so far
    predictions: Predictions = field(repr=False, compare=False)


@dataclass(frozen=True)
class Noticed:
    """A message to the user in one line, such as a lost worker."""

    text: str


@dataclass(frozen=True)
class ReductionPicked:
    """An executor was picked for the next windows."""

    reduction: Literal["graph", "collective"]
    why: str | None  # None at the start, before any measurement


@dataclass(frozen=True)
class TrainingEnded:
    """The training has ended."""

    iteration: int
    seconds: float


@dataclass(frozen=True)
class MetaTested:
    """The best parameters on validation classes were tested: as published first, then in the other ways."""

    tests: tuple[Tested, ...]
    name: str | None = None  # for one of several kinds of tasks; None for the run's own


Event = (
    TrainingStarted
    | KernelsCompiling
    | Embedding
    | WindowEnded
    | Validated
    | Noticed
    | ReductionPicked
    | TrainingEnded
    | MetaTested
)
Listener = Callable[[Event], None]


def share_done(started: TrainingStarted, window: WindowEnded) -> float:
    """The share of the run that is done, 0 to 1: by iterations or by time, whichever is larger."""
    by_iterations = _iteration(window) / started.iterations if started.iterations else 0.0
    by_time = window.seconds / started.limit_seconds if started.limit_seconds else 0.0
    return min(max(by_iterations, by_time), 1.0)


def seconds_left(started: TrainingStarted, window: WindowEnded) -> float:
    """Seconds left to the first of the run's ends, at the pace since its last start."""
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

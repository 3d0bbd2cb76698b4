"""What happens in a run, for whoever listens: the terminal, the metrics' file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.optimizer import Record


@dataclass(frozen=True)
class TrainingStarted:
    """Training goes on from an iteration; it ends at another, or after some seconds of training, or both."""

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


@dataclass(frozen=True)
class Validated:
    """The parameters after an iteration were judged on validation classes."""

    iteration: int
    accuracy: float
    ci95: float
    best: bool


@dataclass(frozen=True)
class Noticed:
    """Something worth a line: a choice that was made, a worker that was lost."""

    text: str


@dataclass(frozen=True)
class TrainingEnded:
    """Training is over."""

    iteration: int
    seconds: float


Event = TrainingStarted | WindowEnded | Validated | Noticed | TrainingEnded
Listener = Callable[[Event], None]

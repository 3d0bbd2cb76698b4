"""The events of a search, for its listeners: the terminal, the dashboard's page, recorders of its trials."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fanfold.pipeline.events import Event, Noticed, TrainingStarted
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.study import Params
from fanfold.pipeline.training import Job


@dataclass(frozen=True)
class TrialBegan:
    """A trial begins, or goes on where an earlier driver left it.

    Args:
        number: The trial's number.
        directory: Its run directory.
        job: Its training.
        config: Its resolved configuration as YAML.
        started: Its start, as an event of a training run.
    """

    number: int
    directory: RunDirectory
    job: Job
    config: str
    started: TrainingStarted


@dataclass(frozen=True)
class SegmentEnded:
    """A segment of a trial has ended.

    Args:
        number: The trial's number.
        events: The segment's events, as those of a training run.
    """

    number: int
    events: tuple[Event, ...] = field(repr=False)


@dataclass(frozen=True)
class TrialReached:
    """A trial began, goes on, or reached a rung.

    Args:
        number: The trial's number.
        params: Its parameters.
        iteration: Iterations done.
        iterations: Iterations of the whole trial.
        accuracy: Its best validation accuracy; None before the first.
    """

    number: int
    params: Params
    iteration: int
    iterations: int | None
    accuracy: float | None


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended.

    Args:
        number: The trial's number.
        params: Its parameters.
        state: How it ended.
        iteration: Iterations done.
        accuracy: Its best validation accuracy; None if there was no validation.
        reason: Why it failed; None if it did not.
    """

    number: int
    params: Params
    state: Literal["finished", "pruned", "failed"]
    iteration: int
    accuracy: float | None = None
    reason: str | None = None


SearchEvent = TrialBegan | SegmentEnded | TrialReached | TrialEnded | Noticed
SearchListener = Callable[[SearchEvent], None]

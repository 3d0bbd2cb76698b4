"""The events of a search, for its listeners: the terminal, the dashboard's page, recorders of its trials."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fanfold.pipeline.events import Event, Noticed, TrainingStarted
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.params import Params
from fanfold.pipeline.training import Job


@dataclass(frozen=True)
class TrialBegan:
    """A trial begins, or goes on where an earlier driver left it."""

    number: int
    directory: RunDirectory
    job: Job
    config: str  # resolved, as YAML
    started: TrainingStarted  # as an event of a training run


@dataclass(frozen=True)
class SegmentEnded:
    """A segment of a trial has ended."""

    number: int
    events: tuple[Event, ...] = field(repr=False)  # as those of a training run


@dataclass(frozen=True)
class TrialReached:
    """A trial began, goes on, or reached a rung."""

    number: int
    params: Params
    iteration: int  # iterations done
    iterations: int | None  # of the whole trial
    accuracy: float | None  # the best at a validation; None before the first


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended."""

    number: int
    params: Params
    state: Literal["finished", "pruned", "failed"]
    iteration: int  # iterations done
    accuracy: float | None = None  # the best at a validation; None without any
    reason: str | None = None  # why it failed


SearchEvent = TrialBegan | SegmentEnded | TrialReached | TrialEnded | Noticed
SearchListener = Callable[[SearchEvent], None]

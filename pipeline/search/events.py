"""What happens in a search, for whoever listens: the terminal, the dashboard's page, whoever records its trials."""

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
        number: Its number.
        directory: Its run directory.
        job: What it trains.
        config: The resolved configuration as YAML.
        started: From where it goes on, as in a training run.
    """

    number: int
    directory: RunDirectory
    job: Job
    config: str
    started: TrainingStarted


@dataclass(frozen=True)
class LegEnded:
    """A leg of a trial is over.

    Args:
        number: The trial's number.
        events: What happened in the leg, as in a training run.
    """

    number: int
    events: tuple[Event, ...] = field(repr=False)


@dataclass(frozen=True)
class TrialReached:
    """A trial began, or goes on, or is at a rung.

    Args:
        number: Its number.
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
    """A trial is over.

    Args:
        number: Its number.
        params: Its parameters.
        state: What became of it.
        iteration: Iterations done.
        accuracy: Its best validation accuracy, where it has one.
        reason: Why it failed.
    """

    number: int
    params: Params
    state: Literal["finished", "pruned", "failed"]
    iteration: int
    accuracy: float | None = None
    reason: str | None = None


SearchEvent = TrialBegan | LegEnded | TrialReached | TrialEnded | Noticed
SearchListener = Callable[[SearchEvent], None]

"""A trial of a search: a training of its own, segment by segment, from one rung to the next.

A segment ends with a validation, and its state goes back to the driver, which keeps it in the trial's run directory. So
a worker that is lost costs the segment that it was at, and any worker may compute the next one. The numbers are bit for
bit those of `pipeline.training`.
"""

from dataclasses import dataclass
from functools import partial

from distributed import get_worker

from fanfold.pipeline.checkpoint import Checkpoint
from fanfold.pipeline.events import Event
from fanfold.pipeline.executors.base import Executor
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.training import Job, Judge, judge_by_validation, start, train_segment


@dataclass(frozen=True)
class Segment:
    """The result of a segment."""

    checkpoint: Checkpoint  # where the trial stands, validated
    events: tuple[Event, ...]  # as in a training run


class UnwantedError(Exception):
    """Nobody waits for this segment any more."""


def run_segment(job: Job, now: Checkpoint | None) -> Segment:
    """Compute a segment on one worker, in its own process; from the start where there is no checkpoint.

    Raises:
        RunError: A loss or gradient is not finite.
        UnwantedError: Nobody waits for it any more.
    """
    dask_worker = get_worker()
    key = dask_worker.get_current_task()

    def check() -> None:
        # A search that was killed does not leave its workers at work on what nobody wants.
        task = dask_worker.state.tasks.get(key)
        if task is None or task.state != "executing":
            raise UnwantedError

    executor = LocalExecutor(job.recipe, check)
    return compute_segment(job, now, executor, partial(judge_by_validation, job, executor))


def compute_segment(job: Job, now: Checkpoint | None, executor: Executor, judge: Judge) -> Segment:
    """Compute a segment by an executor; from the start where there is no checkpoint."""
    events: list[Event] = []
    checkpoint = train_segment(job, now or start(job), executor, judge, events.append)
    return Segment(checkpoint, tuple(events))

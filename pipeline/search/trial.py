"""A trial of a search: a training of its own, leg by leg, from one rung to the next.

A leg ends with a validation, and its state goes back to the driver, which keeps it in the trial's run directory. So
a worker that is lost costs the leg that it was at, and the next leg may be anyone's. The numbers are bit for bit those
of `pipeline.training`: the same chunks, folded along the same tree, by the same step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from distributed import get_worker

from fanfold.pipeline import worker as work
from fanfold.pipeline.checkpoint import Checkpoint
from fanfold.pipeline.evaluation import normalizations
from fanfold.pipeline.events import Event
from fanfold.pipeline.executors.device_loop import compute_alone, suits
from fanfold.pipeline.executors.graph import evaluation_chunks
from fanfold.pipeline.fold import fold_all
from fanfold.pipeline.leg import Job, Judge, Reduce, advance, start
from fanfold.pipeline.optimizer import State, Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.episodes import Stream
from fanfold.tasks.predictions import Predictions, join


@dataclass(frozen=True)
class Leg:
    """What came of a leg.

    Args:
        checkpoint: Where the trial stands, validated.
        events: What happened, as in a training run.
    """

    checkpoint: Checkpoint
    events: tuple[Event, ...]


class UnwantedError(Exception):
    """Nobody waits for this leg any more."""


def run_leg(job: Job, now: Checkpoint | None) -> Leg:
    """A leg on one worker, in its own process.

    Args:
        job: What the trial trains.
        now: Where it stands; None for the start.

    Raises:
        RunError: A loss or gradient is not finite.
    """
    worker = get_worker()
    key = worker.get_current_task()

    def check() -> None:
        # A search that was killed does not leave its workers at work on what nobody wants.
        known = worker.state.tasks.get(key)
        if known is None or known.state != "executing":
            raise UnwantedError

    def reduce(state: State, iterations: int, ahead: int = 0) -> State:
        check()
        return compute(job.recipe, state, iterations, check)

    return leg(job, now, reduce, partial(judge, job))


def leg(job: Job, now: Checkpoint | None, reduce: Reduce, judge: Judge) -> Leg:
    """A leg, wherever its windows are computed; from the start where there is no checkpoint."""
    events: list[Event] = []
    checkpoint = advance(job, now or start(job), reduce, judge, events.append)
    return Leg(checkpoint, tuple(events))


def compute(recipe: Recipe, state: State, iterations: int, check: Callable[[], None] = lambda: None) -> State:
    """Some more meta-iterations, all in this process.

    Args:
        recipe: What the run's numbers depend on.
        state: The state.
        iterations: How many.
        check: Raises where nobody waits for them any more.
    """
    if suits(recipe, work.bench(recipe)):
        return compute_alone(recipe, state, iterations, check)
    chunks = recipe.meta.chunks()
    for _ in range(iterations):
        state = work.step(recipe, state, fold_all([work.adapt(recipe, state, *chunk) for chunk in chunks]))
    return state


def judge(job: Job, parameters: Vector) -> Predictions:
    """The answers to validation tasks with some parameters, all in this process."""
    recipe = job.recipe
    how = normalizations(recipe)[0] or "batch"
    population = work.statistics(recipe, parameters) if how == "population" else None
    chunks = evaluation_chunks(recipe, job.evaluation.validation_tasks, how)
    return join([work.test(recipe, how, parameters, population, Stream.VALIDATION, *chunk) for chunk in chunks])

"""A trial of a search: a training of its own, leg by leg, from one rung to the next.

A leg ends with a validation, and its state goes back to the driver, which keeps it in the trial's run directory. So
a worker that is lost costs the leg that it was at, and the next leg may be anyone's. The numbers are bit for bit those
of `pipeline.training`: the same chunks, folded along the same tree, by the same step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from distributed import get_worker

from pipeline import work
from pipeline.checkpoint import Checkpoint
from pipeline.evaluation import Accuracy, EvaluationConfig, normalizations, summarize
from pipeline.events import Event, Validated, WindowEnded
from pipeline.fold import fold_all
from pipeline.graph import EMBEDDED
from pipeline.optimizer import State, Vector
from pipeline.recipe import Recipe
from pipeline.training import window_length
from tasks.episodes import Stream

Reduce = Callable[[State, int], State]  # a state and a number of meta-iterations to the state after them
Judge = Callable[[Vector], Accuracy]  # parameters to their validation accuracy


@dataclass(frozen=True)
class Task:
    """What a trial trains: all that its numbers depend on.

    Args:
        recipe: The recipe.
        evaluation: When and how to validate; every validation is a rung.
        note: What to remember with the run, see `Checkpoint`.
    """

    recipe: Recipe
    evaluation: EvaluationConfig
    note: str | None = None

    def ended(self, now: Checkpoint) -> bool:
        """Whether a trial is at its end."""
        return not window_length(now, self.recipe.meta, self.evaluation.every, None)


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


def run_leg(task: Task, now: Checkpoint | None) -> Leg:
    """A leg on one worker, in its own process.

    Args:
        task: What the trial trains.
        now: Where it stands; None for the start.

    Raises:
        RunError: A loss or gradient is not finite.
    """
    worker = get_worker()
    key = worker.get_current_task()

    def reduce(state: State, iterations: int) -> State:
        # A search that was killed does not leave its workers at work on what nobody wants.
        known = worker.state.tasks.get(key)
        if known is None or known.state != "executing":
            raise UnwantedError
        return compute(task.recipe, state, iterations)

    return advance(task, now, reduce, lambda parameters: judge(task, parameters))


def advance(task: Task, now: Checkpoint | None, reduce: Reduce, judge: Judge) -> Leg:
    """Train up to the next rung, or to the end if that comes first, and validate there, as training does.

    Args:
        task: What the trial trains.
        now: Where it stands; None for the start.
        reduce: What computes windows.
        judge: What validates.
    """
    recipe, every, events = task.recipe, task.evaluation.every, []
    now = now or start(task)
    rung = (now.state.iteration // every + 1) * every
    began, pace = time.monotonic() - now.seconds, None
    while now.state.iteration < rung and (iterations := window_length(now, recipe.meta, every, pace)):
        window_began = time.monotonic()
        state = reduce(now.state, iterations)
        pace = (time.monotonic() - window_began) / iterations
        now = replace(now, state=work.without_records(state), seconds=time.monotonic() - began)
        events.append(WindowEnded(state.records, recipe.meta.batch / pace, now.seconds))
    iteration, found = now.state.iteration, judge(now.state.average)
    best = now.best_iteration is None or found.mean > now.best_accuracy
    now = replace(now, validated=iteration, seconds=time.monotonic() - began)
    if best:
        now = replace(now, best=now.state.average, best_iteration=iteration, best_accuracy=found.mean)
    return Leg(now, (*events, Validated(iteration, found.mean, found.ci95, best)))


def start(task: Task) -> Checkpoint:
    """Where a trial stands before its first iteration."""
    state = work.initialize(task.recipe)
    fingerprint = work.bench(replace(task.recipe, device="cpu")).fingerprint
    return Checkpoint(state, best=state.parameters, fingerprint=fingerprint, note=task.note)


def compute(recipe: Recipe, state: State, iterations: int) -> State:
    """Some more meta-iterations, all in this process."""
    chunks = recipe.meta.chunks()
    for _ in range(iterations):
        state = work.step(recipe, state, fold_all([work.adapt(recipe, state, *chunk) for chunk in chunks]))
    return state


def judge(task: Task, parameters: Vector) -> Accuracy:
    """The validation accuracy of some parameters, all in this process."""
    recipe = task.recipe
    how = normalizations(recipe)[0] or "batch"
    population = work.statistics(recipe, parameters) if how == "population" else None
    chunks = recipe.meta.chunks(task.evaluation.validation_tasks, EMBEDDED if how == "population" else None)
    return summarize(
        np.concatenate([work.test(recipe, how, parameters, population, Stream.VALIDATION, *chunk) for chunk in chunks])
    )

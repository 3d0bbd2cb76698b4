"""A training, leg by leg, each up to a validation. A run is legs one after the other, and so is a search's trial."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from fanfold.pipeline import worker as work
from fanfold.pipeline.checkpoint import Checkpoint
from fanfold.pipeline.evaluation import EvaluationConfig
from fanfold.pipeline.events import Listener, Validated, WindowEnded
from fanfold.pipeline.optimizer import State, Vector
from fanfold.pipeline.recipe import Meta, Recipe
from fanfold.pipeline.results import summarize
from fanfold.tasks.predictions import Answers

WINDOW = 3.0  # seconds that a window is to take
FIRST = 10  # iterations of the first window, before any pace is known

Judge = Callable[[Vector], Answers]  # parameters to the answers to validation tasks
Keep = Callable[[Checkpoint], None]


class Reduce(Protocol):
    """What computes windows."""

    def __call__(self, state: State, iterations: int, ahead: int = 0) -> State:
        """The state after some more meta-iterations, with their records.

        Args:
            state: The state.
            iterations: How many; those that are done may be fewer.
            ahead: How many are asked for next, if none are done fewer than asked now; 0 if that is not known. They may
                be begun, so that nobody who computes waits while the driver tells what happened.
        """


@dataclass(frozen=True)
class Job:
    """What is trained: all that the numbers depend on.

    Args:
        recipe: The recipe.
        evaluation: When and how to validate.
        note: What to remember with the run, see `Checkpoint`.
    """

    recipe: Recipe
    evaluation: EvaluationConfig
    note: str | None = None

    def ended(self, now: Checkpoint) -> bool:
        """Whether there is nothing left to train."""
        return not window_length(now, self.recipe.meta, self.evaluation.every)


def start(job: Job) -> Checkpoint:
    """Where a job stands before its first iteration."""
    state = work.initialize(job.recipe)
    fingerprint = work.bench(replace(job.recipe, device="cpu")).fingerprint
    return Checkpoint(state, best=state.parameters, fingerprint=fingerprint, note=job.note)


def advance(
    job: Job, now: Checkpoint, reduce: Reduce, judge: Judge, tell: Listener, keep: Keep = lambda _: None
) -> Checkpoint:
    """Train up to the next validation, or to the end if that comes first, and validate there.

    Args:
        job: What is trained.
        now: Where it stands.
        reduce: What computes windows.
        judge: What answers validation tasks.
        tell: Whom to tell what happens.
        keep: What keeps checkpoints, when they are due.

    Returns:
        Where it stands then, with the best parameters so far.
    """
    meta, every = job.recipe.meta, job.evaluation.every
    goal = (now.state.iteration // every + 1) * every
    ended = time.monotonic()
    began, iterations = ended - now.seconds, 0
    while now.state.iteration < goal and (iterations := iterations or window_length(now, meta, every)):
        window_began, before = ended, now.state.iteration  # a gang may be at it since the one before ended
        ahead = _next_length(now, iterations, meta, every, goal)
        state = reduce(now.state, iterations, ahead)
        ended, done = time.monotonic(), state.iteration - before
        now = replace(now, state=work.without_records(state), seconds=ended - began)
        tell(WindowEnded(state.records, meta.batch * done / (ended - window_began), now.seconds))
        if before // meta.checkpoint < state.iteration // meta.checkpoint and state.iteration < goal:
            keep(now)
        iterations = ahead if done == iterations else 0
    now = _validate(now, judge(now.state.average), tell)
    now = replace(now, seconds=time.monotonic() - began)
    keep(now)
    return now


def _validate(now: Checkpoint, answers: Answers, tell: Listener) -> Checkpoint:
    """Judge the parameters by the answers to validation tasks, and keep them if they are the best so far."""
    iteration, found = now.state.iteration, summarize(answers.accuracies)
    best = now.best_iteration is None or found.mean > now.best_accuracy
    tell(Validated(iteration, float(answers.losses.mean()), found.mean, found.ci95, best, answers))
    now = replace(now, validated=iteration)
    return replace(now, best=now.state.average, best_iteration=iteration, best_accuracy=found.mean) if best else now


def _next_length(now: Checkpoint, iterations: int, meta: Meta, every: int, goal: int) -> int:
    """How many iterations to hand out after some more; 0 where none are, before a validation, or none can be told."""
    done = now.state.iteration
    if done + iterations >= goal or not done:
        return 0
    then = replace(now.state, iteration=done + iterations)
    return window_length(replace(now, state=then, seconds=now.seconds * then.iteration / done), meta, every)


def window_length(now: Checkpoint, meta: Meta, every: int) -> int:
    """How many iterations to hand out next: some seconds', up to the next validation or checkpoint, and the end.

    It changes no number. A longer window costs less beside its iterations; but until it is over, nobody sees how the
    run goes, and a gang that loses a worker computes it again.

    Args:
        now: Where the run stands.
        meta: The outer loop.
        every: Iterations between validations.

    Returns:
        Iterations; 0 when the run is over.
    """
    done = now.state.iteration
    length = every - done % every
    if meta.window is not None:
        length = min(length, meta.window)
    if meta.iterations is not None:
        length = min(length, meta.iterations - done)
    left = math.inf if meta.minutes is None else 60 * meta.minutes - now.seconds
    if left <= 0:
        return 0
    pace = now.seconds / done if done else WINDOW / FIRST
    if pace * meta.checkpoint > WINDOW:  # else some windows after one another would be short, for no one to gain
        length = min(length, meta.checkpoint - done % meta.checkpoint)
    if pace > 0:
        length = min(length, math.ceil(min(WINDOW, left) / pace))
    return max(length, 0)

"""Meta-training, driven window by window."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from pipeline import work
from pipeline.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pipeline.cluster import Cluster
from pipeline.evaluation import EvaluationConfig, evaluate
from pipeline.events import Event, Listener, TrainingEnded, TrainingStarted, Validated, WindowEnded
from pipeline.graph import window_graph
from pipeline.optimizer import State
from pipeline.recipe import Meta, Recipe
from pipeline.run_directory import RunDirectory
from pipeline.waiting import wait_for
from tasks.episodes import Stream


def train(
    cluster: Cluster,
    recipe: Recipe,
    evaluation: EvaluationConfig,
    directory: RunDirectory,
    listeners: Sequence[Listener] = (),
) -> Checkpoint:
    """Train from the run directory's last checkpoint, or from the start where there is none.

    Args:
        cluster: The cluster.
        recipe: What the run's numbers depend on.
        evaluation: When and how to validate.
        directory: Where checkpoints and metrics go.
        listeners: Whom to tell what happens.

    Returns:
        The last checkpoint; the best on validation classes lies in the run directory.

    Raises:
        RunError: A loss is not finite, or the cluster is gone; the last checkpoint stays.
        FanfoldError: A checkpoint can't be read or written.
    """
    meta, run = recipe.meta, uuid4().hex[:8]
    resumed = directory.last.exists()
    now = load_checkpoint(directory.last) if resumed else Checkpoint(work.initialize(recipe))
    if resumed:
        directory.forget_after(now.state.iteration)
    else:
        save_checkpoint(directory.last, now)

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    limit = None if meta.minutes is None else 60 * meta.minutes
    tell(TrainingStarted(now.state.iteration, meta.iterations, now.seconds, limit))
    began = time.monotonic() - now.seconds
    pace: float | None = None  # seconds an iteration, of the window before
    while iterations := window_length(now, meta, evaluation.every, pace):
        window_began = time.monotonic()
        state = run_window(cluster, run, recipe, now.state, iterations)
        ended = time.monotonic()
        pace = (ended - window_began) / iterations
        now = replace(now, state=work.without_records(state), seconds=ended - began)
        tell(WindowEnded(state.records, meta.batch / pace, now.seconds))

        over = not window_length(now, meta, evaluation.every, pace)
        if over or state.iteration % evaluation.every == 0:
            now = validate(cluster, recipe, evaluation, directory, now, tell)
            now = replace(now, seconds=time.monotonic() - began)
        if over or state.iteration % meta.checkpoint == 0 or now.validated == state.iteration:
            save_checkpoint(directory.last, now)
    if now.validated != now.state.iteration:  # a run whose end was moved before the point it had reached
        now = validate(cluster, recipe, evaluation, directory, now, tell)
        save_checkpoint(directory.last, now)
    tell(TrainingEnded(now.state.iteration, now.seconds))
    return now


def window_length(now: Checkpoint, meta: Meta, every: int, pace: float | None) -> int:
    """How many iterations to hand out next: up to the window's size, the next validation or checkpoint, and the end.

    Args:
        now: Where the run stands.
        meta: The outer loop.
        every: Iterations between validations.
        pace: Seconds an iteration, where known.

    Returns:
        Iterations; 0 when the run is over.
    """
    done = now.state.iteration
    length = min(meta.window, every - done % every, meta.checkpoint - done % meta.checkpoint)
    if meta.iterations is not None:
        length = min(length, meta.iterations - done)
    if meta.minutes is not None:
        left = 60 * meta.minutes - now.seconds
        length = min(length, math.ceil(left / pace) if pace and left > 0 else length if left > 0 else 0)
    return max(length, 0)


def run_window(cluster: Cluster, run: str, recipe: Recipe, state: State, iterations: int) -> State:
    """Hand the scheduler a window's graph, and wait for the state at its end.

    Nothing is said between driver and scheduler meanwhile; with the result taken, all of the window is released.
    """
    graph = window_graph(run, recipe, state, iterations, cluster.addresses)
    future = cluster.client.compute(graph, optimize_graph=False)
    result: State = wait_for(cluster, [future])[0]
    return result


def validate(
    cluster: Cluster,
    recipe: Recipe,
    evaluation: EvaluationConfig,
    directory: RunDirectory,
    now: Checkpoint,
    tell: Listener,
) -> Checkpoint:
    """Judge the parameters on validation classes, and keep them if they are the best so far."""
    found = evaluate(cluster, recipe, now.state.parameters, Stream.VALIDATION, evaluation.validation_tasks)
    best = now.best_iteration is None or found.mean > now.best_accuracy
    now = replace(now, validated=now.state.iteration)
    if best:
        now = replace(now, best_iteration=now.state.iteration, best_accuracy=found.mean)
        save_checkpoint(directory.best, now)
    tell(Validated(now.state.iteration, found.mean, found.ci95, best))
    return now

"""Meta-training, driven window by window."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from data.errors import FanfoldError
from pipeline import work
from pipeline.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pipeline.cluster import Cluster
from pipeline.evaluation import EvaluationConfig, evaluate, normalizations
from pipeline.events import Event, Listener, TrainingEnded, TrainingStarted, Validated, WindowEnded
from pipeline.optimizer import Vector
from pipeline.recipe import Meta, Recipe
from pipeline.reduction import open_reduction
from pipeline.run_directory import RunDirectory
from tasks.episodes import Stream


def train(
    cluster: Cluster,
    recipe: Recipe,
    evaluation: EvaluationConfig,
    directory: RunDirectory,
    listeners: Sequence[Listener] = (),
    note: str | None = None,
) -> Checkpoint:
    """Train from the run directory's last checkpoint, or from the start where there is none.

    Args:
        cluster: The cluster.
        recipe: What the run's numbers depend on.
        evaluation: When and how to validate.
        directory: Where checkpoints and metrics go.
        listeners: Whom to tell what happens.
        note: What to remember with the run, see `Checkpoint`.

    Returns:
        The last checkpoint, and with it the parameters that did best on validation classes.

    Raises:
        RunError: A loss is not finite, or the cluster is gone; the last checkpoint stays.
        FanfoldError: A checkpoint can't be read or written.
    """
    meta, run = recipe.meta, uuid4().hex[:8]
    now = resume(recipe, directory) if directory.last.exists() else start(recipe, directory, note)

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    limit = None if meta.minutes is None else 60 * meta.minutes
    tell(TrainingStarted(now.state.iteration, meta.iterations, now.seconds, limit))
    began = time.monotonic() - now.seconds
    pace: float | None = None  # seconds an iteration, of the window before
    with open_reduction(cluster, run, recipe, tell) as reduce:
        while iterations := window_length(now, meta, evaluation.every, pace):
            window_began = time.monotonic()
            state = reduce(now.state, iterations)
            ended = time.monotonic()
            pace = (ended - window_began) / iterations
            now = replace(now, state=work.without_records(state), seconds=ended - began)
            tell(WindowEnded(state.records, meta.batch / pace, now.seconds))

            if state.iteration % evaluation.every == 0:
                now = validate(cluster, recipe, evaluation, now, tell)
                now = replace(now, seconds=time.monotonic() - began)
            if state.iteration % meta.checkpoint == 0 or now.validated == state.iteration:
                save_checkpoint(directory.last, now)
    if now.validated != now.state.iteration:
        now = validate(cluster, recipe, evaluation, now, tell)
    save_checkpoint(directory.last, now)
    tell(TrainingEnded(now.state.iteration, now.seconds))
    return now


def start(recipe: Recipe, directory: RunDirectory, note: str | None) -> Checkpoint:
    """The first checkpoint of a run, before its first iteration."""
    state = work.initialize(recipe)
    fingerprint = work.bench(replace(recipe, device="cpu")).fingerprint
    first = Checkpoint(state, best=state.parameters, fingerprint=fingerprint, note=note)
    save_checkpoint(directory.last, first)
    return first


def resume(recipe: Recipe, directory: RunDirectory) -> Checkpoint:
    """The checkpoint to go on from; metrics of iterations after it are forgotten.

    Raises:
        FanfoldError: It can't be read, or was written by a run on another store or of another network.
    """
    found = load_checkpoint(directory.last)
    work.bench(replace(recipe, device="cpu", fingerprint=found.fingerprint))
    check_parameters(recipe, found.state.parameters, directory.last)
    directory.forget_after(found.state.iteration)
    return found


def check_parameters(recipe: Recipe, parameters: Vector, path: Path) -> None:
    """Raise FanfoldError unless a checkpoint's parameters are as many as the recipe's."""
    expected = len(work.initialize(recipe).parameters)
    if len(parameters) != expected:
        raise FanfoldError(
            f"The checkpoint {path} holds {len(parameters):,} parameters, but this configuration has {expected:,}."
        )


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
        if left <= 0:
            return 0
        if pace is not None:
            length = min(length, math.ceil(left / pace))
    return max(length, 0)


def validate(
    cluster: Cluster, recipe: Recipe, evaluation: EvaluationConfig, now: Checkpoint, tell: Listener
) -> Checkpoint:
    """Judge the parameters on validation classes, and keep them if they are the best so far."""
    iteration, parameters, tasks = now.state.iteration, now.state.average, evaluation.validation_tasks
    found = evaluate(cluster, recipe, parameters, Stream.VALIDATION, tasks, normalizations(recipe)[0])
    best = now.best_iteration is None or found.mean > now.best_accuracy
    tell(Validated(iteration, found.mean, found.ci95, best))
    now = replace(now, validated=iteration)
    return replace(now, best=parameters, best_iteration=iteration, best_accuracy=found.mean) if best else now

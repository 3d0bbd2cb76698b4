"""Meta-training over a cluster, driven leg by leg."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker as work
from fanfold.pipeline.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import EvaluationConfig, answer, normalizations
from fanfold.pipeline.events import Event, Listener, TrainingEnded, TrainingStarted
from fanfold.pipeline.executors.choose import open_reduction
from fanfold.pipeline.leg import Job, advance, start
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.tasks.episodes import Stream


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
    job, run = Job(recipe, evaluation, note), uuid4().hex[:8]
    now = resume(recipe, directory) if directory.last.exists() else begin(job, directory)

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    meta, how = recipe.meta, normalizations(recipe)[0]
    limit = None if meta.minutes is None else 60 * meta.minutes
    training, validating = cluster.part("meta-training"), cluster.part("validation")
    judge = partial(
        answer, validating, recipe, stream=Stream.VALIDATION, tasks=evaluation.validation_tasks, normalization=how
    )
    tell(TrainingStarted(run, now.state.iteration, meta.iterations, now.seconds, limit))
    with open_reduction(training, run, recipe, tell) as reduce:
        while not job.ended(now) or now.validated != now.state.iteration:
            now = advance(job, now, reduce, judge, tell, partial(save_checkpoint, directory.last))
    tell(TrainingEnded(now.state.iteration, now.seconds))
    return now


def begin(job: Job, directory: RunDirectory) -> Checkpoint:
    """The first checkpoint of a run, before its first iteration."""
    first = start(job)
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
    directory.forget_after(found.state.iteration, found.validated)
    return found


def check_parameters(recipe: Recipe, parameters: Vector, path: Path) -> None:
    """Raise FanfoldError unless a checkpoint's parameters are as many as the recipe's."""
    expected = len(work.initialize(recipe).parameters)
    if len(parameters) != expected:
        raise FanfoldError(
            f"The checkpoint {path} holds {len(parameters):,} parameters, but this configuration has {expected:,}."
        )

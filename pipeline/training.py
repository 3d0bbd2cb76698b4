"""Meta-training, segment by segment, each up to a validation. A run is segments one after the other, as is a trial."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from fanfold.data.errors import FanfoldError
from fanfold.data.store import open_store
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import Checkpoint, Statistics, newest_checkpoint, restore_earlier, save_checkpoint
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.embed_once import embed_once
from fanfold.pipeline.evaluation import find_statistics, normalizations, predict
from fanfold.pipeline.events import Event, Listener, Noticed, TrainingEnded, TrainingStarted, Validated, WindowEnded
from fanfold.pipeline.executors.base import Executor
from fanfold.pipeline.executors.choose import open_executor
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.executors.prepare import prepare_workers
from fanfold.pipeline.fitting import fit
from fanfold.pipeline.initial import read_initial, start_from
from fanfold.pipeline.optimizer import Vector, initial_state
from fanfold.pipeline.recipe import Meta, Recipe
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.results import summarize
from fanfold.tasks.episodes import Stream
from fanfold.tasks.fitted import Fitted
from fanfold.tasks.predictions import Predictions

WINDOW_SECONDS = 3.0  # length of a window
FIRST = 10  # iterations of the first window, while no pace is known

Judge = Callable[[Vector], "Judged"]  # of parameters, by validation tasks
Keep = Callable[[Checkpoint], None]


@dataclass(frozen=True)
class Judged:
    """Parameters, judged by validation tasks."""

    predictions: Predictions
    statistics: Statistics | None  # of batch norm, that the predictions were made with


@dataclass(frozen=True)
class Job:
    """A training: a recipe, its validations, and a note."""

    recipe: Recipe
    evaluation: EvaluationConfig  # when and how to validate
    note: str | None = None  # kept with the run, see `Checkpoint`

    def ended(self, now: Checkpoint) -> bool:
        """Whether nothing is left to train; a frozen network is validated once."""
        if not now.state.parameters.size:
            return now.best_iteration is not None
        return self.stopped_early(now) or not window_length(now, self.recipe.meta, self.evaluation.every)

    def stopped_early(self, now: Checkpoint) -> bool:
        """Whether the last validations, as many as the patience, have found nothing better."""
        patience, every = self.evaluation.patience, self.evaluation.every
        return patience is not None and now.validated - (now.best_iteration or now.validated) >= patience * every


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
        directory: Where checkpoints go; metrics of iterations after the last one are forgotten.
        listeners: Told what happens.
        note: Kept with the run, see `Checkpoint`.

    Returns:
        The last checkpoint, and with it the parameters that did best on validation classes.

    Raises:
        RunError: A loss is not finite, or the cluster is gone; the last checkpoint stays.
        FanfoldError: A checkpoint can't be read or written.
    """
    job, run = Job(recipe, evaluation, note), uuid4().hex[:8]

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    if directory.last.exists():
        now = resume(recipe, directory, tell)
        if job.ended(now) and not job.stopped_early(now):
            done = f"{now.state.iteration:,} iterations in {now.seconds / 60:.1f} minutes"
            tell(Noticed(f"the run has {done} already: none are left to train"))
    else:
        now = start(job)
        if recipe.meta.initial is not None and now.note is not None:
            tell(Noticed(now.note))
        save_checkpoint(directory.last, now)

    embed_once(GraphExecutor(cluster.part("embedding"), recipe), recipe, tell)
    meta = recipe.meta
    if not learns(job, now):
        return _settle(job, now, GraphExecutor(cluster.part("validation"), recipe), run, directory, tell)
    limit = None if meta.minutes is None else 60 * meta.minutes
    training, validating = cluster.part("meta-training"), GraphExecutor(cluster.part("validation"), recipe)
    judge = partial(judge_by_validation, job, validating)
    tell(TrainingStarted(run, now.state.iteration, meta.iterations, now.seconds, limit))
    prepare_workers(training, recipe, tell)
    with open_executor(training, recipe, run, tell) as executor:
        while not job.ended(now) or now.validated != now.state.iteration:
            now = train_segment(job, now, executor, judge, tell, partial(save_checkpoint, directory.last))
    if job.stopped_early(now):
        tell(
            Noticed(
                f"validation accuracy has not risen since iteration {now.best_iteration:,}: training ends, as "
                f"`evaluation.patience={evaluation.patience}` asks for"
            )
        )
    tell(TrainingEnded(now.state.iteration, now.seconds))
    return now


def learns(job: Job, now: Checkpoint) -> bool:
    """Whether there is anything to meta-train: no method on embeddings is, and no metric on a frozen network."""
    return not isinstance(job.recipe.algorithm, Fitted) and len(now.state.parameters) > 0


def _settle(
    job: Job, now: Checkpoint, executor: Executor, run: str, directory: RunDirectory, tell: Listener
) -> Checkpoint:
    """The checkpoint of a job that trains nothing: what its algorithm chooses is chosen on validation classes."""
    if now.best_iteration is not None:  # resumed
        return now
    began = time.monotonic()
    tell(TrainingStarted(run, 0, 0, 0.0, None))
    if isinstance(job.recipe.algorithm, Fitted):
        found = fit(executor, job.recipe, now.state.parameters[:0], job.evaluation.validation_tasks)
        judged = Judged(found.predictions, found.statistics)
        now = replace(now, state=initial_state(found.parameters))
    else:
        tell(Noticed("the network is frozen, and nothing else is to be learnt: it is tested as it is"))
        judged = judge_by_validation(job, executor, now.state.average)
    now = replace(_validate(now, judged, tell), seconds=time.monotonic() - began)
    save_checkpoint(directory.last, now)
    tell(TrainingEnded(0, now.seconds))
    return now


def resume(recipe: Recipe, directory: RunDirectory, tell: Listener = lambda _: None) -> Checkpoint:
    """The checkpoint to go on from; metrics of iterations after it are forgotten.

    Where the last one can't be read or is another network's, it is the one before, which a `Noticed` tells.

    Raises:
        FanfoldError: It can't be read, or was written by a run on another store or of another network.
    """
    found, note = newest_checkpoint(directory.last, partial(named, recipe))
    if note is not None:
        restore_earlier(directory.last)
        tell(Noticed(note))
    worker.open_context(replace(recipe, device="cpu", fingerprint=found.fingerprint))
    directory.forget_after(found.state.iteration, found.validated)
    return found


def named(recipe: Recipe, found: Checkpoint, path: Path) -> Checkpoint:
    """A checkpoint with the names and shapes of the recipe's parameters, which a file of an earlier format lacks.

    Raises:
        FanfoldError: The checkpoint's parameters are others than the recipe's.
    """
    layout, held = worker.layout(recipe), len(found.best)
    expected = sum(math.prod(shape) for shape in layout.values())
    if held != expected:
        raise FanfoldError(f"The checkpoint {path} holds {held:,} parameters, but this configuration has {expected:,}.")
    if found.layout is not None and list(found.layout.items()) != list(layout.items()):
        pairs = zip(found.layout.items(), layout.items(), strict=False)
        one, other = next(pair for pair in pairs if pair[0] != pair[1])
        raise FanfoldError(
            f"The checkpoint {path} holds {one[0][1:]} of {list(one[1])} where this configuration has {other[0][1:]} "
            f"of {list(other[1])}: it is of another model or algorithm."
        )
    return replace(found, layout=layout)


def start(job: Job) -> Checkpoint:
    """The checkpoint of a job before its first iteration; its note says what it starts from, if not from nothing.

    Raises:
        FanfoldError: The network to start from can't be read, or doesn't fit.
    """
    state, opened = worker.initialize(job.recipe), worker.open_context(replace(job.recipe, device="cpu"))
    layout, note = worker.layout(job.recipe), job.note
    if job.recipe.meta.initial is not None:
        head = [f".{name}" for name in opened.network.head]
        found, said = start_from(read_initial(Path(job.recipe.meta.initial)), state.parameters, layout, head)
        state, note = initial_state(found), f"{note}; {said}" if note else said
    preprocessing = open_store(job.recipe.store).preprocessing.to_dict()
    return Checkpoint(
        state, state.parameters, opened.fingerprint, note=note, layout=layout, preprocessing=preprocessing
    )


def train_segment(
    job: Job, now: Checkpoint, executor: Executor, judge: Judge, tell: Listener, keep: Keep = lambda _: None
) -> Checkpoint:
    """Train up to the next validation, or to the end if that comes first, and validate there.

    Returns:
        The checkpoint then, with the best parameters so far.
    """
    meta, every = job.recipe.meta, job.evaluation.every
    goal = (now.state.iteration // every + 1) * every
    began = time.monotonic() - now.seconds
    told = now
    try:
        while now.state.iteration < goal and (iterations := window_length(now, meta, every)):
            window_began, before = time.monotonic(), now.state.iteration
            window = executor.window(now.state, iterations)
            ended = time.monotonic()
            now = replace(now, state=window.state, seconds=ended - began)
            tell(WindowEnded(window.records, meta.batch * iterations / (ended - window_began), now.seconds))
            told = now
            if before // meta.checkpoint < now.state.iteration // meta.checkpoint and now.state.iteration < goal:
                keep(now)
    except KeyboardInterrupt:
        if told.state.iteration < goal:  # a resumed run would leave out the validation at the goal
            keep(told)
        raise
    now = _validate(now, judge(now.state.average), tell)
    now = replace(now, seconds=time.monotonic() - began)
    keep(now)
    return now


def judge_by_validation(job: Job, executor: Executor, parameters: Vector) -> Judged:
    """Judge parameters by a job's validation tasks, tested as the algorithm's paper does."""
    how, tasks = normalizations(job.recipe)[0], job.evaluation.validation_tasks
    statistics = find_statistics(executor, job.recipe, parameters, how)
    predictions = predict(executor, job.recipe, parameters, Stream.VALIDATION, tasks, how, statistics)
    return Judged(predictions, statistics)


def _validate(now: Checkpoint, judged: Judged, tell: Listener) -> Checkpoint:
    """Keep the parameters that were judged if they are the best so far."""
    predictions = judged.predictions
    iteration, found = now.state.iteration, summarize(predictions.accuracies)
    best = now.best_iteration is None or found.mean > now.best_accuracy
    tell(Validated(iteration, float(predictions.losses.mean()), found.mean, found.ci95, best, predictions))
    now = replace(now, validated=iteration)
    if not best:
        return now
    now = replace(now, best=now.state.average, statistics=judged.statistics or {})
    return replace(now, best_iteration=iteration, best_accuracy=found.mean)


def window_length(now: Checkpoint, meta: Meta, every: int) -> int:
    """The length of the next window: some seconds, up to the next validation or the end, or to a checkpoint.

    It changes no number. A longer window costs less beside its iterations, but nobody sees how the run goes before its
    end, and a gang that loses a worker computes all of it again.

    Returns:
        Iterations; 0 when the run is over.
    """
    done = now.state.iteration
    if not now.state.parameters.size:
        return 0
    length = every - done % every
    if meta.window is not None:
        length = min(length, meta.window)
    if meta.iterations is not None:
        length = min(length, meta.iterations - done)
    left = math.inf if meta.minutes is None else 60 * meta.minutes - now.seconds
    if left <= 0:
        return 0
    pace = now.seconds / done if done else WINDOW_SECONDS / FIRST
    # Only where checkpoints take longer than windows: else windows would be too short.
    if pace * meta.checkpoint > WINDOW_SECONDS:
        length = min(length, meta.checkpoint - done % meta.checkpoint)
    if pace > 0:
        length = min(length, math.ceil(min(WINDOW_SECONDS, left) / pace))
    return max(length, 0)

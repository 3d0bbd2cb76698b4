"""A search over a cluster: many trainings at once, each a trial of an Optuna study on one or several workers.

Whenever a worker is free, the driver asks the study for a trial, hands its next segment to Dask, and reports the result
to the study. At every rung the study's pruner decides whether the trial goes on. A result is in the trial's run
directory before it is in the study: after a killed driver, the next one goes on from there.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from distributed import KilledWorker, wait
from optuna.trial import Trial, TrialState

from fanfold.data.advice import as_text, one_line
from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline.checkpoint import Checkpoint, parameters_sha256, save_checkpoint
from fanfold.pipeline.cluster import results as waiting
from fanfold.pipeline.cluster.cluster import Cluster, talking_to_the_scheduler
from fanfold.pipeline.events import Noticed, TrainingStarted
from fanfold.pipeline.executors.base import Executor, Window
from fanfold.pipeline.executors.choose import open_executor
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.config import SearchConfig
from fanfold.pipeline.search.events import SearchListener, SegmentEnded, TrialBegan, TrialEnded, TrialReached
from fanfold.pipeline.search.params import Params, Value
from fanfold.pipeline.search.space import Space
from fanfold.pipeline.search.study import count, draw, left_running
from fanfold.pipeline.search.trial import Segment, compute_segment, run_segment
from fanfold.pipeline.training import Job, judge_by_validation, resume

POLL_SECONDS = 1.0  # between checks of the workers
AT_ONCE = 1024  # trials that run at once, at most
STOPPED = "The search was stopped."
SECONDS = "seconds"  # the study's attribute of the search's length so far


@dataclass(frozen=True)
class Candidate:
    """The training of a trial's parameters."""

    job: Job
    config: str  # resolved, as YAML, for the run directory


Make = Callable[[Mapping[str, Value]], Candidate]  # may raise FanfoldError, which fails the trial


class TrialError(Exception):
    """The failure of a trial, not of the cluster."""


@dataclass
class _Run:
    """A running trial."""

    trial: Trial
    params: Params
    directory: RunDirectory
    candidate: Candidate
    now: Checkpoint | None = None
    workers: tuple[str, ...] = field(default=())


class Search:
    """Drives a study's trials to their ends. `trials` is the folder of their run directories."""

    def __init__(
        self,
        cluster: Cluster,
        study: optuna.Study,
        space: Space,
        config: SearchConfig,
        seed: int,
        make: Make,
        trials: Path,
        tell: SearchListener = lambda _: None,
    ) -> None:
        self._cluster, self._study, self._space = cluster.part(as_text(trials.parent.name)), study, space
        self._config, self._seed = config, seed
        self._make, self._trials, self._tell = make, trials, tell
        self._stopped = threading.Event()
        self._before = float(study.user_attrs.get(SECONDS, 0.0))
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of searching so far, without interruptions."""
        return self._before + time.monotonic() - self._began

    def run(self) -> None:
        """Search until all trials have ended, or the time is up.

        Raises:
            RunError: The cluster is gone; the study stays, and a search started again goes on with it.
            FanfoldError: A file can't be read or written.
        """
        left = deque(left_running(self._study))
        ready: deque[_Run] = deque()
        under_way: dict[Future[Segment], _Run] = {}
        seen = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                while True:
                    if workers := self._cluster.addresses:
                        seen = time.monotonic()
                    elif time.monotonic() - seen > waiting.WITHOUT_WORKERS:
                        raise waiting.without_workers(self._cluster.states)
                    while self._places(workers) > len(under_way) and not self._time_is_up():
                        run = ready.popleft() if ready else self._next(left)
                        if run is None:
                            break
                        taken = {worker for other in under_way.values() for worker in other.workers}
                        run.workers = choose(workers, taken, run.workers, self._config.workers_per_trial)
                        under_way[pool.submit(self._segment, run)] = run
                    if not under_way:
                        return
                    done, _ = wait_for(under_way, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=lambda future: under_way[future].trial.number):
                        run = under_way.pop(future)
                        if self._goes_on(run, future):
                            ready.append(run)
                        self._study.set_user_attr(SECONDS, round(self.seconds, 3))
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _places(self, workers: Sequence[str]) -> int:
        """How many trials may run at once: at least one, which waits for workers if there are none."""
        return min(max(len(workers) // self._config.workers_per_trial, 1), AT_ONCE)

    def _time_is_up(self) -> bool:
        return self._config.minutes is not None and self.seconds >= 60 * self._config.minutes

    def _next(self, left: deque[Trial]) -> _Run | None:
        """The next trial: one that an earlier driver left, else a new one; None if there are no more."""
        while True:
            if left:
                trial = left.popleft()
            elif count(self._study).all < min(self._config.trials, self._points()):
                trial = self._study.ask()
            else:
                return None
            run = self._begin(trial)
            if run is not None:
                return run

    def _points(self) -> float:
        """The largest possible number of trials."""
        points = self._space.points() if self._config.sampler == "grid" else None
        return float("inf") if points is None else points

    def _begin(self, trial: Trial) -> _Run | None:
        """Prepare a trial for its next segment; None if it fails, or proves to have ended."""
        params = draw(trial, self._space, self._config.sampler, self._seed)
        directory = RunDirectory(self._trials / f"{trial.number:04}")
        try:
            candidate = self._make(params)
        except FanfoldError as error:
            self._fail(trial, params, 0, str(error))
            return None
        run = _Run(trial, params, directory, candidate)
        if not directory.config.exists():
            directory.create(candidate.config)
        if directory.last.exists():
            run.now = resume(candidate.job.recipe, directory)
        else:
            directory.forget_after(0, 0)  # of a driver that was killed before the first checkpoint
        self._tell(TrialBegan(trial.number, directory, candidate.job, candidate.config, _started(run)))
        # The earlier driver may have been killed before it reported this rung to the study.
        if run.now is not None and not self._judge(run, run.now):
            return None
        if run.now is None:
            self._reached(run)
        return run

    def _segment(self, run: _Run) -> Segment:
        """Compute a trial's next segment, in a thread of its own.

        Raises:
            TrialError: The trial failed.
            RunError: The cluster is gone.
        """
        if self._config.workers_per_trial > 1:
            return self._segment_on_several(run)
        return self._segment_on_one(run)

    def _segment_on_one(self, run: _Run) -> Segment:
        number = run.trial.number
        with talking_to_the_scheduler(), self._cluster.part(f"trial {number}").labelled():
            future = self._cluster.client.submit(
                # Dask searches a task's arguments for keys, so they are bound to the function.
                partial(run_segment, run.candidate.job, run.now),
                key=(f"trial-{number}-{uuid4().hex[:8]}",),  # as a tuple it has a group of its own, and so its own span
                workers=list(run.workers) or None,
                allow_other_workers=bool(run.workers),
                pure=False,
            )
        while True:
            with talking_to_the_scheduler():
                try:
                    wait([future], timeout=POLL_SECONDS)
                    break
                except TimeoutError:
                    pass
                if self._stopped.is_set():
                    future.cancel()
                    raise RunError(STOPPED)
        if future.status == "error":
            raise TrialError(in_words(future.exception())) from future.exception()
        with talking_to_the_scheduler():
            found: Segment = future.result()
        return found

    def _segment_on_several(self, run: _Run) -> Segment:
        job, chosen = run.candidate.job, set(run.workers)
        # If all of them are gone, any other workers serve.
        share = replace(self._cluster, chosen=lambda workers: [w for w in workers if w in chosen] or workers)
        share = share.part(f"trial {run.trial.number}")

        def tell(event: object) -> None:
            if isinstance(event, Noticed):
                self._tell(Noticed(f"trial {run.trial.number}: {event.text}"))

        try:
            with open_executor(share.part("meta-training"), job.recipe, uuid4().hex[:8], tell) as executor:
                judge = partial(judge_by_validation, job, GraphExecutor(share.part("validation"), job.recipe))
                return compute_segment(job, run.now, _UnlessStopped(executor, self._stopped), judge)
        except Exception as error:
            # An error of the cluster would fail every trial.
            if self._stopped.is_set() or self._cluster.client.status != "running" or not self._cluster.workers:
                raise
            raise TrialError(in_words(error)) from error

    def _goes_on(self, run: _Run, future: "Future[Segment]") -> bool:
        """Keep the result of a segment; True if the trial goes on."""
        try:
            found = future.result()
        except TrialError as error:
            self._fail(run.trial, run.params, run.now.state.iteration if run.now else 0, str(error))
            return False
        for event in found.events:
            run.directory.log(event)
        self._tell(SegmentEnded(run.trial.number, found.events))
        save_checkpoint(run.directory.last, found.checkpoint)
        run.now = found.checkpoint
        return self._judge(run, run.now)

    def _judge(self, run: _Run, now: Checkpoint) -> bool:
        """Report a trial's state to the study; True if it goes on."""
        trial, iteration = run.trial, now.state.iteration
        reported = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if now.validated == iteration and iteration not in reported:
            trial.report(now.best_accuracy, iteration)
        ended = run.candidate.job.ended(now)
        if not ended and not trial.should_prune():
            self._reached(run)
            return True
        for key, value in (
            ("iterations", iteration),
            ("best_iteration", now.best_iteration),
            ("train_seconds", round(now.seconds, 3)),
            ("parameters_sha256", parameters_sha256(now.state.parameters)),
        ):
            trial.set_user_attr(key, value)
        if ended:
            self._study.tell(trial, now.best_accuracy)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)
        self._tell(
            TrialEnded(trial.number, run.params, "finished" if ended else "pruned", iteration, now.best_accuracy)
        )
        return False

    def _fail(self, trial: Trial, params: Params, iteration: int, reason: str) -> None:
        trial.set_user_attr("iterations", iteration)
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)
        self._tell(TrialEnded(trial.number, params, "failed", iteration, reason=reason))

    def _reached(self, run: _Run) -> None:
        now, meta = run.now, run.candidate.job.recipe.meta
        iteration = now.state.iteration if now else 0
        accuracy = now.best_accuracy if now and now.best_iteration is not None else None
        self._tell(TrialReached(run.trial.number, run.params, iteration, meta.iterations, accuracy))


class _UnlessStopped(Executor):
    """An executor whose windows end with the search."""

    def __init__(self, executor: Executor, stopped: threading.Event) -> None:
        self._executor, self._stopped = executor, stopped

    def window(self, state: State, iterations: int) -> Window:
        if self._stopped.is_set():
            raise RunError(STOPPED)
        return self._executor.window(state, iterations)

    def map(self, *arguments: Any) -> list[Any]:
        return self._executor.map(*arguments)


def _started(run: _Run) -> TrainingStarted:
    """The event of a trial that starts or goes on."""
    now, meta = run.now, run.candidate.job.recipe.meta
    iteration, seconds = (now.state.iteration, now.seconds) if now else (0, 0.0)
    limit = None if meta.minutes is None else 60 * meta.minutes
    return TrainingStarted(f"trial-{run.trial.number}", iteration, meta.iterations, seconds, limit)


def choose(workers: Sequence[str], taken: set[str], before: Sequence[str], wanted: int) -> tuple[str, ...]:
    """Workers for a trial's next segment: `before`, its earlier ones, if they are free, then other free ones."""
    free = [worker for worker in workers if worker not in taken]
    kept = [worker for worker in before if worker in free]
    return tuple((kept + [worker for worker in free if worker not in kept])[:wanted])


def in_words(error: BaseException) -> str:
    """The reason of a trial's failure, in a line."""
    if isinstance(error, KilledWorker):
        return "several workers died over it (out of memory?)"
    return str(error) if isinstance(error, FanfoldError) else f"{type(error).__name__}: {one_line(error)}"

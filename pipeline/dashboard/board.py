"""The state of a cluster's runs for the page and the metrics, from plain messages. No Bokeh, no Dask.

Everything is bounded: curves of long runs are thinned, old runs and poor trials are dropped.
"""

import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from fanfold.pipeline.messages import AnyMessage, Drawn, Judged, Progressed, Ranked, Started, TrialTold, Windows

PHASES = ("adapt", "fold", "step", "transfer", "waiting")  # waiting is the rest of a worker's time

POINTS = 400  # of a curve
RUNS = 20  # on a board
TRIALS = 500  # of a search
RUNGS = 100  # of a trial
RECENT = 15.0  # seconds over which a worker's throughput is measured
SLOW = 1.3  # a straggler's time a task, as a multiple of the others'


T = TypeVar("T")


class Thinned(Generic[T]):
    """A series of items that stays short. A full one merges neighbours, and then merges twice as many items into one.

    Args:
        merge: Makes one item of two neighbours, the earlier one first.
        capacity: The largest number of items; an even number.
    """

    def __init__(self, merge: Callable[[T, T], T], capacity: int) -> None:
        self._merge, self._capacity = merge, capacity
        self._items: list[T] = []
        self._stride = 1  # items merged into one
        self._in_last = 0

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def last(self) -> T | None:
        """The last item, if there is any."""
        return self._items[-1] if self._items else None

    def append(self, item: T) -> None:
        """Add an item at the end."""
        if self._in_last < self._stride and self._items:
            self._items[-1] = self._merge(self._items[-1], item)
            self._in_last += 1
        else:
            self._items.append(item)
            self._in_last = 1
        if len(self._items) == self._capacity and self._in_last == self._stride:
            pairs = zip(self._items[::2], self._items[1::2], strict=True)
            self._items = [self._merge(*pair) for pair in pairs]
            self._stride *= 2
            self._in_last = self._stride


@dataclass
class Effort:
    """A worker's training tasks in some time, and its seconds by phase."""

    tasks: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, tasks: int, seconds: Mapping[str, float]) -> None:
        """Add more tasks and seconds."""
        self.tasks += tasks
        for phase, value in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value


@dataclass(frozen=True)
class Stretch:
    """Successive meta-iterations."""

    iteration: int  # done at the end
    iterations: int
    tasks: int  # training tasks
    seconds: float  # their duration
    loss: float  # mean of training
    accuracy: float  # mean of training
    worker_seconds: float  # the duration times the number of workers that computed
    phases: Mapping[str, float]  # worker-seconds by phase, without waiting

    def split(self) -> dict[str, float]:
        """Seconds of a meta-iteration by phase, as means over the workers; their sum is its duration."""
        whole, workers = self.seconds / self.iterations, self.worker_seconds / self.seconds if self.seconds else 0.0
        if not workers:
            return dict.fromkeys(PHASES, 0.0)
        found = {phase: self.phases.get(phase, 0.0) / workers / self.iterations for phase in PHASES[:-1]}
        return {**found, "waiting": max(whole - sum(found.values()), 0.0)}


def join(first: Stretch, second: Stretch) -> Stretch:
    """Two stretches as one."""
    iterations = first.iterations + second.iterations
    share = first.iterations / iterations
    return Stretch(
        iteration=second.iteration,
        iterations=iterations,
        tasks=first.tasks + second.tasks,
        seconds=first.seconds + second.seconds,
        loss=share * first.loss + (1 - share) * second.loss,
        accuracy=share * first.accuracy + (1 - share) * second.accuracy,
        worker_seconds=first.worker_seconds + second.worker_seconds,
        phases={
            phase: first.phases.get(phase, 0.0) + second.phases.get(phase, 0.0)
            for phase in {*first.phases, *second.phases}
        },
    )


@dataclass(frozen=True)
class Validation:
    """A validation: iterations done, mean accuracy, half the width of its 95 % interval, mean loss if known."""

    iteration: int
    accuracy: float
    ci95: float = 0.0
    loss: float | None = None


@dataclass(frozen=True)
class Pace:
    """A worker's speed in a run."""

    tasks_per_second: float  # training tasks
    slowness: float  # its time a task, as a multiple of the others'; 1 for a single worker

    @property
    def straggles(self) -> bool:
        """Whether the worker is so slow that others wait for it."""
        return self.slowness >= SLOW


def _later(_: Validation, second: Validation) -> Validation:
    return second


@dataclass
class Trial:
    """A search's trial."""

    told: TrialTold  # the last message about it
    # Its validations, with the best accuracy so far.
    rungs: Thinned[Validation] = field(default_factory=lambda: Thinned(_later, RUNGS))


@dataclass
class Run:
    """A training, a search or other work."""

    started: Started
    state: Literal["running", "ended", "stopped", "failed", "lost"] = "running"  # `lost` with its driver
    reason: str | None = None
    version: int = 0  # counts the messages about it
    now: Windows | None = None
    progress: Progressed | None = None  # of other work
    curve: Thinned[Stretch] = field(default_factory=lambda: Thinned(join, POINTS))
    validations: Thinned[Validation] = field(default_factory=lambda: Thinned(_later, POINTS))
    drawn: Drawn | None = None
    judged: Judged | None = None
    said: deque[str] = field(default_factory=lambda: deque(maxlen=4))
    trials: dict[int, Trial] = field(default_factory=dict)
    total: Effort = field(default_factory=Effort)  # of all workers since the start
    iterations_done: int = 0  # since this start
    best: Validation | None = None
    _last: Stretch | None = None
    _open: dict[str, Effort] = field(default_factory=dict)  # since the last message about windows, by worker
    _recent: deque[tuple[float, dict[str, Effort]]] = field(default_factory=deque)
    _gang: dict[int, Ranked] = field(default_factory=dict)  # the messages about the gang's present window, by rank

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return self.now["iteration"] if self.now else self.started["iteration"]

    @property
    def lately(self) -> dict[str, float] | None:
        """Seconds of the last stretch's meta-iterations by phase, see `Stretch.split`."""
        return self._last.split() if self._last is not None and self._last.worker_seconds else None

    def computed(self, worker: str, phase: str, place: int, seconds: float, transfer: float) -> None:
        """Count a task of the run's graph: its seconds of computing, and of fetching its inputs.

        The place of an `adapt` task is its chunk's in the meta-batch.
        """
        batch, chunk = self.started["batch"], self.started["chunk"]
        tasks = max(min(chunk, batch - place * chunk), 0) if phase == "adapt" else 0
        self._open.setdefault(worker, Effort()).add(tasks, {phase: seconds, "transfer": transfer})

    def paces(self) -> dict[str, Pace]:
        """The workers' recent speeds by address."""
        seconds, efforts = sum(took for took, _ in self._recent), dict[str, Effort]()
        for _, window in self._recent:
            for worker, effort in window.items():
                efforts.setdefault(worker, Effort()).add(effort.tasks, effort.seconds)
        a_task = {worker: e.seconds.get("adapt", 0.0) / e.tasks for worker, e in efforts.items() if e.tasks}
        if not a_task or not seconds:
            return {}
        # The lower median: of two workers, the faster one.
        usual = statistics.median_low(a_task.values())
        return {
            worker: Pace(efforts[worker].tasks / seconds, value / usual if usual else 1.0)
            for worker, value in a_task.items()
        }

    def hear(self, message: AnyMessage) -> None:
        """Apply a message about this run."""
        self.version += 1
        match message["kind"]:
            case "windows":
                self._windows(message)
            case "progressed":
                self.progress = message
            case "ranked":
                self._ranked(message)
            case "judged":
                self._judged(message)
            case "drawn":
                self.drawn = message
            case "said":
                self.said.append(message["text"])
            case "trial":
                self._trial(message)
            case "ended":
                self.state, self.reason = message["state"], message["reason"]
            case "started":
                self.started, self.state = message, "running"

    def _windows(self, message: Windows) -> None:
        seconds, phases = message["seconds"], dict[str, float]()
        for effort in self._open.values():
            for phase, value in effort.seconds.items():
                phases[phase] = phases.get(phase, 0.0) + value
        keys = ("iteration", "iterations", "tasks", "seconds", "loss", "accuracy")
        known = {key: message[key] for key in keys}  # type: ignore[literal-required]
        stretch = Stretch(**known, worker_seconds=seconds * len(self._open), phases=phases)
        self.curve.append(stretch)
        self._last = stretch
        self.now = message
        self.iterations_done += message["iterations"]
        took = {phase: value * message["iterations"] * len(self._open) for phase, value in stretch.split().items()}
        self.total.add(message["tasks"], took)
        self._recent.append((seconds, self._open))
        self._open = {}
        while len(self._recent) > 1 and sum(took for took, _ in self._recent) - self._recent[0][0] >= RECENT:
            self._recent.popleft()

    def _ranked(self, message: Ranked) -> None:
        """Collect the ranks' messages about a gang's window; the last one tells waiting from transfer."""
        if any(other["iteration"] != message["iteration"] for other in self._gang.values()):
            self._gang.clear()  # of an interrupted window
        self._gang[message["rank"]] = message
        if len(self._gang) < message["ranks"]:
            return
        # All ranks leave an exchange together: the last one to come did not wait.
        shortest = [min(times) for times in zip(*(rank["exchange"] for rank in self._gang.values()), strict=True)]
        for rank in self._gang.values():
            seconds = {"adapt": rank["adapt"], "fold": rank["fold"], "step": rank["step"], "transfer": sum(shortest)}
            self._open.setdefault(rank["worker"], Effort()).add(rank["tasks"], seconds)
        self._gang.clear()

    def _judged(self, message: Judged) -> None:
        self.judged = message
        found = Validation(message["iteration"], message["accuracy"], message["ci95"], message["loss"])
        self.validations.append(found)
        if self.best is None or found.accuracy > self.best.accuracy:
            self.best = found

    def _trial(self, message: TrialTold) -> None:
        number, accuracy = message["number"], message["accuracy"]
        trial = self.trials.setdefault(number, Trial(message))
        trial.told = message
        if accuracy is not None:
            found = Validation(message["iteration"], accuracy)
            if trial.rungs.last != found:  # a trial ends at its last rung
                trial.rungs.append(found)
            if self.best is None or accuracy > self.best.accuracy:
                self.best = found
        if len(self.trials) > TRIALS:
            ended = [number for number, trial in self.trials.items() if trial.told["state"] != "running"]
            del self.trials[min(ended or self.trials, key=lambda number: self.trials[number].told["accuracy"] or 0.0)]


class Board:
    """A cluster's runs, the oldest first."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    def hear(self, message: AnyMessage) -> None:
        """Apply a message. One about an unknown run is ignored, unless the run starts."""
        run = self.runs.get(message["run"])
        if run is not None:
            run.hear(message)
        elif message["kind"] == "started":
            self.runs[message["run"]] = Run(message)
            self._forget()

    def lose(self, client: str) -> None:
        """Mark the running runs of a driver that is gone as lost."""
        for run in self.runs.values():
            if run.state == "running" and run.started["client"] == client:
                run.state = "lost"
                run.version += 1

    def newest(self) -> Run | None:
        """The newest running run, or else the newest one."""
        runs: Sequence[Run] = list(self.runs.values())
        running = [run for run in runs if run.state == "running"]
        return running[-1] if running else runs[-1] if runs else None

    def _forget(self) -> None:
        while len(self.runs) > RUNS:
            over = [name for name, run in self.runs.items() if run.state != "running"]
            del self.runs[(over or list(self.runs))[0]]

"""A run with a fault, as processes in a folder of its own, and the verdict on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.faults.hook import MODULE
from benchmarks.soak.stage import Stage, answers, usual_signals, wait_for, working_in
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import load_checkpoint, parameters_sha256
from fanfold.pipeline.recording.kept import read_result
from fanfold.pipeline.recording.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]
SHORT, LONG = 24, 200  # iterations of a run: the long one is there to be disturbed from outside
MOMENT = 20  # that it has done when its fault comes
REDUCTIONS = ("graph", "collective")
SETTINGS = (
    *("--dataset.name", "glyphs", "--task.ways", "3", "--algorithm.inner_lr", "0.1"),
    *("--model.name", "conv4-stride", "--model.width", "8", "--meta.batch", "6", "--meta.chunk", "2"),
    *("--meta.window", "4", "--meta.checkpoint", "4"),
    *("--evaluation.validation_tasks", "20", "--evaluation.tasks", "40", "--evaluation.other_tasks", "0"),
    *("--record.tensorboard", "false", "--cluster.dashboard", ":0", "--cluster.patience", "5", "--report", "false"),
)
ENDS = 300.0  # seconds within which a driver ends
SILENT = 20.0  # seconds that a scheduler waits for a sign of life: importing PyTorch takes its time
GONE = 60.0  # seconds within which its other processes are gone
KEPT = ("dask-scratch-space", "global.lock", "purge.lock")  # of temporary files: Dask's own, one for a user's clusters


class WrongError(Exception):
    """What did not hold."""


@dataclass(frozen=True)
class Ended:
    """How a driver ended."""

    status: int
    said: str
    errors: tuple[str, ...]  # lines on standard error
    seconds: float


@dataclass
class Trial:
    """A run in a folder, by one driver after another."""

    folder: Path
    store: Path
    reduction: str = "collective"
    iterations: int = SHORT
    stage: Stage | None = None  # the scheduler and workers that it joins; else it starts its own workers
    address: str | None = None  # of the scheduler, where it isn't the stage's own
    ends: list[Ended] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scratch = self.folder / "tmp"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.directory = RunDirectory(self.folder / "run")

    def command(self, *more: str) -> list[str]:
        """The command that begins the run, or goes on with it."""
        resume = ["--resume"] if self.directory.config.exists() else []
        kind = (self.address or self.stage.address) if self.stage else "cpu"
        cluster = ["--cluster.kind", kind, "--cluster.workers", "2", "--cluster.reduction", self.reduction]
        length = ["--meta.iterations", str(self.iterations), "--evaluation.every", str(self.iterations // 2)]
        told = [*SETTINGS, "--dataset.store", str(self.store), *length, *cluster, *more]
        return ["workflows.train", *told, *resume, "--run", "run"]

    def start(
        self, command: Sequence[str], environment: Mapping[str, str] = {}, hooked: bool = True
    ) -> subprocess.Popen[str]:
        """Start a command of Fanfold's in the folder, with a fault where the environment has one."""
        program = self.stage.program(self.stage.host) if self.stage else [sys.executable]
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [*program, "-m", *([MODULE] if hooked else []), *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(self.scratch), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=usual_signals,
        )

    def run(self, *more: str, environment: Mapping[str, str] = {}) -> Ended:
        """A driver from its start to its end; errors as `call`."""
        return self.call(self.command(*more), environment)

    def call(self, command: Sequence[str], environment: Mapping[str, str] = {}) -> Ended:
        """A command of Fanfold's from its start to its end.

        Raises:
            WrongError: It does not end, or with a traceback, or leaves a process behind.
        """
        began = time.monotonic()
        with self.start(command, environment) as process:
            return self.end(process, began)

    def end(self, process: "subprocess.Popen[str]", began: float) -> Ended:
        """Wait for a driver's end, and that of its processes; errors as `call`."""
        until, said = time.monotonic() + ENDS, None
        while said is None:
            try:
                out, said = process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired as error:
                if self.stage:
                    self.stage.open()  # with the workers that are missing
                if time.monotonic() > until:
                    end_all(self.folder)
                    raise WrongError(f"it did not end within {ENDS:g} s, at iteration {self.iteration}") from error
        found = Ended(process.returncode, out + said, tuple(said.splitlines()), time.monotonic() - began)
        self.ends.append(found)
        if "Traceback" in said:
            raise WrongError(f"a traceback: {found.errors[-1][:200]}")
        check_gone(self.folder)
        return found

    @property
    def iteration(self) -> int:
        """Iterations whose metrics are written."""
        with suppress(OSError):
            return self.directory.metrics.read_bytes().count(b"\n")
        return 0

    def begin(self, *more: str) -> subprocess.Popen[str]:
        """A driver that has done some iterations of the run."""
        process = self.start(self.command(*more))
        wait_for(lambda: self.iteration >= MOMENT or process.poll() is not None, ENDS, f"not at iteration {MOMENT}")
        return process

    def disturb(self, fault: Callable[[subprocess.Popen[str]], object]) -> Ended:
        """A driver to which a fault comes when it has done some iterations; errors as `call`."""
        began = time.monotonic()
        with self.begin() as process:
            fault(process)
            return self.end(process, began)

    def finish(self, reference: str | None, most: int = 3) -> str:
        """Go on with the run until it ends by itself, and judge it. What was seen.

        Raises:
            WrongError: What did not hold.
        """
        while self.ends[-1].status:
            if len(self.ends) > most:
                raise WrongError(f"no end after {len(self.ends)} drivers: {self.ends[-1].errors[-1:]}")
            self.run()
        if wrong := self.wrong(reference):
            raise WrongError("; ".join(wrong))
        return "ended by itself" if len(self.ends) == 1 else f"resumed {len(self.ends) - 1} ×"

    def wrong(self, reference: str | None) -> list[str]:
        """What does not hold at the run's end, beside the parameters of an undisturbed one."""
        found = []
        try:
            result = read_result(self.directory.result)
            last = load_checkpoint(self.directory.last)
        except FanfoldError as error:
            return [str(error)]
        if result is None:
            return ["there is no result"]
        hashes = {result["parameters_sha256"], parameters_sha256(last.state.parameters), reference or ""} - {""}
        if len(hashes) > 1:
            found.append(f"parameters {sorted(hashes)}")
        for path, expected in (
            (self.directory.metrics, list(range(1, self.iterations + 1))),
            (self.directory.validations, [self.iterations // 2, self.iterations]),
        ):
            lines = [json.loads(line)["iteration"] for line in path.read_text().splitlines()]
            if lines != expected:
                found.append(f"{path.name} has iterations {lines}")
        found += [f"left: {path.relative_to(self.folder)}" for path in self.folder.rglob("*partial*")]
        found += [f"left: {path.relative_to(self.folder)}" for path in self.scratch.rglob("*") if path.name not in KEPT]
        return found


def end_all(folder: Path) -> int:
    """Kill the processes that work in a folder; how many there were."""
    left = working_in(folder)
    for one in left:
        with suppress(psutil.Error):
            one.kill()
    return len(left)


def check_gone(folder: Path) -> None:
    """Raise WrongError where processes still work in a folder after a while, and end them."""
    until = time.monotonic() + GONE
    while working_in(folder):
        if time.monotonic() > until:
            raise WrongError(f"{end_all(folder)} processes are left {GONE:g} s after the end")
        time.sleep(0.1)


@contextmanager
def joining(trial: Trial, stage: Stage) -> Iterator[Stage]:
    """The scheduler and workers that a trial joins, which leave nothing behind."""
    stage.folder.mkdir(parents=True)
    trial.stage = stage
    try:
        stage.open()
        yield stage
    finally:
        stage.close()
        trial.stage = None
    check_gone(stage.folder)
    if answers(stage.port):
        raise WrongError(f"somebody still listens at port {stage.port}")


def stage_of(trial: Trial) -> Stage:
    """A scheduler and two workers, in a folder beside the trial's; a silent worker is given up after `SILENT`."""
    folder = trial.folder.with_name(f"{trial.folder.name}-stage")
    return Stage(folder, environment={"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{SILENT:g}s"})

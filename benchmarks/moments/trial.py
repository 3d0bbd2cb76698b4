"""A run with a fault, as processes in a folder of its own, and the verdict on it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.moments.hook import MODULE
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import load_checkpoint, parameters_sha256
from fanfold.pipeline.recording.kept import read_result
from fanfold.pipeline.recording.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]
ITERATIONS = 24
SETTINGS = (
    *("--dataset.name", "glyphs", "--task.ways", "3", "--algorithm.inner_lr", "0.1"),
    *("--model.name", "conv4-stride", "--model.width", "8", "--meta.batch", "6", "--meta.chunk", "2"),
    *("--meta.window", "4", "--meta.checkpoint", "4", "--evaluation.every", "12"),
    *("--evaluation.validation_tasks", "20", "--evaluation.tasks", "40", "--evaluation.other_tasks", "0"),
    *("--record.tensorboard", "false", "--cluster.dashboard", ":0", "--cluster.patience", "5"),
)
ENDS = 300.0  # seconds within which a driver ends
GONE = 60.0  # seconds within which its other processes are gone
KEPT = ("dask-scratch-space", "global.lock", "purge.lock")  # of temporary files: Dask's own, one for a user's clusters


class WrongError(Exception):
    """What did not hold."""


@dataclass(frozen=True)
class Ended:
    """How a driver ended."""

    status: int
    errors: tuple[str, ...]  # lines on standard error
    seconds: float


@dataclass
class Trial:
    """A run in a folder, by one driver after another."""

    folder: Path
    store: Path
    reduction: str = "collective"
    ends: list[Ended] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scratch = self.folder / "tmp"
        self.scratch.mkdir(parents=True)
        self.directory = RunDirectory(self.folder / "run")

    def command(self, *more: str) -> list[str]:
        """The command that begins the run, or goes on with it."""
        resume = ["--resume"] if self.directory.config.exists() else []
        cluster = [] if "--cluster.kind" in more else ["--cluster.kind", "cpu", "--cluster.workers", "2"]
        length = ["--meta.iterations", str(ITERATIONS), "--cluster.reduction", self.reduction]
        told = [*SETTINGS, "--dataset.store", str(self.store), *length, *cluster, *more]
        return ["workflows.train", *told, *resume, "--run", "run"]

    def start(self, command: Sequence[str], environment: Mapping[str, str] = {}) -> subprocess.Popen[str]:
        """Start a command of Fanfold's in the folder, with a fault where the environment has one."""
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-m", MODULE, *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(self.scratch), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_as_in_a_terminal,
        )

    def run(self, *more: str, environment: Mapping[str, str] = {}) -> Ended:
        """A driver from its start to its end.

        Raises:
            WrongError: It does not end, or with a traceback, or leaves a process behind.
        """
        began = time.monotonic()
        with self.start(self.command(*more), environment) as process:
            return self.end(process, began)

    def end(self, process: "subprocess.Popen[str]", began: float) -> Ended:
        """Wait for a driver's end, and that of its processes; errors as `run`."""
        try:
            _, said = process.communicate(timeout=ENDS)
        except subprocess.TimeoutExpired as error:
            for one in working_in(self.folder):
                one.kill()
            raise WrongError(f"it did not end within {ENDS:g} s") from error
        found = Ended(process.returncode, tuple(said.splitlines()), time.monotonic() - began)
        self.ends.append(found)
        if "Traceback" in said:
            raise WrongError(f"a traceback: {found.errors[-1][:200]}")
        until = time.monotonic() + GONE
        while left := working_in(self.folder):
            if time.monotonic() > until:
                for one in left:
                    one.kill()
                raise WrongError(f"{len(left)} processes are left {GONE:g} s after the end")
            time.sleep(0.1)
        return found

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
            (self.directory.metrics, list(range(1, ITERATIONS + 1))),
            (self.directory.validations, [12, 24]),
        ):
            lines = [json.loads(line)["iteration"] for line in path.read_text().splitlines()]
            if lines != expected:
                found.append(f"{path.name} has iterations {lines}")
        found += [f"left: {path.relative_to(self.folder)}" for path in self.folder.rglob("*partial*")]
        found += [f"left: {path.relative_to(self.folder)}" for path in self.scratch.rglob("*") if path.name not in KEPT]
        return found


def working_in(folder: Path) -> list[psutil.Process]:
    """The processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _as_in_a_terminal() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

"""Hundreds of random faults over one run: `python -m benchmarks.soak`.

A run on glyphs over a scheduler and two workers, each a process, is trained twice: while faults come at moments that a
seed draws, and then anew, undisturbed, the first half by gang and the second by graph. Where a fault ends the driver,
the next one goes on by `--resume`, with a reduction that the seed draws. The parameters at the end must be the same,
bit for bit. Memory, file descriptors and threads of driver, scheduler and workers are sampled all the time.

Writes OUT.json, OUT.md and OUT.png; the processes' own words stay in the folder SCRATCH. Exit status 1 where anything
did not hold.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psutil

from benchmarks.soak.injections import KINDS, Fault, Scene, draw, inject
from benchmarks.soak.page import write
from benchmarks.soak.sampling import Sampler
from benchmarks.soak.stage import Stage
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.cli.result import environment

SETTINGS = (
    *("--dataset.name", "glyphs", "--task.ways", "3", "--algorithm.name", "protonet"),
    *("--model.name", "conv4-stride", "--model.width", "8", "--meta.batch", "4", "--meta.chunk", "2"),
    *("--meta.window", "10", "--meta.checkpoint", "10", "--evaluation.every", "400"),
    *("--evaluation.validation_tasks", "50", "--evaluation.tasks", "100", "--evaluation.other_tasks", "50"),
    *("--report", "false", "--cluster.workers", "1", "--cluster.timeout", "180", "--record.tensorboard", "false"),
)
STILL = 300.0  # seconds without progress after which a run is said to hang
ROLES = ("driver", "scheduler", "worker")


class Run:
    """A run over a stage, by one driver after another."""

    def __init__(self, stage: Stage, name: str, iterations: int) -> None:
        self.stage, self.directory, self.iterations = stage, RunDirectory(stage.folder / name), iterations
        self.drivers = 0
        self.ends: list[dict[str, Any]] = []  # of the drivers
        self.driver: subprocess.Popen[bytes] | None = None
        self.began = 0  # iterations done where the driver began

    def command(self, reduction: str, iterations: int | None = None) -> tuple[str, ...]:
        """The command that begins the run, or goes on with it."""
        cluster = ["--cluster.kind", self.stage.address, "--cluster.reduction", reduction]
        length = ["--meta.iterations", str(iterations or self.iterations)]
        resume = ["--resume"] if self.directory.config.exists() else []
        return ("-m", "fanfold", "train", *SETTINGS, *cluster, *length, *resume, "--run", self.directory.path.name)

    def start(self, command: Sequence[str]) -> None:
        """Start the next driver."""
        self.drivers += 1
        self.began = self.iteration
        self.stage.open()
        self.driver = self.stage.start(*command, out=self.out)

    @property
    def out(self) -> Path:
        """What the driver says."""
        return self.stage.folder / f"{self.directory.path.name}-{self.drivers}.out"

    @property
    def iteration(self) -> int:
        """Iterations whose metrics are written."""
        with suppress(OSError), self.directory.metrics.open("rb") as file:
            file.seek(max(0, self.directory.metrics.stat().st_size - 4096))
            for line in reversed(file.read().splitlines()):
                with suppress(ValueError, KeyError, TypeError):
                    return int(json.loads(line)["iteration"])
        return 0

    def ended(self, after: Sequence[str] = ()) -> int | None:
        """The status of a driver that has ended, which is noted with what it said last; None if it goes on."""
        assert self.driver is not None
        status = self.driver.poll()
        if status is not None:
            time.sleep(0.5)  # the last lines are on their way
            said = self.out.read_text(errors="replace").splitlines()
            self.ends.append(
                {
                    "driver": self.drivers,
                    "status": status,
                    "said": said[-1] if said else "",
                    "traceback": any("Traceback" in line for line in said),
                    "after": list(after),
                }
            )
        return status

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """The processes to sample."""
        found: dict[str, list[psutil.Process]] = {"worker": list(self.stage.worker_processes())}
        for role, process in (("driver", self.driver), ("scheduler", self.stage.scheduler)):
            with suppress(psutil.Error):
                if process is not None and process.poll() is None:
                    found[role] = [psutil.Process(process.pid)]
        return found


def undisturbed(stage: Stage, iterations: int) -> tuple[Run, Sampler]:
    """Train without faults, the first half by gang and the second by graph."""
    run = Run(stage, "undisturbed", iterations)
    with Sampler(run.processes, lambda: run.iteration) as sampler:
        for reduction, end in (("collective", iterations // 2), ("graph", iterations)):
            run.start(run.command(reduction, end))
            assert run.driver is not None
            run.driver.wait()
            if run.ended():
                raise SystemExit(f"the undisturbed run failed: {run.ends[-1]}")
            tell(f"undisturbed: {end:,} iterations")
    return run, sampler


def disturbed(stage: Stage, iterations: int, faults: Sequence[Fault], seed: int) -> tuple[Run, Sampler, list[str]]:
    """Train while faults come; returns also what did not hold."""
    run, random, wrong = Run(stage, "disturbed", iterations), Random(seed), list[str]()
    left, since = list(faults), list[str]()  # faults since the driver began
    run.start(run.command("collective"))
    most, moved = 0, time.monotonic()
    with Sampler(run.processes, lambda: run.iteration) as sampler:
        while True:
            if (status := run.ended(since)) is not None:
                end = run.ends[-1]
                tell(f"driver {run.drivers}: status {status} after {since or 'nothing'}: {end['said'][:150]}")
                if end["traceback"]:
                    wrong.append(f"driver {run.drivers} ended with a traceback after {since}")
                if status == 0 and run.directory.result.exists():
                    break
                if status == 2 and "can't be written" not in end["said"]:
                    wrong.append(f"driver {run.drivers} was refused: {end['said']}")
                    break
                since.clear()
                run.start(run.command(random.choice(["collective", "graph", "auto"])))
            if run.iteration > most:
                most, moved = run.iteration, time.monotonic()
            elif time.monotonic() - moved > STILL:
                wrong.append(f"no progress within {STILL:g} s at iteration {most} after {since}")
                break
            stage.open()
            due = left and left[0].iteration <= most and ready(run, left[0])
            if due:
                fault = left.pop(0)
                since.append(fault.kind)
                again = run.command("graph")
                assert run.driver is not None
                tell(f"fault {len(faults) - len(left)} at {run.iteration:,}: {fault.kind}")
                if found := inject(fault, Scene(stage, run.driver, run.directory.path, again)):
                    wrong.append(found)
            time.sleep(0.1)
    if left:
        wrong.append(f"{len(left)} faults did not come: the run ended before")
    return run, sampler, wrong


def ready(run: Run, fault: Fault) -> bool:
    """Whether a fault may come: one that ends the driver where that has done some iterations."""
    least = KINDS[fault.kind][2]
    return least is None or run.iteration >= run.began + least


def verdict(run: Run, reference: Run) -> list[str]:
    """What doesn't hold of a run at its end, beside an undisturbed one."""
    wrong, directory = [], run.directory
    results = [
        json.loads(one.directory.result.read_text()) for one in (run, reference) if one.directory.result.exists()
    ]
    if len(results) < 2:
        return ["there is no result"]
    for name in ("parameters_sha256", "tested_sha256", "test_accuracy"):
        if results[0][name] != results[1][name]:
            wrong.append(f"{name}: {results[0][name]}, undisturbed {results[1][name]}")
    lines = [json.loads(line)["iteration"] for line in directory.metrics.read_text().splitlines()]
    if sorted(lines) != list(range(min(lines), min(lines) + run.iterations)):
        wrong.append(f"{len(lines)} lines of metrics for {run.iterations} iterations")
    wrong += [f"left behind: {path.name}" for path in sorted(directory.path.rglob("*partial*"))]
    return wrong


def left_processes(folder: Path) -> list[str]:
    """The processes that still work in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder) and process.pid != psutil.Process().pid:
                found.append(f"process left: {' '.join(process.cmdline())[:150]}")
    return found


def tell(text: str) -> None:
    """Say what happens, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    """See the module, and `--help`."""
    parser = argparse.ArgumentParser("benchmarks.soak", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many faults (default: 200)")
    parser.add_argument("--iterations", type=int, default=2400, help="meta-iterations of the run (default: 2400)")
    parser.add_argument("--seed", type=int, default=0, help="what faults and moments depend on")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="OUT.json, OUT.md and OUT.png")
    parser.add_argument("--scratch", type=Path, default=Path("soak-scratch"), help="a folder that is not there yet")
    options = parser.parse_args()
    folder = options.scratch.resolve()
    folder.mkdir(parents=True)
    faults, began = draw(options.seed, options.faults, options.iterations), time.monotonic()
    stage = Stage(folder)
    try:
        stage.open()
        run, noisy, wrong = disturbed(stage, options.iterations, faults, options.seed)
        middle = time.monotonic()
        reference, quiet = undisturbed(stage, options.iterations)
    finally:
        stage.close()
    wrong += verdict(run, reference) + left_processes(folder)
    result = {
        "command": " ".join(["python -m benchmarks.soak", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "settings": " ".join(SETTINGS),
        "iterations": options.iterations,
        "seed": options.seed,
        "faults": dict(Counter(fault.kind for fault in faults)),
        "seconds": {"disturbed": middle - began, "undisturbed": time.monotonic() - middle},
        "drivers": run.ends,
        "wrong": wrong,
        "parameters_sha256": [
            json.loads(one.directory.result.read_text())["parameters_sha256"]
            for one in (reference, run)
            if one.directory.result.exists()
        ],
        "environment": environment(),
    }
    write(options.out, result, quiet.samples, noisy.samples, options.iterations // 2)
    for line in wrong:
        tell(f"did not hold: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

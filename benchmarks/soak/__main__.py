"""Hundreds of random faults over one run: `python -m benchmarks.soak`.

A run on glyphs over a scheduler and two workers, each a process, is trained twice: while faults come at moments that a
seed draws, and then anew, undisturbed, by gang and by graph, and longer for slopes. Where a fault ends the driver,
the next one goes on by `--resume`, with a reduction that the seed draws. The parameters at the end must be the same,
bit for bit. Memory, file descriptors and threads of driver, scheduler and workers are sampled all the time.

Writes OUT.json, OUT.md and OUT.png; the processes' own words stay in the folder SCRATCH, as does what came so far: a
soak that is interrupted goes on when the same command is given again. Exit status 1 where anything did not hold.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import psutil

from benchmarks.soak.injections import KINDS, Fault, Scene, draw, inject, refusal
from benchmarks.soak.page import write
from benchmarks.soak.record import Record
from benchmarks.soak.sampling import Sampler
from benchmarks.soak.stage import Stage, command_of, end_groups, working_in
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.cli.result import environment

SETTINGS = (
    *("--dataset.name", "glyphs", "--task.ways", "3", "--algorithm.name", "protonet"),
    *("--model.name", "conv4-stride", "--model.width", "8", "--meta.batch", "4", "--meta.chunk", "2"),
    *("--meta.window", "10", "--meta.checkpoint", "10", "--evaluation.every", "400"),
    *("--evaluation.validation_tasks", "50", "--evaluation.tasks", "100", "--evaluation.other_tasks", "50"),
    *("--report", "false", "--cluster.workers", "1", "--cluster.timeout", "180", "--record.tensorboard", "false"),
)
COMPARED = ("iterations", "parameters_sha256", "tested_sha256", "test_accuracy")
STILL = 300.0  # seconds without progress after which a run is said to hang


class Run:
    """A run over a stage, by one driver after another."""

    def __init__(self, stage: Stage, name: str, iterations: int, record: Record) -> None:
        self.stage, self.directory, self.iterations = stage, RunDirectory(stage.folder / name), iterations
        self.name, self.record = name, record
        self.drivers = len(list(stage.folder.glob(f"{name}-*.out")))
        self.driver: subprocess.Popen[bytes] | None = None
        self.rivals: list[subprocess.Popen[bytes]] = []  # second drivers
        self.began = 0  # iterations done where the driver began

    def command(self, reduction: str, iterations: int | None = None) -> tuple[str, ...]:
        """The command that begins the run, or goes on with it."""
        cluster = ["--cluster.kind", self.stage.address, "--cluster.reduction", reduction]
        length = ["--meta.iterations", str(iterations or self.iterations)]
        resume = ["--resume"] if self.directory.config.exists() else []
        return ("-m", "fanfold", "train", *SETTINGS, *cluster, *length, *resume, "--run", self.name)

    def start(self, command: Sequence[str]) -> None:
        """Start the next driver."""
        self.drivers += 1
        self.began = self.iteration
        self.stage.open()
        self.driver = self.stage.start(*command, out=self.out)

    @property
    def out(self) -> Path:
        """What the driver says."""
        return self.stage.folder / f"{self.name}-{self.drivers}.out"

    @property
    def iteration(self) -> int:
        """Iterations whose metrics are written."""
        with suppress(OSError), self.directory.metrics.open("rb") as file:
            file.seek(max(0, self.directory.metrics.stat().st_size - 4096))
            for line in reversed(file.read().splitlines()):
                with suppress(ValueError, KeyError, TypeError):
                    return int(json.loads(line)["iteration"])
        return 0

    @property
    def result(self) -> dict[str, Any]:
        """The facts of the run's result that are compared; empty where there is none."""
        with suppress(OSError):
            found = json.loads(self.directory.result.read_text())
            return {name: found[name] for name in COMPARED}
        return {}

    def result_at(self, iterations: int) -> dict[str, Any]:
        """The facts of the run's result after so many iterations; empty where it wasn't there yet."""
        found = [end["result"] for end in self.record.ends if end["run"] == self.name and end["status"] == 0]
        return next((one for one in found if one["iterations"] == iterations), {})

    def sampled(self) -> Sampler:
        """Samples the run's processes while it is entered."""
        return Sampler(self.processes, lambda: self.iteration, partial(self.record.sample, self.name))

    def judge_rivals(self) -> None:
        """Note what is wrong with second drivers that have ended; without a driver they would be in the right."""
        assert self.driver is not None
        gone = self.driver.poll() is not None
        if gone:
            end_groups(self.rivals)
            self.rivals.clear()
        for rival in self.rivals:
            if rival.poll() is not None and (wrong := refusal(rival)):
                self.record.fails(wrong)
        self.rivals[:] = [rival for rival in self.rivals if rival.poll() is None]

    def ended(self, after: Sequence[str] = ()) -> Mapping[str, Any] | None:
        """How the driver has ended, and what it said last, which is noted; None if it goes on."""
        assert self.driver is not None
        if (status := self.driver.poll()) is None:
            return None
        time.sleep(0.5)  # the last lines are on their way
        lines = self.out.read_text(errors="replace").splitlines()
        found: dict[str, Any] = {
            "run": self.name,
            "driver": self.drivers,
            "status": status,
            "said": lines[-1] if lines else "",
            "traceback": any("Traceback" in line for line in lines),
            "after": list(after),
            "result": self.result if status == 0 else {},
        }
        self.record.end(found)
        tell(f"{self.name}, driver {self.drivers}: status {status} after {list(after)}: {found['said'][:150]}")
        return found

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """The processes to sample."""
        found: dict[str, list[psutil.Process]] = {"worker": list(self.stage.worker_processes())}
        for role, process in (("driver", self.driver), ("scheduler", self.stage.scheduler)):
            with suppress(psutil.Error):
                if process is not None and process.poll() is None:
                    found[role] = [psutil.Process(process.pid)]
        return found


def turns(iterations: int) -> list[int]:
    """Where the undisturbed run changes between gang and graph: as long as the disturbed one, and then for slopes."""
    return [iterations // 2, iterations, 2 * iterations, 3 * iterations]


def undisturbed(run: Run) -> None:
    """Train without faults, by gang and by graph in turn."""
    with run.record.part(run.name), run.sampled():
        for reduction, end in zip(["collective", "graph"] * 2, turns(run.iterations), strict=True):
            if run.result_at(end):  # gone on with
                continue
            run.start(run.command(reduction, end))
            assert run.driver is not None
            run.driver.wait()
            found = run.ended()
            if found and found["status"]:
                run.record.fails(f"the undisturbed run: {found['said']}")
                return


def disturbed(run: Run, faults: Sequence[Fault], seed: int) -> None:
    """Train while faults come; those that came before the soak was interrupted are left out."""
    record, since = run.record, list[str]()  # faults since the driver began
    left = list(faults[len(record.faults) :])
    most, moved = run.iteration, time.monotonic()
    with record.part(run.name), run.sampled():
        _next_driver(run, seed)
        while True:
            run.judge_rivals()
            if found := run.ended(since):
                if found["traceback"]:
                    record.fails(f"driver {run.drivers} ended with a traceback after {since}")
                if found["status"] == 0 and run.directory.result.exists():
                    break
                if found["status"] == 2 and "can't be written" not in found["said"]:
                    record.fails(f"driver {run.drivers} was refused: {found['said']}")
                    break
                since.clear()
                _next_driver(run, seed)
            if run.iteration > most:
                most, moved = run.iteration, time.monotonic()
            elif time.monotonic() - moved > STILL:
                record.fails(f"no progress within {STILL:g} s at iteration {most} after {since}")
                break
            run.stage.open()
            if left and left[0].iteration <= most and ready(run, left[0]):
                fault = left.pop(0)
                since.append(fault.kind)
                record.fault(fault.kind)
                tell(f"fault {len(record.faults)} at {run.iteration:,}: {fault.kind}")
                assert run.driver is not None
                inject(fault, Scene(run.stage, run.driver, run.directory.path, run.command("graph"), run.rivals))
            time.sleep(0.1)
    if left:
        record.fails(f"{len(left)} faults did not come: the run ended before")


def _next_driver(run: Run, seed: int) -> None:
    """Start the next driver, with a reduction that seed and number draw."""
    run.start(run.command(Random(f"{seed} {run.drivers}").choice(["collective", "graph", "auto"])))


def ready(run: Run, fault: Fault) -> bool:
    """Whether a fault may come: one that ends the driver where that has done some iterations, and has no rival."""
    least = KINDS[fault.kind][2]
    return least is None or (run.iteration >= run.began + least and not run.rivals)


def verdict(run: Run, reference: Run) -> list[str]:
    """What doesn't hold of a run at its end, beside an undisturbed one."""
    wrong, directory = [], run.directory
    here, there = run.result_at(run.iterations), reference.result_at(run.iterations)
    wrong += [
        f"{name}: {here.get(name)}, undisturbed {there.get(name)}" for name in COMPARED if not here or here != there
    ]
    lines = [json.loads(line)["iteration"] for line in directory.metrics.read_text().splitlines()]
    if sorted(lines) != list(range(min(lines), min(lines) + run.iterations)):
        wrong.append(f"{len(lines)} lines of metrics for {run.iterations} iterations")
    wrong += [f"left behind: {path.name}" for path in sorted(directory.path.rglob("*partial*"))]
    return wrong


def tell(text: str) -> None:
    """Say what happens, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    """See the module, and `--help`."""
    parser = argparse.ArgumentParser("benchmarks.soak", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many faults (default: 200)")
    parser.add_argument("--iterations", type=int, default=2000, help="meta-iterations of the run (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="what faults and moments depend on")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="OUT.json, OUT.md and OUT.png")
    parser.add_argument("--scratch", type=Path, default=Path("soak-scratch"), help="a folder for what the soak keeps")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended
    folder = options.scratch.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record, stage = Record(folder / "record.jsonl"), Stage(folder)
    run, reference = (Run(stage, name, options.iterations, record) for name in ("disturbed", "undisturbed"))
    try:
        stage.open()
        if not run.directory.result.exists():
            disturbed(run, draw(options.seed, options.faults, options.iterations), options.seed)
        undisturbed(reference)
    finally:
        drivers = [one.driver for one in (run, reference) if one.driver and one.driver.poll() is None]
        end_groups([*run.rivals, *drivers])
        stage.close()
    left = [f"process left: {command_of(process)[:150]}" for process in working_in(folder)]
    wrong = [*record.wrong, *verdict(run, reference), *left]
    write(options.out, facts(run, reference, options.seed) | {"wrong": wrong}, record.samples, turns(run.iterations))
    for line in wrong:
        tell(f"did not hold: {line}")
    return 1 if wrong else 0


def facts(run: Run, reference: Run, seed: int) -> dict[str, Any]:
    """The facts of a soak."""
    record, ends = run.record, [one.result_at(run.iterations).get("parameters_sha256") for one in (reference, run)]
    return {
        "command": " ".join(["python -m benchmarks.soak", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "settings": " ".join(SETTINGS),
        "iterations": run.iterations,
        "undisturbed": reference.iteration,
        "seed": seed,
        "faults": dict(Counter(record.faults)),
        "seconds": record.seconds,
        "drivers": [end for end in record.ends if end["run"] == run.name],
        "parameters_sha256": [end for end in ends if end],
        "environment": environment(),
    }


if __name__ == "__main__":
    sys.exit(main())

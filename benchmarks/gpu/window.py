"""MAML as it was published, 60,000 meta-iterations of 32 tasks of Omniglot, trained and tested over a CUDA cluster.

`python -m workflows.train` runs as anyone would run it. What a meta-iteration's time goes to is what the scheduler
tells Prometheus; the start of the cluster, validations and the first window, in which kernels are compiled, are apart.
"""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu.options import Options, Row
from benchmarks.gpu.store import dataset_flags
from fanfold.data.errors import RunError

CONFIG = "workflows/configs/omniglot/h200-maml-5way1shot.yaml"
QUICK = [
    *("--model.width", "8", "--meta.iterations", "12", "--meta.batch", "4", "--meta.chunk", "2", "--meta.window", "4"),
    *("--evaluation.every", "12", "--evaluation.validation_tasks", "4", "--evaluation.tasks", "8"),
    *("--cluster.workers", "1", "--meta.together", "true"),
]
AROUND = 40.0  # seconds beside training: the store, the cluster's start, validations and the test
COMPUTING = ("adapt", "fold", "step")  # phases of a meta-iteration in which a worker computes
POLL = 0.5  # seconds between looks at what the scheduler tells


class Reading(NamedTuple):
    """What the scheduler told at a time.

    Args:
        tasks: Training tasks done.
        seconds: A worker's seconds by phase.
    """

    tasks: float
    seconds: Counter[str]


def measure(options: Options) -> Iterator[Row]:
    """One row: how long the run took, where its time went, and what accuracy it came to."""
    directory = options.scratch / "run"
    command = [
        *(sys.executable, "-m", "workflows.train", *training_flags(options), "--run", str(directory)),
        *("--record.tensorboard", "false", "--report", "false"),
    ]
    began = time.monotonic()
    readings, lines = _run(command)
    whole = time.monotonic() - began
    result = json.loads((directory / "result.json").read_text())
    batch = int(re.search(r"^  batch: (\d+)$", (directory / "config.yaml").read_text(), re.MULTILINE)[1])  # type: ignore[index]
    windows = _windows(directory / "metrics.jsonl", batch)
    steady = windows[1:] or windows
    iterations, seconds = (sum(part) for part in zip(*steady, strict=True))
    row = {
        "iterations": result["iterations"],
        "seconds of training": result["train_seconds"],
        "seconds in all": whole,
        "iterations/s": iterations / seconds,
        "tasks/s": iterations * batch / seconds,
        "test accuracy %": 100 * result["test_accuracy"],
        "± %": 100 * result["test_ci95"],
        "test tasks": result["test_episodes"],
        "parameters": result["parameters_sha256"][:12],
    }
    if computing := _seconds_a_task(readings):
        row["outside computation %"] = 100 * (1 - sum(computing[name] for name in COMPUTING) * row["tasks/s"])
        each = ", ".join(f"{name} {1e3 * batch * value:.3f}" for name, value in computing.items())
        row["ms a meta-iteration"] = each
    yield row
    yield {"printed": " · ".join(lines[-6:])}


def training_flags(options: Options) -> list[str]:
    """The flags of `workflows.train` that make the run what it is."""
    more = QUICK if options.quick else ["--meta.minutes", f"{min(5, max(AROUND, options.left - AROUND) / 60):.2f}"]
    where = ["--cluster.kind", options.device, "--cluster.dashboard", ":0"]
    return ["--config", CONFIG, *dataset_flags(options), "--evaluation.other_tasks", "0", *where, *more]


def _run(command: list[str]) -> tuple[list[Reading], list[str]]:
    """Run a workflow to its end: what the scheduler told meanwhile, and the lines that it printed.

    Raises:
        RunError: It failed; what it said last.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    readings: list[Reading] = []
    lines, address = [], None
    for line in process.stdout:
        lines.append(line.rstrip())
        if found := re.match(r"dashboard: (http://\S+)/status", line):
            address = found[1]
        if line.startswith("accuracies are") and address:
            break
    while address and process.poll() is None:
        with suppress(OSError):
            readings.append(_reading(f"{address}/metrics"))
        time.sleep(POLL)
    lines += process.stdout.read().splitlines()
    if process.wait():
        raise RunError(f"workflows.train: {lines[-1] if lines else 'ended'}")
    return readings, lines


def _reading(address: str) -> Reading:
    with urllib.request.urlopen(address, timeout=5) as answer:
        text = answer.read().decode()
    tasks = re.search(r"^fanfold_tasks_total\{.*?\} (\S+)$", text, re.MULTILINE)
    phases = re.findall(r'^fanfold_worker_seconds_total\{.*?phase="(\w+)".*?\} (\S+)$', text, re.MULTILINE)
    return Reading(float(tasks[1]) if tasks else 0.0, Counter({phase: float(value) for phase, value in phases}))


def _seconds_a_task(readings: Sequence[Reading]) -> Counter[str]:
    """A worker's seconds a task by phase, from the first reading that has tasks to the last, or from the start."""
    known = [Reading(0.0, Counter()), *(reading for reading in readings if reading.tasks)]
    last = known[-1]
    first = known[1] if len(known) > 1 and known[1].tasks < last.tasks else known[0]
    tasks = last.tasks - first.tasks
    return Counter({name: (value - first.seconds[name]) / tasks for name, value in last.seconds.items() if tasks})


def _windows(path: Path, batch: int) -> list[tuple[int, float]]:
    """Iterations and seconds of each window, validation not counted."""
    records: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    found = []
    for (_, rate), lines in groupby(records, key=lambda record: (record["seconds"], record["tasks_per_second"])):
        count = len(list(lines))
        found.append((count, count * batch / rate))
    return found

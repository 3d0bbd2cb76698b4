"""Runs as they are made: that anything starts, a rank's loop alone, a published training over a cluster, a search."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.part import AbsentError, Job, Options, Row, need_cuda
from benchmarks.gpu.problem import kernel_sets
from fanfold.data.datasets import Omniglot, prepare
from fanfold.data.errors import RunError
from fanfold.data.pictures import HANDWRITING
from fanfold.data.source import ClassName, Source
from fanfold.data.store import write_store
from fanfold.pipeline import worker
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.cluster.gpus import find_gpus, probe_device
from fanfold.pipeline.configuration import SECTIONS
from fanfold.pipeline.executors.device_loop import suits
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.configuration import build_parser, decided, parse

CONFIG = "workflows/configs/omniglot/h200-maml-5way1shot.yaml"
MINUTES = "2"  # of training: the 60,000 iterations at 2 ms each
SMALL = (
    *("--model.width", "8", "--meta.iterations", "12", "--meta.batch", "4", "--meta.chunk", "2", "--meta.window", "4"),
    *("--evaluation.every", "12", "--evaluation.validation_tasks", "4", "--evaluation.tasks", "8"),
    *("--cluster.workers", "1", "--meta.together", "true"),
)
WINDOWS, ITERATIONS = 4, 2000  # of the loop alone; the first window makes kernels and graphs ready


def smoke(options: Options) -> list[Job]:
    """What everything else needs: the driver, dask-cuda's library, Triton, a cluster."""
    finds = {"GPU": _gpu, "cuda.core": _cuda_core, "Triton": _triton, "cluster of one worker": _cluster}
    return [Job({"smoke": name}, partial(find, options)) for name, find in finds.items()]


def _gpu(options: Options) -> Row:
    need_cuda(options)
    gpus, device = find_gpus(), probe_device()
    return {"passed": gpus.problem is None and device.name is not None, "found": device.name or str(gpus.problem)}


def _cuda_core(options: Options) -> Row:
    need_cuda(options)
    from cuda.core import Device  # type: ignore[import-untyped]  # dask-cuda asks it for the device's memory

    return {"passed": True, "found": str(Device(0).name)}


def _triton(options: Options) -> Row:
    need_cuda(options)
    import triton

    sets = kernel_sets(options.place)
    cache = Path(os.environ.get("TRITON_CACHE_DIR", "~/.triton/cache")).expanduser()
    known = len(list(cache.glob("*/*.cubin"))) if cache.is_dir() else 0
    return {"passed": len(sets) > 1, "found": f"Triton {triton.__version__}, {known} kernels compiled before"}


def _cluster(options: Options) -> Row:
    began = time.monotonic()
    with open_cluster(ClusterConfig(kind=options.device, workers=1, dashboard=":0")) as cluster:
        found = {f"{device.name or 'a CPU'}" for device in cluster.client.run(probe_device).values()}
        passed = cluster.device == options.device
    return {"passed": passed, "found": ", ".join(found), "seconds": time.monotonic() - began}


def loop(options: Options) -> list[Job]:
    """Meta-iterations a second of a rank's own loop, without Dask: what a run by Dask is held against."""
    return [Job({"run": "the loop alone"}, partial(_loop, options))]


def _loop(options: Options) -> Row:
    argv = training_flags(options)
    parser = build_parser("workflows.train", "", argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0)
    recipe = replace(decided(parse(parser, argv)).recipe, device="cuda" if options.on_cuda else "cpu")
    if not suits(recipe, worker.open_context(recipe)):
        raise AbsentError("this run's windows are not computed by a loop on the device")
    state, seconds = worker.initialize(recipe), []
    executor, iterations = LocalExecutor(recipe), ITERATIONS if options.on_cuda else 4
    for _ in range(WINDOWS):
        began = time.perf_counter()
        state = executor.window(state, iterations).state
        seconds.append(time.perf_counter() - began)
    each = statistics.median(seconds[1:]) / iterations
    row = {"iterations/s": 1 / each, "ms an iteration": 1000 * each, "tasks/s": recipe.meta.batch / each}
    return row | {"first window, s": seconds[0]}


def window(options: Options) -> list[Job]:
    """MAML as it was published, 60,000 iterations of 32 tasks of Omniglot, by the command that anyone would run."""
    return [Job({"run": "fanfold train"}, partial(_train, options))]


def _train(options: Options) -> Row:
    directory = Path(options.scratch) / "run"
    command = [sys.executable, "-m", "workflows.train", *training_flags(options), "--run", str(directory)]
    command += ["--record.tensorboard", "false", "--report", "false"]
    began = time.monotonic()
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    whole = time.monotonic() - began
    if ran.returncode:
        raise RunError(f"workflows.train: {(ran.stdout.splitlines() or ['ended'])[-1]}")
    result = json.loads((directory / "result.json").read_text())
    windows = _windows(directory / "metrics.jsonl", _batch(options))
    iterations, seconds = (sum(part) for part in zip(*(windows[1:] or windows), strict=True))
    return {
        "iterations": result["iterations"],
        "seconds of training": result["train_seconds"],
        "seconds in all": whole,
        "iterations/s": iterations / seconds,  # but for the first window, in which kernels are compiled
        "test accuracy %": 100 * result["test_accuracy"],
        "± %": 100 * result["test_ci95"],
        "parameters": result["parameters_sha256"][:12],
    }


def _windows(path: Path, batch: int) -> list[tuple[int, float]]:
    """Iterations and seconds of each window, validation not counted."""
    records: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    found = []
    for (_, rate), lines in groupby(records, key=lambda record: (record["seconds"], record["tasks_per_second"])):
        count = len(list(lines))
        found.append((count, count * batch / rate))
    return found


def _batch(options: Options) -> int:
    return 32 if options.on_cuda else 4


def training_flags(options: Options) -> list[str]:
    """The flags of `workflows.train` that make the run what it is."""
    more = ["--meta.minutes", MINUTES] if options.on_cuda else SMALL
    where = ["--cluster.kind", options.device, "--cluster.dashboard", ":0"]
    return ["--config", CONFIG, *dataset_flags(options), "--evaluation.other_tasks", "0", *where, *more]


class Patterns(Source):
    """What a rehearsal learns: classes are random patterns, pictures of them differ by noise."""

    dataset = "folder"
    counts = (6,) * 48
    preprocessing = replace(HANDWRITING, size=28)
    origin = MappingProxyType({"source": "patterns"})

    @property
    def names(self) -> Sequence[ClassName]:
        """Four groups."""
        return [ClassName(f"group {number // 12}", f"pattern {number}") for number in range(48)]

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8]]:
        """See `data.source.Source`."""
        random = np.random.default_rng(index)
        pattern = np.kron(random.random((4, 4)) > 0.5, np.ones((7, 7))) * 200
        pictures = np.clip(pattern + random.normal(0, 20, (6, 1, 28, 28)), 0, 255).astype(np.uint8)
        return list(pictures[first:last])


def dataset_flags(options: Options) -> list[str]:
    """The workflows' flags that name the store, which is prepared where it isn't there yet.

    Raises:
        AbsentError: There is no copy of Omniglot to prepare it from.
    """
    path = Path(options.scratch) / "store.zarr"
    if not options.on_cuda:
        if not path.exists():
            write_store(path, Patterns(), progress=False)
        return ["--dataset.name", "auto", "--dataset.store", str(path), "--dataset.split", "alphabets"]
    path = Path(options.store or path)
    if not path.exists():
        if (source := os.environ.get("OMNIGLOT_SOURCE")) is None:
            raise AbsentError("needs Omniglot: a prepared store (--store), or a copy named by OMNIGLOT_SOURCE")
        prepare(Omniglot(source=source, store=str(path)), progress=False)
    return ["--dataset.name", "omniglot", "--dataset.store", str(path)]

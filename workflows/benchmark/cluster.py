"""Measure the cost of the cluster: both sides alternate in one run; medians and a ratio.

Suite `pipeline`: tasks a second of meta-training over the cluster, as `train` does it, against the summed rate of as
many processes that compute the same chunks in a bare loop. The difference is the cost of the cluster.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.preload import WORKER_ENVIRONMENT
from fanfold.pipeline.configuration import SECTIONS, EvaluationConfig
from fanfold.pipeline.events import Event, WindowEnded
from fanfold.pipeline.files import write_json
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.training import train
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.configuration import build_parser, decided, parse
from fanfold.workflows.cli.result import environment


@dataclass(frozen=True)
class BenchmarkConfig:
    """The settings of the suite.

    Args:
        suite: The suite's name.
        rounds: Rounds; each measures both sides once.
        seconds: Seconds of each measurement.
        out: The file of the result, as JSON; by default none.
    """

    suite: Literal["pipeline"] = "pipeline"
    rounds: int = 5
    seconds: float = 15
    out: str | None = None


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("workflows.benchmark", __doc__, argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0, help="the seed of all random draws")
    parser.add_class_arguments(BenchmarkConfig)
    options = parse(parser, argv)
    check_measurement(options.rounds, options.seconds)
    check_folder(options.out)
    plan = decided(options)
    with open_cluster(plan.cluster) as cluster, bare_loops(plan.recipe, cluster.workers) as loops:
        recipe = replace(plan.recipe, device=cluster.device)
        if recipe.device != "cpu":
            raise FanfoldError("The suite `pipeline` compares CPU workers: give --cluster.kind cpu.")
        print(f"{cluster.workers} workers, {recipe.meta.batch} tasks a meta-batch, {recipe.meta.chunk} a chunk")
        print("round   pipeline       bare   ratio   (tasks/s)")
        measure_pipeline(cluster, recipe, options.seconds)  # opens the store and fills the caches on every worker
        measure_bare(loops, options.seconds)
        rounds = []
        for number in range(options.rounds):
            sides = measure_pipeline(cluster, recipe, options.seconds), measure_bare(loops, options.seconds)
            rounds.append(sides)
            print(f"{number + 1:5}   {sides[0]:8.1f}   {sides[1]:8.1f}   {sides[0] / sides[1]:5.3f}", flush=True)
        ratio = statistics.median(pipeline / bare for pipeline, bare in rounds)
        medians = [statistics.median(side) for side in zip(*rounds, strict=True)]
        print(f"median  {medians[0]:8.1f}   {medians[1]:8.1f}   {ratio:5.3f}")
        if options.out:
            result = {
                "suite": options.suite,
                "ratio": ratio,
                "pipeline_tasks_per_second": medians[0],
                "bare_tasks_per_second": medians[1],
                "rounds": [{"pipeline": pipeline, "bare": bare} for pipeline, bare in rounds],
                "workers": cluster.workers,
                "settings": _settings(plan.config),
                "environment": environment(),
            }
            write_json(Path(options.out), result)


def check_measurement(rounds: int, seconds: float) -> None:
    """Raise FanfoldError if nothing would be measured."""
    if rounds < 1 or not seconds > 0:
        raise FanfoldError(f"--rounds and --seconds must be above 0, not {rounds} and {seconds:g}.")


def check_folder(out: str | Path | None) -> None:
    """Raise FanfoldError if the result's folder is missing, before anything is measured."""
    if out and not Path(out).parent.is_dir():
        raise FanfoldError(f"There is no folder {Path(out).parent} for --out: make it.")


def measure_pipeline(cluster: Cluster, recipe: Recipe, seconds: float) -> float:
    """Tasks a second of training over the cluster, with checkpoints and metrics, without validation."""
    windows: list[WindowEnded] = []

    def listen(event: Event) -> None:
        if isinstance(event, WindowEnded):
            windows.append(event)

    timed = replace(recipe, meta=replace(recipe.meta, iterations=None, minutes=seconds / 60, schedule="constant"))
    never = EvaluationConfig(every=10**9, validation_tasks=2)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder) / "run")
        directory.create("")
        train(cluster, timed, never, directory, [directory.log, listen])
    return sum(len(window.records) for window in windows) * recipe.meta.batch / windows[-1].seconds


def measure_bare(loops: Sequence[Connection], seconds: float) -> float:
    """The summed tasks a second of all processes at once."""
    for loop in loops:
        loop.send(seconds)
    rates: list[float] = [loop.recv() for loop in loops]
    return sum(rates)


@contextmanager
def bare_loops(recipe: Recipe, processes: int) -> Iterator[list[Connection]]:
    """Start processes that compute chunks in a loop. Sent a number of seconds, they send back their tasks a second.

    They have the environment of the cluster's workers.
    """
    context = multiprocessing.get_context("spawn")
    added = {**WORKER_ENVIRONMENT, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before = dict(os.environ)
    os.environ.update(added)
    ends, started = [], []
    try:
        for number in range(processes):
            end, other = context.Pipe()
            started.append(context.Process(target=_loop, args=(other, recipe, number, processes), daemon=True))
            started[-1].start()
            other.close()
            ends.append(end)
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield ends
    finally:
        for process in started:
            process.terminate()


def _loop(end: Connection, recipe: Recipe, number: int, processes: int) -> None:
    """Compute every `processes`-th chunk of one meta-batch after another."""
    state, chunks = worker.initialize(recipe), recipe.meta.chunks()
    while True:
        seconds = end.recv()
        began, tasks, place = time.perf_counter(), 0, number
        while time.perf_counter() - began < seconds:
            iteration, chunk = divmod(place, len(chunks))
            tasks += worker.adapt(recipe, replace(state, iteration=iteration), *chunks[chunk]).tasks
            place += processes
        end.send(tasks / (time.perf_counter() - began))


def _settings(config: Any) -> dict[str, Any]:
    return {section: asdict(config[section]) for section in ("task", "train", "algorithm", "model", "meta")}

"""What the dashboard's page costs: `python -m benchmarks.dashboard --cluster.workers 2 --cluster.reduction graph`.

The same training without the page, with it, and with someone who looks at it, in turns. Compared are CPU seconds, not
the clock's, of the process of driver and scheduler, and of the workers; medians. A gang's workers tell of their windows
in any case: a message a window.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import SECTIONS, EvaluationConfig
from fanfold.pipeline.dashboard.listener import RunTeller
from fanfold.pipeline.dashboard.plugin import BoardPlugin
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.recorder import guarded
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.training import train
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.configuration import build_parser, decided, parse
from fanfold.workflows.cli.entry import run

Way = Literal["without", "with", "looked at"]

# A page open somewhere else: it gets what a browser would, and draws nothing.
LOOKER = """
import sys, time
from bokeh.client import pull_session
session = pull_session(url=sys.argv[1])
while True:
    time.sleep(0.5)
    session.force_roundtrip()
"""


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("benchmarks.dashboard", __doc__ or "", argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0, help="what every random draw depends on")
    parser.add_argument("--rounds", type=int, default=3, help="trainings in each way")
    options = parse(parser, argv)
    plan = decided(options)
    found: dict[Way, list[tuple[float, float, float]]] = {way: [] for way in get_args(Way)}
    with open_cluster(plan.cluster) as cluster:
        measure(cluster, plan.recipe, plan.evaluation, plan.flat, "without")  # workers warm up
        for _ in range(options.rounds):
            for way, rounds in found.items():
                rounds.append(measure(cluster, plan.recipe, plan.evaluation, plan.flat, way))
        print(f"{plan.recipe.meta.iterations} meta-iterations, {cluster.workers} workers, {cluster.reduction}")
    print("CPU seconds    driver and scheduler   workers   the page's share of all   seconds")
    medians = {
        way: [statistics.median(column) for column in zip(*rounds, strict=True)] for way, rounds in found.items()
    }
    driver, workers, _ = medians["without"]
    for way, (here, there, seconds) in medians.items():
        share = (here - driver) / (driver + workers)
        print(f"{way:12} {here:22.2f} {there:9.1f} {100 * share:23.2f} % {seconds:9.1f}", flush=True)


def measure(
    cluster: Cluster, recipe: Recipe, evaluation: EvaluationConfig, config: dict[str, Any], way: Way
) -> tuple[float, float, float]:
    """CPU seconds of this process and of the workers, and the clock's, that a training takes."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        directory = RunDirectory(Path(folder) / "run")
        directory.create("")
        # The scheduler of a local cluster is in this process.
        local: Any = cluster.client.cluster
        plugins = local.scheduler.plugins
        if way == "without":
            stack.callback(plugins.__setitem__, BoardPlugin.name, plugins.pop(BoardPlugin.name))
            listeners = []
        else:
            teller = RunTeller(cluster.client, "measured", recipe, config)
            listeners = [stack.enter_context(guarded(teller, "the page", print))]
        if way == "looked at":
            stack.enter_context(looked_at(cluster))
        own, others, began = time.process_time(), workers_seconds(cluster), time.monotonic()
        train(cluster, replace(recipe, device=cluster.device), evaluation, directory, listeners)
        return time.process_time() - own, workers_seconds(cluster) - others, time.monotonic() - began


@contextmanager
def looked_at(cluster: Cluster) -> Iterator[None]:
    """Someone looks at the page meanwhile, from a process of its own."""
    address = cluster.dashboard.replace("/status", "/fanfold")
    looker = subprocess.Popen([sys.executable, "-c", LOOKER, address])
    time.sleep(5)  # until it has Bokeh imported
    try:
        yield
        if looker.poll() is not None:
            raise RuntimeError("nobody looked at the page")
    finally:
        looker.kill()
        looker.wait()


def workers_seconds(cluster: Cluster) -> float:
    """CPU seconds of the workers' processes so far."""
    return float(sum(cluster.client.run(own_seconds).values()))


def own_seconds() -> float:
    """CPU seconds of this process so far."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    run(main)

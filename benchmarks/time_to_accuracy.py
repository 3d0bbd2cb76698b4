"""How long training takes to an accuracy, from nothing: `python -m benchmarks.time_to_accuracy CONFIG [CONFIG …]`.

Each configuration is trained with each seed, alone, over a local cluster. The clock runs from the moment that the
cluster is up: building the network, training, and the scheduler's work are in it. Along the way the parameters are put
aside, every few seconds, and tested when the clock has stopped: on the same 1,000 tasks of test classes, which nothing
is chosen by. A run has reached the accuracy where its curve first lies above it.

Writes the curves to OUT.json and draws them in OUT.png.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import normalizations, predict
from fanfold.pipeline.executors.choose import open_executor
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.files import write_json
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.results import summarize
from fanfold.tasks.episodes import Stream
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.result import environment
from fanfold.workflows.reporting.table_rows import read_plan

WINDOW = 20  # iterations between looks at the clock
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # told apart by colour-blind people too


@dataclass(frozen=True)
class Point:
    """Where a run stands: seconds since its start, iterations done, accuracy on test tasks."""

    seconds: float
    iteration: int
    accuracy: float


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("benchmarks.time_to_accuracy", __doc__ or "", argv, ["cluster"])
    parser.add_argument("configs", type=Path, nargs="+", help="configuration files")
    parser.add_argument("--seeds", type=int, default=3, help="each is trained with so many seeds, from 0 on")
    parser.add_argument("--accuracy", type=float, default=0.95, help="the accuracy to reach")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between points of the curve, or so")
    parser.add_argument("--tasks", type=int, default=1000, help="test tasks of each point")
    parser.add_argument("--out", type=Path, default=Path("time_to_accuracy"), help="OUT.json and OUT.png")
    options = parse(parser, argv)
    curves: dict[str, list[list[Point]]] = {}
    with open_cluster(options.cluster) as cluster:
        for path in options.configs:
            for seed in range(options.seeds):
                recipe = read_plan(path, seed).recipe
                curve = test_all(cluster, recipe, train(cluster, recipe, options.every), options.tasks)
                curves.setdefault(path.stem, []).append(curve)
                print(f"{path.stem}, seed {seed}: {_in_words(reached(curve, options.accuracy))}", flush=True)
        workers = cluster.workers
    found = {name: [reached(curve, options.accuracy) for curve in of_seeds] for name, of_seeds in curves.items()}
    for name, seconds in found.items():
        print(
            f"{name}: {100 * options.accuracy:g} % after {_in_words(median(seconds))} (median of {len(seconds)} seeds)"
        )
    result: dict[str, Any] = {
        "accuracy": options.accuracy,
        "tasks": options.tasks,
        "workers": workers,
        "environment": environment(),
        "runs": {
            name: {
                "seconds": found[name],
                "median_seconds": median(found[name]),
                "curves": [[vars(point) for point in curve] for curve in of_seeds],
            }
            for name, of_seeds in curves.items()
        },
    }
    write_json(options.out.with_suffix(".json"), result)
    draw(curves, options.accuracy).savefig(options.out.with_suffix(".png"), dpi=150)


def train(cluster: Cluster, recipe: Recipe, every: float) -> list[tuple[float, int, Vector]]:
    """Train from nothing to the end, and put parameters aside: seconds, iterations and what is to be tested."""
    began, aside = time.monotonic(), list[tuple[float, int, Vector]]()
    state, name = worker.initialize(recipe), uuid4().hex[:8]
    assert recipe.meta.iterations is not None
    with open_executor(cluster, recipe, name, lambda _: None) as executor:
        while state.iteration < recipe.meta.iterations:
            iterations = min(WINDOW, recipe.meta.iterations - state.iteration)
            state = executor.window(state, iterations).state
            seconds = time.monotonic() - began
            if not aside or seconds - aside[-1][0] >= every or state.iteration == recipe.meta.iterations:
                aside.append((seconds, state.iteration, state.average))
    return aside


def test_all(cluster: Cluster, recipe: Recipe, aside: Sequence[tuple[float, int, Vector]], tasks: int) -> list[Point]:
    """The accuracy of all that was put aside."""
    how, executor = normalizations(recipe)[0], GraphExecutor(cluster, recipe)
    return [
        Point(
            seconds,
            iteration,
            summarize(predict(executor, recipe, parameters, Stream.TEST, tasks, how).accuracies).mean,
        )
        for seconds, iteration, parameters in aside
    ]


def reached(curve: Sequence[Point], accuracy: float) -> float | None:
    """Seconds to the first point of at least this accuracy; None if there is none."""
    return next((point.seconds for point in curve if point.accuracy >= accuracy), None)


def median(seconds: Sequence[float | None]) -> float | None:
    """The median; a run that never got there counts as infinitely long."""
    middle = statistics.median_high([float("inf") if value is None else value for value in seconds])
    return None if middle == float("inf") else middle


def draw(curves: dict[str, list[list[Point]]], accuracy: float) -> Figure:
    """Accuracy against seconds: a thin line a seed."""
    figure, axis = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for colour, (name, of_seeds) in zip(COLOURS * len(curves), curves.items(), strict=False):
        for place, curve in enumerate(of_seeds):
            seconds, share = [point.seconds for point in curve], [100 * point.accuracy for point in curve]
            axis.plot(seconds, share, color=colour, linewidth=1.2, label=None if place else name)
    axis.axhline(100 * accuracy, color="0.4", linewidth=0.8, linestyle="--")
    axis.set_xlabel("seconds of training")
    axis.set_ylabel("accuracy on test classes, %")
    axis.set_ylim(max(40, axis.get_ylim()[0]), 100)
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower right")
    return figure


def _in_words(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"


if __name__ == "__main__":
    run(main)

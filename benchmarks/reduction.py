"""What bringing chunks together takes, by graph and by gang: `python -m benchmarks.reduction --cluster.workers 2`.

Chunks of one task, on which next to nothing is computed, so that a meta-iteration is nearly all overhead; what the
chunks still take, measured on the workers, is taken off. Windows by graph and by gang take turns; medians.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import SECTIONS
from fanfold.pipeline.executors.base import Executor, Window
from fanfold.pipeline.executors.gang import GangExecutor
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.algorithm import Algorithm, MetaGradient
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.configuration import build_parser, decided, parse
from fanfold.workflows.cli.entry import run

CHUNKS = (2, 8, 32)  # chunks a meta-batch
WINDOW = 10  # meta-iterations a window


@dataclass(frozen=True)
class Idle(Algorithm):
    """An algorithm that computes next to nothing."""

    normalizations = ("batch",)

    name: str = "idle"

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """A hundredth of the parameters."""
        return MetaGradient(parameters / 100, torch.ones(len(tasks)), torch.zeros(len(tasks)))

    def classifier(self, *_: Any) -> Any:
        """There is none."""
        raise NotImplementedError


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("benchmarks.reduction", __doc__ or "", argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0, help="what every random draw depends on")
    parser.add_argument("--rounds", type=int, default=15, help="windows that each is measured with")
    options = parse(parser, argv)
    plan = decided(options)
    with open_cluster(plan.cluster) as cluster:
        parameters = len(worker.initialize(plan.recipe).parameters)
        print(f"{cluster.workers} workers, {parameters:,} parameters; overhead in ms a meta-iteration")
        print("chunks    graph     gang   gang / graph")
        for chunks in CHUNKS:
            meta = replace(plan.recipe.meta, batch=chunks, chunk=1)
            graph, gang = measure(cluster, replace(plan.recipe, algorithm=Idle(), meta=meta), options.rounds)
            print(f"{chunks:6}   {1000 * graph:6.1f}   {1000 * gang:6.1f}   {gang / graph:6.2f}", flush=True)


def measure(cluster: Cluster, recipe: Recipe, rounds: int) -> tuple[float, float]:
    """Seconds a meta-iteration beyond what its chunks take, by graph and by gang."""
    state, chunks, quiet = worker.initialize(recipe), len(recipe.meta.chunks()), lambda _: None
    graph, gang, chunk = [], [], []
    by_graph = GraphExecutor(cluster, recipe)
    with GangExecutor(cluster, recipe, "measured-gang", quiet) as by_gang:
        for _ in range(rounds + 1):
            graph.append(timed(by_graph, state)[0])
            seconds, window = timed(by_gang, state)
            gang.append(seconds)
            chunk.append(max(window.seconds))
    computing = statistics.median(chunk[1:]) * -(-chunks // cluster.workers)
    return statistics.median(graph[1:]) - computing, statistics.median(gang[1:]) - computing


def timed(executor: Executor, state: State) -> tuple[float, Window]:
    """Seconds a meta-iteration of a window, and what came of it."""
    began = time.perf_counter()
    found = executor.window(state, WINDOW)
    return (time.perf_counter() - began) / WINDOW, found


if __name__ == "__main__":
    run(main)

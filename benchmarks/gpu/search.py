"""Trials a second of a hyperparameter search over a CUDA cluster: one worker on the card, and two that share it."""

import time
from collections.abc import Iterator

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.store import dataset_flags
from fanfold.pipeline import worker
from fanfold.workflows.actions.search import open_request, request_of, search
from fanfold.workflows.cli.cluster import open_cluster

FULL = ("--model.name", "conv4-stride", "--meta.iterations", "1000", "--meta.batch", "32", "--evaluation.every", "500")
QUICK = (
    *("--model.name", "conv4-stride", "--model.width", "8", "--meta.iterations", "4", "--meta.batch", "2"),
    *("--evaluation.every", "2", "--evaluation.validation_tasks", "4", "--cluster.workers", "1"),
)


def measure(options: Options) -> Iterator[Row]:
    """A row for each number of workers on a card."""
    dataset = dataset_flags(options)
    for each in (1,) if options.quick else (1, 2):
        yield attempt(options, {"workers a card": each}, _measured, each, dataset)


def _measured(each: int, dataset: list[str], options: Options) -> Row:
    """From when the cluster is up, and its workers have opened the store, to when the last trial has ended."""
    trials = 2 if options.quick else 6
    argv = [
        *("--algorithm.name", "maml", "--task.ways", "5", *dataset, *(QUICK if options.quick else FULL)),
        *("--meta.minutes", "null", "--cluster.kind", options.device, "--cluster.dashboard", ":0"),
        *(() if each == 1 else ("--cluster.per_gpu", str(each))),
        *("--search.trials", str(trials), "--search.sampler", "random", "--search.pruner", "none"),
        *("--run", str(options.scratch / f"search-{each}")),
    ]
    request = request_of(argv)
    with open_cluster(request.base.cluster) as cluster, open_request(request) as study:
        cluster.client.run(worker.initialize, request.base.recipe)
        began = time.monotonic()
        search(request, study, cluster)
        seconds = time.monotonic() - began
        best = study.best_value
    meta = request.base.recipe.meta
    return {
        "trials": trials,
        "iterations each": meta.iterations,
        "trials/s": trials / seconds,
        "iterations/s": trials * (meta.iterations or 0) / seconds,
        "best validation %": 100 * best,
    }

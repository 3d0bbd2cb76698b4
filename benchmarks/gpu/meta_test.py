"""Tasks a second that are learned and answered: MAML, 5-way 1-shot, 1 query a class, 3 inner steps."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.settings import MANY, settings, tasks_of
from benchmarks.gpu.sides import kernel_sets, network_of
from benchmarks.gpu.timing import Replayed, seconds_of
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.predict import predict

MOST = 4096  # tasks at a time
STEPS = 3
WAYS = ("captured", "answers on the host")


def measure(options: Options) -> Iterator[Row]:
    """A row for each number of tasks, set of kernels and way."""
    for tasks, kernels in sizes(options):
        for way in WAYS:
            what = {"tasks": tasks, "side": f"fanfold {kernels}, {way}"}
            yield attempt(options, what, _measured, tasks, kernels, way)


def sizes(options: Options) -> list[tuple[int, str]]:
    """Tasks at a time and sets of kernels that are measured, most tasks with the fastest set alone."""
    fastest, *others = reversed(kernel_sets(options.place))
    many = (2,) if options.quick else (MOST, MANY)
    return [*((tasks, fastest) for tasks in many), *((many[-1], other) for other in others)]


def computation(count: int, kernels: str, way: str, options: Options) -> Callable[[], object]:
    """What learns and answers tasks, by a set of kernels and one of the ways."""
    setting, place = settings(options)["a"], options.place
    algorithm = replace(setting.algorithm, inner_lr=0.1)
    network = network_of(setting.model, setting.shape.ways, place, kernel_sets(place)[kernels], torch.float32)
    parameters, tasks = algorithm.initialize(network), tasks_of(setting.shape, count, place)

    def logits(parameters: torch.Tensor, support: torch.Tensor, query: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch = TaskBatch(support, tasks.support_labels, query, tasks.query_labels, tasks.ways)
        found = algorithm.logits(network, parameters, batch, STEPS)
        assert found is not None
        return (found,)

    if way == "captured":
        replayed = Replayed(logits)
        return lambda: replayed(parameters, tasks.support, tasks.query)
    return lambda: predict(algorithm, network, parameters, tasks, STEPS, "batch")


def _measured(count: int, kernels: str, way: str, options: Options) -> Row:
    seconds = seconds_of(computation(count, kernels, way, options), options)
    return {"ms": 1000 * seconds, "tasks/s": count / seconds}

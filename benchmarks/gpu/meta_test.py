"""Tasks a second that are learned and answered: MAML, 5-way 1-shot, 1 query a class, 3 inner steps."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.settings import settings, tasks_of
from benchmarks.gpu.sides import kernel_sets, network_of
from benchmarks.gpu.timing import Replayed, seconds_of
from tasks.batch import TaskBatch
from tasks.learner import answer_tasks
from tasks.wide.layers import Kernels

STEPS = 3


def measure(options: Options) -> Iterator[Row]:
    """A row for each number of tasks, set of kernels and way."""
    sets = kernel_sets(options.place)
    for tasks in (2,) if options.quick else (512, 4096):
        for kernels in reversed(sets):
            for way in ("captured", "answers on the host"):
                what = {"tasks": tasks, "side": f"fanfold {kernels}, {way}"}
                yield attempt(what, _measured, tasks, sets[kernels], way, options)


def _measured(count: int, kernels: Kernels, way: str, options: Options) -> Row:
    setting = settings(options)["a"]
    algorithm = replace(setting.algorithm, inner_lr=0.1)
    network = network_of(setting.model, setting.shape.ways, options.place, kernels, torch.float32)
    parameters, tasks = algorithm.initialize(network), tasks_of(setting, count, options.place)

    def logits(parameters: torch.Tensor, support: torch.Tensor, query: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch = TaskBatch(support, tasks.support_labels, query, tasks.query_labels, tasks.ways)
        found = algorithm.logits(network, parameters, batch, STEPS)
        assert found is not None
        return (found,)

    replayed = Replayed(logits)

    def compute() -> object:
        if way == "captured":
            return replayed(parameters, tasks.support, tasks.query)
        return answer_tasks(algorithm, network, parameters, tasks, STEPS, "batch")

    seconds = seconds_of(compute, options)
    return {"ms": 1000 * seconds, "tasks/s": count / seconds}

"""The most memory that a meta-gradient takes at a time on the device, as inner steps grow."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.gpu.options import Options, Row, attempt, need_cuda
from benchmarks.gpu.settings import settings, tasks_of
from benchmarks.gpu.sides import kernel_sets, meta_gradient_of, network_of
from fanfold.tasks.algorithms.support_loss import Differentiation
from fanfold.tasks.derivatives.protocol import Operations

WAYS: tuple[Differentiation, ...] = ("mixed", "reverse")


def measure(options: Options) -> Iterator[Row]:
    """A row for each set of kernels, way and number of steps: of 32 5-way 1-shot tasks with 15 queries a class."""
    need_cuda(options)
    sets = kernel_sets(options.place)
    for kernels in reversed(sets):
        for way in WAYS:
            least: list[float] = []
            for steps in (1, 5, 20):
                what = {"kernels": kernels, "way": way, "steps": steps}
                row = attempt(options, what, _peak, sets[kernels], way, steps)
                if "MB" in row:
                    least.append(row["MB"])
                    row["× the first"] = row["MB"] / least[0]
                yield row


def _peak(operations: Operations, way: Differentiation, steps: int, options: Options) -> Row:
    """Megabytes, over those of tasks, parameters and libraries."""
    setting = settings(options)["b"]
    algorithm = replace(setting.algorithm, inner_steps=steps, differentiation=way)
    network = network_of(setting.model, setting.shape.ways, options.place, operations, torch.float32)
    parameters, tasks = algorithm.initialize(network), tasks_of(setting.shape, 32, options.place)
    compute = meta_gradient_of(algorithm, network, tasks)
    compute(parameters, tasks.support, tasks.query)  # libraries take their workspaces
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    compute(parameters, tasks.support, tasks.query)
    torch.cuda.synchronize()
    return {"MB": (torch.cuda.max_memory_allocated() - before) / 1e6}

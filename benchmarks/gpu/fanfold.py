"""Meta-gradients a second by Fanfold: with each set of kernels, captured as a CUDA graph and called plainly."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.settings import MANY, checked, difference, measured, module_of, reference, settings, tasks_of
from benchmarks.gpu.sides import kernel_sets, meta_gradient_of, network_of
from benchmarks.gpu.timing import Replayed, seconds_of

MOST = 2048  # tasks at a time


def measure(options: Options) -> Iterator[Row]:
    """A row for each setting, number of tasks and set of kernels; those of few tasks in (a) called plainly, too."""
    for name in measured(options):
        for tasks, kernels in sizes(name, options):
            yield _row(name, tasks, kernels, "captured", options)
    if "a" in measured(options):
        for kernels in reversed(kernel_sets(options.place)):
            yield _row("a", checked(options), kernels, "plain calls", options)


def sizes(name: str, options: Options) -> list[tuple[int, str]]:
    """Tasks at a time and sets of kernels that a setting is measured with, many tasks with the fastest set alone."""
    fastest, *others = reversed(kernel_sets(options.place))
    few, many = checked(options), () if options.quick else (MANY, MOST) if name == "a" else (MANY,)
    return [*((tasks, fastest) for tasks in (few, *many)), *((few, other) for other in others)]


def computation(
    name: str, tasks: int, kernels: str, options: Options
) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, Tensor, Tensor]]:
    """A setting's meta-gradient by a set of kernels, and what it is computed of: parameters, support, query images."""
    setting, place = settings(options)[name], options.place
    network = network_of(setting.model, setting.shape.ways, place, kernel_sets(place)[kernels], torch.float32)
    parameters = torch.nn.utils.parameters_to_vector(module_of(setting).parameters()).detach().to(place)
    batch = tasks_of(setting.shape, tasks, place)
    return meta_gradient_of(setting.algorithm, network, batch), (parameters, batch.support, batch.query)


def _row(name: str, tasks: int, kernels: str, way: str, options: Options) -> Row:
    what = {"setting": name, "tasks": tasks, "side": f"fanfold {kernels}, {way}"}
    return attempt(options, what, _measured, name, tasks, kernels, way)


def _measured(name: str, tasks: int, kernels: str, way: str, options: Options) -> Row:
    compute, (parameters, support, query) = computation(name, tasks, kernels, options)
    call = Replayed(compute) if way == "captured" else compute
    seconds = seconds_of(lambda: call(parameters, support, query), options)
    few = checked(options)
    same = call if tasks == few else compute  # a graph is of all its tasks
    error = difference(same(parameters, support[:few], query[:few])[0], reference(name, options))
    return {"ms": 1000 * seconds, "tasks/s": tasks / seconds, "difference": error}

"""Meta-gradients a second by Fanfold: with each set of kernels, captured as a CUDA graph and called plainly."""

from collections.abc import Iterator
from itertools import product

import torch

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.settings import checked, counts, difference, module_of, reference, settings, tasks_of
from benchmarks.gpu.sides import kernel_sets, meta_gradient_of, network_of
from benchmarks.gpu.timing import Replayed, seconds_of
from tasks.wide.layers import Kernels


def measure(options: Options) -> Iterator[Row]:
    """A row for each setting, number of tasks, set of kernels, and way to call: what matters most first.

    Many tasks at a time are measured with the fastest ways alone.
    """
    sets = kernel_sets(options.place)
    fused = [name for name in reversed(sets) if name != "plain"]
    for way, name in product(("captured", "plain calls"), settings(options)):
        few, *many = counts(name, options)
        for tasks in (few, *(many if way == "captured" else ())):
            for kernels in (fused or ["plain"]) if tasks > few else reversed(sets):
                what = {"setting": name, "tasks": tasks, "side": f"fanfold {kernels}, {way}"}
                yield attempt(what, _measured, name, tasks, way, sets[kernels], options)


def _measured(name: str, tasks: int, way: str, kernels: Kernels, options: Options) -> Row:
    setting, place = settings(options)[name], options.place
    network = network_of(setting.model, setting.shape.ways, place, kernels, torch.float32)
    parameters = torch.nn.utils.parameters_to_vector(module_of(setting).parameters()).detach().to(place)
    batch = tasks_of(setting, tasks, place)
    compute = meta_gradient_of(setting.algorithm, network, batch)
    call = Replayed(compute) if way == "captured" else compute
    seconds = seconds_of(lambda: call(parameters, batch.support, batch.query), options)
    few = checked(options)
    if tasks == few:
        error = difference(call(parameters, batch.support, batch.query)[0], reference(name, options))
    else:
        error = difference(compute(parameters, batch.support[:few], batch.query[:few])[0], reference(name, options))
    return {"ms": 1000 * seconds, "tasks/s": tasks / seconds, "difference": error}

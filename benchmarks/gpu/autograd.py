"""Meta-gradients a second as most people compute them on a GPU: one task after another, by PyTorch's own autograd.

The tasks lie on the device. How many there are changes nothing, so a meta-batch of them is measured.
"""

from collections.abc import Iterator
from importlib import import_module

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.settings import checked, difference, measured, module_of, reference, settings, tasks_of
from benchmarks.gpu.timing import seconds_of
from fanfold.workflows.benchmark.peers import PEERS

MEASURED = ("higher", "loop")


def measure(options: Options) -> Iterator[Row]:
    """A row for each setting and peer."""
    for name in measured(options):
        for peer in MEASURED:
            what = {"setting": name, "tasks": checked(options), "side": peer}
            yield attempt(options, what, _measured, name, peer)


def _measured(name: str, peer: str, options: Options) -> Row:
    setting = settings(options)[name]
    prepare = import_module(PEERS[peer].module).prepare
    module, algorithm = module_of(setting).to(options.place), setting.algorithm
    compute = prepare(module, algorithm.inner_lr, algorithm.inner_steps)
    tasks = tasks_of(setting.shape, checked(options), options.place)
    error = difference(compute(tasks), reference(name, options))
    seconds = seconds_of(lambda: compute(tasks), options)
    return {"ms": 1000 * seconds, "tasks/s": len(tasks) / seconds, "difference": error}

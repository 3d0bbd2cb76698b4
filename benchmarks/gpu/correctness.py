"""Whether the device computes what it should: meta-gradients beside float64 on the CPU, task after task.

MAML's is compared with a plain loop over PyTorch's own autograd, and on each set of kernels: once in float64, where
only rounding may differ, and once in the set's own precision, where a number near a tie may fall on the other side of
ReLU or pooling, and inner steps carry that on. So what is allowed grows with the steps.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.pool import in_processes, processes
from benchmarks.gpu.settings import SIZE, deterministic, difference, exact_gradient, tasks_of
from benchmarks.gpu.sides import kernel_sets, meta_gradient_of, network_of
from data.errors import RunError
from tasks.anil import Anil
from tasks.episodes import EpisodeShape
from tasks.gpu import captured
from tasks.learner import Algorithm
from tasks.maml import Maml
from tasks.maml_plus_plus import MamlPlusPlus
from tasks.matching import Matching
from tasks.meta_sgd import MetaSgd
from tasks.models import Article, Conv4, Conv4Stride, build_network
from tasks.network import as_network
from tasks.protonet import ProtoNet
from tasks.reptile import Reptile
from tasks.wide.layers import Kernels
from workflows.peers.settings import Setting

INNER = {"inner_lr": 0.1, "inner_steps": 2}
OTHERS: dict[str, Algorithm] = {
    "maml, first order": Maml(**INNER, first_order=True),
    "anil": Anil(**INNER),
    "maml++": MamlPlusPlus(**INNER, multi_step=10),
    "meta-sgd": MetaSgd(**INNER),
    "reptile, sgd": Reptile(**INNER, inner_batch=5, test_batch=5, inner_optimizer="sgd"),
    "reptile": Reptile(inner_steps=3, inner_lr=0.001, inner_batch=5, test_batch=5),
    "protonet": ProtoNet(),
    "matching": Matching(),
    "matching, full context": Matching(full_context=True),
}
SHAPE = EpisodeShape(5, 1, 2)
EXACT = 1e-9  # relative, in float64
ALLOWED = {"float32": (1e-3, 5e-2), "tf32": (5e-2, 0.3)}  # relative, after one inner step, and after several
Job = tuple[Conv4 | Conv4Stride | Article, int] | str
"""A network and MAML's steps, or the name of another algorithm."""
ITERATION = 3  # whose derivatives are of second order in MAML++, too


def measure(options: Options) -> Iterator[Row]:
    """A row for each network, inner loop and set of kernels; then one for each other algorithm."""
    models = [model(**_width(options)) for model in (Conv4, Conv4Stride, Article)]
    jobs = [*product(models, (2,) if options.quick else (5, 1)), *OTHERS]
    yield from in_processes(_checks, jobs, options, processes(options))


def _checks(job: Job, options: Options) -> Iterator[Row]:
    with deterministic():
        yield from _other(job, options) if isinstance(job, str) else _maml(*job, options)


def _maml(model: Conv4 | Conv4Stride | Article, steps: int, options: Options) -> Iterator[Row]:
    """Each way to differentiate and set of kernels, beside a plain loop."""
    sets = kernel_sets(options.place)
    setting = Setting(SHAPE, Maml(inner_lr=0.1, inner_steps=steps), model)
    expected = exact_gradient(setting, _count(options), torch.device("cpu"))
    kinds = [*((name, torch.float32) for name in sets), ("plain", torch.float64)]
    for way, (name, dtype) in product(("reverse", "mixed"), kinds):
        own = replace(setting, algorithm=replace(setting.algorithm, differentiation=way))
        kind = "float64" if dtype == torch.float64 else "tf32" if name.endswith("tf32") else "float32"
        allowed = EXACT if kind == "float64" else ALLOWED[kind][steps > 1]
        what = {"algorithm": f"maml {way}", "network": model.name, "steps": steps, "kernels": name}
        what |= {"precision": kind, "allowed": allowed}
        yield attempt(options, what, _checked, own, sets[name], dtype, expected, allowed)


def _other(name: str, options: Options) -> Iterator[Row]:
    """Another algorithm, by PyTorch's operations, beside one task after another."""
    algorithm, allowed = OTHERS[name], ALLOWED["float32"][1]
    setting = Setting(SHAPE, algorithm, Conv4(**_width(options)))  # type: ignore[arg-type]
    what = {"algorithm": name, "network": "conv4", "steps": getattr(algorithm, "inner_steps", None)}
    what |= {"kernels": "plain", "precision": "float32", "allowed": allowed}
    plain = kernel_sets(options.place)["plain"]
    yield attempt(options, what, _checked_beside_one_by_one, setting, plain, allowed)


def _width(options: Options) -> dict[str, int]:
    return {"width": 16} if options.quick else {}


def _count(options: Options) -> int:
    return 2 if options.quick else 16


def _checked(
    setting: Setting, kernels: Kernels, dtype: torch.dtype, expected: Tensor, allowed: float, options: Options
) -> Row:
    """The difference from what is expected; whether it is the same bits twice; and what a captured graph gives."""
    algorithm, place = setting.algorithm, options.place
    ways = setting.shape.ways if algorithm.head else None
    network = network_of(setting.model, ways, place, kernels, dtype)
    tasks = tasks_of(setting, _count(options), place)
    compute = meta_gradient_of(algorithm, network, tasks, ITERATION)
    arguments = [part.to(dtype) for part in (_start(setting).to(place), tasks.support, tasks.query)]
    first, again = (compute(*arguments)[0].clone() for _ in range(2))
    error, same = difference(first, expected), torch.equal(first, again)
    row = {"difference": error, "same bits twice": same, "passed": error <= allowed and same}
    if not isinstance(algorithm, Maml):  # only what is written out waits for nothing on the host
        return row
    apart = difference(_captured(compute, arguments), first)
    return row | {"captured apart by": apart, "passed": row["passed"] and apart <= allowed}


def _captured(compute: Callable[..., tuple[Tensor, ...]], arguments: Sequence[Tensor]) -> Tensor:
    """What the graph gives that Fanfold captures: the first call is plain, the second captures, the third replays.

    Raises:
        RunError: It could not be captured.
    """
    said: list[logging.LogRecord] = []
    log = logging.getLogger(captured.__name__)
    log.addFilter(said.append)  # which drops what it is told, as it gives nothing
    try:
        replayed = captured.Captured(compute, arguments[0].device)
        found = [replayed(*arguments)[0].clone() for _ in range(3)][-1]
    finally:
        log.removeFilter(said.append)
    if said:
        raise RunError(said[0].getMessage())
    return found


def _checked_beside_one_by_one(setting: Setting, kernels: Kernels, allowed: float, options: Options) -> Row:
    return _checked(setting, kernels, torch.float32, _one_by_one(setting, options), allowed, options)


def _start(setting: Setting) -> Tensor:
    """An algorithm's meta-parameters before the first iteration, in float64."""
    torch.manual_seed(1)
    algorithm = setting.algorithm
    module = build_network(setting.model, setting.shape.ways, SIZE, 0)
    network = as_network(module, SIZE, setting.shape.ways if algorithm.head else None)
    return algorithm.initialize(network).double()


def _one_by_one(setting: Setting, options: Options) -> Tensor:
    """An algorithm's gradient in float64 on the CPU, task after task."""
    algorithm, cpu = setting.algorithm, torch.device("cpu")
    ways = setting.shape.ways if algorithm.head else None
    module = build_network(setting.model, setting.shape.ways, SIZE, 0).double()
    tasks = tasks_of(setting, _count(options), cpu)
    exact = replace(tasks, support=tasks.support.double(), query=tasks.query.double())
    network = replace(as_network(module, SIZE, ways), stack=None)  # by PyTorch's own differentiation
    return algorithm.meta_gradient(network, _start(setting), ITERATION, exact).gradient

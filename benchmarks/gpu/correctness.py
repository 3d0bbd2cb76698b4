"""Whether the device computes what it should: meta-gradients beside float64 on the CPU, task after task.

MAML's is compared with a plain loop over PyTorch's own autograd, and on each set of kernels: once in float64, where
only rounding may differ, and once in the set's own precision, where a number near a tie may fall on the other side of
ReLU or pooling, and inner steps carry that on. So what is allowed grows with the steps.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.pool import in_processes, processes
from benchmarks.gpu.settings import SIZE, deterministic, difference, exact_gradient, tasks_of
from benchmarks.gpu.sides import kernel_sets, meta_gradient_of, network_of
from fanfold.data.errors import RunError
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.matching import Matching
from fanfold.tasks.algorithms.meta_sgd import MetaSgd
from fanfold.tasks.algorithms.proto_maml import ProtoMaml
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.derivatives.protocol import Operations
from fanfold.tasks.device import cuda_graph as captured
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import Article, Conv4, Conv4Stride, build_network
from fanfold.tasks.network import as_network
from fanfold.workflows.benchmark.peers.settings import Setting

OTHERS: dict[str, Algorithm] = {
    "maml, first order": Maml(inner_lr=0.1, inner_steps=2, first_order=True),
    "anil": Anil(inner_lr=0.1, inner_steps=2),
    "maml++": MamlPlusPlus(inner_lr=0.1, inner_steps=2, multi_step=10),
    "meta-sgd": MetaSgd(inner_lr=0.1, inner_steps=2),
    "reptile, sgd": Reptile(inner_lr=0.1, inner_steps=2, inner_batch=5, test_batch=5, inner_optimizer="sgd"),
    "reptile": Reptile(inner_steps=3, inner_lr=0.001, inner_batch=5, test_batch=5),
    "proto-maml": ProtoMaml(inner_lr=0.1, inner_steps=2),
    "protonet": ProtoNet(),
    "matching": Matching(),
    "matching, full context": Matching(full_context=True),
}
SHAPE = EpisodeShape(5, 1, 2)
WAYS: tuple[Literal["reverse", "mixed"], ...] = ("reverse", "mixed")
EXACT = 1e-9  # relative, in float64
ALLOWED = {"float32": (1e-3, 5e-2), "tf32": (5e-2, 0.3)}  # relative, after one inner step, and after several
Network = Conv4 | Conv4Stride | Article
Job = tuple[Network, int] | str
"""A network and MAML's steps, or the name of another algorithm."""
ITERATION = 3  # whose derivatives are of second order in MAML++, too


def measure(options: Options) -> Iterator[Row]:
    """A row for each network, inner loop and set of kernels; then one for each other algorithm."""
    models = [_narrowed(model, options) for model in (Conv4(), Conv4Stride(), Article())]
    jobs = [*product(models, (2,) if options.quick else (5, 1)), *OTHERS]
    yield from in_processes(_checks, jobs, options, processes(options))


def _checks(job: Job, options: Options) -> Iterator[Row]:
    with deterministic():
        yield from _other(job, options) if isinstance(job, str) else _maml(*job, options)


def _maml(model: Network, steps: int, options: Options) -> Iterator[Row]:
    """Each way to differentiate and set of kernels, beside a plain loop."""
    sets, maml = kernel_sets(options.place), Maml(inner_lr=0.1, inner_steps=steps)
    expected = exact_gradient(Setting(SHAPE, maml, model), _count(options), torch.device("cpu"))
    kinds = [*((name, torch.float32) for name in sets), ("plain", torch.float64)]
    for way, (name, dtype) in product(WAYS, kinds):
        algorithm = replace(maml, differentiation=way)
        kind = "float64" if dtype == torch.float64 else "tf32" if name.endswith("tf32") else "float32"
        allowed = EXACT if kind == "float64" else ALLOWED[kind][steps > 1]
        what = {"algorithm": f"maml {way}", "network": model.name, "steps": steps, "kernels": name}
        what |= {"precision": kind, "allowed": allowed}
        yield attempt(options, what, _checked, algorithm, model, sets[name], dtype, expected, allowed)


def _other(name: str, options: Options) -> Iterator[Row]:
    """Another algorithm, by PyTorch's operations, beside one task after another."""
    algorithm, allowed = OTHERS[name], ALLOWED["float32"][1]
    model = _narrowed(Conv4(), options)
    what = {"algorithm": name, "network": "conv4", "steps": getattr(algorithm, "inner_steps", None)}
    what |= {"kernels": "plain", "precision": "float32", "allowed": allowed}
    plain = kernel_sets(options.place)["plain"]
    yield attempt(options, what, _checked_beside_one_by_one, algorithm, model, plain, allowed)


def _narrowed(model: Network, options: Options) -> Network:
    return replace(model, width=16) if options.quick else model


def _count(options: Options) -> int:
    return 2 if options.quick else 16


def _checked(
    algorithm: Algorithm,
    model: Network,
    operations: Operations,
    dtype: torch.dtype,
    expected: Tensor,
    allowed: float,
    options: Options,
) -> Row:
    """The difference from what is expected; whether it is the same bits twice; and what a captured graph gives."""
    place = options.place
    network = network_of(model, SHAPE.ways if algorithm.head else None, place, operations, dtype)
    network = replace(network, vectorized=algorithm.vectorizes)
    tasks = tasks_of(SHAPE, _count(options), place)
    compute = meta_gradient_of(algorithm, network, tasks, ITERATION)
    arguments = [part.to(dtype) for part in (_start(algorithm, model).to(place), tasks.support, tasks.query)]
    first, again = (compute(*arguments)[0].clone() for _ in range(2))
    error, same = difference(first, expected), torch.equal(first, again)
    row: Row = {"difference": error, "same bits twice": same, "passed": error <= allowed and same}
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

    def overhear(record: logging.LogRecord) -> bool:
        said.append(record)
        return False

    log.addFilter(overhear)
    try:
        replayed = captured.Captured(compute, arguments[0].device)
        found: Tensor = [replayed(*arguments)[0].clone() for _ in range(3)][-1]
    finally:
        log.removeFilter(overhear)
    if said:
        raise RunError(said[0].getMessage())
    return found


def _checked_beside_one_by_one(
    algorithm: Algorithm, model: Network, operations: Operations, allowed: float, options: Options
) -> Row:
    expected = _one_by_one(algorithm, model, options)
    return _checked(algorithm, model, operations, torch.float32, expected, allowed, options)


def _start(algorithm: Algorithm, model: Network) -> Tensor:
    """An algorithm's meta-parameters before the first iteration, in float64."""
    torch.manual_seed(1)
    module = build_network(model, SHAPE.ways, SIZE, 0)
    network = as_network(module, SIZE, SHAPE.ways if algorithm.head else None)
    return algorithm.initialize(network).double()


def _one_by_one(algorithm: Algorithm, model: Network, options: Options) -> Tensor:
    """An algorithm's gradient in float64 on the CPU, task after task."""
    module = build_network(model, SHAPE.ways, SIZE, 0).double()
    tasks = tasks_of(SHAPE, _count(options), torch.device("cpu"))
    exact = replace(tasks, support=tasks.support.double(), query=tasks.query.double())
    network = as_network(module, SIZE, SHAPE.ways if algorithm.head else None)
    network = replace(network, stack=None)  # by PyTorch's own differentiation
    return algorithm.meta_gradient(network, _start(algorithm, model), ITERATION, exact).gradient

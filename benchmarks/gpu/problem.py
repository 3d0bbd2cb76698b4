"""What is computed: the settings of `fanfold benchmark --suite peers`, and Fanfold's meta-gradient of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.gpu.part import Options
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.derivatives.backends import TORCH, operations_for
from fanfold.tasks.derivatives.protocol import Operations
from fanfold.tasks.derivatives.stack import as_stack
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import build_network
from fanfold.tasks.network import Network, as_network
from fanfold.workflows.benchmark.peers.loop import prepare
from fanfold.workflows.benchmark.peers.settings import SETTINGS, Setting

SIZE = (28, 28)
PRECISIONS = ("float32", "tf32x3", "tf32")  # see `tasks.derivatives.backends.triton_operations`
CHANNELS = (64,)  # of every block of the settings' networks

Gradient = Callable[..., tuple[Tensor, ...]]
"""A meta-gradient, losses and accuracies, of parameters, and support and query images of tasks."""


def setting_of(name: str, options: Options) -> Setting:
    """A setting; in a rehearsal, with a narrow network."""
    setting = SETTINGS[name]
    return setting if options.on_cuda else replace(setting, model=replace(setting.model, width=16))


def few(options: Options) -> int:
    """Tasks of a meta-batch of MAML's, whose gradient is compared."""
    return 32 if options.on_cuda else 2


def module_of(setting: Setting) -> nn.Module:
    """A setting's network, initialized as a run with seed 0 has it."""
    return build_network(setting.model, setting.shape.ways, SIZE, 0)


def tasks_of(shape: EpisodeShape, count: int, device: torch.device, seed: int = 0) -> TaskBatch:
    """Tasks of random strokes in shades of grey, the first of which are always the same."""
    label = torch.arange(shape.ways)

    def strokes(each: int, stream: int) -> Tensor:
        generator = torch.Generator().manual_seed(2 * seed + stream)
        one = (shape.ways * each, 1, *SIZE)
        rolls = torch.stack([torch.rand(one, generator=generator) for _ in range(count)])
        return ((rolls - 0.7).relu_() / 0.3).to(device)  # here, as devices divide otherwise

    support, query = strokes(shape.shots, 0), strokes(shape.queries, 1)
    labels = [label.repeat_interleave(each).to(device) for each in (shape.shots, shape.queries)]
    return TaskBatch(support, labels[0], query, labels[1], shape.ways)


def kernel_sets(device: torch.device) -> dict[str, Operations]:
    """The sets of kernels there are for a device, the fastest last; `plain` are PyTorch's own operations."""
    fused = {f"fused {name}": operations_for(device, name, CHANNELS) for name in PRECISIONS}
    return {"plain": TORCH} | {name: kernels for name, kernels in fused.items() if kernels != TORCH}


def network_of(setting: Setting, own: Operations, device: torch.device, dtype: torch.dtype = torch.float32) -> Network:
    """A setting's network for tasks side by side, on a set of kernels, with parameters of a type."""
    # Wrapped on the CPU, where nothing is tried before: on a device, trying would compile kernels that nobody needs.
    network = as_network(module_of(setting), SIZE, setting.shape.ways, vectorized=True)
    network, structure = replace(network, module=network.module.to(device, dtype)), structure_of(network.module)
    assert structure is not None
    return replace(network, stack=as_stack(structure, network.shapes, SIZE, own, device))


def meta_gradient_of(algorithm: Algorithm, network: Network, like: TaskBatch, iteration: int = 0) -> Gradient:
    """An algorithm's meta-gradient of tasks that have the labels of some, in a meta-iteration."""

    def compute(parameters: Tensor, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tasks = TaskBatch(support, like.support_labels, query, like.query_labels, like.ways)
        found = algorithm.meta_gradient(network, parameters, iteration, tasks)
        return found.gradient, found.losses, found.accuracies

    return compute


def reference(name: str, options: Options) -> Tensor:
    """The summed gradient `[P]` of a setting's first tasks in float64, computed on the device once a check.

    That the device is right in this is what the correctness parts see.
    """
    path = Path(options.scratch) / f"reference-{name}.pt"
    if not path.exists():
        torch.save(exact_gradient(setting_of(name, options), few(options), options.place), path)
    known: Tensor = torch.load(path)
    return known


def exact_gradient(setting: Setting, count: int, device: torch.device) -> Tensor:
    """The summed gradient `[P]` of tasks in float64, by a plain loop over PyTorch's own autograd."""
    tasks = tasks_of(setting.shape, count, device)
    exact = replace(tasks, support=tasks.support.double(), query=tasks.query.double())
    compute = prepare(module_of(setting).double().to(device), setting.algorithm.inner_lr, setting.algorithm.inner_steps)
    return compute(exact).cpu()


def difference(found: Tensor, expected: Tensor) -> float:
    """The distance of two tensors as a share of the second's length."""
    found, expected = found.detach().double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm())

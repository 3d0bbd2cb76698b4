"""Fanfold's own meta-gradient with each set of kernels."""

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.gpu.settings import SIZE
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.derivatives.backends import TORCH, operations_for
from fanfold.tasks.derivatives.protocol import Operations
from fanfold.tasks.derivatives.stack import as_stack
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.models import Model, build_network
from fanfold.tasks.network import Network, as_network

PRECISIONS = ("float32", "tf32")  # that peers have, too
OWN_PRECISIONS = ("float32", "tf32x3", "tf32")  # see `tasks.derivatives.backends.triton_operations`
CHANNELS = (64,)  # of every block of the settings' networks


def kernel_sets(device: torch.device) -> dict[str, Operations]:
    """The sets of kernels there are for a device, the fastest last; `plain` are PyTorch's own operations."""
    found = {"plain": TORCH}
    for name in OWN_PRECISIONS:
        fused = operations_for(device, name, CHANNELS)
        if fused != TORCH:
            found[f"fused {name}"] = fused
    return found


def network_of(model: Model, ways: int | None, device: torch.device, own: Operations, dtype: torch.dtype) -> Network:
    """A network for tasks side by side on a set of kernels, initialized as a run with seed 0 has it.

    Args:
        model: The network.
        ways: Classes; None for embeddings.
        device: Where.
        own: What a network of known layers computes with.
        dtype: What its parameters are.
    """
    module = build_network(model, ways or 2, SIZE, 0).to(device, dtype)
    network = as_network(module, SIZE, ways, vectorized=True)
    structure = structure_of(network.module)
    if structure is None:
        return network
    return replace(network, stack=as_stack(structure, network.shapes, SIZE, own, device))


def meta_gradient_of(
    algorithm: Algorithm, network: Network, like: TaskBatch, iteration: int = 0
) -> Callable[..., tuple[torch.Tensor, ...]]:
    """An algorithm's meta-gradient as a function of tensors: parameters, support and query images of tasks.

    Args:
        algorithm: The algorithm.
        network: The network.
        like: Tasks whose labels all have.
        iteration: The meta-iteration.
    """

    def compute(
        parameters: torch.Tensor, support: torch.Tensor, query: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        tasks = TaskBatch(support, like.support_labels, query, like.query_labels, like.ways)
        found = algorithm.meta_gradient(network, parameters, iteration, tasks)
        return found.gradient, found.losses, found.accuracies

    return compute

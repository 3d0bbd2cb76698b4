"""A plain loop with PyTorch's autograd, without any library."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from fanfold.tasks.batch import TaskBatch
from fanfold.workflows.benchmark.peers.peer import Compute


def prepare(module: nn.Module, inner_lr: float, inner_steps: int) -> Compute:
    """See `workflows.benchmark.peers.peer.Prepare`."""
    start = dict(module.named_parameters())

    def compute(tasks: TaskBatch) -> Tensor:
        total = torch.zeros_like(parameters_to_vector(start.values()))
        for support, query in zip(tasks.support, tasks.query, strict=True):
            theta: dict[str, Tensor] = dict(start)
            for _ in range(inner_steps):
                loss = cross_entropy(functional_call(module, theta, (support,)), tasks.support_labels)
                gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
                theta = {
                    name: value - inner_lr * gradient
                    for (name, value), gradient in zip(theta.items(), gradients, strict=True)
                }
            loss = cross_entropy(functional_call(module, theta, (query,)), tasks.query_labels)
            total += parameters_to_vector(torch.autograd.grad(loss, list(start.values())))
        return total

    return compute

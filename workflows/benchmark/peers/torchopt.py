"""The library TorchOpt (Ren et al. 2023, arXiv:2211.06934), used as in its own MAML example."""

import torch
import torchopt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fanfold.tasks.batch import TaskBatch
from fanfold.workflows.benchmark.peers.peer import Compute, gathered


def prepare(module: nn.Module, inner_lr: float, inner_steps: int) -> Compute:
    """See `workflows.benchmark.peers.peer.Prepare`."""
    descent = torchopt.MetaSGD(module, lr=inner_lr)

    def compute(tasks: TaskBatch) -> Tensor:
        module.zero_grad()
        start = torchopt.extract_state_dict(module, by="reference", detach_buffers=True)
        fresh = torchopt.extract_state_dict(descent, by="reference")
        losses = []
        for support, query in zip(tasks.support, tasks.query, strict=True):
            for _ in range(inner_steps):
                descent.step(cross_entropy(module(support), tasks.support_labels))
            losses.append(cross_entropy(module(query), tasks.query_labels))
            torchopt.recover_state_dict(module, start)
            torchopt.recover_state_dict(descent, fresh)
        torch.stack(losses).sum().backward()
        return gathered(module)

    return compute

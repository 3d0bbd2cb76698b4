"""The library `higher` (Grefenstette et al. 2019, arXiv:1910.01727), used as in its own MAML example."""

import higher
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fanfold.tasks.batch import TaskBatch
from fanfold.workflows.benchmark.peers.peer import Compute, gathered


def prepare(module: nn.Module, inner_lr: float, inner_steps: int) -> Compute:
    """See `workflows.benchmark.peers.peer.Prepare`."""
    optimizer = torch.optim.SGD(module.parameters(), lr=inner_lr)

    def compute(tasks: TaskBatch) -> Tensor:
        module.zero_grad()
        for support, query in zip(tasks.support, tasks.query, strict=True):
            with higher.innerloop_ctx(module, optimizer, copy_initial_weights=False, track_higher_grads=True) as inner:
                adapted, descent = inner
                for _ in range(inner_steps):
                    descent.step(cross_entropy(adapted(support), tasks.support_labels))
                cross_entropy(adapted(query), tasks.query_labels).backward()
        return gathered(module)

    return compute

"""The library Parallel-MetaLearn (package `parallel-metalearn`, imported as `metalearn`): vmap over tasks.

The module's batch norms are replaced by the library's, with the same parameters: the second derivative of PyTorch's
under `vmap` is wrong (by 2 % of a layer's, in PyTorch 2.15), and the library's translator of modules fails in version
0.5.6.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from metalearn.algorithms import MAML
from metalearn.inner_optimizers import InnerSGD
from metalearn.loss import CategoricalAccuracy, CrossEntropy
from metalearn.model_wrappers import MAML_Model
from metalearn.nn_models.basic_layers.BatchNormalization import BatchNorm
from torch import Tensor, nn

from fanfold.tasks.batch import TaskBatch
from fanfold.workflows.benchmark.peers.peer import Compute, gathered


class IgnoresFlags(nn.Module):
    """A module that ignores the flags which the library passes to every part of a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, values: Tensor, **_: Any) -> Tensor:
        """The module's output."""
        output: Tensor = self.module(values)
        return output


def prepare(module: nn.Module, inner_lr: float, inner_steps: int) -> Compute:
    """See `workflows.benchmark.peers.peer.Prepare`."""
    model = MAML_Model(backbone=IgnoresFlags(_with_its_batch_norm(module)), head=IgnoresFlags(nn.Identity()))
    descent = InnerSGD(model.get_fast_weights(), inner_lr=inner_lr, learn_lr=False)
    for rate in descent.parameters():  # the library rounds it to float32
        rate.data = torch.full_like(rate, inner_lr, dtype=next(module.parameters()).dtype)
    maml = MAML(
        model=model,
        # It also takes the outer step, which with a rate of 0 leaves parameters and gradients in place.
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        inner_optimizer=descent,
        support_loss_fn=CrossEntropy(metric_fn=CategoricalAccuracy()),
        inner_steps=inner_steps,
        device=torch.device("cpu"),
    )

    def compute(tasks: TaskBatch) -> Tensor:
        maml.step(_meta_batch(tasks))
        return gathered(model) * len(tasks)  # it takes the mean

    return compute


def _with_its_batch_norm(module: nn.Module) -> nn.Module:
    """A copy of the module; parameters keep their order."""
    module = copy.deepcopy(module)
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            norm = BatchNorm(layer.num_features, eps=layer.eps, track_running_stats=False)
            norm.weight, norm.bias = layer.weight, layer.bias
            module.set_submodule(name, norm)
    return module


def _meta_batch(tasks: TaskBatch) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor, dict[str, Tensor]]]:
    support, query = (
        {"labels": labels.expand(len(tasks), -1)} for labels in (tasks.support_labels, tasks.query_labels)
    )
    yield tasks.support, support, tasks.query, query

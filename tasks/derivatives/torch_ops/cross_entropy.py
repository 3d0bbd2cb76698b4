"""The mean cross-entropy of a task's images, and its derivatives by logits; see `tasks.derivatives.protocol.Losses`.

Here by PyTorch's operations; `tasks.derivatives.triton_ops.cross_entropy` has the same functions as kernels for a GPU.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot


class Targets(NamedTuple):
    labels: Tensor  # int64 `[n]`
    shares: Tensor  # `[n, ways]`: one at each image's label, zero elsewhere


class Loss(NamedTuple):
    logits: Tensor  # `[tasks, n, ways]`
    probabilities: Tensor  # the logits' softmax
    targets: Targets


def targets(labels: Tensor, ways: int, like: Tensor) -> Targets:
    return Targets(labels, one_hot(labels, ways).to(like))


def forward(logits: Tensor, targets: Targets) -> Loss:
    return Loss(logits, logits.softmax(2), targets)


def d_logits(loss: Loss) -> Tensor:
    shares = loss.targets.shares
    return (loss.probabilities - shares) / len(shares)


def d_logits_t(loss: Loss, logits_t: Tensor) -> Tensor:
    p = loss.probabilities
    found: Tensor = p * (logits_t - (p * logits_t).sum(2, keepdim=True)) / len(loss.targets.labels)
    return found


def losses_and_accuracies(loss: Loss) -> tuple[Tensor, Tensor]:
    logits, labels = loss.logits, loss.targets.labels
    each = nll_loss(logits.log_softmax(2).transpose(1, 2), labels.expand(len(logits), -1), reduction="none")
    return torch.mean(each, 1), (logits.argmax(2) == labels).double().mean(1)

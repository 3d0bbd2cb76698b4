"""The networks of the settings as pure functions of primitive operations, written anew to compare with.

Batch norm is written out: reverse over reverse, PyTorch's own is wrong under `torch.vmap` (2.15), which the check
against float64 sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, log_softmax, max_pool2d, one_hot, pad

EPS = 1e-5
Convolution = Literal["conv2d", "patches"]


@dataclass(frozen=True)
class Shape:
    """What a network is made of: blocks of 3 × 3 convolution, batch norm, ReLU, 2 × 2 max-pooling; linear layers.

    Args:
        blocks: How many blocks.
        convolution: By PyTorch's own, or by patches times filters.
    """

    blocks: int
    convolution: Convolution


def logits(shape: Shape, theta: Sequence[Tensor], images: Tensor) -> Tensor:
    """Logits `[n, ways]` of images `[n, 1, height, width]`, by parameters in the order of the module's."""
    x = images
    for block in range(shape.blocks):
        weight, scale, gain = theta[3 * block : 3 * block + 3]
        x = _by_patches(x, weight) if shape.convolution == "patches" else conv2d(x, weight, padding=1)
        centred = x - x.mean((0, 2, 3), keepdim=True)
        deviation = ((centred * centred).mean((0, 2, 3), keepdim=True) + EPS).sqrt()
        x = max_pool2d((centred / deviation * scale[:, None, None] + gain[:, None, None]).relu(), 2)
    x = x.flatten(1)
    linears = theta[3 * shape.blocks :]
    for weight, bias in zip(linears[:-2:2], linears[1:-2:2], strict=True):
        x = (x @ weight.T + bias).relu()
    return x @ linears[-2].T + linears[-1]


def loss(shape: Shape, theta: Sequence[Tensor], images: Tensor, labels: Tensor, ways: int) -> Tensor:
    """The mean cross-entropy."""
    wanted = one_hot(labels, ways).to(images)
    return -(log_softmax(logits(shape, theta, images), 1) * wanted).sum(1).mean()


def _by_patches(x: Tensor, weight: Tensor) -> Tensor:
    """A 3 × 3 convolution with a border of noughts: `[n, in, h, w]` to `[n, out, h, w]`."""
    height, width = x.shape[2:]
    padded = pad(x, (1, 1, 1, 1))
    parts = [padded[:, :, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    patches = torch.stack(parts, 2).flatten(1, 2).flatten(2)  # n, in · 9, h · w
    found: Tensor = (weight.flatten(1) @ patches).unflatten(2, (height, width))
    return found

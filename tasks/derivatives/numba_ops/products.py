"""A convolution's products as PyTorch's convolutions in groups, a group a task; of one task, without groups.

The functions of `tasks.derivatives.protocol.Products`.

Feature maps are `[images, height, width, tasks · channels]`, contiguous: those of one task that has all tasks'
channels, whose groups are the tasks. One call then does the work of a call a task. With a few images each, a good part
of a call's time goes by before and after its sums.

Filters are `[tasks, out, side, side, in]`, or `[1, …]` where all tasks share them. `of_tasks` makes of them the weight
of a convolution in groups, `[tasks · out, in, side, side]`, the channels last in memory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fanfold.tasks.derivatives.protocol import Pair, Triple


def lay_out(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1)


def restore(filters: Tensor) -> Tensor:
    return filters.permute(0, 3, 1, 2)


def of_tasks(filters: Tensor, inputs: Tensor) -> Tensor:
    tasks = inputs.shape[3] // filters.shape[4]
    every = filters if filters.shape[0] == tasks else filters.expand(tasks, -1, -1, -1, -1)
    return every.flatten(0, 1).permute(0, 3, 1, 2)


def convolve(pairs: Sequence[Pair], stride: int, padding: int) -> Tensor:
    parts = []
    for inputs, weight in pairs:
        groups = inputs.shape[3] // weight.shape[1]
        parts.append(conv2d(_channels_second(inputs), weight, None, stride, padding, 1, groups))
    return _channels_last(_sum(parts))


def convolve_with_moments(pairs: Sequence[Pair], stride: int, padding: int) -> tuple[Tensor, None]:
    return convolve(pairs, stride, padding), None  # `norms` computes the moments


def backward(triples: Sequence[Triple], stride: int, padding: int, into: Tensor | None = None) -> tuple[Tensor, Tensor]:
    by_inputs, by_weight, groups = [], [], 1
    for inputs, weight, d_outputs in triples:
        groups = inputs.shape[3] // weight.shape[1]
        d_inputs, d_weight, _ = torch.ops.aten.convolution_backward(
            _channels_second(d_outputs),
            _channels_second(inputs),
            weight,
            None,
            [stride, stride],
            [padding, padding],
            [1, 1],
            False,
            [0, 0],
            groups,
            [True, True, False],
        )
        by_inputs.append(d_inputs)
        by_weight.append(d_weight)
    d_filters: Tensor = _sum(by_weight).permute(0, 2, 3, 1)
    return _channels_last(_sum(by_inputs)), d_filters.reshape(groups, -1, *d_filters.shape[1:])


def split(maps: Tensor, channels: int) -> Tensor:
    images, height, width, _ = maps.shape
    return maps.view(images, height, width, -1, channels).permute(3, 0, 1, 2, 4)


def join(maps: Tensor) -> Tensor:
    return maps.permute(1, 2, 3, 0, 4).contiguous().flatten(3)


def _channels_second(maps: Tensor) -> Tensor:
    """Feature maps where they lie, in PyTorch's order of dimensions."""
    return maps.permute(0, 3, 1, 2)


def _channels_last(maps: Tensor) -> Tensor:
    """The inverse of `_channels_second`; they lie so already, but where height or width is 1."""
    return maps.permute(0, 2, 3, 1).contiguous()


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total, *others = parts
    for part in others:
        total.add_(part)
    return total

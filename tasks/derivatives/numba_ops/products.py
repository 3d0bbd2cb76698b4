"""Convolution's three products for several tasks at once, as convolutions in groups, a task each.

The functions are those of `tasks.derivatives.torch_ops.products`. Pictures `[tasks, images, height, width, channels]`
lie in memory as `[images, height, width, tasks, channels]`: a picture of tasks · channels channels, the channels last,
whose groups are the tasks. Filters are `[tasks, channels out, side, side, channels in]`, one for `tasks` where all
tasks share them.

One call then does what would take a call a task, whose cost, with a few images each, lies in good part in what comes
before and after its sums.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d

Pair = tuple[Tensor, Tensor]


def lay_out(weight: Tensor) -> Tensor:
    """A convolution's weight `[out, in, side, side]` as these functions take it, but for the tasks in front."""
    return weight.permute(0, 2, 3, 1)


def convolve(pairs: Sequence[Pair], stride: int, padding: int) -> Tensor:
    """Inputs `[tasks, images, height, width, in]` and filters to outputs `[tasks, images, down, across, out]`."""
    tasks = len(pairs[0][0])
    parts = [
        conv2d(joined(inputs), _weight(filters, tasks), stride=stride, padding=padding, groups=tasks)
        for inputs, filters in pairs
    ]
    return parted(_sum(parts), tasks)


def by_inputs(pairs: Sequence[Pair], size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """Derivatives by outputs `[tasks, images, down, across, out]`, and filters, to those by inputs of some size."""
    tasks, images = pairs[0][0].shape[:2]
    parts = []
    for d_outputs, filters in pairs:
        inputs = _empty((images, tasks * filters.shape[-1], *size), d_outputs)
        parts.append(_backward(joined(d_outputs), inputs, _weight(filters, tasks), stride, padding, tasks, 0))
    return parted(_sum(parts), tasks)


def by_filters(pairs: Sequence[Pair], side: int, stride: int, padding: int) -> Tensor:
    """Inputs, and derivatives by outputs, to those by each task's filters `[tasks, out, side, side, in]`."""
    tasks = len(pairs[0][0])
    parts = []
    for inputs, d_outputs in pairs:
        weight = _empty((tasks * d_outputs.shape[-1], inputs.shape[-1], side, side), inputs)
        parts.append(_backward(joined(d_outputs), joined(inputs), weight, stride, padding, tasks, 1))
    found: Tensor = _sum(parts).permute(0, 2, 3, 1).unflatten(0, (tasks, -1))
    return found


def joined(pictures: Tensor) -> Tensor:
    """Pictures as PyTorch's convolution takes them, `[images, tasks · channels, height, width]`."""
    flat: Tensor = pictures.permute(1, 0, 4, 2, 3).flatten(1, 2)
    return flat.contiguous(memory_format=torch.channels_last)


def parted(pictures: Tensor, tasks: int) -> Tensor:
    """What `joined` was given."""
    found: Tensor = pictures.unflatten(1, (tasks, -1)).permute(1, 0, 3, 4, 2)
    return found


def _weight(filters: Tensor, tasks: int) -> Tensor:
    """Each task's filters as a convolution's weight in groups, `[tasks · out, in, side, side]`."""
    found: Tensor = filters.expand(tasks, *filters.shape[1:]).flatten(0, 1).permute(0, 3, 1, 2)
    return found


def _backward(
    d_outputs: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, tasks: int, which: int
) -> Tensor:
    """The derivative by a convolution's inputs (0) or weight (1), of which nothing but the shape is asked then."""
    pairs = [stride] * 2, [padding] * 2
    mask = [which == 0, which == 1, False]
    found: Tensor = torch.ops.aten.convolution_backward(
        d_outputs, inputs, weight, None, *pairs, [1, 1], False, [0, 0], tasks, mask
    )[which]
    return found


def _empty(shape: Sequence[int], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total, *others = parts
    for part in others:
        total.add_(part)
    return total

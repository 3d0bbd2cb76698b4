"""A convolution's products as products of matrices, patches times filters; see `tasks.derivatives.protocol.Products`.

    convolve     the convolution
    by_inputs    the derivative by its inputs, from the derivative by its outputs
    by_filters   the derivative by its filters, from the derivative by its outputs

Each takes pairs of operands, and adds up their products: the tangent of a product is the sum of two.

Feature maps are `[tasks, images, height, width, channels]`; filters `[tasks, side, side, channels in, channels out]`,
or `[1, …]` where all tasks share them. Here it is written with PyTorch's operations, for any device and precision;
`tasks.derivatives.triton_ops.products` has the same functions as kernels for a GPU, which unfold nothing.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import pad

from fanfold.tasks.derivatives.protocol import Pair, Triple


def lay_out(weight: Tensor) -> Tensor:
    """A convolution's weight `[out, in, side, side]` as these functions take it, but for the tasks in front."""
    return weight.permute(2, 3, 1, 0)


def restore(filters: Tensor) -> Tensor:
    return filters.permute(3, 2, 0, 1)


def of_tasks(filters: Tensor, inputs: Tensor) -> Tensor:
    return filters


def split(maps: Tensor, channels: int) -> Tensor:
    return maps


def join(maps: Tensor) -> Tensor:
    return maps


def convolve(pairs: Sequence[Pair], stride: int, padding: int) -> Tensor:
    """Inputs `[tasks, images, height, width, in]` and filters to outputs `[tasks, images, down, across, out]`."""
    (inputs, filters), *others = pairs
    seen = unfold(inputs, filters.shape[1], stride, padding)
    outputs: Tensor = times(seen.flatten(1, 3), filters.flatten(1, 3)).unflatten(1, seen.shape[1:4])
    return outputs + convolve(others, stride, padding) if others else outputs


def convolve_with_moments(pairs: Sequence[Pair], stride: int, padding: int) -> tuple[Tensor, None]:
    return convolve(pairs, stride, padding), None  # `norms` computes the moments


def backward(triples: Sequence[Triple], stride: int, padding: int, into: Tensor | None = None) -> tuple[Tensor, Tensor]:
    inputs, filters, _ = triples[0]
    size = inputs.shape[2], inputs.shape[3]
    d_inputs = by_inputs([(d_outputs, filters) for _, filters, d_outputs in triples], size, stride, padding)
    pairs = [(inputs, d_outputs) for inputs, _, d_outputs in triples]
    return d_inputs, by_filters(pairs, filters.shape[1], stride, padding)


def by_inputs(pairs: Sequence[Pair], size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """Derivatives by outputs `[tasks, images, down, across, out]`, and filters, to those by inputs of some size."""
    (d_outputs, filters), *others = pairs
    images, down, across, _ = d_outputs.shape[1:]
    side, channels = filters.shape[1], filters.shape[3]
    flat = times(d_outputs.flatten(1, 3), filters.flatten(1, 3).mT)
    parts: Tensor = flat.unflatten(1, (images, down, across)).unflatten(-1, (side, side, channels))
    height, width = size
    d_inputs = parts.new_zeros(len(parts), images, height + 2 * padding, width + 2 * padding, channels)
    for row in range(side):
        for column in range(side):
            seen = slice(row, row + stride * down, stride), slice(column, column + stride * across, stride)
            d_inputs[:, :, *seen] += parts[..., row, column, :]
    found = d_inputs[:, :, padding : padding + height, padding : padding + width].contiguous()
    return found + by_inputs(others, size, stride, padding) if others else found


def by_filters(pairs: Sequence[Pair], side: int, stride: int, padding: int) -> Tensor:
    """Inputs, and derivatives by outputs, to those by each task's filters `[tasks, side, side, in, out]`."""
    (inputs, d_outputs), *others = pairs
    seen = unfold(inputs, side, stride, padding)
    found: Tensor = (seen.flatten(1, 3).mT @ d_outputs.flatten(1, 3)).unflatten(1, (side, side, -1))
    return found + by_filters(others, side, stride, padding) if others else found


def unfold(inputs: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """The patches that filters see, `[tasks, images, down, across, side · side · channels]`."""
    padded = pad(inputs, (0, 0, padding, padding, padding, padding))
    seen = padded.unfold(2, side, stride).unfold(3, side, stride)  # …, channels, side, side
    found: Tensor = seen.permute(0, 1, 2, 3, 5, 6, 4).flatten(4)
    return found


def times(rows: Tensor, matrices: Tensor) -> Tensor:
    """Rows `[tasks, rows, k]` · matrices `[tasks, k, n]`; one product where all tasks share a matrix."""
    if len(matrices) == 1:
        shared: Tensor = (rows.flatten(0, 1) @ matrices[0]).unflatten(0, rows.shape[:2])
        return shared
    return rows @ matrices

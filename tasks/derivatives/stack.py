"""A network that is a stack of known layers, for several tasks at once, on parameters that are one vector a task.

A vector lies as the layers want it, see `Layout`, and its parameters begin at multiples of sixteen numbers, so
that a GPU reads it in whole words. An inner step, which moves all parameters of all tasks, is then one operation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from fanfold.tasks.derivatives.layers import FirstBlock, Kernels, Layer, build
from fanfold.tasks.derivatives.passes import Kept, Pass
from fanfold.tasks.derivatives.structure import Anatomy
from fanfold.tasks.derivatives.torch_ops.first import Seen
from fanfold.tasks.parameters import Shapes

ALIGNED = 16  # numbers


@dataclass(frozen=True)
class Layout:
    """How a network's parameters lie for a stack.

    Args:
        there: int64 `[W]`: which of the network's own numbers `[P]` stands where; P where a nought does.
        back: int64 `[P]`: where each of them stands.
        shapes: Of the parameters, in the layers' order.
    """

    there: Tensor
    back: Tensor
    shapes: tuple[torch.Size, ...]

    def lay_out(self, vector: Tensor) -> Tensor:
        """The network's parameters `[P]` as the stack takes them, `[1, W]`."""
        return torch.cat([vector, vector.new_zeros(1)]).index_select(0, self.there)[None]

    def restore(self, vector: Tensor) -> Tensor:
        """What `lay_out` was given, `[P]`, from `[W]`."""
        return vector.index_select(0, self.back)

    def split(self, vectors: Tensor) -> list[Tensor]:
        """The parameters `[tasks, …]` of vectors `[tasks, W]`, views of them."""
        parts = vectors.split([_aligned(prod(shape)) for shape in self.shapes], 1)
        return [part[:, : prod(shape)].unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def join(self, parameters: Sequence[Tensor]) -> Tensor:
        """Vectors `[tasks, W]` of parameters `[tasks, …]`."""
        parts = []
        for part, shape in zip(parameters, self.shapes, strict=True):
            parts.append(part.flatten(1))
            if missing := _aligned(prod(shape)) - prod(shape):
                parts.append(part.new_zeros(len(part), missing))
        return torch.cat(parts, 1)


@dataclass(frozen=True)
class Stack:
    """Layers, each on the outputs of the one before it.

    Args:
        first: The layer that sees the images.
        others: Those after it.
        layout: How the parameters lie.
    """

    first: FirstBlock
    others: tuple[Layer, ...]
    layout: Layout

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers."""
        return (self.first, *self.others)

    def forward(self, theta: Tensor, images: Seen) -> tuple[Tensor, list[Kept]]:
        """Outputs `[tasks, n, d]`, and what the layers kept.

        Args:
            theta: `[tasks, W]`, or `[1, W]` for all.
            images: See `FirstBlock.seen`.
        """
        outputs: Any = images
        kept = []
        for layer, parameters in self._each(theta):
            outputs, of_layer = layer.forward(parameters, outputs)
            kept.append(of_layer)
        return outputs, kept

    def backward(self, kept: Sequence[Kept], d_outputs: Tensor) -> tuple[Tensor, Pass]:
        """The derivatives by each task's parameters `[tasks, W]`, and what the layers kept of both ways."""
        found: list[Tensor] = []
        back: list[Kept] = []
        d: Tensor | None = d_outputs
        for layer, of_layer in zip(reversed(self.layers), reversed(kept), strict=True):
            assert d is not None
            d, gradients, more = layer.backward(of_layer, d)
            found[:0] = gradients
            back.insert(0, more)
        return self.layout.join(found), Pass(kept, back)

    def tangent(self, both: Pass, direction: Tensor) -> tuple[Tensor, list[Kept]]:
        """How the outputs move when each task's parameters move in a direction `[tasks, W]`."""
        outputs_t: Tensor | None = None
        forth = []
        for (layer, parameters_t), kept, back in zip(self._each(direction), *both, strict=True):
            outputs_t, of_layer = layer.tangent(kept, back, parameters_t, outputs_t)
            forth.append(of_layer)
        assert outputs_t is not None
        return outputs_t, forth

    def backward_tangent(self, both: Pass, forth: Sequence[Kept], d_outputs_t: Tensor, summed: bool = False) -> Tensor:
        """How the derivatives by the parameters move, `[tasks, W]`, given how those by the outputs do.

        Args:
            both: What the layers kept of both ways.
            forth: What they kept of `tangent`.
            d_outputs_t: `[tasks, n, d]`.
            summed: Whether to sum over the tasks, to `[1, W]`.
        """
        found: list[Tensor] = []
        d_t: Tensor | None = d_outputs_t
        for layer, *passed in reversed(list(zip(self.layers, *both, forth, strict=True))):
            assert d_t is not None
            d_t, products = layer.backward_tangent(*passed, d_t, summed)
            found[:0] = products
        return self.layout.join(found)

    def _each(self, vectors: Tensor) -> list[tuple[Layer, list[Tensor]]]:
        """The layers, each with its part of some vectors."""
        parts = iter(self.layout.split(vectors))
        return [(layer, [next(parts) for _ in layer.names]) for layer in self.layers]


def as_stack(made_of: Anatomy, shapes: Shapes, size: tuple[int, int], kernels: Kernels, device: torch.device) -> Stack:
    """The stack of a network that is made of known layers.

    Args:
        made_of: What it is made of.
        shapes: Its parameters' names and shapes, in the order of its flat vector.
        size: Height and width of the images.
        kernels: What the layers compute with.
        device: Where.
    """
    first, others = build(made_of, size, kernels)
    return Stack(first, others, _layout((first, *others), shapes, device))


def _layout(layers: Sequence[Layer], shapes: Shapes, device: torch.device) -> Layout:
    count = sum(prod(shape) for shape in shapes.values())
    numbers = torch.arange(count).split([prod(shape) for shape in shapes.values()])
    own: Mapping[str, Tensor] = {
        name: part.view(shape) for (name, shape), part in zip(shapes.items(), numbers, strict=True)
    }
    laid_out = [part for layer in layers for part in layer.laid_out([own[name] for name in layer.names])]
    there = torch.cat(
        [torch.cat([part.flatten(), torch.full((_aligned(part.numel()) - part.numel(),), count)]) for part in laid_out]
    )
    back = torch.empty(count, dtype=torch.int64)
    places = there < count
    back[there[places]] = places.nonzero()[:, 0]
    return Layout(there.to(device), back.to(device), tuple(part.shape for part in laid_out))


def _aligned(count: int) -> int:
    return -(-count // ALIGNED) * ALIGNED

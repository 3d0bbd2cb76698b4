"""A network that is a stack of known layers, with its first and second derivatives written out.

PyTorch's automatic differentiation serves any network. A stack of blocks of convolution, batch norm, ReLU and pooling,
as most networks of the few-shot literature are, is computed faster by its layers' own derivatives, see
`tasks.derivatives.layers`: for several tasks, or for one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fanfold.tasks.derivatives.layers import FirstBlock, Layer, build
from fanfold.tasks.derivatives.protocol import Into, Kept, Operations, Patches, Vectors
from fanfold.tasks.derivatives.structure import Structure
from fanfold.tasks.parameters import Shapes, unflatten

ALIGNED = 16  # numbers


class Pass(NamedTuple):
    """The layers' intermediate results of a pass forward and back."""

    forward: Sequence[Kept]
    backward: Sequence[Kept]


class Room(NamedTuple):
    """Operands, and the same memory as parameters, see `Layout.split`."""

    operands: Sequence[Tensor]
    parameters: Sequence[Tensor]


class Layout(Protocol):
    """The order of a network's parameters in memory, as operands of an inner step.

    A step moves all parameters of all tasks: it is one operation an operand.

    Attributes:
        summed: Whether `total` takes products that were summed over the tasks as they were made.
    """

    @property
    def summed(self) -> bool: ...

    def lay_out(self, vector: Tensor) -> list[Tensor]:
        """The operands `[1, …]`, from the network's vector of parameters `[P]`."""

    def total(self, directions: Sequence[Tensor], along: Sequence[Tensor] | None, rate: float) -> Tensor:
        """The sum over the tasks of directions - rate · along, as the network's vector `[P]`: the inverse of `lay_out`.

        Operands are `[tasks, …]`, but along is `[1, …]` where it was summed.
        """

    def split(self, operands: Sequence[Tensor]) -> Sequence[Tensor]:
        """The parameters `[tasks, …]`, as the layers take them, from operands `[tasks, …]`."""

    def room(self, tasks: int, like: Tensor) -> "Room | None":
        """Room for derivatives by parameters; None where they stay as they come."""

    def join(self, parameters: Sequence[Tensor], room: "Room | None") -> Sequence[Tensor]:
        """The inverse of `split`: the room's operands, with what of the parameters was not written there yet."""


@dataclass(frozen=True)
class Apart:
    """Each parameter is an operand, as suits a CPU: to copy all of them into a vector takes longer than many steps."""

    layers: tuple[Layer, ...]
    shapes: Shapes  # in the order of the network's vector
    summed = True

    def lay_out(self, vector: Tensor) -> list[Tensor]:
        return laid_out(self.layers, list(unflatten(self.shapes, vector).values()))

    def total(self, directions: Sequence[Tensor], along: Sequence[Tensor] | None, rate: float) -> Tensor:
        parts = [part.sum(0, keepdim=True) if part.shape[0] > 1 else part for part in directions]
        if along is not None:
            parts = [torch.sub(part, other, alpha=rate) for part, other in zip(parts, along, strict=True)]
        return torch.cat([part.flatten() for part in restored(self.layers, parts)])

    def split(self, operands: Sequence[Tensor]) -> Sequence[Tensor]:
        return operands

    def room(self, tasks: int, like: Tensor) -> None:
        return None

    def join(self, parameters: Sequence[Tensor], room: Room | None) -> Sequence[Tensor]:
        return parameters


class Place(NamedTuple):
    """The place of a parameter in a vector."""

    start: int
    shape: torch.Size
    strides: tuple[int, ...]


@dataclass(frozen=True)
class OneVector:
    """All parameters are one operand, vectors `[tasks, W]`, as suits a GPU: each operation has to be launched.

    Each parameter begins at a multiple of sixteen numbers: a GPU reads it in whole words. What lies between two
    parameters is read by nothing.
    """

    there: Tensor  # int64 `[W]`: each place's index in the network's own vector `[P]`; P where nothing lies
    source: Tensor  # the same, with 0 for P
    back: Tensor  # int64 `[P]`: the place of each of the network's numbers
    places: tuple[Place, ...]  # in the layers' order
    operations: Vectors
    summed = False

    def lay_out(self, vector: Tensor) -> list[Tensor]:
        return [vector.index_select(0, self.source)[None]]

    def total(self, directions: Sequence[Tensor], along: Sequence[Tensor] | None, rate: float) -> Tensor:
        return self.operations.total(directions[0], None if along is None else along[0], rate, self.there, self.back)

    def split(self, operands: Sequence[Tensor]) -> Sequence[Tensor]:
        vectors, *_ = operands
        tasks, stride, first = vectors.shape[0], vectors.stride(0), vectors.storage_offset()
        return [  # views of the vectors
            vectors.as_strided((tasks, *place.shape), (stride, *place.strides), first + place.start)
            for place in self.places
        ]

    def room(self, tasks: int, like: Tensor) -> Room:
        operands = [like.new_empty(tasks, len(self.there))]
        return Room(operands, self.split(operands))

    def join(self, parameters: Sequence[Tensor], room: Room | None) -> Sequence[Tensor]:
        room = room or self.room(len(parameters[0]), parameters[0])
        for place, part in zip(room.parameters, parameters, strict=True):
            if part is not place:
                place.copy_(part)
        return room.operands


@dataclass(frozen=True)
class Stack:
    """Layers, each on the outputs of the one before it.

    The pure functions `forward`, `backward`, `tangent` and `backward_tangent` take parameters `[tasks, …]`, layer by
    layer, in the layers' own order: `layout` has them from operands of an inner step, `laid_out` from the parameters of
    one task's module. Called with one task's named parameters, a stack is a function that PyTorch differentiates.
    """

    first: FirstBlock  # the layer whose inputs are the images
    others: tuple[Layer, ...]
    layout: Layout
    operations: Operations
    device: torch.device

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers."""
        return (self.first, *self.others)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, layer by layer; the module has them in the same order."""
        return tuple(name for layer in self.layers for name in layer.names)

    def __call__(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """One task's outputs `[n, d]` of images `[n, channels, height, width]`, twice differentiable by PyTorch."""
        output: Tensor = _Forward.apply(self, images, *(parameters[name] for name in self.names))
        return output

    def features(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """As `__call__`: the inputs of the last layer, `[n, d]`."""
        return replace(self, others=self.others[:-1])(parameters, images)

    def laid_out(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """One task's parameters `[1, …]`, from those of the module in the order of `names`."""
        return laid_out(self.layers, parameters)

    def restored(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The inverse of `laid_out`."""
        return restored(self.layers, parameters)

    def forward(self, parameters: Sequence[Tensor], patches: Patches) -> tuple[Tensor, list[Kept]]:
        """Outputs `[tasks, n, d]` at parameters `[tasks, …]`, or `[1, …]` for all tasks; intermediate results."""
        outputs: Any = patches
        kept = []
        for layer, parts in _each(self.layers, parameters):
            outputs, of_layer = layer.forward(parts, outputs)
            kept.append(of_layer)
        return outputs, kept

    def backward(self, kept: Sequence[Kept], d_outputs: Tensor, room: Room | None = None) -> tuple[list[Tensor], Pass]:
        """The derivatives by each task's parameters, `[tasks, …]`, and the layers' intermediate results."""
        found: list[Sequence[Tensor]] = []
        back: list[Kept] = []
        d: Tensor | None = d_outputs
        for layer, of_layer, into in zip(reversed(self.layers), reversed(kept), self._into(room), strict=True):
            assert d is not None
            d, gradients, more = layer.backward(of_layer, d, into)
            found.append(gradients)
            back.append(more)
        return _forwards(found), Pass(kept, back[::-1])

    def tangent(self, both: Pass, direction: Sequence[Tensor]) -> tuple[Tensor, list[Kept]]:
        """The outputs' tangent as each task's parameters move in a direction `[tasks, …]`; intermediate results."""
        outputs_t: Tensor | None = None
        forth = []
        for (layer, parts_t), kept, back in zip(_each(self.layers, direction), *both, strict=True):
            outputs_t, of_layer = layer.tangent(kept, back, parts_t, outputs_t)
            forth.append(of_layer)
        assert outputs_t is not None
        return outputs_t, forth

    def backward_tangent(
        self,
        both: Pass,
        forth: Sequence[Kept],
        d_outputs_t: Tensor,
        summed: bool = False,
        room: Room | None = None,
    ) -> list[Tensor]:
        """The tangents `[tasks, …]` of the derivatives by the parameters, or their sums over the tasks, `[1, …]`."""
        found: list[Sequence[Tensor]] = []
        d_t: Tensor | None = d_outputs_t
        passed = reversed(list(zip(self.layers, *both, forth, strict=True)))
        for (layer, *of_layer), into in zip(passed, self._into(room), strict=True):
            assert d_t is not None
            d_t, products = layer.backward_tangent(*of_layer, d_t, summed, into)
            found.append(products)
        return _forwards(found)

    def gradient(self, kept: Sequence[Kept], d_outputs: Tensor) -> tuple[Sequence[Tensor], Pass]:
        """As `backward`, the derivatives as operands of an inner step."""
        room = self.layout.room(len(d_outputs), d_outputs)
        found, both = self.backward(kept, d_outputs, room)
        return self.layout.join(found, room), both

    def products(
        self, both: Pass, forth: Sequence[Kept], d_outputs_t: Tensor, summed: bool = False
    ) -> Sequence[Tensor]:
        """As `backward_tangent`, the tangents as operands of an inner step."""
        room = self.layout.room(len(d_outputs_t), d_outputs_t)
        return self.layout.join(self.backward_tangent(both, forth, d_outputs_t, summed, room), room)

    def _into(self, room: Room | None) -> list[Into]:
        """The layers' parts of a room, from the last layer's on."""
        if room is None:
            return [None] * len(self.layers)
        found: list[Into] = [parts for _, parts in _each(self.layers, room.parameters)]
        return found[::-1]


class _Forward(torch.autograd.Function):
    """One task's outputs as a function of the parameters, twice differentiable by PyTorch."""

    @staticmethod
    def forward(ctx: Any, stack: Stack, images: Tensor, *parameters: Tensor) -> Tensor:
        """Outputs `[n, d]`; parameters are in the order of the stack's names."""
        outputs, ctx.kept = stack.forward(stack.laid_out(parameters), stack.first.patches(images[None]))
        ctx.stack = stack
        ctx.save_for_backward(*parameters)
        return outputs[0]

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> Any:
        return None, None, *_Backward.apply(ctx.stack, ctx.kept, *d_outputs, *ctx.saved_tensors)


class _Backward(torch.autograd.Function):
    """The derivatives by the parameters, as a function of those by the outputs and of the parameters."""

    @staticmethod
    def forward(
        ctx: Any, stack: Stack, kept: Sequence[Kept], d_outputs: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        found, ctx.both = stack.backward(kept, d_outputs[None])
        ctx.stack, ctx.like = stack, d_outputs
        return tuple(stack.restored(found))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *direction: Tensor) -> Any:
        # Σ direction · gradient is the tangent of d_outputs · outputs in the direction.
        stack: Stack = ctx.stack
        outputs_t, forth = stack.tangent(ctx.both, stack.laid_out(direction))
        products = stack.backward_tangent(ctx.both, forth, torch.zeros_like(ctx.like)[None])
        return None, None, outputs_t[0], *stack.restored(products)


def as_stack(
    structure: Structure, shapes: Shapes, size: tuple[int, int], operations: Operations, device: torch.device
) -> Stack:
    """The stack of a network of known structure; its vector of parameters has the shapes' order."""
    first, others = build(structure, size, operations)
    layers = (first, *others)
    vectors = operations.vectors
    layout = Apart(layers, shapes) if vectors is None else _one_vector(layers, shapes, vectors, device)
    return Stack(first, others, layout, operations, device)


def laid_out(layers: Sequence[Layer], parameters: Sequence[Tensor]) -> list[Tensor]:
    """One task's parameters `[1, …]` as layers take them, from those of PyTorch's module."""
    return [part.unsqueeze(0) for layer, parts in _each(layers, parameters) for part in layer.laid_out(parts)]


def restored(layers: Sequence[Layer], parameters: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `laid_out`."""
    of_task = [part.squeeze(0) for part in parameters]
    return [part for layer, parts in _each(layers, of_task) for part in layer.restored(parts)]


def _each(layers: Sequence[Layer], parameters: Sequence[Tensor]) -> list[tuple[Layer, list[Tensor]]]:
    """The layers, each with its parameters."""
    parts = iter(parameters)
    return [(layer, [next(parts) for _ in layer.names]) for layer in layers]


def _one_vector(layers: Sequence[Layer], shapes: Shapes, operations: Vectors, device: torch.device) -> OneVector:
    count = sum(prod(shape) for shape in shapes.values())
    there, places, start = [], [], 0
    for part in laid_out(layers, list(unflatten(shapes, torch.arange(count)).values())):
        padding = -part.numel() % ALIGNED
        there += [part.flatten(), torch.full((padding,), count)]
        places.append(Place(start, part.shape[1:], part.stride()[1:]))
        start += part.numel() + padding
    found = torch.cat(there)
    back = torch.empty(count, dtype=torch.int64)
    taken = found < count
    back[found[taken]] = taken.nonzero()[:, 0]
    source = found.where(taken, 0)
    return OneVector(found.to(device), source.to(device), back.to(device), tuple(places), operations)


def _forwards(by_layers: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The layers' tensors in one list, from the first layer's on; given from the last layer's on."""
    return [part for parts in reversed(by_layers) for part in parts]

"""The layers of a stack, with their first and second derivatives written out, for several tasks or for one.

Each layer is four functions: forward; backward, from the derivative by its outputs to those by its inputs and
parameters; and the tangents of both, the changes of their results as parameters and inputs move in a direction. Each
returns its intermediate results, which the next one takes: no layer has any state, and a pass can be taken up again as
often as needed.

Second derivatives are those of the loss in a direction, forward over reverse (Pearlmutter 1994, "Fast exact
multiplication by the Hessian"): the tangent of the gradient.

Feature maps lie as the backend has them, see `tasks.derivatives.protocol`; vectors are `[tasks, images, d]`. Parameters
are `[tasks, …]`, or `[1, …]` where all tasks share them, in the order that `Layer.laid_out` gives them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fanfold.tasks.derivatives.protocol import Into, Kept, Linears, Operations, Patches, Products, Triple
from fanfold.tasks.derivatives.structure import Block as BlockStructure
from fanfold.tasks.derivatives.structure import Linear as LinearStructure
from fanfold.tasks.derivatives.structure import Structure


class Layer(Protocol):
    """One layer.

    Attributes:
        names: The parameters' names, in the order in which they are passed.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """One task's parameters as this layer takes them, from those of PyTorch's module; `tasks` is not in front."""

    def restored(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """The inverse of `laid_out`."""

    def forward(self, parameters: Sequence[Tensor], inputs: Any) -> tuple[Tensor, Kept]:
        """The outputs, and intermediate results."""

    def backward(
        self, kept: Kept, d_outputs: Tensor, into: Into = None
    ) -> tuple[Tensor | None, Sequence[Tensor], Kept]:
        """The derivatives by the inputs (None for the first layer) and by the parameters; intermediate results."""

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Any) -> tuple[Tensor, Kept]:
        """The outputs' tangent, given those of parameters and inputs (None for the first layer)."""

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool, into: Into = None
    ) -> tuple[Tensor | None, Sequence[Tensor]]:
        """The tangents of `backward`'s derivatives; those by parameters summed over the tasks if asked, `[1, …]`."""


@dataclass(frozen=True)
class Block(BlockStructure):
    """A block whose inputs are another block's outputs."""

    operations: Operations

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Filters in the backend's order, scale and shift `[out]`."""
        weight, scale, shift = parameters
        return self.operations.products.lay_out(weight).contiguous(), scale, shift

    def restored(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        filters, scale, shift = parameters
        return self.operations.products.restore(filters), scale, shift

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        filters, scale, shift = parameters
        geometry, products = self.geometry, self.operations.products
        filters = products.of_tasks(filters, inputs)
        x, moments = products.convolve_with_moments([(inputs, filters)], geometry.stride, geometry.padding)
        norm = self.operations.norms.forward(x, scale, shift, self.eps, geometry.pool, moments)
        return norm.z, (inputs, filters, x, norm)

    def backward(self, kept: Kept, d_outputs: Tensor, into: Into = None) -> tuple[Tensor, Sequence[Tensor], Kept]:
        inputs, filters, x, norm = kept
        d_x, back = self.operations.norms.backward(norm, x, d_outputs, self.geometry.pool, into and into[1:])
        d_inputs, d_filters = self._back([(inputs, filters, d_x)], into)
        return d_inputs, (d_filters, back.d_scale, back.d_shift), (d_x, back)

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        inputs, filters, x, norm = kept
        filters_t, scale_t, shift_t = parameters_t
        geometry, products = self.geometry, self.operations.products
        filters_t = products.of_tasks(filters_t, inputs)
        x_t = products.convolve([(inputs, filters_t), (inputs_t, filters)], geometry.stride, geometry.padding)
        forth = self.operations.norms.tangent(norm, x, x_t, scale_t, shift_t, geometry.pool)
        return forth.z_t, (inputs_t, filters_t, x_t, forth)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool, into: Into = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        (inputs, filters, x, norm), (d_x, norm_back), (inputs_t, filters_t, x_t, norm_forth) = kept, back, forth
        d_x_t, d_scale_t, d_shift_t = self.operations.norms.backward_tangent(
            norm, norm_back, norm_forth, x, x_t, d_outputs_t, self.geometry.pool, into and into[1:]
        )
        d_inputs_t, d_filters_t = self._back([(inputs, filters, d_x_t), (inputs_t, filters_t, d_x)], into)
        return d_inputs_t, _summed((d_filters_t, d_scale_t, d_shift_t), summed)

    def _back(self, triples: Sequence[Triple], into: Into) -> tuple[Tensor, Tensor]:
        how = self.geometry.stride, self.geometry.padding
        return self.operations.products.backward(triples, *how, None if into is None else into[0])


@dataclass(frozen=True)
class FirstBlock(BlockStructure):
    """A block whose inputs are the images, by whose pixels nothing is differentiated.

    Its convolution's outputs, four times as many as any other's, are never stored. They are linear in the patches that
    the filters see: their means, variances and all that batch norm's derivatives need of them follow from the patches'
    mean and covariance, which are computed once for a task's images.
    """

    operations: Operations

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Filters as a matrix `[side · side · in, out]`, scale and shift `[out]`."""
        weight, scale, shift = parameters
        return weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), scale, shift

    def restored(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        matrix, scale, shift = parameters
        side = self.geometry.side
        return matrix.unflatten(0, (side, side, -1)).permute(3, 2, 0, 1), scale, shift

    def patches(self, images: Tensor) -> Patches:
        """Images `[tasks, n, channels, height, width]` as this layer's inputs."""
        return self.operations.first.patches_of(images.movedim(2, -1).contiguous(), self.geometry)

    def forward(self, parameters: Sequence[Tensor], inputs: Patches) -> tuple[Tensor, Kept]:
        matrix, scale, shift = parameters
        found = self.operations.first.moments(inputs, matrix)
        norm = self.operations.first.forward(inputs, matrix, found.mean, found.variance, scale, shift, self.eps)
        return norm.z, (inputs, matrix, scale, found, norm, norm.inverse)

    def backward(self, kept: Kept, d_outputs: Tensor, into: Into = None) -> tuple[None, Sequence[Tensor], Kept]:
        inputs, _, scale, found, norm, inverse = kept
        sums, back = self.operations.first.backward(norm, inputs, d_outputs)
        by_parameters, more = self.operations.first.derivative(inputs, found, inverse, scale, sums, into)
        return None, by_parameters, (back, more)

    def tangent(
        self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor | None
    ) -> tuple[Tensor, Kept]:
        inputs, matrix, _, _, norm, inverse = kept
        matrix_t, scale_t, shift_t = parameters_t
        found_t = self.operations.first.moments_tangent(inputs, matrix, matrix_t, inverse)
        moved = found_t.mean_t, found_t.shared
        forth = self.operations.first.tangent(norm, inputs, matrix_t, *moved, scale_t, shift_t)
        return forth.z_t, (found_t, scale_t, forth)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool, into: Into = None
    ) -> tuple[None, Sequence[Tensor]]:
        inputs, _, scale, found, norm, inverse = kept
        (norm_back, more), (found_t, scale_t, norm_forth) = back, forth
        sums_t = self.operations.first.backward_tangent(norm, norm_back, norm_forth, inputs, d_outputs_t)
        of_scale = inverse, scale, scale_t
        products = self.operations.first.derivative_tangent(inputs, found, found_t, more, *of_scale, sums_t, into)
        return None, _summed(products, summed)


@dataclass(frozen=True)
class _Vectors(ABC):
    """A layer without parameters that turns feature maps into vectors, and is linear: its tangents are its passes."""

    channels: int  # of the feature maps
    products: Products  # the backend's, which know how feature maps lie in memory

    @abstractmethod
    def _vectors(self, maps: Tensor) -> Tensor:
        """Maps `[tasks, images, height, width, channels]` as vectors `[tasks, images, d]`."""

    @abstractmethod
    def _d_maps(self, d_vectors: Tensor, shape: torch.Size) -> Tensor:
        """The derivative by maps of a shape, from that by vectors."""

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        return ()

    restored = laid_out

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        maps = self.products.split(inputs, self.channels)
        return self._vectors(maps), maps.shape

    def backward(self, kept: Kept, d_outputs: Tensor, into: Into = None) -> tuple[Tensor, Sequence[Tensor], Kept]:
        return self.products.join(self._d_maps(d_outputs, kept)), (), None

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        return self.forward((), inputs_t)[0], None

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool, into: Into = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        return self.backward(kept, d_outputs_t)[0], ()


@dataclass(frozen=True)
class Mean(_Vectors):
    """The mean of each feature map, `[tasks, images, channels]`."""

    def _vectors(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))

    def _d_maps(self, d_vectors: Tensor, shape: torch.Size) -> Tensor:
        return (d_vectors / (shape[2] * shape[3])).unsqueeze(2).unsqueeze(2).expand(shape)


@dataclass(frozen=True)
class Flatten(_Vectors):
    """Feature maps as vectors."""

    channel_by_channel: bool  # as PyTorch's modules flatten them; otherwise place by place, as they lie in memory

    def _vectors(self, maps: Tensor) -> Tensor:
        return (maps.movedim(-1, 2) if self.channel_by_channel else maps).flatten(2)

    def _d_maps(self, d_vectors: Tensor, shape: torch.Size) -> Tensor:
        if not self.channel_by_channel:
            return d_vectors.reshape(shape)
        tasks, images, height, width, channels = shape
        return d_vectors.reshape(tasks, images, channels, height, width).movedim(2, -1)


@dataclass(frozen=True)
class Linear(LinearStructure):
    """inputs `[tasks, n, d]` · weightᵀ + bias, with ReLU after it or without; weights are `[tasks, outputs, d]`."""

    operations: Linears
    # Channels, height and width of the feature maps that `Flatten` flattened place by place to this layer's inputs;
    # None where the inputs are in the order of PyTorch's module.
    maps: tuple[int, int, int] | None = None

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Weight `[outputs, d]`, in the order of the inputs, and bias `[outputs]`."""
        weight, bias = parameters
        if self.maps is not None:
            weight = weight.unflatten(1, self.maps).movedim(1, -1).flatten(1)
        return weight, bias

    def restored(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        weight, bias = parameters
        if self.maps is not None:
            channels, height, width = self.maps
            weight = weight.unflatten(1, (height, width, channels)).movedim(-1, 1).flatten(1)
        return weight, bias

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        weight, bias = parameters
        outputs, gate = self.operations.forward(inputs, weight, bias, self.relu)
        return outputs, (inputs, weight, gate)

    def backward(self, kept: Kept, d_outputs: Tensor, into: Into = None) -> tuple[Tensor, Sequence[Tensor], Kept]:
        inputs, weight, gate = kept
        return *self.operations.backward(inputs, weight, gate, d_outputs, into), d_outputs

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        (inputs, weight, gate), (weight_t, bias_t) = kept, parameters_t
        return self.operations.tangent(inputs, weight, gate, inputs_t, weight_t, bias_t), (inputs_t, weight_t)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool, into: Into = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        (inputs, weight, gate), (inputs_t, weight_t) = kept, forth
        moved = back, inputs_t, weight_t, d_outputs_t
        return self.operations.backward_tangent(inputs, weight, gate, *moved, summed, into)


def build(structure: Structure, size: tuple[int, int], operations: Operations) -> tuple[FirstBlock, tuple[Layer, ...]]:
    """The layers of a network of known structure, for images of a size: the first, and the others."""
    for block in structure.blocks:
        size = block.geometry.pooled(size)
    first, *others = structure.blocks
    channels, products = structure.blocks[-1].channels, operations.products
    # Place by place, feature maps are flattened as they lie, but then the next layer's weights must lie so, too.
    channel_by_channel = operations.vectors is None or not structure.linears
    maps = None if channel_by_channel or structure.mean else (channels, *size)
    return FirstBlock(**vars(first), operations=operations), (
        *(Block(**vars(block), operations=operations) for block in others),
        Mean(channels, products) if structure.mean else Flatten(channels, products, channel_by_channel),
        *(
            Linear(**vars(linear), operations=operations.linear, maps=None if place else maps)
            for place, linear in enumerate(structure.linears)
        ),
    )


def _summed(parts: Sequence[Tensor], summed: bool) -> Sequence[Tensor]:
    return [part.sum(0, keepdim=True) for part in parts] if summed and parts[0].shape[0] > 1 else parts

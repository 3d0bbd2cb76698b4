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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from fanfold.tasks.derivatives.protocol import Kept, Operations, Patches, Products, Triple
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

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor | None, Sequence[Tensor], Kept]:
        """The derivatives by the inputs (None for the first layer) and by the parameters; intermediate results."""

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Any) -> tuple[Tensor, Kept]:
        """The outputs' tangent, given those of parameters and inputs (None for the first layer)."""

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor | None, Sequence[Tensor]]:
        """The tangents of `backward`'s derivatives; those by parameters summed over the tasks if asked, `[1, …]`."""


@dataclass(frozen=True)
class Block(BlockStructure):
    """A block whose inputs are another block's outputs.

    Args:
        operations: The backend.
    """

    operations: Operations

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Filters in the backend's order, scale and shift `[out]`."""
        weight, scale, shift = parameters
        return self.operations.products.lay_out(weight).contiguous(), scale, shift

    def restored(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Layer`."""
        filters, scale, shift = parameters
        return self.operations.products.restore(filters), scale, shift

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`; inputs and outputs are feature maps."""
        filters, scale, shift = parameters
        geometry, products = self.geometry, self.operations.products
        filters = products.of_tasks(filters, inputs)
        x, moments = products.convolve_with_moments([(inputs, filters)], geometry.stride, geometry.padding)
        norm = self.operations.norms.forward(x, scale, shift, self.eps, geometry.pool, moments)
        return norm.z, (inputs, filters, x, norm)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        inputs, filters, x, norm = kept
        d_x, back = self.operations.norms.backward(norm, x, d_outputs, self.geometry.pool)
        d_inputs, d_filters = self._back([(inputs, filters, d_x)])
        return d_inputs, (d_filters, back.d_scale, back.d_shift), (d_x, back)

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        inputs, filters, x, norm = kept
        filters_t, scale_t, shift_t = parameters_t
        geometry, products = self.geometry, self.operations.products
        filters_t = products.of_tasks(filters_t, inputs)
        x_t = products.convolve([(inputs, filters_t), (inputs_t, filters)], geometry.stride, geometry.padding)
        forth = self.operations.norms.tangent(norm, x, x_t, scale_t, shift_t, geometry.pool)
        return forth.z_t, (inputs_t, filters_t, x_t, forth)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        (inputs, filters, x, norm), (d_x, norm_back), (inputs_t, filters_t, x_t, norm_forth) = kept, back, forth
        d_x_t, d_scale_t, d_shift_t = self.operations.norms.backward_tangent(
            norm, norm_back, norm_forth, x, x_t, d_outputs_t, self.geometry.pool
        )
        d_inputs_t, d_filters_t = self._back([(inputs, filters, d_x_t), (inputs_t, filters_t, d_x)])
        return d_inputs_t, _summed((d_filters_t, d_scale_t, d_shift_t), summed)

    def _back(self, triples: Sequence[Triple]) -> tuple[Tensor, Tensor]:
        return self.operations.products.backward(triples, self.geometry.stride, self.geometry.padding)


@dataclass(frozen=True)
class FirstBlock(BlockStructure):
    """A block whose inputs are the images, by whose pixels nothing is differentiated.

    Its convolution's outputs, four times as many as any other's, are never stored. They are linear in the patches that
    the filters see: their means, variances and all that batch norm's derivatives need of them follow from the patches'
    mean and covariance, which are computed once for a task's images.

    Args:
        operations: The backend.
    """

    operations: Operations

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Filters as a matrix `[side · side · in, out]`, scale and shift `[out]`."""
        weight, scale, shift = parameters
        return weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), scale, shift

    def restored(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Layer`."""
        matrix, scale, shift = parameters
        side = self.geometry.side
        return matrix.unflatten(0, (side, side, -1)).permute(3, 2, 0, 1), scale, shift

    def patches(self, images: Tensor) -> Patches:
        """Images `[tasks, n, channels, height, width]` as this layer's inputs."""
        return self.operations.first.patches_of(images.movedim(2, -1).contiguous(), self.geometry)

    def forward(self, parameters: Sequence[Tensor], inputs: Patches) -> tuple[Tensor, Kept]:
        """See `Layer`; outputs are feature maps."""
        matrix, scale, shift = parameters
        by_covariance = inputs.covariance @ matrix
        mean, variance = _times(inputs.mean, matrix), (matrix * by_covariance).sum(1)
        norm = self.operations.first.forward(inputs, self.geometry, matrix, mean, variance, scale, shift, self.eps)
        return norm.z, (inputs, matrix, scale, by_covariance, norm, norm.inverse)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[None, Sequence[Tensor], Kept]:
        """See `Layer`. The means of d_x · patch follow from those of patches and of their products."""
        inputs, _, scale, by_covariance, norm, inverse = kept
        at_places, back = self.operations.first.backward(norm, inputs, self.geometry, d_outputs)
        gain, of_covariance = inverse * scale, inverse * back.d_scale
        d_matrix = _less(at_places, inputs.mean.unsqueeze(2), back.d_shift)
        d_matrix = _less(d_matrix, by_covariance, of_covariance)
        by_parameters = gain.unsqueeze(1) * d_matrix, back.d_scale, back.d_shift
        return None, by_parameters, (d_matrix, gain, of_covariance, back)

    def tangent(
        self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor | None
    ) -> tuple[Tensor, Kept]:
        """See `Layer`; the inputs have no tangent."""
        inputs, matrix, _, _, norm, inverse = kept
        matrix_t, scale_t, shift_t = parameters_t
        by_covariance_t = inputs.covariance @ matrix_t
        mean_t, shared = _times(inputs.mean, matrix_t), inverse * (matrix * by_covariance_t).sum(1)
        forth = self.operations.first.tangent(norm, inputs, self.geometry, matrix_t, mean_t, shared, scale_t, shift_t)
        return forth.z_t, (by_covariance_t, shared, scale_t, forth)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[None, Sequence[Tensor]]:
        """See `Layer`."""
        inputs, _, scale, by_covariance, norm, inverse = kept
        (d_matrix, gain, of_covariance, norm_back), (by_covariance_t, shared, scale_t, norm_forth) = back, forth
        at_places_t, d_scale_t, d_shift_t = self.operations.first.backward_tangent(
            norm, norm_back, norm_forth, inputs, self.geometry, d_outputs_t
        )
        inverse_t = -inverse * inverse * shared
        d_matrix_t = _less(at_places_t, inputs.mean.unsqueeze(2), d_shift_t)
        d_matrix_t = _less(d_matrix_t, by_covariance, inverse_t * norm_back.d_scale + inverse * d_scale_t)
        d_matrix_t = _less(d_matrix_t, by_covariance_t, of_covariance)
        gain_t = inverse_t * scale + inverse * scale_t
        product = torch.addcmul(gain_t.unsqueeze(1) * d_matrix, gain.unsqueeze(1), d_matrix_t)
        return None, _summed((product, d_scale_t, d_shift_t), summed)


@dataclass(frozen=True)
class _Vectors:
    """A layer without parameters that turns feature maps into vectors.

    Args:
        channels: Of the feature maps.
        products: The backend's, which know how feature maps lie in memory.
    """

    channels: int
    products: Products

    @property
    def names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Layer`."""
        return ()

    restored = laid_out


@dataclass(frozen=True)
class Mean(_Vectors):
    """The mean of each feature map, `[tasks, images, channels]`."""

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        maps = self.products.split(inputs, self.channels)
        return maps.mean((2, 3)), maps.shape

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        _, _, height, width, _ = kept
        d_maps = (d_outputs / (height * width)).unsqueeze(2).unsqueeze(2).expand(kept)
        return self.products.join(d_maps), (), None

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return self.forward((), inputs_t)[0], None

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        return self.backward(kept, d_outputs_t)[0], ()


@dataclass(frozen=True)
class Flatten(_Vectors):
    """Feature maps as vectors.

    Args:
        channel_by_channel: As PyTorch's modules flatten them; otherwise place by place, as they lie in memory.
    """

    channel_by_channel: bool

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        maps = self.products.split(inputs, self.channels)
        return (maps.movedim(-1, 2) if self.channel_by_channel else maps).flatten(2), maps.shape

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        tasks, images, height, width, channels = kept
        if self.channel_by_channel:
            d_maps = d_outputs.reshape(tasks, images, channels, height, width).movedim(2, -1)
        else:
            d_maps = d_outputs.reshape(kept)
        return self.products.join(d_maps), (), None

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return self.forward((), inputs_t)[0], None

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        return self.backward(kept, d_outputs_t)[0], ()


@dataclass(frozen=True)
class Linear(LinearStructure):
    """inputs `[tasks, n, d]` · weightᵀ + bias, with ReLU after it or without; weights are `[tasks, outputs, d]`.

    Args:
        maps: Channels, height and width of the feature maps that `Flatten` flattened place by place to this layer's
            inputs; None where the inputs are in the order of PyTorch's module.
    """

    maps: tuple[int, int, int] | None = None

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Weight `[outputs, d]`, in the order of the inputs, and bias `[outputs]`."""
        weight, bias = parameters
        if self.maps is not None:
            weight = weight.unflatten(1, self.maps).movedim(1, -1).flatten(1)
        return weight, bias

    def restored(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Layer`."""
        weight, bias = parameters
        if self.maps is not None:
            channels, height, width = self.maps
            weight = weight.unflatten(1, (height, width, channels)).movedim(-1, 1).flatten(1)
        return weight, bias

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        weight, bias = parameters
        outputs = _affine(inputs, weight, bias)
        if self.relu:
            outputs = outputs.relu_()
        return outputs, (inputs, weight, outputs > 0 if self.relu else None)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        inputs, weight, _ = kept
        d = self._gate(kept, d_outputs)
        return _times_matrix(d, weight), (d.mT @ inputs, d.sum(1)), d

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        (inputs, weight, _), (weight_t, bias_t) = kept, parameters_t
        outputs_t = _affine(inputs, weight_t, bias_t) + _affine(inputs_t, weight, None)
        return self._gate(kept, outputs_t), (inputs_t, weight_t)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        (inputs, weight, _), (inputs_t, weight_t) = kept, forth
        d_t = self._gate(kept, d_outputs_t)
        d_inputs_t = _times_matrix(d_t, weight) + _times_matrix(back, weight_t)
        if summed:
            inputs, d_t, inputs_t, back = (part.flatten(0, 1)[None] for part in (inputs, d_t, inputs_t, back))
        return d_inputs_t, (torch.baddbmm(d_t.mT @ inputs, back.mT, inputs_t), d_t.sum(1))

    def _gate(self, kept: Kept, values: Tensor) -> Tensor:
        return values * kept[2] if self.relu else values


def build(structure: Structure, size: tuple[int, int], operations: Operations) -> tuple[FirstBlock, tuple[Layer, ...]]:
    """The layers of a network of known structure: the first, and the others.

    Args:
        structure: The network's structure.
        size: Height and width of the images.
        operations: The backend.
    """
    for block in structure.blocks:
        size = block.geometry.pooled(size)
    first, *others = structure.blocks
    channels, products = structure.blocks[-1].channels, operations.products
    # Place by place, feature maps are flattened as they lie, but then the next layer's weights must lie so, too.
    channel_by_channel = not operations.one_vector or not structure.linears
    maps = None if channel_by_channel or structure.mean else (channels, *size)
    return FirstBlock(**vars(first), operations=operations), (
        *(Block(**vars(block), operations=operations) for block in others),
        Mean(channels, products) if structure.mean else Flatten(channels, products, channel_by_channel),
        *(Linear(**vars(linear), maps=None if place else maps) for place, linear in enumerate(structure.linears)),
    )


def _summed(parts: Sequence[Tensor], summed: bool) -> Sequence[Tensor]:
    return [part.sum(0, keepdim=True) for part in parts] if summed and parts[0].shape[0] > 1 else parts


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """`[tasks, k]` · `[tasks, k, n]`, `[tasks, n]`."""
    return (rows.unsqueeze(1) @ matrices).squeeze(1)


def _less(matrices: Tensor, others: Tensor, numbers: Tensor) -> Tensor:
    """The matrices `[tasks, k, n]` less others · numbers `[tasks, n]`, column by column."""
    return torch.addcmul(matrices, others, numbers.unsqueeze(1), value=-1)


def _affine(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Inputs `[tasks, n, d]` · weightᵀ + bias; one product where all tasks share a weight."""
    if weight.shape[0] == 1:
        return linear(inputs, weight[0], None if bias is None else bias[0])
    return inputs @ weight.mT if bias is None else torch.baddbmm(bias[:, None], inputs, weight.mT)


def _times_matrix(d_outputs: Tensor, weight: Tensor) -> Tensor:
    """d_outputs `[tasks, n, outputs]` · weight; one product where all tasks share a weight."""
    return d_outputs @ (weight[0] if weight.shape[0] == 1 else weight)

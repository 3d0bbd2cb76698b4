"""Layers for several tasks at once, with their first and second derivatives written out.

They are the layers of `tasks.derivatives.one_task_layers`, with the same four functions, on pictures `[tasks, images,
height, width, channels]` and vectors `[tasks, images, d]`. Parameters have tasks in front too, one where they share it.

A layer says how it wants its parameters to lie (`Layer.laid_out`), so that nothing is turned round on the way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fanfold.tasks.derivatives import structure as anatomy
from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.passes import Kept
from fanfold.tasks.derivatives.torch_ops.first import Seen, look
from fanfold.tasks.derivatives.torch_ops.products import lay_out, times


class Kernels(NamedTuple):
    """What the layers compute with.

    Args:
        products: A module, or the like, with the functions of `tasks.derivatives.torch_ops.products`.
        norms: With those of `tasks.derivatives.torch_ops.norms`.
        first: With those of `tasks.derivatives.torch_ops.first`, but for `look`.
        look: As `tasks.derivatives.torch_ops.first.look`: images as `first` takes them.
        lay_out: A convolution's weight as `products` takes it, but for the tasks in front.
        moments: Whether a convolution gives its outputs' moments on the way, which `norms` then need not take.
    """

    products: Any
    norms: Any
    first: Any
    look: Callable[[Tensor, Geometry], Any] = look
    lay_out: Callable[[Tensor], Tensor] = lay_out
    moments: bool = False


class Layer(Protocol):
    """One layer; its functions are those of `tasks.derivatives.one_task_layers.Layer`.

    `backward_tangent` sums what belongs to the parameters over the tasks where that is asked for, to `[1, …]`.

    Attributes:
        names: Its parameters' names, in the order in which they are passed.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Parameters as PyTorch's module has them, as this layer takes them, but for the tasks in front."""

    def forward(self, parameters: Sequence[Tensor], inputs: Any) -> tuple[Tensor, Kept]: ...

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor | None, Sequence[Tensor], Kept]: ...

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Any) -> tuple[Tensor, Kept]: ...

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor | None, Sequence[Tensor]]: ...


@dataclass(frozen=True)
class Block(anatomy.Block):
    """See `tasks.derivatives.one_task_layers.Block`.

    Args:
        kernels: What it computes with.
    """

    kernels: Kernels

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Filters as the kernels have them, scale and shift `[out]`."""
        weight, scale, shift = parameters
        return self.kernels.lay_out(weight), scale, shift

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        filters, scale, shift = parameters
        stride, padding = self.geometry.stride, self.geometry.padding
        products, norms, pairs = self.kernels.products, self.kernels.norms, [(inputs, filters)]
        if self.kernels.moments:
            x, of_x = products.convolve_with_moments(pairs, stride, padding)
            norm = norms.forward(x, scale, shift, self.eps, self.geometry.pool, of_x)
        else:
            x = products.convolve(pairs, stride, padding)
            norm = norms.forward(x, scale, shift, self.eps, self.geometry.pool)
        return norm.z, (inputs, filters, x, norm)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        inputs, filters, x, norm = kept
        d_x, back = self.kernels.norms.backward(norm, x, d_outputs, self.geometry.pool)
        d_inputs, d_filters = self._back(inputs, [(d_x, filters)], [(inputs, d_x)])
        return d_inputs, (d_filters, back.d_scale, back.d_shift), (d_x, back)

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        inputs, filters, x, norm = kept
        filters_t, scale_t, shift_t = parameters_t
        pairs = [(inputs, filters_t), (inputs_t, filters)]
        x_t = self.kernels.products.convolve(pairs, self.geometry.stride, self.geometry.padding)
        forth = self.kernels.norms.tangent(norm, x, x_t, scale_t, shift_t, self.geometry.pool)
        return forth.z_t, (inputs_t, filters_t, x_t, forth)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        (inputs, filters, x, norm), (d_x, passed_back), (inputs_t, filters_t, x_t, passed_forth) = kept, back, forth
        d_x_t, d_scale_t, d_shift_t = self.kernels.norms.backward_tangent(
            norm, passed_back, passed_forth, x, x_t, d_outputs_t, self.geometry.pool
        )
        d_inputs_t, d_filters_t = self._back(
            inputs, [(d_x_t, filters), (d_x, filters_t)], [(inputs, d_x_t), (inputs_t, d_x)]
        )
        return d_inputs_t, _summed((d_filters_t, d_scale_t, d_shift_t), summed)

    def _back(
        self, inputs: Tensor, by_inputs: Sequence[tuple[Tensor, Tensor]], by_filters: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Derivatives by inputs and by filters."""
        side, stride, padding = self.geometry.side, self.geometry.stride, self.geometry.padding
        products = self.kernels.products
        return (
            products.by_inputs(by_inputs, (inputs.shape[2], inputs.shape[3]), stride, padding),
            products.by_filters(by_filters, side, stride, padding),
        )


@dataclass(frozen=True)
class FirstBlock(anatomy.Block):
    """A block that sees the images, whose pixels nothing is differentiated by.

    Args:
        kernels: What it computes with.
    """

    kernels: Kernels

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Filters as a matrix `[side · side · in, out]`, scale and shift `[out]`."""
        weight, scale, shift = parameters
        return weight.permute(2, 3, 1, 0).flatten(0, 2), scale, shift

    def seen(self, images: Tensor) -> Seen:
        """Images `[tasks, n, channels, height, width]` as this layer's inputs."""
        seen: Seen = self.kernels.look(images.movedim(2, -1).contiguous(), self.geometry)
        return seen

    def forward(self, parameters: Sequence[Tensor], inputs: Seen) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        matrix, scale, shift = parameters
        by_covariance = inputs.covariance @ matrix
        mean, variance = _times(inputs.mean, matrix), (matrix * by_covariance).sum(1)
        norm = self.kernels.first.forward(inputs, self.geometry, matrix, mean, variance, scale, shift, self.eps)
        return norm.z, (inputs, matrix, by_covariance, norm)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[None, Sequence[Tensor], Kept]:
        """See `Layer`. Means of d_x · patch follow from those of patches and of their products."""
        inputs, _, by_covariance, norm = kept
        at_places, back = self.kernels.first.backward(norm, inputs, self.geometry, d_outputs)
        d_matrix = at_places - inputs.mean[:, :, None] * back.d_shift[:, None]
        d_matrix = d_matrix - by_covariance * (norm.inverse * back.d_scale)[:, None]
        by_parameters = (norm.inverse * norm.scale)[:, None] * d_matrix, back.d_scale, back.d_shift
        return None, by_parameters, (d_matrix, back)

    def tangent(
        self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor | None
    ) -> tuple[Tensor, Kept]:
        """See `Layer`; the inputs have no tangent."""
        inputs, matrix, _, norm = kept
        matrix_t, scale_t, shift_t = parameters_t
        by_covariance_t = inputs.covariance @ matrix_t
        mean_t, shared = _times(inputs.mean, matrix_t), norm.inverse * (matrix * by_covariance_t).sum(1)
        forth = self.kernels.first.tangent(norm, inputs, self.geometry, matrix_t, mean_t, shared, scale_t, shift_t)
        return forth.z_t, (by_covariance_t, forth)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[None, Sequence[Tensor]]:
        """See `Layer`."""
        inputs, _, by_covariance, norm = kept
        (d_matrix, passed_back), (by_covariance_t, passed_forth) = back, forth
        at_places_t, d_scale_t, d_shift_t = self.kernels.first.backward_tangent(
            norm, passed_back, passed_forth, inputs, self.geometry, d_outputs_t
        )
        inverse_t = -norm.inverse * norm.inverse * passed_forth.shared
        d_matrix_t = at_places_t - inputs.mean[:, :, None] * d_shift_t[:, None]
        d_matrix_t = d_matrix_t - by_covariance * (inverse_t * passed_back.d_scale + norm.inverse * d_scale_t)[:, None]
        d_matrix_t = d_matrix_t - by_covariance_t * (norm.inverse * passed_back.d_scale)[:, None]
        gain_t = inverse_t * norm.scale + norm.inverse * passed_forth.scale_t
        product = gain_t[:, None] * d_matrix + (norm.inverse * norm.scale)[:, None] * d_matrix_t
        return None, _summed((product, d_scale_t, d_shift_t), summed)


@dataclass(frozen=True)
class Mean:
    """The mean of each channel's picture, `[tasks, images, channels]`."""

    names: tuple[str, ...] = ()

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Nothing."""
        return ()

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return inputs.mean((2, 3)), inputs.shape

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        _, _, height, width, _ = kept
        return (d_outputs / (height * width))[:, :, None, None].expand(kept).contiguous(), (), None

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return inputs_t.mean((2, 3)), None

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        return self.backward(kept, d_outputs_t)[0], ()


@dataclass(frozen=True)
class Flatten:
    """Pictures as vectors, place by place; the linear layer after it has its inputs lie so.

    Args:
        last: Whether no layer follows: channel by channel then, as PyTorch has them.
    """

    last: bool
    names: tuple[str, ...] = ()

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Nothing."""
        return ()

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return (inputs.movedim(-1, 2) if self.last else inputs).flatten(2), inputs.shape

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        if not self.last:
            return d_outputs.reshape(kept), (), None
        tasks, images, height, width, channels = kept
        return d_outputs.reshape(tasks, images, channels, height, width).movedim(2, -1).contiguous(), (), None

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return self.forward((), inputs_t)[0], None

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        return self.backward(kept, d_outputs_t)[0], ()


@dataclass(frozen=True)
class Linear(anatomy.Linear):
    """inputs `[tasks, n, d]` · weight `[tasks, d, outputs]` + bias, with ReLU after it or without.

    Args:
        picture: Channels, height and width of the pictures that its inputs were, which PyTorch has channel by channel;
            None where they were none.
    """

    picture: tuple[int, int, int] | None = None

    def laid_out(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Weight `[d, outputs]`, its inputs place by place, and bias `[outputs]`."""
        weight, bias = parameters
        if self.picture is not None:
            weight = weight.unflatten(1, self.picture).movedim(1, -1).flatten(1)
        return weight.T, bias

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        weight, bias = parameters
        outputs = times(inputs, weight) + bias[:, None]
        if self.relu:
            outputs = outputs.relu()
        return outputs, (inputs, weight, outputs > 0 if self.relu else None)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        inputs, weight, _ = kept
        d = self._gate(kept, d_outputs)
        return times(d, weight.mT), (inputs.mT @ d, d.sum(1)), d

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        (inputs, weight, _), (weight_t, bias_t) = kept, parameters_t
        outputs_t = times(inputs_t, weight) + inputs @ weight_t + bias_t[:, None]
        return self._gate(kept, outputs_t), (inputs_t, weight_t)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor, summed: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        (inputs, weight, _), (inputs_t, weight_t) = kept, forth
        d_t = self._gate(kept, d_outputs_t)
        d_inputs_t = times(d_t, weight.mT) + back @ weight_t.mT
        if summed:
            inputs, d_t, inputs_t, back = (part.flatten(0, 1)[None] for part in (inputs, d_t, inputs_t, back))
        return d_inputs_t, (torch.baddbmm(inputs.mT @ d_t, inputs_t.mT, back), d_t.sum(1))

    def _gate(self, kept: Kept, values: Tensor) -> Tensor:
        return values * kept[2] if self.relu else values


def build(made_of: anatomy.Anatomy, size: tuple[int, int], kernels: Kernels) -> tuple[FirstBlock, tuple[Layer, ...]]:
    """The layers of a network that is made of known ones: the first, and the others.

    Args:
        made_of: What it is made of.
        size: Height and width of the images.
        kernels: What the blocks compute with.
    """
    for block in made_of.blocks:
        size = block.geometry.pooled(size)
    picture = None if made_of.mean else (made_of.blocks[-1].channels, *size)
    first, *others = made_of.blocks
    return FirstBlock(**vars(first), kernels=kernels), (
        *(Block(**vars(block), kernels=kernels) for block in others),
        Mean() if made_of.mean else Flatten(last=not made_of.linears),
        *(Linear(**vars(linear), picture=None if place else picture) for place, linear in enumerate(made_of.linears)),
    )


def _summed(parts: Sequence[Tensor], summed: bool) -> Sequence[Tensor]:
    return [part.sum(0, keepdim=True) for part in parts] if summed else parts


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """`[tasks, k]` · `[tasks, k, n]`, `[tasks, n]`."""
    return (rows[:, None] @ matrices)[:, 0]

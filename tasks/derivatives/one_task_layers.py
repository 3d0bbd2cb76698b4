"""Layers with their first and second derivatives written out, for a task at a time on a CPU.

Each layer is four functions: forward; backward, from the derivative by its outputs to those by its inputs and
parameters; and the tangents of both, how their results move when parameters and inputs move in a direction. What a
function hands to the next stands in tuples of its own, so that a pass can be taken up as often as one likes.

Second derivatives are those of the loss in a direction, forward over reverse (Pearlmutter 1994, "Fast exact
multiplication by the Hessian"), as the tangent of the gradient.

Pictures lie with channels last: `[images, height, width, channels]`, contiguous.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fanfold.tasks.derivatives import structure as anatomy
from fanfold.tasks.derivatives.numba_ops import kernels
from fanfold.tasks.derivatives.numba_ops.kernels import Array
from fanfold.tasks.derivatives.numba_ops.patches import look
from fanfold.tasks.derivatives.passes import Kept


class Layer(Protocol):
    """One layer.

    Attributes:
        names: Its parameters' names, in the order in which they are passed.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def forward(self, parameters: Sequence[Tensor], inputs: Any) -> tuple[Tensor, Kept]:
        """The outputs, and what is kept of the pass."""

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor | None, Sequence[Tensor], Kept]:
        """The derivatives by the inputs, none for the first layer, and by the parameters; and what is kept."""

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Any) -> tuple[Tensor, Kept]:
        """The outputs' tangent, given those of parameters and inputs, none for the first layer; and what is kept."""

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor
    ) -> tuple[Tensor | None, Sequence[Tensor]]:
        """The tangents of what `backward` gives."""


@dataclass(frozen=True)
class Block(anatomy.Block):
    """A block that sees what another one gives."""

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`; inputs and outputs are pictures."""
        weight, scale, shift = parameters
        weight = weight.contiguous(memory_format=torch.channels_last)
        x = self._convolve(inputs, weight)
        norm = kernels.forward(x, scale.numpy(), shift.numpy(), self.eps, self.geometry.pool)
        return torch.from_numpy(norm.z), (inputs, weight, x, norm)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        inputs, weight, x, norm = kept
        d_x, back = kernels.backward(norm, x, d_outputs.numpy(), self.geometry.pool)
        d_inputs, d_weight = self._back(d_x, inputs, weight)
        return d_inputs, (d_weight, torch.from_numpy(back.d_scale), torch.from_numpy(back.d_shift)), (d_x, back)

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        inputs, weight, x, norm = kept
        weight_t, scale_t, shift_t = parameters_t
        weight_t = weight_t.contiguous(memory_format=torch.channels_last)
        x_t = self._convolve(inputs, weight_t)
        x_t += self._convolve(inputs_t, weight)
        forth = kernels.tangent(norm, x, x_t, scale_t.numpy(), shift_t.numpy(), self.geometry.pool)
        return torch.from_numpy(forth.z_t), (inputs_t, weight_t, x_t, forth)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        (inputs, weight, x, norm), (d_x, passed_back), (inputs_t, weight_t, x_t, passed_forth) = kept, back, forth
        d_x_t, d_scale_t, d_shift_t = kernels.backward_tangent(
            norm, passed_back, passed_forth, x, x_t, d_outputs_t.numpy(), self.geometry.pool
        )
        d_inputs_t, d_weight_t = self._back(d_x_t, inputs, weight)
        more_inputs, more_weight = self._back(d_x, inputs_t, weight_t)
        products = d_weight_t.add_(more_weight), torch.from_numpy(d_scale_t), torch.from_numpy(d_shift_t)
        return d_inputs_t.add_(more_inputs), products

    def _convolve(self, inputs: Tensor, weight: Tensor) -> Array:
        x = conv2d(_channels_second(inputs), weight, stride=self.geometry.stride, padding=self.geometry.padding)
        return np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())  # as it lies already, but where a side is 1

    def _back(self, d_x: Array, inputs: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives by inputs and weight of a convolution, from those by its outputs."""
        pairs = [self.geometry.stride] * 2, [self.geometry.padding] * 2
        d_inputs, d_weight, _ = torch.ops.aten.convolution_backward(
            _channels_second(torch.from_numpy(d_x)),
            _channels_second(inputs),
            weight,
            None,
            *pairs,
            [1, 1],
            False,
            [0, 0],
            1,
            [True, True, False],
        )
        return d_inputs.permute(0, 2, 3, 1).contiguous(), d_weight


class Patches(NamedTuple):
    """Images as the first block takes them, see `tasks.derivatives.numba_ops.patches`.

    Args:
        windows: `[1, images, down, across, pool · pool, K]`.
        mean: `[K]`.
        covariance: `[K, K]`.
    """

    windows: Array
    mean: Array
    covariance: Array


@dataclass(frozen=True)
class FirstBlock(anatomy.Block):
    """A block that sees the images, whose pixels nothing is differentiated by.

    Its convolution's outputs, four times as many as any other's, are nowhere kept. They are linear in the patches
    that the filters see, so that their means, variances and all that batch norm's derivatives need of them follow from
    the patches' mean and covariance, which a task's images have once and for all.
    """

    def patches(self, images: Tensor) -> Patches:
        """Images `[n, channels, height, width]` as this layer's inputs."""
        windows, mean, covariance = look(images.permute(0, 2, 3, 1).numpy()[None], self.geometry)
        return Patches(windows, mean[0], covariance[0])

    def forward(self, parameters: Sequence[Tensor], inputs: Patches) -> tuple[Tensor, Kept]:
        """See `Layer`; outputs are pictures."""
        weight, scale, shift = parameters
        matrix = _matrix(weight)
        by_covariance = inputs.covariance @ matrix
        mean, variance = inputs.mean @ matrix, (matrix * by_covariance).sum(0)
        norm = kernels.first_forward(
            inputs.windows, kernels.nines(matrix[None], 1), mean, variance, scale.numpy(), shift.numpy(), self.eps
        )
        return torch.from_numpy(norm.z), (inputs, weight.shape, matrix, by_covariance, norm)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[None, Sequence[Tensor], Kept]:
        """See `Layer`. Means of d_x · patch follow from those of patches and of their products."""
        inputs, shape, _, by_covariance, norm = kept
        at_places, back = kernels.first_backward(norm, inputs.windows, d_outputs.numpy())
        d_weight = at_places[0, : len(by_covariance)] - inputs.mean[:, None] * back.d_shift
        d_weight -= by_covariance * (norm.inverse * back.d_scale)
        by_parameters = _filters(norm.inverse * norm.scale * d_weight, shape), back.d_scale, back.d_shift
        return None, [by_parameters[0], *map(torch.from_numpy, by_parameters[1:])], (d_weight, back)

    def tangent(
        self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor | None
    ) -> tuple[Tensor, Kept]:
        """See `Layer`; the inputs have no tangent."""
        inputs, _, matrix, _, norm = kept
        weight_t, scale_t, shift_t = parameters_t
        matrix_t = _matrix(weight_t)
        by_covariance_t = inputs.covariance @ matrix_t
        mean_t, shared = inputs.mean @ matrix_t, norm.inverse * (matrix * by_covariance_t).sum(0)
        forth = kernels.first_tangent(
            norm, inputs.windows, kernels.nines(matrix_t[None], 1), mean_t, shared, scale_t.numpy(), shift_t.numpy()
        )
        return torch.from_numpy(forth.z_t), (by_covariance_t, forth)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor
    ) -> tuple[None, Sequence[Tensor]]:
        """See `Layer`."""
        inputs, shape, _, by_covariance, norm = kept
        (d_weight, passed_back), (by_covariance_t, passed_forth) = back, forth
        at_places_t, d_scale_t, d_shift_t = kernels.first_backward_tangent(
            norm, passed_back, passed_forth, inputs.windows, d_outputs_t.numpy()
        )
        inverse_t = -norm.inverse * norm.inverse * passed_forth.shared
        d_weight_t = at_places_t[0, : len(by_covariance)] - inputs.mean[:, None] * d_shift_t
        d_weight_t -= by_covariance * (inverse_t * passed_back.d_scale + norm.inverse * d_scale_t)
        d_weight_t -= by_covariance_t * (norm.inverse * passed_back.d_scale)
        gain_t = inverse_t * norm.scale + norm.inverse * passed_forth.scale_t
        product = _filters(gain_t * d_weight + norm.inverse * norm.scale * d_weight_t, shape)
        return None, (product, torch.from_numpy(d_scale_t), torch.from_numpy(d_shift_t))


@dataclass(frozen=True)
class Mean:
    """The mean of each channel's picture: `[images, height, width, channels]` to `[images, channels]`."""

    names: tuple[str, ...] = ()

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return inputs.mean((1, 2)), inputs.shape

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        _, height, width, _ = kept
        return (d_outputs / (height * width))[:, None, None].expand(kept).contiguous(), (), None

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return inputs_t.mean((1, 2)), None

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        return self.backward(kept, d_outputs_t)[0], ()


@dataclass(frozen=True)
class Flatten:
    """Pictures as vectors, channel by channel as PyTorch has them: `[images, channels · height · width]`."""

    names: tuple[str, ...] = ()

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return _channels_second(inputs).flatten(1), inputs.shape

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        images, height, width, channels = kept
        return d_outputs.view(images, channels, height, width).permute(0, 2, 3, 1).contiguous(), (), None

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        return self.forward((), inputs_t)[0], None

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        return self.backward(kept, d_outputs_t)[0], ()


@dataclass(frozen=True)
class Linear(anatomy.Linear):
    """inputs `[n, d]` · weightᵀ + bias, with ReLU after it or without."""

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        weight, bias = parameters
        outputs = torch.addmm(bias, inputs, weight.T)
        if self.relu:
            outputs = outputs.relu_()
        return outputs, (inputs, weight, outputs > 0 if self.relu else None)

    def backward(self, kept: Kept, d_outputs: Tensor) -> tuple[Tensor, Sequence[Tensor], Kept]:
        """See `Layer`."""
        inputs, weight, _ = kept
        d = self._gate(kept, d_outputs)
        return d @ weight, (d.T @ inputs, d.sum(0)), d

    def tangent(self, kept: Kept, back: Kept, parameters_t: Sequence[Tensor], inputs_t: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`."""
        (inputs, weight, _), (weight_t, bias_t) = kept, parameters_t
        outputs_t = torch.addmm(bias_t, inputs_t, weight.T).addmm_(inputs, weight_t.T)
        return self._gate(kept, outputs_t), (inputs_t, weight_t)

    def backward_tangent(
        self, kept: Kept, back: Kept, forth: Kept, d_outputs_t: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """See `Layer`."""
        (inputs, weight, _), (inputs_t, weight_t) = kept, forth
        d_t = self._gate(kept, d_outputs_t)
        d_weight_t = torch.addmm(d_t.T @ inputs, back.T, inputs_t)
        return torch.addmm(d_t @ weight, back, weight_t), (d_weight_t, d_t.sum(0))

    def _gate(self, kept: Kept, values: Tensor) -> Tensor:
        return values * kept[2] if self.relu else values


def _channels_second(pictures: Tensor) -> Tensor:
    """The same numbers where they lie, as PyTorch names them: `[images, channels, height, width]`."""
    return pictures.permute(0, 3, 1, 2)


def _matrix(weight: Tensor) -> Array:
    """A convolution's weight as `[K, filters]`."""
    return np.ascontiguousarray(weight.permute(2, 3, 1, 0).flatten(0, 2).numpy())


def _filters(matrix: Array, shape: torch.Size) -> Tensor:
    """Such a matrix as a convolution's weight."""
    outside, inside, height, width = shape
    weight: Tensor = torch.from_numpy(matrix).view(height, width, inside, outside).permute(3, 2, 0, 1)
    return weight

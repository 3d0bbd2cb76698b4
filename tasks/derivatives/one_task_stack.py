"""A network that is a stack of known layers, with its first and second derivatives written out.

PyTorch's automatic differentiation serves any network. A stack of blocks of convolution, batch norm, ReLU and pooling,
as most of the few-shot literature's networks are, is served better: see `tasks.derivatives.numba_ops.kernels` and
`tasks.derivatives.one_task_layers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fanfold.tasks.derivatives.one_task_layers import Block, FirstBlock, Flatten, Layer, Linear, Mean, Patches
from fanfold.tasks.derivatives.passes import Kept, Pass
from fanfold.tasks.derivatives.structure import Anatomy


@dataclass(frozen=True)
class Stack:
    """Layers, each on the outputs of the one before it.

    Args:
        first: The layer that sees the images.
        others: Those after it.
    """

    first: FirstBlock
    others: tuple[Layer, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers."""
        return (self.first, *self.others)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, layer by layer."""
        return tuple(name for layer in self.layers for name in layer.names)

    def __call__(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Outputs `[n, d]` of images `[n, 1, height, width]`, which PyTorch can differentiate, twice if need be."""
        output: Tensor = _Forward.apply(self, images, *(parameters[name] for name in self.names))
        return output

    def features(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """What goes into the last layer, `[n, d]`."""
        return Stack(self.first, self.others[:-1])(parameters, images)

    def inputs(self, images: Tensor) -> Patches:
        """Images `[n, 1, height, width]` as `forward` takes them: the work that is the same for all parameters."""
        return self.first.patches(images)

    def forward(self, parameters: Mapping[str, Tensor], inputs: Patches) -> tuple[Tensor, list[Kept]]:
        """Outputs `[n, d]`, and what the layers kept."""
        outputs: Any = inputs
        kept = []
        for layer in self.layers:
            outputs, of_layer = layer.forward([parameters[name] for name in layer.names], outputs)
            kept.append(of_layer)
        return outputs, kept

    def backward(self, kept: Sequence[Kept], d_outputs: Tensor) -> tuple[dict[str, Tensor], Pass]:
        """The derivatives by the parameters, and what the layers kept of both ways."""
        found: dict[str, Tensor] = {}
        back: list[Kept] = []
        d: Tensor | None = d_outputs.contiguous()
        for layer, of_layer in zip(reversed(self.layers), reversed(kept), strict=True):
            assert d is not None
            d, gradients, more = layer.backward(of_layer, d)
            found |= zip(layer.names, gradients, strict=True)
            back.append(more)
        return found, Pass(kept, back[::-1])

    def tangent(self, both: Pass, direction: Mapping[str, Tensor]) -> tuple[Tensor, list[Kept]]:
        """How the outputs move when the parameters move in a direction, and what the layers kept."""
        outputs_t: Tensor | None = None
        forth = []
        for layer, kept, back in zip(self.layers, *both, strict=True):
            outputs_t, of_layer = layer.tangent(kept, back, [direction[name] for name in layer.names], outputs_t)
            forth.append(of_layer)
        assert outputs_t is not None
        return outputs_t, forth

    def backward_tangent(self, both: Pass, forth: Sequence[Kept], d_outputs_t: Tensor) -> dict[str, Tensor]:
        """How the derivatives by the parameters move, given how those by the outputs do."""
        found: dict[str, Tensor] = {}
        d_t: Tensor | None = d_outputs_t.contiguous()
        for layer, *passed in reversed(list(zip(self.layers, *both, forth, strict=True))):
            assert d_t is not None
            d_t, products = layer.backward_tangent(*passed, d_t)
            found |= zip(layer.names, products, strict=True)
        return found


class _Forward(torch.autograd.Function):
    """A stack's outputs as PyTorch differentiates them, twice if need be."""

    @staticmethod
    def forward(ctx: Any, stack: Stack, images: Tensor, *parameters: Tensor) -> Tensor:
        """Outputs `[n, d]`, given the parameters in the order of the stack's names."""
        outputs, ctx.kept = stack.forward(_named(stack, parameters), stack.inputs(images))
        ctx.stack = stack
        ctx.save_for_backward(*parameters)
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> Any:
        """See `torch.autograd.Function`."""
        return None, None, *_Backward.apply(ctx.stack, ctx.kept, *d_outputs, *ctx.saved_tensors)


class _Backward(torch.autograd.Function):
    """The derivatives by the parameters, as a function of those by the outputs and of the parameters."""

    @staticmethod
    def forward(
        ctx: Any, stack: Stack, kept: Sequence[Kept], d_outputs: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        found, ctx.both = stack.backward(kept, d_outputs)
        ctx.stack, ctx.like = stack, d_outputs
        return tuple(found[name] for name in stack.names)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *direction: Tensor) -> Any:
        # Σ direction · gradient is how d_outputs · outputs moves in the direction.
        outputs_t, forth = ctx.stack.tangent(ctx.both, _named(ctx.stack, direction))
        products = ctx.stack.backward_tangent(ctx.both, forth, torch.zeros_like(ctx.like))
        return None, None, outputs_t, *(products[name] for name in ctx.stack.names)


def _named(stack: Stack, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return dict(zip(stack.names, (tensor.detach() for tensor in tensors), strict=True))


def as_stack(made_of: Anatomy) -> Stack:
    """The stack of a network that is made of known layers."""
    (first, *others), mean, linears = made_of.blocks, made_of.mean, made_of.linears
    return Stack(
        FirstBlock(**vars(first)),
        (
            *(Block(**vars(block)) for block in others),
            Mean() if mean else Flatten(),
            *(Linear(**vars(linear)) for linear in linears),
        ),
    )

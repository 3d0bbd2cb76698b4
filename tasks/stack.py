"""A network that is a stack of known layers, with its first and second derivatives written out.

PyTorch's automatic differentiation serves any network. A stack of blocks of convolution, batch norm, ReLU and pooling,
as most of the few-shot literature's networks are, is served better: see `tasks.kernels` and `tasks.layers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tasks.layers import Block, FirstBlock, Flatten, Kept, Layer, Linear, Mean, Patches
from tasks.models import Classifier


class Pass(NamedTuple):
    """A pass through a stack and back: what each layer kept."""

    forward: Sequence[Kept]
    backward: Sequence[Kept]


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


def as_stack(module: nn.Module) -> Stack | None:
    """The module as a stack of layers, None where it is none or not on a CPU.

    A stack is one block or more of convolution without bias, batch norm by the batch at hand, ReLU and, it may be,
    max-pooling; the mean over each picture, it may be; then flattening and linear layers, with ReLU between.
    """
    leaves = _leaves(module)
    if leaves is None or any(value.device.type != "cpu" for value in module.parameters()):
        return None
    blocks, leaves = _take_blocks(leaves)
    if not blocks:
        return None
    if leaves and isinstance(leaves[0].module, nn.AdaptiveAvgPool2d) and leaves[0].module.output_size in (1, (1, 1)):
        reduce: Layer = Mean()
        leaves = leaves[1:]
    else:
        reduce = Flatten()
    if not leaves or not _is(leaves[0].module, nn.Flatten, start_dim=1, end_dim=-1):
        return None
    linears, leaves = _take_linears(leaves[1:])
    if leaves:
        return None
    first, *others = blocks
    assert isinstance(first, FirstBlock)
    return Stack(first, (*others, reduce, *linears))


class _Leaf(NamedTuple):
    name: str
    module: Any

    def parameter(self, of: str) -> str:
        return f"{self.name}.{of}" if self.name else of


def _leaves(module: nn.Module, name: str = "") -> list[_Leaf] | None:
    """The layers that a module calls one after the other; None where that can't be known."""
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    if type(module) is nn.Identity:
        return []
    if type(module) is Classifier or type(module) is nn.Sequential:
        parts = [_leaves(child, f"{name}.{own}" if name else own) for own, child in module.named_children()]
        known = [part for part in parts if part is not None]
        return [leaf for part in known for leaf in part] if len(known) == len(parts) else None
    return None if list(module.children()) else [_Leaf(name, module)]


def _take_blocks(leaves: list[_Leaf]) -> tuple[list[Layer], list[_Leaf]]:
    blocks: list[Layer] = []
    while len(leaves) >= 3:
        (convolution, norm, relu), rest = leaves[:3], leaves[3:]
        if not (_is_convolution(convolution.module) and _is_norm(norm.module) and _is(relu.module, nn.ReLU)):
            break
        pool = 1
        if rest and _is_pooling(rest[0].module):
            pool, rest = rest[0].module.kernel_size, rest[1:]
        names = convolution.parameter("weight"), norm.parameter("weight"), norm.parameter("bias")
        stride, padding = convolution.module.stride[0], convolution.module.padding[0]
        eps = norm.module.eps
        blocks.append(
            Block(names, stride, padding, pool, eps)
            if blocks
            else FirstBlock(names, convolution.module.kernel_size[0], stride, padding, pool, eps)
        )
        leaves = rest
    return blocks, leaves


def _take_linears(leaves: list[_Leaf]) -> tuple[list[Layer], list[_Leaf]]:
    linears: list[Layer] = []
    while leaves and type(leaves[0].module) is nn.Linear and leaves[0].module.bias is not None:
        relu = len(leaves) > 1 and _is(leaves[1].module, nn.ReLU)
        linears.append(Linear((leaves[0].parameter("weight"), leaves[0].parameter("bias")), relu))
        leaves = leaves[2 if relu else 1 :]
    return linears, leaves


def _is(module: Any, kind: type[nn.Module], **settings: Any) -> bool:
    """Whether a module is of this very class, set so."""
    return type(module) is kind and all(getattr(module, name) == value for name, value in settings.items())


def _is_convolution(module: Any) -> bool:
    plain = _is(module, nn.Conv2d, dilation=(1, 1), groups=1, bias=None, padding_mode="zeros")
    return plain and all(
        isinstance(pair, tuple) and pair[0] == pair[1] for pair in (module.kernel_size, module.stride, module.padding)
    )


def _is_norm(module: Any) -> bool:
    return _is(module, nn.BatchNorm2d, affine=True, running_mean=None)


def _is_pooling(module: Any) -> bool:
    plain = _is(module, nn.MaxPool2d, padding=0, dilation=1, ceil_mode=False, return_indices=False)
    return bool(plain and isinstance(module.kernel_size, int) and module.stride == module.kernel_size <= 15)

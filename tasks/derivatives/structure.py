"""The structure of a network that is a stack of known layers; its derivatives are in `tasks.derivatives.layers`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.models import Classifier


@dataclass(frozen=True)
class Block:
    """A convolution without bias, batch norm by the batch's own statistics, ReLU and, optionally, max-pooling."""

    names: tuple[str, str, str]  # names of the convolution's weight, batch norm's scale and shift
    channels: int  # the number of channels of its outputs
    geometry: Geometry  # of the convolution and of pooling
    eps: float  # the number that batch norm adds to the variance


@dataclass(frozen=True)
class Linear:
    """A linear layer, with ReLU after it or without."""

    names: tuple[str, str]  # names of its weight and bias
    relu: bool  # whether ReLU follows


@dataclass(frozen=True)
class Structure:
    """A stack of blocks; then the last feature maps, or their means, as vectors; then linear layers."""

    blocks: tuple[Block, ...]  # one or more
    mean: bool  # whether the vectors are the means of the feature maps; otherwise all their numbers, channel by channel
    linears: tuple[Linear, ...]  # any number, also none

    @property
    def names(self) -> list[str]:
        """Names of the parameters, layer by layer."""
        layers: tuple[Block | Linear, ...] = (*self.blocks, *self.linears)
        return [name for layer in layers for name in layer.names]


def structure_of(module: nn.Module) -> Structure | None:
    """A module's structure; None if the module is not a stack of known layers.

    The known layers are those of `Structure`. Each must have parameters of its own.
    """
    known = _leaves(module)
    if known is None:
        return None
    blocks, leaves = _take_blocks(known)
    if not blocks:
        return None
    mean = False
    if leaves and isinstance(leaves[0].module, nn.AdaptiveAvgPool2d) and leaves[0].module.output_size in (1, (1, 1)):
        mean, leaves = True, leaves[1:]
    if not leaves or not _is(leaves[0].module, nn.Flatten, start_dim=1, end_dim=-1):
        return None
    linears, leaves = _take_linears(leaves[1:])
    structure = Structure(tuple(blocks), mean, tuple(linears))
    # Parameters that several layers share have one name, that of the first.
    return None if leaves or structure.names != [name for name, _ in module.named_parameters()] else structure


class _Leaf(NamedTuple):
    name: str
    module: Any

    def parameter(self, of: str) -> str:
        return f"{self.name}.{of}" if self.name else of


def _leaves(module: nn.Module, name: str = "") -> list[_Leaf] | None:
    """The layers that a module calls one after the other; None if that can't be known."""
    if any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)):
        return None
    if type(module) is nn.Identity:
        return []
    if type(module) is Classifier or type(module) is nn.Sequential:
        # Not `named_children`, which names a layer once that is called in several places, as one ReLU may be.
        children = [(own, child) for own, child in module._modules.items() if child is not None]
        parts = [_leaves(child, f"{name}.{own}" if name else own) for own, child in children]
        known = [part for part in parts if part is not None]
        return [leaf for part in known for leaf in part] if len(known) == len(parts) else None
    return None if list(module.children()) else [_Leaf(name, module)]


def _take_blocks(leaves: Sequence[_Leaf]) -> tuple[list[Block], Sequence[_Leaf]]:
    blocks: list[Block] = []
    while len(leaves) >= 3:
        (convolution, norm, relu), rest = leaves[:3], leaves[3:]
        if not (_is_convolution(convolution.module) and _is_norm(norm.module) and _is(relu.module, nn.ReLU)):
            break
        pool = 1
        if rest and _is_pooling(rest[0].module):
            pool, rest = rest[0].module.kernel_size, rest[1:]
        names = convolution.parameter("weight"), norm.parameter("weight"), norm.parameter("bias")
        side, stride, padding = (part[0] for part in _sizes(convolution.module))
        geometry = Geometry(side, stride, padding, pool)
        blocks.append(Block(names, convolution.module.out_channels, geometry, norm.module.eps))
        leaves = rest
    return blocks, leaves


def _take_linears(leaves: Sequence[_Leaf]) -> tuple[list[Linear], Sequence[_Leaf]]:
    linears: list[Linear] = []
    while leaves and type(leaves[0].module) is nn.Linear and leaves[0].module.bias is not None:
        relu = len(leaves) > 1 and _is(leaves[1].module, nn.ReLU)
        linears.append(Linear((leaves[0].parameter("weight"), leaves[0].parameter("bias")), relu))
        leaves = leaves[2 if relu else 1 :]
    return linears, leaves


def _is(module: Any, kind: type[nn.Module], **settings: Any) -> bool:
    """Whether a module is of exactly this class, with these settings."""
    return type(module) is kind and all(getattr(module, name) == value for name, value in settings.items())


def _is_convolution(module: Any) -> bool:
    plain = _is(module, nn.Conv2d, dilation=(1, 1), groups=1, bias=None, padding_mode="zeros")
    return plain and all(isinstance(pair, tuple) and pair[0] == pair[1] for pair in _sizes(module))


def _sizes(module: Any) -> tuple[Any, Any, Any]:
    """A convolution's filter, stride and padding, down and across each."""
    return module.kernel_size, module.stride, module.padding


def _is_norm(module: Any) -> bool:
    return _is(module, nn.BatchNorm2d, affine=True, running_mean=None)


def _is_pooling(module: Any) -> bool:
    plain = _is(module, nn.MaxPool2d, padding=0, dilation=1, ceil_mode=False, return_indices=False)
    return bool(plain and isinstance(module.kernel_size, int) and module.stride == module.kernel_size <= 15)

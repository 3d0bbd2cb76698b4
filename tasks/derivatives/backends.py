"""Which kernels the layers compute with."""

import logging
from collections.abc import Sequence
from importlib.util import find_spec

import torch

from fanfold.data.advice import one_line
from fanfold.tasks.derivatives.layers import Kernels
from fanfold.tasks.derivatives.stack import Stack, as_stack
from fanfold.tasks.derivatives.structure import Anatomy
from fanfold.tasks.derivatives.torch_ops import first, norms
from fanfold.tasks.derivatives.torch_ops import products as unfolded
from fanfold.tasks.parameters import Shapes

PLAIN = Kernels(unfolded, norms, first)

_LOG = logging.getLogger(__name__)


def kernels_for(device: torch.device, precision: str, channels: Sequence[int]) -> Kernels:
    """Triton's on a GPU, for blocks of so many channels each; elsewhere, and for odd numbers, PyTorch's operations.

    Args:
        device: Where.
        precision: Of products on a GPU: `float32`, `tf32x3` or `tf32`, see `tasks.derivatives.triton_ops.products`.
        channels: Of what each block gives.
    """
    if device.type != "cuda" or find_spec("triton") is None:
        return PLAIN
    from fanfold.tasks.derivatives.triton_ops import first as fused_first  # only here: a CPU worker does without Triton
    from fanfold.tasks.derivatives.triton_ops import norms as fused_norms
    from fanfold.tasks.derivatives.triton_ops.products import Products, supports

    if not all(supports(count, count) for count in channels):
        return PLAIN
    products = Products("ieee" if precision == "float32" else precision)
    return Kernels(products, fused_norms, fused_first, moments=True)


def stack_for(made_of: Anatomy, shapes: Shapes, size: tuple[int, int], device: torch.device, precision: str) -> Stack:
    """The stack of a network that is made of known layers, with the best kernels that run on its device.

    Args:
        made_of: What it is made of.
        shapes: Its parameters' names and shapes, in the order of its flat vector.
        size: Height and width of the images.
        device: Where.
        precision: See `kernels_for`.
    """
    kernels = kernels_for(device, precision, [block.channels for block in made_of.blocks])
    stack = as_stack(made_of, shapes, size, kernels, device)
    if kernels is not PLAIN:
        try:
            _try(stack, shapes[made_of.blocks[0].names[0]][1], size, device)
        except Exception as error:  # whatever a compiler may raise for a GPU it doesn't know
            _LOG.warning("Triton's kernels don't run on this GPU (%s): PyTorch's are slower.", one_line(error))
            return as_stack(made_of, shapes, size, PLAIN, device)
    return stack


def _try(stack: Stack, channels: int, size: tuple[int, int], device: torch.device) -> None:
    """Have every kernel run once."""
    images = torch.rand(1, 2, channels, *size, device=device)
    theta = torch.rand(1, len(stack.layout.there), device=device)
    outputs, kept = stack.forward(theta, stack.first.seen(images))
    _, both = stack.backward(kept, torch.ones_like(outputs))
    outputs_t, forth = stack.tangent(both, theta)
    stack.backward_tangent(both, forth, torch.ones_like(outputs_t))
    torch.cuda.synchronize()

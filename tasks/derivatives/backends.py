"""The choice of a backend: the operations that a network's layers compute with."""

import logging
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from math import prod

import torch

from fanfold.data.advice import one_line
from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.protocol import Operations
from fanfold.tasks.derivatives.stack import Stack, as_stack
from fanfold.tasks.derivatives.structure import Block, Structure
from fanfold.tasks.derivatives.torch_ops import cross_entropy, first, linear, norms, products, vectors
from fanfold.tasks.parameters import Shapes, count

TORCH = Operations(products, norms, first, linear, cross_entropy, vectors)

TRIED_PIXELS = 1 << 18  # so many pictures' pixels fill the largest tiles of the blocks that have them

_LOG = logging.getLogger(__name__)


def numba_operations() -> Operations:
    """The operations on a CPU, compiled by Numba."""
    from fanfold.tasks.derivatives.numba_ops import first, norms, products  # only here: Numba takes its time

    return Operations(products, norms, first, linear, cross_entropy, vectors=None)


def triton_operations(precision: str) -> Operations:
    """The operations on a GPU, in Triton, with products of precision `float32`, `tf32x3` or `tf32`."""
    # Only here: a CPU worker does without Triton.
    from fanfold.tasks.derivatives.triton_ops import cross_entropy, first, kept, linear, norms, vectors
    from fanfold.tasks.derivatives.triton_ops.products import Products

    kept.find_folder()
    products = Products("ieee" if precision == "float32" else precision)
    return Operations(products, norms, first, linear, cross_entropy, vectors)


@cache
def triton_runs(device: torch.device) -> bool:
    """Whether Triton's kernels run on a device."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    from fanfold.tasks.derivatives.triton_ops import kept
    from fanfold.tasks.derivatives.triton_ops.launches import folded

    kept.find_folder()
    try:
        folded(torch.ones(1, 2, 1, device=device))
        torch.cuda.synchronize()
    except Exception as error:  # whatever a compiler may raise for a GPU it doesn't know
        _LOG.warning("Triton's kernels don't run on this GPU (%s): PyTorch's are slower.", one_line(error))
        return False
    return True


def operations_for(device: torch.device, precision: str, channels: Sequence[int]) -> Operations:
    """The operations for vectorized tasks: Triton's on a GPU if it has kernels for blocks of so many channels each."""
    if device.type != "cuda" or find_spec("triton") is None:
        return TORCH
    from fanfold.tasks.derivatives.triton_ops.products import supports

    return triton_operations(precision) if all(supports(number, number) for number in channels) else TORCH


def stack_for(
    structure: Structure,
    shapes: Shapes,
    size: tuple[int, int],
    device: torch.device,
    *,
    vectorized: bool,
    precision: str,
) -> Stack | None:
    """The stack of a network of known structure, on the fastest backend that runs on its device.

    Tasks that are not vectorized have a stack on a CPU alone, and only with Numba: elsewhere PyTorch is as fast. The
    network's vector of parameters has the order of the shapes; for `precision`, see `triton_operations`.
    """
    if not vectorized:
        if device.type != "cpu" or find_spec("numba") is None:
            return None
        return as_stack(structure, shapes, size, numba_operations(), device)
    operations = operations_for(device, precision, [block.channels for block in structure.blocks])
    stack = as_stack(structure, shapes, size, operations, device)
    if operations is not TORCH:
        try:
            _try(stack, shapes, size, device)
        except Exception as error:  # whatever a compiler may raise for a GPU it doesn't know
            _LOG.warning("Triton's kernels don't run on this GPU (%s): PyTorch's are slower.", one_line(error))
            return as_stack(structure, shapes, size, TORCH, device)
    return stack


@cache
def compile_kernels() -> str | None:
    """Compile Numba's kernels for this process, or take those that another process of this machine has compiled.

    Several processes that begin together don't compile the same kernels: one does, the others wait.

    Returns:
        Why the kernels can't be kept on disk; None where they can.
    """
    from fanfold.tasks.derivatives.numba_ops import compiled, kernels

    blocks = tuple(
        Block((f"{place}.weight", f"{place}.scale", f"{place}.shift"), 1, Geometry(3, 1, 1, 2), 1e-5) for place in "01"
    )
    shapes = {name: torch.Size((1, 1, 3, 3) if name.endswith("weight") else (1,)) for b in blocks for name in b.names}
    size, device = (4, 4), torch.device("cpu")
    with compiled.compiling_alone(kernels.forward):
        _try(as_stack(Structure(blocks, False, ()), shapes, size, numba_operations(), device), shapes, size, device)
    return compiled.problem()


def kernels_problem() -> str | None:
    """Why this process's kernels can't be kept on disk, which its log says; None where they can, or nobody tried."""
    from fanfold.tasks.derivatives.numba_ops import compiled

    return compiled.problem()


def _try(stack: Stack, shapes: Shapes, size: tuple[int, int], device: torch.device) -> None:
    """Run every operation once, on a GPU for many tasks, too: a kernel of larger tiles needs more of it."""
    channels = shapes[stack.first.names[0]][1]
    for tasks in tried_tasks(size, device):
        images = torch.rand(tasks, 2, channels, *size, device=device)
        parameters = stack.layout.split(stack.layout.lay_out(torch.rand(count(shapes), device=device)))
        outputs, kept = stack.forward(parameters, stack.first.patches(images))
        _, both = stack.backward(kept, torch.ones_like(outputs))
        outputs_t, forth = stack.tangent(both, parameters)
        stack.backward_tangent(both, forth, torch.ones_like(outputs_t))
    if device.type == "cuda":
        torch.cuda.synchronize()


def tried_tasks(size: tuple[int, int], device: torch.device) -> tuple[int, ...]:
    """Numbers of tasks, of two images each, with which operations are tried."""
    return (1,) if device.type == "cpu" else (1, max(2, TRIED_PIXELS // prod(size)))

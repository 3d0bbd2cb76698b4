"""The parts of the check by name, in the order in which they run: what matters most first."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A part: a module of this package with a function `measure`, that takes Options and yields rows.

    Args:
        module: The module's name.
        title: What the report calls it.
        seconds: How long it takes on an H200 with 16 cores, by estimate, with the start of its process.
        decides: Whether its checks decide over the exit status.
        shared: Whether it is computed in the one process that parts share. Those that start processes, or whose
            libraries set up the device for themselves, are not.
        settings: In which settings it measures rates; where none is named, those that are asked for.
    """

    module: str
    title: str
    seconds: float
    decides: bool = False
    shared: bool = True
    settings: tuple[str, ...] = ()


PARTS = {
    "correctness": Part("correctness", "Gradients against float64 on the CPU", 56, decides=True),
    "compile": Part("compiling", "Kernels compiled for what is measured", 34),
    "fanfold": Part("fanfold", "Meta-gradients by Fanfold, setting (a)", 22, settings=("a",)),
    "autograd": Part("autograd", "Meta-gradients task after task, setting (a): higher, autograd", 16, settings=("a",)),
    "vmap": Part("vmapped", "Meta-gradients by torch.func.vmap in a CUDA graph", 20),
    "jax": Part("with_jax", "Meta-gradients by JAX, jit and vmap", 48, shared=False),
    "window": Part("window", "A whole training run over a CUDA cluster", 95, shared=False),
    "meta-test": Part("meta_test", "Meta-test: 5-way 1-shot, 1 query a class, 3 inner steps", 12),
    "memory": Part("memory", "Memory against inner steps", 10),
    "loop": Part("bare_loop", "A rank's loop on its device, without Dask", 14, shared=False),
    "ceilings": Part("ceilings", "What the device can do", 5),
    "fanfold-others": Part("fanfold", "Meta-gradients by Fanfold, other settings", 26, settings=("b", "c", "d")),
    "tests": Part("marked_tests", "The suite's tests marked `gpu`", 55, decides=True, shared=False),
    "autograd-others": Part("autograd", "Meta-gradients task after task, other settings", 24, settings=("b", "c", "d")),
    "kernels": Part("kernels", "Kernels by time", 14),
    "search": Part("search", "A search over a CUDA cluster", 18, shared=False),
}


def scale(names: Sequence[str], seconds: float) -> float:
    """How many times as long as estimated parts may take, to be at their end together after so many seconds."""
    return seconds / sum(PARTS[name].seconds for name in names)

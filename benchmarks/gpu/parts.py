"""The parts of the check by name, in the order in which they run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A part: a module of this package with a function `measure`, that takes Options and yields rows.

    Args:
        module: The module's name.
        title: What the report calls it.
        seconds: How long it may take.
        decides: Whether its checks decide over the exit status.
    """

    module: str
    title: str
    seconds: float
    decides: bool = False


PARTS = {
    "ceilings": Part("ceilings", "What the device can do", 40),
    "correctness": Part("correctness", "Gradients against float64 on the CPU", 100, decides=True),
    "fanfold": Part("fanfold", "Meta-gradients by Fanfold", 120),
    "autograd": Part("autograd", "Meta-gradients task after task: higher, plain autograd", 40),
    "vmap": Part("vmapped", "Meta-gradients by torch.func.vmap in a CUDA graph", 60),
    "jax": Part("with_jax", "Meta-gradients by JAX, jit and vmap", 75),
    "loop": Part("bare_loop", "A rank's loop on its device, without Dask", 45),
    "window": Part("window", "A whole training run over a CUDA cluster", 260),
    "meta-test": Part("meta_test", "Meta-test: 5-way 1-shot, 1 query a class, 3 inner steps", 30),
    "memory": Part("memory", "Memory against inner steps", 30),
    "kernels": Part("kernels", "Kernels by time", 45),
    "tests": Part("marked_tests", "The suite's tests marked `gpu`", 150, decides=True),
    "search": Part("search", "A search over a CUDA cluster", 75),
}

"""The kernels of a meta-iteration compiled for a GPU that isn't there: `python -m benchmarks.ahead`.

Triton compiles as it does where a kernel is first launched, for the GPU named, and launches nothing; a line for each
kernel says what it needs. `benchmarks.warm_cache` keeps what comes of it for a machine that has such a GPU.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from fanfold.pipeline.recipe import Recipe

ARCHITECTURE = 90  # of an H100 or H200
REGISTERS, SHARED = 65_536, 227 * 1024  # of one of its multiprocessors; bytes that a block may have
STACK = 32  # bytes that a thread may keep beyond its registers: eight numbers
PRODUCTS = {"_gathered", "_by_filters"}  # of `triton_ops.products`, which tensor cores compute


class Pointer:
    """A tensor as Triton's compiler sees it: a type, and whether the address is a multiple of 16."""

    def __init__(self, dtype: Any, address: int) -> None:
        self.dtype, self._address = dtype, address

    def data_ptr(self) -> int:
        return self._address

    def ptr_range(self) -> int:
        return 0


class Machine:
    """In place of Triton's driver: a machine with one such GPU."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", ARCHITECTURE, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@dataclass(frozen=True)
class Compiled:
    """What a kernel needs."""

    name: str
    constants: dict[str, Any]
    warps: int
    registers: int  # a thread's
    stack: int  # bytes that a thread needs beyond its registers
    shared: int  # bytes of a block
    ptx: str

    @property
    def copies(self) -> Counter[int]:
        """Asynchronous copies from memory, by their bytes."""
        sizes = re.findall(r"cp\.async\.c[ag]\.shared\.global [^;]*?, (0x[0-9a-f]+|\d+)[,;]", self.ptx)
        return Counter(int(size, 0) for size in sizes)

    @property
    def tensor_cores(self) -> str:
        """Their instruction; empty without one."""
        found = re.search(r"wgmma\.mma_async|mma\.sync", self.ptx)
        return found.group() if found else ""

    @property
    def wide(self) -> bool:
        """Whether it reads 16 bytes at a time."""
        return 16 in self.copies or bool(re.search(r"ld\.global[.\w]*\.v4", self.ptx))

    @property
    def faults(self) -> list[str]:
        """What is wrong with it, in words."""
        found = {
            f"keeps {self.stack} bytes of a thread in memory": self.stack > STACK,
            f"needs {self.registers} registers a thread": self.registers * 32 * self.warps > REGISTERS,
            f"needs {self.shared} bytes of shared memory": self.shared > SHARED,
            f"copies {dict(self.copies)} asynchronously, by bytes": self.name in PRODUCTS and 4 in self.copies,
            "uses no tensor cores": self._by_tensor_cores and not self.tensor_cores,
        }
        return [f"{self} {words}" for words, wrong in found.items() if wrong]

    @property
    def _by_tensor_cores(self) -> bool:
        return self.name in PRODUCTS and self.constants["PRECISION"] != "ieee"

    def __str__(self) -> str:
        shown = "PRECISION", "TRANSPOSED", "PAIRS", "MOMENTS", "TANGENT", "ROWS", "COLUMNS", "DEPTH", "HEIGHT", "STRIDE"
        constants = " ".join(f"{name}={self.constants[name]}" for name in shown if name in self.constants)
        return f"{self.name.lstrip('_')} {constants} warps={self.warps}"


@contextmanager
def compiling(only: set[Any] | None = None) -> Iterator[dict[Any, Compiled]]:
    """While it is open, kernels that are launched are compiled and not run; what they need, by kernel and constants.

    Args:
        only: Names of constants: of kernels that differ in no others, the first alone is compiled.
    """
    import triton
    from torch import Tensor

    found: dict[Any, Compiled] = {}
    real = triton.runtime.JITFunction.run

    def compile_only(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        known = [(name, value) for name, value in constants.items() if only is None or name in only]
        integers = [] if only is not None else [(value == 1, value % 16) for value in arguments if type(value) is int]
        given = [_pointer(value) if isinstance(value, Tensor) else value for value in arguments]
        addresses = [value.data_ptr() for value in given if only is None and isinstance(value, Pointer)]
        key = kernel.__module__, kernel.__name__, *known, *integers, *addresses
        if key not in found:
            found[key] = _measured(real(kernel, *given, grid=grid, warmup=True, **constants), constants)

    driver = triton.runtime.driver
    before = driver._active
    driver.set_active(Machine())
    try:
        with patch.object(triton.runtime.JITFunction, "run", compile_only):
            yield found
    finally:
        driver._active = before


def _pointer(tensor: Any) -> Pointer:
    # What PyTorch allocates begins at a multiple of 16 bytes.
    return Pointer(tensor.dtype, tensor.storage_offset() * tensor.element_size() % 16)


def _measured(kernel: Any, constants: dict[str, Any]) -> Compiled:
    import triton

    usage = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        told = subprocess.run([usage, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.findall(rf"{word}:(\d+)", told)[0]) for word in ("REG", "STACK"))
    metadata = kernel.metadata
    needs = metadata.num_warps, registers, stack, metadata.shared
    return Compiled(metadata.name, constants, *needs, kernel.asm["ptx"])


def options(doc: str | None) -> argparse.ArgumentParser:
    """The arguments that say what to compile, with which Triton."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--triton", help="a folder that another version was put into by `pip --target`")
    parser.add_argument(
        "--settings", nargs="+", default=["a"], help="of `fanfold benchmark --suite peers`, or `stride`"
    )
    parser.add_argument("--precisions", nargs="+", default=["tf32"], choices=["float32", "tf32x3", "tf32"])
    parser.add_argument("--tasks", nargs="+", type=int, default=[32])
    return parser


def chosen(arguments: argparse.Namespace) -> "Iterator[Recipe]":
    """What those arguments ask for; `stride` is (a) with the network of strides."""
    from benchmarks.launches import setting
    from fanfold.tasks.models import Conv4Stride

    for name, precision, tasks in product(arguments.settings, arguments.precisions, arguments.tasks):
        recipe = setting("a" if name == "stride" else name, tasks, precision)
        yield replace(recipe, model=Conv4Stride()) if name == "stride" else recipe


def _most(kernels: Sequence[Compiled]) -> str:
    """What any of them needs at most."""
    registers, stack, shared = (
        max(getattr(kernel, name) for kernel in kernels) for name in ("registers", "stack", "shared")
    )
    by_cores = sum(bool(kernel.tensor_cores) for kernel in kernels)
    needs = f"{registers} registers, {stack} bytes of stack and {shared} of shared memory"
    return f"{len(kernels)} kernels, {by_cores} of them by tensor cores, with at most {needs};"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each kernel; the exit status says whether all are as they should be."""
    arguments = options(__doc__).parse_args(argv)
    if arguments.triton:
        sys.path.insert(0, arguments.triton)
    import triton

    from benchmarks.launches import meta_iteration

    print(f"Triton {triton.__version__}")
    faults: list[str] = []
    with compiling() as found:
        for recipe in chosen(arguments):
            before = len(found)
            meta_iteration(recipe, counted=False)
            for kernel in list(found.values())[before:]:
                needs = f"{kernel.registers:3} registers {kernel.shared:6} B shared"
                print(f"{needs}  {kernel}  {kernel.tensor_cores} {dict(kernel.copies) or ''}", flush=True)
                faults += kernel.faults
    print(_most(list(found.values())), "; ".join(faults) or "none with a fault")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())

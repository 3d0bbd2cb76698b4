"""Times of the kernels for a GPU, and of convolution's products by tile: `python -m benchmarks.gpu_kernels`.

For the blocks of the pooled network of 64 channels. Beside the products by each tile stand those by PyTorch's
operations, of what is unfolded, and by cuDNN's convolutions in groups. Operations are those of the products; bytes
those that must be read and written at least once. Needs a CUDA device.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import chain, product
from typing import Any

import torch
from torch import Tensor
from triton.testing import do_bench

from benchmarks.gpu.grouped import Grouped
from benchmarks.gpu.settings import deterministic
from benchmarks.gpu.settings import precision as of_pytorch
from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.torch_ops import first
from fanfold.tasks.derivatives.torch_ops import products as unfolded
from fanfold.tasks.derivatives.triton_ops import first as fused_first
from fanfold.tasks.derivatives.triton_ops import norms as fused_norms
from fanfold.tasks.derivatives.triton_ops import products as fused_products
from fanfold.tasks.derivatives.triton_ops.products import Products, Tile

CHANNELS = 64
TILES = {
    "places": [
        *((64, 64, 32, 2, 3), (64, 64, 32, 4, 3), (64, 64, 64, 4, 3), (64, 32, 32, 4, 3), (64, 16, 64, 4, 3)),
        *((128, 64, 16, 4, 4), (128, 64, 32, 4, 3), (128, 64, 32, 8, 3), (128, 64, 64, 8, 2), (256, 64, 32, 8, 3)),
    ],
    "filters": [
        *((64, 64, 16, 2, 4), (64, 64, 32, 2, 3), (64, 64, 32, 4, 3), (64, 64, 64, 4, 3), (64, 64, 32, 8, 3)),
        *((64, 32, 32, 2, 3), (64, 32, 32, 4, 3), (32, 64, 32, 2, 3)),
    ],
}


def main() -> None:
    """Print a line for each kernel and tile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--sides", type=int, nargs="+", default=[14, 7, 3])
    parser.add_argument("--precisions", nargs="+", default=["ieee", "tf32x3", "tf32"])
    parser.add_argument("--chosen", action="store_true", help="the tiles that are chosen, alone")
    arguments = parser.parse_args()
    for tasks in arguments.tasks:
        others = (between(tasks, arguments.images, side) for side in arguments.sides)
        for name, run, moved in chain(of_first(tasks, arguments.images), *others):
            time = milliseconds(run)
            print(f"{tasks:4d} tasks  {name:34s} {1e3 * time:8.1f} µs  {moved / time / 1e9:6.2f} TB/s", flush=True)
        for side, precision in product(arguments.sides, arguments.precisions):
            products = tiled(tasks, arguments.images, side, precision, arguments.chosen)
            if precision != "tf32x3":  # which PyTorch has not
                products = chain(products, by_pytorch(tasks, arguments.images, side))
            with deterministic(), of_pytorch(precision):
                for name, run, operations in products:
                    time = milliseconds(run)
                    rate = f"{operations / time / 1e9:6.1f} TFLOP/s"
                    print(
                        f"{tasks:4d} tasks  {precision:6s} {side:2d} × {side:<2d} {name} {1e3 * time:8.1f} µs  {rate}",
                        flush=True,
                    )


def milliseconds(run: Callable[[], Any]) -> float:
    """The median, infinite where a tile asks for more than the GPU has."""
    try:
        return float(do_bench(run, warmup=5, rep=25, return_mode="median"))
    except Exception as error:  # Triton has no common class for what can't be compiled or launched
        print(f"  {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return float("inf")


def tiled(
    tasks: int, images: int, side: int, precision: str, chosen: bool
) -> Iterator[tuple[str, Callable[[], Any], float]]:
    """The three products with each tile, the chosen one first, and their operations."""
    pictures, values, filters, operations = problem(tasks, images, side)
    products = Products(precision)
    kinds: dict[str, tuple[str, Callable[[], Any]]] = {
        "convolve": ("places", lambda: products.convolve_with_moments([(pictures, filters)], 1, 1)),
        "by_inputs": ("places", lambda: products.by_inputs([(values, filters)], (side, side), 1, 1)),
        "by_filters": ("filters", lambda: products.by_filters([(pictures, values)], 3, 1, 1)),
    }
    for name, (kind, run) in kinds.items():
        choice = f"tile_of_{kind}"
        usual = getattr(fused_products, choice)
        yield f"{name:10s} {'chosen':22s}", run, operations
        for tile in [] if chosen else TILES[kind]:
            setattr(fused_products, choice, lambda *_, tile=tile: Tile(*tile))
            try:
                yield f"{name:10s} {tile!s:22s}", run, operations
            finally:
                setattr(fused_products, choice, usual)


def by_pytorch(tasks: int, images: int, side: int) -> Iterator[tuple[str, Callable[[], Any], float]]:
    """The three products as PyTorch has them, and their operations."""
    pictures, values, filters, operations = problem(tasks, images, side)
    sides = {
        "unfolded": (
            lambda: unfolded.convolve([(pictures, filters)], 1, 1),
            lambda: unfolded.by_inputs([(values, filters)], (side, side), 1, 1),
            lambda: unfolded.by_filters([(pictures, values)], 3, 1, 1),
        )
    }
    for words, memory_format in (("cuDNN", torch.contiguous_format), ("cuDNN, channels last", torch.channels_last)):
        grouped = Grouped(pictures, values, filters, memory_format)
        sides[words] = grouped.convolve, grouped.by_inputs, grouped.by_filters
    for words, runs in sides.items():
        for name, run in zip(("convolve", "by_inputs", "by_filters"), runs, strict=True):
            yield f"{name:10s} {words:22s}", run, operations


def problem(tasks: int, images: int, side: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Inputs, derivatives by outputs, filters, and the operations of one product of theirs."""
    pictures, values = (torch.randn(tasks, images, side, side, CHANNELS, device="cuda") for _ in range(2))
    filters = torch.randn(tasks, 3, 3, CHANNELS, CHANNELS, device="cuda")
    return pictures, values, filters, 2.0 * tasks * images * side * side * 9 * CHANNELS * CHANNELS


def between(tasks: int, images: int, side: int) -> Iterator[tuple[str, Callable[[], Any], float]]:
    """What lies between the products, and the bytes that it moves."""
    x, x_t = (torch.randn(tasks, images, side, side, CHANNELS, device="cuda") for _ in range(2))
    scale = torch.ones(tasks, CHANNELS, device="cuda")
    norm = fused_norms.forward(x, scale, scale, 1e-5, 2)
    d_z = torch.randn_like(norm.z)
    back = fused_norms.backward(norm, x, d_z, 2)[1]
    forth = fused_norms.tangent(norm, x, x_t, scale, scale, 2)
    whole, pooled = 4 * x.numel(), 4 * d_z.numel()
    passes: list[tuple[str, Callable[[], Any], float]] = [
        ("forward", lambda: fused_norms.forward(x, scale, scale, 1e-5, 2), 2 * whole + 2.25 * pooled),
        ("backward", lambda: fused_norms.backward(norm, x, d_z, 2), 2 * whole + 5.25 * pooled),
        ("tangent", lambda: fused_norms.tangent(norm, x, x_t, scale, scale, 2), 3 * whole + 4.25 * pooled),
        (
            "backward_tangent",
            lambda: fused_norms.backward_tangent(norm, back, forth, x, x_t, d_z, 2),
            3 * whole + 8.25 * pooled,
        ),
    ]
    for name, run, moved in passes:
        yield f"{side:2d} × {side:<2d} {name}", run, moved


def of_first(tasks: int, images: int) -> Iterator[tuple[str, Callable[[], Any], float]]:
    """The first block, of images of 28 × 28."""
    geometry = Geometry(3, 1, 1, 2)
    seen = first.patches_of(torch.randn(tasks, images, 28, 28, 1, device="cuda"), geometry)
    matrix: Tensor = torch.randn(tasks, 9, CHANNELS, device="cuda")
    ones = torch.ones(tasks, CHANNELS, device="cuda")
    norm = fused_first.forward(seen, matrix, ones, ones, ones, ones, 1e-5)
    d_z = torch.randn_like(norm.z)
    back = fused_first.backward(norm, seen, d_z)[1]
    forth = fused_first.tangent(norm, seen, matrix, ones, ones, ones, ones)
    pooled = 4.0 * d_z.numel()
    yield (
        "first forward",
        lambda: fused_first.forward(seen, matrix, ones, ones, ones, ones, 1e-5),
        2.25 * pooled,
    )
    yield "first backward", lambda: fused_first.backward(norm, seen, d_z), 4.25 * pooled
    yield (
        "first tangent",
        lambda: fused_first.tangent(norm, seen, matrix, ones, ones, ones, ones),
        4.25 * pooled,
    )
    yield (
        "first backward_tangent",
        lambda: fused_first.backward_tangent(norm, back, forth, seen, d_z),
        5.25 * pooled,
    )


if __name__ == "__main__":
    main()

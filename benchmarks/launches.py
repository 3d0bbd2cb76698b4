"""The nodes of a meta-iteration's CUDA graph, and the bytes that they move: `python -m benchmarks.launches`.

Needs no GPU. A `DeviceLoop` computes one meta-iteration on tensors that have shapes and no numbers; what would be
launched is counted. Of a kernel of Triton's the bytes are those of its arguments, of PyTorch's those of operands and
result: each is read or written once. Of the resident images, only those count that are gathered.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, cast
from unittest.mock import patch

import numpy as np
import torch
import triton
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.floors import bytes_of_a_task
from fanfold.pipeline import worker
from fanfold.pipeline.executors.device_loop import DeviceLoop
from fanfold.pipeline.executors.segments import Share
from fanfold.pipeline.recipe import Meta, Recipe
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.derivatives import backends
from fanfold.tasks.derivatives.stack import OneVector, as_stack
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.device.resident import Resident
from fanfold.tasks.models import build_network
from fanfold.tasks.network import as_network
from fanfold.tasks.parameters import count
from fanfold.workflows.benchmark.peers.settings import SETTINGS

SIZE, CLASSES, PICTURES = (28, 28), 1000, 20
DEVICE = torch.device("cuda")
FREE = {"empty", "empty_strided", "new_empty", "new_empty_strided", "empty_like", "_unsafe_view", "lift_fresh"}


class Node(NamedTuple):
    """What a graph launches."""

    name: str
    bytes: int


class _Counted(TorchDispatchMode):
    """Counts PyTorch's operations that launch something."""

    def __init__(self, nodes: list[Node], gathered: dict[int, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._nodes, self._gathered = nodes, gathered

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.name().removeprefix("aten::").split(".")[0]
        if not func.is_view and name not in FREE and not name.startswith("prim::"):
            self._nodes.append(Node(name, moved([args, kwargs, found], self._gathered)))
        return found


@contextmanager
def counting(gathered: dict[int, int]) -> Iterator[list[Node]]:
    """Nodes of what is computed while it is open; `gathered` has the bytes that are read of some tensors' memory."""
    nodes: list[Node] = []

    def note(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        nodes.append(Node(f"triton {kernel.__name__}", moved([arguments, constants], gathered)))

    with patch.object(triton.runtime.JITFunction, "run", note), _Counted(nodes, gathered):
        yield nodes


def moved(values: Any, gathered: dict[int, int]) -> int:
    """The bytes of all distinct tensors in nested lists."""
    found: dict[tuple[Any, ...], int] = {}
    for tensor in _tensors(values):
        memory = cast(Any, tensor.untyped_storage())._cdata
        apart = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
        numbers = int(np.prod(apart)) if tensor.numel() else 0
        place = memory, tensor.storage_offset(), numbers
        found[place] = gathered.get(memory, numbers * tensor.element_size())
    return sum(found.values())


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def meta_iteration(recipe: Recipe, counted: bool = True) -> list[Node]:
    """The nodes of a meta-iteration of a GPU that is alone, of images of `SIZE`.

    Not counted, kernels are launched: by whoever has taken the place of Triton's launcher, see `benchmarks.ahead`.
    """
    module = build_network(recipe.model, recipe.train.ways, SIZE, 0)
    network = as_network(module, SIZE, recipe.train.ways)
    structure = structure_of(module)
    assert structure is not None
    operations = backends.triton_operations(recipe.meta.precision)
    stack = as_stack(structure, network.shapes, SIZE, operations, torch.device("cpu"))
    assert isinstance(stack.layout, OneVector)
    runs = patch.object(backends, "triton_runs", return_value=True)
    with FakeTensorMode() as mode, patch.object(worker, "open_context") as opened, runs:
        layout = stack.layout
        there, source, back = (mode.from_tensor(part).to(DEVICE) for part in (layout.there, layout.source, layout.back))
        stack = replace(stack, layout=replace(layout, there=there, source=source, back=back), device=DEVICE)
        network = replace(network, stack=stack, vectorized=True, draws=False)
        pixels = torch.empty(CLASSES * PICTURES, 1, SIZE[0] * SIZE[1], dtype=torch.uint8, device=DEVICE)
        sources = torch.empty(8, SIZE[0] * SIZE[1], dtype=torch.int64, device=DEVICE)
        first = np.arange(0, CLASSES * PICTURES, PICTURES)
        resident = Resident(pixels, sources, torch.empty((), device=DEVICE), SIZE, first, ink=True)
        images = SimpleNamespace(counts=np.full(CLASSES, PICTURES))
        parts = {"images": images, "network": network, "resident": resident}
        opened.return_value = SimpleNamespace(**parts, classes=lambda stream: np.arange(CLASSES))
        loop = DeviceLoop(recipe, Share(0, 1, tuple(recipe.meta.chunks())), count(network.shapes))
        shape = recipe.train
        read = recipe.meta.batch * shape.ways * (shape.shots + shape.queries) * pixels[0].numel()
        memory = cast(Any, pixels.untyped_storage())._cdata
        nodes: list[Node] = []
        with counting({memory: read}) if counted else nullcontext(nodes) as nodes:
            loop._iterate_alone(recipe.algorithm.phase(0))
    return nodes


def least_bytes(recipe: Recipe) -> int:
    """The floor of a meta-batch, see `benchmarks.gpu.floors`."""
    module, shape = build_network(recipe.model, recipe.train.ways, SIZE, 0), recipe.train
    structure = structure_of(module)
    assert structure is not None
    assert isinstance(recipe.algorithm, Maml)
    shapes = {name: value.shape for name, value in module.named_parameters()}
    images = shape.ways * shape.shots, shape.ways * shape.queries
    return recipe.meta.batch * bytes_of_a_task(structure, shapes, SIZE, *images, recipe.algorithm)


def setting(name: str, tasks: int = 32, precision: Literal["float32", "tf32x3", "tf32"] = "tf32") -> Recipe:
    """A setting of `fanfold benchmark --suite peers` as a run's recipe, with all tasks of a meta-batch in one chunk."""
    known = SETTINGS[name]
    meta = Meta(batch=tasks, chunk=tasks, iterations=1, average=0.99, precision=precision)
    shape, algorithm = known.shape, replace(known.algorithm, differentiation="reverse")
    return Recipe(0, "", "alphabets", algorithm, known.model, shape, shape, None, meta, device="cuda")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the nodes by name, with their bytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", default="a", choices=SETTINGS)
    parser.add_argument("--tasks", type=int, default=32)
    arguments = parser.parse_args(argv)
    recipe = setting(arguments.setting, arguments.tasks)
    nodes = meta_iteration(recipe)
    launches, bytes_ = Counter(node.name for node in nodes), Counter[str]()
    for node in nodes:
        bytes_[node.name] += node.bytes
    for name, number in sorted(launches.items(), key=lambda item: -bytes_[item[0]]):
        print(f"{number:4d}  {bytes_[name] / 1e6:8.2f} MB  {name}")
    least = least_bytes(recipe)
    total = sum(bytes_.values())
    print(f"{len(nodes):4d}  {total / 1e6:8.2f} MB  in all; {total / least:.2f} of the floor of {least / 1e6:.0f} MB")


if __name__ == "__main__":
    main()

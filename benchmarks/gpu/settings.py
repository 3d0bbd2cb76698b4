"""The settings of `workflows.benchmark --suite peers`: their tasks, networks, and gradients to compare with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.gpu.options import Options
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import build_network
from fanfold.workflows.benchmark.peers.loop import prepare
from fanfold.workflows.benchmark.peers.settings import SETTINGS, Setting

SIZE = (28, 28)
CHECKED = 32  # tasks whose summed gradient is compared: a meta-batch of MAML's
MANY = 512  # tasks at a time, so many that a device is full


def settings(options: Options) -> dict[str, Setting]:
    """The settings by name; in a rehearsal, the smallest, of narrow networks."""
    if not options.quick:
        return SETTINGS
    return {name: replace(SETTINGS[name], model=replace(SETTINGS[name].model, width=16)) for name in ("a", "d")}


def measured(options: Options) -> list[str]:
    """Names of the settings in which a part measures rates."""
    return [name for name in settings(options) if name in options.settings]


def checked(options: Options) -> int:
    """Tasks whose summed gradient is compared."""
    return 2 if options.quick else CHECKED


def module_of(setting: Setting) -> nn.Module:
    """A setting's network, initialized as a run with seed 0 has it."""
    return build_network(setting.model, setting.shape.ways, SIZE, 0)


def tasks_of(shape: EpisodeShape, count: int, device: torch.device, seed: int = 0) -> TaskBatch:
    """Tasks of random strokes in shades of grey, the first of which are always the same."""
    label = torch.arange(shape.ways)

    def strokes(each: int, stream: int) -> Tensor:
        generator = torch.Generator().manual_seed(2 * seed + stream)
        one = (shape.ways * each, 1, *SIZE)
        rolls = torch.stack([torch.rand(one, generator=generator) for _ in range(count)])
        return ((rolls - 0.7).relu_() / 0.3).to(device)  # here, as devices divide otherwise

    support, query = strokes(shape.shots, 0), strokes(shape.queries, 1)
    labels = [label.repeat_interleave(each).to(device) for each in (shape.shots, shape.queries)]
    return TaskBatch(support, labels[0], query, labels[1], shape.ways)


def reference(name: str, options: Options) -> Tensor:
    """The summed gradient `[P]` of a setting's first tasks in float64, by a plain loop over PyTorch's own autograd.

    Computed once a check, on the device; that the device is right in this is what `correctness` sees.
    """
    path = options.scratch / f"reference-{name}.pt"
    if path.exists():
        known: Tensor = torch.load(path)
        return known
    found = exact_gradient(settings(options)[name], checked(options), options.place)
    torch.save(found, path)
    return found


def exact_gradient(setting: Setting, count: int, device: torch.device) -> Tensor:
    """See `reference`."""
    tasks = tasks_of(setting.shape, count, device)
    exact = replace(tasks, support=tasks.support.double(), query=tasks.query.double())
    compute = prepare(module_of(setting).double().to(device), setting.algorithm.inner_lr, setting.algorithm.inner_steps)
    return compute(exact).cpu()


def difference(found: Tensor, expected: Tensor) -> float:
    """The distance of two vectors as a share of the second's length."""
    found, expected = found.detach().double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm())


@contextmanager
def deterministic() -> Iterator[None]:
    """Convolutions as a worker has them from cuDNN: the same every time, in float32."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = True, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = before


@contextmanager
def precision(name: str) -> Iterator[None]:
    """PyTorch's own products in `float32`, or by tensor cores in `tf32`."""
    fast = name == "tf32"
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = fast
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before

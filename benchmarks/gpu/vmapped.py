"""Meta-gradients a second by what PyTorch offers for many tasks at once: `torch.func.vmap` over them, in a CUDA graph.

The network is `benchmarks.gpu.functional`'s, in two ways of convolving and two precisions. At the first setting all
four are measured, at the others the fastest of each precision.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import grad, vmap

from benchmarks.gpu import functional
from benchmarks.gpu.options import Options, Row
from benchmarks.gpu.settings import MANY, checked, difference, module_of, precision, reference, settings, tasks_of
from benchmarks.gpu.sides import PRECISIONS
from benchmarks.gpu.timing import Replayed, seconds_of
from benchmarks.gpu.ways import by_ways
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.models import Conv4
from fanfold.workflows.benchmark.peers.settings import Setting

CONVOLUTIONS: tuple[functional.Convolution, ...] = ("conv2d", "patches")


def measure(options: Options) -> Iterator[Row]:
    """See `by_ways`."""
    counts = (checked(options),) if options.quick else (checked(options), MANY)
    return by_ways("vmap", CONVOLUTIONS, PRECISIONS, counts, _measured, options)


def _measured(name: str, tasks: int, way: functional.Convolution, kind: str, options: Options) -> Row:
    setting = settings(options)[name]
    with precision(kind):
        few = tasks_of(setting.shape, checked(options), options.place)
        theta = [value.detach().to(options.place) for value in module_of(setting).parameters()]
        compute = meta_gradient(setting, way, few)
        error = difference(compute(few.support, few.query, *theta)[0], reference(name, options))
        batch, call = tasks_of(setting.shape, tasks, options.place), Replayed(compute)
        seconds = seconds_of(lambda: call(batch.support, batch.query, *theta), options)
    return {"ms": 1000 * seconds, "tasks/s": tasks / seconds, "difference": error}


def meta_gradient(setting: Setting, way: functional.Convolution, like: TaskBatch) -> Callable[..., tuple[Tensor]]:
    """MAML's exact meta-gradient `[P]`, summed over tasks, as a function of support and query images and parameters."""
    algorithm = setting.algorithm
    shape = functional.Shape(4 if isinstance(setting.model, Conv4) else 2, way)

    def of_images(theta: tuple[Tensor, ...], images: Tensor, labels: Tensor) -> Tensor:
        return functional.loss(shape, theta, images, labels, like.ways)

    def of_task(theta: tuple[Tensor, ...], support: Tensor, query: Tensor) -> Tensor:
        for _ in range(algorithm.inner_steps):
            moves = grad(of_images)(theta, support, like.support_labels)
            theta = tuple(value - algorithm.inner_lr * move for value, move in zip(theta, moves, strict=True))
        return of_images(theta, query, like.query_labels)

    def of_all(theta: tuple[Tensor, ...], support: Tensor, query: Tensor) -> Tensor:
        return vmap(of_task, (None, 0, 0))(theta, support, query).sum()

    def compute(support: Tensor, query: Tensor, *theta: Tensor) -> tuple[Tensor]:
        return (torch.cat([value.flatten() for value in grad(of_all)(theta, support, query)]),)

    return compute

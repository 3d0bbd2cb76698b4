"""What a meta-gradient of setting (a) takes elsewhere: higher and plain autograd, `torch.func.vmap`, JAX.

The first two compute one task after the other, as most people do on a GPU. The others compute all at once, each in two
ways to convolve and two precisions: `torch.func.vmap` in a CUDA graph, JAX by `jit` of `vmap`, of the same network,
written of primitive operations. Batch norm is written out, as PyTorch's own is wrong under `torch.func.vmap`, reverse
over reverse (2.15); each gradient is compared with float64's.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import conv2d, log_softmax, max_pool2d, one_hot, pad

from benchmarks.gpu.part import AbsentError, Job, Options, Row
from benchmarks.gpu.problem import difference, few, module_of, reference, setting_of, tasks_of
from benchmarks.gpu.timing import median_of, rate_of
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.device.cuda_graph import Captured
from fanfold.workflows.benchmark.peers import PEERS
from fanfold.workflows.benchmark.peers.settings import Setting

# Read when JAX is imported: by default it takes three quarters of the device's memory at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

BLOCKS = 4  # of the network of setting (a)
EPS = 1e-5
CONVOLUTIONS = ("convolution", "patches")
PRECISIONS = {"tf32": "tensorfloat32", "float32": "highest"}  # as JAX calls them


def autograd(options: Options) -> list[Job]:
    """One task after another."""
    return _jobs(options, higher=partial(_one_by_one, "higher"), loop=partial(_one_by_one, "loop"))


def vmapped(options: Options) -> list[Job]:
    """All tasks at once by `torch.func.vmap`."""
    ways = product(CONVOLUTIONS, PRECISIONS)
    return _jobs(options, **{f"vmap {' '.join(way)}": partial(_vmapped, *way) for way in ways})


def jaxed(options: Options) -> list[Job]:
    """All tasks at once by JAX."""
    ways = product(CONVOLUTIONS, PRECISIONS)
    return _jobs(options, **{f"jax {' '.join(way)}": partial(_jaxed, *way) for way in ways})


def _jobs(options: Options, **sides: Callable[[Setting, Options], Row]) -> list[Job]:
    setting = setting_of("a", options)
    return [
        Job({"setting": "a", "tasks": few(options), "side": side}, partial(measure, setting, options))
        for side, measure in sides.items()
    ]


def _one_by_one(peer: str, setting: Setting, options: Options) -> Row:
    module, algorithm = module_of(setting).to(options.place), setting.algorithm
    compute = import_module(PEERS[peer].module).prepare(module, algorithm.inner_lr, algorithm.inner_steps)
    tasks = tasks_of(setting.shape, few(options), options.place)
    row = rate_of(lambda: compute(tasks), len(tasks), options)
    return row | {"difference": difference(compute(tasks), reference("a", options))}


def _vmapped(convolution: str, precision: str, setting: Setting, options: Options) -> Row:
    # As anyone may have PyTorch's own operations, unlike a worker.
    torch.backends.cudnn.deterministic, fast = False, precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = fast
    tasks = tasks_of(setting.shape, few(options), options.place)
    theta = [value.detach().to(options.place) for value in module_of(setting).parameters()]
    call = Captured(vmapped_gradient(setting, convolution, tasks), options.place)
    row = rate_of(lambda: call(tasks.support, tasks.query, *theta), len(tasks), options)
    return row | {"difference": difference(call(tasks.support, tasks.query, *theta)[0], reference("a", options))}


def vmapped_gradient(setting: Setting, convolution: str, like: TaskBatch) -> Callable[..., tuple[Tensor]]:
    """MAML's exact meta-gradient `[P]`, summed over tasks, as a function of support and query images and parameters."""
    algorithm = setting.algorithm

    def of_images(theta: tuple[Tensor, ...], images: Tensor, labels: Tensor) -> Tensor:
        wanted = one_hot(labels, like.ways).to(images)
        return -(log_softmax(_logits(theta, images, convolution), 1) * wanted).sum(1).mean()

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


def _logits(theta: Sequence[Tensor], images: Tensor, convolution: str) -> Tensor:
    """Logits `[n, ways]` of images `[n, 1, height, width]`, by parameters in the order of the module's."""
    x = images
    for block in range(BLOCKS):
        weight, scale, shift = theta[3 * block : 3 * block + 3]
        x = conv2d(x, weight, padding=1) if convolution == "convolution" else _by_patches(x, weight)
        centred = x - x.mean((0, 2, 3), keepdim=True)
        deviation = ((centred * centred).mean((0, 2, 3), keepdim=True) + EPS).sqrt()
        x = max_pool2d((centred / deviation * scale[:, None, None] + shift[:, None, None]).relu(), 2)
    return x.flatten(1) @ theta[-2].T + theta[-1]


def _by_patches(x: Tensor, weight: Tensor) -> Tensor:
    """A 3 × 3 convolution with a border of zeros: `[n, in, h, w]` to `[n, out, h, w]`."""
    height, width = x.shape[2:]
    padded = pad(x, (1, 1, 1, 1))
    parts = [padded[:, :, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    patches = torch.stack(parts, 2).flatten(1, 2).flatten(2)  # n, in · 9, h · w
    found: Tensor = (weight.flatten(1) @ patches).unflatten(2, (height, width))
    return found


def _jaxed(convolution: str, precision: str, setting: Setting, options: Options) -> Row:
    if not options.on_cuda:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    if options.on_cuda and jax.default_backend() != "gpu":
        raise AbsentError(f"JAX {jax.__version__} sees no GPU")
    theta = [jax.numpy.asarray(value.detach().numpy()) for value in module_of(setting).parameters()]
    batch = tasks_of(setting.shape, few(options), torch.device("cpu"))
    support, query = (jax.numpy.asarray(part.numpy()) for part in (batch.support, batch.query))

    def timed(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            found = compute(theta, support, query)
        jax.block_until_ready(found)
        return time.perf_counter() - began

    with jax.default_matmul_precision(PRECISIONS[precision]):
        compute = jax.jit(jax_gradient(setting, convolution, batch))
        first, seconds = timed(1), median_of(timed, options)
        found = compute(theta, support, query)
    vector = torch.from_numpy(np.concatenate([np.asarray(value).ravel() for value in found]))
    row = {"ms": 1000 * seconds, "tasks/s": len(batch) / seconds, "first call, s": first}
    return row | {"difference": difference(vector, reference("a", options))}


def jax_gradient(setting: Setting, convolution: str, like: TaskBatch) -> Callable[..., Any]:
    """MAML's exact meta-gradient, summed over tasks, of parameters and of support and query images."""
    import jax
    import jax.numpy as jnp

    algorithm = setting.algorithm
    eye = np.eye(like.ways, dtype=np.float32)
    wanted = [jnp.asarray(eye[labels.numpy()]) for labels in (like.support_labels, like.query_labels)]

    def of_images(theta: Sequence[Any], images: Any, wanted: Any) -> Any:
        return -(jax.nn.log_softmax(_jax_logits(theta, images, convolution)) * wanted).sum(1).mean()

    def of_task(theta: Sequence[Any], support: Any, query: Any) -> Any:
        for _ in range(algorithm.inner_steps):
            moves = jax.grad(of_images)(theta, support, wanted[0])
            theta = [value - algorithm.inner_lr * move for value, move in zip(theta, moves, strict=True)]
        return of_images(theta, query, wanted[1])

    def of_all(theta: Sequence[Any], support: Any, query: Any) -> Any:
        return jax.vmap(partial(of_task, theta))(support, query).sum()

    gradient: Callable[..., Any] = jax.grad(of_all)
    return gradient


def _jax_logits(theta: Sequence[Any], images: Any, convolution: str) -> Any:
    """As `_logits`, with channels last between the blocks."""
    import jax
    import jax.numpy as jnp

    x = images.transpose(0, 2, 3, 1)
    for block in range(BLOCKS):
        weight, scale, shift = theta[3 * block : 3 * block + 3]
        filters = weight.transpose(2, 3, 1, 0)
        _, height, width, _ = x.shape
        if convolution == "convolution":
            x = jax.lax.conv_general_dilated(x, filters, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        else:
            padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            parts = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
            x = jnp.concatenate(parts, -1) @ filters.reshape(-1, filters.shape[-1])
        centred = x - x.mean((0, 1, 2))
        x = jax.nn.relu(centred / jnp.sqrt((centred * centred).mean((0, 1, 2)) + EPS) * scale + shift)
        n, _, _, channels = x.shape
        x = x[:, : height // 2 * 2, : width // 2 * 2].reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # channel by channel, as PyTorch's linear layer wants them
    return x @ theta[-2].T + theta[-1]

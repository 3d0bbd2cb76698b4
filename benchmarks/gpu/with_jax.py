"""Meta-gradients a second by JAX: `jit` of `vmap`, the same networks, tasks and initialization.

Two ways of convolving and two precisions of a meta-batch: in the first setting all four are measured, from then on the
fastest way of each precision, as each takes XLA its time to compile.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.options import AbsentError, Options, Row
from benchmarks.gpu.settings import checked, difference, module_of, reference, settings, tasks_of
from benchmarks.gpu.timing import median_of
from benchmarks.gpu.ways import by_ways
from fanfold.tasks.models import Conv4
from fanfold.workflows.benchmark.peers.settings import Setting

# Read when JAX is imported: by default it takes three quarters of the device's memory at once, and every GPU there is.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

EPS = 1e-5
WAYS = ("patches", "convolution")
PRECISIONS = {"tf32": "tensorfloat32", "float32": "highest"}


def measure(options: Options) -> Iterator[Row]:
    """See `by_ways`."""
    if not options.on_cuda:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    if options.on_cuda and jax.default_backend() != "gpu":
        raise AbsentError(f"JAX {jax.__version__} sees no GPU")
    yield from by_ways("jax", WAYS, tuple(PRECISIONS), (checked(options),), _measured, options)


def _measured(name: str, tasks: int, way: str, kind: str, options: Options) -> Row:
    import jax

    setting = settings(options)[name]
    theta = [jax.numpy.asarray(value.detach().numpy()) for value in module_of(setting).parameters()]
    batch = tasks_of(setting.shape, tasks, torch.device("cpu"))
    support, query = (jax.numpy.asarray(part.numpy()) for part in (batch.support, batch.query))
    labels = batch.support_labels.numpy(), batch.query_labels.numpy()
    with jax.default_matmul_precision(PRECISIONS[kind]):
        compute = jax.jit(meta_gradient(setting, way, labels))
        began = time.perf_counter()
        found = jax.block_until_ready(compute(theta, support, query))
        compiled = time.perf_counter() - began
        seconds = _seconds_of(lambda: compute(theta, support, query), options)
    vector = torch.from_numpy(np.concatenate([np.asarray(value).ravel() for value in found]))
    error = difference(vector, reference(name, options))
    return {"ms": 1000 * seconds, "tasks/s": tasks / seconds, "difference": error, "seconds to compile": compiled}


def meta_gradient(setting: Setting, way: str, labels: Sequence[np.ndarray]) -> Callable[..., Any]:
    """MAML's exact meta-gradient, summed over tasks, of parameters and of support and query images."""
    import jax
    import jax.numpy as jnp

    algorithm, ways = setting.algorithm, setting.shape.ways
    blocks = 4 if isinstance(setting.model, Conv4) else 2
    wanted = [jnp.asarray(np.eye(ways, dtype=np.float32)[part]) for part in labels]

    def of_images(theta: Sequence[Any], images: Any, wanted: Any) -> Any:
        return -(jax.nn.log_softmax(logits(blocks, way, theta, images)) * wanted).sum(1).mean()

    def of_task(theta: Sequence[Any], support: Any, query: Any) -> Any:
        for _ in range(algorithm.inner_steps):
            moves = jax.grad(of_images)(theta, support, wanted[0])
            theta = [value - algorithm.inner_lr * move for value, move in zip(theta, moves, strict=True)]
        return of_images(theta, query, wanted[1])

    def of_all(theta: Sequence[Any], support: Any, query: Any) -> Any:
        return jax.vmap(partial(of_task, theta))(support, query).sum()

    gradient: Callable[..., Any] = jax.grad(of_all)
    return gradient


def logits(blocks: int, way: str, theta: Sequence[Any], images: Any) -> Any:
    """Logits `[n, ways]` of images `[n, 1, height, width]`, by parameters as PyTorch's module has them."""
    import jax
    import jax.numpy as jnp

    x = images.transpose(0, 2, 3, 1)
    for block in range(blocks):
        weight, scale, shift = theta[3 * block : 3 * block + 3]
        filters = weight.transpose(2, 3, 1, 0)
        if way == "patches":
            x = _patches(x) @ filters.reshape(-1, filters.shape[-1])
        else:
            x = jax.lax.conv_general_dilated(x, filters, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        centred = x - x.mean((0, 1, 2))
        x = jax.nn.relu(centred / jnp.sqrt((centred * centred).mean((0, 1, 2)) + EPS) * scale + shift)
        n, height, width, channels = x.shape
        x = x[:, : height // 2 * 2, : width // 2 * 2].reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # channel by channel, as PyTorch's linear layer wants them
    linears = theta[3 * blocks :]
    for weight, bias in zip(linears[:-2:2], linears[1:-2:2], strict=True):
        x = jax.nn.relu(x @ weight.T + bias)
    return x @ linears[-2].T + linears[-1]


def _patches(x: Any) -> Any:
    """What 3 × 3 filters see of pictures with a border of noughts: `[n, h, w, in]` to `[n, h, w, 9 · in]`."""
    import jax.numpy as jnp

    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return jnp.concatenate(parts, -1)


def _seconds_of(compute: Callable[[], Any], options: Options) -> float:
    """Seconds of one call, each group of calls waited for to its end."""
    import jax

    def timed(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            found = compute()
        jax.block_until_ready(found)
        return time.perf_counter() - began

    return median_of(timed, options)

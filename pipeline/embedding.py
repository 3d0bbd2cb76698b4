"""Embeddings by a frozen network: each picture of a store is embedded once, see `fanfold.data.embeddings`."""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fanfold.data.embeddings import EmbeddedImages
from fanfold.data.images import Images
from fanfold.data.plain import JSON
from fanfold.data.store import Store
from fanfold.tasks.backbones import weights_digest
from fanfold.tasks.flipped import FlippedModule
from fanfold.tasks.learner import channels_last, in_batches
from fanfold.tasks.models import GivenModel, Model
from fanfold.tasks.network import Network

CHUNK = 64  # pictures of a chunk
FIRST, SECONDS = 8, 3.0  # chunks that are computed together at first, and how long further ones may take

Compute: TypeAlias = Callable[[Sequence[tuple[int, int]]], Sequence[NDArray[np.float32]]]
"""From chunks, first and last (exclusive) pictures, to their embeddings `[n, d]`."""


def open_embeddings(store: Store, images: Images, model: Model, body: Network, *, flip: bool = False) -> EmbeddedImages:
    """The embeddings of a store's pictures by a frozen network; who asks for them while they are absent computes them.

    They are the same bits in any company, on any worker, and for any number of threads. A GPU's differ from a CPU's in
    the last ones; as all runs beside a store read the same embeddings, that is no part of what names them: who computes
    first decides.

    Args:
        store: The store.
        images: Its pictures.
        model: The network's configuration.
        body: The network without a head, on the CPU.
        flip: Whether they are averaged over mirror images, see `tasks.flipped`.
    """
    facts: dict[str, JSON] = {
        "model": str(getattr(model, "name", type(model).__name__)),
        "network": weights_digest(body),
        "code": _code(model, body.module),
        "size": list(images.size),
        **({"flip": True} if flip else {}),
    }

    def alone(chunks: Sequence[tuple[int, int]]) -> Sequence[NDArray[np.float32]]:
        return [embedded_pictures(body, images, *chunk, flip=flip) for chunk in chunks]

    return EmbeddedImages(store, facts, body.outputs, lambda found: fill(found, alone))


def _code(model: Model, module: nn.Module) -> str:
    """What stands for the code of a network's own layers, which may change while its tensors stay.

    It is the same in every process: the digest of a module that was handed over, otherwise that of the files.
    """
    if isinstance(model, GivenModel):
        return model.digest
    found = hashlib.sha256()
    names = {type(layer).__module__ for layer in module.modules()}
    for name in sorted(one for one in names if one.partition(".")[0] != "torch"):
        with suppress(OSError, TypeError):  # compiled, or without a file
            found.update(inspect.getsource(sys.modules[name]).encode())
    return found.hexdigest()


def fill(images: EmbeddedImages, compute: Compute, told: Callable[[int], None] = lambda _: None) -> None:
    """Compute and write embeddings where they are absent; `told` hears how many are done.

    Raises:
        FanfoldError: They can't be written.
    """
    images.write(lambda: _in_groups(images.store.pictures, compute, told))


def embedded_pictures(
    body: Network, images: Images, first: int, last: int, *, flip: bool = False
) -> NDArray[np.float32]:
    """The embeddings of a store's pictures `first` to `last` (exclusive), `[n, d]`: each the same in any company."""
    starts, numbers = np.concatenate([[0], np.cumsum(images.counts)]), np.arange(first, last)
    classes = np.searchsorted(starts, numbers, "right") - 1
    pixels = torch.from_numpy(images.gather(classes, numbers - starts[classes]))
    module = channels_last(body.module).eval()
    module = FlippedModule(module) if flip else module
    device = next((tensor.device for tensor in module.parameters()), pixels.device)
    with _one_thread():
        found: NDArray[np.float32] = in_batches(module, pixels.to(device).float().div_(255)).float().cpu().numpy()
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch computes with one thread: with more, EfficientNet's embeddings differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _in_groups(pictures: int, compute: Compute, told: Callable[[int], None]) -> Iterator[NDArray[np.float32]]:
    """All embeddings in order, so many chunks at a time as take some seconds: few are in memory, and progress shows."""
    chunks = [(first, min(first + CHUNK, pictures)) for first in range(0, pictures, CHUNK)]
    done, together = 0, FIRST
    while done < len(chunks):
        began, group = monotonic(), chunks[done : done + together]
        yield np.concatenate(compute(group))
        done += len(group)
        told(group[-1][1])
        each = (monotonic() - began) / len(group)
        together = max(FIRST, min(int(SECONDS / each), 8 * FIRST) // FIRST * FIRST)

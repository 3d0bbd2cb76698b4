"""Peers in processes of their own: each computes on request, and is idle while the others are measured.

A process starts as a library's user would start it: with the present environment, and PyTorch's number of threads.
"""

import contextlib
import importlib
import itertools
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fanfold.data.advice import one_line
from fanfold.data.errors import RunError
from fanfold.pipeline import worker
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.batch import TaskBatch, gather_tasks
from fanfold.tasks.episodes import Stream, draw_episodes
from fanfold.tasks.models import build_network
from fanfold.workflows.benchmark.peers import Library
from fanfold.workflows.benchmark.peers.peer import Compute, Prepare


@dataclass(frozen=True)
class Failure:
    """The reason of a peer's failure, in one line."""

    reason: str


@dataclass(frozen=True)
class Peer:
    """A running peer.

    Args:
        name: Its name.
        version: Its package's version.
        threads: Its number of PyTorch threads.
        end: The connection to its process.
    """

    name: str
    version: str
    threads: int
    end: Connection

    def gradient(self, recipe: Recipe, tasks: int, dtype: torch.dtype) -> NDArray[np.float64]:
        """See `gradient`."""
        found: NDArray[np.float64] = self._ask(gradient, recipe, tasks, dtype)
        return found

    def rate(self, recipe: Recipe, seconds: float) -> float:
        """See `rate`."""
        return float(self._ask(rate, recipe, seconds))

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            self.end.send((question, arguments))
            answer = self.end.recv()
        except (EOFError, OSError) as error:
            raise RunError(f"The process of the peer {self.name} is gone (out of memory?).") from error
        if isinstance(answer, Failure):
            raise RunError(f"The peer {self.name} fails: {answer.reason}")
        return answer


@contextlib.contextmanager
def open_peers(libraries: Mapping[str, Library]) -> Iterator[tuple[list[Peer], dict[str, str]]]:
    """Start a process for each library, and end them.

    Yields:
        The peers, and by name the reasons of those that can't be imported.
    """
    context = multiprocessing.get_context("spawn")
    ends, started = {}, []
    for name, library in libraries.items():
        ends[name], other = context.Pipe()
        started.append(context.Process(target=_start, args=(other, library), daemon=True))
        started[-1].start()
        other.close()
    try:
        peers, absent = [], {}
        for name, end in ends.items():
            greeting = _greeting(end)
            if isinstance(greeting, Failure):
                absent[name] = greeting.reason
            else:
                found, threads = greeting
                peers.append(Peer(name, found, threads, end))
        yield peers, absent
    finally:
        for process in started:
            process.terminate()


def gradient(prepare: Prepare, recipe: Recipe, tasks: int, dtype: torch.dtype) -> NDArray[np.float64]:
    """The summed meta-gradient `[P]` of the recipe's first tasks, at its initialization.

    Args:
        prepare: The peer.
        recipe: The tasks, the network, the inner loop.
        tasks: How many tasks.
        dtype: The dtype of the computation.
    """
    found: NDArray[np.float64] = _prepared(prepare, recipe, dtype)(draw_tasks(recipe, tasks, dtype)).double().numpy()
    return found


def rate(prepare: Prepare, recipe: Recipe, seconds: float) -> float:
    """Tasks a second, repeating the recipe's first meta-batch, a chunk at a time.

    Drawing tasks, outer steps and the first chunk, which meets cold caches, are not measured.
    """
    compute, tasks = _prepared(prepare, recipe, torch.float32), draw_tasks(recipe, recipe.meta.batch, torch.float32)
    chunks = [_part(tasks, first, last) for first, last in recipe.meta.chunks()]
    compute(chunks[0])
    coming = itertools.cycle(chunks)
    began, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        chunk = next(coming)
        compute(chunk)
        done += len(chunk)
    return done / passed


def draw_tasks(recipe: Recipe, tasks: int, dtype: torch.dtype) -> TaskBatch:
    """The recipe's first training tasks, the very ones that Fanfold's workers draw."""
    opened = worker.open_context(recipe)
    classes, counts = opened.classes(Stream.TRAIN), opened.images.counts
    episodes = draw_episodes(recipe.seed, Stream.TRAIN, 0, tasks, recipe.train, classes, counts)
    return gather_tasks(episodes, recipe.train, opened.images, dtype)


def build_module(recipe: Recipe, dtype: torch.dtype) -> nn.Module:
    """The recipe's network, initialized as Fanfold initializes it."""
    images = worker.open_context(recipe).images
    return build_network(recipe.model, recipe.train.ways, images.size, recipe.seed, images.channels).to(dtype)


def _prepared(prepare: Prepare, recipe: Recipe, dtype: torch.dtype) -> Compute:
    assert isinstance(recipe.algorithm, Maml)
    return prepare(build_module(recipe, dtype), recipe.algorithm.inner_lr, recipe.algorithm.inner_steps)


def _part(tasks: TaskBatch, first: int, last: int) -> TaskBatch:
    return TaskBatch(tasks.support[first:last], tasks.support_labels, tasks.query[first:last], tasks.query_labels)


def _greeting(end: Connection) -> Failure | tuple[str, int]:
    """A peer's version and number of threads, or its failure."""
    try:
        greeting: Failure | tuple[str, int] = end.recv()
    except EOFError:
        return Failure("its process ended")
    return greeting


def _start(end: Connection, library: Library) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the asking process, which ends this one
    serve(end, library)


def serve(end: Connection, library: Library) -> None:
    """Send version and threads, or a failure, and answer requests until the connection closes."""
    try:
        prepare = importlib.import_module(library.module).prepare
        end.send((version(library.distribution), torch.get_num_threads()))
    except Exception as error:  # importing another package may raise anything
        end.send(Failure(one_line(error)))
        return
    with contextlib.suppress(EOFError):
        while True:
            question, arguments = end.recv()
            try:
                answer = question(prepare, *arguments)
            except Exception as error:  # another package may raise anything
                answer = Failure(one_line(error))
            end.send(answer)

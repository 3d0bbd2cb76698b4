"""What workers compute: the functions behind the tasks `adapt`, `fold`, `step`, `validate` and `test` of the graphs.

Their results depend on their arguments alone, never on the worker or on what it did before.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.advice import ranges
from data.errors import FanfoldError, RunError
from data.images import Images, open_images
from data.splits import Split, split_classes
from data.store import open_store
from pipeline.fold import ChunkSum
from pipeline.optimizer import Record, State, Vector, adam, initial_state
from pipeline.recipe import Recipe
from tasks.batch import TaskBatch, gather_tasks
from tasks.episodes import EpisodeShape, Stream, check_episode_shape, draw_episodes
from tasks.learner import evaluate_tasks
from tasks.models import Model, build_network
from tasks.network import Network, as_network, check_network

# A network's module holds the parameters of the call that is under way; a process computes one chunk at a time.
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class Bench:
    """What a worker keeps open for a recipe."""

    images: Images
    split: Split
    fingerprint: str
    network: Network

    def classes(self, stream: Stream) -> NDArray[np.int64]:
        """The classes that a stream's tasks are made of."""
        return {
            Stream.TRAIN: self.split.train,
            Stream.VALIDATION: self.split.validation,
            Stream.TEST: self.split.test,
        }[stream]


def bench(recipe: Recipe) -> Bench:
    """Open the store and build the network, or take them where they lie from an earlier chunk.

    Raises:
        FanfoldError: The store can't be opened or is not the one that the run began with, the tasks can't be drawn
            from it, or the model can't be built.
    """
    images, split, fingerprint = _data(recipe.store, recipe.split, recipe.fingerprint)
    if recipe.fingerprint not in (None, fingerprint):
        raise FanfoldError(
            f"The store {recipe.store} holds other images than those that this run began with: prepare the same data "
            "set again, or start a new run."
        )
    network = _network(recipe.model, recipe.train.ways, images.size, recipe.seed, recipe.device)
    return Bench(images, split, fingerprint, network)


def check_recipe(recipe: Recipe) -> Recipe:
    """Raise, before anything is started, what a worker would raise else; return the recipe bound to its store.

    Raises:
        FanfoldError: See `bench`.
    """
    opened = bench(recipe)
    for stream in Stream:
        check_episode_shape(stream, _shape(recipe, stream), opened.classes(stream), opened.images.drawings)
    return replace(recipe, fingerprint=opened.fingerprint)


def initialize(recipe: Recipe) -> State:
    """The state before the first iteration: drawn from the seed, on the CPU, the same everywhere."""
    network = bench(replace(recipe, device="cpu")).network
    return initial_state(_to_vector(recipe.algorithm.initialize(network)))


def adapt(recipe: Recipe, state: State, first: int, last: int) -> ChunkSum:
    """Draw the tasks in places `first` to `last` of the state's meta-batch, and sum their meta-gradients."""
    offset = state.iteration * recipe.meta.batch
    with _at_the_bench(recipe, Stream.TRAIN, offset + first) as opened:
        tasks = _tasks(recipe, opened, Stream.TRAIN, offset + first, offset + last)
        parameters = _to_tensor(state.parameters, recipe)
        result = recipe.algorithm.meta_gradient(opened.network, parameters, state.iteration, tasks)
    finite = torch.isfinite(result.losses)
    if not torch.isfinite(result.gradient).all() and finite.all():
        finite = torch.zeros_like(finite)  # whose gradient overflowed can't be told from the sum
    return ChunkSum(
        gradient=_to_vector(result.gradient),
        loss=float(result.losses.double().sum()),
        accuracy=float(result.accuracies.double().sum()),
        tasks=len(tasks),
        broken=tuple(offset + first + int(place) for place in (~finite).nonzero()),
    )


def step(recipe: Recipe, state: State, total: ChunkSum) -> State:
    """The next state, by the mean meta-gradient of the whole meta-batch.

    Raises:
        RunError: A loss or gradient of the meta-batch is not finite.
    """
    if total.broken:
        raise RunError(
            f"The loss or gradient is not finite in iteration {state.iteration + 1}, task numbers "
            f"{ranges(sorted(total.broken))}: start a new run with lower learning rates."
        )
    parameters, mean, square = adam(state, total.gradient / np.float32(total.tasks), recipe.meta.lr_at(state.iteration))
    record = Record(state.iteration, total.loss / total.tasks, total.accuracy / total.tasks)
    return State(state.iteration + 1, parameters, mean, square, (*state.records, record))


def test(recipe: Recipe, parameters: Vector, stream: Stream, first: int, last: int) -> NDArray[np.float64]:
    """Each task's accuracy `[last - first]`, of tasks of the validation or test stream."""
    with _at_the_bench(recipe, stream, first) as opened:
        tasks = _tasks(recipe, opened, stream, first, last)
        accuracies = evaluate_tasks(
            recipe.algorithm, opened.network, _to_tensor(parameters, recipe), tasks, recipe.steps
        )
    return accuracies.double().cpu().numpy()


def without_records(state: State) -> State:
    """A state as a window starts with it."""
    return replace(state, records=())


@contextmanager
def _at_the_bench(recipe: Recipe, stream: Stream, first: int) -> Iterator[Bench]:
    """A worker's surroundings while it computes the tasks from number `first` on: always the same."""
    with _ONE_AT_A_TIME, torch.random.fork_rng():
        # Set here, not where the worker starts: PyTorch keeps the number of threads for each thread that asks.
        torch.set_num_threads(recipe.meta.threads)
        # For networks that draw, as dropout does; from the chunk's numbers, as everything else.
        torch.manual_seed(int(np.random.SeedSequence([recipe.seed, stream, first]).generate_state(1, np.uint64)[0]))
        opened = bench(recipe)
        opened.network.module.train(stream is Stream.TRAIN)
        yield opened


# A fingerprint among the arguments, so that a store that was prepared anew is opened anew.
@lru_cache(maxsize=4)
def _data(store: str, split: str, expected: str | None) -> tuple[Images, Split, str]:
    opened = open_store(Path(store))
    content = np.concatenate([opened.checksums.astype("<u4"), opened.drawings.astype("<u4")])
    names = "\n".join("\t".join(name) for name in opened.names)
    fingerprint = f"{zlib.crc32(names.encode(), zlib.crc32(content.tobytes())):08x}"
    return open_images(opened), split_classes(opened, split), fingerprint


@lru_cache(maxsize=4)
def _network(model: Model, ways: int, size: tuple[int, int], seed: int, device: str) -> Network:
    if device == "cuda":  # the same kernels every time, in full float32
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
    network = as_network(build_network(model, ways, size, seed).to(device))
    check_network(network, ways, size)
    return network


def _shape(recipe: Recipe, stream: Stream) -> EpisodeShape:
    return recipe.train if stream is Stream.TRAIN else recipe.task


def _tasks(recipe: Recipe, opened: Bench, stream: Stream, first: int, last: int) -> TaskBatch:
    shape, drawings = _shape(recipe, stream), opened.images.drawings
    episodes = draw_episodes(recipe.seed, stream, first, last, shape, opened.classes(stream), drawings)
    return gather_tasks(episodes, shape, opened.images).to(recipe.device)


def _to_tensor(vector: Vector, recipe: Recipe) -> Tensor:
    # A copy: what a worker receives is read-only, and lies wherever the message did.
    return torch.tensor(np.asarray(vector), device=recipe.device)


def _to_vector(tensor: Tensor) -> Vector:
    vector: Vector = tensor.detach().to("cpu", torch.float32).numpy()
    return vector

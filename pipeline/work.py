"""What workers compute: the functions behind the tasks `adapt`, `fold`, `step` and `test` of the graph.

They are pure: their results depend on their arguments alone, never on the worker or on what it did before.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.errors import RunError
from data.images import Images, open_images
from data.splits import Split, split_classes
from data.store import open_store
from pipeline.fold import ChunkSum
from pipeline.optimizer import Record, State, Vector, adam, initial_state
from pipeline.recipe import Recipe
from tasks.batch import TaskBatch, gather_tasks
from tasks.episodes import EpisodeShape, Stream, check_episode_shape, draw_episodes
from tasks.learner import evaluate_tasks
from tasks.network import Network, as_network, check_network


@dataclass(frozen=True)
class Bench:
    """What a worker keeps open for a recipe."""

    images: Images
    split: Split
    network: Network

    def classes(self, stream: Stream) -> NDArray[np.int64]:
        """The classes that a stream's tasks are made of."""
        return {
            Stream.TRAIN: self.split.train,
            Stream.VALIDATION: self.split.validation,
            Stream.TEST: self.split.test,
        }[stream]


@lru_cache(maxsize=4)
def bench(recipe: Recipe) -> Bench:
    """Open the store and build the network.

    Raises:
        FanfoldError: The store can't be opened, the tasks can't be drawn from it, or the model can't be built.
    """
    store = open_store(Path(recipe.store))
    images, split = open_images(store), split_classes(store, recipe.split)
    opened = Bench(images, split, _network(recipe, images.size))
    check_network(opened.network, recipe.train.ways, images.size)
    for stream in Stream:
        check_episode_shape(_shape(recipe, stream), opened.classes(stream), images.drawings)
    return opened


def initialize(recipe: Recipe) -> State:
    """The state before the first iteration: drawn from the seed, on the CPU, the same everywhere."""
    opened = bench(recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = _network(recipe, opened.images.size)
    return initial_state(_to_vector(recipe.algorithm.initialize(network)))


def adapt(recipe: Recipe, state: State, first: int, last: int) -> ChunkSum:
    """Draw the tasks in places `first` to `last` of the state's meta-batch, and sum their meta-gradients."""
    offset = state.iteration * recipe.meta.batch
    tasks = _tasks(recipe, Stream.TRAIN, offset + first, offset + last)
    result = recipe.algorithm.meta_gradient(
        bench(recipe).network, _to_tensor(state.parameters, recipe), state.iteration, tasks
    )
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
            f"The loss or gradient is not finite in iteration {state.iteration}, task numbers "
            f"{', '.join(map(str, total.broken))}: go on from the last checkpoint with other learning rates."
        )
    parameters, mean, square = adam(state, total.gradient / np.float32(total.tasks), recipe.meta.lr_at(state.iteration))
    record = Record(state.iteration, total.loss / total.tasks, total.accuracy / total.tasks)
    return State(state.iteration + 1, parameters, mean, square, (*state.records, record))


def test(recipe: Recipe, parameters: Vector, stream: Stream, first: int, last: int) -> NDArray[np.float64]:
    """Each task's accuracy `[last - first]`, of tasks of the validation or test stream."""
    accuracies = evaluate_tasks(
        recipe.algorithm,
        bench(recipe).network,
        _to_tensor(parameters, recipe),
        _tasks(recipe, stream, first, last),
        recipe.steps,
    )
    return accuracies.double().cpu().numpy()


def without_records(state: State) -> State:
    """A state as a window starts with it."""
    return replace(state, records=())


def _shape(recipe: Recipe, stream: Stream) -> EpisodeShape:
    return recipe.train if stream is Stream.TRAIN else recipe.task


def _network(recipe: Recipe, size: tuple[int, int]) -> Network:
    return as_network(recipe.model.build(recipe.train.ways, size).to(recipe.device))


def _tasks(recipe: Recipe, stream: Stream, first: int, last: int) -> TaskBatch:
    # Set here, not where the worker starts: PyTorch keeps the number of threads for each thread that asks.
    torch.set_num_threads(recipe.meta.threads)
    opened, shape = bench(recipe), _shape(recipe, stream)
    episodes = draw_episodes(recipe.seed, stream, first, last, shape, opened.classes(stream), opened.images.drawings)
    return gather_tasks(episodes, shape, opened.images).to(recipe.device)


def _to_tensor(vector: Vector, recipe: Recipe) -> Tensor:
    # A copy: what a worker receives is read-only, and lies wherever the message did.
    return torch.tensor(np.asarray(vector), device=recipe.device)


def _to_vector(tensor: Tensor) -> Vector:
    vector: Vector = tensor.detach().to("cpu", torch.float32).numpy()
    return vector

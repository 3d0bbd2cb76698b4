"""The computation of a simulated worker: a sleep in place of each chunk. Imports no PyTorch."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fanfold.pipeline.fold import ChunkSum
from fanfold.pipeline.optimizer import State, initial_state
from fanfold.pipeline.recipe import Meta, Recipe
from fanfold.tasks.episodes import EpisodeShape


@dataclass(frozen=True)
class Sleep:
    """A substitute for the algorithm.

    Args:
        seconds: Seconds of a chunk.
    """

    seconds: float


def sleeping_recipe(chunks: int, seconds: float, window: int) -> Recipe:
    """A recipe with chunks of one task.

    Args:
        chunks: Chunks of a meta-batch.
        seconds: Seconds of each chunk.
        window: Meta-iterations of a window.
    """
    sleep: Any = Sleep(seconds)
    no_model: Any = None
    shape = EpisodeShape(2, 1, 1)
    meta = Meta(batch=chunks, chunk=1, window=window)
    return Recipe(0, "", "", sleep, no_model, train=shape, task=shape, steps=None, meta=meta)


def first_state(floats: int) -> State:
    """The state before the first iteration, with this number of parameters."""
    return initial_state(np.linspace(-1, 1, floats, dtype=np.float32))


def adapt(recipe: Recipe, state: State, first: int, last: int) -> ChunkSum:
    """A substitute for `pipeline.worker.adapt`: sleep, and return a gradient that differs between chunks."""
    sleep: Any = recipe.algorithm
    time.sleep(sleep.seconds)
    return ChunkSum(state.parameters / np.float32(1 + first), loss=1.0, accuracy=0.5, tasks=last - first)

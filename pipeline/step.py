"""From a meta-batch's folded sum to the next state.

Beside `pipeline.worker` and not in it, so that whoever only folds and steps need not import PyTorch.
"""

from collections.abc import Sequence

import numpy as np

from fanfold.data.advice import ranges
from fanfold.data.errors import RunError
from fanfold.pipeline.fold import ChunkSum
from fanfold.pipeline.optimizer import Record, State, advance
from fanfold.pipeline.recipe import Recipe


def step(recipe: Recipe, state: State, total: ChunkSum) -> State:
    """The next state, by the mean meta-gradient of the whole meta-batch.

    Raises:
        RunError: A loss or gradient of the meta-batch is not finite.
    """
    if total.broken:
        raise not_finite(state.iteration, total.broken)
    meta, gradient = recipe.meta, total.gradient / np.float32(total.tasks)
    record = Record(state.iteration, total.loss / total.tasks, total.accuracy / total.tasks)
    return advance(state, gradient, meta.lr_at(state.iteration), meta.optimizer, meta.average, record)


def not_finite(iteration: int, tasks: Sequence[int]) -> RunError:
    """What is wrong with an iteration, from 0, in which tasks of these numbers broke."""
    return RunError(
        f"The loss or gradient is not finite in iteration {iteration + 1}, task numbers {ranges(sorted(tasks))}: "
        "start a new run with lower learning rates."
    )

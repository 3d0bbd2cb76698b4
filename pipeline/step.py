"""From a meta-batch's folded sum to the next state.

Beside `pipeline.work` and not in it, so that whoever only folds and steps need not import PyTorch.
"""

import numpy as np

from data.advice import ranges
from data.errors import RunError
from pipeline.fold import ChunkSum
from pipeline.optimizer import Record, State, advance
from pipeline.recipe import Recipe


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
    meta, gradient = recipe.meta, total.gradient / np.float32(total.tasks)
    record = Record(state.iteration, total.loss / total.tasks, total.accuracy / total.tasks)
    return advance(state, gradient, meta.lr_at(state.iteration), meta.optimizer, meta.average, record)

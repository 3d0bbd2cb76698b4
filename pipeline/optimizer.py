"""The meta-optimizer: from a meta-batch's folded sum to the next state. Imports no PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fanfold.data.advice import ranges
from fanfold.data.errors import RunError
from fanfold.pipeline.fold import ChunkSum
from fanfold.pipeline.recipe import Meta, Recipe

Vector = NDArray[np.float32]

# Adam's, as numbers of Python that are float32's: beside an array of float32, nothing rounds them any more.
BETA1, REST1 = float(np.float32(0.9)), float(np.float32(1) - np.float32(0.9))
BETA2, REST2 = float(np.float32(0.999)), float(np.float32(1) - np.float32(0.999))
EPSILON = float(np.float32(1e-8))


@dataclass(frozen=True)
class Record:
    """What a meta-iteration showed: means over its tasks' queries, at the parameters before its step."""

    iteration: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class State:
    """All that the next meta-iteration depends on, besides the recipe. Vectors are float32 `[P]`."""

    iteration: int  # iterations done
    parameters: Vector
    mean: Vector  # Adam's first moment
    square: Vector  # Adam's second moment
    average: Vector  # running average of the parameters, to validate and test; without one, the very parameters

    def equals(self, other: "State") -> bool:
        """Whether another state is the same, bit for bit."""
        return self.iteration == other.iteration and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in Vectors._fields
        )


def initial_state(parameters: Vector) -> State:
    """The state before the first iteration."""
    return State(0, parameters, np.zeros_like(parameters), np.zeros_like(parameters), parameters)


class Vectors(NamedTuple):
    """The vectors of a state, or a segment of each: NumPy's arrays, or PyTorch's tensors on a device."""

    parameters: Any
    mean: Any
    square: Any
    average: Any


class Rates(NamedTuple):
    """The iteration's part in a step's arithmetic; float32, or tensors of one number each."""

    step: Any  # Adam's step size over its first moment's correction; for a plain gradient step, the meta rate
    scale: Any  # one over the correction of Adam's second moment
    kept: Any  # share of the running average that is kept
    decayed: Any  # share of the parameters that weight decay leaves


def advance(state: State, gradient: Vector, meta: Meta) -> State:
    """The next state by the mean meta-gradient, float32 `[P]`; see `moved`."""
    now = Vectors(state.parameters, state.mean, state.square, state.average)
    return State(state.iteration + 1, *moved(now, gradient, rates_at(state.iteration, meta), meta))


def step(recipe: Recipe, state: State, total: ChunkSum) -> tuple[State, Record]:
    """The next state by a whole meta-batch's folded sum, and what the meta-batch showed.

    Raises:
        RunError: A loss or gradient of the meta-batch is not finite.
    """
    if total.broken:
        raise not_finite(state.iteration, total.broken)
    gradient = total.gradient / np.float32(total.tasks)
    record = Record(state.iteration, total.loss / total.tasks, total.accuracy / total.tasks)
    return advance(state, gradient, recipe.meta), record


def not_finite(iteration: int, tasks: Sequence[int]) -> RunError:
    """The error of an iteration, from 0, in which the tasks of these numbers have no finite loss or gradient."""
    return RunError(
        f"The loss or gradient is not finite in iteration {iteration + 1}, task numbers {ranges(sorted(tasks))}: "
        "start a new run with lower learning rates."
    )


def rates_at(iteration: int, meta: Meta) -> Rates:
    """The rates of the step after some iterations, see `moved`."""
    count, lr = iteration + 1, meta.lr_at(iteration)
    step = lr / (1 - 0.9**count) if meta.optimizer == "adam" else lr
    kept = min(meta.average, (1 + iteration) / (10 + iteration))
    return Rates(*map(np.float32, (step, 1 / (1 - 0.999**count), kept, 1 - lr * meta.weight_decay)))


def moved(now: Vectors, gradient: Any, rates: Rates, meta: Meta) -> Vectors:
    """A step of the meta-optimizer; changes none of its arguments.

    Plain float32 arithmetic, element by element: any part of the vectors may be stepped on its own, and a device's
    tensors become, bit for bit, what NumPy's arrays do.

    - `clip` cuts each number of the gradient off at ± clip, as MAML's authors do for larger pictures. A norm would need
      the whole gradient, which no worker of a gang has.
    - `adam`: Kingma and Ba 2015, algorithm 1; β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸.
    - `weight_decay` λ takes rate · λ of the parameters away, beside the gradient: AdamW (Loshchilov and Hutter 2019,
      algorithm 2). For a plain gradient step that is the penalty λ / 2 · ‖parameters‖².
    - The average is the exponential running average of the parameters (Polyak and Juditsky 1992, with decay). The first
      steps decay faster, (1 + t) / (10 + t), so that the initialization is soon forgotten. Where none is asked for, it
      is the very parameters.
    """
    if meta.clip is not None:
        gradient = gradient.clip(-meta.clip, meta.clip)
    before = rates.decayed * now.parameters if meta.weight_decay else now.parameters
    if meta.optimizer == "adam":
        mean = BETA1 * now.mean + REST1 * gradient
        square = BETA2 * now.square + REST2 * gradient * gradient
        parameters = before - rates.step * mean / (_root(square * rates.scale) + EPSILON)
    else:
        mean, square, parameters = now.mean, now.square, before - rates.step * gradient
    averaged = rates.kept * now.average + (1 - rates.kept) * parameters if meta.average else parameters
    return Vectors(parameters, mean, square, averaged)


def _root(array: Any) -> Any:
    """The correctly rounded square root. PyTorch's on a CPU, by MKL, is off by a bit at times."""
    if isinstance(array, np.ndarray):
        return np.sqrt(array)
    return array.sqrt() if array.is_cuda else array.new_tensor(np.sqrt(array.numpy()))

"""The meta-optimizer, and the state that it carries from one meta-iteration to the next."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Record:
    """What a meta-iteration showed: means over its tasks' queries, at the parameters before its step."""

    iteration: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class State:
    """All that the next meta-iteration depends on, besides the recipe.

    Args:
        iteration: Iterations done.
        parameters: The meta-parameters, float32 `[P]`.
        mean: Adam's first moment, float32 `[P]`.
        square: Adam's second moment, float32 `[P]`.
        average: Running average of the parameters, float32 `[P]`, which is what is validated and tested; the very
            parameters where no average is asked for.
        records: What the iterations since the window's start showed.
    """

    iteration: int
    parameters: Vector
    mean: Vector
    square: Vector
    average: Vector
    records: tuple[Record, ...] = ()


def initial_state(parameters: Vector) -> State:
    """The state before the first iteration."""
    return State(0, parameters, np.zeros_like(parameters), np.zeros_like(parameters), parameters)


def advance(
    state: State, gradient: Vector, lr: float, optimizer: Literal["adam", "sgd"], average: float, record: Record
) -> State:
    """The next state.

    Args:
        state: The state.
        gradient: The mean meta-gradient, float32 `[P]`.
        lr: The meta learning rate of this step.
        optimizer: `adam`, or `sgd`: a plain gradient step.
        average: Decay of the running average of the parameters, see `running_average`; 0 for none.
        record: What the meta-iteration showed.
    """
    if optimizer == "adam":
        parameters, mean, square = adam(state, gradient, lr)
    else:
        parameters, mean, square = state.parameters - np.float32(lr) * gradient, state.mean, state.square
    averaged = running_average(state, parameters, average) if average else parameters
    return State(state.iteration + 1, parameters, mean, square, averaged, (*state.records, record))


def running_average(state: State, parameters: Vector, decay: float) -> Vector:
    """The exponential running average after a step to some parameters (Polyak and Juditsky 1992, with decay).

    The first steps decay faster, (1 + t) / (10 + t), so that the initialization is soon forgotten.
    """
    kept = np.float32(min(decay, (1 + state.iteration) / (10 + state.iteration)))
    averaged: Vector = kept * state.average + (np.float32(1) - kept) * parameters
    return averaged


def adam(state: State, gradient: Vector, lr: float) -> tuple[Vector, Vector, Vector]:
    """One step of Adam (Kingma and Ba 2015, algorithm 1; β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸).

    Plain float32 arithmetic, element by element, so that any part of the vectors may be stepped on its own.

    Returns:
        Parameters, first and second moment after the step; the state's own vectors are left as they are.
    """
    one, beta1, beta2, count = np.float32(1), np.float32(0.9), np.float32(0.999), state.iteration + 1
    mean = beta1 * state.mean + (one - beta1) * gradient
    square = beta2 * state.square + (one - beta2) * gradient * gradient
    rate, scale = np.float32(lr / (1 - 0.9**count)), np.float32(1 / (1 - 0.999**count))
    parameters = state.parameters - rate * mean / (np.sqrt(square * scale) + np.float32(1e-8))
    return parameters.astype(np.float32, copy=False), mean, square

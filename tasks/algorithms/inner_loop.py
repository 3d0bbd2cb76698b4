"""Gradient steps on a task's support loss, which the gradient-based learners share.

θₛ₊₁ = θₛ - αₛ ⊙ ∇L_support(θₛ)
"""

from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor

from fanfold.data.errors import FanfoldError
from fanfold.tasks.parameters import Parameters


def descend(parameters: Parameters, gradient: Mapping[str, Tensor], rates: Mapping[str, float | Tensor]) -> Parameters:
    """One gradient step.

    Args:
        parameters: θₛ, by name.
        gradient: Of the support loss at θₛ, by name.
        rates: αₛ of each parameter to adapt, a scalar or of its shape; parameters without a rate stay.
    """
    return {**parameters, **{name: _step(parameters[name], gradient[name], rate) for name, rate in rates.items()}}


def _step(value: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor:
    if isinstance(rate, Tensor):
        return value - rate * gradient
    return torch.sub(value, gradient, alpha=rate)


def check_inner_loop(what: str, lr: float, steps: int) -> None:
    """Raise FanfoldError unless an inner learning rate and a number of inner steps make sense."""
    if not 0 < lr < inf:
        raise FanfoldError(f"{what} needs an inner learning rate above 0, not {lr}.")
    if steps < 1:
        raise FanfoldError(f"{what} needs at least one inner step, not {steps}.")


def rate_of(name: str) -> str:
    """The name, among the meta-parameters, of a parameter's learned inner rate."""
    return f"{name}:inner_lr"

"""Gradient steps on a task's support loss, shared by the gradient-based algorithms.

θₛ₊₁ = θₛ - αₛ ⊙ ∇L_support(θₛ)
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Algorithm, Classify
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters


@dataclass(frozen=True)
class AdaptedNetwork(Algorithm):
    """An algorithm that classifies by its network alone, at parameters that have learnt the task."""

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        adapted = self.adapted(network, parameters, support, labels, steps)
        return lambda query: network(adapted, query)

    @abstractmethod
    def adapted(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Parameters: ...


def adapt(
    parameters: Parameters,
    gradient_at: Callable[[Parameters], Mapping[str, Tensor]],
    rates: Mapping[str, float | Tensor],
    steps: int,
) -> Parameters:
    """The parameters θ_S after S steps from θ₀; `gradient_at` maps θ to ∇L_support(θ), for `rates` see `descend`."""
    for _ in range(steps):
        parameters = descend(parameters, gradient_at(parameters), rates)
    return parameters


def descend(parameters: Parameters, gradient: Mapping[str, Tensor], rates: Mapping[str, float | Tensor]) -> Parameters:
    """The parameters θₛ₊₁ after one step from θₛ.

    A rate αₛ is a scalar, or of its parameter's shape. Parameters without a rate are not changed.
    """
    return {**parameters, **{name: _step(parameters[name], gradient[name], rate) for name, rate in rates.items()}}


def _step(value: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor:
    if isinstance(rate, Tensor):
        return value - rate * gradient
    return torch.sub(value, gradient, alpha=rate)


def check_inner_loop(rate: float, steps: int) -> None:
    """Raise FanfoldError unless the inner rate is positive and finite, and there is at least one inner step."""
    if not 0 < rate < inf:
        raise FanfoldError(f"`algorithm.inner_lr` must be above 0, not {rate}.")
    if steps < 1:
        raise FanfoldError(f"`algorithm.inner_steps` must be at least 1, not {steps}.")


def rate_of(name: str) -> str:
    """The name, among the meta-parameters, of a parameter's learned inner rate."""
    return f"{name}:inner_lr"

"""A task's support loss: its gradient, which is differentiated once more by its Hessian.

An inner step goes along the gradient g(θ) = ∇L(θ). The meta-gradient goes through it: what comes back to g in a
direction v goes on to θ as H(θ) · v, the Hessian times a vector. Two exact ways lead there:

- **reverse**: reverse-mode differentiation of g, which was itself computed so. All that the step computed is kept until
  then, so memory grows with every inner step.
- **mixed**: forward over reverse. Only θ is kept; on the way back g is computed once more, together with its tangent in
  the direction v, which is H · v (Pearlmutter 1994; Kemaev et al., "Scalable Meta-Learning via Mixed-Mode
  Differentiation", ICML 2025). Memory does not grow with inner steps, but for the θ's themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tasks.network import Network

if TYPE_CHECKING:
    from tasks.layers import Patches

Differentiation = Literal["reverse", "mixed", "auto"]
Order = Literal["first", "reverse", "mixed"]

KEPT = 2000  # images times inner steps up to which `auto` keeps them all


def order_of(differentiation: Differentiation, images: int, steps: int) -> Order:
    """How to differentiate through some inner steps on a support set of so many images.

    `auto` decides by these two alone, so that a run's numbers depend on its configuration alone.
    """
    if differentiation == "auto":
        return "reverse" if images * steps <= KEPT else "mixed"
    return differentiation


@dataclass(frozen=True)
class SupportLoss:
    """The mean cross-entropy of a task's support set, a function of the network's parameters.

    Args:
        network: The network.
        images: `[n, 1, height, width]`.
        labels: int64 `[n]`.
    """

    network: Network
    images: Tensor
    labels: Tensor

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The loss, a scalar."""
        return cross_entropy(self.network(parameters, self.images), self.labels)

    def gradient(self, parameters: Mapping[str, Tensor], order: Order) -> dict[str, Tensor]:
        """∇L by every parameter of the network.

        Args:
            parameters: θ, by name.
            order: Whether PyTorch can differentiate the result: not at all (`first`), or in one of the exact ways.
        """
        names = list(self.network.shapes)
        theta = [parameters[name] for name in names]
        if order == "first":
            found: Sequence[Tensor] = self._point(theta).gradient
        elif self.network.stack is None and order == "reverse":
            found = torch.autograd.grad(self({**parameters}), theta, create_graph=True)
        else:
            found = _Gradient.apply(self, order == "mixed", *theta)
        return dict(zip(names, found, strict=True))

    @cached_property
    def _inputs(self) -> "Patches":
        assert self.network.stack is not None
        return self.network.stack.inputs(self.images)

    def _point(self, theta: Sequence[Tensor]) -> "_Point":
        """The gradient at θ, and what its derivative needs."""
        values = [value.detach() for value in theta]
        return (_plain_point if self.network.stack is None else _stack_point)(self, values)


@dataclass(frozen=True)
class _Point:
    """∇L at some θ, in the order of the network's parameters, and what H · v takes from there."""

    loss: SupportLoss
    theta: Sequence[Tensor]
    gradient: Sequence[Tensor]
    probabilities: Tensor | None = None
    kept: Any = None

    def hessian_times(self, direction: Sequence[Tensor]) -> Sequence[Tensor]:
        """H · v, for v in the order of the network's parameters."""
        network = self.loss.network
        names = list(network.shapes)
        if network.stack is None:
            return _jvp_of_gradient(self.loss, self.theta, direction)
        outputs_t, forth = network.stack.tangent(self.kept, dict(zip(names, direction, strict=True)))
        p = self.probabilities
        assert p is not None
        d_outputs_t = p * (outputs_t - (p * outputs_t).sum(1, keepdim=True)) / len(p)
        products = network.stack.backward_tangent(self.kept, forth, d_outputs_t)
        return [products[name] for name in names]


def _stack_point(loss: SupportLoss, theta: Sequence[Tensor]) -> _Point:
    names, stack = list(loss.network.shapes), loss.network.stack
    assert stack is not None
    outputs, kept = stack.forward(dict(zip(names, theta, strict=True)), loss._inputs)
    probabilities = outputs.softmax(1)
    d_outputs = probabilities.clone()
    d_outputs[torch.arange(len(d_outputs)), loss.labels] -= 1
    found, both = stack.backward(kept, d_outputs / len(d_outputs))
    return _Point(loss, theta, [found[name] for name in names], probabilities, both)


def _plain_point(loss: SupportLoss, theta: Sequence[Tensor]) -> _Point:
    with torch.enable_grad():
        leaves = [value.requires_grad_() for value in theta]
        found = torch.autograd.grad(loss(dict(zip(loss.network.shapes, leaves, strict=True))), leaves)
    return _Point(loss, [leaf.detach() for leaf in leaves], found)


def _jvp_of_gradient(loss: SupportLoss, theta: Sequence[Tensor], direction: Sequence[Tensor]) -> Sequence[Tensor]:
    names = list(loss.network.shapes)

    def value(*tensors: Tensor) -> Tensor:
        return loss(dict(zip(names, tensors, strict=True)))

    gradient = torch.func.grad(value, argnums=tuple(range(len(names))))
    products: Sequence[Tensor] = torch.func.jvp(gradient, tuple(theta), tuple(direction))[1]
    return products


class _Gradient(torch.autograd.Function):
    """∇L as a function of θ, whose derivative is the Hessian, which is symmetric."""

    @staticmethod
    def forward(ctx: Any, loss: SupportLoss, again: bool, *theta: Tensor) -> tuple[Tensor, ...]:
        point = loss._point(theta)
        ctx.loss = loss
        ctx.point = None if again else replace(point, gradient=())
        ctx.save_for_backward(*theta)
        return tuple(point.gradient)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *direction: Tensor) -> Any:
        point = ctx.loss._point(ctx.saved_tensors) if ctx.point is None else ctx.point
        return None, None, *point.hessian_times(direction)

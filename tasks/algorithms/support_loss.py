"""A task's support loss: its gradient, which is differentiated once more by its Hessian.

An inner step goes along the gradient g(θ) = ∇L(θ). The meta-gradient goes back through it: a derivative v by g gives
the derivative H(θ) · v by θ, the Hessian times a vector. It is computed exactly in two ways:

- **reverse**: reverse-mode differentiation of g, whose intermediate results are kept until then. Memory grows with
  every inner step.
- **mixed**: forward over reverse. Only θ is kept; on the way back g is computed once more, and with it its tangent in
  the direction v, which is H · v (Pearlmutter 1994; Kemaev et al., "Scalable Meta-Learning via Mixed-Mode
  Differentiation", ICML 2025). Memory does not grow with inner steps, but for the θ's themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.derivatives.protocol import Patches
from fanfold.tasks.network import Network

Differentiation = Literal["reverse", "mixed", "auto"]
Order = Literal["first", "reverse", "mixed"]

KEPT = 2000  # images times inner steps up to which `auto` keeps all intermediate results


def order_of(differentiation: Differentiation, images: int, steps: int) -> Order:
    """The way to differentiate through inner steps on a support set of so many images.

    `auto` follows from these two numbers alone, so that a run's results depend on its configuration alone.
    """
    if differentiation == "auto":
        return "reverse" if images * steps <= KEPT else "mixed"
    return differentiation


@dataclass(frozen=True)
class SupportLoss:
    """The mean cross-entropy of a task's support set, a function of the network's parameters."""

    network: Network
    images: Tensor  # `[n, channels, height, width]`
    labels: Tensor  # int64 `[n]`

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The loss, a scalar."""
        return cross_entropy(self.network(parameters, self.images), self.labels)

    def gradient(self, parameters: Mapping[str, Tensor], order: Order) -> dict[str, Tensor]:
        """∇L by every parameter. PyTorch can differentiate it in the exact ways, and can't with the order `first`."""
        names = list(self.network.shapes)
        theta = [parameters[name] for name in names]
        if self.network.vectorized:
            found: Sequence[Tensor] = _VectorizedGradient.apply(self.network, self.labels, self.images, *theta)
            if order == "first":
                found = [value.detach() for value in found]
        elif order == "first":
            found = self._point(theta).gradient
        elif self.network.one_task_stack is None and order == "reverse":
            found = torch.autograd.grad(self(parameters), theta, create_graph=True)
        else:
            found = _Gradient.apply(self, order == "mixed", *theta)
        return dict(zip(names, found, strict=True))

    @cached_property
    def _patches(self) -> Patches:
        assert self.network.stack is not None
        return self.network.stack.first.patches(self.images[None])

    def _point(self, theta: Sequence[Tensor]) -> "_Point":
        """The gradient at θ, with the intermediate results that its derivative needs."""
        values = [value.detach() for value in theta]
        return (_plain_point if self.network.one_task_stack is None else _stack_point)(self, values)


@dataclass(frozen=True)
class _Point:
    """∇L at some θ, in the order of the network's parameters, with the intermediate results that H · v needs."""

    loss: SupportLoss
    theta: Sequence[Tensor]
    gradient: Sequence[Tensor]
    probabilities: Tensor | None = None
    kept: Any = None

    def hessian_times(self, direction: Sequence[Tensor]) -> Sequence[Tensor]:
        """H · v, for v in the order of the network's parameters."""
        stack = self.loss.network.one_task_stack
        if stack is None:
            moved: Sequence[Tensor] = torch.func.jvp(_gradient_at(self.loss), tuple(self.theta), tuple(direction))[1]
            return moved
        outputs_t, forth = stack.tangent(self.kept, stack.laid_out(direction))
        p = self.probabilities
        assert p is not None
        d_outputs_t = p * (outputs_t - (p * outputs_t).sum(2, keepdim=True)) / p.shape[1]
        return stack.restored(stack.backward_tangent(self.kept, forth, d_outputs_t))


def _stack_point(loss: SupportLoss, theta: Sequence[Tensor]) -> _Point:
    stack = loss.network.one_task_stack
    assert stack is not None
    outputs, kept = stack.forward(stack.laid_out(theta), loss._patches)
    probabilities = outputs.softmax(2)
    d_outputs = probabilities.clone()
    d_outputs[0, torch.arange(len(loss.labels)), loss.labels] -= 1
    found, both = stack.backward(kept, d_outputs / len(loss.labels))
    return _Point(loss, theta, stack.restored(found), probabilities, both)


def _plain_point(loss: SupportLoss, theta: Sequence[Tensor]) -> _Point:
    with torch.enable_grad():
        leaves = [value.requires_grad_() for value in theta]
        found = torch.autograd.grad(loss(dict(zip(loss.network.shapes, leaves, strict=True))), leaves)
    return _Point(loss, [leaf.detach() for leaf in leaves], found)


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


class _VectorizedGradient(torch.autograd.Function):
    """∇L as a function of θ, for `torch.vmap`.

    Always mixed: reverse over reverse, PyTorch's second derivatives of batch norm are wrong under `torch.vmap` (2.15;
    by 2.5 % in a small network), those by forward over reverse right.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(network: Network, labels: Tensor, images: Tensor, *theta: Tensor) -> tuple[Tensor, ...]:
        return _gradient_at(SupportLoss(network, images, labels))(*theta)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.network, ctx.labels, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *direction: Tensor) -> Any:
        images, *theta = ctx.saved_tensors
        gradient_at = _gradient_at(SupportLoss(ctx.network, images, ctx.labels))
        return None, None, None, *torch.func.jvp(gradient_at, tuple(theta), direction)[1]


def _gradient_at(loss: SupportLoss) -> Callable[..., tuple[Tensor, ...]]:
    names = list(loss.network.shapes)

    def value(*theta: Tensor) -> Tensor:
        return loss(dict(zip(names, theta, strict=True)))

    gradient: Callable[..., tuple[Tensor, ...]] = torch.func.grad(value, argnums=tuple(range(len(names))))
    return gradient

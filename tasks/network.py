"""An ordinary `nn.Module` as a pure function of one flat vector of parameters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from data.advice import one_line
from data.errors import FanfoldError


@dataclass(frozen=True)
class Network:
    """A module without state of its own: parameters are passed in.

    Args:
        module: The module; maps images `[n, 1, height, width]` to logits `[n, ways]`. Its own parameters serve as
            names and shapes only.
        shapes: The parameters' names and shapes, in the flat vector's order.
    """

    module: nn.Module
    shapes: Mapping[str, torch.Size]

    def __call__(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits `[n, ways]` of images `[n, 1, height, width]`."""
        # Buffers are passed in as copies, so that none carries anything from one call to the next.
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        logits: Tensor = functional_call(self.module, {**parameters, **buffers}, (images,))
        return logits

    def __len__(self) -> int:
        """How many numbers the flat vector holds."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def transductive(self) -> bool:
        """Whether images judged together influence each other, through statistics of their batch."""
        return any(isinstance(layer, _BatchNorm) for layer in self.module.modules())

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """The flat vector `[len(self)]` as named tensors, views of it."""
        parts = vector.split([math.prod(shape) for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    """Named tensors, in their order, as one flat vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])


def as_network(module: nn.Module) -> Network:
    """Wrap a module.

    Raises:
        FanfoldError: The module keeps running statistics, which tasks computed in parallel can't share.
    """
    for name, layer in module.named_modules():
        if getattr(layer, "running_mean", None) is not None:
            raise FanfoldError(
                f"The model's layer '{name}' ({type(layer).__name__}) keeps running statistics, which tasks in "
                "parallel can't share: build it with track_running_stats=False."
            )
    return Network(module, {name: parameter.shape for name, parameter in module.named_parameters()})


def check_network(network: Network, ways: int, size: tuple[int, int]) -> None:
    """Raise FanfoldError unless the module maps images to as many logits as there are ways, by all its parameters.

    Args:
        network: The network.
        ways: Classes to tell apart.
        size: Height and width of the images.
    """
    parameters = {name: value.detach().requires_grad_() for name, value in network.module.named_parameters()}
    if not parameters:
        raise FanfoldError("The model has no parameters to learn.")
    images = torch.zeros(2, 1, *size, device=next(iter(parameters.values())).device)
    try:
        logits = network(parameters, images)
        if tuple(logits.shape) != (2, ways):
            raise FanfoldError(f"The model must give logits [2, {ways}] for two images, not {list(logits.shape)}.")
        torch.autograd.grad(logits.sum(), list(parameters.values()))
    except FanfoldError:
        raise
    except Exception as error:  # whatever a user's own module may raise
        raise FanfoldError(f"The model fails on images of shape {list(images.shape)}: {one_line(error)}") from error

"""Test-time augmentation: the mean of what a network makes of images and of their mirror images.

It is the same for an image and its mirror image. Classes that are each other's mirror images, as some letters are, can
no longer be told apart.
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from fanfold.tasks.network import Network


class Flipped(Network):
    """A network whose logits or embeddings are the means over images and their mirror images."""

    def __call__(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits `[n, ways]`, or embeddings `[n, d]`, of images `[n, channels, height, width]`."""
        make = super().__call__
        return _mean(lambda one: make(parameters, one), images)

    def features(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The inputs of the last linear layer, `[n, d]`."""
        make = super().features
        return _mean(lambda one: make(parameters, one), images)


class FlippedModule(nn.Module):
    """A module whose outputs are the means over images and their mirror images."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Outputs `[n, …]` of images `[n, channels, height, width]`."""
        return _mean(self.module, images)


def flipped(network: Network) -> Flipped:
    """The network, averaged over mirror images; by PyTorch's operations alone."""
    return Flipped(**{**vars(network), "stack": None})


def unflipped(module: nn.Module) -> nn.Module:
    """The module itself, or the one that it averages."""
    return module.module if isinstance(module, FlippedModule) else module


def _mean(make: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return (make(images) + make(images.flip(-1))) / 2

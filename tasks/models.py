"""The networks of the few-shot literature, each as a configuration.

Batch norm has no running statistics: it normalizes by the current batch, as in MAML. A query's logits then depend on
the other queries of its batch, which makes the classifier *transductive*.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from threading import get_ident
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.tasks import given
from fanfold.tasks.plugins import import_class


class Model(Protocol):
    """The configuration of a network. It is hashable, so that a worker builds each network once."""

    def __hash__(self) -> int: ...

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        """Build a freshly initialized module that maps images `[n, channels, *size]` to logits `[n, ways]`."""


_TOO_SMALL = re.compile("size is too small|greater than actual input size|must be greater than zero")
"""PyTorch's words on images that are too small for a layer."""


def build_network(model: Model, ways: int, size: tuple[int, int], seed: int, channels: int = 1) -> nn.Module:
    """Build a network whose initialization follows from the seed alone.

    Raises:
        FanfoldError: The network can't be built, for example because the images are too small for it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = model.build(ways, size, channels)
            if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
                with torch.no_grad():
                    module.eval()(torch.zeros(2, channels, *size))  # what is lazy takes its shape
                module.train()
            return module
        except FanfoldError:
            raise
        except Exception as error:  # whatever a user's own module may raise
            why = one_line(error)
            mend = "; prepare larger ones, by `dataset.size`" if _TOO_SMALL.search(why) else ""
            raise FanfoldError(f"The model can't be built for images of {size[0]} × {size[1]}: {why}{mend}") from error


class Classifier(nn.Module):
    """An embedding, from images `[n, channels, *size]` to `[n, d]`, with a linear head."""

    def __init__(self, features: nn.Module, ways: int, size: tuple[int, int], channels: int = 1) -> None:
        super().__init__()
        self.features = features
        with torch.no_grad():
            embedding = features(torch.zeros(2, channels, *size))
        self.head = nn.Linear(embedding.shape[1], ways)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[n, ways]` of images `[n, channels, height, width]`."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _block(channels: int, width: int, *, stride: int = 1, pool: bool = False) -> nn.Module:
    # The convolution has no bias: batch norm would subtract it.
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width, track_running_stats=False),
        nn.ReLU(),
        *([nn.MaxPool2d(2)] if pool else []),
    )


@dataclass(frozen=True)
class Conv4:
    """Four blocks of 3×3 convolution, batch norm, ReLU and 2×2 max-pooling (Vinyals et al. 2016).

    Args:
        name: The network's name.
        width: Filters of a block.
    """

    name: str = "conv4"
    width: int = 64

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        blocks = [_block(inputs, self.width, pool=True) for inputs in (channels, *[self.width] * 3)]
        return Classifier(nn.Sequential(*blocks, nn.Flatten()), ways, size, channels)


@dataclass(frozen=True)
class Conv4Stride:
    """Four blocks of 3×3 convolution with stride 2, batch norm and ReLU, no pooling (Finn et al. 2017).

    Args:
        name: The network's name.
        width: Filters of a block.
        reduce: How the last feature maps become the embedding: by their `mean` over places (MAML), or by `flatten`
            (Reptile).
    """

    name: str = "conv4-stride"
    width: int = 64
    reduce: Literal["mean", "flatten"] = "mean"

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        blocks = [_block(inputs, self.width, stride=2) for inputs in (channels, *[self.width] * 3)]
        pool = [nn.AdaptiveAvgPool2d(1)] if self.reduce == "mean" else []
        return Classifier(nn.Sequential(*blocks, *pool, nn.Flatten()), ways, size, channels)


@dataclass(frozen=True)
class Article:
    """Two blocks of 64-filter convolution, batch norm, ReLU and max-pooling; 3,136 → 256 → ways at 28 × 28.

    Args:
        name: The network's name.
        width: Filters of a block.
        hidden: Units of the hidden layer.
    """

    name: str = "article"
    width: int = 64
    hidden: int = 256

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        blocks = [_block(inputs, self.width, pool=True) for inputs in (channels, self.width)]
        pixels = self.width * (size[0] // 4) * (size[1] // 4)
        hidden = [nn.Flatten(), nn.Linear(pixels, self.hidden), nn.ReLU()]
        return Classifier(nn.Sequential(*blocks, *hidden), ways, size, channels)


@dataclass(frozen=True)
class ResNet12:
    """Four residual blocks of three 3×3 convolutions, and the mean over places (Lee et al. 2019, MetaOptNet).

    Args:
        name: The network's name.
        widths: Filters of each block: `64-128-256-512` (Chen et al. 2021, Meta-Baseline), or MetaOptNet's own, which
            are more, `64-160-320-640`.
        drop: The share of places that training drops from the feature maps of the last two blocks, in squares (Ghiasi
            et al. 2018, DropBlock); MetaOptNet has 0.1.
    """

    name: str = "resnet12"
    widths: str = "64-128-256-512"
    drop: float = 0.0

    def __post_init__(self) -> None:
        parts = self.widths.split("-")
        if len(parts) != 4 or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
            raise FanfoldError(f"`model.widths` must be four numbers such as 64-128-256-512, not {self.widths!r:.100}.")
        if not 0 <= self.drop < 1:
            raise FanfoldError(f"`model.drop` must be from 0 to below 1, not {self.drop}.")

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        widths = [int(part) for part in self.widths.split("-")]
        pairs = zip([channels, *widths], widths, [0.0, 0.0, self.drop, self.drop], strict=False)
        blocks = [ResidualBlock(inputs, width, drop) for inputs, width, drop in pairs]
        return Classifier(nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), ways, size, channels)


class ResidualBlock(nn.Module):
    """Three convolutions and a shortcut by a fourth, each with batch norm; then leaky ReLU and 2×2 max-pooling."""

    def __init__(self, inputs: int, width: int, drop: float = 0.0) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_normed(inputs, width, 3), nn.LeakyReLU(0.1), *_normed(width, width, 3), nn.LeakyReLU(0.1),
            *_normed(width, width, 3),
        )  # fmt: skip
        self.shortcut = nn.Sequential(*_normed(inputs, width, 1))
        self.after = nn.Sequential(nn.LeakyReLU(0.1), nn.MaxPool2d(2), *([DropBlock(drop)] if drop else []))

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps `[n, width, height / 2, width / 2]` of `[n, inputs, height, width]`."""
        found: Tensor = self.after(self.convolutions(maps) + self.shortcut(maps))
        return found


class DropBlock(nn.Module):
    """In training, zero squares of feature maps, and scale the others up (Ghiasi et al. 2018, algorithm 1).

    Torchvision's draws in place, which `torch.vmap` can't do for tasks.

    Args:
        rate: The share of places to zero.
        size: Places across a square; as many as there are, where that is fewer.
    """

    def __init__(self, rate: float, size: int = 5) -> None:
        super().__init__()
        self.rate, self.size = rate, size

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps `[n, channels, height, width]`, as many as came in."""
        if not self.training:
            return maps
        height, width = maps.shape[-2:]
        size = min(self.size, height, width)
        corners = maps[..., : height - size + 1, : width - size + 1]
        per_corner = self.rate * height * width / (size**2 * corners.shape[-1] * corners.shape[-2])
        centres = (torch.rand_like(corners) < per_corner).to(maps)
        edge = size - 1
        kept = 1 - max_pool2d(pad(centres, (edge, edge, edge, edge)), size, 1)
        return maps * kept * (kept.numel() / kept.sum().clamp(min=1))


def _normed(inputs: int, width: int, side: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, width, side, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
    return [convolution, nn.BatchNorm2d(width, track_running_stats=False)]


@dataclass(frozen=True)
class PluginModel:
    """A network that is not part of Fanfold.

    Args:
        name: `package.module:Class`, an `nn.Module` that maps images `[n, channels, height, width]` to logits
            `[n, ways]`. It is built as `Class(ways=…, **arguments)`, with `channels=…` where it takes that.
        arguments: Further keyword arguments of the class.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        return _built(self.name, import_class("model", self.name), ways, channels, self.arguments)


@dataclass(frozen=True)
class GivenModel:
    """A network that was handed over in Python: a module, which is taken as it is, or a class, which is built.

    Args:
        name: `object:Class`.
        digest: What stands for the object, see `tasks.given`.
    """

    name: str
    digest: str

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        found = given.fresh(self.digest)
        if isinstance(found, nn.Module):
            return found
        return _built(self.name.removeprefix(f"{given.PREFIX}:"), found, ways, channels, {})


def handed_over(found: nn.Module | type[nn.Module]) -> GivenModel:
    """The configuration of a module, or of its class, that was handed over in Python.

    Raises:
        FanfoldError: It can't be pickled.
    """
    name = found.__name__ if isinstance(found, type) else type(found).__name__
    return GivenModel(f"{given.PREFIX}:{name}", given.give("model", found))


def _built(name: str, found: Any, ways: int, channels: int, arguments: dict[str, Any]) -> nn.Module:
    """A user's class, built; with the number of channels where it takes that.

    Raises:
        FanfoldError: It is no class of modules, or fails.
    """
    # Before anything is called: a name may come from a run directory of somebody else's.
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise FanfoldError(f"Model '{name}' must be a class that subclasses torch.nn.Module.")
    try:
        takes = "channels" in signature(found).parameters
        return found(ways=ways, **({"channels": channels, **arguments} if takes else arguments))
    except Exception as error:  # a user's class may raise anything
        # Without the number: algorithms that leave the head out have it built for two ways, whatever a task's are.
        raise FanfoldError(
            f"The model {name} can't be built as {found.__name__}(ways=…): {one_line(error)}."
        ) from error


MODELS: dict[str, type] = {"conv4": Conv4, "conv4-stride": Conv4Stride, "article": Article, "resnet12": ResNet12}


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Stop the building of modules in this thread as soon as they have more parameters: before memory is filled.

    Raises:
        ValueError: They have, from within the building.
    """
    found, here = 0, get_ident()

    def count(_module: nn.Module, _name: str, value: Tensor) -> None:
        nonlocal found
        if get_ident() != here:  # the hook is of all threads
            return
        found += 0 if value is None else value.numel()
        if found > numbers:
            raise ValueError(f"it has more than {numbers:,} parameters")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()

"""The networks of torchvision and timm, with their weights or without, as models.

The last linear layer gives way to a head of Fanfold's. What the weights were trained on, the size, mean and standard
deviation of pictures, is part of the network: it takes the pictures of any store.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _NormBase

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.data.extras import need
from fanfold.tasks import given, weights
from fanfold.tasks.models import Classifier, Model
from fanfold.tasks.network import Network, by_batch, last_linear

PREFIXES = ("torchvision/", "timm/")
NOT_ANY = "none"
Statistics = Literal["auto", "fixed", "batch"]


@dataclass(frozen=True)
class Backbone:
    """A network of torchvision or timm.

    Args:
        name: `torchvision/NAME` or `timm/NAME`.
        weights: What it starts from: `DEFAULT`, the weights that the name stands for, which are downloaded once; a file
            of safetensors, or of a state dict of PyTorch's; or `none`, to start anew.
        freeze: Whether all but the head stays as it is.
        size: Height and width that pictures are scaled to before they go in; none for as they are in the store.
        statistics: Batch norm's: `fixed`, those that came with the weights, unchanged, so that each picture is judged
            by itself; `batch`, those of the pictures at hand; `auto` for fixed ones where there are any.
        sha256: Of the weights; filled in.
    """

    name: str
    weights: str = NOT_ANY
    freeze: bool = False
    size: int | None = None
    statistics: Statistics = "auto"
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise FanfoldError(f"`model.size` must be at least 1, not {self.size}.")
        if self.freeze and self.statistics == "batch":
            raise FanfoldError("`model.freeze` keeps batch norm's statistics: leave `model.statistics=batch` out.")
        if self.statistics == "fixed" and self.weights == NOT_ANY and not self.freeze and self.sha256 is None:
            raise FanfoldError("`model.statistics=fixed` needs statistics: give `model.weights`, or leave it out.")

    @property
    def starts_from_weights(self) -> bool:
        """Whether there are weights that it starts from, whether or not they are still to be filled in."""
        return self.weights != NOT_ANY or self.sha256 is not None

    @property
    def fixes_statistics(self) -> bool:
        """Whether batch norm's statistics stay as they are."""
        return self.statistics == "fixed" or (self.statistics == "auto" and (self.freeze or self.weights != NOT_ANY))

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        """See `Model.build`.

        Raises:
            FanfoldError: There is no such network, it doesn't take such pictures, or the weights don't fit it.
        """
        scaled = size if self.size is None else (self.size, self.size)
        try:
            network = _network(self.name, scaled, self.starts_from_weights)
            if self.weights != NOT_ANY:
                _fill(network, weights.tensors(self.weights, self.sha256, self._downloaded), self.name)
            if self.name.startswith("torchvision/"):
                _take_head(network)
            for layer in network.modules():
                if isinstance(layer, _NormBase) and layer.running_mean is not None:
                    layer.track_running_stats = False  # so they stay as they are
                    if not self.fixes_statistics:
                        by_batch(layer)
            body = Body(network, None if scaled == size else self.size, preprocess(self))
            return Classifier(body.requires_grad_(not self.freeze).eval(), ways, size, channels).train()
        except FanfoldError:
            raise
        except Exception as error:  # whatever a network may raise of sizes that it doesn't take
            native = preprocess(self).size
            raise FanfoldError(
                f"The model {self.name} doesn't take pictures of {scaled[0]} × {scaled[1]} ({one_line(error)}): its "
                f"own are {native} × {native}, see `model.size={native}`."
            ) from error

    def resolved(self) -> "Backbone":
        """The same with its weights read, by an absolute path, and their SHA-256.

        Raises:
            FanfoldError: They can't be read, or are others than those whose SHA-256 was given.
        """
        if self.weights == NOT_ANY:
            return self
        _check_name(self.name)
        place, digest = weights.find(self.weights, self.sha256, self._downloaded)
        return replace(self, weights=place, sha256=digest)

    def _downloaded(self) -> dict[str, Tensor]:
        return _weights_of(self.name)


class Preprocess(NamedTuple):
    """What pictures a network was trained on: `[3, size, size]`, 0 to 1, less the mean, by the standard deviation."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Body(nn.Module):
    """Pictures `[n, 1 or 3, height, width]`, 0 to 1, to embeddings `[n, d]`.

    Args:
        network: Pictures `[n, 3, height, width]` to embeddings.
        size: Height and width that pictures are scaled to; None for as they are.
        trained_on: The pictures that the network was trained on.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, size: int | None, trained_on: Preprocess) -> None:
        super().__init__()
        self.network, self.size = network, size
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(trained_on, name)).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings `[n, d]`."""
        if self.size is not None:
            images = interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        # A grey picture has three equal channels then.
        found: Tensor = self.network((images - self.mean) / self.std)
        return found

    def extra_repr(self) -> str:
        """What the representation says besides the network."""
        return f"size={self.size}"


def resolved(model: Model) -> Model:
    """A model with its weights at hand, if it has any, see `Backbone.resolved`."""
    return model.resolved() if isinstance(model, Backbone) else model


def objects_of(model: Model) -> list[str]:
    """The SHA-256 of the weights of a resolved model, which workers must have: see `tasks.given`."""
    return [str(getattr(model, "sha256", None))] if weights_of(model) is not None else []


def weights_of(model: Model) -> bytes | None:
    """The weights of a resolved model, as the content of a file of safetensors; None where it has none."""
    return given.content(model.sha256) if isinstance(model, Backbone) and model.sha256 else None


def unfilled(model: Model) -> Model:
    """A model without the weights that it starts from, for a network whose tensors are all at hand."""
    if not isinstance(model, Backbone) or model.weights == NOT_ANY:
        return model
    how: Statistics = "fixed" if model.fixes_statistics else "batch"
    return replace(model, weights=NOT_ANY, statistics=how, sha256=model.sha256 or "")


def preprocess(model: Model) -> Preprocess:
    """The pictures that a backbone was trained on; the network itself makes a store's pictures such, but for the size.

    Raises:
        FanfoldError: It is no backbone of torchvision or timm, or there is none of its name.
    """
    if not isinstance(model, Backbone):
        raise FanfoldError(f"The model is none of torchvision or timm: {model}.")
    library, name = _check_name(model.name)
    if library == "timm":
        found = _timm().get_pretrained_cfg(name)
        return Preprocess(found.input_size[-1], found.mean, found.std)
    from torchvision import models  # only here and below: importing it takes its time

    transforms = models.get_model_weights(name).DEFAULT.transforms()
    return Preprocess(transforms.crop_size[0], tuple(transforms.mean), tuple(transforms.std))


def weights_digest(network: Network) -> str:
    """A SHA-256 of a frozen network: of its layers, and of all its tensors, also of those that no state dict has."""
    module = network.module
    return weights.digest({**dict(module.named_parameters()), **dict(module.named_buffers())}, str(module))


def _timm() -> Any:
    return import_module("timm")  # only when it is needed: that takes seconds


def _check_name(full: str) -> tuple[str, str]:
    """The library and the network's name in it.

    Raises:
        FanfoldError: There is none, or timm isn't installed.
    """
    library, _, name = full.partition("/")
    if library == "timm":
        need("timm", f"The model {full}")
        if _timm().is_model(name.partition(".")[0]) and _timm().get_pretrained_cfg(name) is not None:
            return library, name
        names = _timm().list_models() + _timm().list_pretrained()
    else:
        from torchvision import models

        names = models.list_models(module=models)
        if name in names:
            return library, name
    similar = get_close_matches(name, names, 3)
    advice = f"similar are {', '.join(similar)}" if similar else f"see the list of models in the manual of {library}"
    raise FanfoldError(f"{library} has no model '{name[:100]}': {advice}.")


def _network(full: str, size: tuple[int, int], trained: bool) -> nn.Module:
    """A network with the layers that its weights are of, freshly initialized, for pictures of a size.

    Of googlenet and inception_v3, it depends on whether they were trained how they normalize pictures.
    """
    library, name = _check_name(full)
    if library == "timm":
        fixed = _timm().get_pretrained_cfg(name).fixed_input_size
        found: nn.Module = _timm().create_model(name, num_classes=0, **({"img_size": size} if fixed else {}))
        return found
    from torchvision import models

    more: dict[str, Any] = {}
    if name.startswith("vit_"):
        more = {"image_size": _square(size)}
    elif name == "maxvit_t":
        more = {"input_size": size}
    elif name in ("googlenet", "inception_v3"):  # their weights take other means than the transforms say
        more = {"aux_logits": False, "init_weights": not trained, "transform_input": trained}
    made: nn.Module = models.get_model(name, weights=None, **more)
    return made


def _square(size: tuple[int, int]) -> int:
    if size[0] != size[1]:
        raise ValueError("only squares")
    return size[0]


def _weights_of(full: str) -> dict[str, Tensor]:
    """The weights that a name stands for, downloaded if they were not before."""
    library, name = _check_name(full)
    try:
        found: dict[str, Tensor]
        if library == "timm":
            found = _timm().create_model(name, pretrained=True).state_dict()
        else:
            from torchvision import models

            of_name = models.get_model_weights(name).DEFAULT
            found = of_name.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # of a network, of a disk, of a server's
        raise FanfoldError(
            f"The weights of {full} can't be downloaded ({one_line(error)[:200]}): name a file that holds them by "
            "`model.weights`."
        ) from error
    return found


def _fill(network: nn.Module, tensors: dict[str, Tensor], full: str) -> None:
    """Load weights; those of the last linear layer, whatever they are, are left out.

    Raises:
        FanfoldError: They don't fit; the first that don't are named.
    """
    library, name = _check_name(full)
    convert = _converter(network, library)
    head = last_linear(network) if library == "torchvision" else None
    left_out = {f"{head}.weight", f"{head}.bias"}
    if library == "timm":
        heads = _timm().get_pretrained_cfg(name).classifier or ()
        left_out = {
            f"{one}.{of}" for one in ([heads] if isinstance(heads, str) else heads) for of in ("weight", "bias")
        }
    wanted = {key: value for key, value in network.state_dict().items() if key not in left_out}
    found = {key: value for key, value in tensors.items() if key not in left_out and not key.startswith(("aux", "Aux"))}
    try:
        found = convert(found)
    except Exception as error:  # it expects the names of its own network
        raise FanfoldError(f"The weights don't fit {full} ({one_line(error)[:200]}).") from error
    wrong = [f"{key} is missing" for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    wrong += [f"{key} is none of its tensors" for key in found if key not in wanted]
    wrong += [
        f"{key} is {list(found[key].shape)}, not {list(value.shape)}"
        for key, value in wanted.items()
        if key in found and found[key].shape != value.shape
    ]
    if wrong:
        more = f", and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
        raise FanfoldError(f"The weights don't fit {full}: {', '.join(wrong[:3])}{more}.")
    network.load_state_dict(found, strict=False)


def _converter(network: nn.Module, library: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """From weights as they are published to those for the size of a network's pictures."""
    if library == "timm":
        convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        return lambda tensors: tensors if convert is None else convert(tensors, network)
    from torchvision.models import vision_transformer

    if isinstance(network, vision_transformer.VisionTransformer):
        image, patch = network.image_size, network.patch_size
        return lambda tensors: dict(vision_transformer.interpolate_embeddings(image, patch, tensors))
    return lambda tensors: tensors


def _take_head(network: nn.Module) -> None:
    """Let the last linear layer of a network of torchvision hand its input on.

    Raises:
        FanfoldError: There is no such layer.
    """
    name = last_linear(network)
    if name is None:
        raise FanfoldError(f"{type(network).__name__} has no linear layer, which a head could replace: choose another.")
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())

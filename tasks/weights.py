"""Files of weights: state dicts of PyTorch's and safetensors. Reading one executes nothing.

What was read stays at hand by its SHA-256, and is sent to workers that can't read the file, see `tasks.given`.
"""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from fanfold.data.advice import in_fields, one_line
from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import shown
from fanfold.tasks import given

DEFAULT = "DEFAULT"
WRAPPED = ("state_dict", "model_state_dict", "model")  # where trainers put a state dict that they keep with more
PARALLEL = "module."  # what `DataParallel` puts before each name

Download = Callable[[], Mapping[str, Tensor]]


def find(place: str, expected: str | None, download: Download) -> tuple[str, str]:
    """Read weights. Returns their place, absolute, and their SHA-256.

    Args:
        place: A file, or `DEFAULT`.
        expected: The SHA-256 that they must have; None for any.
        download: What gives those of `DEFAULT`.

    Raises:
        FanfoldError: They can't be read, or are others.
    """
    if place == DEFAULT:
        if expected is not None and given.content(expected) is not None:
            return place, expected
        found = _keep(download())
    else:
        path = Path(place).expanduser().absolute()
        place, found = str(path), _read_once(str(path), *_version(path))
    if expected not in (None, found):
        raise FanfoldError(
            f"{named(place)} holds other weights than those of this run: their SHA-256 is {found}, not "
            f"{expected}. Name the file that holds these."
        )
    return place, found


def tensors(place: str, expected: str | None, download: Download) -> dict[str, Tensor]:
    """Weights by name, from what is at hand, or else from their place; see `find`."""
    content = None if expected is None else given.content(expected)
    if content is None:
        content = given.content(find(place, expected, download)[1])
    assert content is not None
    return safetensors.torch.load(content)


def named(place: str | Path) -> str:
    """The setting that names the weights, as a message shows it."""
    return in_fields({"model.weights": str(place)})


def digest(state: Mapping[str, Tensor], more: str = "") -> str:
    """The SHA-256 of some tensors by name, and of a text."""
    found = hashlib.sha256(more.encode())
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _keep(state: Mapping[str, Tensor]) -> str:
    """Keep weights at hand. Returns their SHA-256."""
    whole = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    found = digest(whole)
    given.receive(found, safetensors.torch.save(whole))
    return found


def _version(path: Path) -> tuple[int, int]:
    """What tells whether a file was changed.

    Raises:
        FanfoldError: There is none.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise FanfoldError(
            f"{named(path)} can't be read ({error.strerror}): name a file, {DEFAULT}, or none."
        ) from error
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=16)
def _read_once(path: str, _changed: int, _size: int) -> str:
    return _keep(_read(path))


def _read(path: str) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        FanfoldError: It can't be read, or holds anything else.
    """
    found: Any
    try:
        if path.endswith(".safetensors"):
            found = safetensors.torch.load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FanfoldError(
            f"{named(path)} holds other things than tensors, or is damaged: save the network's state_dict()."
        ) from error
    except Exception as error:  # `torch.load` raises many kinds of errors on damaged bytes
        raise FanfoldError(f"{named(path)} can't be read ({one_line(error)[:200]}).") from error
    for key in WRAPPED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise FanfoldError(f"{named(path)} holds no tensors by name: save the network's state_dict().")
    if strange := [name for name, value in found.items() if not value.isfinite().all()]:
        raise FanfoldError(f"{named(path)} is damaged: the tensor {shown(str(strange[0]))} is not finite.")
    parallel = all(str(name).startswith(PARALLEL) for name in found)
    return {str(name).removeprefix(PARALLEL if parallel else ""): value for name, value in found.items()}

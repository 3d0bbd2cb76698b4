"""Named tensors and facts in one file of safetensors, under a SHA-256; reading one executes nothing."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import KindError, shown
from fanfold.pipeline.files import read_bytes

Tensors = Mapping[str, NDArray[Any]]


def pack(facts: Mapping[str, Any], tensors: Tensors) -> bytes:
    """Facts, which JSON can hold, and tensors, as the content of a file."""
    text = json.dumps(facts)
    in_order = {name: np.asarray(value, order="C") for name, value in tensors.items()}  # the file has no other order
    return save(in_order, metadata={"fanfold": text, "sha256": digest(text, tensors)})


def unpack(content: bytes, name: str) -> tuple[Mapping[str, Any], dict[str, NDArray[Any]]]:
    """The facts and tensors of a file's content; the name is the file's, for messages.

    Raises:
        FanfoldError: The content is damaged, has a number that is not finite, or is none of Fanfold's.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        facts = json.loads(metadata["fanfold"])
        right = isinstance(facts, dict) and metadata["sha256"] == digest(metadata["fanfold"], tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FanfoldError(f"{name} is damaged, or no file of Fanfold's ({str(error)[:200]}).") from error
    if not right:
        raise FanfoldError(f"{name} is damaged: its content is not what its SHA-256 says.")
    if strange := [key for key, value in tensors.items() if not np.isfinite(value).all()]:
        raise FanfoldError(f"{name} is damaged: the tensor {shown(strange[0])} is not finite.")
    return facts, tensors


@contextlib.contextmanager
def told_of(name: str) -> Iterator[None]:
    """Raises what is wrong with a file's facts or tensors as an error that names the file."""
    try:
        yield
    except (KindError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        reason = f"its {error}" if isinstance(error, KindError) else one_line(error)
        reason = f"{error} is missing" if isinstance(error, KeyError) else reason
        raise FanfoldError(f"{name} is damaged ({reason[:200].rstrip('.')}).") from error


def read(path: Any) -> tuple[Mapping[str, Any], dict[str, NDArray[Any]]]:
    """The facts and tensors of a file.

    Raises:
        FanfoldError: It can't be read, is damaged, or none of Fanfold's.
    """
    return unpack(read_bytes(path), str(path))


def digest(facts: str, tensors: Tensors) -> str:
    """The SHA-256 over the facts' text and all tensors."""
    found = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        found.update(f"\n{name} {value.dtype.str} {value.shape}\n".encode())
        found.update(value.tobytes())
    return found.hexdigest()

"""Named tensors and facts in one file of safetensors, under a SHA-256; reading one executes nothing."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fanfold.data.errors import FanfoldError
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
        FanfoldError: The content is damaged, or none of Fanfold's.
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
    return facts, tensors


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

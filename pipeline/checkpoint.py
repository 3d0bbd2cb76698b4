"""Checkpoints: written whole or not at all, and read without executing anything."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.files import write_bytes
from fanfold.pipeline.optimizer import State, Vector

FORMAT = 2
VECTORS = ("parameters", "mean", "square", "average", "best")
FACTS = ("best_iteration", "best_accuracy", "validated", "seconds", "fingerprint", "note")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run."""

    state: State
    best: Vector  # the best on validation classes, float32 `[P]`; the initial ones before the first validation
    fingerprint: str  # identifies the store's content, see `pipeline.worker.open_context`
    best_iteration: int | None = None  # None before the first validation
    best_accuracy: float = 0.0
    validated: int = 0  # iterations at the last validation
    seconds: float = 0.0  # of training so far
    note: str | None = None  # why the data set `auto` fell back to another one; None if it did not


def parameters_sha256(parameters: Vector) -> str:
    """The SHA-256 of the parameters as little-endian float32."""
    return hashlib.sha256(parameters.astype("<f4").tobytes()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside its path, then rename it.

    Raises:
        FanfoldError: It can't be written, as on a full disk; an earlier checkpoint stays.
    """
    state = checkpoint.state
    vectors = {name: getattr(state, name) for name in VECTORS[:-1]} | {"best": checkpoint.best}
    facts = {part.name: getattr(checkpoint, part.name) for part in fields(checkpoint) if part.name in FACTS}
    facts |= {"format": FORMAT, "iteration": state.iteration}
    write_bytes(path, save(vectors, metadata={"fanfold": json.dumps(facts)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FanfoldError: The checkpoint is missing, damaged, or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})["fanfold"])
            if facts["format"] != FORMAT:
                raise FanfoldError(f"The checkpoint {path} was written by another version of Fanfold: train again.")
            vectors = {name: np.array(file.get_tensor(name)) for name in VECTORS}
    except FileNotFoundError as error:
        raise FanfoldError(f"No checkpoint at {path}.") from error
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FanfoldError(f"The checkpoint {path} is damaged ({error}): use another one.") from error
    best = vectors.pop("best")
    return Checkpoint(State(iteration=facts["iteration"], **vectors), best, **{name: facts[name] for name in FACTS})

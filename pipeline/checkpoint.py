"""A run's state on disk: written whole or not at all, and read without executing anything."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data.errors import FanfoldError
from pipeline.files import write_bytes
from pipeline.optimizer import State, Vector

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Args:
        state: Parameters, optimizer's moments, iterations done.
        seconds: Seconds of training so far.
        validated: Iterations at the last validation.
        best_iteration: Iterations at the best validation; None before the first.
        best_accuracy: Its accuracy; 0 before the first.
    """

    state: State
    seconds: float = 0.0
    validated: int = 0
    best_iteration: int | None = None
    best_accuracy: float = 0.0


def parameters_sha256(parameters: Vector) -> str:
    """The SHA-256 of the parameters as little-endian float32."""
    return hashlib.sha256(parameters.astype("<f4").tobytes()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside its name, then rename it.

    Raises:
        FanfoldError: It can't be written, as on a full disk; an earlier one of that name stays.
    """
    state = checkpoint.state
    vectors = {"parameters": state.parameters, "mean": state.mean, "square": state.square}
    facts = {key: value for key, value in asdict(checkpoint).items() if key != "state"}
    facts |= {"format": FORMAT, "iteration": state.iteration}
    write_bytes(path, save(vectors, metadata={"fanfold": json.dumps(facts)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FanfoldError: It is missing, damaged, or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})["fanfold"])
            vectors = {name: np.array(file.get_tensor(name)) for name in ("parameters", "mean", "square")}
    except FileNotFoundError as error:
        raise FanfoldError(f"No checkpoint at {path}.") from error
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FanfoldError(f"The checkpoint {path} is damaged ({error}): use another one.") from error
    if facts.pop("format") != FORMAT:
        raise FanfoldError(f"The checkpoint {path} was written by another version of Fanfold: train again.")
    return Checkpoint(
        state=State(facts.pop("iteration"), vectors["parameters"], vectors["mean"], vectors["square"]), **facts
    )

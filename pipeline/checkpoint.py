"""Checkpoints: named tensors, written whole or not at all, checked, and read without executing anything.

A file of safetensors. Its tensors are float32, in groups:

================ ==============================================================================================
`best.NAME`      the best parameters on validation classes, by the network's own names, and the statistics that
                 its batch norms are tested with, if there are any: a state dict of PyTorch's
`average.NAME`   the parameters after the last iteration, or their running average where one is kept
`parameters.NAME` the parameters that the next iteration starts from
`mean.NAME`      the optimizer's first moment
`square.NAME`    the optimizer's second moment
================ ==============================================================================================

What an algorithm learns besides the network has a colon in place of the point: `best:NAME`. The file's metadata hold
the facts as JSON (`fanfold`), and a SHA-256 over the facts and all tensors (`sha256`).
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from fanfold.data.atomic import partial_of, remove_leftovers
from fanfold.data.errors import FanfoldError, RunError
from fanfold.data.plain import JSON
from fanfold.pipeline.files import write_bytes
from fanfold.pipeline.optimizer import State, Vector, Vectors
from fanfold.pipeline.tensor_file import digest, pack

FORMAT = 3
FLAT = 2  # an earlier format that is still read: one unnamed vector a group
GROUPS = (*Vectors._fields, "best")
STATISTICS = (".running_mean", ".running_var")  # the ends of their names

Layout = Mapping[str, tuple[int, ...]]
"""Names and shapes of the tensors that a vector of parameters consists of, in its order. A name begins with a point
where it is one of the network's own, with a colon where it is the algorithm's."""

Statistics = Mapping[str, NDArray[np.float32]]
"""`LAYER.running_mean` and `LAYER.running_var` of batch norms, `[channels]` each."""


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
    layout: Layout | None = None  # of its vectors; None in a file of the earlier format
    statistics: Statistics = field(default_factory=dict)  # of the best parameters, where a test needs them
    preprocessing: Mapping[str, JSON] | None = None  # of the store's pictures


class _DamageError(Exception):
    """What is wrong with a checkpoint."""


def parameters_sha256(parameters: Vector) -> str:
    """The SHA-256 of the parameters as little-endian float32."""
    return hashlib.sha256(parameters.astype("<f4").tobytes()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside its path, then rename it. The one before stays, see `earlier`.

    Raises:
        FanfoldError: It can't be written, as on a full disk; an earlier checkpoint stays.
        RunError: Its parameters are not finite; an earlier checkpoint stays.
    """
    vectors = {name: getattr(checkpoint.state, name) for name in Vectors._fields} | {"best": checkpoint.best}
    if strange := next((name for name, vector in vectors.items() if not np.isfinite(vector).all()), None):
        raise RunError(
            f"The {_in_words(strange)} are not finite after iteration {checkpoint.state.iteration}: start a new run "
            "with lower learning rates."
        )
    layout = checkpoint.layout or {":parameters": checkpoint.best.shape}
    tensors = {f"{group}{name}": part for group in GROUPS for name, part in cut(vectors[group], layout).items()}
    tensors |= {f"best.{name}": value for name, value in checkpoint.statistics.items()}
    facts = {
        **{name: getattr(checkpoint, name) for name in ("best_iteration", "best_accuracy", "validated", "seconds")},
        **{name: getattr(checkpoint, name) for name in ("fingerprint", "note", "preprocessing")},
        "format": FORMAT,
        "iteration": checkpoint.state.iteration,
        "order": list(layout),
    }
    content = pack(facts, tensors)
    _keep(path, earlier(path))
    write_bytes(path, content)


def earlier(path: Path) -> Path:
    """Where the checkpoint lies that was written before the one at a path."""
    return path.with_name("previous.safetensors")


def restore_earlier(path: Path) -> None:
    """Put a copy of the checkpoint written before in the place of a damaged one, so that the next save keeps it."""
    write_bytes(path, earlier(path).read_bytes())


def newest_checkpoint(
    path: Path, usable: Callable[[Checkpoint, Path], Checkpoint] = lambda found, _: found
) -> tuple[Checkpoint, str | None]:
    """The checkpoint at a path or, where that one is of no use, the one written before it, and a line about that.

    `usable` is given a checkpoint and its path, and raises FanfoldError where it is of no use to who asks.

    Raises:
        FanfoldError: Neither can be read, or is of use; the message is about the newer one.
    """
    try:
        return usable(load_checkpoint(path), path), None
    except FanfoldError as error:
        try:
            found = usable(load_checkpoint(earlier(path)), earlier(path))
        except FanfoldError:
            raise error from None
        why = str(error).partition(": use ")[0].rstrip(".")
        return found, f"{why}: {earlier(path)} is used, of iteration {found.state.iteration}."


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, and check all of it.

    Raises:
        FanfoldError: The checkpoint is missing, damaged, or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            facts = _facts(metadata)
            number = _fact(facts, "format", int)
            if number not in (FLAT, FORMAT):
                raise FanfoldError(f"The checkpoint {path} was written by another version of Fanfold: train again.")
            tensors = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if number == FORMAT and metadata.get("sha256") != digest(metadata["fanfold"], tensors):
            raise _DamageError("its content is not what its SHA-256 says")
        return _checked(facts, tensors, flat=number == FLAT)
    except FileNotFoundError as error:
        raise FanfoldError(f"No checkpoint at {path}.") from error
    except (OSError, SafetensorError, ValueError, TypeError, OverflowError, RecursionError, _DamageError) as error:
        raise FanfoldError(f"The checkpoint {path} is damaged ({_reason(error)}): use another one.") from error


def _checked(facts: Mapping[str, Any], tensors: dict[str, NDArray[Any]], *, flat: bool) -> Checkpoint:
    iteration = _number(facts, "iteration", int)
    layout = None if flat else _layout(facts, tensors)
    names = {group: [group] if layout is None else [f"{group}{name}" for name in layout] for group in GROUPS}
    vectors: dict[str, Vector] = {}
    for group, parts in names.items():
        found = [_tensor(tensors, part) for part in parts]
        vectors[group] = np.concatenate([part.reshape(-1) for part in found])
        shapes = [part.shape for part in found]
        if shapes != ([vectors["parameters"].shape] if layout is None else list(layout.values())):
            raise _DamageError(f"the tensors of {group} differ in shape from those of parameters")
    if (vectors["square"] < 0).any():
        raise _DamageError("the optimizer's second moment is below zero")
    statistics = {name.removeprefix("best."): _tensor(tensors, name) for name in list(tensors) if not flat}
    for name, value in statistics.items():
        if not name.endswith(STATISTICS) or value.ndim != 1 or (name.endswith(STATISTICS[1]) and (value < 0).any()):
            raise _DamageError(f"the tensor {name} is none that should be there")
    if flat and tensors:
        raise _DamageError(f"the tensor {next(iter(tensors))} is none that should be there")
    best = vectors.pop("best")
    best_iteration = _number(facts, "best_iteration", int, iteration, optional=True)
    return Checkpoint(
        State(iteration=iteration, **vectors),
        best,
        _fact(facts, "fingerprint", str),
        best_iteration,
        best_accuracy=_number(facts, "best_accuracy", float, 1),
        validated=_number(facts, "validated", int, iteration),
        seconds=_number(facts, "seconds", float),
        note=_fact(facts, "note", str, optional=True),
        layout=layout,
        statistics=statistics,
        preprocessing=None if flat else _fact(facts, "preprocessing", dict, optional=True),
    )


def _layout(facts: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Layout:
    order = _fact(facts, "order", list)
    if not order or not all(isinstance(name, str) and name[:1] in (".", ":") for name in order):
        raise _DamageError("its fact order is no list of names")
    if len(set(order)) < len(order):
        raise _DamageError("its fact order names a tensor twice")
    missing = next((name for name in order if f"parameters{name}" not in tensors), None)
    if missing is not None:
        raise _DamageError(f"the tensor parameters{missing} is missing")
    return {name: tensors[f"parameters{name}"].shape for name in order}


def _tensor(tensors: dict[str, NDArray[Any]], name: str) -> Vector:
    """Take a tensor out of those that are left."""
    if name not in tensors:
        raise _DamageError(f"the tensor {name} is missing")
    found = tensors.pop(name)
    if found.dtype != np.float32:
        raise _DamageError(f"the tensor {name} is of type {found.dtype}, not float32")
    if not found.size and not name.endswith(":parameters"):  # of a frozen network there are none
        raise _DamageError(f"the tensor {name} is empty")
    if not np.isfinite(found).all():
        raise _DamageError(f"the tensor {name} is not finite")
    return found


def _facts(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    facts = json.loads(metadata["fanfold"]) if "fanfold" in metadata else None
    if not isinstance(facts, dict):
        raise _DamageError("its facts are missing")
    return facts


def _fact(facts: Mapping[str, Any], name: str, kind: type, *, optional: bool = False) -> Any:
    if name not in facts:
        raise _DamageError(f"its fact {name} is missing")
    value = facts[name]
    if value is None and optional:
        return None
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise _DamageError(f"its fact {name} is not of type {kind.__name__}")
    return value


def _number(
    facts: Mapping[str, Any], name: str, kind: type, most: float | None = None, *, optional: bool = False
) -> Any:
    value = _fact(facts, name, kind, optional=optional)
    if value is not None and not (isfinite(value) and value >= 0 and (most is None or value <= most)):
        raise _DamageError(f"its fact {name} is out of range")
    return value


def cut(vector: Vector, layout: Layout) -> dict[str, Vector]:
    """A vector as named tensors, which are views of it."""
    ends = np.cumsum([prod(shape) for shape in layout.values()])
    parts = np.split(vector, ends[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(layout.items(), parts, strict=True)}


def _keep(path: Path, place: Path) -> None:
    """Keep a file under a second name too; where the file system can't, it is not kept."""
    if path.is_file():
        remove_leftovers(place)
        partial = partial_of(place)
        with contextlib.suppress(OSError):
            os.link(path, partial)
            partial.replace(place)


def _in_words(group: str) -> str:
    return {"best": "best parameters", "parameters": "parameters", "average": "averaged parameters"}.get(
        group, "optimizer's moments"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return " ".join(str(error).split())[:200]

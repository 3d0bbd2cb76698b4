"""The network of another run, for a new run to start from.

Tensors are taken by name where their shapes agree. Others start anew, and so does what an algorithm learns besides the
network, such as inner rates. A head for other classes starts at zero: random numbers on top of a body that has learned
would tell one class from another for nothing. The first inner step then learns the head alone.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fanfold.data.advice import in_fields
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import Layout, cut, newest_checkpoint, parameters_sha256
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recording.run_directory import RunDirectory


class Initial(NamedTuple):
    """A network to start from."""

    name: str  # the file, what it holds, and from which iteration
    tensors: dict[str, Vector]  # the network's own, by name


def read_initial(path: Path) -> Initial:
    """The best network of a run directory, or of a checkpoint.

    Raises:
        FanfoldError: There is none, it can't be read, or it names no tensors.
    """
    named = in_fields({"meta.initial": str(path)})
    file = RunDirectory(path).last if path.is_dir() else path
    if not file.exists():
        raise FanfoldError(f"{named} holds no run to start from: name a run directory or a checkpoint.")
    found, _ = newest_checkpoint(file)
    if found.layout is None:
        raise FanfoldError(f"{named} is of an earlier version, and names no tensors: train it again.")
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    name = f"{shown} (iteration {found.best_iteration or 0:,}, SHA-256 {parameters_sha256(found.best)[:12]}…)"
    tensors = cut(found.best, found.layout)
    return Initial(name, {name: value for name, value in tensors.items() if name.startswith(".")})


def start_from(initial: Initial, parameters: Vector, layout: Layout, head: Collection[str]) -> tuple[Vector, str]:
    """The initial parameters `[P]` with the tensors of a network that fit, and a line about these.

    Args:
        initial: The network to start from.
        parameters: Float32 `[P]`, as they are from nothing.
        layout: Their names and shapes.
        head: The names, in the layout, of the head's: zero unless they fit.

    Raises:
        FanfoldError: No tensor fits.
    """
    parts = cut(parameters, layout)
    taken = {
        name: initial.tensors[name] for name, own in parts.items() if _shape(initial.tensors.get(name)) == own.shape
    }
    if not taken:
        raise FanfoldError(
            f"No tensor of {initial.name} fits this network: choose the same `model`, or leave `meta.initial` out."
        )
    missing = [name for name in parts if name not in taken]
    zero, anew = [name for name in missing if name in head], [name for name in missing if name not in head]
    said = f"starts from {len(taken)} tensors of {initial.name}" + _listed("at zero", zero) + _listed("anew", anew)
    values = parts | {name: np.zeros_like(parts[name]) for name in zero} | taken
    return np.concatenate([value.reshape(-1) for value in values.values()]), said


def _listed(how: str, names: Sequence[str]) -> str:
    return f"; {how}: {', '.join(name[1:] for name in names)}" if names else ""


def _shape(tensor: Vector | None) -> tuple[int, ...] | None:
    return None if tensor is None else tensor.shape

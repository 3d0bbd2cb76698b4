"""The network of another run, for a new run to start from.

Tensors are taken by name where their shapes agree. Others start anew, as a head for other classes does, and so does
what an algorithm learns besides the network, such as inner rates.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

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
    file = RunDirectory(path).last if path.is_dir() else path
    if not file.exists():
        raise FanfoldError(f"`meta.initial={path}` holds no run to start from: name a run directory or a checkpoint.")
    found, _ = newest_checkpoint(file)
    if found.layout is None:
        raise FanfoldError(f"`meta.initial={path}` is of an earlier version, and names no tensors: train it again.")
    name = f"{path} (iteration {found.best_iteration or 0:,}, SHA-256 {parameters_sha256(found.best)[:12]}…)"
    tensors = cut(found.best, found.layout)
    return Initial(name, {name: value for name, value in tensors.items() if name.startswith(".")})


def start_from(initial: Initial, parameters: Vector, layout: Layout) -> tuple[Vector, str]:
    """The initial parameters `[P]` with the tensors of a network that fit, and a line about these.

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
    anew = [name[1:] for name in parts if name not in taken]
    said = f"starts from {len(taken)} tensors of {initial.name}" + (f"; anew: {', '.join(anew)}" if anew else "")
    return np.concatenate([taken.get(name, own).reshape(-1) for name, own in parts.items()]), said


def _shape(tensor: Vector | None) -> tuple[int, ...] | None:
    return None if tensor is None else tensor.shape

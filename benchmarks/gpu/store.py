"""The store that runs are trained on: Omniglot's, prepared once a check; in a rehearsal, a small one of patterns."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.options import AbsentError, Options
from fanfold.data.datasets import Omniglot, prepare
from fanfold.data.source import JSON, ClassName
from fanfold.data.store import write_store

CLASSES, DRAWINGS, SIDE = 48, 6, 28


@dataclass(frozen=True)
class Patterns:
    """Classes are random patterns, drawings of them differ by noise."""

    dataset: str = "folder"
    attributes: Mapping[str, JSON] = field(default_factory=lambda: {"source": "patterns", "invert": "auto"})

    @property
    def names(self) -> Sequence[ClassName]:
        """Four alphabets."""
        return [ClassName(f"alphabet {number // 12}", f"pattern {number}") for number in range(CLASSES)]

    def read(self, index: int) -> NDArray[np.uint8]:
        """See `data.source.Source`."""
        random = np.random.default_rng(index)
        pattern = np.kron(random.random((4, 4)) > 0.5, np.ones((SIDE // 4, SIDE // 4))) * 200
        return np.clip(pattern + random.normal(0, 20, (DRAWINGS, SIDE, SIDE)), 0, 255).astype(np.uint8)


def dataset_flags(options: Options) -> list[str]:
    """The workflows' flags that name the store, which is prepared where it isn't there yet.

    Raises:
        AbsentError: There is no copy of Omniglot to prepare it from.
    """
    path = options.scratch / "store.zarr"
    if options.quick:
        if not path.exists():
            write_store(path, Patterns(), progress=False)
        return ["--dataset.name", "auto", "--dataset.store", str(path), "--dataset.split", "alphabets"]
    if not path.exists():
        source = os.environ.get("OMNIGLOT_SOURCE")
        if source is None:
            raise AbsentError("needs a local copy of Omniglot, named by OMNIGLOT_SOURCE")
        prepare(Omniglot(source=source, store=str(path)), progress=False)
    return ["--dataset.name", "omniglot", "--dataset.store", str(path)]

"""The store that runs are trained on: Omniglot's, prepared once a check; in a rehearsal, a small one of patterns."""

import os
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.options import AbsentError, Options
from fanfold.data.datasets import Omniglot, prepare
from fanfold.data.pictures import HANDWRITING
from fanfold.data.source import ClassName, Source
from fanfold.data.store import write_store

CLASSES, DRAWINGS, SIDE = 48, 6, 28


class Patterns(Source):
    """Classes are random patterns, drawings of them differ by noise."""

    dataset = "folder"
    counts = (DRAWINGS,) * CLASSES
    preprocessing = replace(HANDWRITING, size=SIDE)
    origin = MappingProxyType({"source": "patterns"})

    @property
    def names(self) -> Sequence[ClassName]:
        """Four alphabets."""
        return [ClassName(f"alphabet {number // 12}", f"pattern {number}") for number in range(CLASSES)]

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8]]:
        """See `data.source.Source`."""
        random = np.random.default_rng(index)
        pattern = np.kron(random.random((4, 4)) > 0.5, np.ones((SIDE // 4, SIDE // 4))) * 200
        drawings = np.clip(pattern + random.normal(0, 20, (DRAWINGS, 1, SIDE, SIDE)), 0, 255).astype(np.uint8)
        return list(drawings[first:last])


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

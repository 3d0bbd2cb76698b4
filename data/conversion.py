"""Another data set for a network that was trained on one: its pictures, brought to that one's size and colours."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fanfold.data.datasets import STORES, Dataset, Folder, find_store
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing, read_picture
from fanfold.data.plain import JSON
from fanfold.data.source import ClassName, Source, called
from fanfold.data.store import Store, open_store, write_store


def find_converted(dataset: Dataset, wanted: Preprocessing, *, progress: bool = True) -> Store:
    """The store of a data set whose pictures are as a network wants them, which is made where there is none.

    A folder's pictures are read from their files as new pictures are. The pictures of a store that are of another size
    or have other colours are converted from what it holds.

    Raises:
        FanfoldError: There is no such data set, or it can't be read, or the store can't be written.
    """
    if isinstance(dataset, Folder) and dataset.store is None and dataset.source is not None:
        return open_store(find_store(_as_wanted(dataset, dataset.source, wanted), progress=progress).path)
    store = open_store(find_store(dataset, progress=progress).path)
    if _suits(store.preprocessing, wanted):
        return store
    path = STORES / f"{store.path.stem}-{_key(store.digest, wanted)}.zarr"
    if not path.exists():
        try:
            write_store(path, _Converted(store, wanted), progress=progress)
        except FanfoldError:
            if not path.exists():  # unless another process made it meanwhile
                raise
    return open_store(path)


def _as_wanted(dataset: Folder, source: str, wanted: Preprocessing) -> Folder:
    """A folder's configuration, to be read as wanted, with a store of its own."""
    asked = replace(
        dataset,
        size=wanted.size,
        channels="grey" if wanted.channels == 1 else "rgb",
        fit="crop" if wanted.handwriting else wanted.fit,
        background=wanted.background,
        handwriting=wanted.handwriting,
        invert=wanted.invert if wanted.handwriting else None,
    )
    where = Path(source).resolve()
    return replace(asked, store=str(STORES / f"{called(str(where))}-{_key(str(where), wanted)}.zarr"))


def _suits(found: Preprocessing, wanted: Preprocessing) -> bool:
    return all(getattr(found, name) == getattr(wanted, name) for name in ("size", "channels", "handwriting"))


def _key(of: str, wanted: Preprocessing) -> str:
    text = json.dumps([of, wanted.to_dict()], sort_keys=True)
    kind = "ink" if wanted.handwriting else "grey" if wanted.channels == 1 else "rgb"
    return f"{wanted.size}{kind}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


class _Converted(Source):
    """A store's pictures, preprocessed anew.

    Handwriting, bright on 0 in its store, is read as the dark ink that it shows; as it is where bright ink is wanted.
    """

    dataset = "folder"

    def __init__(self, store: Store, wanted: Preprocessing) -> None:
        self._store, self._wanted = store, wanted

    @property
    def names(self) -> Sequence[ClassName]:
        return self._store.names

    @property
    def counts(self) -> Sequence[int]:
        counts: list[int] = self._store.counts.tolist()
        return counts

    @property
    def splits(self) -> Sequence[str]:
        return self._store.splits

    @property
    def preprocessing(self) -> Preprocessing:
        return self._wanted

    @property
    def origin(self) -> Mapping[str, JSON]:
        return {"source": self._store.title, "converted": str(self._store.path), "digest": self._store.digest}

    def paths(self, index: int) -> Sequence[str]:
        return self._store.paths[self._store.first[index] : self._store.first[index + 1]]

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8] | FanfoldError]:
        begin = int(self._store.first[index])
        pixels = self._store.read(begin + first, begin + last)
        if self._store.preprocessing.handwriting and (not self._wanted.handwriting or self._wanted.invert):
            pixels = 255 - pixels
        return [read_picture(picture, self._wanted) for picture in pixels]

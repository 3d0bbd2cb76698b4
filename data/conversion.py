"""Another data set for a network that was trained on one: its pictures, brought to that one's size and colours."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fanfold.data.datasets import Dataset, Folder, find_store, make_store, newer_pictures
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing, read_picture
from fanfold.data.places import STORES
from fanfold.data.plain import JSON
from fanfold.data.source import ClassName, Source, called
from fanfold.data.sources.folder import Looks, folder_source
from fanfold.data.store import Store, open_store


def find_converted(dataset: Dataset, wanted: Preprocessing, *, progress: bool = True) -> tuple[Store, str | None]:
    """The store of a data set whose pictures are as a network wants them, which is made where there is none.

    A folder's pictures are read from their files as new pictures are. The pictures of a store that are of another size
    or have other colours are converted from what it holds.

    Returns:
        The store, and a line for the user, or None: that another data set stands in, or the folder may have changed.

    Raises:
        FanfoldError: There is no such data set, or it can't be read, or the store can't be written.
    """
    if isinstance(dataset, Folder) and dataset.store is None and dataset.source is not None:
        return _of_folder(dataset, Path(dataset.source), wanted, progress)
    prepared = find_store(dataset, progress=progress)
    store = open_store(prepared.path)
    if _suits(store.preprocessing, wanted):
        return store, prepared.note
    path = STORES / f"{store.path.stem}-{_key(store.digest, wanted)}.zarr"
    if not path.exists():
        make_store(path, lambda: _Converted(store, wanted), progress=progress)
    return open_store(path), prepared.note


def _of_folder(dataset: Folder, source: Path, wanted: Preprocessing, progress: bool) -> tuple[Store, str | None]:
    """A folder's pictures, read as wanted, in a store of their own."""
    asked = replace(
        dataset,
        size=wanted.size,
        channels="grey" if wanted.channels == 1 else "rgb",
        fit="crop" if wanted.handwriting else wanted.fit,
        background=wanted.background,
        handwriting=wanted.handwriting or None,
        invert=wanted.invert if wanted.handwriting else None,
    )
    looks = Looks(wanted, asked.looks.channels, as_given=True)

    def find() -> Source:
        split_file = None if asked.split_file is None else Path(asked.split_file)
        settings, strict = asked.settings, asked.strict
        return folder_source(source, looks, settings, include=asked.include, split_file=split_file, strict=strict)

    where = str(source.resolve())
    path = STORES / f"{called(where)}-{_key([where, asked.settings], wanted)}.zarr"
    if not path.exists():
        make_store(path, find, progress=progress)
        return open_store(path), None
    store = open_store(path)
    newer = newer_pictures(store, source)
    return store, None if newer is None else f"{newer}: remove it, and it is made anew."


def _suits(found: Preprocessing, wanted: Preprocessing) -> bool:
    return all(getattr(found, name) == getattr(wanted, name) for name in ("size", "channels", "handwriting"))


def _key(of: JSON, wanted: Preprocessing) -> str:
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

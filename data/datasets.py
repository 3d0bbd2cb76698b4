"""The data sets, and how the store of each is found or made."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from fanfold.data.advice import in_fields, preparation
from fanfold.data.errors import FanfoldError
from fanfold.data.source import JSON, Source
from fanfold.data.sources.download import DownloadError, download_omniglot
from fanfold.data.sources.folder import FolderSource
from fanfold.data.sources.omniglot import OmniglotSource
from fanfold.data.store import Store, open_store, write_store

STORES = Path("stores")
"""The default folder of stores, below the current directory."""

_OMNIGLOT_URL = "https://github.com/brendenlake/omniglot"
_FIELDS = {"height": "dataset.size", "invert": "dataset.invert", "source": "dataset.source"}  # of store attributes


@dataclass(frozen=True)
class Auto:
    """Omniglot if its store, a local copy or a download is available; otherwise the embedded glyphs.

    Args:
        name: The data set's name.
        source: A local copy of Omniglot: a folder with its two official archives or their unpacked folders; by
            default the folder named by the environment variable OMNIGLOT_SOURCE.
        store: Path of the Zarr store; by default stores/omniglot.zarr or stores/glyphs.zarr.
        split: Which classes train, validate and test; by default the data set's own split.
    """

    name: str = "auto"
    source: str | None = None
    store: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Omniglot:
    """1,623 handwritten characters of 50 alphabets, 20 drawings each.

    Args:
        name: The data set's name.
        source: A local copy: a folder with the two official archives or their unpacked folders; by default the
            folder named by the environment variable OMNIGLOT_SOURCE, otherwise Omniglot is downloaded.
        store: Path of the Zarr store; by default stores/omniglot.zarr.
        split: Which classes train, validate and test: random1200, vinyals, lake, alphabets or random.
    """

    name: str = "omniglot"
    source: str | None = None
    store: str | None = None
    split: str = "random1200"


@dataclass(frozen=True)
class Glyphs:
    """The embedded data set: letters of many scripts, drawn from Matplotlib's fonts as if by hand.

    Args:
        name: The data set's name.
        store: Path of the Zarr store; by default stores/glyphs.zarr.
        split: Which classes train, validate and test: alphabets or random.
    """

    name: str = "glyphs"
    store: str | None = None
    split: str = "alphabets"


@dataclass(frozen=True)
class Folder:
    """Your own images: a folder of class folders, or of alphabet folders that hold class folders.

    Args:
        name: The data set's name.
        source: The folder.
        store: Path of the Zarr store; by default named after the folder, in stores/.
        split: Which classes train, validate and test: random, or alphabets where there are three of them.
        size: Height and width of the stored images, in pixels.
        invert: Whether the files show dark ink on light; auto decides by the border of each image.
    """

    name: str = "folder"
    source: str | None = None
    store: str | None = None
    split: str = "random"
    size: int = 28
    invert: bool | Literal["auto"] = "auto"


Dataset: TypeAlias = Auto | Omniglot | Glyphs | Folder

DATASETS: dict[str, type[Dataset]] = {"auto": Auto, "omniglot": Omniglot, "glyphs": Glyphs, "folder": Folder}
"""The configuration of each data set by its name."""


@dataclass(frozen=True)
class Prepared:
    """A store that exists."""

    path: Path
    dataset: str  # "omniglot", "glyphs" or "folder"
    note: str | None = None  # why `auto` fell back to another data set, in one line for the user


def find_store(dataset: Dataset, *, progress: bool = True) -> Prepared:
    """Find the store of a data set: a named one must exist; the default one is made when it is absent.

    Raises:
        FanfoldError: The named store is absent, incomplete or of another data set; or the default one can't be made.
    """
    if dataset.store is not None:
        path = Path(dataset.store)
    elif isinstance(dataset, Auto):
        return _first_available(lambda choice: find_store(choice, progress=progress), dataset)
    elif not (path := _default_path(dataset)).exists():
        try:
            write_store(path, _source(dataset, path, progress=progress), progress=progress)
        except FanfoldError:
            if not path.exists():  # unless another process made it meanwhile
                raise
    store = open_store(path, dataset=dataset.name)
    _check_agrees(store, dataset)
    return Prepared(path, store.dataset)


def prepare(dataset: Dataset, *, overwrite: bool = False, progress: bool = True) -> Prepared:
    """Make the store of a data set.

    Raises:
        FanfoldError: The store exists and is not to be replaced; or the data can't be read; or the store can't be
            written.
    """
    if isinstance(dataset, Auto):
        return _first_available(lambda choice: prepare(choice, overwrite=overwrite, progress=progress), dataset)
    path = Path(dataset.store) if dataset.store is not None else _default_path(dataset)
    if path.exists() and not overwrite:
        raise FanfoldError(f"{path}: exists already; name another place, or add `overwrite=true`")
    write_store(path, _source(dataset, path, progress=progress), overwrite=overwrite, progress=progress)
    return Prepared(path, dataset.name)


def _first_available(get: Callable[[Dataset], Prepared], auto: Auto) -> Prepared:
    """Omniglot, or glyphs where no copy was named and the download fails."""
    try:
        return get(Omniglot(source=auto.source, store=auto.store))
    except DownloadError as error:
        prepared = get(Glyphs(store=auto.store))
        return replace(prepared, note=f"The embedded glyphs stand in for Omniglot: {error}")


def _default_path(dataset: Omniglot | Glyphs | Folder) -> Path:
    return STORES / f"{Path(_folder(dataset)).resolve().name if isinstance(dataset, Folder) else dataset.name}.zarr"


def _source(dataset: Omniglot | Glyphs | Folder, path: Path, *, progress: bool) -> Source:
    """The source of a store at `path`."""
    match dataset:
        case Omniglot():
            if source := dataset.source or os.environ.get("OMNIGLOT_SOURCE"):
                return OmniglotSource(source)
            return OmniglotSource(download_omniglot(path.parent / ".downloads", progress=progress), _OMNIGLOT_URL)
        case Folder():
            return FolderSource(_folder(dataset), dataset.size, dataset.invert)
        case Glyphs():
            from fanfold.data.sources.glyphs import GlyphSource  # reading a store does not need to draw glyphs

            return GlyphSource()


def _folder(dataset: Folder) -> str:
    if dataset.source is None:
        raise FanfoldError("`dataset.name=folder`: name the folder of class folders with `dataset.source`")
    return dataset.source


def _check_agrees(store: Store, dataset: Dataset) -> None:
    """Raise FanfoldError if a store holds another data set than asked for, or was made with other settings."""
    if dataset.name not in ("auto", store.dataset):
        raise FanfoldError(
            f"{store.path}: holds {store.dataset}, not {dataset.name}; ask for `dataset.name={store.dataset}`, or "
            "name another store with `dataset.store`"
        )
    if not isinstance(dataset, Folder):
        return
    asked: dict[str, JSON] = {"height": dataset.size, "invert": dataset.invert}
    if dataset.source is not None:
        asked["source"] = str(Path(dataset.source).resolve())
    for key, value in asked.items():
        if (found := store.attributes.get(key)) != value:
            made = in_fields({_FIELDS[key]: found})
            again = preparation(store.path, "folder", {**store.attributes, **asked}, overwrite=True)
            raise FanfoldError(
                f"{store.path}: made with {made}, not {value}; ask for that, name another store with `dataset.store`, "
                f"or prepare it again with {again}"
            )

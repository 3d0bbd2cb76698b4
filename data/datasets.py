"""The data sets, and how the store of each is found or made."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from fanfold.data.advice import as_text, in_fields, preparation
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing, suffixes
from fanfold.data.places import STORES, of_folder
from fanfold.data.plain import JSON
from fanfold.data.remote import Place, place
from fanfold.data.source import Source
from fanfold.data.sources.cifar import cifar_source, download_cifar
from fanfold.data.sources.download import DownloadError, download_omniglot
from fanfold.data.sources.folder import Channels, Looks, folder_source, picture_source
from fanfold.data.sources.omniglot import OmniglotSource
from fanfold.data.sources.picture_source import PictureClass
from fanfold.data.store import Store, open_store, write_store
from fanfold.data.writing import Reading, in_threads, told

_OMNIGLOT_URL = "https://github.com/brendenlake/omniglot"
SIZE = 32
"""The default height and width of pictures, which a CPU learns from in minutes."""


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
class CifarFs:
    """CIFAR-FS: the 100 classes of CIFAR-100, 600 photographs of 32 × 32 pixels each, split by Bertinetto et al. 2019.

    Args:
        name: The data set's name.
        source: A local copy: CIFAR-100's archive for Python, or the folder that holds it; by default it is downloaded.
        store: Path of the Zarr store; by default stores/cifar-fs.zarr.
        split: Which classes train, validate and test: given (64, 16 and 20 classes), groups or random.
    """

    name: str = "cifar-fs"
    source: str | None = None
    store: str | None = None
    split: str = "given"


@dataclass(frozen=True)
class Folder:
    """Your own pictures: a folder of class folders, a CSV file of path,label[,split], or an .npz file.

    Args:
        name: The data set's name.
        source: The folder or file.
        store: Path of the Zarr store, or its address (s3://BUCKET/NAME.zarr); by default named after the folder, in
            stores/.
        split: Which classes train, validate and test: given (by folders train, val and test, a table, or split_file),
            random or groups; random:SEED draws others. By default the given one, otherwise random.
        size: Height and width of the stored pictures, in pixels; by default 32, or those of a store that is there.
        channels: grey, rgb, or auto, the default, which keeps colour where there is some.
        fit: How the aspect ratio is kept: crop, the default, to the middle square, or pad.
        background: The colour behind transparent pictures and of padding, such as #102030; by default white.
        include: A pattern of the paths to take, such as *_rgb.png.
        split_file: Gives each class's part: a CSV file of class,split or a JSON mapping of parts to lists of classes.
        strict: Refuse what can't be read, rather than skip and count it.
        handwriting: Read ink: grey, padded, made bright on black, averaged by area; by default not, or as a store that
            is there was made.
        invert: Whether handwriting shows dark ink on light; auto, its default, decides by the border of each picture.
    """

    name: str = "folder"
    source: str | None = None
    store: str | None = None
    split: str | None = None
    size: int | None = None
    channels: Channels | None = None
    fit: Literal["crop", "pad"] | None = None
    background: str | None = None
    include: str | None = None
    split_file: str | None = None
    strict: bool = False
    handwriting: bool | None = None
    invert: bool | Literal["auto"] | None = None

    @property
    def looks(self) -> Looks:
        """How the pictures are read.

        Raises:
            FanfoldError: A value is out of its range, or two don't fit each other.
        """
        size, background = SIZE if self.size is None else self.size, self.background or "white"
        if self.handwriting:
            invert = "auto" if self.invert is None else self.invert
            preset = Preprocessing(size, 1, "pad", background, handwriting=True, invert=invert)
        else:
            preset = Preprocessing(size, 3, self.fit or "crop", background, invert=self.invert or False)
        return Looks(preset, self.channels or "auto")

    @property
    def settings(self) -> dict[str, JSON]:
        """What makes the store anew, by fields of the configuration; what wasn't asked for is left out."""
        told = {field.name: getattr(self, field.name) for field in fields(self) if field.name in _MADE_WITH}
        default = {field.name: field.default for field in fields(self)}
        settings: dict[str, JSON] = {f"dataset.{key}": value for key, value in told.items() if value != default[key]}
        return {"dataset.size": SIZE if self.size is None else self.size, **settings}


_UNASKED: dict[str, JSON] = {
    **{"dataset.channels": "auto", "dataset.fit": "crop", "dataset.background": "white"},
    **{"dataset.handwriting": False, "dataset.invert": False},
}
"""What settings are where they weren't asked for."""
_UNASKED_OF_INK: dict[str, JSON] = {**_UNASKED, "dataset.fit": "pad", "dataset.invert": "auto"}

_MADE_WITH = ("size", "channels", "fit", "background", "include", "split_file", "strict", "handwriting", "invert")

Dataset: TypeAlias = Auto | Omniglot | Glyphs | CifarFs | Folder

DATASETS: dict[str, type[Dataset]] = {
    "auto": Auto,
    "omniglot": Omniglot,
    "glyphs": Glyphs,
    "cifar-fs": CifarFs,
    "folder": Folder,
}
"""The configuration of each data set by its name."""


@dataclass(frozen=True)
class Prepared:
    """A store that exists."""

    path: Place
    dataset: str  # a name of `DATASETS`, but for "auto"
    note: str | None = None  # why `auto` fell back to another data set, or a store may be old; one line for the user
    told: tuple[str, ...] = ()  # how pictures were read, and what was skipped, a line each


def find_store(dataset: Dataset, *, progress: bool = True, reading: Reading = in_threads) -> Prepared:
    """Find the store of a data set: a named one must exist; the default one is made when it is absent, see `prepare`.

    Raises:
        FanfoldError: The named store is absent, incomplete or of another data set; or the default one can't be made.
    """
    kept = False
    if dataset.store is not None:
        path = place(dataset.store)
        if not path.exists() and not isinstance(dataset, Auto) and getattr(dataset, "source", None) is not None:
            make_store(path, partial(_source, dataset, path, progress=progress), progress=progress, reading=reading)
    elif isinstance(dataset, Auto):
        return _first_available(partial(find_store, progress=progress, reading=reading), dataset)
    elif not (path := _default_path(dataset)).exists():
        make_store(path, partial(_source, dataset, path, progress=progress), progress=progress, reading=reading)
    else:
        kept = True
    store = open_store(path, dataset=dataset.name)
    _check_agrees(store, dataset)
    if not kept or not isinstance(dataset, Folder) or (newer := newer_pictures(store, Path(_folder(dataset)))) is None:
        return Prepared(path, store.dataset)
    again = preparation(store.path, "folder", store.origin, overwrite=True)
    return Prepared(path, store.dataset, f"{newer}: {again} prepares it anew.")


def make_store(
    path: Place, find: Callable[[], Source], *, progress: bool = True, reading: Reading = in_threads
) -> None:
    """Write a store of what `find` finds, and print what is to be told of it, unless another process does so meanwhile.

    Raises:
        FanfoldError: It can't be read or written.
    """
    try:
        source = find()
        summary = write_store(path, source, progress=progress, reading=reading)
    except FanfoldError:
        if not path.exists():  # unless another process made it meanwhile
            raise
        return
    for line in told(summary, source.origin) if progress else ():
        print(line, file=sys.stderr, flush=True)


def prepare(
    dataset: Dataset, *, overwrite: bool = False, progress: bool = True, reading: Reading = in_threads
) -> Prepared:
    """Make the store of a data set, whose pictures are read by threads of this process, or whoever `reading` says.

    Raises:
        FanfoldError: The store exists and is not to be replaced; or the data can't be read; or the store can't be
            written.
    """
    if isinstance(dataset, Auto):
        again = partial(prepare, overwrite=overwrite, progress=progress, reading=reading)
        return _first_available(again, dataset)
    path = place(dataset.store) if dataset.store is not None else _default_path(dataset)
    if path.exists() and not overwrite:
        raise FanfoldError(f"{path}: exists already{_kept(path, dataset)}; name another place, or add `overwrite=true`")
    source = _source(dataset, path, progress=progress)
    summary = write_store(path, source, overwrite=overwrite, progress=progress, reading=reading)
    return Prepared(path, dataset.name, told=tuple(told(summary, source.origin)))


def prepare_pictures(
    classes: Sequence[PictureClass],
    folder: Folder,
    digest: str | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    reading: Reading = in_threads,
) -> Prepared:
    """Make the store of pictures in memory, at the store's path that the configuration names.

    See `data.sources.arrays` for classes of arrays, tensors and lists. The store's origin keeps the digest, by which
    it can be known again.

    Raises:
        FanfoldError: No path is named; or as `prepare`.
    """
    if folder.store is None:
        raise FanfoldError("Pictures in memory need a place for their store: name it with `dataset.store`.")
    origin: dict[str, JSON] = {"source": "memory", "settings": folder.settings, "digest": digest}
    source = picture_source(classes, folder.looks, origin, (), folder.strict)
    summary = write_store(folder.store, source, overwrite=overwrite, progress=progress, reading=reading)
    return Prepared(place(folder.store), "folder", told=tuple(told(summary, source.origin)))


def _first_available(get: Callable[[Dataset], Prepared], auto: Auto) -> Prepared:
    """Omniglot, or glyphs where no copy was named and the download fails."""
    try:
        return get(Omniglot(source=auto.source, store=auto.store))
    except DownloadError as error:
        prepared = get(Glyphs(store=auto.store))
        return replace(prepared, note=f"The embedded glyphs stand in for Omniglot: {error}")


def _default_path(dataset: Omniglot | Glyphs | CifarFs | Folder) -> Path:
    """The default place of a store; folders of one name, made from different places, have different ones."""
    if not isinstance(dataset, Folder):
        return STORES / f"{dataset.name}.zarr"
    plain, own = of_folder(_folder(dataset))
    source = as_text(Path(_folder(dataset)).resolve())
    if own.exists() or (plain.exists() and _made_from(plain) not in (None, source)):
        return own
    return plain


def _made_from(path: Path) -> JSON:
    """The source of the store at a path; None where it can't be opened, which is told when it is."""
    try:
        return open_store(path).origin.get("source")
    except FanfoldError:
        return None


def _source(dataset: Omniglot | Glyphs | CifarFs | Folder, path: Place, *, progress: bool) -> Source:
    """The source of a store at `path`."""
    match dataset:
        case Omniglot():
            if source := dataset.source or os.environ.get("OMNIGLOT_SOURCE"):
                return OmniglotSource(source)
            near = path.parent if isinstance(path, Path) else STORES
            return OmniglotSource(download_omniglot(near / ".downloads", progress=progress), _OMNIGLOT_URL)
        case Folder():
            if dataset.handwriting and (dataset.fit == "crop" or dataset.channels == "rgb"):
                raise FanfoldError(
                    "`dataset.handwriting` is grey and padded: leave `dataset.fit` and `dataset.channels` out."
                )
            return folder_source(
                Path(_folder(dataset)),
                dataset.looks,
                dataset.settings,
                include=dataset.include,
                split_file=None if dataset.split_file is None else Path(dataset.split_file),
                strict=dataset.strict,
            )
        case CifarFs():
            near = path.parent if isinstance(path, Path) else STORES
            if dataset.source is not None:
                return cifar_source(Path(dataset.source))
            return cifar_source(*download_cifar(near / ".downloads", progress=progress))
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
    if isinstance(dataset, Folder) and (different := _difference(store, dataset)):
        made, asked, words = different
        again = preparation(store.path, "folder", {**store.origin, "settings": {**made, **asked}}, overwrite=True)
        raise FanfoldError(
            f"{store.path}: {words}; ask for that, name another store with `dataset.store`, or prepare it again with "
            f"{again}"
        )


def _difference(store: Store, dataset: Folder) -> tuple[dict[str, JSON], dict[str, JSON], str] | None:
    """The settings a store was made with, those asked for, and the first difference in words; None where they agree."""
    settings = store.origin.get("settings")
    made: dict[str, JSON] = dict(settings) if isinstance(settings, Mapping) else {}
    asked = {key: value for key, value in dataset.settings.items() if key != "dataset.size" or dataset.size is not None}
    if dataset.source is not None:
        made["dataset.source"] = store.origin.get("source")
        asked["dataset.source"] = as_text(Path(dataset.source).resolve())
    unasked = _UNASKED_OF_INK if made.get("dataset.handwriting") else _UNASKED
    for key, value in asked.items():
        if made.get(key, unasked.get(key)) != value:
            found = in_fields({key: made[key]}) if key in made else f"the default of `{key}`"
            return made, asked, f"made with {found}, not {value}"
    return None


def _kept(path: Place, dataset: Omniglot | Glyphs | CifarFs | Folder) -> str:
    """What a store is that stands where another is asked for."""
    if not isinstance(dataset, Folder):
        return ""
    try:
        store = open_store(path, dataset="folder")
    except FanfoldError:  # a damaged one is told where it is read
        return ""
    if store.dataset == "folder" and (different := _difference(store, dataset)):
        return f", {different[2]}"
    return "" if store.dataset != "folder" else ", made of the same with the same settings"


def newer_pictures(store: Store, source: Path) -> str | None:
    """What to tell where pictures of a folder are newer than its store, without a full stop; None where none is."""
    watched = suffixes() | {".csv", ".jsonl", ".npz"}
    files = islice(source.rglob("*") if source.is_dir() else [source], _MOST_FILES)
    try:
        written = Path(store.path, "zarr.json").stat().st_mtime
        newer = any(file.stat().st_mtime > written for file in files if file.suffix.lower() in watched)
    except OSError:  # what can't be read is told when it is
        return None
    return f"Pictures may have changed since {store.path} was written" if newer else None


_MOST_FILES = 100_000  # whose time is looked at: some seconds

"""`fanfold.prepare`."""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fanfold.data import datasets
from fanfold.data.datasets import Folder, Prepared
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Picture
from fanfold.data.places import STORES
from fanfold.data.remote import place
from fanfold.data.source import Found, Part, Source
from fanfold.data.sources.arrays import classes_of_arrays, classes_of_lists
from fanfold.data.sources.picture_source import PictureClass
from fanfold.data.splits import few_classes, split_classes
from fanfold.data.store import Store, open_store
from fanfold.data.writing import in_threads
from fanfold.pipeline.dashboard.listener import WorkTeller
from fanfold.pipeline.preparing import over
from fanfold.workflows.face.arguments import Data, Section, configured, dataset_section, with_plain
from fanfold.workflows.face.clusters import ACluster, given_cluster, opened
from fanfold.workflows.face.showing import terminal
from fanfold.workflows.face.words import spoken


@spoken
def prepare(
    source: Data | NDArray[Any] | Tensor | Mapping[str, Sequence[Picture]],
    path: str | PathLike[str] | None = None,
    *,
    labels: Sequence[Any] | NDArray[Any] | Tensor | None = None,
    size: int | None = None,
    dataset: Section | None = None,
    cluster: ACluster | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Store:
    """Prepare pictures: read them once, and keep them in a Zarr store, which workers read fast.

    A store that is there already, made of the same source with the same settings, is taken as it is.

    Args:
        source: A folder of class folders, a table (`.csv`) or an `.npz` file; the name of a data set: `omniglot`,
            `glyphs`, or `auto` for whichever of these there is; arrays or a tensor `[n, channels, height, width]` with
            `labels`; or a mapping of classes' names to lists of pictures: files, PIL images, arrays.
        path: The store's path; by default `stores/NAME.zarr`.
        labels: The class of each picture of an array, `[n]`.
        size: Height and width of the stored pictures, in pixels; by default 32, or those of square arrays.
        dataset: Further settings, such as `{"channels": "grey", "fit": "pad"}`.
        cluster: Where pictures in files are read, see `fanfold.cluster`; by default in threads of this process.
        overwrite: Whether to replace a store that is there.
        progress: Whether to show how it goes.

    Returns:
        The open store.

    Raises:
        fanfold.FanfoldError: The pictures can't be read, or the store there was made with other settings.

    >>> store = fanfold.prepare("pictures", size=16)
    >>> len(store.names)
    32
    >>> import numpy as np
    >>> pictures = np.random.default_rng(0).random((12, 3, 8, 8))
    >>> fanfold.prepare(pictures, labels=["cat", "dog", "owl", "fox"] * 3, progress=False)
    <store 'stores/arrays-....zarr': arrays-..., 4 classes, 12 pictures (3 each) of 8 × 8 pixels, in colour>
    """
    settings = with_plain("dataset", dataset, size=size)
    if isinstance(source, (np.ndarray, Tensor, Mapping)):
        found = _in_memory(source, labels, path, settings, overwrite, progress)
    elif labels is not None:
        raise FanfoldError("labels belong to arrays: a folder's own folders say the classes.")
    elif not isinstance(source, (str, PathLike, Store)):
        raise FanfoldError(
            "source must be a folder, a file, the name of a data set, arrays with labels, or a mapping of names to "
            f"lists of pictures, not {source!r:.100}."
        )
    else:
        found = _named(source, path, settings, overwrite, progress, cluster)
    shown, store = terminal(progress), open_store(found.path)
    for line in (found.note, *found.told, few_classes(store)):
        if line:
            shown.say(line)
    if (split := settings.get("split")) is not None:
        shown.say(f"split {split_classes(store, split)}")
    return store


def _named(
    source: Data,
    path: str | PathLike[str] | None,
    settings: Section,
    overwrite: bool,
    progress: bool,
    cluster: ACluster | None,
) -> Prepared:
    asked = configured("dataset", dataset_section(source, **settings))
    target = asked if path is None else replace(asked, store=str(path))
    cluster = given_cluster(cluster)
    reading = in_threads if cluster is None else partial(_over, cluster, Path(source).name, terminal(progress).say)
    if overwrite or (path is not None and not place(path).exists()):
        return datasets.prepare(target, overwrite=overwrite, progress=progress, reading=reading)
    return datasets.find_store(target, progress=progress, reading=reading)


def _over(
    cluster: ACluster, name: str, notice: Callable[[str], None], source: Source, batches: Iterable[Sequence[Part]]
) -> Generator[list[Found]]:
    with opened(cluster) as found:
        yield from over(found, partial(WorkTeller, found.client, "preparing", name), notice)(source, batches)


def _in_memory(
    source: NDArray[Any] | Tensor | Mapping[str, Sequence[Picture]],
    labels: Any,
    path: str | PathLike[str] | None,
    settings: dict[str, Any],
    overwrite: bool,
    progress: bool,
) -> Prepared:
    """The store of pictures in memory: one that holds them already is taken.

    Arrays that name no path have one after their content.
    """
    if isinstance(source, Mapping):
        if path is None:
            raise FanfoldError("Lists of pictures need a path for their store, such as path='stores/mine.zarr'.")
        classes = classes_of_lists(source)
    else:
        if labels is None:
            raise FanfoldError("Arrays need labels: the class of each picture.")
        images, of_each = _array(source), _array(labels)
        if images.ndim not in (3, 4):
            raise FanfoldError(f"Arrays must be [n, channels, height, width], not {list(images.shape)}.")
        height, width = images.shape[1:3] if images.ndim == 3 or images.shape[-1] in (3, 4) else images.shape[-2:]
        if height == width:
            settings.setdefault("size", height)
        classes = classes_of_arrays(images, of_each)
    digest = _digest(classes, settings)
    there = STORES / f"arrays-{digest[:8]}.zarr" if path is None else place(path)
    folder: Folder = configured("dataset", {"name": "folder", **settings, "store": str(there)})
    if overwrite or not there.exists():
        return datasets.prepare_pictures(classes, folder, digest, overwrite=overwrite, progress=progress)
    if open_store(there).origin.get("digest") != digest:
        raise FanfoldError(
            f"{there} exists already, of other pictures or settings: name another path, or give overwrite=True."
        )
    return Prepared(there, "folder")


def _array(values: Any) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _digest(classes: Sequence[PictureClass], settings: Section) -> str:
    """SHA-256 of classes, their pictures and the settings, in hexadecimal digits."""
    found = hashlib.sha256(repr(sorted(settings.items())).encode())
    for one in classes:
        found.update(f"{one.name} {len(one.pictures)}".encode())
        for picture in one.pictures:
            found.update(hashlib.sha256(_content(picture)).digest())
    return found.hexdigest()


def _content(picture: Picture) -> bytes:
    """A picture as bytes: those of its file, or its pixels with their shape."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, PathLike)):
        try:
            return Path(picture).read_bytes()
        except OSError:  # it is skipped, or told, where pictures are read
            return os.fsencode(picture)
    if isinstance(picture, Image.Image):
        return f"{picture.mode} {picture.size} {picture.getpalette()} ".encode() + picture.tobytes()
    pixels = _array(picture)
    return f"{pixels.dtype} {pixels.shape} ".encode() + pixels.tobytes()

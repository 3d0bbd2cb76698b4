"""Pictures in memory: arrays or tensors with labels, lists by class, and `.npz` files."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Picture
from fanfold.data.source import ClassName
from fanfold.data.sources.picture_source import PictureClass

IMAGES = ("images", "x", "data", "pictures")
LABELS = ("labels", "y", "targets", "label")
NAMES = ("label_names", "class_names", "classes", "names")


def classes_of_arrays(
    images: Sequence[Picture] | NDArray[Any], labels: Sequence[Any] | NDArray[Any], names: Sequence[str] | None = None
) -> list[PictureClass]:
    """Pictures by their labels, `[n]` both; labels are the classes' names, or numbers of `names`.

    Raises:
        FanfoldError: They differ in number, or a label is no number of a name.
    """
    labels = [label.item() if hasattr(label, "item") else label for label in labels]
    if len(images) != len(labels):
        raise FanfoldError(f"{len(images):,} pictures and {len(labels):,} labels: each picture needs one")
    if names is not None and not all(isinstance(label, int) and 0 <= label < len(names) for label in labels):
        raise FanfoldError(f"A label must be a number from 0 to {len(names) - 1}, the place of its class's name.")
    if names is not None and len(set(names)) < len(names):
        raise FanfoldError("Two classes have one name, where labels are the places of names.")
    by_class: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        by_class.setdefault(str(label) if names is None else str(names[label]), []).append(number)
    return classes_of_lists({name: [images[n] for n in of_class] for name, of_class in by_class.items()})


def classes_of_lists(pictures: Mapping[str, Sequence[Picture]]) -> list[PictureClass]:
    """Classes by name, each with its pictures: files, images or arrays."""
    if not pictures or not all(len(of_class) for of_class in pictures.values()):
        raise FanfoldError("Each class needs a picture at least.")
    return [
        PictureClass(ClassName("", str(name)), "", of_class, [f"{name}/{number}" for number in range(len(of_class))])
        for name, of_class in sorted(pictures.items(), key=lambda item: str(item[0]).encode())
    ]


def read_npz(path: Path) -> list[PictureClass]:
    """The classes of a file with arrays of pictures, labels and, where labels are numbers, the classes' names.

    Raises:
        FanfoldError: The file can't be read, or lacks one of the arrays.
    """
    try:
        _check_memory(path)
        with np.load(path, allow_pickle=False) as file:
            found = {key.lower(): key for key in file.files}
            images, labels, names = (
                next((file[found[key]] for key in keys if key in found), None) for keys in (IMAGES, LABELS, NAMES)
            )
    except FanfoldError:
        raise
    except Exception as error:  # damaged archives raise many kinds of errors
        raise FanfoldError(f"{path}: can't be read as arrays ({one_line(error)[:200]})") from error
    if images is None or labels is None or images.ndim < 3 or labels.ndim != 1:
        raise FanfoldError(f"{path}: should have an array `images` [n, height, width] or more, and `labels` [n]")
    if labels.dtype.kind not in "biufSU" or (names is not None and (names.ndim != 1 or names.dtype.kind not in "iuSU")):
        raise FanfoldError(f"{path}: labels must be numbers or text, and names of classes [classes] of text")
    try:
        return classes_of_arrays(images, _plain(labels), None if names is None else [str(one) for one in _plain(names)])
    except FanfoldError as error:
        raise FanfoldError(f"{path}: {error}") from error


def _plain(values: NDArray[Any]) -> list[Any]:
    """Numbers and text of an array; bytes are text, too."""
    found: list[Any] = (np.char.decode(values, errors="replace") if values.dtype.kind == "S" else values).tolist()
    return found


def _check_memory(path: Path) -> None:
    """Raise FanfoldError where a file's arrays don't fit the memory: some kilobytes may stand for terabytes."""
    with zipfile.ZipFile(path) as archive:
        needed = sum(entry.file_size for entry in archive.infolist())
    if needed > (there := psutil.virtual_memory().available):
        raise FanfoldError(
            f"{path}: its arrays take {needed / 2**30:,.1f} GiB of memory, of which {there / 2**30:,.1f} are there: "
            "take a folder of pictures instead"
        )

"""Folders of pictures: some to label, and class folders to learn from."""

import os
from collections.abc import Iterable
from pathlib import Path

from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import suffixes

UNKNOWN = "unknown"
"""The label of pictures of none of the classes."""


def pictures_in(folder: Path) -> tuple[list[Path], int]:
    """The pictures in a folder and in those below it, in the order of their paths, and how many other files there are.

    Hidden files and folders are passed over.

    Raises:
        FanfoldError: There is no such folder, or no picture in it.
    """
    found, others = _walk(folder)
    if not found:
        raise FanfoldError(f"{folder}: there is no picture in it; {_known()}")
    return found, others


def classes_in(folder: Path) -> tuple[dict[str, list[Path]], int]:
    """The pictures of each class folder, by the folders' names in order, and how many other files there are.

    Raises:
        FanfoldError: There is no such folder; it has fewer than two class folders; or one of them has no picture.
    """
    _check(folder)
    places = sorted(
        (place for place in folder.iterdir() if place.is_dir() and not place.name.startswith(".")),
        key=lambda place: os.fsencode(place.name),
    )
    if len(places) < 2:
        raise FanfoldError(
            f"{folder}: a support set is a folder with a folder for each class, two at least; there "
            f"{'is one' if places else 'is none'}"
        )
    found, others = dict[str, list[Path]](), 0
    for place in places:
        found[place.name], more = _walk(place)
        others += more
        if not found[place.name]:
            raise FanfoldError(f"{place}: the class has no picture; {_known()}")
    return found, others


def check_unknown(labels: Iterable[str]) -> None:
    """Check that pictures can be called unknown.

    Raises:
        FanfoldError: A class has that name.
    """
    if UNKNOWN in labels:
        raise FanfoldError(f"A class is called {UNKNOWN} already: rename its folder.")


def _walk(folder: Path) -> tuple[list[Path], int]:
    _check(folder)
    known, found, others = suffixes(), list[Path](), 0
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in known:
                found.append(Path(place) / name)
            else:
                others += 1
    return sorted(found, key=lambda path: os.fsencode(path)), others


def _check(folder: Path) -> None:
    if not folder.exists():
        raise FanfoldError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise FanfoldError(f"{folder}: not a folder")


def _known() -> str:
    return "pictures are files such as .png, .jpg, .webp, .tif or .bmp"

"""Folders of pictures: some to label, and class folders to learn from."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fanfold.data.advice import as_text
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import suffixes

UNKNOWN = "unknown"
"""The label of pictures of none of the classes."""


def pictures_in(query: Path) -> Iterator[Path]:
    """The pictures in a folder and in those below it, in the order of their paths, found as they are asked for.

    Hidden files and folders are passed over. A file in the place of the folder is the one picture, whatever its name.
    """
    return iter([query]) if query.is_file() else (path for path, is_picture in _files(query) if is_picture)


def check_pictures(query: Path) -> None:
    """Check that there is a picture in a folder or in one below it; the first one ends the search. Or it is a file.

    Raises:
        FanfoldError: There is no such folder or file, or no picture in the folder.
    """
    if not query.exists():
        raise FanfoldError(f"{query}: there is no such folder or picture; name one with `query`")
    if next(pictures_in(query), None) is None:
        raise FanfoldError(f"{query}: there is no picture in it; {_known()}")


def count_pictures(query: Path) -> tuple[int, int]:
    """How many pictures there are in a folder and in those below it, and how many other files; a file is one picture.

    Raises:
        FanfoldError: There is no such folder or file, or no picture in the folder.
    """
    check_pictures(query)
    if query.is_file():
        return 1, 0
    found = [is_picture for _, is_picture in _files(query)]
    return sum(found), len(found) - sum(found)


def classes_in(folder: Path) -> tuple[dict[str, list[Path]], int]:
    """The pictures of each class folder, by the folders' names in order, and how many other files there are.

    Raises:
        FanfoldError: There is no such folder; it has fewer than two class folders; or one of them has no picture.
    """
    if not folder.is_dir():
        why = "it is no folder" if folder.exists() else "there is no such folder"
        raise FanfoldError(f"{folder}: {why}; name a folder with a folder of pictures for each class with `support`")
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
        files = list(_files(place))
        pictures = found[as_text(place.name)] = [path for path, is_picture in files if is_picture]
        others += len(files) - len(pictures)
        if not pictures:
            raise FanfoldError(f"{place}: the class has no picture; {_known()}")
    return found, others


def check_unknown(labels: Iterable[str]) -> None:
    """Check that pictures can be called unknown.

    Raises:
        FanfoldError: A class has that name.
    """
    if UNKNOWN in labels:
        raise FanfoldError(f"A class is called {UNKNOWN} already: rename its folder.")


def _files(folder: Path) -> Iterator[tuple[Path, bool]]:
    """The files in a folder and in those below it, in the order of their paths, and whether they are pictures."""
    known = suffixes()
    try:
        with os.scandir(folder) as entries:
            # A folder sorts by its name and what follows it in a path.
            inside = [(os.fsencode(one.name) + (b"/" if one.is_dir() else b""), one) for one in entries]
    except OSError as error:
        raise FanfoldError(f"{folder}: the folder can't be read ({error.strerror})") from error
    for name, entry in sorted(inside, key=lambda pair: pair[0]):
        if name.startswith(b"."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():  # which may lead round in circles
                yield from _files(Path(entry.path))
        else:
            yield Path(entry.path), Path(entry.name).suffix.lower() in known


def _known() -> str:
    return "pictures are files such as .png, .jpg, .webp, .tif or .bmp"

"""Pictures listed in tables: CSV files of paths and labels, JSON files of names and labels; and a split of classes.

The JSON files are those of CloserLookFewShot (Chen and others 2019), base, val and novel: lists `image_names`,
`image_labels`, and `label_names`, which labels number.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from types import NoneType
from typing import Any, TypeGuard

from fanfold.data.advice import as_text, counted, one_line, why
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import suffixes
from fanfold.data.source import ClassName
from fanfold.data.sources.layouts import HEIC, PART_NAMES, Entry, Found

PATH = ("path", "file_name", "filename", "image", "file", "image_path")
LABEL = ("label", "class", "category", "class_name", "name")
SPLIT = ("split", "set", "part", "phase")
GROUP = ("group", "superclass", "supercategory")
FILES = {f"{name}{suffix}": part for suffix in (".csv", ".json") for name, part in PART_NAMES.items()}
PICTURES = ("", "images", "data")
"""Folders beside a table that its paths may be relative to."""
_MOST_BYTES = 2**30


def tables_in(folder: Path) -> list[tuple[Path, str]]:
    """The tables that describe a folder, and their parts: `metadata.csv`, one or one a part, or `train.csv` and others.

    Raises:
        FanfoldError: Two tables beside each other are of one part.
    """
    if (folder / "metadata.csv").is_file():
        return [(folder / "metadata.csv", "")]
    inside = [(file, PART_NAMES.get(file.parent.name.lower(), "")) for file in sorted(folder.glob("*/metadata.csv"))]
    if any(part == "train" for _, part in inside):
        return [(file, part) for file, part in inside if part]
    found = [(folder / file, part) for file, part in FILES.items() if (folder / file).is_file()]
    found = [(file, part) for file, part in found if file.suffix == ".csv" or _is_list(file)]
    if not any(part == "train" for _, part in found):
        return []
    for file, part in found:
        if other := next((one for one, its in found if its == part and one != file), None):
            raise FanfoldError(f"{folder}: {file.name} and {other.name} both list the pictures of one part: keep one")
    return found


def read_tables(tables: Sequence[tuple[Path, str]]) -> Found:
    """The pictures that tables list, with their classes, and their parts of a split.

    Raises:
        FanfoldError: A table can't be read, or has no columns of paths and labels, or lists nothing.
    """
    found = Found()
    missing: list[str] = []
    for table, part in tables:
        folders = [table.parent / name for name in PICTURES]
        group = table.resolve().parents[1 if _in_part(table, part) else 0]
        for row in _rows(table):
            path = _picture(row, folders)
            if path is None:
                missing.append(as_text(row["path"]))
            elif path.suffix.lower() not in suffixes():
                found.unread[path.suffix.lower() or "no suffix"] += 1
            else:
                name = ClassName(as_text(row.get("group") or group.name), as_text(row["label"]))
                found.entries.append(Entry(path, name, part or _part(row.get("split", ""), table)))
    if in_parts := [table.parent for table, part in tables if _in_part(table, part)]:
        found.notes += [
            f"left out {path.name}: it has no metadata.csv, as {in_parts[0].name} has"
            for path in _parts_beside(in_parts)
        ]
    if missing:
        found.absent = f"left out {counted(len(missing), 'picture')} of the table, not found, such as {missing[0]}"
        found.notes.append(found.absent)
    once = list(dict.fromkeys(found.entries))
    if repeated := len(found.entries) - len(once):  # a task would be asked for what it has learnt from
        found.entries = once
        found.notes.append(f"{counted(repeated, 'picture')} listed again by the table: taken once")
    if not found.entries:
        why = f"is read: {found.unread_in_words}" if found.unread else "is there"
        raise FanfoldError(f"{tables[0][0]}: none of the pictures that it lists {why}")
    return found


def _in_part(table: Path, part: str) -> bool:
    """Whether a table stands in its part's folder."""
    return part != "" and table.name == "metadata.csv"


def _parts_beside(parts: Sequence[Path]) -> list[Path]:
    """The folders beside some that are parts of a split, too."""
    return sorted(
        path
        for path in parts[0].parent.iterdir()
        if path.name.lower() in PART_NAMES and path.is_dir() and path not in parts
    )


def read_split(path: Path) -> Mapping[str, str]:
    """The part of each class: a CSV file of `class,split`, a JSON mapping of parts to lists of classes, or a folder.

    The folder has a table of pictures and their classes for each part: `train.csv` and so on, or `base.json`.

    Raises:
        FanfoldError: The file can't be read, has another form, or puts a class into two parts.
    """
    parts: dict[str, str] = {}
    for name, part in _class_parts(path):
        if parts.setdefault(name, part) != part:
            both = " and ".join(one or "none" for one in (parts[name], part))
            raise FanfoldError(f"{path}: the class {name!r:.100} is of two parts, {both}: a split gives each class one")
    return parts


def _class_parts(path: Path) -> Iterator[tuple[str, str]]:
    """The classes of a split, each as often as it is named, with their parts."""
    if path.is_dir():
        if not (tables := tables_in(path)):
            raise FanfoldError(f"{path}: a folder of a split has train.csv, val.csv and test.csv, or base.json, …")
        yield from ((as_text(row["label"]), part) for table, part in tables for row in _rows(table, ("label",)))
    elif path.suffix.lower() == ".json":
        content = _json(path)
        if _lists(content):
            raise FanfoldError(f"{path}: lists the pictures of one part: name the folder that has all parts' files")
        if not isinstance(content, dict) or not all(map(_are_names, content.values())):
            raise FanfoldError(f"{path}: a split as JSON maps train, validation and test to lists of classes' names")
        yield from ((as_text(name), _part(part, path)) for part, names in content.items() for name in names)
    else:
        yield from ((as_text(row["label"]), _part(row["split"], path)) for row in _rows(path, ("label", "split")))


def _part(text: str, path: Path) -> str:
    if not text:
        return ""
    if text.strip().lower() not in PART_NAMES:
        raise FanfoldError(f"{path}: a part of a split is train, val or test, not {text!r:.50}")
    return PART_NAMES[text.strip().lower()]


def _rows(path: Path, needed: Sequence[str] = ("path", "label")) -> Iterator[dict[str, str]]:
    """A table's rows as mappings of `path`, `label`, `split` and `group`, as far as it has them."""
    if path.suffix.lower() in suffixes() | set(HEIC):
        raise FanfoldError(
            f"{path}: a picture, where a source is a folder of class folders, a table (.csv) or an .npz file"
        )
    if path.suffix.lower() == ".json":
        yield from _listed(path)
        return
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FanfoldError(f"{path}: too large for a table of pictures")
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except (OSError, ValueError) as error:  # of a name that no file can have
        raise FanfoldError(f"{path}: can't be read ({why(error)})") from error
    reader = csv.reader(StringIO(text, newline=""))  # a quoted cell may hold ends of lines
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        columns = {
            key: header.index(name)
            for key, names in (("path", PATH), ("label", LABEL), ("split", SPLIT), ("group", GROUP))
            for name in names[::-1]
            if name in header
        }
        if absent := [key for key in needed if key not in columns]:
            raise FanfoldError(f"{path}: no column {absent[0]!r}; its first line should be {','.join(needed)}")
        for cells in reader:
            if cells:
                if len(cells) != len(header):
                    raise FanfoldError(
                        f"{path}: line {reader.line_num} has {len(cells)} columns, where the first has {len(header)}"
                    )
                yield {key: cells[column].strip() for key, column in columns.items()}
    except csv.Error as error:
        raise FanfoldError(f"{path}: not a table ({one_line(error)})") from error


def _listed(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a JSON file of names and labels."""
    if not _lists(content := _json(path)):
        raise FanfoldError(f"{path}: a table as JSON has lists image_names and image_labels, and label_names")
    labels = content.get("label_names") or ()
    for picture, label in zip(content["image_names"], content["image_labels"], strict=False):
        numbered = type(label) is int and 0 <= label < len(labels)
        name = labels[label] if numbered else label
        if not isinstance(picture, str) or not (isinstance(name, str) or type(name) is int):
            raise FanfoldError(f"{path}: a picture's name must be text, a label text or a whole number")
        yield {"path": picture, "label": str(name)}


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_list(path: Path) -> bool:
    """Whether a JSON file lists pictures: folders of pictures have others, too."""
    try:
        return _lists(_json(path))
    except FanfoldError:
        return False


def _lists(content: object) -> TypeGuard[dict[str, list[Any]]]:
    """Whether the content of a JSON file is names and labels of pictures, as many of each."""
    if not isinstance(content, dict):
        return False
    pictures, labels, names = (content.get(key) for key in ("image_names", "image_labels", "label_names"))
    if not isinstance(pictures, list) or not isinstance(labels, list) or not isinstance(names, (list, NoneType)):
        return False
    return len(pictures) == len(labels)


def _picture(row: Mapping[str, str], folders: Sequence[Path]) -> Path | None:
    """The file of a table's row: where the row says, below a folder; of another machine's path, by its last name."""
    path = Path(row["path"])
    insides = (path, Path(row["label"], path.name), Path(path.name)) if path.is_absolute() else (path,)
    places = [folder / inside for inside in insides for folder in folders]
    return next((path for path in places if os.path.isfile(path)), None)  # noqa: PTH113 (a name may be too long)


def _json(path: Path) -> object:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FanfoldError(f"{path}: too large for a table of pictures")
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise FanfoldError(f"{path}: can't be read ({one_line(error)[:100]})") from error

"""Pictures listed in tables: a CSV file of paths and labels, and a split of classes."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import suffixes
from fanfold.data.source import ClassName
from fanfold.data.sources.layouts import HEIC, PART_NAMES, Entry, Found

PATH = ("path", "file_name", "filename", "image", "file", "image_path")
LABEL = ("label", "class", "category", "class_name", "name")
SPLIT = ("split", "set", "part", "phase")
GROUP = ("group", "superclass", "supercategory")
FILES = {"train.csv": "train", "val.csv": "validation", "validation.csv": "validation", "test.csv": "test"}
PICTURES = ("", "images", "data")
"""Folders beside a table that its paths may be relative to."""
_MOST_BYTES = 2**30


def tables_in(folder: Path) -> list[tuple[Path, str]]:
    """The tables that describe a folder, with the part of a split that each lists: `metadata.csv`, or one a part."""
    if (folder / "metadata.csv").is_file():
        return [(folder / "metadata.csv", "")]
    found = [(folder / file, part) for file, part in FILES.items() if (folder / file).is_file()]
    return found if any(part == "train" for _, part in found) else []


def read_tables(tables: Sequence[tuple[Path, str]]) -> Found:
    """The pictures that tables list, with their classes, and their parts of a split.

    Raises:
        FanfoldError: A table can't be read, or has no columns of paths and labels, or lists nothing.
    """
    found = Found()
    missing = 0
    for table, part in tables:
        folders = [table.parent / name for name in PICTURES]
        for row in _rows(table):
            path = next((folder / row["path"] for folder in folders if (folder / row["path"]).is_file()), None)
            if path is None:
                missing += 1
            elif path.suffix.lower() not in suffixes():
                found.unread[path.suffix.lower() or "no suffix"] += 1
            else:
                name = ClassName(row.get("group") or table.resolve().parent.name, row["label"])
                found.entries.append(Entry(path, name, part or _part(row.get("split", ""), table)))
    if missing:
        found.notes.append(f"{missing:,} pictures that the table lists are not there")
    if not found.entries:
        raise FanfoldError(f"{tables[0][0]}: none of the pictures that it lists is there")
    return found


def read_split(path: Path) -> Mapping[str, str]:
    """The part of each class: a CSV file of `class,split`, or a JSON mapping of parts to lists of classes.

    Raises:
        FanfoldError: The file can't be read, or has another form.
    """
    if path.suffix.lower() == ".json":
        content = _json(path)
        if not isinstance(content, dict) or not all(isinstance(names, list) for names in content.values()):
            raise FanfoldError(f"{path}: a split as JSON maps train, validation and test to lists of classes")
        return {str(name): _part(part, path) for part, names in content.items() for name in names}
    return {row["label"]: _part(row["split"], path) for row in _rows(path, ("label", "split"))}


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
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FanfoldError(f"{path}: too large for a table of pictures")
        lines = path.read_text("utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise FanfoldError(f"{path}: can't be read ({error.strerror})") from error
    reader = csv.reader(lines)
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


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise FanfoldError(f"{path}: can't be read ({one_line(error)[:100]})") from error

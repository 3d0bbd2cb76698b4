"""The classes of a folder of pictures, from the layouts that people have.

A folder that holds pictures is a class, at any depth; the folders above it, below the source, are its group. Folders
`train`, `val` and `test` at the top are parts: where their classes are distinct, these are split so; where each class
of the others stands in `train`, too, the folders of one name are one class, in the group that it has in `train`.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from fanfold.data.advice import as_text, counted, in_fields
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import suffixes
from fanfold.data.places import NAME_FOLDER
from fanfold.data.schema import PARTS, is_split
from fanfold.data.source import ClassName
from fanfold.data.sources.picture_source import PictureClass

PART_NAMES = {
    **dict.fromkeys(("train", "training", "base"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "novel"), "test"),
}
"""What the parts of a split are called, in lower case."""


HEIC = (".heic", ".heif")
"""Suffixes of phones' pictures, which Pillow doesn't read."""


_NAMED = 5  # empty folders, and other formats, at most


class Entry(NamedTuple):
    """A picture's file, with its class and its part of a split, or ""."""

    path: Path
    name: ClassName
    part: str


@dataclass
class Found:
    """The pictures of a source, and what else lies there."""

    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # for the user, a line each
    unread: Counter[str] = field(default_factory=Counter)  # files of other formats, by their suffix
    absent: str | None = None  # of the notes, that on pictures which a table lists and which are not there

    @property
    def heic(self) -> int:
        """How many pictures are HEIC."""
        return sum(self.unread[suffix] for suffix in HEIC)

    @property
    def unread_in_words(self) -> str:
        """How many files of other formats there are: "2 files are not read: 1 .heic, 1 .txt; convert HEIC …"."""
        kinds = sorted(self.unread.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{count:,} {suffix}" for suffix, count in kinds[:_NAMED])
        total = self.unread.total()
        advice = "; convert HEIC to JPEG" if self.heic else ""
        return f"{counted(total, 'file')} {'is' if total == 1 else 'are'} not read: {named}{advice}"


def walk(folder: Path, include: str | None = None) -> Found:
    """The pictures in a folder's class folders, in the order of their names' bytes.

    Args:
        folder: The folder.
        include: A pattern of the paths to take, relative to the folder, such as `*_rgb.png`.

    Raises:
        FanfoldError: There is no such folder, or it can't be read.
    """
    if not folder.is_dir():
        raise FanfoldError(f"{folder}: there is no such folder; {NAME_FOLDER}")
    found = Found()
    pictures: list[tuple[Path, tuple[str, ...]]] = []  # each with the folders above it
    empty: list[tuple[str, ...]] = []
    left_out = 0
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".") and not _leads_back(Path(place, name))),
            key=os.fsencode,
        )
        above = Path(place).relative_to(folder).parts
        here = [Path(place, name) for name in sorted(files, key=os.fsencode) if not name.startswith(".")]
        read = [path for path in here if path.suffix.lower() in suffixes()]
        found.unread.update(
            path.suffix.lower() or "no suffix" for path in here if path.suffix.lower() not in suffixes()
        )
        wanted = [path for path in read if include is None or not above or _matches(path.relative_to(folder), include)]
        left_out += len(read) - len(wanted)
        pictures += [(path, above) for path in wanted]
        if above and not folders and not read:
            empty.append(above)
    parts = _are_parts(folder, {above for _, above in pictures if above})
    loose = 0
    for path, above in pictures:
        part = PART_NAMES[above[0].lower()] if parts and above else ""
        if not (inside := above[1:] if part else above):
            loose += 1
            continue
        group = "/".join(map(as_text, inside[:-1])) or as_text(folder.resolve().name)
        found.entries.append(Entry(path, ClassName(group, as_text(inside[-1])), part))
    if empty:
        named = ", ".join(map(as_text, map("/".join, empty[:_NAMED]))) + (", …" if len(empty) > _NAMED else "")
        found.notes.append(f"no picture in {counted(len(empty), 'class folder')}: {named}")
    if loose:
        found.notes.append(f"{counted(loose, 'picture')} in no class folder: left out")
    if left_out:
        found.notes.append(f"{counted(left_out, 'picture')} not matched by `dataset.include`: left out")
    if not found.entries:
        if found.heic:
            raise FanfoldError(f"{folder}: {found.unread_in_words}")
        raise FanfoldError(
            f"{folder}: no class folders in it; it should hold a folder of pictures for each class"
            + (f", and {in_fields({'dataset.include': include})} matches none of {left_out:,}" if left_out else "")
        )
    return found


def as_classes(entries: Iterable[Entry], source: Path) -> tuple[list[PictureClass], str | None]:
    """Entries by class, classes in the order of their names' bytes, and a note for the user about their parts.

    Raises:
        FanfoldError: Classes stand in several parts, and not all in `train`.
    """
    by_part: dict[str, dict[ClassName, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in _one_group_each(list(entries)):
        by_part[entry.part][entry.name].append(entry)
    names = sorted({name for part in by_part.values() for name in part}, key=_in_bytes)
    twice = [name for name in names if sum(name in part for part in by_part.values()) > 1]
    train = by_part.get("train", {})
    strangers = [name for name in names if name not in train]
    note = None
    if twice and strangers:
        raise FanfoldError(
            f"{source}: {len(twice)} classes, such as {_called(twice[0])}, stand in several of the parts train, "
            f"validation and test, while {len(strangers)}, such as {_called(strangers[0])}, are not in train: neither "
            "a split of the classes nor one of each class's pictures; put each class into one part, or each into train"
        )
    if twice:
        note = (
            f"train, validation and test hold the same classes: the pictures of each of the {len(names)} classes were "
            "put together, for classes to be split"
        )
    elif (given := [part for part in PARTS if part in by_part]) and not is_split(given):
        which = "the classes of a part" if "" in by_part else "all classes"
        note = f"{which} are of {' and '.join(given)}, which is no split of them: they are split anew"
    apart = not twice and is_split(by_part)
    classes = []
    for name in names:
        found = [entry for part in ("", *PARTS) for entry in by_part.get(part, {}).get(name, ())]
        paths = [_relative(entry.path, source) for entry in found]
        classes.append(PictureClass(name, found[0].part if apart else "", [entry.path for entry in found], paths))
    return classes, note


def _one_group_each(entries: Sequence[Entry]) -> list[Entry]:
    """Entries with the first part's group for each class, where a class's name alone tells it from others."""
    in_parts = {(entry.part, entry.name) for entry in entries}
    if len({(part, name.name) for part, name in in_parts}) < len(in_parts):
        return list(entries)
    first: dict[str, ClassName] = {}
    for part in ("", *PARTS):
        for _, name in sorted(pair for pair in in_parts if pair[0] == part):
            first.setdefault(name.name, name)
    return [entry._replace(name=first[entry.name.name]) for entry in entries]


def with_split(classes: Sequence[PictureClass], parts: Mapping[str, str], file: Path) -> list[PictureClass]:
    """Classes with the parts of a split file, by their names or GROUP/NAME; the others belong to none.

    Raises:
        FanfoldError: The file names a class that isn't there, or has none to train on, or to test with.
    """
    known = {key for one in classes for key in (one.name.name, "/".join(one.name))}
    if strangers := [name for name in parts if name not in known]:
        raise FanfoldError(f"{file}: there is no class {strangers[0]!r:.100} ({len(strangers)} are not there)")
    if not is_split(parts.values()):
        raise FanfoldError(f"{file}: a split has classes that train, and ones that validate or test")
    return [
        PictureClass(one.name, parts.get("/".join(one.name), parts.get(one.name.name, "")), one.pictures, one.paths)
        for one in classes
    ]


def _are_parts(folder: Path, holding: Collection[tuple[str, ...]]) -> bool:
    """Whether the folders at the top are parts of a split, given the paths of all folders that hold pictures.

    Raises:
        FanfoldError: Some are, and others beside them are not.
    """
    top = {above[0] for above in holding}
    named = {name for name in top if name.lower() in PART_NAMES}
    if len({PART_NAMES[name.lower()] for name in named}) < 2:  # one alone is a class, or a group
        return False
    if (others := sorted(top - named)) and any(above[0] in named and above[1:] for above in holding):
        parts = " and ".join(map(as_text, sorted(named)))
        raise FanfoldError(
            f"{folder}: {as_text(others[0])} stands beside {parts}, which are parts of a split: put its classes into "
            "one of these, or move it elsewhere"
        )
    return not others


def _matches(path: Path, pattern: str) -> bool:
    return fnmatch(path.as_posix(), pattern) or fnmatch(path.name, pattern)


def _in_bytes(name: ClassName) -> tuple[bytes, bytes]:
    return name.group.encode(), name.name.encode()


def _called(name: ClassName) -> str:
    return "/".join(filter(None, name))


def _relative(path: Path, source: Path) -> str:
    return as_text(path.relative_to(source).as_posix() if path.is_relative_to(source) else path)


def _refuse(error: OSError) -> None:
    raise FanfoldError(f"{error.filename}: can't be read ({error.strerror})") from error


def _leads_back(folder: Path) -> bool:
    """Whether a folder is a link to one that holds it."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())

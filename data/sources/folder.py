"""Your own pictures: a folder of class folders, a table, or arrays; and the preprocessing that suits them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from dask.system import CPU_COUNT
from PIL import Image

from fanfold.data.advice import as_text, counted
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import FORMATS, Picture, Preprocessing, decode, deep_values, is_coloured, range_in_use
from fanfold.data.plain import JSON
from fanfold.data.sources.arrays import read_npz
from fanfold.data.sources.layouts import as_classes, walk, with_split
from fanfold.data.sources.picture_source import PictureClass, PictureSource
from fanfold.data.sources.tables import read_split, read_tables, tables_in

Channels = Literal["auto", "grey", "rgb"]
_EIGHT_BITS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".bmp"})  # of formats that are never deeper, nor animated
_NO_PICTURES = frozenset({".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf", "no suffix"})
_SEEN = 64  # pixels that a JPEG file keeps, at least, to be looked at for colour


@dataclass(frozen=True)
class Looks:
    """How pictures are to be read.

    Args:
        preprocessing: The size, the aspect ratio and the background; channels and range of values are found.
        channels: `grey`, `rgb`, or `auto`, which keeps colour where a picture has some.
        as_given: Whether the range of values is that of the preprocessing, too, as for new pictures of a run.
    """

    preprocessing: Preprocessing
    channels: Channels = "auto"
    as_given: bool = False


def folder_source(
    source: Path,
    looks: Looks,
    settings: dict[str, JSON],
    *,
    include: str | None = None,
    split_file: Path | None = None,
    strict: bool = False,
) -> PictureSource:
    """The source of a folder, a table or an `.npz` file.

    Args:
        source: The folder or file.
        looks: How pictures are to be read.
        settings: Fields of the configuration by which the store is made anew.
        include: A pattern of the paths to take.
        split_file: A file that gives each class's part of a split.
        strict: Whether what can't be read is an error.

    Raises:
        FanfoldError: It isn't there, holds no classes, or, where that is refused, something that can't be read.
    """
    classes, notes = _classes(source, include, strict)
    if split_file is not None:
        classes = with_split(classes, read_split(split_file), split_file)
    return picture_source(classes, looks, {"source": as_text(source.resolve()), "settings": settings}, notes, strict)


def picture_source(
    classes: Sequence[PictureClass],
    looks: Looks,
    origin: dict[str, JSON],
    notes: Sequence[str] = (),
    strict: bool = False,
) -> PictureSource:
    """Classes as a source, with the preprocessing that suits their pictures; notes tell the user how they are read."""
    pictures = [picture for one in classes for picture in one.pictures]
    preprocessing, more = suited(pictures, looks)
    return PictureSource(classes, preprocessing, {**origin, "notes": [*notes, *more]}, strict=strict)


def suited(pictures: Sequence[Picture], looks: Looks) -> tuple[Preprocessing, list[str]]:
    """The preprocessing for pictures: their channels, and the range of values of deep ones; with notes for the user."""
    notes: list[str] = []
    preprocessing = looks.preprocessing
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        maybe = [picture for picture in pictures if Path(_file(picture)).suffix.lower() not in _EIGHT_BITS]
        headers = [header for header in pool.map(_header, maybe, chunksize=16) if header is not None]
        if animated := sum(header.frames for header in headers):
            notes.append(f"{counted(animated, 'file')} of several frames: the first of each was read")
        deep = [header for header in headers if header.low is not None]
        if deep and not looks.as_given:
            low, high = min(h.low for h in deep), max(h.high for h in deep)  # type: ignore[type-var]
            fractions = any(header.fractions for header in deep)
            black, white = range_in_use(low, high, fractions=fractions)  # type: ignore[arg-type]
            preprocessing = replace(preprocessing, black=black, white=white)
            what = f"{counted(len(deep), 'picture')} deeper than 8 bits {'was' if len(deep) == 1 else 'were'}"
            notes.append(f"{what} scaled by the range in use, {black:g} to {white:g}")
        if looks.channels == "auto" and not preprocessing.handwriting:
            coloured = _any_coloured(pictures, preprocessing, pool)
            notes.append(
                "the pictures have colour, which was kept" if coloured else "no picture has colour: all are grey"
            )
            preprocessing = replace(preprocessing, channels=3 if coloured else 1)
        else:
            preprocessing = replace(preprocessing, channels=3 if looks.channels == "rgb" else 1)
    return preprocessing, notes


@dataclass(frozen=True)
class _Header:
    """What a picture's file is like: whether it has several frames; the values of a deep one."""

    frames: bool
    low: float | None = None
    high: float | None = None
    fractions: bool = False


def _header(picture: Picture) -> _Header | None:
    """None for a picture that can't be read, which is told when it is read."""
    try:
        frames = False
        if isinstance(picture, (str, Path)):
            with Image.open(picture, formats=FORMATS) as image:
                frames = bool(getattr(image, "is_animated", False))
        if (values := deep_values(picture)) is None:
            return _Header(frames)
        known = values[np.isfinite(values)]
        if not known.size:
            return _Header(frames)
        fractions = bool(np.issubdtype(values.dtype, np.floating))
        return _Header(frames, float(known.min()), float(known.max()), fractions)
    except Exception:
        return None


def _any_coloured(pictures: Sequence[Picture], scale: Preprocessing, pool: ThreadPoolExecutor) -> bool:
    """Whether any picture has colour; pictures far from each other are looked at first."""
    stride = max(1, round(len(pictures) ** 0.5))
    order = [picture for start in range(stride) for picture in pictures[start::stride]]
    has_colour = partial(_has_colour, scale)
    return any(any(pool.map(has_colour, order[start : start + 64])) for start in range(0, len(order), 64))


def _has_colour(scale: Preprocessing, picture: Picture) -> bool:
    try:
        return is_coloured(decode(picture, _SEEN, scale))
    except Exception:  # told when it is read
        return False


def _classes(source: Path, include: str | None, strict: bool) -> tuple[list[PictureClass], list[str]]:
    if source.suffix.lower() == ".npz" and source.is_file():
        if include is not None:
            raise FanfoldError(f"{source}: arrays have no paths: leave `dataset.include` out")
        return read_npz(source), []
    tables = [(source, "")] if source.is_file() else tables_in(source)
    if tables and include is not None:
        raise FanfoldError(f"{tables[0][0]}: a table lists its pictures itself: leave `dataset.include` out")
    found = read_tables(tables) if tables else walk(source, include)
    if found.unread:
        pictures = set(found.unread) - _NO_PICTURES
        what = found.unread_in_words
        if strict and pictures:
            raise FanfoldError(f"{source}: {what}; remove them, or read the others without `dataset.strict`")
        found.notes.append(what)
    if strict and found.absent:
        raise FanfoldError(f"{source}: {found.absent}")
    classes, note = as_classes(found.entries, source if source.is_dir() else source.parent)
    return classes, [*found.notes, *([note] if note else [])]


def _file(picture: Picture) -> str:
    return str(picture) if isinstance(picture, (str, Path)) else ""

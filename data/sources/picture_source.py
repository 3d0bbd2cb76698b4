"""Pictures by class, from files or from memory, as a source for a store."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Picture, PictureError, Preprocessing, read_picture
from fanfold.data.plain import JSON
from fanfold.data.source import ClassName, Found, Part, Source


@dataclass(frozen=True)
class PictureClass:
    """A class: its name, its part of a given split, its pictures, and their names relative to the source."""

    name: ClassName
    split: str  # "train", "validation", "test", or "" where none is given
    pictures: Sequence[Picture]
    paths: Sequence[str]


class PictureSource(Source):
    """Classes of pictures, each picture read and preprocessed by itself.

    Args:
        classes: The classes, in the store's order.
        preprocessing: How pictures become arrays of one size.
        origin: See `Source.origin`.
        strict: Whether an unreadable picture is an error; otherwise it is skipped, and told.
    """

    dataset = "folder"

    def __init__(
        self,
        classes: Sequence[PictureClass],
        preprocessing: Preprocessing,
        origin: Mapping[str, JSON],
        *,
        strict: bool = False,
    ) -> None:
        self.classes, self._preprocessing, self._origin, self.strict = classes, preprocessing, origin, strict

    @property
    def names(self) -> Sequence[ClassName]:
        return [one.name for one in self.classes]

    @property
    def counts(self) -> Sequence[int]:
        return [len(one.pictures) for one in self.classes]

    @property
    def splits(self) -> Sequence[str]:
        return [one.split for one in self.classes]

    @property
    def preprocessing(self) -> Preprocessing:
        return self._preprocessing

    @property
    def origin(self) -> Mapping[str, JSON]:
        return self._origin

    def paths(self, index: int) -> Sequence[str]:
        return self.classes[index].paths

    def read(self, index: int, first: int, last: int) -> Found:
        return _read(self.classes[index].pictures[first:last], self.preprocessing, self.strict)

    def portion(self, parts: Sequence[Part]) -> Callable[[], list[Found]]:
        pictures = [self.classes[part.of_class].pictures[part.first : part.last] for part in parts]
        return partial(_read_all, [list(map(_anywhere, some)) for some in pictures], self.preprocessing, self.strict)


def _read_all(pictures: Sequence[Sequence[Picture]], preprocessing: Preprocessing, strict: bool) -> list[Found]:
    return [_read(some, preprocessing, strict) for some in pictures]


def _read(pictures: Sequence[Picture], preprocessing: Preprocessing, strict: bool) -> Found:
    found: list[NDArray[np.uint8] | FanfoldError] = []
    for picture in pictures:
        try:
            found.append(read_picture(picture, preprocessing))
        except PictureError as error:
            if strict:
                raise FanfoldError(f"{error}; mend or remove it") from error
            found.append(error)
    return found


def _anywhere(picture: Picture) -> Picture:
    """A picture for another process, whose current folder may be another."""
    return os.path.abspath(picture) if isinstance(picture, (str, os.PathLike)) else picture  # noqa: PTH100 (any bytes)

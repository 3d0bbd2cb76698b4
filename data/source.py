"""The source of a data set: its classes and pictures before they are stored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing
from fanfold.data.plain import JSON


class ClassName(NamedTuple):
    """A class's name, and the group that it belongs to: of a character, its alphabet."""

    group: str
    name: str


class Part(NamedTuple):
    """Some successive pictures of a class."""

    of_class: int
    first: int
    last: int


Found: TypeAlias = Sequence[NDArray[np.uint8] | FanfoldError]
"""Pictures as they were read, uint8 `[channels, height, width]` each, and the errors of those to be skipped."""


def called(source: str) -> str:
    """The name of a folder, or of a table or an archive without its suffix: what people call the data set in it."""
    path = PurePath(source)
    return path.stem if path.suffix.lower() in (".csv", ".npz", ".zarr") else path.name


class Source(ABC):
    """A data set before it is stored. Threads may read its pictures at the same time."""

    dataset: str
    """The data set's name: "omniglot", "glyphs", "cifar-fs" or "folder"."""

    @property
    @abstractmethod
    def names(self) -> Sequence[ClassName]:
        """The classes' names, in the store's order."""

    @property
    @abstractmethod
    def counts(self) -> Sequence[int]:
        """The number of pictures of each class, those included that turn out to be unreadable."""

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How pictures become arrays of one size."""

    @property
    def splits(self) -> Sequence[str]:
        """The part of a given split that each class belongs to: "train", "validation", "test", or "" for none."""
        return [""] * len(self.names)

    @property
    def attributes(self) -> Mapping[str, JSON]:
        """Further facts that decide something; written into the store, and part of its digest."""
        return {}

    @property
    @abstractmethod
    def origin(self) -> Mapping[str, JSON]:
        """Where the pictures come from: `source`; what made the store anew, as fields of the configuration, `settings`.

        Written into the store, and no part of its digest.
        """

    def paths(self, index: int) -> Sequence[str]:
        """The names of a class's pictures, relative to the source."""
        return [str(number) for number in range(self.counts[index])]

    @abstractmethod
    def read(self, index: int, first: int, last: int) -> Found:
        """The pictures `first` to `last` (exclusive) of a class: uint8 `[channels, height, width]` each, of one size.

        An unreadable picture that is to be skipped is its error instead.

        Raises:
            FanfoldError: A picture, an archive or a font is missing or damaged; it is named.
        """

    def portion(self, parts: Sequence[Part]) -> Callable[[], list[Found]] | None:
        """A function that reads parts of the source in another process; None where only this one can."""
        return None

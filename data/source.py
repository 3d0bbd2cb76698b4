"""The source of a data set: its classes before they are stored."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"


class ClassName(NamedTuple):
    """A class's name: its alphabet, and the character within that."""

    alphabet: str
    character: str


class Source(Protocol):
    """A data set before it is stored.

    It can be pickled, and is small then: another process may read the classes of a shard.
    """

    @property
    def dataset(self) -> str:
        """The data set's name: "omniglot", "glyphs" or "folder"."""
        ...

    @property
    def names(self) -> Sequence[ClassName]:
        """The classes' names, in the store's order."""
        ...

    @property
    def attributes(self) -> Mapping[str, JSON]:
        """Where the images come from and how they were processed; written into the store.

        Where the number of drawings varies, `drawings` lists it for each class.
        """
        ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """The drawings of one class, ink 255 on 0: `[drawings, height, width]`.

        All classes have the same height and width.

        Raises:
            FanfoldError: An image, an archive or a font is missing or damaged; it is named.
        """
        ...

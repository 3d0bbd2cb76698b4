"""Where a data set's classes come from."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"


class ClassName(NamedTuple):
    """A class's name: the alphabet it belongs to, and the character within it."""

    alphabet: str
    character: str


class Source(Protocol):
    """A data set before it is stored.

    A source is picklable, and small when pickled: the classes of a shard may be read in another process.
    """

    @property
    def dataset(self) -> str:
        """The data set's name: "omniglot", "glyphs" or "folder"."""
        ...

    @property
    def names(self) -> Sequence[ClassName]:
        """One name a class, in the store's order."""
        ...

    @property
    def attributes(self) -> Mapping[str, JSON]:
        """Where the images are from and what was done to them; kept in the store.

        `drawings`, a list of the number of drawings of each class, belongs in it where that number varies.
        """
        ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """The drawings of one class, ink 255 on 0: ``[drawings, height, width]``.

        Height and width are the same for all classes.
        """
        ...

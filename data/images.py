"""The images of an open store, as a worker keeps them: whole in memory, or the classes used last."""

import os
import threading
from collections import OrderedDict
from typing import Protocol

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray

from fanfold.data.store import Store


class Images(Protocol):
    """What a worker draws the images of its tasks from."""

    def __hash__(self) -> int: ...

    @property
    def drawings(self) -> NDArray[np.int64]:
        """How many drawings each class has, ``[classes]``."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        ...

    def gather(self, classes: ArrayLike, drawings: ArrayLike) -> NDArray[np.uint8]:
        """Pick images by class and drawing.

        Args:
            classes: numbers of classes, ``[...]``.
            drawings: numbers of drawings within their classes, of the same shape.

        Returns:
            The images, ``[..., height, width]``; a new array.

        Raises:
            IndexError: a class or a drawing that the store does not have.
            FanfoldError: a class is damaged or missing in the store.
        """
        ...


def open_images(store: Store, memory_limit: int | None = None) -> Images:
    """Keep a store's images at hand: all of them where they fit into memory.

    Args:
        store: the open store.
        memory_limit: bytes to spend on images; by default the share of one core, where every core runs a worker, in a
            quarter of the memory now available.

    Raises:
        FanfoldError: a class is damaged or missing in the store.
    """
    if memory_limit is None:
        memory_limit = psutil.virtual_memory().available // (4 * (os.cpu_count() or 1))
    return WholeImages(store) if store.images.nbytes <= memory_limit else CachedImages(store, memory_limit)


class WholeImages:
    """All images of a store in memory, read and checked once.

    Attributes:
        pixels: the images, ``[classes, drawings, height, width]``; read-only.
        drawings: how many drawings each class has, ``[classes]``.
        size: height and width in pixels.
    """

    def __init__(self, store: Store) -> None:
        self.drawings = store.drawings
        self.size = store.size
        self.pixels = store.read()
        self.pixels.setflags(write=False)

    def gather(self, classes: ArrayLike, drawings: ArrayLike) -> NDArray[np.uint8]:
        """As `Images.gather`."""
        classes, drawings = _checked(classes, drawings, self.drawings)
        return self.pixels[classes, drawings]


class CachedImages:
    """The classes of a store that were used last, as many as the memory limit holds, and one at least.

    Attributes:
        drawings: how many drawings each class has, ``[classes]``.
        size: height and width in pixels.
        capacity: how many classes are kept.
    """

    def __init__(self, store: Store, memory_limit: int) -> None:
        self.drawings = store.drawings
        self.size = store.size
        self.capacity = max(1, memory_limit // (store.images.nbytes // len(store.names)))
        self._store = store
        self._classes: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()  # the one used last stands last
        self._lock = threading.Lock()

    def gather(self, classes: ArrayLike, drawings: ArrayLike) -> NDArray[np.uint8]:
        """As `Images.gather`. Classes beyond the capacity are read in several turns."""
        classes, drawings = _checked(classes, drawings, self.drawings)
        images = np.empty((*classes.shape, *self.size), np.uint8)
        wanted = np.unique(classes)
        with self._lock:
            for start in range(0, len(wanted), self.capacity):
                turn = wanted[start : start + self.capacity]
                self._load(turn)
                for number in turn.tolist():
                    here = classes == number
                    images[here] = self._classes[number][drawings[here]]
        return images

    def _load(self, numbers: NDArray[np.int64]) -> None:
        """Have these classes in the cache, of which there are no more than it holds."""
        missing = [number for number in numbers.tolist() if number not in self._classes]
        for number in numbers.tolist():
            if number in self._classes:
                self._classes.move_to_end(number)
        while len(self._classes) + len(missing) > self.capacity:
            self._classes.popitem(last=False)
        if missing:
            for number, pixels in zip(missing, self._store.read(missing), strict=True):
                self._classes[number] = pixels.copy()  # a view would keep all that were read with it


def _checked(
    classes: ArrayLike, drawings: ArrayLike, available: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index arrays of equal shape that count no drawing from the end, and none of the blank ones."""
    classes, drawings = np.asarray(classes, np.int64), np.asarray(drawings, np.int64)
    if classes.shape != drawings.shape:
        raise IndexError(f"classes {classes.shape} and drawings {drawings.shape} differ in shape")
    if np.any((classes < 0) | (classes >= len(available))):
        raise IndexError(f"no such class: there are {len(available)}")
    if np.any((drawings < 0) | (drawings >= available[classes])):
        raise IndexError("no such drawing of a class")
    return classes, drawings

"""The images of an open store in a worker's memory: all of them, or the classes used last."""

import os
import threading
from collections import OrderedDict
from typing import Protocol

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray

from fanfold.data.store import Store


class Images(Protocol):
    """The images that a worker draws its tasks from."""

    def __hash__(self) -> int: ...

    @property
    def drawings(self) -> NDArray[np.int64]:
        """How many drawings each class has, `[classes]`."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        ...

    def gather(self, classes: ArrayLike, drawings: ArrayLike) -> NDArray[np.uint8]:
        """Pick images by their classes and their drawings within these, `[…]` both: `[…, height, width]`, a new array.

        Raises:
            IndexError: The store has no such class or drawing.
            FanfoldError: A class is damaged or missing in the store.
        """
        ...


def open_images(store: Store, memory_limit: int | None = None) -> Images:
    """Keep a store's images in memory: all of them, or as many classes as fit.

    By default, the limit in bytes is a quarter of the available memory, divided by the number of cores, as every core
    may run a worker.

    Raises:
        FanfoldError: A class is damaged or missing in the store.
    """
    if memory_limit is None:
        memory_limit = psutil.virtual_memory().available // (4 * (os.cpu_count() or 1))
    return WholeImages(store) if store.images.nbytes <= memory_limit else CachedImages(store, memory_limit)


class WholeImages:
    """All images of a store in memory, `[classes, drawings, height, width]`, read and checked once."""

    def __init__(self, store: Store) -> None:
        self.drawings = store.drawings
        self.size = store.size
        self.pixels = store.read()
        self.pixels.setflags(write=False)

    def gather(self, classes: ArrayLike, drawings: ArrayLike) -> NDArray[np.uint8]:
        classes, drawings = _checked(classes, drawings, self.drawings)
        return self.pixels[classes, drawings]


class CachedImages:
    """The classes used last, as many as the memory limit holds, and at least one."""

    def __init__(self, store: Store, memory_limit: int) -> None:
        self.drawings = store.drawings
        self.size = store.size
        self.capacity = max(1, memory_limit // (store.images.nbytes // len(store.names)))
        self._store = store
        self._classes: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()  # the class used last is the last one
        self._lock = threading.Lock()

    def gather(self, classes: ArrayLike, drawings: ArrayLike) -> NDArray[np.uint8]:
        classes, drawings = _checked(classes, drawings, self.drawings)
        images = np.empty((*classes.shape, *self.size), np.uint8)
        wanted = np.unique(classes)
        with self._lock:
            for start in range(0, len(wanted), self.capacity):  # several batches where more are wanted
                batch = wanted[start : start + self.capacity]
                self._load(batch)
                for number in batch.tolist():
                    here = classes == number
                    images[here] = self._classes[number][drawings[here]]
        return images

    def _load(self, numbers: NDArray[np.int64]) -> None:
        """Load classes, no more than the capacity, into the cache."""
        missing = [number for number in numbers.tolist() if number not in self._classes]
        for number in numbers.tolist():
            if number in self._classes:
                self._classes.move_to_end(number)
        while len(self._classes) + len(missing) > self.capacity:
            self._classes.popitem(last=False)
        if missing:
            for number, pixels in zip(missing, self._store.read(missing), strict=True):
                self._classes[number] = pixels.copy()  # a view would keep the whole batch in memory


def _checked(
    classes: ArrayLike, drawings: ArrayLike, available: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index arrays of equal shape. Negative numbers and the blank drawings of padding are refused."""
    classes, drawings = np.asarray(classes, np.int64), np.asarray(drawings, np.int64)
    if classes.shape != drawings.shape:
        raise IndexError(f"classes {classes.shape} and drawings {drawings.shape} differ in shape")
    if np.any((classes < 0) | (classes >= len(available))):
        raise IndexError(f"no such class: there are {len(available)}")
    if np.any((drawings < 0) | (drawings >= available[classes])):
        raise IndexError("no such drawing of a class")
    return classes, drawings

"""The pictures of an open store in a worker's memory: all of them, mapped from a file, or the chunks used last."""

import os
import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray

from fanfold.data.mapped import mapped_pixels
from fanfold.data.store import Store

SMALL = 2**26
"""Bytes of pictures that every worker simply holds in its memory."""


class Images(Protocol):
    """The pictures that a worker draws its tasks from."""

    def __hash__(self) -> int: ...

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of pictures of each class, `[classes]`."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures, in pixels."""
        ...

    @property
    def channels(self) -> int:
        """1 for grey pictures, 3 for coloured ones."""
        ...

    @property
    def handwriting(self) -> bool:
        """Whether the pictures are ink, bright on 0: shown dark on white."""
        ...

    def gather(self, classes: ArrayLike, pictures: ArrayLike) -> NDArray[Any]:
        """Pick pictures by their classes and their places in these, `[…]` both: `[…, channels, height, width]`, new.

        Raises:
            IndexError: The store has no such class or picture.
            FanfoldError: A chunk is damaged or missing in the store.
        """
        ...

    def rows(self, classes: ArrayLike, pictures: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Where pictures are, without a copy where they are in memory; arguments and errors are those of `gather`.

        Returns:
            An array that holds them among others, `[n, channels, height, width]`, and their places in it, `[…]`.
        """
        ...


def open_images(store: Store, memory_limit: int | None = None) -> Images:
    """Keep a store's pictures at hand: in memory, in a file that all workers of a machine map, or as many as fit.

    Up to `SMALL` bytes are held in memory; more, and those of a store at an address, which are copied once a machine,
    are mapped from one file. Where the disk has no room for that, as many are held as fit into a quarter of the
    available memory, divided by the number of cores, as every core may run a worker. Where a limit in bytes is given,
    as many are held as fit into that.

    Raises:
        FanfoldError: A chunk is damaged or missing in the store.
    """
    if memory_limit is None:
        if store.images.nbytes <= SMALL and not store.remote:
            return WholeImages(store)
        if (pixels := mapped_pixels(store)) is not None:
            return WholeImages(store, pixels)
        memory_limit = psutil.virtual_memory().available // (4 * (os.cpu_count() or 1))
    return WholeImages(store) if store.images.nbytes <= memory_limit else CachedImages(store, memory_limit)


class Pictures:
    """Where the pictures of each class are, and what they are like."""

    def __init__(self, store: Store) -> None:
        self.first = store.first
        self.size = store.size
        self.channels = store.channels
        self.handwriting = store.preprocessing.handwriting

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        return np.diff(self.first)

    def numbers(self, classes: ArrayLike, pictures: ArrayLike) -> NDArray[np.int64]:
        """The pictures' numbers in the store, `[…]`; negative ones and those of the next class are refused."""
        classes, pictures = np.asarray(classes, np.int64), np.asarray(pictures, np.int64)
        if classes.shape != pictures.shape:
            raise IndexError(f"classes {classes.shape} and pictures {pictures.shape} differ in shape")
        if np.any((classes < 0) | (classes >= len(self.counts))):
            raise IndexError(f"no such class: there are {len(self.counts)}")
        if np.any((pictures < 0) | (pictures >= self.counts[classes])):
            raise IndexError("no such picture of a class")
        numbers: NDArray[np.int64] = self.first[classes] + pictures
        return numbers


class WholeImages(Pictures):
    """All pictures of a store, `[pictures, channels, height, width]`, read and checked once."""

    def __init__(self, store: Store, pixels: NDArray[np.uint8] | None = None) -> None:
        super().__init__(store)
        self.pixels = store.read() if pixels is None else pixels
        self.pixels.setflags(write=False)

    def gather(self, classes: ArrayLike, pictures: ArrayLike) -> NDArray[np.uint8]:
        return np.asarray(self.pixels[self.numbers(classes, pictures)])

    def rows(self, classes: ArrayLike, pictures: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return self.pixels, self.numbers(classes, pictures)


class CachedImages(Pictures):
    """The chunks used last, as many as the memory limit holds, and at least one."""

    def __init__(self, store: Store, memory_limit: int) -> None:
        super().__init__(store)
        self._store = store
        self.capacity = max(1, memory_limit // (store.chunk * int(np.prod(store.images.shape[1:]))))
        self._chunks: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()  # the chunk used last is the last one
        self._lock = threading.Lock()

    def gather(self, classes: ArrayLike, pictures: ArrayLike) -> NDArray[np.uint8]:
        chunks, places = np.divmod(self.numbers(classes, pictures), self._store.chunk)
        found = np.empty((*chunks.shape, self.channels, *self.size), np.uint8)
        order = np.argsort(chunks, axis=None, kind="stable")
        wanted, starts = np.unique(chunks.ravel()[order], return_index=True)
        flat = found.reshape(-1, self.channels, *self.size)
        with self._lock:
            for chunk, here in zip(wanted.tolist(), np.split(order, starts[1:]), strict=False):
                flat[here] = self._chunk(chunk)[places.ravel()[here]]
        return found

    def rows(self, classes: ArrayLike, pictures: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        found = self.gather(classes, pictures)
        places = np.arange(np.asarray(classes).size, dtype=np.int64).reshape(np.shape(classes))
        return found.reshape(-1, self.channels, *self.size), places

    def _chunk(self, number: int) -> NDArray[np.uint8]:
        if number in self._chunks:
            self._chunks.move_to_end(number)
            return self._chunks[number]
        size = self._store.chunk
        pixels = self._store.read(number * size, min((number + 1) * size, self._store.pictures))
        while len(self._chunks) >= self.capacity:
            self._chunks.popitem(last=False)
        self._chunks[number] = pixels
        return pixels

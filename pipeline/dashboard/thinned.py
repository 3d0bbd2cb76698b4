"""A series that stays short however long a run goes on."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Thinned(Generic[T]):
    """Items in order. When it is full neighbours are merged, and from then on twice as many go into each place.

    Args:
        merge: One item of two neighbours, the earlier one first.
        capacity: How many items there may be; an even number.
    """

    def __init__(self, merge: Callable[[T, T], T], capacity: int) -> None:
        self._merge, self._capacity = merge, capacity
        self._items: list[T] = []
        self._stride = 1  # items that go into one place
        self._in_last = 0

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def last(self) -> T | None:
        """The last item, if there is any."""
        return self._items[-1] if self._items else None

    def append(self, item: T) -> None:
        """Add an item at the end."""
        if self._in_last < self._stride and self._items:
            self._items[-1] = self._merge(self._items[-1], item)
            self._in_last += 1
        else:
            self._items.append(item)
            self._in_last = 1
        if len(self._items) == self._capacity and self._in_last == self._stride:
            pairs = zip(self._items[::2], self._items[1::2], strict=True)
            self._items = [self._merge(*pair) for pair in pairs]
            self._stride *= 2
            self._in_last = self._stride

"""An executor computes a run's windows, and functions of chunks. Every executor gives the same bits."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from fanfold.pipeline.optimizer import Record, State

Result = TypeVar("Result")


@dataclass(frozen=True)
class Window:
    """The result of a window of meta-iterations."""

    state: State  # at its end
    records: tuple[Record, ...]  # one a meta-iteration
    seconds: tuple[float, ...] = ()  # mean of a chunk, by worker; 0 where it has none, empty where nobody measured


class Executor(ABC):
    """Computes windows and chunks somewhere. A context manager: at its end it frees what it holds."""

    @abstractmethod
    def window(self, state: State, iterations: int) -> Window:
        """Compute the next meta-iterations, exactly so many.

        Args:
            state: The state to start from.
            iterations: How many, at least one.

        Raises:
            RunError: A loss or gradient is not finite, or workers or scheduler are gone.
        """

    @abstractmethod
    def map(
        self, name: str, function: Callable[..., Result], shared: Sequence[Any], chunks: Sequence[tuple[int, ...]]
    ) -> list[Result]:
        """Compute `function(*shared, *chunk)` for every chunk, in their order.

        Args:
            name: What Dask's pages call these tasks.
            function: The function; it can be pickled.
            shared: The arguments that all chunks share, each sent once.
            chunks: The arguments of each chunk.

        Raises:
            RunError: Workers or scheduler are gone.
            Exception: What the function raised.
        """

    def close(self) -> None:
        """Free what the executor holds."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

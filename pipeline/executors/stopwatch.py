"""Where a stretch of code spends its time."""

import time


class Stopwatch:
    """Seconds by name: each is the time between a call of `end` and the one before it, or the start."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}
        self._began = time.perf_counter()

    def end(self, name: str) -> None:
        """End what was timed since the last call, under a name."""
        now = time.perf_counter()
        self._seconds.setdefault(name, []).append(now - self._began)
        self._began = now

    def each(self, name: str) -> list[float]:
        """All times of a name, in order, to the microsecond."""
        return [round(seconds, 6) for seconds in self._seconds.get(name, ())]

    def total(self, name: str) -> float:
        """The sum of the times of a name."""
        return sum(self._seconds.get(name, ()))

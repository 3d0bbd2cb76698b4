"""Where a stretch of code spends its time, lap by lap."""

import time


class Laps:
    """Seconds of laps by name: what has passed between a call of `end` and the one before it, or the start."""

    def __init__(self) -> None:
        self._laps: dict[str, list[float]] = {}
        self._began = time.perf_counter()

    def end(self, name: str) -> None:
        """End a lap; the next one begins."""
        now = time.perf_counter()
        self._laps.setdefault(name, []).append(now - self._began)
        self._began = now

    def each(self, name: str) -> list[float]:
        """The laps of a name, in order, to the microsecond."""
        return [round(seconds, 6) for seconds in self._laps.get(name, ())]

    def total(self, name: str) -> float:
        """The sum of the laps of a name."""
        return sum(self._laps.get(name, ()))

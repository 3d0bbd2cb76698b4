"""What a soak has found so far, in a file, so that one that is interrupted goes on."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.soak.sampling import Sample


class Record:
    """Facts of a soak by kind, a line each in a file; those that are there already are read."""

    def __init__(self, path: Path) -> None:
        self.faults: list[str] = []  # the kinds of those that came
        self.ends: list[dict[str, Any]] = []  # of drivers
        self.wrong: list[str] = []  # what did not hold
        self.samples: dict[str, list[Sample]] = {}  # by part
        self.seconds: dict[str, float] = {}  # by part
        self._path = path
        if path.exists():
            for line in path.read_text().splitlines():
                self._take(*json.loads(line))

    def fault(self, kind: str) -> None:
        """A fault has come."""
        self._add("fault", kind)

    def end(self, facts: dict[str, Any]) -> None:
        """A driver has ended."""
        self._add("end", facts)

    def fails(self, what: str) -> None:
        """Something did not hold."""
        self._add("wrong", what)

    def sample(self, part: str, found: Sample) -> None:
        """A process was sampled, in a part of the soak."""
        self._add("sample", [part, asdict(found)])

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of the soak, whose time counts also where it is interrupted."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._add("seconds", [name, time.monotonic() - began])

    def _add(self, kind: str, value: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([kind, value]) + "\n")
        self._take(kind, value)

    def _take(self, kind: str, value: Any) -> None:
        if kind == "sample":
            self.samples.setdefault(value[0], []).append(Sample(**value[1] | {"process": tuple(value[1]["process"])}))
        elif kind == "seconds":
            self.seconds[value[0]] = self.seconds.get(value[0], 0.0) + value[1]
        elif kind == "end":
            self.ends.append(value)
        else:
            (self.faults if kind == "fault" else self.wrong).append(value)

"""Parts in processes of their own: what they find is kept as it comes, and what ends one ends no other.

The start of a process takes seconds, so parts share one for as long as it and its device are sound. It waits, and
leaves the device alone, while parts that can't share it are computed. A process appends each row to a file, a line of
JSON a row, which is read while it goes on; at the part's end it writes how it ended to another.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.gpu.options import WORDS, AbsentError, Options, OutOfTimeError, Row
from benchmarks.gpu.parts import PARTS
from fanfold.data.advice import one_line
from fanfold.pipeline.files import write_json

ROOT = Path(__file__).parents[2]
POLL = 0.1  # seconds between looks at what a part has found

State = Literal["running", "done", "absent", "failed", "out of time"]


@dataclass(frozen=True)
class Outcome:
    """What came of a part.

    Args:
        state: `done`; `absent`, as what it needs isn't there; or how it ended before its end.
        seconds: How long it took.
        rows: What it found.
        reason: Why it didn't come to its end, in a line.
    """

    state: State
    seconds: float
    rows: tuple[Row, ...]
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it came to its end, and all that it checked held."""
        return self.state == "done" and all(row.get("passed", True) and "failed" not in row for row in self.rows)


class Runner:
    """Runs parts, one at a time, in processes that end with its context.

    Args:
        options: What every part is told.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._processes: dict[str, _Process] = {}

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.end()

    def run(self, name: str, ends: float, show: Callable[[Outcome], None]) -> Outcome:
        """Run a part.

        Args:
            name: Which.
            ends: When it is ended, with all that it has started, by `time.monotonic`.
            show: Whom to show what it has found, after every row.
        """
        part, began = PARTS[name], time.monotonic()
        options = replace(self._options, settings=part.settings or self._options.settings, ends=ends)
        found, end = _rows_of(name, options), _end_of(name, options)
        place = "shared" if part.shared else name
        if place not in self._processes:
            self._processes[place] = _Process(options.scratch / f"{name}.log")
        process = self._processes[place]
        process.ask(name, options)
        rows: tuple[Row, ...] = ()
        while (lives := process.lives) and not end.exists() and time.monotonic() < ends:
            time.sleep(POLL)
            if len(now := _rows(found)) > len(rows):
                rows = now
                show(Outcome("running", time.monotonic() - began, rows))
        ending: dict[str, Any] = json.loads(end.read_text()) if end.exists() else {"sound": False}
        if not (part.shared and ending["sound"]):
            self._processes.pop(place).end()
        took, rows = time.monotonic() - began, _rows(found)
        if "state" in ending:
            return Outcome(ending["state"], took, rows, ending["reason"])
        if lives:
            return Outcome("out of time", took, rows, f"ended after {took:.0f} s")
        return Outcome("failed", took, rows, process.last_line or "its process ended")


class _Process:
    """A process of this module, which computes parts until it is ended.

    Args:
        said: Where what it prints goes.
    """

    def __init__(self, said: Path) -> None:
        self._said = said
        command = [sys.executable, "-m", "benchmarks.gpu.runner"]
        with said.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, cwd=ROOT, text=True
            )

    @property
    def lives(self) -> bool:
        """Whether it goes on."""
        return self._process.poll() is None

    @property
    def last_line(self) -> str:
        """What it said last."""
        lines = [line.strip() for line in self._said.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def ask(self, name: str, options: Options) -> None:
        """Have it compute a part."""
        assert self._process.stdin is not None
        _rows_of(name, options).touch()
        with suppress(BrokenPipeError):  # it has ended, as is seen next
            self._process.stdin.write(json.dumps({"name": name, **asdict(options)}, default=str) + "\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """End it and those that it started: they are all of one session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _rows_of(name: str, options: Options) -> Path:
    return options.scratch / f"{name}.jsonl"


def _end_of(name: str, options: Options) -> Path:
    return options.scratch / f"{name}.end.json"


def _rows(path: Path) -> tuple[Row, ...]:
    """The rows of a file, but for a last line that isn't whole yet."""
    whole, _, _ = path.read_text().rpartition("\n")
    return tuple(json.loads(line) for line in whole.splitlines())


def _compute(name: str, options: Options) -> tuple[State, str]:
    """A part, in its process: how it ended, and why."""
    try:
        with _rows_of(name, options).open("a") as file:
            for row in import_module(f"benchmarks.gpu.{PARTS[name].module}").measure(options):
                file.write(json.dumps(row) + "\n")
                file.flush()
    except OutOfTimeError as error:
        return "out of time", str(error)
    except (AbsentError, ImportError) as error:
        return "absent", one_line(error)
    except Exception as error:  # whatever may be wrong with a part
        traceback.print_exc()
        return "failed", one_line(error)[:WORDS]
    return "done", ""


def _cleared() -> bool:
    """Give the device's memory back; whether it still answers, as it does no more after a kernel's fault."""
    gc.collect()
    if torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            return False
    return True


def main() -> None:
    """Compute parts as they are asked for, a line of JSON a part."""
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        name = asked.pop("name")
        typed = {"out": Path(asked["out"]), "scratch": Path(asked["scratch"]), "settings": tuple(asked["settings"])}
        options = Options(**asked | typed)
        state, reason = _compute(name, options)
        write_json(_end_of(name, options), {"state": state, "reason": reason, "sound": _cleared()})


if __name__ == "__main__":
    main()

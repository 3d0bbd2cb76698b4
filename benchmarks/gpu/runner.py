"""A part in a process of its own: what it finds is kept as it comes, and what ends it ends no other part.

The process appends each row to a file, a line of JSON a row, which is read while it goes on.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from benchmarks.gpu.options import WORDS, AbsentError, Options, Row
from benchmarks.gpu.parts import PARTS
from data.advice import one_line

ROOT = Path(__file__).parents[2]
POLL = 0.2  # seconds between looks at what a part has found
ABSENT = 3  # exit status of a part whose needs aren't there


@dataclass(frozen=True)
class Outcome:
    """What came of a part.

    Args:
        state: `done`; `absent`, as what it needs isn't there; or how it ended before its end.
        seconds: How long it took.
        rows: What it found.
        reason: Why it didn't come to its end, in a line.
    """

    state: Literal["running", "done", "absent", "failed", "out of time"]
    seconds: float
    rows: tuple[Row, ...]
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it came to its end, and all that it checked held."""
        return self.state == "done" and all(row.get("passed", True) and "failed" not in row for row in self.rows)


def run_part(name: str, options: Options, seconds: float, show: Callable[[Outcome], None]) -> Outcome:
    """Run a part in a process of its own.

    Args:
        name: Which.
        options: What it is told.
        seconds: When it is ended, with all that it has started.
        show: Whom to show what it has found, after every row.
    """
    found, said = options.scratch / f"{name}.jsonl", options.scratch / f"{name}.log"
    found.touch()
    command = [sys.executable, "-m", "benchmarks.gpu.runner", name, _to_json(options), str(found)]
    began = time.monotonic()
    with said.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT)
        try:
            rows: tuple[Row, ...] = ()
            while (status := process.poll()) is None and time.monotonic() - began < seconds:
                time.sleep(POLL)
                if len(now := _rows(found)) > len(rows):
                    rows = now
                    show(Outcome("running", time.monotonic() - began, rows))
        finally:
            _end(process)
    took, rows = time.monotonic() - began, _rows(found)
    if status == 0:
        return Outcome("done", took, rows)
    if status == ABSENT:
        return Outcome("absent", took, rows, _last_line(said))
    if status is None:
        return Outcome("out of time", took, rows, f"ended after {seconds:.0f} s")
    return Outcome("failed", took, rows, _last_line(said) or f"its process ended with status {status}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part's process, and those that it started: they are all of one session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _rows(path: Path) -> tuple[Row, ...]:
    """The rows of a file, but for a last line that isn't whole yet."""
    whole, _, _ = path.read_text().rpartition("\n")
    return tuple(json.loads(line) for line in whole.splitlines())


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _to_json(options: Options) -> str:
    return json.dumps(asdict(options), default=str)


def _from_json(text: str) -> Options:
    known = json.loads(text)
    return Options(known["device"], known["quick"], Path(known["out"]), Path(known["scratch"]))


def main(name: str, options: Options, found: Path) -> int:
    """A part, in its process; the exit status."""
    try:
        with found.open("a") as file:
            for row in import_module(f"benchmarks.gpu.{PARTS[name].module}").measure(options):
                file.write(json.dumps(row) + "\n")
                file.flush()
    except (AbsentError, ImportError) as error:
        print(one_line(error))
        return ABSENT
    except Exception as error:  # whatever may be wrong with a part
        traceback.print_exc()
        print(one_line(error)[:WORDS])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], _from_json(sys.argv[2]), Path(sys.argv[3])))

"""A case of the table, and the verdict on it."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.faults.trial import SHORT, Ended, Trial, WrongError

References = Mapping[int, str]
"""The parameters of undisturbed runs by their iterations, as SHA-256."""


class AbsentError(Exception):
    """What a case needs and this machine doesn't have."""


@dataclass(frozen=True)
class Case:
    """A fault, and what is to hold: `play` raises WrongError where it doesn't, and says what was seen where it does."""

    fault: str
    reduction: str  # of its run; "–" where there is none, or it changes
    play: Callable[[Trial, str], str]
    iterations: int = SHORT  # of its run
    root: bool = False  # whether it needs to be played as root
    joins: bool = False  # whether its drivers join workers that outlive it; else they have their own

    @property
    def name(self) -> str:
        return f"{self.fault} · {self.reduction}"


def program(name: str) -> str:
    """The path of a program; AbsentError where there is none."""
    if (found := shutil.which(name)) is None:
        raise AbsentError(f"`{name}`")
    return found


def attempt(case: Case, trial: Trial, references: References) -> dict[str, Any]:
    """A case's line of the table; paths in it are relative to the trial's folder."""
    began = time.monotonic()
    held: bool | None = True
    try:
        if case.root and os.geteuid():
            raise AbsentError("root")
        seen = case.play(trial, references[case.iterations])
    except AbsentError as error:
        held, seen = None, f"skipped: needs {error}"
    except (WrongError, TimeoutError, OSError, ValueError, subprocess.SubprocessError) as error:
        held, seen = False, str(error) or type(error).__name__

    def relative(text: str) -> str:
        return text.replace(f"{trial.folder.resolve()}", ".").replace(f"{trial.folder.resolve().parent}", "..")

    drivers = [
        {"status": end.status, "said": relative(end.errors[-1]) if end.errors else "", "seconds": round(end.seconds, 1)}
        for end in trial.ends
    ]
    seconds = round(time.monotonic() - began, 1)
    line = {"fault": case.fault, "reduction": case.reduction, "held": held, "seen": relative(seen)}
    return line | {"drivers": drivers, "seconds": seconds}


def expect(found: Ended, status: int, said: str = "") -> None:
    """Raise WrongError where a driver did not end with a status and a last line that says something."""
    last = found.errors[-1] if found.errors else ""
    if found.status != status or (status > 0 and said not in last):
        raise WrongError(f"status {found.status}, not {status}: {last[:200]}")


def refused(found: Ended, said: str = "") -> str:
    """What a command said that was refused, or failed; WrongError where it wasn't, or says something else."""
    last = found.errors[-1] if found.errors else ""
    if found.status not in (1, 2) or not last.startswith("error: ") or said not in last:
        raise WrongError(f"not refused with {said!r}: status {found.status}, {last[:200]!r}")
    return last.removeprefix("error: ")

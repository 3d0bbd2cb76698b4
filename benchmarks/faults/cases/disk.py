"""Disks that are full, too small, or can only be read."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks.faults.case import AbsentError, Case, expect, program, refused
from benchmarks.faults.cases.drivers import IN_DRIVERS, with_report
from benchmarks.faults.hook import FULL, Moment
from benchmarks.faults.trial import LONG, REDUCTIONS, Trial, WrongError


def full_in(place: str, trial: Trial, reference: str) -> str:
    """The driver can't write any more from a call of a function on: no file may grow (RLIMIT_FSIZE)."""
    moment = Moment("driver", *IN_DRIVERS[place], FULL, str(trial.folder / "mark"))
    ended = trial.run(*with_report(place), environment=moment.as_environment())
    if place == "the report":  # whose failure costs a line
        expect(ended, 0)
        if (trial.directory.path / "report.html").exists():
            raise WrongError("half a report is left")
        return f"{trial.finish(reference)}, without a report"
    line = refused(ended, "can't be written")
    trial.finish(reference, most=2)
    return f"{line}; resumed"


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A mount on a folder; AbsentError where none is allowed."""
    folder.mkdir(exist_ok=True)
    ran = subprocess.run([program("mount"), *options, str(folder)], check=False, capture_output=True)
    if ran.returncode:
        raise AbsentError("mounts")
    try:
        yield
    finally:
        subprocess.run([program("umount"), "-l", str(folder)], check=True, capture_output=True)


def filled(trial: Trial, reference: str) -> str:
    """The run directory is a disk that others fill while the run goes on; then there is room again."""
    with mounted(trial.directory.path, "-t", "tmpfs", "-o", "size=16m", "none"):
        filler = trial.directory.path / "filler"
        line = refused(trial.disturb(lambda _: _fill(filler)), "can't be written")
        filler.unlink()
        trial.finish(reference, most=2)
    return f"{line}; resumed"


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (65_536, 1):
            with suppress(OSError):
                while file.write(b"0" * size):
                    pass


def too_small_for_a_store(trial: Trial, _: str) -> str:
    """`prepare` on a disk that is too small leaves nothing there."""
    folder = trial.folder / "small"
    with mounted(folder, "-t", "tmpfs", "-o", "size=200k", "none"):
        command = ["workflows.prepare", "--dataset.name", "glyphs", "--dataset.store", "small/glyphs.zarr"]
        line = refused(trial.call(command), "can't be written")
        if left := [path.name for path in folder.iterdir()]:
            raise WrongError(f"left: {left}")
    return line


def read_only(trial: Trial, reference: str) -> str:
    """The run directory can only be read when the run is to go on."""
    trial.disturb(lambda driver: driver.send_signal(signal.SIGTERM))
    path = trial.directory.path
    with mounted(path, "--bind", str(path)):
        subprocess.run([program("mount"), "-o", "remount,ro,bind", str(path)], check=True, capture_output=True)
        line = refused(trial.run())
    trial.finish(reference, most=3)
    return f"{line}; resumed"


WRITTEN = [place for place in IN_DRIVERS if place != "the test"]
CASES = (
    *(
        Case(f"disk full in {place} (no file may grow)", reduction, partial(full_in, place), joins=True)
        for place in WRITTEN
        for reduction in REDUCTIONS
    ),
    *(
        Case("disk full under the run (tmpfs)", reduction, filled, LONG, root=True, joins=True)
        for reduction in REDUCTIONS
    ),
    Case("disk too small for a store (tmpfs)", "–", too_small_for_a_store, root=True),
    *(
        Case("run directory read-only when the run goes on", reduction, read_only, LONG, root=True, joins=True)
        for reduction in REDUCTIONS
    ),
)

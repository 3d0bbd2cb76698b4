"""A store that is deleted, prepared anew or damaged under a run, and when it goes on."""

import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.faults.case import Case, refused
from benchmarks.faults.trial import LONG, REDUCTIONS, Trial, WrongError
from fanfold.pipeline.files import write_bytes


def flip(store: Path) -> None:
    """Flip a bit in the middle of its largest file."""
    largest = max((path for path in store.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    write_bytes(largest, bytes(content))


def changed(change: Callable[[Path], object], under: bool, trial: Trial, reference: str) -> str:
    """The store changes under the run, or before it goes on; either ends in a line, or does no harm."""
    kept, trial.store = trial.store, trial.folder / "own.zarr"
    shutil.copytree(kept, trial.store)
    seen = list[str]()
    if under:
        found = trial.disturb(lambda _: change(trial.store))
        seen.append(refused(found) if found.status else "ended by itself")
    else:
        trial.disturb(lambda driver: driver.send_signal(signal.SIGTERM))
        change(trial.store)
    if trial.ends[-1].status:
        seen.append(refused(trial.run()))
        shutil.rmtree(trial.store, ignore_errors=True)
        shutil.copytree(kept, trial.store)
        trial.finish(reference, most=4)
        seen.append("resumed with the store back")
    elif wrong := trial.wrong(reference):
        raise WrongError("; ".join(wrong))
    return "; ".join(dict.fromkeys(seen))


def prepared_anew(trial: Trial, reference: str) -> str:
    """The store is deleted under the run, and prepared anew by `prepare`."""
    trial.store = trial.folder / "own.zarr"
    command = ["workflows.prepare", "--dataset.name", "glyphs", "--dataset.store", "own.zarr"]
    trial.call(command)

    def prepare_anew(_: object) -> None:
        shutil.rmtree(trial.store)
        with trial.start(command) as preparing:
            preparing.communicate(timeout=200)

    trial.disturb(prepare_anew)
    return trial.finish(reference, most=4)


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "store deleted under the run": (shutil.rmtree, True),
    "store deleted before the run goes on": (shutil.rmtree, False),
    "bit of the store flipped under the run": (flip, True),
    "bit of the store flipped before the run goes on": (flip, False),
}
CASES = (
    *(
        Case(fault, reduction, partial(changed, *how), LONG, joins=True)
        for fault, how in CHANGES.items()
        for reduction in REDUCTIONS
    ),
    *(Case("store deleted and prepared anew under it", one, prepared_anew, LONG, joins=True) for one in REDUCTIONS),
)

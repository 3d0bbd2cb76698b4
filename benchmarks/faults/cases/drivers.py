"""Drivers that end at exact and at random moments, and a second one on the same run."""

import signal
import time
from functools import partial
from random import Random

from benchmarks.faults.case import Case, expect
from benchmarks.faults.hook import Moment
from benchmarks.faults.trial import LONG, REDUCTIONS, Trial, WrongError
from fanfold.data.store import open_store, verify_store

STATUS = {"SIGKILL": -9, "SIGTERM": 143, "SIGHUP": 129, "SIGINT": 130}  # of a driver that gets a signal
IN_DRIVERS = {  # the function, and which of its calls
    "a checkpoint's write": ("os:fsync", 4),  # after the configuration and the first checkpoint
    "metrics' write": ("fanfold.pipeline.recording.run_directory:_append", 3),
    "the test": ("fanfold.pipeline.evaluation:predict", 1),
    "the result's write": ("fanfold.workflows.actions.train:write_json", 1),
    "the report": ("fanfold.workflows.actions.report:write_page", 1),
}
RANDOM = 20  # moments
IMPORTED = 1.5  # seconds until Python has imported what handles signals, at least


def with_report(place: str) -> tuple[str, ...]:
    """Flags of a run that reports, where that is the place of its fault."""
    return ("--report", "true") if place == "the report" else ()


def ended_in(place: str, number: str, trial: Trial, reference: str) -> str:
    """The driver gets a signal inside a function."""
    moment = Moment("driver", *IN_DRIVERS[place], number, str(trial.folder / "mark"))
    found = trial.run(*with_report(place), environment=moment.as_environment())
    expect(found, STATUS[number], "goes on with it")
    return trial.finish(reference, most=2)


def ended_at_random(trial: Trial, reference: str) -> str:
    """The driver gets a signal at random moments, whatever it does; a run that ends is judged, and another begins."""
    random, runs, current = Random(0), [trial], trial
    longest = trial.run("--report", "true").seconds
    for _ in range(RANDOM):
        if current.ends[-1].status == 0:
            current.finish(reference)
            current = Trial(trial.folder / f"run-{len(runs)}", trial.store)
            runs.append(current)
        current.reduction, number = random.choice(REDUCTIONS), random.choice(list(STATUS))
        began, delay = time.monotonic(), random.uniform(IMPORTED, longest)
        with current.start(current.command("--report", "true"), hooked=False) as process:
            while process.poll() is None and time.monotonic() - began < delay:
                time.sleep(0.02)
            if process.poll() is None:
                process.send_signal(signal.Signals[number])
            found = current.end(process, began)
        if found.status not in (0, STATUS[number], -signal.Signals[number]):
            raise WrongError(f"{number} after {delay:.1f} s: status {found.status}, {found.errors[-1:]}")
    current.finish(reference)
    ends = [end.status for run in runs for end in run.ends]
    return f"{len(runs)} runs by {len(ends)} drivers, {sum(status != 0 for status in ends)} of them ended by a signal"


def second(trial: Trial, reference: str) -> str:
    """A second driver on the run is refused."""
    began = time.monotonic()
    with trial.begin() as process:
        with trial.start(trial.command()) as other:
            said = other.communicate(timeout=120)[1]
        if process.poll() is not None:
            raise WrongError("the first one had ended before")
        if other.returncode != 2 or "is being written by process" not in said or "Traceback" in said:
            raise WrongError(f"status {other.returncode}, {said[-200:]}")
        trial.end(process, began)
    return f"refused; the first one {trial.finish(reference, most=1)}"


def store_written(number: str, trial: Trial, _: str) -> str:
    """`prepare` gets a signal when all is written, before the store has its name."""
    store = trial.folder / "made.zarr"
    command = ["workflows.prepare", "--dataset.name", "glyphs", "--dataset.store", store.name]
    moment = Moment("driver", "fanfold.data.store:verify_store", 1, number, str(trial.folder / "mark"))
    expect(trial.call(command, moment.as_environment()), STATUS[number])
    if store.exists():
        raise WrongError("there is a store that was not verified")
    left = len(list(trial.folder.glob(".made.zarr.partial-*")))
    if (ended := trial.call(command)).status:
        raise WrongError(f"prepared again: {ended.errors[-1]}")
    verify_store(store)
    if open_store(store).digest != open_store(trial.store).digest:
        raise WrongError("the store has another digest")
    if list(trial.folder.glob(".made.zarr.partial-*")):
        raise WrongError("a half store is left")
    return "prepared again, the same" + (f"; {left} half store was left until then" if left else "")


CASES = (
    *(
        Case(f"driver: {number} in {place}", REDUCTIONS[(row + column) % 2], partial(ended_in, place, number))
        for row, place in enumerate(IN_DRIVERS)
        for column, number in enumerate(STATUS)
    ),
    Case(f"driver: a signal at {RANDOM} random moments", "–", ended_at_random),
    *(Case("second driver on the run", reduction, second, LONG, joins=True) for reduction in REDUCTIONS),
    *(
        Case(f"prepare: {number} before the store has its name", "–", partial(store_written, number))
        for number in ("SIGKILL", "SIGTERM")
    ),
)

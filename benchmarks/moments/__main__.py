"""Faults at exact moments: `python -m benchmarks.moments`.

Short runs on glyphs over workers of this machine. A worker is killed inside a chunk, a fold, a step; a driver is
killed, or ended by a signal, inside a checkpoint's write, between metrics, in the test, before its result, in the
report, while a store is written; the wall clock jumps by an hour to and fro (needs a C compiler); workers lack the
model's file. The run ends by itself, or in one line, and `--resume` goes on. At the end the parameters are those of an
undisturbed run, bit for bit, every iteration stands in the metrics once, and no process, temporary folder or half
file is left.

Writes OUT.json and OUT.md. Exit status 1 where anything did not hold.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.moments.hook import Moment
from benchmarks.moments.trial import Ended, Trial, WrongError
from benchmarks.soak.stage import Stage
from fanfold.data.store import open_store, verify_store
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.pipeline.recording.kept import read_result
from fanfold.workflows.cli.result import environment

REDUCTIONS = ("graph", "collective")
STATUS = {"SIGKILL": -9, "SIGTERM": 143, "SIGHUP": 129, "SIGINT": 130}  # of a driver that gets a signal
IN_WORKERS = {
    ("a chunk", "graph"): "fanfold.pipeline.worker:adapt",
    ("a chunk", "collective"): "fanfold.pipeline.worker:adapt",
    ("a fold", "graph"): "fanfold.pipeline.fold:fold",
    ("a fold", "collective"): "fanfold.pipeline.executors.plain_loop:fold_all",
    ("a step", "graph"): "fanfold.pipeline.executors.graph:step",
    ("a step", "collective"): "fanfold.pipeline.executors.plain_loop:step",
}
IN_DRIVERS = {  # the function, and which of its calls
    "a checkpoint's write": ("os:fsync", 4),  # after the configuration and the first checkpoint
    "metrics' write": ("fanfold.pipeline.recording.run_directory:_append", 3),
    "the test": ("fanfold.pipeline.evaluation:predict", 1),
    "the result's write": ("fanfold.workflows.actions.train:write_json", 1),
    "the report": ("fanfold.workflows.actions.report:write_page", 1),
}
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, ways):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, ways))

    def forward(self, images):
        return self.layers(images)
"""

Case = Callable[[Trial, str | None], str]  # is given an undisturbed run's parameters, and says what was seen


def worker_killed(place: str) -> Case:
    """A worker that is killed inside a function."""

    def case(trial: Trial, reference: str | None) -> str:
        mark = trial.folder / "mark"
        moment = Moment("worker", IN_WORKERS[place, trial.reduction], 3, "SIGKILL", str(mark))
        trial.run("--report", "false", environment=moment.as_environment())
        if not mark.exists():
            raise WrongError("the fault did not come")
        return trial.finish(reference, most=1)

    return case


def driver_ended(place: str, number: str) -> Case:
    """A driver that gets a signal inside a function."""

    def case(trial: Trial, reference: str | None) -> str:
        function, call = IN_DRIVERS[place]
        moment = Moment("driver", function, call, number, str(trial.folder / "mark"))
        report = ("--report", str(place == "the report").lower())
        expect(trial.run(*report, environment=moment.as_environment()), STATUS[number], "goes on with it")
        return trial.finish(reference, most=2)

    return case


def clock_jumps(trial: Trial, reference: str | None) -> str:
    """The wall clock jumps by an hour to and fro, of driver, scheduler and workers at once."""
    library, compiler = trial.folder / "clock.so", shutil.which("cc")
    assert compiler is not None
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    trial.run("--report", "false", environment={"LD_PRELOAD": str(library)})
    return trial.finish(reference, most=1)


def model_missing(trial: Trial, _: str | None) -> str:
    """Workers that others started lack the model's file; the driver is refused, and the worker named."""
    own, there = trial.folder / "own", trial.folder / "there"
    own.mkdir()
    there.mkdir()
    (own / "onlyhere.py").write_text(OWN)
    stage = Stage(there)
    try:
        stage.open()
        model = ("--model.name", "onlyhere:Net", "--model.width", "null")
        cluster = ("--cluster.kind", stage.address, "--cluster.workers", "2")
        command = [word for word in trial.command(*cluster) if word not in ("--model.width", "8", "conv4-stride")]
        command = [*command[: command.index("--model.name")], *model[:2], *command[command.index("--model.name") + 1 :]]
        began, paths = time.monotonic(), f"{own}:{Path(__file__).parents[2]}"
        with trial.start(command, {"PYTHONPATH": paths}) as process:
            _, said = process.communicate(timeout=240)
        found = Ended(process.returncode, tuple(said.splitlines()), time.monotonic() - began)
    finally:
        stage.close()
    expect(found, 2, "worker tcp://")
    if "Traceback" in said:
        raise WrongError("a traceback")
    return found.errors[-1]


def store_written(number: str) -> Case:
    """A `prepare` that gets a signal when all is written, before the store has its name."""

    def case(trial: Trial, _: str | None) -> str:
        store = trial.folder / "made.zarr"
        command = ["workflows.prepare", "--dataset.name", "glyphs", "--dataset.store", store.name]
        moment = Moment("driver", "fanfold.data.store:verify_store", 1, number, str(trial.folder / "mark"))
        with trial.start(command, moment.as_environment()) as process:
            found = trial.end(process, time.monotonic())
        expect(found, STATUS[number], "")
        if store.exists():
            raise WrongError("there is a store that was not verified")
        left = len(list(trial.folder.glob(".made.zarr.partial-*")))
        with trial.start(command) as process:
            if trial.end(process, time.monotonic()).status:
                raise WrongError(f"prepared again: {trial.ends[-1].errors[-1]}")
        verify_store(store)
        if open_store(store).digest != open_store(trial.store).digest:
            raise WrongError("the store has another digest")
        if list(trial.folder.glob(".made.zarr.partial-*")):
            raise WrongError("a half store is left")
        return (
            f"prepared again, the same; {left} half store was left until then" if left else "prepared again, the same"
        )

    return case


def expect(found: Ended, status: int, said: str) -> None:
    """Raise WrongError where a driver did not end with a status and a last line that says something."""
    last = found.errors[-1] if found.errors else ""
    if found.status != status or (status > 0 and said not in last):
        raise WrongError(f"status {found.status}, not {status}: {last[:200]}")


def cases() -> dict[tuple[str, str], Case]:
    """All cases by what happens, and the reduction."""
    found: dict[tuple[str, str], Case] = {}
    for place, reduction in IN_WORKERS:
        found[f"worker killed in {place}", reduction] = worker_killed(place)
    for row, place in enumerate(IN_DRIVERS):
        for column, number in enumerate(STATUS):
            found[f"driver: {number} in {place}", REDUCTIONS[(row + column) % 2]] = driver_ended(place, number)
    for reduction in REDUCTIONS:
        found["wall clock jumps by an hour", reduction] = clock_jumps
    for number in ("SIGKILL", "SIGTERM"):
        found[f"prepare: {number} before the store has its name", "–"] = store_written(number)
    found["model's file missing on workers", "–"] = model_missing
    return found


def attempt(name: str, reduction: str, case: Case, trial: Trial, reference: str | None) -> dict[str, Any]:
    """A case's line of the table."""
    began = time.monotonic()
    entry: dict[str, Any] = {"fault": name, "reduction": reduction}
    if "clock" in name and not shutil.which("cc"):
        return entry | {"held": None, "seen": "skipped: needs a C compiler", "drivers": []}
    try:
        entry |= {"held": True, "seen": case(trial, reference)}
    except (WrongError, TimeoutError, OSError, ValueError, subprocess.SubprocessError) as error:
        entry |= {"held": False, "seen": str(error)}
    drivers = [{"status": end.status, "said": list(end.errors[-1:]), "seconds": end.seconds} for end in trial.ends]
    return entry | {"drivers": drivers, "seconds": round(time.monotonic() - began, 1)}


def as_markdown(result: Mapping[str, Any]) -> str:
    """The table."""
    lines = [
        "# Faults at exact moments",
        "",
        "Where *held* says yes, the run ended with the undisturbed run's parameters, bit for bit, its metrics",
        "hold each iteration once, and no process, temporary folder or half file is left. By",
        "`python -m benchmarks.moments`.",
        "",
        "| fault | by | held | what was seen | last line of the first driver | s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in result["cases"]:
        held = {True: "yes", False: "**no**", None: "–"}[case["held"]]
        said = next(iter(case["drivers"][0]["said"]), "") if case["drivers"] and case["drivers"][0]["status"] else ""
        cells = [case["fault"], case["reduction"], held, case["seen"], said, str(case.get("seconds", ""))]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    of = result["environment"]
    versions = f"Python {of['python']}, PyTorch {of['torch']}, Dask {of['dask']}"
    return "\n".join(
        [*lines, "", f"`{result['command']}`, {of['date']}, {of['cores']} × {of['processor']}, {versions}.", ""]
    )


def main() -> int:
    """See the module, and `--help`."""
    parser = argparse.ArgumentParser("benchmarks.moments", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose names hold these words")
    parser.add_argument("--out", type=Path, default=Path("moments"), help="OUT.json and OUT.md")
    parser.add_argument("--scratch", type=Path, default=Path("moments-scratch"), help="a folder that is not there yet")
    parser.add_argument("--store", type=Path, help="glyphs' store, if it is prepared")
    options = parser.parse_args()
    folder = options.scratch.resolve()
    folder.mkdir(parents=True)
    store = options.store.resolve() if options.store else folder / "glyphs.zarr"
    undisturbed = Trial(folder / "undisturbed", store, "graph")
    if undisturbed.run("--report", "false").status:
        raise SystemExit(f"the undisturbed run failed: {undisturbed.ends[-1].errors[-1]}")
    result = read_result(undisturbed.directory.result)
    reference = str(result["parameters_sha256"]) if result else None
    found = []
    for number, ((name, reduction), case) in enumerate(cases().items()):
        if options.only in name:
            trial = Trial(folder / f"case-{number}", store, reduction.replace("–", "graph"))
            found.append(attempt(name, reduction, case, trial, reference))
            print(
                time.strftime("%H:%M:%S"),
                *(found[-1][key] for key in ("fault", "reduction", "held", "seen")),
                flush=True,
            )
    command = " ".join(["python -m benchmarks.moments", *([f"--only '{options.only}'"] if options.only else [])])
    whole = {"command": command, "undisturbed": undisturbed.wrong(None), "cases": found, "environment": environment()}
    write_json(options.out.with_suffix(".json"), whole)
    write_bytes(options.out.with_suffix(".md"), as_markdown(whole).encode())
    return int(bool(whole["undisturbed"]) or any(case["held"] is False for case in found))


if __name__ == "__main__":
    sys.exit(main())

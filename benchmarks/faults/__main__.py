"""Every kind of fault, one at a time: `python -m benchmarks.faults`.

Short runs on glyphs over processes of this machine, by graph and by gang. While one goes on, one fault comes to it: to
a worker, the driver, the scheduler, the network, the disk, the store, a checkpoint, the clock. The run ends by itself,
or in one line, and `--resume` goes on. At the end the parameters are those of an undisturbed run, bit for bit, every
iteration stands in the metrics once, and no process, temporary folder or half file is left. What needs root or a
program that isn't there is skipped by name.

Writes OUT.json and OUT.md. The same command goes on where it was interrupted, and plays what did not hold again. Exit
status 1 where anything did not hold.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.faults.case import Case, attempt
from benchmarks.faults.cases import CASES
from benchmarks.faults.page import as_markdown
from benchmarks.faults.trial import LONG, SHORT, Trial
from benchmarks.soak.stage import Stage
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.pipeline.recording.kept import read_result
from fanfold.workflows.cli.result import environment


def prepared(store: Path) -> None:
    """Prepare the glyphs' store, where it isn't there yet."""
    if not store.exists():
        told = ["--dataset.name", "glyphs", "--dataset.store", str(store)]
        subprocess.run([sys.executable, "-m", "workflows.prepare", *told], check=True, stdout=subprocess.DEVNULL)


def undisturbed(folder: Path, store: Path, iterations: int) -> str:
    """The parameters of an undisturbed run, which is trained where it isn't there yet."""
    trial = Trial(folder / f"undisturbed-{iterations}", store, "graph", iterations)
    if not trial.directory.result.exists() and trial.run().status:
        raise SystemExit(f"the undisturbed run failed: {trial.ends[-1].errors[-1]}")
    if wrong := trial.wrong(None):
        raise SystemExit(f"the undisturbed run: {'; '.join(wrong)}")
    result = read_result(trial.directory.result)
    assert result is not None
    return str(result["parameters_sha256"])


def played(record: Path) -> dict[str, dict[str, Any]]:
    """The lines of cases that were played before, the last of each, by their names."""
    lines = map(json.loads, record.read_text().splitlines()) if record.exists() else ()
    return {f"{line['fault']} · {line['reduction']}": line for line in lines}


def asked(case: Case, only: Sequence[str]) -> bool:
    """Whether a case is to be played."""
    return not only or any(words in case.name for words in only)


def play(folder: Path, store: Path, only: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of the table, in the order of its cases; those that stand in the folder's record are taken from it."""
    record = folder / "record.jsonl"
    found = played(record)
    prepared(store)
    references = {iterations: undisturbed(folder, store, iterations) for iterations in (SHORT, LONG)}
    wanted = [case for case in CASES if asked(case, only)]
    left = [case for case in wanted if case.name not in found or found[case.name]["held"] is False]
    with ExitStack() as stack:
        joined = stack.enter_context(shared(folder)) if any(case.joins for case in left) else None
        for case in left:
            place = folder / re.sub(r"\W+", "-", case.name.lower())
            for old in (place, place.with_name(f"{place.name}-stage")):
                shutil.rmtree(old, ignore_errors=True)
            reduction = "graph" if case.reduction == "–" else case.reduction
            trial = Trial(place, store, reduction, case.iterations, joined if case.joins else None)
            line = found[case.name] = attempt(case, trial, references)
            with record.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(time.strftime("%H:%M:%S"), case.name, line["held"], line["seen"], f"{line['seconds']} s", flush=True)
    return [found[case.name] for case in wanted]


@contextmanager
def shared(folder: Path) -> Iterator[Stage]:
    """A scheduler and two workers for the cases that join them."""
    place = folder / f"shared-{os.getpid()}"
    place.mkdir()
    stage = Stage(place)
    try:
        stage.open()
        yield stage
    finally:
        stage.close()


def main() -> int:
    """See the module, and `--help`."""
    parser = argparse.ArgumentParser("benchmarks.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases whose names hold one of these")
    parser.add_argument("--out", type=Path, default=Path("faults"), help="OUT.json and OUT.md")
    parser.add_argument("--scratch", type=Path, default=Path("faults-scratch"), help="a folder for what is kept")
    parser.add_argument("--list", action="store_true", help="print the cases' names")
    parser.add_argument("--so_far", action="store_true", help="play nothing: write what was played so far")
    options = parser.parse_args()
    if options.list:
        print("\n".join(case.name for case in CASES))
        return 0
    folder = options.scratch.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.so_far:
        before = played(folder / "record.jsonl")
        cases = [before[case.name] for case in CASES if asked(case, options.only) and case.name in before]
    else:
        cases = play(folder, folder / "glyphs.zarr", options.only)
    command = " ".join(
        ["python -m benchmarks.faults", *(["--only", *map(shlex.quote, options.only)] if options.only else [])]
    )
    result = {"command": command, "known": len(CASES), "cases": cases, "environment": environment()}
    write_json(options.out.with_suffix(".json"), result)
    write_bytes(options.out.with_suffix(".md"), as_markdown(result).encode())
    return int(any(case["held"] is False for case in cases))


if __name__ == "__main__":
    sys.exit(main())

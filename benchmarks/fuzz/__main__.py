"""Damaged and odd input by machine: each is read as it was written, or refused in one line with status 2.

    python -m benchmarks.fuzz --inputs 100000 --out results/fuzz

An input follows from the seed, its kind and its number, and kinds take turns. `--kind store --index 5` makes that one
alone, and shows what came of it. What came so far stays in SCRATCH: the same command goes on where it was ended, and
judges once more what failed, by the code that there is now. Writes OUT.json and OUT.md. Exit status 1 where something
fails still. POSIX alone: inputs are bound by its signals and limits.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.fuzz.judging import judged
from benchmarks.fuzz.kinds import KINDS, TURNS
from benchmarks.fuzz.page import write
from benchmarks.fuzz.processes import Task, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--scratch", type=Path, help="a folder, best in memory; by default a new one")
    parser.add_argument("--kind", choices=KINDS, help="the only kind")
    parser.add_argument("--index", type=int, help="the only input of that kind")
    given = parser.parse_args()
    scratch = given.scratch or Path(tempfile.mkdtemp(prefix="fanfold-fuzz-"))
    if given.index is not None:
        found = judged(KINDS, given.seed, given.kind, given.index, scratch)
        print(f"{found.outcome}: {found.line}")
        return
    turns = TURNS if given.kind is None else (given.kind,)
    record = run(Task(scratch, turns, given.inputs, given.seed, given.processes))
    print(json.dumps(record["kinds"], indent=1))
    if given.out:
        write(given.out, record, f"python -m benchmarks.fuzz --inputs {given.inputs} --out {given.out}")
    sys.exit(any(failure["now"] == "failed" for failure in record["failures"]))


if __name__ == "__main__":
    main()

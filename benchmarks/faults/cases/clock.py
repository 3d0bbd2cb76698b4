"""A wall clock that jumps."""

import subprocess
from pathlib import Path

from benchmarks.faults.case import Case, program
from benchmarks.faults.trial import REDUCTIONS, Trial


def jumps(trial: Trial, reference: str) -> str:
    """It jumps by an hour to and fro every 4 s, for driver, scheduler and workers at once."""
    library, source = trial.folder / "clock.so", Path(__file__).with_name("clock.c")
    subprocess.run([program("cc"), "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    trial.run(environment={"LD_PRELOAD": str(library)})
    return trial.finish(reference, most=1)


CASES = tuple(Case("wall clock jumps by an hour", reduction, jumps) for reduction in REDUCTIONS)

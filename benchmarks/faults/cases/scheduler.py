"""A scheduler that is killed, or stopped for a while."""

import time
from functools import partial

import psutil

from benchmarks.faults.case import Case
from benchmarks.faults.cases.workers import disturbed
from benchmarks.faults.trial import LONG, REDUCTIONS
from benchmarks.soak.stage import Stage

STOPPED = 9.0  # seconds


def kill(stage: Stage) -> None:
    """Kill it; it is started again with its workers while the driver takes note."""
    assert stage.scheduler is not None
    stage.scheduler.kill()
    stage.scheduler.wait()


def stop_and_continue(stage: Stage) -> None:
    """Stop it for some seconds."""
    assert stage.scheduler is not None
    process = psutil.Process(stage.scheduler.pid)
    process.suspend()
    time.sleep(STOPPED)
    process.resume()


FAULTS = {"scheduler killed": kill, f"scheduler stopped for {STOPPED:g} s, then continued": stop_and_continue}
CASES = tuple(
    Case(fault, reduction, partial(disturbed, bring), LONG)
    for fault, bring in FAULTS.items()
    for reduction in REDUCTIONS
)

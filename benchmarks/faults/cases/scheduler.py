"""A scheduler that is killed, or stopped for a while."""

from functools import partial

import psutil

from benchmarks.faults.case import Case
from benchmarks.faults.cases.workers import disturbed, stop
from benchmarks.faults.trial import LONG, REDUCTIONS
from benchmarks.soak.stage import Stage

STOPPED = 9.0  # seconds


def stop_and_continue(stage: Stage) -> None:
    """Stop it for some seconds."""
    assert stage.scheduler is not None
    stop(psutil.Process(stage.scheduler.pid), STOPPED)


FAULTS = {
    "scheduler killed": Stage.kill_scheduler,
    f"scheduler stopped for {STOPPED:g} s, then continued": stop_and_continue,
}
CASES = tuple(
    Case(fault, reduction, partial(disturbed, bring), LONG)
    for fault, bring in FAULTS.items()
    for reduction in REDUCTIONS
)

"""A fault inside a function of Fanfold's: the process that calls it gets a signal, or a full disk.

`FANFOLD_MOMENT` holds a `Moment` as JSON. Workers read it from Dask's preload of this module, which whoever starts them
names by `DASK_DISTRIBUTED__WORKER__PRELOAD`; a driver reads it where it is started by
`python -m benchmarks.faults.hook MODULE ARGUMENTS …`.
"""

import functools
import importlib
import json
import os
import resource
import runpy
import signal
import sys
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from distributed import Worker

MODULE = "benchmarks.faults.hook"
VARIABLE = "FANFOLD_MOMENT"
FULL = "full disk"  # in a signal's place: no file of the process may grow from then on


@dataclass(frozen=True)
class Moment:
    """A fault, and when it comes; it comes once, in one process."""

    role: str  # "worker" or "driver"
    function: str  # `module:name`, as its callers look it up
    call: int  # it comes before this call in its process, from 1 on
    signal: str  # its name, or `FULL`
    mark: str  # the path of a file that is made then

    def as_environment(self) -> dict[str, str]:
        """The environment of a driver and its workers."""
        return {VARIABLE: json.dumps(asdict(self)), "DASK_DISTRIBUTED__WORKER__PRELOAD": MODULE}


def dask_setup(_: Worker) -> None:
    """Set a worker up. Called by Dask, before the worker computes anything."""
    from_environment("worker")


def from_environment(role: str) -> None:
    """Have the environment's fault come in this process, if it has one for its role."""
    if VARIABLE in os.environ and (moment := Moment(**json.loads(os.environ[VARIABLE]))).role == role:
        install(moment)


def install(moment: Moment) -> None:
    """Have a fault come in this process."""
    place, _, name = moment.function.partition(":")
    module = importlib.import_module(place)
    real, calls = getattr(module, name), count(1)

    @functools.wraps(real)
    def hooked(*arguments: Any, **named: Any) -> Any:
        if next(calls) == moment.call and _first(moment.mark):
            _bring_about(moment.signal)
        return real(*arguments, **named)

    setattr(module, name, hooked)


def _bring_about(fault: str) -> None:
    if fault == FULL:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    else:
        os.kill(os.getpid(), signal.Signals[fault])


def _first(mark: str) -> bool:
    """Whether no other process had its fault before."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    from_environment("driver")
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

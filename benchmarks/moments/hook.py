"""A fault inside a function of Fanfold's: the process that calls it gets a signal.

`FANFOLD_MOMENT` holds a `Moment` as JSON. Workers read it from Dask's preload of this module, which whoever starts them
names by `DASK_DISTRIBUTED__WORKER__PRELOAD`; a driver reads it where it is started by
`python -m benchmarks.moments.hook MODULE ARGUMENTS …`.
"""

import functools
import importlib
import json
import os
import runpy
import signal
import sys
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from distributed import Worker

MODULE = "benchmarks.moments.hook"
VARIABLE = "FANFOLD_MOMENT"


@dataclass(frozen=True)
class Moment:
    """A fault, and when it comes; it comes once, in one process."""

    role: str  # "worker" or "driver"
    function: str  # `module:name`, as its callers look it up
    call: int  # it comes before this call in its process, from 1 on
    signal: str  # its name
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
            os.kill(os.getpid(), signal.Signals[moment.signal])
        return real(*arguments, **named)

    setattr(module, name, hooked)


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

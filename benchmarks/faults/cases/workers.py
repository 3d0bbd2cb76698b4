"""Workers that are killed, stopped, added, run out of memory, leave, or lack something."""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import psutil
from distributed import Client

from benchmarks.faults.case import Case, refused
from benchmarks.faults.hook import Moment
from benchmarks.faults.trial import LONG, REDUCTIONS, ROOT, SILENT, Trial, WrongError, joining, stage_of
from benchmarks.soak.stage import Stage, kill_groups, wait_for

IN_WORKERS = {
    ("a chunk", "graph"): "fanfold.pipeline.worker:adapt",
    ("a chunk", "collective"): "fanfold.pipeline.worker:adapt",
    ("a fold", "graph"): "fanfold.pipeline.fold:fold",
    ("a fold", "collective"): "fanfold.pipeline.executors.plain_loop:fold_all",
    ("a step", "graph"): "fanfold.pipeline.executors.graph:step",
    ("a step", "collective"): "fanfold.pipeline.executors.plain_loop:step",
}
_STEP, _RANK_0 = re.compile(r"step-\w+', (\d+)"), re.compile(r"window-\w+', \d+, 0\)")  # keys of Dask's tasks
STOPPED = 30.0  # seconds: longer than a gang's patience, and than the scheduler's with a silent worker
OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, ways):
        super().__init__(nn.Flatten(), nn.Linear(28 * 28, ways))
"""


def killed_in(place: str, trial: Trial, reference: str) -> str:
    """A worker is killed inside a function."""
    mark = trial.folder / "mark"
    moment = Moment("worker", IN_WORKERS[place, trial.reduction], 3, "SIGKILL", str(mark))
    trial.run(environment=moment.as_environment())
    if not mark.exists():
        raise WrongError("the fault did not come")
    return trial.finish(reference, most=1)


def disturbed(fault: Callable[[Stage], object], trial: Trial, reference: str) -> str:
    """A fault comes to scheduler and workers that the run joined."""
    with joining(trial, stage_of(trial)) as stage:
        trial.disturb(lambda _: fault(stage))
        return trial.finish(reference, most=2)


def kill_holder(stage: Stage) -> None:
    """Kill the worker that holds the state: by graph the last step's, by gang rank 0."""
    with Client(stage.address, set_as_default=False) as client:
        found = list[str]()

        def held() -> bool:
            steps = {
                int(at[1]): where for key, where in client.who_has().items() if where and (at := _STEP.search(str(key)))
            }
            ranks = [address for address, keys in client.processing().items() if _RANK_0.search(str(keys))]
            found[:] = steps[max(steps)][:1] if steps else ranks[:1]
            return bool(found)

        try:
            wait_for(held, 30, "no worker that holds the state")
        except TimeoutError as error:
            raise WrongError(
                f"{error}: {[*map(str, client.who_has())][:5]}, {str(client.processing())[:300]}"
            ) from error
        with suppress(OSError):
            os.kill(int(client.run(os.getpid, workers=found)[found[0]]), signal.SIGKILL)


def exchange_all(stage: Stage) -> None:
    """Kill all workers, with their nannies; others join."""
    kill_groups(stage.crews)
    stage.open()


def stop_and_continue(stage: Stage) -> None:
    """Stop a worker for longer than anybody waits for it."""
    stop(stage.worker_processes()[0], STOPPED)


def stop(process: psutil.Process, seconds: float) -> None:
    """Stop a process for some seconds; it goes on where it still is there."""
    process.suspend()
    time.sleep(seconds)
    with suppress(psutil.Error):
        process.resume()


def with_little_memory(trial: Trial, reference: str) -> str:
    """All workers have less memory than Fanfold takes: the run ends in a line; it goes on with others."""
    with joining(trial, stage_of(trial)) as stage:

        def exchange_for_small_ones(_: object) -> None:
            stage.workers = 0  # none is started in the place of those that go
            exchange_all(stage)
            for _ in range(2):
                stage.add_worker("--memory-limit", "200MB")

        line = refused(trial.disturb(exchange_for_small_ones))
        stage.workers = 2
        exchange_all(stage)
        trial.finish(reference, most=2)
        return f"{line} Resumed with others"


def model_missing(trial: Trial, _: str) -> str:
    """Workers that others started lack the model's file; the driver is refused, and the worker named."""
    own = trial.folder / "own"
    own.mkdir()
    (own / "onlyhere.py").write_text(OWN)
    with joining(trial, stage_of(trial)):
        command = ["onlyhere:Net" if word == "conv4-stride" else word for word in trial.command()]
        width = command.index("--model.width")
        del command[width : width + 2]  # which only Fanfold's own networks have
        return refused(trial.call(command, {"PYTHONPATH": f"{own}{os.pathsep}{ROOT}"}), "worker tcp://")


DISTURBED: dict[str, Callable[[Stage], object]] = {
    "worker that holds the state killed": kill_holder,
    "all workers killed with their nannies, others join": exchange_all,
    f"worker stopped for {STOPPED:g} s, then continued (patience: gang 5 s, graph {SILENT:g} s)": stop_and_continue,
    "worker added": lambda stage: stage.add_worker(),
    "worker with too little memory joins (200 MB)": lambda stage: stage.add_worker("--memory-limit", "200MB"),
    "worker joins and leaves by --lifetime": lambda stage: stage.add_worker("--lifetime", "6 seconds"),
}
CASES = (
    *(Case(f"worker killed in {place}", reduction, partial(killed_in, place)) for place, reduction in IN_WORKERS),
    *(
        Case(fault, reduction, partial(disturbed, bring), LONG)
        for fault, bring in DISTURBED.items()
        for reduction in REDUCTIONS
    ),
    *(Case("all workers have too little memory", reduction, with_little_memory, LONG) for reduction in REDUCTIONS),
    Case("model's file missing on workers", "–", model_missing),
)

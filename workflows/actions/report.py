"""Report on a finished run."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import newest_checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.tally import Tested
from fanfold.pipeline.training import named
from fanfold.workflows.reporting.gather import gather
from fanfold.workflows.reporting.page import write_page
from fanfold.workflows.reporting.run import Run
from fanfold.workflows.reporting.single import single

TASKS = 1000  # test tasks by default


Computing = Callable[[], AbstractContextManager[tuple[Cluster, Recipe]]]
"""Opens the cluster for a run, whose recipe comes with it."""


def report_run(found: Run, tasks: int, computing: Computing, out: Path | None = None) -> Path:
    """Report on a run as `report` does; on its course alone, without a cluster, if it has no result, or without tasks.

    Raises:
        FanfoldError: The number of tasks is out of its range; or as `report`.
    """
    if tasks < 0 or tasks == 1:
        raise FanfoldError(f"`tasks` must be 0 or at least 2, not {tasks}.")
    if found.result is None or not tasks:
        return write_page(single(found, None), out or found.directory.path)
    with computing() as (cluster, recipe):
        return report(found, cluster, recipe, tasks, out)


def report(
    found: Run,
    cluster: Cluster,
    recipe: Recipe,
    tasks: int = TASKS,
    out: Path | None = None,
    tested: Tested | None = None,
) -> Path:
    """Report on a finished run, with predictions of its tested parameters for test tasks. Returns the page's path.

    `tested` is the run's published test where it was just made. The report lies in the run directory, or in `out`.

    Raises:
        FanfoldError: The checkpoint can't be read, the cluster fails, or the page can't be written.
    """
    last, note = newest_checkpoint(found.directory.last, partial(named, recipe))
    notes = [] if note is None else [note]
    if found.result is not None and parameters_sha256(last.best) != found.result["tested_sha256"]:
        notes.append(
            "The run went on after its test: tasks and classes below are of its parameters after "
            f"{last.best_iteration:,} iterations, the accuracies above of those after "
            f"{found.result['tested_iteration']:,}."
        )
    findings = gather(cluster, replace(recipe, device=cluster.device), last.best, tasks, tested)
    return write_page(single(found, findings, notes), out or found.directory.path)

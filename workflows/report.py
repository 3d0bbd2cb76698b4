"""Report on a run in pictures: its course, and its parameters on test tasks. Or compare several runs.

Writes one HTML file that needs no network, `report.html`, and its pictures as PNG in `pictures/`: in the run directory,
or for several runs in `comparison/`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import newest_checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import SECTIONS
from fanfold.pipeline.experiment import PATHS, check_agreement
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.results import Tested
from fanfold.pipeline.training import named
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.configuration import build_parser, decided, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.reporting.comparison import comparison
from fanfold.workflows.reporting.gather import gather
from fanfold.workflows.reporting.page import write_page
from fanfold.workflows.reporting.run import Run, read_run
from fanfold.workflows.reporting.single import single

TASKS = 1000  # test tasks by default


def main(argv: Sequence[str]) -> None:
    runs = [read_run(path) for path in _paths(argv)]
    base = ["--config", str(runs[0].directory.config)] if len(runs) == 1 else []
    parser = build_parser("workflows.report", __doc__, [*base, *argv], SECTIONS)
    parser.add_argument("--seed", type=int, default=0, help="default the run's own")
    parser.add_argument("--run", type=Path, nargs="+", help="the run directory, or several")
    parser.add_argument("--tasks", type=int, default=TASKS, help="test tasks to report on; 0 for the run's course only")
    parser.add_argument(
        "--out", type=Path | None, default=None, help="the report's folder; default the run directory, or comparison/"
    )
    options = parse(parser, [*base, *argv])
    if not runs:
        raise FanfoldError("--run is needed: the directory of the run to report on, or of several.")
    if options.tasks < 0 or options.tasks == 1:
        raise FanfoldError(f"--tasks must be 0 or at least 2, not {options.tasks}.")
    if len(runs) > 1:
        written = write_page(comparison(runs), options.out or Path("comparison"))
    elif runs[0].result is None or not options.tasks:
        written = write_page(single(runs[0], None), options.out or runs[0].directory.path)
    else:
        plan = decided(options)
        check_agreement(plan, runs[0].directory.config, ("cluster.", *PATHS), "A report")
        with open_cluster(plan.cluster) as cluster:
            if cluster.note:
                print(in_flags(cluster.note))
            written = report(runs[0], cluster, plan.recipe, options.tasks, options.out)
    print(f"report: {written}")


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
    last, note = newest_checkpoint(found.directory.last)
    last = named(recipe, last, found.directory.last)
    notes = [] if note is None else [note]
    if found.result is not None and parameters_sha256(last.best) != found.result["tested_sha256"]:
        notes.append(
            "The run went on after its test: tasks and characters below are of its parameters after "
            f"{last.best_iteration:,} iterations, the accuracies above of those after "
            f"{found.result['tested_iteration']:,}."
        )
    findings = gather(cluster, replace(recipe, device=cluster.device), last.best, tasks, tested)
    return write_page(single(found, findings, notes), out or found.directory.path)


def _paths(argv: Sequence[str]) -> list[Path]:
    """The run directories that the arguments name."""
    paths: list[Path] = []
    naming = False
    for word in argv:
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            naming = flag == "--run"
            if naming:
                paths = [Path(value)] if value else []
        elif naming:
            paths.append(Path(word))
    return paths


if __name__ == "__main__":
    run(main)

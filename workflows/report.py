"""Report on a run in pictures: its course, and its parameters on test tasks. Or compare several runs.

Writes one HTML file that needs no network, `report.html`, and its pictures as PNG in `pictures/`: in the run directory,
or for several runs in `comparison/`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.configuration import build_parser, decided, of_run, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import CONFIGURATION, in_flags
from fanfold.workflows.cli.program import command

if TYPE_CHECKING:
    from fanfold.pipeline.cluster.cluster import Cluster
    from fanfold.pipeline.recipe import Recipe


def main(argv: Sequence[str]) -> None:
    paths = _paths(argv)
    bases = [of_run(str(path), f": train one with `{command('train', '--run', str(path))}`") for path in paths]
    base = bases[0] if len(paths) == 1 else []
    parser = build_parser("workflows.report", __doc__, [*base, *argv], CONFIGURATION)
    parser.add_argument("--seed", type=int, default=0, help="default the run's own")
    parser.add_argument("--run", type=Path, nargs="+", help="the run directory, or several")
    parser.add_argument("--tasks", type=int, default=1000, help="test tasks to report on; 0 for the run's course only")
    parser.add_argument(
        "--out", type=Path | None, default=None, help="the report's folder; default the run directory, or comparison/"
    )
    options = parse(parser, [*base, *argv])
    if not paths:
        raise FanfoldError("--run is needed: the directory of the run to report on, or of several.")
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.experiment import PATHS, check_agreement
    from fanfold.workflows.actions.report import report_run
    from fanfold.workflows.cli.cluster import open_cluster
    from fanfold.workflows.reporting.comparison import comparison
    from fanfold.workflows.reporting.page import write_page
    from fanfold.workflows.reporting.run import read_run

    @contextmanager
    def computing() -> "Iterator[tuple[Cluster, Recipe]]":
        plan = decided(options)
        check_agreement(plan, runs[0].directory.config, ("cluster.", *PATHS), "A report")
        with open_cluster(plan.cluster) as cluster:
            if cluster.note:
                print(in_flags(cluster.note))
            yield cluster, plan.recipe

    runs = [read_run(path) for path in paths]
    if len(runs) > 1:
        written = write_page(comparison(runs), options.out or Path("comparison"))
    else:
        written = report_run(runs[0], options.tasks, computing, options.out)
    print(f"report: {written}")


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

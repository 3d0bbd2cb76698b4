"""Report on a run in pictures: its course, and its parameters on test tasks. Or compare several runs.

Writes one HTML file that needs no network, `report.html`, and its pictures as PNG in `pictures/`: in the run directory,
or for several runs in `comparison/`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.configuration import build_parser, check_run, decided, of_run, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import CONFIGURATION, say
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.trust import add_trust_flag, listed

if TYPE_CHECKING:
    from fanfold.pipeline.cluster.cluster import Cluster
    from fanfold.pipeline.recipe import Recipe


def main(argv: Sequence[str]) -> None:
    paths, base = listed(argv, "--run"), list[str]()
    for path in paths:
        otherwise = f": train one with `{command('train', '--run', path)}`"
        if len(paths) == 1:
            base = of_run(path, otherwise, argv)
        else:
            check_run(path, otherwise)
    parser = build_parser("workflows.report", __doc__, [*base, *argv], CONFIGURATION)
    parser.add_argument("--seed", type=int, default=0, help="default the run's own")
    parser.add_argument("--run", type=Path, nargs="+", help="the run directory, or several")
    parser.add_argument("--tasks", type=int, default=1000, help="test tasks to report on; 0 for the run's course only")
    parser.add_argument(
        "--out", type=Path | None, default=None, help="the report's folder; default the run directory, or comparison/"
    )
    add_trust_flag(parser)
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
        with open_cluster(plan.cluster, [plan.recipe]) as cluster:
            if cluster.note:
                say(cluster.note)
            yield cluster, plan.recipe

    runs = [read_run(Path(path)) for path in paths]
    if len(runs) > 1:
        written = write_page(comparison(runs), options.out or Path("comparison"))
    else:
        written = report_run(runs[0], options.tasks, computing, options.out)
    print(f"report: {written}")


if __name__ == "__main__":
    run(main)

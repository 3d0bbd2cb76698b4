"""Train the rows of a table of results, several at once over a cluster's workers, and compare them with the papers'.

Each row is a configuration file; rows with the same training are trained once. Interrupted trainings go on, finished
ones are not repeated. Other rows of the table stay as they are.
"""

from collections.abc import Sequence
from pathlib import Path

from fanfold.data.errors import FanfoldError, RunError
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.performance import add_performance_flag, check_performance_file, performance_reported
from fanfold.workflows.cli.program import interruptible


def main(argv: Sequence[str]) -> None:
    parser = build_parser("workflows.table", __doc__, argv, ["cluster", "record"])
    parser.add_argument("rows", type=Path, nargs="+", help="configuration files, one a row")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds each row is trained with, from 0")
    parser.add_argument(
        "--ensemble",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="a further line for each row: the ensemble of its seeds, by the mean of their class probabilities",
    )
    parser.add_argument("--tasks", type=int | None, default=None, help="test tasks; default each row's own number")
    parser.add_argument("--at_once", type=int | None, default=None, help="how many runs at once; default one a worker")
    parser.add_argument("--runs", type=Path, default=Path("runs/table"), help="the folder of the run directories")
    parser.add_argument("--out", type=Path, default=Path("results/omniglot"), help="the table: OUT.md and OUT.json")
    add_performance_flag(parser)
    options = parse(parser, argv)
    check_performance_file(options.performance_report)
    for name in ("seeds", "at_once"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise FanfoldError(f"--{name} must be at least 1, not {value}.")
    if options.ensemble and options.seeds == 1:
        raise FanfoldError("--ensemble needs --seeds 2 or more: it is of a row's seeds.")
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.workflows.actions.table import run_all
    from fanfold.workflows.cli.cluster import open_cluster, show_cluster
    from fanfold.workflows.reporting.table import make_folder
    from fanfold.workflows.reporting.table_rows import Row, ensembles, read_plan, trainings, with_tasks

    rows = [
        with_tasks(Row(path.stem, seed, read_plan(path, seed)), options.tasks)
        for seed in range(options.seeds)
        for path in options.rows
    ]
    planned = trainings(rows, options.runs)
    make_folder(options.out)
    interruptible("the same command goes on from here")
    recipes = [one.plan.recipe for one in planned]
    with open_cluster(options.cluster, recipes) as cluster, performance_reported(cluster, options.performance_report):
        show_cluster(cluster)
        print(f"{len(rows)} rows, {len(planned)} runs in {options.runs}", flush=True)
        together = ensembles(planned) if options.ensemble else []
        failures = run_all(planned, together, cluster, options.at_once or cluster.workers, options.out, options.record)
    print(f"written to {options.out}.md and {options.out}.json")
    if failures:
        raise RunError(f"{len(failures)} of {len(planned)} runs failed, the others are done: {'; '.join(failures)}")


if __name__ == "__main__":
    run(main)

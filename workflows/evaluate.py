"""Meta-test a run's parameters on tasks from the test classes, spread over a Dask cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.files import check_writable
from fanfold.workflows.cli.configuration import build_parser, decided, flag_value, of_run, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import CONFIGURATION, in_flags
from fanfold.workflows.cli.performance import add_performance_flag, check_performance_file, performance_reported
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.trust import add_trust_flag


def main(argv: Sequence[str]) -> None:
    path = flag_value(argv, "--run")
    if path is not None:
        argv = [*of_run(path, f": train one with `{command('train', '--run', path)}`", argv), *argv]
    parser = build_parser("workflows.evaluate", __doc__, argv, CONFIGURATION)
    parser.add_argument("--seed", type=int, default=0, help="the seed of the test tasks; default the run's own")
    parser.add_argument("--run", type=str | None, default=None, help="the run directory")
    parser.add_argument(
        "--parameters",
        type=Literal["best", "last"],
        default="best",
        help="the best ones on validation classes, or those after the last iteration",
    )
    parser.add_argument("--predictions", type=Path | None, default=None, help="a CSV file for every prediction")
    add_trust_flag(parser)
    add_performance_flag(parser)
    options = parse(parser, argv)
    check_performance_file(options.performance_report)
    if path is None:
        raise FanfoldError("--run is needed: the directory of the run to test.")
    if options.predictions is not None:
        check_writable("CSV file", options.predictions)
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.recording.run_directory import RunDirectory
    from fanfold.workflows.actions.evaluate import Evaluation, evaluate
    from fanfold.workflows.cli.cluster import open_cluster, show_cluster

    plan = decided(options, trains=False)
    asked = Evaluation(plan, RunDirectory(Path(path)), options.parameters, options.predictions)
    with open_cluster(plan.cluster) as cluster, performance_reported(cluster, options.performance_report):
        show_cluster(cluster)
        evaluate(asked, cluster, lambda line: print(in_flags(line), flush=True))


if __name__ == "__main__":
    run(main)

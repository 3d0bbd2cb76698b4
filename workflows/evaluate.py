"""Meta-test a run's parameters on tasks from the test classes, spread over a Dask cluster."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.configuration import build_parser, decided, flag_value, of_run, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import CONFIGURATION
from fanfold.workflows.cli.performance import add_performance_flag, check_performance_file, performance_reported
from fanfold.workflows.cli.program import command


def main(argv: Sequence[str]) -> None:
    path = flag_value(argv, "--run")
    if path is not None:
        argv = [*of_run(path, f": train one with `{command('train', '--run', path)}`"), *argv]
    parser = build_parser("workflows.evaluate", __doc__, argv, CONFIGURATION)
    parser.add_argument("--seed", type=int, default=0, help="the seed of the test tasks; default the run's own")
    parser.add_argument("--run", type=str | None, default=None, help="the run directory")
    parser.add_argument(
        "--parameters",
        type=Literal["best", "last"],
        default="best",
        help="the best ones on validation classes, or those after the last iteration",
    )
    add_performance_flag(parser)
    options = parse(parser, argv)
    check_performance_file(options.performance_report)
    if path is None:
        raise FanfoldError("--run is needed: the directory of the run to test.")
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.checkpoint import newest_checkpoint, parameters_sha256
    from fanfold.pipeline.evaluation import test
    from fanfold.pipeline.experiment import EVALUATE_FREE, check_agreement
    from fanfold.pipeline.files import write_json
    from fanfold.pipeline.recording.run_directory import RunDirectory
    from fanfold.pipeline.training import named
    from fanfold.workflows.cli.cluster import open_cluster, show_cluster
    from fanfold.workflows.cli.result import environment, in_words, test_keys

    directory = RunDirectory(Path(path))
    plan = decided(options)
    check_agreement(plan, directory.config, EVALUATE_FREE, "A test")
    found, note = newest_checkpoint(directory.last)
    if note is not None:
        print(note)
    found = named(plan.recipe, found, directory.last)
    best = options.parameters == "best"
    parameters = found.best if best else found.state.average
    with open_cluster(plan.cluster) as cluster, performance_reported(cluster, options.performance_report):
        show_cluster(cluster)
        workers, recipe = cluster.workers, replace(plan.recipe, device=cluster.device)
        tests = test(cluster.part(directory.path.name), recipe, parameters, plan.evaluation)
    iteration = found.best_iteration if best else found.state.iteration
    sha256 = parameters_sha256(parameters)
    keys = test_keys(plan, tests, iteration, sha256)
    more = {
        "parameters_sha256": sha256,
        "workers": workers,
        "device": recipe.device,
        "note": found.note,
        "environment": environment(cluster.gpus),
    }
    write_json(directory.evaluation, keys | more)
    print(in_words(keys))
    print(f"written to {directory.evaluation}")


if __name__ == "__main__":
    run(main)

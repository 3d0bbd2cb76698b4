"""Meta-train over a Dask cluster, keep the best parameters on validation classes, and meta-test them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.configuration import SECTIONS
from fanfold.pipeline.experiment import Experiment
from fanfold.pipeline.recording.progress import Terminal
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.actions.train import Training, carry_out, new_directory
from fanfold.workflows.cli.cluster import open_cluster, show_cluster
from fanfold.workflows.cli.configuration import build_parser, decided, flag_value, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.listeners import Recording
from fanfold.workflows.cli.performance import add_performance_flag, check_performance_file, performance_reported
from fanfold.workflows.cli.program import command


def main(argv: Sequence[str]) -> None:
    resumed = _run_to_resume(argv)
    if resumed:
        argv = ["--config", str(resumed.config), *argv]
    parser = build_parser("workflows.train", __doc__, argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0, help="the seed of all random draws")
    parser.add_argument("--run", type=str | None, default=None, help="the run directory; default runs/WHAT-WHEN")
    parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="go on with the run in --run")
    parser.add_class_arguments(Recording, "record")
    add_performance_flag(parser)
    parser.add_argument("--report", type=bool, default=True, help="whether to report on the run in pictures at the end")
    options = parse(parser, argv)
    check_performance_file(options.performance_report)
    task = options.task
    directory = resumed or (
        RunDirectory(Path(options.run)) if options.run else new_directory(options.algorithm.name, task.ways, task.shots)
    )
    if not resumed:
        directory.check_free()  # before data is prepared
    plan = decided(options)
    training = Training(plan, directory, bool(resumed), options.record, options.report)
    with open_cluster(plan.cluster) as cluster, performance_reported(cluster, options.performance_report):
        show_cluster(cluster)
        result = carry_out(training, cluster, Terminal(in_flags), lambda line: print(in_flags(line), flush=True))
    print(f"run directory: {directory.path}")
    path = str(directory.path)
    print(f"  test on more tasks:  {command('evaluate', '--run', path, '--evaluation.tasks', '10000')}")
    if longer := _longer(plan, result):
        print(f"  train longer:        {command('train', '--resume', '--run', path, *longer)}")


def _run_to_resume(argv: Sequence[str]) -> RunDirectory | None:
    """The run to resume; None if the arguments ask for none."""
    value = flag_value(argv, "--resume")
    if value is None or value.lower() in ("false", "no", "0"):
        return None
    path = flag_value(argv, "--run")
    if path is None:
        raise FanfoldError("--resume needs --run: the directory of the run to go on with.")
    directory = RunDirectory(Path(path))
    if not directory.config.exists():
        raise FanfoldError(f"{path} holds no run to resume: leave --resume out to start one there.")
    return directory


def _longer(plan: Experiment, result: dict[str, Any]) -> list[str]:
    """Flags that double the run's length, if its schedule allows that."""
    meta = plan.recipe.meta
    minutes = ["--meta.minutes", f"{round(result['train_seconds'] / 30, 1):g}"]
    if meta.iterations is None:
        return minutes
    if meta.schedule != "constant":
        return minutes if result["iterations"] < meta.iterations else []
    return ["--meta.iterations", str(2 * result["iterations"]), *(minutes if meta.minutes is not None else [])]


if __name__ == "__main__":
    run(main, goes_on="a training run goes on with --resume --run DIRECTORY")

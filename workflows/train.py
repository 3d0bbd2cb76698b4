"""Meta-train over a Dask cluster, keep the best parameters on validation classes, and meta-test them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.configuration import build_parser, check_source, decided, flag_value, of_run, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import CONFIGURATION, in_flags, say
from fanfold.workflows.cli.performance import add_performance_flag, check_performance_file, performance_reported
from fanfold.workflows.cli.program import command, interruptible
from fanfold.workflows.cli.trust import add_trust_flag, as_flags, leave_for

if TYPE_CHECKING:
    from fanfold.pipeline.experiment import Experiment


def main(argv: Sequence[str]) -> None:
    resumed = _run_to_resume(argv)
    if resumed is not None:
        argv = [*of_run(resumed, " to resume: leave --resume out to start one there", argv), *argv]
    parser = build_parser("workflows.train", __doc__, argv, [*CONFIGURATION, "record"])
    parser.add_argument("--seed", type=int, default=0, help="the seed of all random draws")
    parser.add_argument("--run", type=str | None, default=None, help="the run directory; default runs/WHAT-WHEN")
    parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="go on with the run in --run")
    add_trust_flag(parser)
    add_performance_flag(parser)
    parser.add_argument("--report", type=bool, default=True, help="whether to report on the run in pictures at the end")
    options = parse(parser, argv, check_source)
    check_performance_file(options.performance_report)
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.recording.progress import Terminal
    from fanfold.pipeline.recording.run_directory import RunDirectory
    from fanfold.workflows.actions.train import Training, carry_out, new_directory
    from fanfold.workflows.cli.cluster import open_cluster, show_cluster

    directory = RunDirectory(Path(options.run)) if options.run else None
    if directory is not None and resumed is None:
        directory.check_free()  # before data is prepared
    plan = decided(options)
    directory = directory or new_directory(options.algorithm.name, plan.recipe.task)
    training = Training(plan, directory, resumed is not None, options.record, options.report)
    path, leave = str(directory.path), as_flags(leave_for(plan.config))
    with (
        open_cluster(plan.cluster, [plan.recipe]) as cluster,
        performance_reported(cluster, options.performance_report),
    ):
        show_cluster(cluster)
        interruptible(f"`{command('train', '--resume', '--run', path, *leave)}` goes on with it")
        result = carry_out(training, cluster, Terminal(in_flags), say)
    print(f"run directory: {path}")
    print(f"  test on more tasks:  {command('evaluate', '--run', path, '--evaluation.tasks', '10000', *leave)}")
    if longer := _longer(plan, result):
        print(f"  train longer:        {command('train', '--resume', '--run', path, *longer, *leave)}")


def _run_to_resume(argv: Sequence[str]) -> str | None:
    """The directory of the run to resume; None if the arguments ask for none."""
    value = flag_value(argv, "--resume")
    if value is None or value.lower() in ("false", "no", "0"):
        return None
    path = flag_value(argv, "--run")
    if path is None:
        raise FanfoldError("--resume needs --run: the directory of the run to go on with.")
    return path


def _longer(plan: "Experiment", result: dict[str, Any]) -> list[str]:
    """Flags that double the run's length, or the patience that ended it, if its schedule allows that."""
    meta, patience = plan.recipe.meta, plan.evaluation.patience
    if not result["iterations"]:  # a frozen network
        return []
    if patience and result["iterations"] - result["tested_iteration"] >= patience * plan.evaluation.every:
        return ["--evaluation.patience", str(2 * patience)]
    twice = round(result["train_seconds"] / 30, 1)
    minutes = ["--meta.minutes", f"{twice:g}"] if meta.minutes is None or twice > meta.minutes else []
    if meta.iterations is None:
        return minutes
    if meta.schedule != "constant":
        return minutes if result["iterations"] < meta.iterations else []
    return ["--meta.iterations", str(2 * result["iterations"]), *(minutes if meta.minutes is not None else [])]


if __name__ == "__main__":
    run(main)

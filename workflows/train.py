"""Meta-train over a Dask cluster, keep the best parameters on validation classes, and meta-test them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import SECTIONS
from fanfold.pipeline.evaluation import test
from fanfold.pipeline.events import Event, MetaTested, ReductionPicked
from fanfold.pipeline.experiment import Experiment, check_agreement, resume_free
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.pipeline.recording.progress import Terminal
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.results import Tested
from fanfold.pipeline.training import train
from fanfold.workflows.cli.cluster import open_cluster, show_cluster
from fanfold.workflows.cli.configuration import build_parser, decided, flag_value, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.listeners import Recording, listening
from fanfold.workflows.cli.performance import add_performance_flag, check_performance_file, performance_reported
from fanfold.workflows.cli.result import in_words, kind_of_accuracy, run_keys, test_keys


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
    directory = resumed or RunDirectory(Path(options.run or _run_name(options)))
    if not resumed:
        directory.check_free()
    plan = decided(options)
    if resumed:
        check_agreement(plan, directory.config, resume_free(plan.recipe.meta), "A resumed run")
    with open_cluster(plan.cluster) as cluster, performance_reported(cluster, options.performance_report):
        if resumed:
            write_bytes(directory.config, plan.yaml.encode())
        else:
            directory.create(plan.yaml)
        result, tested = _train_and_test(plan, cluster, directory, options.record)
        print(in_words(result), flush=True)
        if options.report:
            print(_report(plan, cluster, directory, tested))
    print(f"run directory: {directory.path}")
    print(f"  test on more tasks:  python -m workflows.evaluate --run {directory.path} --evaluation.tasks 10000")
    if longer := _longer(plan, result):
        print(f"  train longer:        python -m workflows.train --resume --run {directory.path} {longer}")


def _train_and_test(
    plan: Experiment, cluster: Cluster, directory: RunDirectory, recording: Recording
) -> tuple[dict[str, Any], Tested]:
    """Train to the end, test the best parameters, and write the result. Returns it, and the published test."""
    show_cluster(cluster)
    print(f"run: {directory.path} ({cluster.workers} workers, {cluster.hardware})")
    print(f"accuracies are {kind_of_accuracy(plan.recipe)}", flush=True)
    cluster = cluster.part(directory.path.name)
    recipe = replace(plan.recipe, device=cluster.device)
    picked: list[str] = []

    def remember(event: Event) -> None:
        if isinstance(event, ReductionPicked):
            picked.append(event.reduction)

    with (
        Terminal(in_flags) as terminal,
        listening(plan, cluster, directory, terminal, recording=recording) as listeners,
    ):
        last = train(cluster, recipe, plan.evaluation, directory, [*listeners, remember], plan.note)
        tests = test(cluster, recipe, last.best, plan.evaluation)
        for listener in listeners:
            listener(MetaTested(tuple(tests)))
        result = {
            **test_keys(plan, tests, last.best_iteration, parameters_sha256(last.best)),
            **run_keys(last, recipe, cluster),
            "reduction": picked[-1],
        }
        write_json(directory.result, result)
    return result, tests[0]


def _report(plan: Experiment, cluster: Cluster, directory: RunDirectory, tested: Tested) -> str:
    """Report on a finished run, and return a line about the report; one that fails costs no more than that line."""
    from fanfold.workflows.report import report  # imported here: drawing libraries take long to import
    from fanfold.workflows.reporting.run import read_run

    try:
        return f"report: {report(read_run(directory.path), cluster, plan.recipe, tested=tested)}"
    except Exception as error:
        return f"no report: {in_flags(one_line(error))} (python -m workflows.report --run {directory.path} tries again)"


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


def _run_name(options: Namespace) -> str:
    task, now = options.task, datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"runs/{options.algorithm.name}-{task.ways}way{task.shots}shot-{now}"


def _longer(plan: Experiment, result: dict[str, Any]) -> str:
    """Flags that double the run's length, if its schedule allows that."""
    meta = plan.recipe.meta
    minutes = f"--meta.minutes {round(result['train_seconds'] / 30, 1):g}"
    if meta.iterations is None:
        return minutes
    if meta.schedule != "constant":
        return minutes if result["iterations"] < meta.iterations else ""
    return f"--meta.iterations {2 * result['iterations']}" + (f" {minutes}" if meta.minutes is not None else "")


if __name__ == "__main__":
    run(main, goes_on="a training run goes on with --resume --run DIRECTORY")

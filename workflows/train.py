"""Meta-train over a Dask cluster, keep the parameters that do best on validation classes, and meta-test them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from data.errors import FanfoldError
from pipeline.checkpoint import parameters_sha256
from pipeline.cluster import Cluster, open_cluster
from pipeline.evaluation import test
from pipeline.events import Listener
from pipeline.files import write_bytes, write_json
from pipeline.progress import RunProgress, Terminal
from pipeline.run_directory import RunDirectory
from pipeline.training import train
from workflows.configuration import build_parser, flag_value, parse
from workflows.entry import run
from workflows.plan import RESUME_FREE, SECTIONS, Plan, check_agreement, make_plan
from workflows.result import in_words, kind_of_accuracy, run_keys, test_keys


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    resumed = _run_to_resume(argv)
    if resumed:
        argv = ["--config", str(resumed.config), *argv]
    parser = build_parser("workflows.train", __doc__, argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0, help="what every random draw depends on")
    parser.add_argument("--run", type=str | None, default=None, help="the run directory; default runs/WHAT-WHEN")
    parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="go on with --run")
    options = parse(parser, argv)
    directory = resumed or RunDirectory(Path(options.run or _run_name(options)))
    if not resumed:
        directory.check_free()
    plan = make_plan(options)
    if resumed:
        # The end of a falling schedule is part of every rate on the way.
        free = [key for key in RESUME_FREE if key != "meta.iterations" or options.meta.schedule == "constant"]
        check_agreement(plan, directory.config, free, "A resumed run")
    with open_cluster(plan.cluster) as cluster:
        if resumed:
            write_bytes(directory.config, plan.yaml.encode())
        else:
            directory.create(plan.yaml)
        result = _train_and_test(plan, cluster, directory)
    print(in_words(result))
    print(f"run directory: {directory.path}")
    print(f"  test on more tasks:  python -m workflows.evaluate --run {directory.path} --evaluation.tasks 10000")
    if longer := _longer(plan, result):
        print(f"  train longer:        python -m workflows.train --resume --run {directory.path} {longer}")


def _train_and_test(plan: Plan, cluster: Cluster, directory: RunDirectory) -> dict[str, Any]:
    """Train up to the end, test the best parameters, and write the result."""
    if cluster.note:
        print(cluster.note)
    print(f"dashboard: {cluster.dashboard}")
    print(f"run: {directory.path} ({cluster.workers} workers, {cluster.device})")
    print(f"accuracies are {kind_of_accuracy(plan.recipe)}", flush=True)
    recipe = replace(plan.recipe, device=cluster.device)
    with Terminal() as terminal:
        listeners: list[Listener] = [directory.log, RunProgress(terminal)]
        last = train(cluster, recipe, plan.evaluation, directory, listeners, plan.note)
    tests = test(cluster, recipe, last.best, plan.evaluation)
    result = {
        **test_keys(plan, tests, last.best_iteration, parameters_sha256(last.best)),
        **run_keys(last, recipe, cluster),
    }
    write_json(directory.result, result)
    return result


def _run_to_resume(argv: Sequence[str]) -> RunDirectory | None:
    """The run that the arguments ask to resume, if they do."""
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


def _longer(plan: Plan, result: dict[str, Any]) -> str:
    """Flags that let the run go on for as long again, if its schedule can be prolonged."""
    meta = plan.recipe.meta
    minutes = f"--meta.minutes {round(result['train_seconds'] / 30, 1):g}"
    if meta.iterations is None:
        return minutes
    if meta.schedule != "constant":
        return minutes if result["iterations"] < meta.iterations else ""
    return f"--meta.iterations {2 * result['iterations']}" + (f" {minutes}" if meta.minutes is not None else "")


if __name__ == "__main__":
    run(main)

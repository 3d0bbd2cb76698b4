"""Meta-train over a Dask cluster, keep the parameters that do best on validation classes, and meta-test them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from data.errors import FanfoldError
from pipeline.checkpoint import load_checkpoint, parameters_sha256
from pipeline.cluster import open_cluster
from pipeline.evaluation import evaluate
from pipeline.files import write_json
from pipeline.progress import TerminalProgress
from pipeline.run_directory import RunDirectory
from pipeline.training import train
from tasks.episodes import Stream
from workflows.configuration import build_parser, flag_value, parse
from workflows.entry import run
from workflows.plan import RESUME_FREE, SECTIONS, Plan, check_agreement, make_plan
from workflows.report import environment, in_words, test_keys


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    directory, argv = _resumed(argv)
    parser = build_parser("workflows.train", __doc__, argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0, help="what every random draw depends on")
    parser.add_argument("--run", type=str | None, default=None, help="the run directory; default runs/WHAT-WHEN")
    parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="go on with --run")
    options = parse(parser, argv)
    resume = directory is not None
    if directory is None:
        directory = RunDirectory(Path(options.run or _run_name(options)))
        directory.check_free()
    plan = make_plan(options)
    if resume:
        check_agreement(plan, directory.config, RESUME_FREE, "A resumed run")
    with open_cluster(plan.cluster) as cluster:
        if cluster.note:
            print(cluster.note)
        print(f"dashboard: {cluster.dashboard}")
        print(f"run: {directory.path} ({cluster.workers} workers, {cluster.device})", flush=True)
        plan = replace(plan, recipe=replace(plan.recipe, device=cluster.device))
        if not resume:
            directory.create(plan.yaml)
        with TerminalProgress() as progress:
            last = train(cluster, plan.recipe, plan.evaluation, directory, [directory.log, progress])
        best = load_checkpoint(directory.best)
        accuracy = evaluate(cluster, plan.recipe, best.state.parameters, Stream.TEST, plan.evaluation.tasks)
        keys = test_keys(plan, accuracy, best.state.iteration, parameters_sha256(best.state.parameters))
        tasks = last.state.iteration * plan.recipe.meta.batch
        result = {
            **keys,
            "validation_accuracy": best.best_accuracy,
            "iterations": last.state.iteration,
            "workers": cluster.workers,
            "device": cluster.device,
            "train_seconds": round(last.seconds, 3),
            "tasks_per_second": round(tasks / last.seconds, 3),
            "parameters_sha256": parameters_sha256(last.state.parameters),
            "note": plan.note,
            "environment": environment(),
        }
        write_json(directory.result, result)
    _tell(plan, directory, in_words(keys))


def _resumed(argv: Sequence[str]) -> tuple[RunDirectory | None, Sequence[str]]:
    """The run to resume, if one is, and the arguments with its configuration before them."""
    if (flag_value(argv, "--resume") or "false").lower() == "false" and "--resume" not in argv:
        return None, argv
    path = flag_value(argv, "--run")
    if path is None:
        raise FanfoldError("--resume needs --run: the directory of the run to go on with.")
    directory = RunDirectory(Path(path))
    if not directory.config.exists():
        raise FanfoldError(f"{path} holds no run to resume: leave --resume out to start one there.")
    return directory, ["--config", str(directory.config), *argv]


def _run_name(options: object) -> str:
    algorithm, task = options.algorithm, options.task  # type: ignore[attr-defined]
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"runs/{algorithm.name}-{task.ways}way{task.shots}shot-{now}"


def _tell(plan: Plan, directory: RunDirectory, accuracy: str) -> None:
    print(accuracy)
    print(f"run directory: {directory.path}")
    print(f"  train longer:     python -m workflows.train --resume --run {directory.path} --meta.minutes 60")
    print(f"  test on more:     python -m workflows.evaluate --run {directory.path} --evaluation.tasks 10000")


if __name__ == "__main__":
    run(main)

"""Meta-test a run's parameters on tasks from the test classes, or from other data, spread over a Dask cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import shown
from fanfold.pipeline.files import check_writable, replaced
from fanfold.workflows.cli.arguments import pairs
from fanfold.workflows.cli.configuration import (
    build_parser,
    configuration,
    decided,
    flag_value,
    of_run,
    parse,
    say_notes,
)
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import CONFIGURATION, say
from fanfold.workflows.cli.performance import add_performance_flag, check_performance_file, performance_reported
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.trust import add_trust_flag

if TYPE_CHECKING:
    from fanfold.pipeline.configuration import Configuration
    from fanfold.tasks.episodes import EpisodeShape
    from fanfold.workflows.actions.grid import Grid


def main(argv: Sequence[str]) -> None:
    path = flag_value(argv, "--run")
    argv, of_data = _data_apart(argv)
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
    parser.add_argument(
        "--ensemble",
        type=str,
        nargs="+",
        default=[],
        metavar="RUN",
        help="further run directories: the class probabilities of all runs are averaged",
    )
    parser.add_argument("--predictions", type=Path | None, default=None, help="a CSV file for every prediction")
    for name, what in (("ways", "numbers of classes"), ("shots", "numbers of support pictures")):
        parser.add_argument(
            f"--grid.{name}", type=str | None, default=None, help=f"{what}, such as 2,5,10, for a table"
        )
    add_trust_flag(parser)
    add_performance_flag(parser)
    options = parse(parser, argv)
    check_performance_file(options.performance_report)
    if path is None:
        raise FanfoldError("--run is needed: the directory of the run to test.")
    if options.predictions is not None and (options.grid.ways or options.grid.shots):
        raise FanfoldError("--predictions and --grid: leave one out.")
    if options.ensemble and (of_data or options.grid.ways or options.grid.shots):
        raise FanfoldError("--ensemble and --grid, or other data: leave one out.")
    if options.predictions is not None:
        check_writable("CSV file", options.predictions)
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.experiment import decide
    from fanfold.pipeline.recording.run_directory import RunDirectory
    from fanfold.workflows.actions.elsewhere import on_other_data
    from fanfold.workflows.actions.evaluate import Evaluation, evaluate, joined_by, on_the_tasks_of
    from fanfold.workflows.actions.grid import GridOfTests, evaluate_grid
    from fanfold.workflows.cli.cluster import open_cluster, show_cluster

    directory, home = RunDirectory(Path(path)), None
    if of_data:
        dataset = parse(build_parser("workflows.evaluate", __doc__, of_data, ["dataset"]), of_data).dataset
        plan, home = on_other_data(configuration(options), dataset, flag_value(of_data, "--dataset.split"), directory)
        say_notes(plan)
    else:
        plan = decided(options, trains=False)
    recipes = [plan.recipe]
    asked = Evaluation(plan, directory, options.parameters, options.predictions, bool(of_data), home)
    if options.ensemble:
        further = [(_own(one, options.trust), RunDirectory(Path(one))) for one in options.ensemble]
        plans = [(decide(on_the_tasks_of(plan, own), trains=False), there) for own, there in further]
        asked = joined_by(asked, plans)
        recipes += [one.recipe for one, _ in plans]
    grid = _grid(options.grid.ways, options.grid.shots, plan.recipe.task)
    planned = None if grid is None else GridOfTests.of(asked, grid)

    if line := replaced((options.predictions,)):
        say(line)
    with open_cluster(plan.cluster, recipes) as cluster, performance_reported(cluster, options.performance_report):
        show_cluster(cluster)
        if planned is None:
            evaluate(asked, cluster, say)
        else:
            evaluate_grid(planned, cluster, say)


def _own(path: str, trust: Sequence[str]) -> "Configuration":
    """The configuration of a further run, as it was trained."""
    leave = ["--trust", *trust] if trust else []
    argv = of_run(path, ": --ensemble names run directories", [*leave, "--cluster.kind", "cpu"])
    parser = build_parser("workflows.evaluate", __doc__, argv, CONFIGURATION)
    parser.add_argument("--seed", type=int, default=0)
    return configuration(parse(parser, argv))


def _grid(ways: str | None, shots: str | None, task: "EpisodeShape") -> "Grid | None":
    """The grid that flags ask for, the run's own number where one says nothing; None where both do."""
    from fanfold.workflows.actions.grid import Grid

    if ways is None and shots is None:
        return None
    return Grid.of(_numbers("ways", ways, task.ways), _numbers("shots", shots, task.shots))


def _numbers(name: str, text: str | None, own: int) -> list[int]:
    if text is None:
        return [own]
    parts = text.strip("[]").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise FanfoldError(f"--grid.{name} must be whole numbers, such as 2,5,10, not {shown(text)}.")
    return [int(part) for part in parts]


def _data_apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without those that name data to test on, and these; none where only a split of the run's is."""
    of_data, others, left = list[str](), list[str](), list(argv)
    while left:
        word = left.pop(0)
        chosen = of_data if word.partition("=")[0].partition(".")[0] == "--dataset" else others
        chosen.append(word)
        if chosen is of_data and "=" not in word and left and not left[0].startswith("--"):
            chosen.append(left.pop(0))
    if {flag for flag, _ in pairs(of_data)} <= {"--dataset.split"}:
        return list(argv), []
    return others, of_data


if __name__ == "__main__":
    run(main)

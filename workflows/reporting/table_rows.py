"""The rows of the table of results, and their trainings and tests."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import yaml_text
from fanfold.pipeline.configuration import SECTIONS, flatten_keys
from fanfold.pipeline.experiment import Experiment, check_agreement, resume_free
from fanfold.pipeline.recording.kept import read_configuration
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.cli.configuration import build_parser, decided, parse

JUDGED = ("task", "evaluation", "cluster")  # sections that do not change a training's parameters, but for `FLIP`
FLIP = "evaluation.flip"  # changes them where a frozen network embeds mirror images, too


@dataclass(frozen=True)
class Row:
    """A configuration and a seed."""

    name: str  # the configuration file's, such as `maml-5way1shot`
    seed: int
    plan: Experiment  # the configuration's experiment

    @property
    def run(self) -> str:
        """The name of a run trained for this row."""
        return f"{self.name}-seed{self.seed}"


@dataclass(frozen=True)
class Training:
    """A run, and the rows with the same training, for which its parameters are tested."""

    directory: RunDirectory
    plan: Experiment  # the training and its validation: the first row's, or the one that the run began with
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        return self.directory.name


@dataclass(frozen=True)
class Ensemble:
    """The runs of a row's seeds, which judge the test tasks together."""

    rows: tuple[Row, ...]  # by seed
    trainings: tuple[Training, ...]  # of each

    @property
    def name(self) -> str:
        return f"{self.rows[0].name}-ensemble"


def read_plan(path: Path, seed: int | None = None) -> Experiment:
    """The experiment of a configuration file, with its own seed or another one.

    Raises:
        FanfoldError: The file can't be read, or its settings don't fit together.
    """
    argv = ["--config", str(path), *([] if seed is None else ["--seed", str(seed)])]
    parser = build_parser("workflows.table", "", argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0)
    try:
        return decided(parse(parser, argv))
    except FanfoldError as error:
        raise FanfoldError(f"{path}: {error}") from error


def trainings(rows: Iterable[Row], runs: Path) -> list[Training]:
    """The trainings of rows: one for all rows with the same training, such as Prototypical Networks of 5 and 20 ways.

    A run among `runs` with the same training goes on, whatever its name.

    Raises:
        FanfoldError: Two rows have one name, or a row's run was begun with another configuration.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_learned(yaml_text.load(row.plan.yaml)), []).append(row)
    names = [(row.name, row.seed) for group in groups.values() for row in group]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise FanfoldError(f"Two rows are called {twice[0]}: give each configuration a file name of its own.")
    begun = dict[str, Path]()
    for config in sorted(runs.glob("*/config.yaml")):
        with suppress(FanfoldError):  # a damaged run stops no table: its row is trained anew, or says so itself
            begun[_learned(read_configuration(config))] = config
    return [
        Training(RunDirectory(begun[learned].parent), read_plan(begun[learned]), tuple(group))
        if learned in begun
        else Training(_new_directory(group[0], runs), group[0].plan, tuple(group))
        for learned, group in groups.items()
    ]


def ensembles(planned: Iterable[Training]) -> list[Ensemble]:
    """The ensembles of the rows that have several seeds."""
    of_row: dict[str, dict[int, tuple[Row, Training]]] = {}
    for training in planned:
        for row in training.rows:
            of_row.setdefault(row.name, {})[row.seed] = row, training
    seeds = [[runs[seed] for seed in sorted(runs)] for runs in of_row.values() if len(runs) > 1]
    return [Ensemble(*zip(*runs, strict=True)) for runs in seeds]


def with_tasks(row: Row, tasks: int | None) -> Row:
    """The row with another number of test tasks; None leaves it."""
    if tasks is None:
        return row
    evaluation = replace(row.plan.evaluation, tasks=tasks)
    return replace(row, plan=replace(row.plan, evaluation=evaluation))


def _new_directory(row: Row, runs: Path) -> RunDirectory:
    """The run directory of a row without a run of the same training; an earlier run there may be prolonged."""
    directory = RunDirectory(runs / row.run)
    if directory.config.exists():
        flat = row.plan.flat
        judged = [key for key in flat if key.startswith(tuple(f"{section}." for section in JUDGED))]
        free = [*resume_free(row.plan.recipe.meta), *(key for key in judged if key != FLIP or not _freezes(flat))]
        try:
            check_agreement(row.plan, directory.config, free, f"The row in {directory.path}")
        except FanfoldError as error:
            raise FanfoldError(f"{error} Rename its configuration file, or name another folder with --runs.") from error
    return directory


def _learned(config: Mapping[str, Any]) -> str:
    """The part of a resolved configuration that decides a training's parameters."""
    sections = {key: value for key, value in config.items() if key not in JUDGED}
    flat = flatten_keys(dict(config))
    return json.dumps([sections, _freezes(flat) and flat.get(FLIP, False)], sort_keys=True)


def _freezes(flat: Mapping[str, Any]) -> bool:
    """Whether a network may embed each picture once; one's own may freeze its body itself."""
    return bool(flat.get("model.freeze")) or ":" in str(flat.get("model.name"))

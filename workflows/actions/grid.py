"""Tests with many numbers of ways and shots, kept as one table with a heat map."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import not_learnt
from fanfold.pipeline.files import make_folder, write_bytes, write_json
from fanfold.pipeline.results import Accuracy
from fanfold.tasks.episodes import Stream
from fanfold.tasks.fitted import Fitted
from fanfold.workflows.actions.evaluate import Evaluation, Say, measure
from fanfold.workflows.cli.result import kind

CELL = ("ways", "shots", "test_accuracy", "test_ci95", "test_episodes", "transductive", "macro_f1")
"""What a cell of the table has of a test's keys; the columns of the CSV file."""
SHARED = (
    *("dataset", "split", "algorithm", "model", "queries", "flip", "seed", "tested_sha256", "trained_ways"),
    "environment",
)


@dataclass(frozen=True)
class Grid:
    """The ways and shots of a table, each in rising order."""

    ways: tuple[int, ...]
    shots: tuple[int, ...]

    @classmethod
    def of(cls, ways: Sequence[int], shots: Sequence[int]) -> "Grid":
        """The grid of some numbers in any order."""
        return cls(tuple(sorted(set(ways))), tuple(sorted(set(shots))))


@dataclass(frozen=True)
class GridOfTests:
    """The tests of a grid."""

    asked: Evaluation
    grid: Grid
    tests: Sequence[Evaluation]  # those whose tasks can be drawn
    left_out: Mapping[str, Sequence[tuple[int, int]]]  # the other ways and shots, by the reason

    @classmethod
    def of(cls, asked: Evaluation, grid: Grid) -> "GridOfTests":
        """The tests of a grid, each as it was asked for but for ways and shots.

        Raises:
            FanfoldError: No task of the grid can be drawn.
        """
        recipe = asked.plan.recipe
        tests, left_out = list[Evaluation](), dict[str, list[tuple[int, int]]]()
        for ways, shots in product(grid.ways, grid.shots):
            task = replace(recipe.task, ways=ways, shots=shots)
            try:
                checked = worker.check_recipe(replace(recipe, task=task), [Stream.TEST])
            except FanfoldError as error:
                left_out.setdefault(str(error), []).append((ways, shots))
                continue
            plan = replace(asked.plan, recipe=checked, config={**asked.plan.config, "task": task})
            tests.append(replace(asked, plan=plan))
        if not tests:
            raise FanfoldError(next(iter(left_out)))
        return cls(asked, grid, tests, left_out)


def evaluate_grid(planned: GridOfTests, cluster: Cluster | None, say: Say, warn: Say | None = None) -> dict[str, Any]:
    """Test a run with all ways and shots of a grid; `say` shows a line. Without a cluster, in this process.

    `warn` shows what puts the tests in doubt, by default as `say` does: a damaged checkpoint, and tests that are hardly
    better than guessing, each once.

    Tasks that the test classes are too few or too small for are left out, and said.

    Returns:
        The table, as it is kept in the run directory's `evaluations`, as JSON, as CSV and as a heat map.

    Raises:
        FanfoldError: See `evaluate`.
    """
    from fanfold.workflows.reporting.heat_map import draw_grid  # imported here: drawing libraries take long to import
    from fanfold.workflows.reporting.style import styled

    for why, cells in planned.left_out.items():
        say(f"left out {', '.join(f'{ways}-way {shots}-shot' for ways, shots in cells)}: {why}")
    tests, note, doubts = list[Mapping[str, Any]](), None, dict[str, str]()
    for one in planned.tests:
        measured = measure(one, cluster, lambda _: None)
        if measured.note is not None and note is None:
            note = measured.note
            (warn or say)(note)
        keys = measured.keys
        accuracy = Accuracy(keys["test_accuracy"], keys["test_ci95"], keys["test_episodes"])
        say(f"{keys['ways']}-way {keys['shots']}-shot: {accuracy}, {accuracy.tasks:,} tasks, {kind(keys)}")
        if line := not_learnt(one.plan.recipe, measured.tested):
            doubts[f"{keys['ways']}-way {keys['shots']}-shot"] = line
        tests.append(keys)
    if doubts:
        (first, line), *others = doubts.items()
        same = f" The same holds for {', '.join(name for name, _ in others)}." if others else ""
        (warn or say)(f"{first}: {line}{same}")
    result = {
        **{key: tests[0][key] for key in SHARED},
        "cells": [{key: keys[key] for key in CELL} for keys in tests],
        "left_out": [{"ways": w, "shots": s, "why": why} for why, cells in planned.left_out.items() for w, s in cells],
    }
    path = planned.asked.directory.evaluations / f"{_name(planned, result)}.json"
    make_folder(path.parent)
    write_json(path, result)
    write_bytes(path.with_suffix(".csv"), _as_csv(result["cells"]).encode())
    with styled():
        write_bytes(path.with_suffix(".png"), draw_grid(result, planned.asked.directory.name).png())
    say(f"written to {path}, .csv and .png")
    return result


def _as_csv(cells: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, CELL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue()


def _name(planned: GridOfTests, result: Mapping[str, Any]) -> str:
    """The file's name: the same for the same grid, another for all else."""
    asked, grid = planned.asked, planned.grid
    evaluation, recipe = asked.plan.evaluation, asked.plan.recipe
    judged = [
        *(grid.ways, grid.shots, recipe.task.queries, recipe.seed, recipe.fingerprint, recipe.split),
        *(result["tested_sha256"], evaluation.tasks, evaluation.half_width, evaluation.steps),
        *(["flip"] if evaluation.flip else []),
        # A method on embeddings may be another one than the run's.
        *([asdict(recipe.algorithm)] if isinstance(recipe.algorithm, Fitted) else []),
    ]
    digest = hashlib.sha256(json.dumps(judged).encode()).hexdigest()[:8]
    return f"grid-{'-'.join(map(str, grid.ways))}way-{'-'.join(map(str, grid.shots))}shot-{digest}"

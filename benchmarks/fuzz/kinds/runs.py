"""Run directories and tables of results, with a damaged, odd or exchanged file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fanfold
from benchmarks.fuzz.judging import Read, right
from benchmarks.fuzz.kinds.configurations import CONFIGURATION
from benchmarks.fuzz.mutation import Random, choice, damaged, odd, spoiled_json
from fanfold.pipeline import yaml_text
from fanfold.pipeline.recording.kept import TESTED, read_object
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.cli.configuration import of_run
from fanfold.workflows.reporting.evaluations import evaluations
from fanfold.workflows.reporting.heat_map import newest_grid
from fanfold.workflows.reporting.page import render
from fanfold.workflows.reporting.run import read_run
from fanfold.workflows.reporting.single import cards_of, facts_of, single
from fanfold.workflows.reporting.table import add_to_table

ACCURACY: dict[str, Any] = {"transductive": True, "test_accuracy": 0.5, "test_ci95": 0.01, "test_episodes": 100}
ENVIRONMENT: dict[str, Any] = {
    **{"python": "3.11", "machine": "x86_64", "processor": "Some", "cores": 2, "gpus": ["Some GPU"]},
    **{"date": "2026-11-30", "torch": "2.15", "numpy": "2", "dask": "2026", "zarr": "3"},
}
RESULT: dict[str, Any] = {
    **{"dataset": "glyphs", "split": "random:3", "algorithm": "maml", "model": "conv4", "ways": 5, "shots": 1},
    **{
        "queries": 15,
        "rotations": True,
        "inner_steps": 2,
        "seed": 3,
        "tested_iteration": 10,
        "tested_sha256": "f" * 64,
    },
    **ACCURACY,
    "normalization": "batch",
    "other_tests": [{**ACCURACY, "transductive": False, "normalization": "single"}],
    **{"validation_accuracy": 0.5, "iterations": 10, "train_seconds": 61.5, "tasks_per_second": 12.5, "workers": 2},
    **{"parameters_sha256": "e" * 64, "device": "cpu", "initial": None, "note": None, "environment": ENVIRONMENT},
    "reduction": "gang",
}
LINE = {"iteration": 1, "loss": 1.5, "accuracy": 0.5, "tasks_per_second": 10.0, "seconds": 0.5}
VALIDATION = {"iteration": 5, "loss": 1.5, "accuracy": 0.5, "ci95": 0.01, "best": True}
GRID: dict[str, Any] = {
    **{"dataset": "glyphs", "split": "test"},
    "cells": [{"ways": ways, "shots": 1, **ACCURACY} for ways in (2, 5)],
    "left_out": [{"ways": 20, "shots": 5}],
}
TEST: dict[str, Any] = {"dataset": "glyphs", "split": "test", "ways": 5, "shots": 1, **ACCURACY}


def _lines(line: dict[str, Any], count: int) -> bytes:
    return b"".join(json.dumps({**line, "iteration": number + 1}).encode() + b"\n" for number in range(count))


FILES: dict[str, bytes] = {
    "config.yaml": yaml_text.dump(CONFIGURATION).encode(),
    "metrics.jsonl": _lines(LINE, 12),
    "validations.jsonl": _lines(VALIDATION, 3),
    "result.json": json.dumps(RESULT).encode(),
    "evaluations/grid-a.json": json.dumps(GRID).encode(),
    "evaluations/test.json": json.dumps(TEST).encode(),
    "row-a.json": json.dumps(TEST).encode(),
}


def run(folder: Path, random: Random) -> Read:
    """A run directory of which one or two files are spoiled: what is read of it is finite, and can be written."""
    directory = RunDirectory(folder / "run")
    for name, content in FILES.items():
        path = directory.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    spoiled = {choice(random, list(FILES)) for _ in range(random.integers(1, 3))}
    for name in sorted(spoiled):
        _spoil(directory.path / name, random)
    page = random.random() < 0.02  # drawing takes half a second

    def read() -> None:
        found = read_run(directory.path)
        history = found.history
        right("an iteration is no number", np.isfinite([*history.iteration, *history.validated]).all())
        right("iterations are out of order", (np.diff(history.iteration) > 0).all())
        cards, facts = cards_of(found), facts_of(found)
        words = [repr(history), *evaluations(directory), *map(repr, cards), *map(repr, facts)]
        grid = newest_grid(directory.evaluations)
        right("a share is no share", grid is None or np.isfinite([one["test_accuracy"] for one in grid["cells"]]).all())
        loaded = fanfold.load(directory.path)
        words += [repr(loaded.history), str(loaded.accuracy) if loaded.result else ""]
        if "config.yaml" in spoiled:
            right("the configuration differs", loaded.config == yaml_text.load(directory.config.read_text()))
            of_run(str(directory.path), "", [])
        read_object("test", directory.path / "row-a.json", TESTED)
        if page:
            words.append(render(single(found, None)))
        "".join(words).encode()

    return read


def _spoil(path: Path, random: Random) -> None:
    """Damage a file, or put something odd or something else in its place."""
    content = path.read_bytes()
    match int(random.integers(12)):
        case 0:
            path.unlink()
        case 1:
            path.unlink()
            path.mkdir()
        case 2:
            path.unlink()
            path.symlink_to(choice(random, ("nowhere", path.name, "/dev/null", "/dev/zero", ".")))
        case 3:
            path.write_bytes(b"")
        case number if number < 8 and path.suffix == ".json":
            path.write_bytes(spoiled_json(json.loads(content), random))
        case number if number < 8 and path.suffix == ".yaml":
            path.write_text(yaml_text.dump(odd(CONFIGURATION, random)), errors="surrogatepass")
        case number if number < 9 and path.suffix == ".jsonl":
            lines = content.splitlines()
            place = int(random.integers(len(lines)))
            lines[place] = spoiled_json(json.loads(lines[place]), random)
            path.write_bytes(b"\n".join(lines))
        case _:
            path.write_bytes(damaged(content, random))


ROW: dict[str, Any] = {**RESULT, "row": "maml-5way1shot"}
ENSEMBLE: dict[str, Any] = {
    **{key: value for key, value in ROW.items() if key not in ("tested_iteration", "validation_accuracy")},
    "row": "maml-ensemble",
    "members": ["maml-seed0", "maml-seed1"],
}


def results(folder: Path, random: Random) -> Read:
    """A table of results: what is accepted is written again with the same rows, and as Markdown."""
    out = folder / "table"
    path = out.with_name("table.json")
    found: dict[str, Any] = {"results": [ROW, {**ROW, "seed": 4}, ENSEMBLE]}
    if random.random() < 0.02:  # drawing takes half a second
        found["results"][0] = {
            **ROW,
            "dataset": "omniglot",
            "queries": 1,
            "validations": [[5, 0.5, 0.01], [9, 0.6, 0.01]],
        }
    path.write_bytes(spoiled_json(found, random))

    def read() -> None:
        content = path.read_bytes()
        add_to_table(out, [])
        before = json.loads(content)
        after = json.loads(path.read_text())["results"]
        key: Callable[[Any], str] = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
        right("a row is new", {key(row) for row in after} <= {key(row) for row in before["results"]})
        right("a row is lost", len(after) == len({(row["row"], row["seed"]) for row in before["results"]}))
        text = out.with_name("table.md").read_text()
        right("a row is not in the page", all(f"`{row['row']}`" in text for row in after))

    return read

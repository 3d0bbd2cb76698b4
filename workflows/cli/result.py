"""The results of commands: keys of JSON files, and the same in words."""

import os
import platform
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fanfold.data.advice import counted
from fanfold.data.store import open_store
from fanfold.pipeline.checkpoint import Checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import normalizations
from fanfold.pipeline.experiment import Experiment
from fanfold.pipeline.files import write_json
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.kept import TESTED, read_object
from fanfold.pipeline.tally import Tested
from fanfold.tasks.algorithm import Normalization


def test_keys(plan: Experiment, tests: Sequence[Tested], iteration: int | None, sha256: str) -> dict[str, Any]:
    """The settings and accuracies of tests: of the published one, then of the others."""
    recipe, (published, *others) = plan.recipe, tests
    return {
        "dataset": open_store(recipe.store).title,
        "split": recipe.split,
        "algorithm": plan.config["algorithm"].name,
        "model": plan.config["model"].name,
        "ways": recipe.task.ways,
        "shots": recipe.task.shots,
        "queries": recipe.task.queries,
        "rotations": recipe.task.rotations,
        "inner_steps": recipe.steps if recipe.steps is not None else getattr(recipe.algorithm, "inner_steps", None),
        "flip": recipe.flip,
        "seed": recipe.seed,
        "tested_iteration": iteration,
        "tested_sha256": sha256,
        **_accuracy_keys(published),
        "other_tests": [_accuracy_keys(other) for other in others],
    }


def _accuracy_keys(tested: Tested) -> dict[str, Any]:
    return {
        "transductive": tested.transductive,
        "normalization": tested.normalization,
        "test_accuracy": tested.accuracy.mean,
        "test_ci95": tested.accuracy.ci95,
        "test_episodes": tested.accuracy.tasks,
    }


def run_keys(last: Checkpoint, recipe: Recipe, cluster: Cluster) -> dict[str, Any]:
    """The facts of a training, and its hardware."""
    return {
        "validation_accuracy": last.best_accuracy,
        "iterations": last.state.iteration,
        "train_seconds": round(last.seconds, 3),
        "tasks_per_second": round(last.state.iteration * recipe.meta.batch / last.seconds, 3),
        "parameters_sha256": parameters_sha256(last.state.parameters),
        "workers": cluster.workers,
        "device": cluster.device,
        "initial": None if recipe.meta.initial is None else Path(recipe.meta.initial).name,
        "note": last.note,
        "environment": environment(cluster.gpus),
    }


def environment(gpus: Sequence[str] = ()) -> dict[str, Any]:
    """The machine with its GPUs, and the versions behind a result; across these, results are only close."""
    names = ("torch", "numpy", "dask", "zarr")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": list(gpus),
        "date": datetime.now().astimezone().date().isoformat(),
        **{name: version(name) for name in names},
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        names = []
    return str(names[0]) if names else platform.processor() or platform.machine()


def tested_once(
    path: Path, plan: Experiment, sha256: str, measure: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """A test's keys: from its file where parameters of this SHA-256 were tested in the same way before, else measured.

    `measure` is given the keys of the test before, none at the first test.

    Raises:
        FanfoldError: The file can't be written.
    """
    added = {"half_width": None, "flip": False}  # left out, as from files that are older
    evaluation = {key: value for key, value in asdict(plan.evaluation).items() if added.get(key, ...) != value}
    judged = {"task": asdict(plan.recipe.task), "evaluation": evaluation}
    before = read_object("test", path, TESTED) if path.exists() else {}
    if (before.get("tested_sha256"), before.get("judged")) == (sha256, judged):
        return before
    found = {**measure(before), "judged": judged}
    write_json(path, found)
    return found


def kind_of_accuracy(recipe: Recipe) -> str:
    """How validation and the published test judge a task's queries, in words."""
    return judged(normalizations(recipe)[0])


def judged(normalization: Normalization | None) -> str:
    """How a task's queries are judged, in words; None stands for a network without batch norm."""
    return {
        "batch": "transductive: the network normalizes a task's queries together",
        "single": "inductive: the network normalizes each query with the support set alone",
        "population": "inductive: the network normalizes by statistics of training images",
        None: "inductive: each query is judged by itself",
    }[normalization]


def kind(test: Mapping[str, Any]) -> str:
    """The kind of a test in a word."""
    return "transductive" if test["transductive"] else "inductive"


def worst_first(classes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A test's classes, the lowest accuracy first."""
    return sorted(classes, key=lambda one: (one["accuracy"], -one["queries"], one["class"]))


def worst_in_words(classes: Collection[Mapping[str, Any]], most: int) -> list[str]:
    """The classes of the lowest accuracies, at most so many, a line each, and how many more there are."""
    shown = worst_first(classes)[:most]
    width = max((len(one["class"]) for one in shown), default=0)
    lines = [f"  {one['class']:{width}}  {100 * one['accuracy']:5.1f} % of {one['queries']:,} queries" for one in shown]
    if left := len(classes) - len(shown):
        lines.append(f"  {counted(left, 'class')} more, none less accurate")
    return lines


def in_words(keys: dict[str, Any]) -> str:
    """The tests' accuracies, a line each."""
    how = f", ensemble of {len(keys['members'])}" if "members" in keys else ""
    how += ", over mirror images" if keys.get("flip") else ""
    return "\n".join(
        f"test accuracy {100 * test['test_accuracy']:.2f} ± {100 * test['test_ci95']:.2f} % (95 % confidence): "
        f"{keys['dataset']} {keys['split']}, {keys['ways']}-way {keys['shots']}-shot, "
        f"{test['test_episodes']:,} test tasks, {kind(test)}{how}"
        for test in (keys, *keys["other_tests"])
    )

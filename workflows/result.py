"""What a workflow reports: the test's keys in JSON, and the same in words."""

import platform
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from pipeline.evaluation import Accuracy
from pipeline.recipe import Recipe
from pipeline.work import bench
from workflows.plan import Plan


def test_keys(plan: Plan, accuracy: Accuracy, iteration: int | None, sha256: str) -> dict[str, Any]:
    """What a test's accuracy was measured with, and the accuracy."""
    recipe = plan.recipe
    return {
        "dataset": plan.config["dataset"].name,
        "split": recipe.split,
        "algorithm": plan.config["algorithm"].name,
        "model": plan.config["model"].name,
        "ways": recipe.task.ways,
        "shots": recipe.task.shots,
        "queries": recipe.task.queries,
        "rotations": recipe.task.rotations,
        "inner_steps": recipe.steps if recipe.steps is not None else getattr(recipe.algorithm, "inner_steps", None),
        "transductive": _transductive(recipe),
        "seed": recipe.seed,
        "tested_iteration": iteration,
        "tested_sha256": sha256,
        "test_accuracy": accuracy.mean,
        "test_ci95": accuracy.ci95,
        "test_episodes": accuracy.tasks,
    }


def environment() -> dict[str, str]:
    """What a result depends on besides the configuration: only closeness is promised across these."""
    names = ("torch", "numpy", "dask", "zarr")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in names},
    }


def kind_of_accuracy(recipe: Recipe) -> str:
    """Whether a task's queries are judged together or each for itself, in words."""
    if _transductive(recipe):
        return "transductive: the network normalizes a task's queries together"
    return "inductive: each query is judged by itself"


def _transductive(recipe: Recipe) -> bool:
    return bench(replace(recipe, device="cpu")).network.transductive


def in_words(keys: dict[str, Any]) -> str:
    """A test's accuracy as a line."""
    kind = "transductive" if keys["transductive"] else "inductive"
    return (
        f"test accuracy {100 * keys['test_accuracy']:.2f} ± {100 * keys['test_ci95']:.2f} % (95 % confidence): "
        f"{keys['dataset']} {keys['split']}, {keys['ways']}-way {keys['shots']}-shot, "
        f"{keys['test_episodes']:,} test tasks, {kind}"
    )

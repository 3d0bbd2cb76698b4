"""The rooms of the house: imports point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["data", "tasks", "pipeline", "workflows"]  # each may import from those before it, and from itself


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    above = set(ROOMS[ROOMS.index(room) + 1 :]) | {"tests", "benchmarks"}
    files = list((ROOT / room).rglob("*.py"))
    assert len(files) > 3
    wrong = [(str(path), name) for path in files for name in imported(path) if name.partition(".")[0] in above]
    assert not wrong


def test_tasks_know_nothing_of_dask():
    wrong = [
        (path.name, name)
        for path in (ROOT / "tasks").rglob("*.py")
        for name in imported(path)
        if name.partition(".")[0] in ("dask", "distributed")
    ]
    assert not wrong


def test_pipeline_knows_no_algorithm_by_name():
    algorithms = {"tasks.maml", "tasks.algorithms"}
    wrong = [
        (path.name, name) for path in (ROOT / "pipeline").rglob("*.py") for name in imported(path) if name in algorithms
    ]
    assert not wrong


def test_data_can_be_prepared_without_pytorch():
    script = "import sys, data.datasets, data.store, data.splits; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)

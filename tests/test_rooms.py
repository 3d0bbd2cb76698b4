"""The rooms of the house: imports point down, between rooms and within them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["data", "tasks", "pipeline", "workflows"]  # each may import from those before it, and from itself
FLAG = re.compile(r"(?<!-)--(?!-)(?:[a-z][\w.-]*|$)")  # where a field is put in, the string ends after the hyphens
OTHER_PROGRAMS = {  # of Dask, TensorBoard, pip
    *("--nthreads", "--nworkers", "--preload", "--memory-limit", "--logdir", "--force-reinstall"),
}


def module_of(path: Path) -> str:
    """The name by which a room's file is imported."""
    return "fanfold." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(path): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}


def imported(path: Path) -> set[str]:
    """Modules that a file names in its imports, late ones counted, those for type checkers not."""
    tree = ast.parse(path.read_text())
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    unseen = {id(node) for block in blocks for node in ast.walk(block)}
    found = set[str]()
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in names}
    return found


IMPORTS = {module: imported(path) for module, path in FILES.items()}


def between(inside: str, others: tuple[str, ...]) -> list[tuple[str, str]]:
    """Imports of names that begin as the others do, by modules whose names begin as the first."""
    return [
        (module, name)
        for module, names in IMPORTS.items()
        if module.startswith(inside)
        for name in names
        if name.startswith(others)
    ]


def test_rooms_are_imported_by_one_name():
    bare = {(module, name) for module, names in IMPORTS.items() for name in names if name.partition(".")[0] in ROOMS}
    assert not bare


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down_between_rooms(room):
    assert between(f"fanfold.{room}", ("fanfold.",))
    above = (f"fanfold.{name}" for name in ROOMS[ROOMS.index(room) + 1 :])
    assert not between(f"fanfold.{room}", (*above, "tests", "benchmarks"))


def test_no_file_imports_one_that_imports_it():
    """Files are taken away once all that they import is gone; what is left goes round in circles."""
    left = {module: {name for name in names if name in FILES} for module, names in IMPORTS.items()}
    while free := {module for module, names in left.items() if not names & set(left)}:
        left = {module: names for module, names in left.items() if module not in free}
    assert not left


def test_engines_know_no_dashboard():
    dashboard = "fanfold.pipeline.dashboard"
    assert not [pair for pair in between("fanfold.pipeline.", (dashboard,)) if not pair[0].startswith(dashboard)]


def test_libraries_know_no_flags():
    """Below the command line, a message names fields: see `fanfold.data.advice`."""
    libraries = [path for path in FILES.values() if path.relative_to(ROOT).parts[0] != "workflows"]
    wrong = [
        (path.relative_to(ROOT), flag)
        for path in libraries
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for flag in FLAG.findall(node.value)
        if flag not in OTHER_PROGRAMS
    ]
    assert not wrong


def test_tasks_know_nothing_of_dask():
    assert not between("fanfold.tasks.", ("dask", "distributed"))


def test_pipeline_knows_no_algorithm_by_name():
    assert not between("fanfold.pipeline.", ("fanfold.tasks.algorithms",))


def test_data_can_be_prepared_without_pytorch():
    modules = "fanfold.data.datasets, fanfold.data.store, fanfold.data.splits"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)

"""The wheel holds all that the rooms read beside their code, and does what the clone does."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.environment import outcome
from tests.test_rooms import ROOMS, ROOT
from tests.workflows.conftest import SMALL

FACE = ["fanfold/__init__.py", "fanfold/__main__.py", "fanfold/py.typed"]

# Built-in networks would have their kernels compiled first, anew for a new folder of packages.
NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, ways):
        super().__init__(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, ways))
"""


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The paths of the rooms' tracked files."""
    command = ["git", "ls-files", *ROOMS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a clone of the repository")
    return [path for path in listed.stdout.splitlines() if (ROOT / path).exists()]


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory) -> Path:
    """The wheel, built from the rooms' tracked files alone."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in [*tracked, *FACE, "pyproject.toml", "README.md", "LICENSE"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    for room in ROOMS:
        (folder / "fanfold" / room).symlink_to(Path("..", room))
    built = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "built", "."]
    subprocess.run([sys.executable, "-m", "pip", *built], cwd=folder, check=True, timeout=120)
    (found,) = (folder / "built").iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The scripts of an environment that has the wheel, and sees this one's packages but not the clone."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder on the path, whose own `.pth` files, such as an editable install's, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    given = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", folder / "bin" / "python", *given], check=True)
    return folder / "bin"


def test_every_file_of_the_rooms_is_in_the_wheel(wheel, tracked):
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {*FACE, *(f"fanfold/{path}" for path in tracked)}


def test_a_wheel_trains_reports_and_tabulates_in_an_empty_folder(installed, pictures, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMNIGLOT_SOURCE")}

    def run(*words: str) -> str:
        ran = outcome([installed / words[0], *words[1:]], tmp_path, environment)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    Path(tmp_path, "nets.py").write_text(NET)
    small = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | {"--cluster.workers": "1", "--model.name": "nets:Net"}
    del small["--model.width"]
    given = [word for flag in small.items() for word in flag] + ["--dataset.source", str(pictures), "--train.ways", "3"]
    told = run("fanfold", "train", "--config", "quickstart", *given, "--meta.iterations", "2", "--run", "run")
    assert "report: run/report.html" in told.splitlines()

    Path(tmp_path, "row.yaml").write_text(Path(tmp_path, "run", "config.yaml").read_text())
    script = """
import fanfold
from fanfold.workflows.cli.main import _dispatch

if __name__ == "__main__":
    print(fanfold.__file__)
    _dispatch(["report", "--run", "run", "--tasks", "0", "--trust", "nets"], [])
    _dispatch(["table", "row.yaml", "--out", "table", "--cluster.kind", "cpu", "--cluster.workers", "1"], [])
"""
    Path(tmp_path, "again.py").write_text(script)
    file, *_ = run("python", "again.py").splitlines()
    assert Path(file).is_relative_to(installed.parent)
    assert "| `row` |" in Path(tmp_path, "table.md").read_text()

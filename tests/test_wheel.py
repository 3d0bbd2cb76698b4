"""The wheel holds all that the rooms read beside their code."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.test_rooms import ROOMS, ROOT

FACE = ["fanfold/__init__.py", "fanfold/__main__.py", "fanfold/py.typed"]


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The paths of the rooms' tracked files."""
    command = ["git", "ls-files", *ROOMS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a clone of the repository")
    return [path for path in listed.stdout.splitlines() if (ROOT / path).exists()]


def test_every_file_of_the_rooms_is_in_the_wheel(tracked, tmp_path):
    for path in [*tracked, *FACE, "pyproject.toml", "README.md", "LICENSE"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    for room in ROOMS:
        (tmp_path / "fanfold" / room).symlink_to(Path("..", room))
    built = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "built", "."]
    subprocess.run([sys.executable, "-m", "pip", *built], cwd=tmp_path, check=True, timeout=120)
    (wheel,) = (tmp_path / "built").iterdir()
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {*FACE, *(f"fanfold/{path}" for path in tracked)}

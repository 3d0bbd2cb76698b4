import subprocess
import sys

import pytest

from tests.environment import with_root


@pytest.mark.parametrize("known", ["", "elsewhere"])
def test_processes_of_tests_find_the_project_and_what_comes_by_the_path_alone(tmp_path, known):
    (tmp_path / "carried.py").write_text("")
    (tmp_path / "fanfold.py").write_text("raise ImportError")
    seen = with_root({"PYTHONPATH": f"{tmp_path}:{known}" if known else str(tmp_path)})
    script = "import carried, fanfold; print(fanfold.__file__)"
    ran = subprocess.run([sys.executable, "-P", "-c", script], cwd=tmp_path, env=seen, capture_output=True, check=True)
    assert b"fanfold/__init__.py" in ran.stdout

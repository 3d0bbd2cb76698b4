import pytest

from fanfold.data.errors import FanfoldError, RunError
from fanfold.tasks.plugins import import_class, own_faults


class Here:
    pass


def test_a_class_is_imported_by_its_name():
    assert import_class("model", "tests.tasks.test_plugins:Here").__name__ == "Here"


@pytest.mark.parametrize(
    "name", ["tests.tasks.test_plugins:Absent", "tests.nowhere:Here", "tests.tasks.test_plugins", ":Here"]
)
def test_a_class_that_cannot_be_imported_is_said_in_one_line(name):
    with pytest.raises(FanfoldError, match=f"No model '{name}' .*name it as package.module:Class") as caught:
        import_class("model", name)
    assert "\n" not in str(caught.value)


FROZEN = """from dataclasses import dataclass
from fanfold.tasks.algorithm import Algorithm
@dataclass
class Mine(Algorithm):
    x: int = 1
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise ZeroDivisionError('no\\nway')", "line 1: no way."),
        ("import os\n\nimport torchh", "line 3: No module named 'torchh'."),
        ("import os\nclass Mine(:\n", "line 2: invalid syntax."),
        ("import json\njson.loads('{')\n", "line 2: Expecting"),  # where the user's file calls another
        (FROZEN, "line 3: cannot inherit .*: write @dataclass\\(frozen=True\\)."),
    ],
)
def test_a_fault_in_a_users_module_is_said_with_its_place(code, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_plugin.py").write_text(code)
    with pytest.raises(FanfoldError, match=f"'broken_plugin:Mine' can't be imported: broken_plugin.py, {says}"):
        import_class("algorithm", "broken_plugin:Mine")


def test_a_fault_of_a_users_code_as_it_runs_is_said_with_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "faulty_plugin.py").write_text("def gradient():\n    return undefined_name\n")
    gradient = import_class("algorithm", "faulty_plugin:gradient")
    said = r"^faulty_plugin.py, line 2: name 'undefined_name' is not defined \(NameError\)\.$"
    with pytest.raises(RunError, match=said), own_faults():
        gradient()
    with pytest.raises(FanfoldError, match="as it was"), own_faults():
        raise FanfoldError("as it was")

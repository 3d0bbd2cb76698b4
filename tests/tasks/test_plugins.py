import pytest

from fanfold.data.errors import FanfoldError
from fanfold.tasks.plugins import import_class


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


def test_a_module_may_fail_in_any_way(tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("raise ZeroDivisionError('no\\nway')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FanfoldError, match="No algorithm 'broken_plugin:Mine'"):
        import_class("algorithm", "broken_plugin:Mine")

"""How a workflow begins and ends, whichever it is."""

import sys

import pytest

from fanfold.workflows.cli import entry, main
from tests.environment import outcome

WORKFLOW = """
import inspect
from multiprocessing import get_context
from fanfold.workflows.cli import entry

print("imported", flush=True)

def look():
    inspect.getmodule(inspect.currentframe(), "elsewhere.py")  # through the files of all modules, as PyTorch looks

def main(argv):
    look()
    worker = get_context("spawn").Process(target=print, args=("started",))
    worker.start()
    worker.join()

if __name__ == "__main__":
    look()
    entry.run(main)
"""


def test_a_worker_imports_nothing_of_the_workflow_that_starts_it(tmp_path, environment):
    (tmp_path / "mine.py").write_text(WORKFLOW)
    for command in (["-m", "mine"], ["mine.py"]):
        ran = outcome([sys.executable, *command], tmp_path, environment)
        assert ran.stdout.split() == ["imported", "started"], ran.stderr


@pytest.mark.parametrize("words", ["train --config", "train --run", "evaluate --run", "train --dataset.store"])
def test_a_name_that_the_system_refuses_is_said_in_a_line(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fanfold", *words.split(), "a" * 300])
    assert entry.status_of(lambda argv: main._dispatch(argv, [])) == 2
    assert capsys.readouterr().err == f"error: '{'a' * 99}…': File name too long\n"


def test_other_errors_of_the_system_are_no_requests():
    def fails(argv):
        raise OSError(5, "Input/output error", "a")

    with pytest.raises(OSError, match="Input/output error"):
        entry.status_of(fails)

"""How a workflow begins and ends, whichever it is."""

import subprocess
import sys

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
        ran = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert ran.stdout.split() == ["imported", "started"]

"""What workers that others started lack is said by every command before it computes anything."""

import re

import pytest
import yaml

from tests.workflows.conftest import QUIET, SMALL
from tests.workflows.test_search import SEARCH, SPACE

OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, ways):
        super().__init__(nn.Flatten(), nn.Linear(16 * 16, ways))
"""

KEPT = ("dataset", "task", "train", "algorithm", "model", "meta", "evaluation", "seed")  # of a configuration in a file


@pytest.mark.parametrize("command", ["train", "search", "table"])
def test_a_module_that_only_the_driver_has_is_said_with_the_worker(
    pictures, tmp_path, monkeypatch, workflow_here, joined, command
):
    (tmp_path / "only_here.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    told = {"train": [*_with_own(SMALL, pictures), *QUIET], "search": _with_own(SEARCH, pictures)}
    if command == "table":
        row = yaml.safe_load(workflow_here("train", *told["train"], "--print_config").stdout)
        (tmp_path / "row.yaml").write_text(yaml.safe_dump({key: row[key] for key in KEPT if key in row}))
        told["table"] = ["row.yaml"]
    ran = workflow_here(command, *told[command], *joined)
    assert ran.returncode == 2, ran.stderr
    assert re.search(r"error: worker tcp://[\d.:]+: No model 'only_here:Net'", ran.stderr), ran.stderr
    assert not (tmp_path / "runs").exists()


def _with_own(words, pictures):
    """Flags with the model of one's own in the place of a built-in one."""
    at = words.index("--model.name")
    return [*words[:at], "--model.name", "only_here:Net", *words[at + 4 :], "--dataset.source", str(pictures)]

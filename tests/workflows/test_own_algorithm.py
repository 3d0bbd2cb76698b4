"""The algorithm of one's own that the documentation shows, run as it stands there."""

import json
import re
from pathlib import Path

from tests.workflows.conftest import QUIET, SMALL

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text()


def test_the_algorithm_of_ones_own_trains(workflow, pictures, tmp_path, environment):
    (code,) = re.findall(r"```python\n(from dataclasses.*?)```", PAGE, re.DOTALL)
    assert len(code.splitlines()) < 45
    (tmp_path / "ridge.py").write_text(code)
    command = re.search(r"fanfold train (--algorithm.name ridge:Ridge .*)\n", PAGE)[1].split()
    small = [word for word in SMALL if word not in ("--algorithm.inner_lr", "0.1")]
    more = ["--dataset.source", str(pictures), "--meta.iterations", "60", "--run", "run", "--train.ways", "6", *QUIET]
    one_worker = ["--cluster.kind", "cpu", "--cluster.workers", "1"]
    ran = workflow("train", *small, *command, *more, *one_worker)
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["algorithm"] == "ridge:Ridge"
    assert (result["transductive"], result["other_tests"][0]["transductive"]) == (False, True)
    assert result["test_accuracy"] > 0.6  # chance is a third
    advice = [line.split("fanfold ")[-1] for line in ran.stdout.splitlines() if "--run run" in line]
    assert advice
    assert all(line.endswith("--trust ridge") for line in advice)

    wider = workflow("evaluate", "--run", "run", "--task.ways", "4", "--trust", "ridge", *one_worker)
    assert wider.returncode == 0, wider.stderr
    (tested,) = (tmp_path / "run" / "evaluations").glob("*.json")
    assert json.loads(tested.read_text())["ways"] == 4


def test_what_is_no_algorithm_is_said_in_a_line(workflow_here, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom fanfold.tasks.algorithm import Algorithm\n"
        "class Plain: pass\n@dataclass(frozen=True)\nclass Bare(Algorithm): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, message in (
        ("mine:Plain", "error: Algorithm 'mine:Plain' must be a frozen dataclass that subclasses Algorithm: import it"),
        (
            "mine:Bare",
            "error: Algorithm 'mine:Bare' lacks classifier, meta_gradient: see fanfold.tasks.",
        ),
        ("mine:Absent", "error: No algorithm 'mine:Absent'"),
        ("nowhere:Absent", "error: No algorithm 'nowhere:Absent'"),
        ("protonets", "error: No algorithm 'protonets': there are maml, anil,"),
    ):
        ran = workflow_here("train", "--algorithm.name", name)
        assert ran.returncode == 2
        assert ran.stderr.startswith(message), ran.stderr
        assert ran.stderr.count("\n") == 1

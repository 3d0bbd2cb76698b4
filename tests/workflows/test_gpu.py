"""Workflows on a CUDA device, as a person runs them. Skipped by name where there is none."""

import json
import re

import pytest
import torch

from tests.workflows.conftest import SMALL

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

ON_GPUS = ["--cluster.kind", "cuda", "--cluster.workers", "2", "--cluster.per_gpu", "2", "--run", "run"]


def test_a_run_on_gpus_names_them_and_is_tested_there(workflow, pictures, tmp_path):
    ran = workflow("train", *SMALL, "--dataset.source", str(pictures), *ON_GPUS, "--meta.iterations", "10")
    assert ran.returncode == 0, ran.stderr
    name = torch.cuda.get_device_name(0)
    assert re.search(rf"^run: run \(2 workers, cuda: .*{re.escape(name)}\)$", ran.stdout, re.MULTILINE)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["device"], result["workers"]) == ("cuda", 2)
    assert name in result["environment"]["gpus"]
    assert name in (tmp_path / "run" / "report.html").read_text()

    evaluated = workflow("evaluate", "--run", "run")
    assert evaluated.returncode == 0, evaluated.stderr
    again = json.loads(next((tmp_path / "run" / "evaluations").glob("*.json")).read_text())
    assert again["environment"]["gpus"] == result["environment"]["gpus"]
    assert again["test_accuracy"] == result["test_accuracy"]


def test_a_search_shares_gpus(workflow, pictures, tmp_path):
    flags = ["--search.trials", "3", "--search.pruner", "none", "--meta.iterations", "8", "--dataset.source"]
    ran = workflow("search", *SMALL, *ON_GPUS, *flags, str(pictures))
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["device"], result["finished"]) == ("cuda", 3)

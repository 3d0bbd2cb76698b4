"""The workflows around training: picture, benchmark, prepare."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from fanfold.tasks.batch import TaskBatch
from fanfold.workflows.actions.picture import draw_tasks
from tests.workflows.conftest import SMALL


def test_a_picture_of_ones_own_tasks(workflow, workflow_here, pictures, tmp_path):
    own = ["--dataset.name", "folder", "--dataset.source", str(pictures), "--dataset.size", "16"]
    ran = workflow("picture", *own, "--dataset.split", "alphabets", "--task.ways", "4", "--task.queries", "2")
    assert ran.returncode == 0, ran.stderr
    with Image.open(tmp_path / "tasks.png") as picture:
        assert picture.width > 300
        assert np.asarray(picture.convert("L")).std() > 10

    ran = workflow_here("picture", *own, "--dataset.split", "alphabets", "--out", "tasks.nonsense")
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("error: The picture tasks.nonsense can't be written")

    for wrong, message in (
        (["--tasks", "0"], "--tasks must be at least 1"),
        (["--seed", "-1"], "--seed must be from 0"),
    ):
        ran = workflow_here("picture", *own, *wrong)
        assert ran.returncode == 2
        assert ran.stderr.startswith(f"error: {message}")


def test_support_stands_left_and_queries_right_a_column_a_class():
    tasks = TaskBatch(
        support=torch.zeros(2, 3, 1, 8, 8),
        support_labels=torch.arange(3),
        query=torch.ones(2, 6, 1, 8, 8),
        query_labels=torch.arange(3),
        ink=True,
    )
    figure = draw_tasks(tasks)
    sheets = [axis.get_images()[0].get_array() for axis in figure.axes]
    assert [sheet.shape for sheet in sheets] == [(12, 32), (22, 32)] * 2
    assert sheets[0][2, 2] == 255  # no ink is white
    assert sheets[1][2, 2] == 0
    assert [axis.get_title() for axis in figure.axes] == ["support", "query", "", ""]


def test_the_benchmark_measures_both_sides(workflow_here, joined, pictures, tmp_path):
    arguments = [*SMALL, *joined, "--dataset.source", str(pictures)]
    arguments += ["--rounds", "2", "--seconds", "0.5", "--out", "out.json"]
    ran = workflow_here("benchmark", "--suite", "pipeline", *arguments)
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert len(result["rounds"]) == 2
    ratios = sorted(sides["pipeline"] / sides["bare"] for sides in result["rounds"])
    assert result["ratio"] == pytest.approx(sum(ratios) / 2)
    assert result["workers"] == 2
    assert all(rate > 0 for sides in result["rounds"] for rate in sides.values())
    refused = workflow_here("benchmark", "--suite", "pipeline", *arguments, "--out", "nowhere/out.json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: There is no folder nowhere for --out: make it.\n"
    assert f"{result['ratio']:.3f}" in ran.stdout

    ran = workflow_here("benchmark", *SMALL, "--dataset.source", str(pictures), "--rounds", "0")
    assert ran.returncode == 2
    assert "must be above 0" in ran.stderr


def test_a_store_is_not_overwritten_unasked(workflow, workflow_here, pictures):
    prepare = ["prepare", "--dataset.name", "folder", "--dataset.source", str(pictures), "--dataset.store", "own.zarr"]
    first = workflow(*prepare)
    assert first.returncode == 0, first.stderr
    assert "32 classes of 4 groups, 192 pictures (6 each) of 32 × 32 pixels, grey" in first.stdout
    second = workflow_here(*prepare)
    assert second.returncode == 2
    assert "--overwrite" in second.stderr
    again = workflow_here(*prepare, "--overwrite", "--dataset.split", "groups")
    assert again.stdout.splitlines()[-1] == "split groups: 16 classes train, 8 validate and 8 test"
    wrong = workflow_here(*prepare, "--overwrite", "--dataset.split", "vinyals")
    assert (wrong.returncode, "it is Omniglot's own" in wrong.stderr) == (2, True)

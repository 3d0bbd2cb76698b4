"""From a folder of pictures to labels by commands: `prepare`, `train --config pictures`, `evaluate`, `classify`."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = [b"caf\xe9", *(f"class {number}".encode() for number in range(7))]
"""Names of class folders; one is not UTF-8."""
RUN = os.fsdecode(b"run\xe9")

FEW = [
    *("--meta.iterations", "2", "--model.width", "4", "--evaluation.every", "2", "--evaluation.validation_tasks", "4"),
    *("--evaluation.tasks", "4", "--evaluation.other_tasks", "0", "--report", "false"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight classes of four pictures that differ in hue alone: in grey they are the same."""
    for number, name in enumerate(CLASSES):
        place = Path(os.fsdecode(os.fsencode(tmp_path / "own") + b"/" + name))
        place.mkdir(parents=True)
        for picture in range(4):
            colour = 30 * number, (90 - 0.299 * 30 * number) / 0.587, 88
            pixels = np.random.default_rng(picture).integers(0, 40, (16, 16, 1)) + colour
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{picture}.png")
    return tmp_path / "own"


def test_pictures_become_labels_by_commands_alone(folder, workflow_here, joined, tmp_path):
    source = ["--dataset.name", "folder", "--dataset.source", "own", "--dataset.size", "16"]
    prepared = workflow_here("prepare", *source)
    assert "the pictures have colour, which was kept" in prepared.stdout
    assert "8 classes are few to train and to test with: if the test is poor, train on another data" in prepared.stdout
    trained = workflow_here("train", "--config", "pictures", *source[2:], *FEW, *joined, "--run", RUN)
    assert trained.returncode == 0, trained.stderr
    assert "The same 4 classes validate and test" in trained.stdout
    assert "hence small tasks: --task.ways 4 --task.queries 3" in trained.stdout
    result = json.loads((tmp_path / RUN / "result.json").read_text())
    assert (result["ways"], result["queries"], result["dataset"]) == (4, 3, "own")
    predictions = ["--run", RUN, "--predictions", "found.csv", *joined]
    assert workflow_here("evaluate", *predictions).returncode == 0
    shutil.copytree("own", "asked")
    Image.effect_noise((16, 16), 90).save("asked/grey.png")
    Image.new("RGB", (16, 16), "white").save("asked/blank.png")  # told as such, and not as grey besides
    labelled = workflow_here("classify", "--run", RUN, "--support", "own", "--query", "asked", "--sheet", "sheet.png")
    assert labelled.returncode == 0, labelled.stderr
    assert "leave-one-out: " in labelled.stdout
    assert "1 picture has one colour all over: asked/blank.png" in labelled.stdout
    assert "1 of 34 pictures is grey, such as asked/grey.png, where labelled ones are in colour" in labelled.stdout
    rows = list(csv.DictReader((tmp_path / "labels.csv").open(encoding="utf-8")))
    assert {row["path"] for row in rows} >= {"asked/caf\\xe9/0.png"}
    assert np.mean([row["label"] == row["path"].split("/")[1] for row in rows]) > 0.5  # 1/8 in grey
    for path in (file for file in tmp_path.rglob("*") if file.suffix in (".csv", ".json", ".jsonl", ".yaml", ".html")):
        path.read_text(encoding="utf-8")

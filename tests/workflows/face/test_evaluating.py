"""Tests of a run: on other data, and with many ways and shots, in Python and on the command line."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import fanfold
from fanfold.data.splits import split_classes
from fanfold.data.store import open_store
from fanfold.pipeline.checkpoint import cut, newest_checkpoint
from fanfold.pipeline.classifier import Classifier
from fanfold.tasks.flipped import unflipped
from fanfold.workflows.actions import grid
from fanfold.workflows.reporting.heat_map import newest_grid
from tests.workflows.conftest import SMALL

SHORT = {"tasks": 30, "other_tasks": 0, "validation_tasks": 10}


@pytest.fixture(scope="module")
def trained(pictures, cluster, tmp_path_factory):
    """A folder with a short run of Prototypical Networks, and one of MAML, on grey pictures of 16 × 16."""
    folder = tmp_path_factory.mktemp("evaluating")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store = fanfold.prepare(pictures, "own.zarr", size=16, progress=False)
        for name in ("protonet", "maml"):
            options = {"ways": 3, "batch": 2, "evaluation": SHORT, "cluster": cluster.client, "progress": False}
            fanfold.train(store, name, iterations=4, model={"name": "conv4", "width": 8}, path=name, **options)
    return folder


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """A folder of six classes of eight discs in colours, larger than the runs' pictures."""
    folder = tmp_path_factory.mktemp("other") / "discs"
    random = np.random.default_rng(0)
    places = np.hypot(*np.mgrid[-12:12, -12:12]) < 9
    for number in range(6):
        (folder / f"hue{number}").mkdir(parents=True)
        for place in range(8):
            colour = np.array([40 * number, 255 - 40 * number, 128])
            pixels = np.where(places[..., None], colour, 255) + random.normal(0, 9, (24, 24, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"hue{number}" / f"{place}.png")
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A copy of the runs, in the current folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for config in tmp_path.glob("*/config.yaml"):
        config.write_text(config.read_text().replace(str(trained), str(tmp_path)))
    return tmp_path


def test_a_run_is_tested_on_other_data_of_another_size_and_colours(here, discs):
    run = fanfold.load("protonet")
    found = run.test(data=discs, ways=6)
    assert set(found.by_class) == {f"hue{number}" for number in range(6)}  # all classes: none was trained on
    assert (found.keys["dataset"], found.keys["split"], found.accuracy.tasks) == ("discs", "all", 30)
    assert found.notes[0].startswith("tested on other data than trained on: discs, 6 classes, 48 pictures")
    assert "of 16 × 16 pixels, grey" in found.notes[0]

    assert not any("optimistic" in note for note in found.notes)
    store = open_store(here / "own.zarr")
    known = store.names[split_classes(store).train[0]].name
    shutil.copytree(discs, here / "known")
    (here / "known" / "hue0").rename(here / "known" / known)
    assert f"1 of its classes, such as {known}, are called as classes that" in run.test(data="known", ways=6).notes[1]

    own = run.test(predictions="own.csv")
    assert vars(own.accuracy) == vars(run.accuracy)
    assert run.test(flip=True, predictions="flip.csv").keys["flip"]
    assert (here / "flip.csv").read_text() != (here / "own.csv").read_text()
    assert len(list((here / "protonet" / "evaluations").glob("3way1shot-30tasks-best-*.json"))) == 2
    (here / "own.zarr").rename(here / "moved.zarr")
    assert vars(run.test(data="moved.zarr").accuracy) == vars(own.accuracy)  # the run's own data at another place
    again = run.test(data=discs, ways=6)  # by the statistics that the run keeps
    assert vars(again.accuracy) == vars(found.accuracy)
    with pytest.raises(fanfold.FanfoldError, match="needs the data that it was trained on"):
        run.test(data=discs, parameters="last")


def test_which_tests_of_a_table_are_no_better_than_guessing_is_told_once(here, cluster, monkeypatch):
    monkeypatch.setattr(grid, "not_learnt", lambda recipe, _: "It is." if recipe.task.ways == 2 else None)
    found = fanfold.load("maml").test(4, ways=[2, 4], shots=[1, 2], cluster=cluster.client)
    assert list(found.notes) == ["2-way 1-shot: It is. The same holds for 2-way 2-shot."]


def test_a_store_made_anew_of_other_pictures_is_not_taken_for_the_runs(here):
    images, labels = np.random.default_rng(0).integers(0, 256, (64, 16, 16), np.uint8), [str(n // 8) for n in range(64)]
    fanfold.prepare(images, "own.zarr", labels=labels, size=16, overwrite=True, progress=False)
    with pytest.raises(fanfold.FanfoldError, match="holds other images than those that this run began with"):
        fanfold.load("protonet").test(split="all", queries=1)


def test_a_table_has_the_tests_of_all_ways_and_shots(here, cluster):
    run = fanfold.load("maml")
    found = run.test(ways=[4, 2, 99], shots=[1, 2], cluster=cluster.client)
    assert list(found.accuracies) == [(2, 1), (2, 2), (4, 1), (4, 2)]
    alone = run.test(ways=4, shots=2, cluster=cluster.client)
    assert vars(found.accuracies[4, 2]) == vars(alone.accuracy)
    (line,) = found.notes
    assert line.startswith("ways must be at most ")
    assert line.endswith("not 99.")
    assert "4-way" in str(found)
    (file,) = (here / "maml" / "evaluations").glob("grid-*.csv")
    rows = list(csv.DictReader(file.open()))
    assert [(row["ways"], row["shots"]) for row in rows] == [("2", "1"), ("2", "2"), ("4", "1"), ("4", "2")]
    assert newest_grid(file.parent) == json.loads(file.with_suffix(".json").read_text()) == found.keys
    assert found.keys["flip"] is False
    with Image.open(file.with_suffix(".png")) as image:
        assert np.asarray(image.convert("L")).std() > 20
    for cells in ([], [{"ways": 2}], [3]):
        (file.parent / "grid-damaged.json").write_text(json.dumps({**found.keys, "cells": cells}))
        assert newest_grid(file.parent) == found.keys


def test_tables_of_other_methods_on_one_network_are_kept_apart(here):
    for method in ("ridge", "nearest-mean"):
        fanfold.load("protonet", algorithm=method).test(tasks=5, ways=[2, 3])
    tables = [json.loads(file.read_text()) for file in (here / "protonet" / "evaluations").glob("grid-*.json")]
    assert sorted(table["algorithm"] for table in tables) == ["nearest-mean", "ridge"]


def test_the_command_tests_the_network_of_a_run_by_another_method(here, workflow_here, joined):
    short = ["--evaluation.tasks", "5"]
    ran = workflow_here("evaluate", "--run", "protonet", *joined, *short, "--algorithm.name", "nearest-mean")
    assert ran.returncode == 0, ran.stderr
    assert "nearest-mean, fitted on validation classes, judges the embeddings of the run's network" in ran.stdout
    ran = workflow_here("evaluate", "--run", "protonet", *joined, "--algorithm.name", "matching")
    assert ran.returncode == 2
    assert "--algorithm.name: the run was trained by protonet, so it can't be tested by matching;" in ran.stderr


def test_the_network_of_a_run_labels_by_another_method(here, pictures, workflow_here):
    places = ["--support", str(pictures / "alphabet0"), "--query", str(pictures / "alphabet0" / "class1")]
    asked = ["--run", "maml", *places, "--algorithm.name"]
    ran = workflow_here("classify", *asked, "ridge", "--save", "kinds.fanfold", "--evaluation.flip", "true")
    assert ran.returncode == 0, ran.stderr
    kept = Classifier.load(here / "kinds.fanfold")
    assert kept.learner.algorithm.name == "ridge"
    learnt = fanfold.load("maml", algorithm="nearest-mean").learn(pictures / "alphabet0", flip=False)
    assert learnt.learner.algorithm.name == "nearest-mean"
    assert [one.learner.flip for one in (kept, learnt)] == [True, False]
    found, _ = newest_checkpoint(here / "maml" / "checkpoints" / "last.safetensors")
    trained = cut(found.best, found.layout)
    for one in (kept, learnt):
        for name, value in unflipped(one.learner.encoder).named_parameters():
            np.testing.assert_array_equal(value, trained[f".{name}"])
    ran = workflow_here("classify", *asked, "protonet")
    assert ran.returncode == 2
    assert "--algorithm.name: the run was trained by maml, so it can't label by protonet; its network" in ran.stderr
    with pytest.raises(fanfold.FanfoldError, match="it can't label by protonet; its network can, by nearest-mean"):
        fanfold.load("maml", algorithm="protonet").learn(pictures / "alphabet0")


def test_a_run_may_be_moved(here, pictures):
    before, paths = fanfold.load("protonet"), sorted((pictures / "alphabet1").rglob("0.png"))
    test, found = before.test(tasks=5), list(before.learn(pictures / "alphabet0").predict(paths))
    (here / "elsewhere").mkdir()
    (here / "protonet").rename(here / "elsewhere" / "renamed")
    after = fanfold.load(here / "elsewhere" / "renamed")
    assert vars(after.test(tasks=5).accuracy) == vars(test.accuracy)
    assert list(after.learn(pictures / "alphabet0").predict(paths)) == found


def test_a_table_of_a_damaged_checkpoint_says_so_once(here):
    checkpoints = here / "protonet" / "checkpoints"
    shutil.copy(checkpoints / "last.safetensors", checkpoints / "previous.safetensors")
    (checkpoints / "last.safetensors").write_bytes(b"damaged")
    found = fanfold.load("protonet").test(tasks=5, ways=[2, 3])
    assert len(found.notes) == 1
    assert "last.safetensors" in found.notes[0]


def test_the_command_tests_on_other_data_and_makes_tables(here, discs, workflow_here, joined):
    data = ["--dataset.name", "folder", "--dataset.source", str(discs)]
    ran = workflow_here("evaluate", "--run", "protonet", *joined, *data, "--grid.ways", "2,6", "--grid.shots", "1,9")
    assert ran.returncode == 0, ran.stderr
    assert "tested on other data than trained on: discs, 6 classes" in ran.stdout
    assert "left out 2-way 9-shot: --task.shots and --task.queries must add up to at most 8" in ran.stdout
    assert re.search(r"6-way 1-shot: \d+\.\d\d ± \d+\.\d\d %, 30 tasks, inductive", ran.stdout)
    wrong = workflow_here("evaluate", "--run", "protonet", "--grid.shots", "1;5")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1] == "error: --grid.shots must be whole numbers, such as 2,5,10, not '1;5'."
    none = workflow_here("evaluate", "--run", "protonet", *joined, "--grid.ways", "77")
    assert none.returncode == 2
    assert "dashboard" not in none.stdout
    assert "--task.ways must be at most" in none.stderr


def test_runs_are_tested_as_an_ensemble(here, cluster, workflow_here, joined):
    """By other algorithms; the test is kept beside those of the first."""
    first, other = fanfold.load("protonet"), fanfold.load("maml")
    found = first.test(10, ensemble=[other], cluster=cluster.client)
    assert (found.keys["members"], found.transductive) == (["protonet", "maml"], True)
    assert found.keys["tested_sha256"] != first.result["tested_sha256"]
    ran = workflow_here("evaluate", "--run", "protonet", "--ensemble", "maml", "--evaluation.tasks", "10", *joined)
    assert ran.returncode == 0, ran.stderr
    assert "10 test tasks, transductive, ensemble of 2" in ran.stdout
    (kept,) = (here / "protonet" / "evaluations").glob("*-ensemble2-*.json")
    assert json.loads(kept.read_text())["test_accuracy"] == found.accuracy.mean
    with pytest.raises(fanfold.FanfoldError, match="ensemble has the run protonet twice: each counts once"):
        first.test(ensemble=[first])
    config = here / "maml" / "config.yaml"
    config.write_text(re.sub("split: .*", "split: random:7", config.read_text()))
    ran = workflow_here("evaluate", "--run", "protonet", "--ensemble", "maml")
    assert ran.returncode == 2
    assert "error: --ensemble: maml was trained by the split random:7, protonet by " in ran.stderr
    ran = workflow_here("evaluate", "--run", "protonet", "--ensemble", "maml", "--grid.ways", "2,3")
    assert (ran.returncode, ran.stderr) == (2, "error: --ensemble and --grid, or other data: leave one out.\n")


def test_other_data_are_not_for_training(workflow_here, pictures):
    ran = workflow_here("train", *SMALL, "--dataset.source", str(pictures), "--dataset.split", "all", "--run", "run")
    assert ran.returncode == 2
    assert "--dataset.split all has no classes to train on: it is for tests of other data." in ran.stderr


def test_a_method_on_a_frozen_networks_embeddings_is_tested_reported_and_loaded(here, cluster):
    model = {"name": "torchvision/mobilenet_v3_small", "weights": "none", "freeze": True}
    options = {"ways": 3, "evaluation": SHORT, "cluster": cluster.client, "progress": False}
    run = fanfold.train("own.zarr", "nearest-mean", model=model, path="frozen", **options)
    assert "Best on validation" in run.report().read_text()
    again = fanfold.load("frozen").test(cluster=1)
    assert vars(again.accuracy) == vars(run.accuracy)
    assert not any("meta.lr" in note for note in again.notes)  # nothing was meta-trained

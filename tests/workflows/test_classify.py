"""Labelling and exporting, as a person does it, by the weights that are shipped."""

import csv
import io
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from fanfold.data.errors import FanfoldError
from fanfold.data.labelled import classes_in
from fanfold.data.pictures import Preprocessing
from fanfold.pipeline.classifier import Classifier, Prediction, read_images
from fanfold.workflows.actions.classify import csv_writer, learn_from, seen_otherwise, trained_shipped
from fanfold.workflows.cli.learner import check_used

RUN = ["--run", "fanfold:omniglot"]


@pytest.fixture(scope="module")
def own(pictures, tmp_path_factory):
    """Five classes of two pictures, unequal, and four others of each to label."""
    folder = tmp_path_factory.mktemp("classify")
    for number in range(5):
        source, name = pictures / "alphabet0" / f"class{number}", f"kind {number}"
        (folder / "support" / name).mkdir(parents=True)
        for drawing in range(6):
            shown = drawing < (3 if number == 2 else 2)
            place = folder / "support" / name if shown else folder / "query" / f"{number}"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / f"{drawing}.png", place / f"{drawing}.png")
    return folder


@pytest.fixture
def classify(workflow_here, own):
    def run(*arguments, support="support", query="query", out="labels.csv"):
        places = ["--support", str(own / support), "--query", str(own / query), "--out", out]
        return workflow_here("classify", *RUN, *places, *arguments)

    return run


def test_a_folder_is_labelled_by_a_folder_of_class_folders(classify, own, tmp_path):
    ran = classify("--sheet", "sheet.png", "--save", "kinds.fanfold", "--unknown", "0.05")
    assert ran.returncode == 0, ran.stderr
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert len(rows) == 19
    names = [f"kind {number}" for number in range(5)]
    assert list(rows[0]) == ["path", "label", "confidence", *names]
    right = [row["label"] == f"kind {row['path'].split('/')[-2]}" for row in rows]
    assert np.mean(right) > 0.8
    for row in rows:
        shares = [float(row[name]) for name in names]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert float(row["confidence"]) == max(shares)
    assert "learnt 5 classes from 11 pictures (2 to 3 each)" in ran.stdout
    assert "leave-one-out: 1" in ran.stdout
    assert "at 5 classes of 1 picture (40 tasks of validation classes)" in ran.stdout
    assert "unknown below a score (the likeness to the nearest class) of" in ran.stdout
    assert "AUROC 0." in ran.stdout
    assert Image.open(tmp_path / "sheet.png").size[0] > 900
    kept = Classifier.load(tmp_path / "kinds.fanfold")
    again = {str(one.path): one for one in kept.predict(own / "query")}
    assert all(f"{again[row['path']].confidence:.6f}" == row["confidence"] for row in rows)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("empty class", "the class has no picture"),
        ("one class", "two at least; there is one"),
        (
            "no folder",
            "nowhere: there is no such folder; name a folder with a folder of pictures for each class with --support",
        ),
        ("no query", "nowhere: there is no such folder or picture; name one with --query"),
        ("a file", "it is no folder"),
        ("no picture", "there is no picture in it"),
        ("csv", "The CSV file nowhere/labels.csv can't be written (there is no folder nowhere)"),
        ("jpg", "--sheet must end in .png, not 'sheet.jpg'"),
        ("one file", "--out, --sheet and --save must name different files"),
        ("run", "No run 'fanfold:other' is shipped: there is fanfold:omniglot"),
        ("unknown", "--unknown must be above 0 and below 1"),
        ("unknown class", "A class is called unknown already"),
        ("size", "--size has no effect with fanfold:omniglot: leave it out"),
        ("algorithm", "--algorithm.name has no effect with fanfold:omniglot: leave it out"),
        ("workers", "--cluster.workers has no effect here: only `--spread`"),
        ("nothing", "--run, --support and --query are needed"),
    ],
)
def test_what_can_not_be_labelled_is_said_in_one_line(classify, workflow_here, own, tmp_path, what, said):
    for name in ("a", "b"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        shutil.copy(own / "query" / "0" / "2.png", tmp_path / "folder" / name)
    folder = str(tmp_path / "folder")
    match what:
        case "empty class":
            (tmp_path / "folder" / "b" / "2.png").unlink()
            ran = classify("--support", folder)
        case "one class":
            shutil.rmtree(tmp_path / "folder" / "b")
            ran = classify("--support", folder)
        case "no folder":
            ran = classify("--support", "nowhere")
        case "a file":
            ran = classify("--support", str(own / "query" / "0" / "2.png"))
        case "no query":
            ran = classify("--query", "nowhere")
        case "no picture":
            (tmp_path / "none").mkdir()
            ran = classify("--query", str(tmp_path / "none"))
        case "csv":
            ran = classify(out="nowhere/labels.csv")
        case "jpg":
            ran = classify("--sheet", "sheet.jpg")
        case "one file":
            ran = classify("--sheet", "labels.csv")
        case "run":
            ran = classify("--run", "fanfold:other")
        case "unknown":
            ran = classify("--unknown", "2")
        case "unknown class":
            (tmp_path / "folder" / "b").rename(tmp_path / "folder" / "unknown")
            ran = classify("--support", folder, "--unknown", "0.05")
        case "size":
            ran = classify("--size", "32")
        case "algorithm":
            ran = classify("--algorithm.name", "ridge")
        case "workers":
            ran = classify("--cluster.workers", "2")
        case "nothing":
            ran = workflow_here("classify", *RUN)
    assert ran.returncode == 2
    assert "learnt" not in ran.stdout
    (line,) = ran.stderr.splitlines()
    assert said in line
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize(
    ("run", "flag", "with_effect"),
    [
        ("runs/1", "size", False),
        ("runs/1", "meta.lr", False),
        ("runs/1", "task.ways", False),
        ("runs/1", "evaluation.steps", True),
        ("runs/1", "dataset.store", True),
        ("runs/1", "algorithm", True),
        ("timm/vit", "size", True),
        ("timm/vit", "model.weights", True),
        ("timm/vit", "evaluation.flip", True),
        ("timm/vit", "dataset.store", False),
        ("fanfold:omniglot", "model.width", False),
        ("fanfold:omniglot", "evaluation.flip", False),
        ("fanfold:omniglot", "out", True),
    ],
)
def test_flags_that_labels_do_not_depend_on_are_refused(run, flag, with_effect):
    with nullcontext() if with_effect else pytest.raises(FanfoldError, match=f"--{flag} has no effect with"):
        check_used(run, [f"--{flag}", "1"])


def test_pictures_that_can_not_be_read_and_other_files_are_counted(classify, own, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(own / "query", mixed)
    (mixed / "broken.png").write_bytes((mixed / "0" / "2.png").read_bytes()[:60])
    (mixed / "notes.txt").write_text("not a picture")
    Image.new("RGB", (30, 20), "red").save(mixed / "colour.jpg")
    (tmp_path / "labels.csv").write_text("yesterday's")
    ran = classify("--query", str(mixed), "--sheet", "sheet.png")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("there already, and replaced at the end: labels.csv\n")
    of_one_colour = f"{mixed / 'colour.jpg'},unknown,0.200000"
    assert (tmp_path / "labels.csv").read_text().count(of_one_colour) == 1
    assert "labelled 20 pictures in labels.csv (1 picture can't be read, such as" in ran.stdout
    assert "1 file of other kinds passed over" in ran.stdout
    assert f"1 picture has one colour all over: {mixed / 'colour.jpg'}: unknown, as nothing tells" in ran.stdout
    ran = classify("--query", str(mixed / "0" / "2.png"))
    assert (ran.returncode, ran.stdout.count("labelled 1 picture in labels.csv\n")) == (0, 1), ran.stderr
    support = tmp_path / "sup"
    shutil.copytree(own / "support", support)
    wave = Image.effect_noise((30, 20), 90)
    Image.merge("RGB", [wave, wave.rotate(90), wave.rotate(180)]).save(support / "kind 0" / "colour.png")
    Image.new("L", (30, 20), 7).save(support / "kind 1" / "constant.png")
    said = seen_otherwise(classes_in(support)[0], trained_shipped("fanfold:omniglot").preprocessing)
    assert said[0] == "the run is of grey pictures: the colour of 1 labelled picture is left out"
    constant = support / "kind 1" / "constant.png"
    assert said[1] == f"1 labelled picture has one colour all over: {constant}: nothing can be learnt from such"
    missed = "the run is of pictures in colour: no labelled picture has any, so labels may be worse"
    assert seen_otherwise(classes_in(own / "support")[0], Preprocessing(channels=3)) == [missed]
    assert missed not in seen_otherwise(classes_in(support)[0], Preprocessing(channels=3))
    plain = {"plain": [constant], "other": [own / "query" / "0" / "2.png"]}
    _, line = seen_otherwise(plain, Preprocessing(channels=3))
    assert line.endswith("constant.png: such pictures are labelled, too")


def test_a_backbone_alone_labels_without_any_run(workflow_here, own, tmp_path):
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "weights.pth")
    places = ["--support", str(own / "support"), "--query", str(own / "query")]
    alone = ["--run", "torchvision/mobilenet_v3_small", "--model.weights", "weights.pth", "--size", "32"]
    alone += ["--evaluation.flip", "true"]
    ran = workflow_here("classify", *alone, *places, "--algorithm.name", "ridge", "--save", "kinds.fanfold")
    assert ran.returncode == 0, ran.stderr
    assert "seen with its mirror image, and the mean taken: --evaluation.flip true\n" in ran.stdout
    assert "labelled 19 pictures in labels.csv" in ran.stdout
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    (tmp_path / "weights.pth").unlink()  # the classifier needs it no more
    classifier = Classifier.load(tmp_path / "kinds.fanfold")
    assert classifier.learner.flip
    kept = list(classifier.predict(own / "query"))
    assert [one.label for one in kept] == [row["label"] for row in rows]
    assert {one.label for one in kept} <= {f"kind {number}" for number in range(5)}
    ran = workflow_here("classify", *alone, *places, "--algorithm.name", "protonet")
    assert ran.returncode == 2
    assert "protonet has to be trained, so a backbone alone can't label by it" in ran.stderr


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("what", ["encoder", "classifier"])
def test_an_exported_network_says_what_fanfold_says(workflow_here, own, tmp_path, kind, what):
    if kind == "onnx":
        runtime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    trained = trained_shipped("fanfold:omniglot")
    images, _ = read_images(sorted((own / "query").rglob("*.png")), trained.preprocessing)
    support = ["--support", str(own / "support")] if what == "classifier" else []
    out = "model.onnx" if kind == "onnx" else "model.pt2"
    ran = workflow_here("export", *RUN, *support, "--format", kind)
    assert ran.returncode == 0, ran.stderr
    with torch.no_grad():
        if what == "encoder":
            expected = trained.learner.encoder(images)
        else:
            classifier = learn_from(trained, own / "support", lambda _: None)
            expected = (classifier.learnt(images) / classifier.temperature).softmax(1)
    for part in (images, images[:1]):
        if kind == "onnx":
            session = runtime.InferenceSession(tmp_path / out)
            found = torch.from_numpy(session.run(None, {"images": part.numpy()})[0])
        else:
            found = torch.export.load(tmp_path / out).module()(part)
        torch.testing.assert_close(found, expected[: len(part)], rtol=1e-5, atol=1e-5)
    card = (tmp_path / f"{out}.md").read_text()
    assert "protonet on conv4" in card
    assert "`images` `[n, 1, 28, 28]`" in card
    assert ("kind 3" in card) == (what == "classifier")


def test_a_table_of_labels_is_utf_8_whatever_files_and_classes_are_called(tmp_path):
    for name in (os.fsdecode(b"caf\xe9"), "tea"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    assert list(classes_in(tmp_path)[0]) == [r"caf\xe9", "tea"]
    file = io.BytesIO()
    write = csv_writer(file, ["é", "b"])
    write(Prediction(Path("caf\udce9/1.png"), "é", 0.75, {"é": 0.75, "b": 0.25}))
    assert file.getvalue().decode().splitlines()[1] == r"caf\xe9/1.png,é,0.750000,0.750000,0.250000"

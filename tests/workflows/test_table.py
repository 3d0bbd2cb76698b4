"""Rows trained several at once, and their table."""

import json
import re
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.configuration import SECTIONS
from fanfold.pipeline.experiment import check_agreement
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.result import in_words
from fanfold.workflows.cli.result import tested_once as measured_once  # no test of pytest's
from fanfold.workflows.reporting import table_rows
from fanfold.workflows.reporting.curves import short_of_paper
from fanfold.workflows.reporting.published import published, published_beside
from fanfold.workflows.reporting.table import add_to_table, combined, draw_curves, markdown
from tests.workflows.conftest import SMALL, wait_while_running

CONFIGS = sorted((Path(__file__).parents[2] / "workflows" / "configs").rglob("*.yaml"))

BASE = {
    "dataset": {"name": "folder", "split": "alphabets", "size": 16},
    "task": {"ways": 3},
    "model": {"name": "conv4-stride", "width": 8},
    "meta": {"batch": 4, "chunk": 2, "iterations": 6, "window": 3, "checkpoint": 3},
    "evaluation": {"every": 6, "validation_tasks": 20, "tasks": 30, "other_tasks": 10},
}
CLUSTER = ["--cluster.kind", "cpu", "--cluster.workers", "2", "--cluster.dashboard", ":0"]


@pytest.fixture
def row(tmp_path, pictures):
    """Writes a row's configuration: the base, with sections changed."""

    def write(name, **sections):
        config = {key: value | sections.get(key, {}) for key, value in BASE.items()}
        config |= {key: value for key, value in sections.items() if key not in BASE}
        config["dataset"] |= {"source": str(pictures)}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path.name

    return write


def table_of(tmp_path):
    return {
        (found["row"], found["seed"]): found for found in json.loads((tmp_path / "table.json").read_text())["results"]
    }


def _tests_of(tmp_path, run):
    """What TensorBoard shows of a run's tests: the points of each tag."""
    found = EventAccumulator(str(tmp_path / "runs" / "table" / run / "tensorboard"), {"scalars": 0}).Reload()
    return {
        tag: [(point.step, point.value) for point in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
        if tag.startswith("test/")
    }


def test_rows_are_trained_at_once_shared_where_they_learn_alike_and_not_done_again(
    workflow_here, joined, row, tmp_path
):
    protonet = {"algorithm": {"name": "protonet"}, "train": {"ways": 4, "queries": 2}}
    rows = [row("maml-3way"), row("proto-3way", **protonet), row("proto-2way", **protonet, task={"ways": 2})]
    ran = workflow_here("table", *rows, "--out", "table", *joined)
    assert ran.returncode == 0, ran.stderr
    assert "3 rows, 2 runs" in ran.stdout
    found = table_of(tmp_path)
    assert [(name, keys["ways"], keys["transductive"]) for (name, _), keys in found.items()] == [
        ("maml-3way", 3, True),
        ("proto-2way", 2, False),
        ("proto-3way", 3, False),
    ]
    assert found["proto-2way", 0]["tested_sha256"] == found["proto-3way", 0]["tested_sha256"]
    assert all(keys["test_episodes"] == 30 and keys["iterations"] == 6 for keys in found.values())
    assert [keys["other_tests"][0]["transductive"] for keys in found.values()] == [False, True, True]

    def point(name, test=0):
        accuracy = [found[name, 0], *found[name, 0]["other_tests"]][test]["test_accuracy"]
        return [(6, pytest.approx(accuracy))]

    # A run is recorded with its rows' tests: the one that it is called after, and the others by their names.
    shared = {
        "test/accuracy": point("proto-3way"),
        "test/accuracy_transductive": point("proto-3way", 1),
        "test/proto-2way/accuracy": point("proto-2way"),
        "test/proto-2way/accuracy_transductive": point("proto-2way", 1),
    }
    assert _tests_of(tmp_path, "maml-3way-seed0") == {
        "test/accuracy": point("maml-3way"),
        "test/accuracy_inductive": point("maml-3way", 1),
    }
    assert _tests_of(tmp_path, "proto-3way-seed0") == shared

    # Alone, a row has the same parameters as beside others.
    assert [len(keys["validations"]) for keys in found.values()] == [1, 0, 1]  # on the tasks of the run's first row
    alone = workflow_here("train", "--config", rows[0], "--run", "alone", "--report", "false", *joined)
    assert alone.returncode == 0, alone.stderr
    result = json.loads((tmp_path / "alone" / "result.json").read_text())
    assert result["parameters_sha256"] == found["maml-3way", 0]["parameters_sha256"]
    assert result["test_accuracy"] == found["maml-3way", 0]["test_accuracy"]

    # A row alone finds the run that it shared; more seeds come beside it; the other rows stay.
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/table/*/row-*.json")}
    ran = workflow_here("table", rows[2], "--seeds", "2", "--ensemble", "--out", "table", *joined)
    assert ran.returncode == 0, ran.stderr
    together = ("proto-2way-ensemble", 0)
    assert set(table_of(tmp_path)) == {*found, ("proto-2way", 1), together}
    ensemble = table_of(tmp_path)[together]
    assert ensemble["members"] == ["proto-3way-seed0", "proto-2way-seed1"]
    assert (ensemble["test_episodes"], ensemble["iterations"]) == (30, 12)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert _tests_of(tmp_path, "proto-3way-seed0") == shared

    # Asked for other tests, it is tested anew, and not trained.
    row("proto-2way", **protonet, task={"ways": 2, "queries": 3})
    ran = workflow_here("table", rows[2], "--out", "table", *joined)
    assert ran.returncode == 0, ran.stderr
    again = table_of(tmp_path)["proto-2way", 0]
    assert (again["queries"], again["tested_sha256"]) == (3, found["proto-2way", 0]["tested_sha256"])
    assert len((tmp_path / "runs/table/proto-3way-seed0/metrics.jsonl").read_text().splitlines()) == 6
    text = (tmp_path / "table.md").read_text()
    assert text.count("\n| `") == 4
    assert "| 2 · 30 |" in text
    assert "| ensemble of 2 · 30 |" in text


def test_a_row_that_fails_leaves_the_others_and_is_named(workflow, row, tmp_path):
    diverges = row("diverges", algorithm={"name": "maml", "inner_lr": 1e30, "inner_steps": 4})
    ran = workflow("table", diverges, row("maml-3way"), "--out", "table", *CLUSTER)
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("error: 1 of 2 runs failed, the others are done: diverges-seed0: The loss or gradient")
    assert "Traceback" not in ran.stderr
    assert [name for name, _ in table_of(tmp_path)] == ["maml-3way"]


def test_what_was_interrupted_goes_on(workflow_here, joined, start, row, tmp_path):
    rows = [row("maml-3way", meta={"iterations": 60, "checkpoint": 3})]
    running = start("table", *rows, "--out", "table", *joined)
    metrics = tmp_path / "runs" / "table" / "maml-3way-seed0" / "metrics.jsonl"
    wait_while_running(running, lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 6)
    running.kill()
    running.wait(20)
    ran = workflow_here("table", *rows, "--out", "table", *joined)
    assert ran.returncode == 0, ran.stderr
    straight = workflow_here("train", "--config", *rows, "--run", "straight", "--report", "false", *joined)
    assert straight.returncode == 0, straight.stderr
    result = json.loads((tmp_path / "straight" / "result.json").read_text())
    assert table_of(tmp_path)["maml-3way", 0]["parameters_sha256"] == result["parameters_sha256"]


def test_a_row_that_was_changed_does_not_go_on_with_the_run_of_before(workflow_here, joined, row, tmp_path):
    ran = workflow_here("table", row("maml-3way"), "--out", "table", *joined)
    assert ran.returncode == 0, ran.stderr
    before = table_of(tmp_path)
    ran = workflow_here("table", row("maml-3way", meta={"lr": 0.02}), "--out", "table", *joined)
    assert ran.returncode == 2, ran.stdout
    assert "row in runs/table/maml-3way-seed0 must agree with its run: --meta.lr (was 0.001, now 0.02)" in ran.stderr
    assert table_of(tmp_path) == before

    # But it may become longer, as any run.
    ran = workflow_here("table", row("maml-3way", meta={"iterations": 9}), "--out", "table", *joined)
    assert ran.returncode == 0, ran.stderr
    assert table_of(tmp_path)["maml-3way", 0]["iterations"] == 9
    run = tmp_path / "runs" / "table" / "maml-3way-seed0"
    assert yaml.safe_load((run / "config.yaml").read_text())["meta"]["iterations"] == 9
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 9


def test_wrong_rows_are_said_before_anything_starts(workflow_here, row, tmp_path):
    wrong = row("wrong", algorithm={"name": "maml", "outer_lr": 1})
    ran = workflow_here("table", row("fine"), wrong, *CLUSTER)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("error: wrong.yaml: ")
    assert "outer_lr" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "runs").exists()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "fine.yaml").write_text((tmp_path / "fine.yaml").read_text())
    ran = workflow_here("table", "fine.yaml", "more/fine.yaml", *CLUSTER)
    assert ran.returncode == 2
    assert "Two rows are called fine" in ran.stderr
    ran = workflow_here("table", "fine.yaml", "--ensemble", *CLUSTER)
    assert (ran.returncode, ran.stderr) == (2, "error: --ensemble needs --seeds 2 or more: it is of a row's seeds.\n")
    ran = workflow_here("table", "fine.yaml", "--out", "fine.yaml/table", *CLUSTER)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: The folder fine.yaml can't be made (")
    for wrong in (["--seeds", "0"], ["--at_once", "-1"], ["--tasks", "1"]):
        ran = workflow_here("table", "fine.yaml", *wrong, *CLUSTER)
        assert ran.returncode == 2
        assert re.match(r"error: --(evaluation\.)?\w+ must be at least \d, not -?\d\.$", ran.stderr), ran.stderr


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_that_comes_along_can_be_read(path):
    argv = ["--config", str(path)]
    parser = build_parser("x", "", argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0)
    options = parse(parser, argv)
    assert not options.train.rotations  # of handwriting alone, as by default, whatever data set is named in its place
    if path.parent.name == "omniglot":  # named for what it holds: ALGORITHM-…-WwayKshot
        assert options.algorithm.name in path.stem
        assert path.stem.endswith(f"-{options.task.ways}way{options.task.shots}shot")


def result(row="maml-5way1shot", seed=0, accuracy=0.98, **changes):
    return {
        "row": row,
        "seed": seed,
        "dataset": "omniglot",
        "split": "random1200",
        "algorithm": "maml",
        "model": "conv4",
        "ways": 5,
        "shots": 1,
        "queries": 1,
        "rotations": False,
        "inner_steps": 1,
        "transductive": True,
        "test_accuracy": accuracy,
        "test_ci95": 0.003,
        "test_episodes": 10000,
        "other_tests": [{"transductive": False, "test_accuracy": 0.9, "test_ci95": 0.01, "test_episodes": 500}],
        "iterations": 1200,
        "train_seconds": 120.0,
        "workers": 2,
        "device": "cpu",
        "environment": {"python": "3.11", "torch": "2.15", "dask": "2026", "cores": 2, "processor": "Some"},
    } | changes


def test_seeds_are_put_together_and_set_beside_the_paper():
    runs = [result(seed=0, accuracy=0.98), result(seed=1, accuracy=0.99)]
    mean, ci95 = combined(runs)
    assert mean == pytest.approx(98.5)
    assert ci95 == pytest.approx(100 * (0.003**2 + 0.003**2) ** 0.5 / 2)
    text = markdown(runs)
    line = next(line for line in text.splitlines() if line.startswith("| `maml"))
    assert "98.50 ± 0.21, seeds ± 0.71 transductive | 98.7 | -0.20 | 90.00 ± 0.71 inductive" in line
    assert "Finn, Abbeel and Levine" in text
    assert "2 workers (cpu) of 2 × Some" in text


def test_what_a_row_is_of_is_said():
    """Seeds with fewer tasks, and an ensemble with its members."""
    text = markdown([result(seed=0), result(seed=1, test_episodes=300)])
    assert "| 2 · 10,000 and 300 |" in text
    together = result(row="maml-5way1shot-ensemble", members=["a-seed0", "a-seed1", "a-seed2"])
    assert "| ensemble of 3 · 10,000 | 98.00 ± 0.30 transductive |" in markdown([result(), together])


def test_a_test_over_mirror_images_says_so():
    for flip, said in ((True, True), (False, False)):
        assert ("random1200, mirror images |" in markdown([result(flip=flip)])) == said
        assert (", over mirror images" in in_words({**result(flip=flip), "other_tests": []})) == said


def test_rows_over_mirror_images_have_a_training_of_their_own_where_pictures_are_embedded_once():
    def learnt(flip, **model):
        return table_rows._learned({"model": {"name": "conv4", **model}, "evaluation": flip})

    plain, averaged, before = {"flip": False}, {"flip": True}, {}
    assert learnt(plain) == learnt(averaged) == learnt(before)
    for model in ({"freeze": True}, {"name": "own:Net"}):
        assert learnt(before, **model) == learnt(plain, **model) != learnt(averaged, **model)


def test_rows_and_runs_of_before_mirror_images_are_as_they_were(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = table_rows.read_plan(Path(row("maml-3way")))
    averaged = table_rows.read_plan(Path(row("maml-flip", evaluation={"flip": True})))
    (tmp_path / "before.yaml").write_text(plan.yaml.replace("  flip: false\n", ""))
    check_agreement(plan, tmp_path / "before.yaml", (), "A run")
    with pytest.raises(FanfoldError, match=r"`evaluation.flip` \(was False, now True\)"):
        check_agreement(averaged, tmp_path / "before.yaml", ("task.", "dataset."), "A run")

    def measure(_):
        asked.append(1)
        return {**result(), "tested_sha256": "a", "seed": 0}

    asked = []
    for one in (plan, plan, averaged):
        measured_once(tmp_path / "row.json", one, "a", measure)
        if one is plan:
            assert "flip" not in json.loads((tmp_path / "row.json").read_text())["judged"]["evaluation"]
    assert len(asked) == 2


def test_rows_below_their_papers_have_a_curve(tmp_path):
    """Of the validations, where they were on the row's own tasks; a table without any has no picture."""
    validations = [[500, 0.9, 0.01], [1000, 0.95, 0.01]]
    add_to_table(tmp_path / "table", [result(validations=validations), result(row="maml-other", validations=[])])
    assert "(table-curves.png)" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "table-curves.png").read_bytes().startswith(b"\x89PNG")
    (axis,) = short_of_paper([result(validations=validations)]).figure.axes
    assert axis.lines[0].get_xydata().tolist() == [[500, 90], [1000, 95]]
    assert draw_curves([result(accuracy=0.99, validations=validations)], tmp_path / "table") is None
    assert not (tmp_path / "table-curves.png").exists()


def test_a_table_names_the_gpus_that_its_rows_were_trained_on():
    run = result(device="cuda")
    run["environment"]["gpus"] = ["NVIDIA H200", "NVIDIA H200"]
    assert "2 workers (cuda: 2 × NVIDIA H200) of 2 × Some" in markdown([run])


def test_the_published_figures_are_those_of_the_papers():
    assert published("omniglot", "protonet", "conv4", 20, 1).percent == 96.0
    assert published("omniglot", "maml++", "conv4-stride", 5, 5).percent == 99.93
    for name in ("cifar-fs", "CIFAR_FS", "cifarfs"):
        assert published(name, "protonet", "conv4", 5, 1).percent == 55.5
    assert published("mini-imagenet", "maml", "conv4", 5, 5).percent == 63.11
    assert published("glyphs", "maml", "conv4", 5, 1) is None
    assert published("omniglot", "maml", "conv4", 7, 1) is None


def test_published_figures_stand_beside_runs_of_their_own_network_alone():
    papers = "Published: Finn, Abbeel and Levine, ICML 2017, table 1."
    assert papers in markdown([result()])
    for model in ("resnet12", "article", "torchvision/resnet18", "own:Net"):
        assert published_beside(result(model=model)) is None
        assert published_beside({key: value for key, value in result().items() if key != "model"}) is None
        assert "Published" not in markdown([result(model=model)]).partition("Measured on")[2]


def test_a_file_that_is_no_table_is_left_as_it_is(tmp_path):
    (tmp_path / "notes.json").write_text("[]")
    with pytest.raises(FanfoldError, match=r"table of results .* is damaged"):
        add_to_table(tmp_path / "notes", [result()])
    assert (tmp_path / "notes.json").read_text() == "[]"
    (tmp_path / "notes.json").write_text(json.dumps({"results": [result(row="\ud800")]}))  # half a pair of surrogates
    with pytest.raises(FanfoldError, match="is not valid JSON"):
        add_to_table(tmp_path / "notes", [])


def test_the_rows_of_the_table_take_the_flags_of_the_cluster_alone(workflow_here):
    ran = workflow_here("table", "nowhere.yaml", *SMALL)
    assert ran.returncode == 2
    assert "Unknown flag --dataset.name" in ran.stderr

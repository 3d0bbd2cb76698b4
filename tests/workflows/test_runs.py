"""Workflows end to end, as a person runs them."""

import csv
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import yaml

from fanfold.pipeline.checkpoint import load_checkpoint, parameters_sha256
from fanfold.pipeline.lock import only_writer
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.face.results import TestResult
from fanfold.workflows.reporting.evaluations import evaluations
from tests.lines import lines
from tests.workflows.conftest import QUIET, SMALL, wait_while_running

RESULT_KEYS = {
    *("dataset", "split", "algorithm", "ways", "shots", "queries", "inner_steps", "transductive", "iterations"),
    *("workers", "train_seconds", "tasks_per_second", "test_accuracy", "test_ci95", "test_episodes"),
    "parameters_sha256",
}


@pytest.fixture
def train(workflow, pictures):
    def run(*arguments):
        return workflow("train", *SMALL, "--dataset.source", str(pictures), *QUIET, *arguments)

    return run


@pytest.fixture
def train_here(workflow_here, pictures):
    def run(*arguments):
        return workflow_here("train", *SMALL, "--dataset.source", str(pictures), *QUIET, *arguments)

    return run


@pytest.fixture
def endless(start, pictures):
    """Starts a run so long that there is time to end it."""

    def run(*arguments):
        length = ["--meta.iterations", "100000"]
        return start("train", *SMALL, "--dataset.source", str(pictures), *length, *arguments)

    return run


def result_of(folder, run="run"):
    return json.loads((folder / run / "result.json").read_text())


def test_a_run_from_ones_own_pictures_to_a_test_and_on(train, train_here, workflow_here, joined, tmp_path):
    ran = train("--run", "run", "--meta.iterations", "10")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"test accuracy \d+\.\d\d ± \d+\.\d\d %", ran.stdout)
    assert "dashboard: http://" in ran.stdout
    assert "python -m workflows.evaluate --run run" in ran.stdout
    assert "Traceback" not in ran.stderr

    directory, result = RunDirectory(tmp_path / "run"), result_of(tmp_path)
    assert set(result) >= RESULT_KEYS
    assert (result["dataset"], result["split"], result["ways"], result["workers"]) == ("pictures", "alphabets", 3, 2)
    assert result["iterations"] == 10
    assert result["test_episodes"] == 40
    assert result["transductive"] is True
    assert result["note"] is None
    assert result["reduction"] == "collective"
    assert (result["device"], result["environment"]["gpus"]) == ("cpu", [])
    last = load_checkpoint(directory.last)
    assert result["parameters_sha256"] == parameters_sha256(last.state.parameters)
    assert len(directory.metrics.read_text().splitlines()) == 10
    config = yaml.safe_load(directory.config.read_text())
    assert config["dataset"]["name"] == "folder"
    assert config["train"] == {
        "ways": 3,
        "shots": 1,
        "queries": 1,
        "rotations": False,
        "reflections": False,
        "augment": None,
    }

    few = ["--evaluation.tasks", "60", "--task.queries", "2", "--task.ways", "5", "--predictions", "found.csv"]
    evaluated = workflow_here("evaluate", "--run", "run", *joined, *few)
    assert evaluated.returncode == 0, evaluated.stderr
    (first,) = directory.evaluations.iterdir()
    found = json.loads(first.read_text())
    assert (found["test_episodes"], found["queries"], found["ways"], found["trained_ways"]) == (60, 2, 5, 3)
    assert found["tested_sha256"] == result["tested_sha256"]
    rows = list(csv.DictReader((tmp_path / "found.csv").open()))
    assert len(rows) == 60 * 5 * 2
    right = [row["class"] == row["predicted"] for row in rows]
    assert np.mean(right) == pytest.approx(found["test_accuracy"])
    assert sum(one["queries"] for one in found["classes"]) == len(rows)
    in_python = str(TestResult.of(found)).splitlines()
    assert in_python[1:6] == [line for line in evaluated.stdout.splitlines() if line.endswith(" queries")]
    worst = min(found["classes"], key=lambda one: (one["accuracy"], -one["queries"]))
    assert in_python[1].split()[:2] == [worst["class"], f"{100 * worst['accuracy']:.1f}"]
    assert sum(one["queries"] for one in found["confusions"]) == len(rows) - sum(right)

    again = workflow_here("evaluate", "--run", "run", *joined, "--train.rotations", "false")
    assert again.returncode == 0, again.stderr
    assert len(list(directory.evaluations.iterdir())) == 2
    (second,) = set(directory.evaluations.iterdir()) - {first}
    assert json.loads(second.read_text())["test_accuracy"] == result["test_accuracy"]
    assert [second.name in evaluations(directory)[0], first.name in evaluations(directory)[1]] == [True, True]

    refused = train_here("--run", "run")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("error: run already holds a run: go on with --resume")

    with only_writer(tmp_path / "run" / ".lock", "The run run"):  # before a cluster is started
        refused = workflow_here("train", "--resume", "--run", "run", "--cluster.kind", "tcp://127.0.0.1:9")
    assert refused.stderr.splitlines()[-1].startswith("error: The run run is being written by process")

    refused = workflow_here("train", "--resume", "--run", "run", "--task.shots", "2", "--meta.lr", "0.5")
    assert refused.returncode == 2
    assert "--task.shots (was 1, now 2)" in refused.stderr
    assert "--meta.lr (was 0.001, now 0.5)" in refused.stderr
    assert result_of(tmp_path) == result

    longer = workflow_here(
        "train", "--resume", "--run", "run", "--meta.iterations", "14", "--cluster.workers", "1", *QUIET
    )
    assert longer.returncode == 0, longer.stderr
    assert result_of(tmp_path)["iterations"] == 14
    assert result_of(tmp_path)["workers"] == 1
    straight = train_here(*joined, "--run", "straight", "--meta.iterations", "14")
    assert straight.returncode == 0, straight.stderr
    assert result_of(tmp_path, "straight")["parameters_sha256"] == result_of(tmp_path)["parameters_sha256"]


def test_a_driver_killed_in_the_middle_goes_on_to_the_same_end(train_here, endless, workflow_here, joined, tmp_path):
    straight = train_here(*joined, "--run", "straight", "--meta.iterations", "20")
    assert straight.returncode == 0, straight.stderr

    process, directory = endless("--run", "killed"), RunDirectory(tmp_path / "killed")
    wait_while_running(
        process, lambda: directory.metrics.exists() and len(directory.metrics.read_text().splitlines()) >= 6
    )
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    reached = load_checkpoint(directory.last).state.iteration
    assert reached >= 4
    assert not directory.result.exists()
    if reached >= 20:
        pytest.fail(f"killed too late, after {reached} iterations")

    resumed = workflow_here("train", *joined, "--resume", "--run", "killed", "--meta.iterations", "20", *QUIET)
    assert resumed.returncode == 0, resumed.stderr
    assert result_of(tmp_path, "killed")["parameters_sha256"] == result_of(tmp_path, "straight")["parameters_sha256"]
    iterations = [line["iteration"] for line in lines(directory.metrics)]
    assert iterations == list(range(1, 21))


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")]
)
def test_a_run_that_is_ended_from_outside_keeps_what_it_computed(endless, tmp_path, number, status, said):
    process = endless("--run", "run", "--meta.checkpoint", "1000", "--evaluation.every", "1000")
    directory = RunDirectory(tmp_path / "run")
    wait_while_running(process, lambda: directory.metrics.exists() and directory.metrics.read_text().count("\n") >= 8)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert errors.splitlines()[-1] == f"{said}: `python -m workflows.train --resume --run run` goes on with it"
    assert "Traceback" not in errors
    # All but the window that was being told of, if there was one.
    assert load_checkpoint(directory.last).state.iteration in range(len(lines(directory.metrics)) - 4, 10**6, 4)
    assert not (tmp_path / "dask-scratch-space").exists()


def test_ctrl_c_while_the_cluster_starts_ends_quietly(start, pictures, tmp_path):
    process = start("train", *SMALL, "--dataset.source", str(pictures), "--run", "run")
    children = psutil.Process(process.pid)
    wait_while_running(process, lambda: len(children.children(recursive=True)) >= 2)  # the first worker's process
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert [line for line in errors.splitlines() if not re.search("no GPU|Writing|no picture", line)] == [
        "interrupted"  # there is no run to go on with
    ]
    assert not (tmp_path / "dask-scratch-space").exists()


@pytest.mark.parametrize(
    ("told", "said"),
    [("'it goes on'", "interrupted: it goes on\n"), ("None", "interrupted\n")],
)
def test_whoever_interrupts_a_workflow_is_told_how_it_goes_on(environment, told, said):
    code = (
        "from fanfold.workflows.cli.entry import run\nfrom fanfold.workflows.cli.program import interruptible\n"
        f"def main(_): interruptible({told}); raise KeyboardInterrupt\nrun(main)"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, said)


def test_a_loss_that_is_not_finite_ends_with_status_1(train, tmp_path):
    ran = train("--run", "run", "--meta.iterations", "40", "--meta.lr", "1e30")
    assert ran.returncode == 1
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error:")]
    assert re.search(r"not finite in iteration \d+, task numbers \d+", line)
    assert "Traceback" not in ran.stderr
    assert load_checkpoint(RunDirectory(tmp_path / "run").last)
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset.source", "nowhere"], "nowhere: there is no such folder"),
        (["--task.ways", "50"], "--task.ways must be at most"),
        (["--task.shots", "9"], "--task.shots and --task.queries must add up to at most"),
        (["--dataset.split", "vinyals"], "vinyals"),
        (["--train.ways", "4"], "--train.ways and --task.ways the same number"),
        (["--cluster.kind", "tcp://127.0.0.1:9", "--cluster.timeout", "2"], "No scheduler answered"),
        (["--model.name", "os:getcwd"], "Unknown flag --model.width"),
    ],
)
def test_what_can_not_be_done_leaves_no_run_behind(train_here, tmp_path, arguments, message):
    ran = train_here("--run", "run", *arguments)
    assert ran.returncode == 2
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "run").exists()


def test_omniglot_that_can_not_be_had_is_said(workflow_here, tmp_path, no_network):
    for arguments, message in (
        ([], "Omniglot could not be downloaded"),
        (["--dataset.source", "nowhere"], "nowhere: there is no such folder"),
    ):
        ran = workflow_here("prepare", "--dataset.name", "omniglot", *arguments)
        assert ran.returncode == 2
        assert [message in line for line in ran.stderr.splitlines() if line.startswith("error:")] == [True]
        assert "Traceback" not in ran.stderr
        assert not list(tmp_path.glob("stores/*.zarr"))


@pytest.mark.omniglot
def test_maml_learns_real_omniglot(omniglot_store, workflow_here, joined, tmp_path):
    ran = workflow_here(
        "train",
        *joined,
        *QUIET,
        *("--dataset.name", "omniglot", "--dataset.store", str(omniglot_store), "--run", "run"),
        *("--model.name", "conv4-stride", "--train.queries", "3", "--meta.batch", "8", "--meta.chunk", "4"),
        *("--meta.lr", "0.003", "--meta.iterations", "120", "--evaluation.tasks", "200"),
    )
    assert ran.returncode == 0, ran.stderr
    result = result_of(tmp_path)
    assert (result["dataset"], result["split"], result["ways"]) == ("omniglot", "random1200", 5)
    assert result["test_accuracy"] > 0.6  # chance is 0.2; about 0.75 was measured

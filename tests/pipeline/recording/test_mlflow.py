"""What MLflow is told of a run; skipped where it isn't installed."""

from dataclasses import replace
from functools import partial

import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.evaluation import test
from fanfold.pipeline.events import MetaTested, TrainingStarted, Validated
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.recording.recorder import guarded
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.events import SegmentEnded, TrialBegan, TrialEnded
from fanfold.pipeline.search.recording import TrialRecords
from fanfold.pipeline.search.trial import compute_segment
from fanfold.pipeline.training import Job, judge_by_validation, train
from tests.lines import lines

test.__test__ = False

mlflow = pytest.importorskip("mlflow", reason="needs MLflow: pip install 'PATH/OF/THE/CLONE[mlflow]'")

from fanfold.pipeline.recording.mlflow import MLflow  # noqa: E402  after the line that skips

EVALUATION = EvaluationConfig(every=5, validation_tasks=6, tasks=6, other_tasks=0)
SETTINGS = {"seed": 3, "algorithm.name": "maml", "meta.minutes": None}


class StoppedError(Exception):
    """Stands for a driver that is killed."""


@pytest.fixture
def uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow lays its artifacts
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def record(pair, recipe, tmp_path, uri):
    def run(iterations, killed_at=None):
        directory = RunDirectory(tmp_path / "run")
        if not directory.config.exists():
            directory.create("seed: 3\n")

        def kill(event):
            if isinstance(event, Validated) and event.iteration == killed_at:
                raise StoppedError

        job = replace(recipe, meta=replace(recipe.meta, iterations=iterations, checkpoint=10))
        with guarded(MLflow(uri, directory.path, job, SETTINGS), "MLflow", pytest.fail) as listen:
            last = train(pair, job, EVALUATION, directory, [directory.log, listen, kill])
            tests = test(pair, job, last.best, EVALUATION)
            listen(MetaTested(tuple(tests)))
            listen(MetaTested(tuple(tests), "fast-maml++-20way"))
            directory.result.write_text("{}")
        return directory, tests

    return run


def only_run(uri):
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("fanfold").experiment_id])
    return client, run


def points(client, run, name):
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


def test_parameters_metrics_and_files_are_there(record, uri):
    directory, (tested,) = record(10)
    client, run = only_run(uri)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params == {"seed": "3", "algorithm.name": "maml"}
    metrics = lines(directory.metrics)
    for name in ("loss", "accuracy"):
        assert points(client, run, f"train/{name}") == [(line["iteration"], line[name]) for line in metrics]
    assert [step for step, _ in points(client, run, "validation/accuracy")] == [5, 10]
    for group in ("test", "test/fast-maml__-20way"):
        assert points(client, run, f"{group}/accuracy") == [(10, tested.accuracy.mean)]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.yaml", "metrics.jsonl", "validations.jsonl", "result.json"}


def test_a_resumed_run_goes_on_with_its_own(record, uri):
    with pytest.raises(StoppedError):
        record(20, killed_at=15)
    client, run = only_run(uri)
    assert run.info.status == "FAILED"
    record(20)
    client, run = only_run(uri)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points(client, run, "train/loss")] == list(range(1, 21))
    assert [step for step, _ in points(client, run, "validation/accuracy")] == [5, 10, 15, 20]


def test_an_address_that_keeps_no_runs_is_an_error_at_once(recipe, tmp_path):
    with pytest.raises(FanfoldError, match="MLflow at nowhere://x can't be written"):
        MLflow("nowhere://x", tmp_path, recipe, {})


def test_a_store_that_is_lost_costs_a_line_and_not_the_run(pair, recipe, tmp_path, uri, monkeypatch):
    said, directory = [], RunDirectory(tmp_path / "run")
    directory.create("seed: 3\n")
    job = replace(recipe, meta=replace(recipe.meta, iterations=5))
    board = MLflow(uri, directory.path, job, {})
    client, run = only_run(uri)
    client.delete_run(run.info.run_id)
    with guarded(board, "MLflow", said.append) as listen:
        last = train(pair, job, EVALUATION, directory, [listen])
    assert last.state.iteration == 5
    assert len(said) == 1
    assert said[0].startswith("MLflow records no more of this (")


def test_the_trials_of_a_search_are_runs_below_its_own(recipe, tmp_path, uri):
    job = Job(replace(recipe, meta=replace(recipe.meta, iterations=10)), EVALUATION)
    executor = LocalExecutor(job.recipe)
    directory, now = RunDirectory(tmp_path / "search" / "trials" / "0000"), None
    directory.create("seed: 3\n")
    for states in ((), ("pruned",)):  # the search is stopped, and started again
        search = MLflow(uri, tmp_path / "search", recipe, {"seed": 3})
        records = TrialRecords(lambda trial, run=search.run: MLflow(uri, trial.directory.path, recipe, {}, run))
        with guarded(search, "MLflow", pytest.fail), guarded(records, "MLflow", pytest.fail) as listen:
            started = TrainingStarted("trial-0", now.state.iteration if now else 0, 10, 0.0, None)
            listen(TrialBegan(0, directory, job, "seed: 3\n", started))
            done = compute_segment(job, now, executor, partial(judge_by_validation, job, executor))
            now = done.checkpoint
            listen(SegmentEnded(0, done.events))
            for state in states:
                listen(TrialEnded(0, {}, state, 10, 0.5))
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = client.search_runs([client.get_experiment_by_name("fanfold").experiment_id])
        runs = {run.info.run_name: run for run in found}
        assert len(found) == len(runs) == 2
        assert runs["0000"].data.tags["mlflow.parentRunId"] == runs["search"].info.run_id
        assert "mlflow.parentRunId" not in runs["search"].data.tags
        assert runs["search"].info.status == "FINISHED"
        assert runs["0000"].info.status == ("FINISHED" if states else "KILLED")
        expected = list(range(1, now.state.iteration + 1))
        assert [step for step, _ in points(client, runs["0000"], "train/loss")] == expected
    assert now.state.iteration == 10

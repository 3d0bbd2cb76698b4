"""What Weights & Biases keeps of a run, without a network; skipped where it isn't installed."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.events import MetaTested, TrainingStarted
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.recording.recorder import guarded
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.results import summarize
from fanfold.pipeline.search.trial import compute_segment
from fanfold.pipeline.tally import Tested
from fanfold.pipeline.training import Job, judge_by_validation
from tests.lines import lines

pytest.importorskip("wandb", reason="needs Weights & Biases: pip install 'PATH/OF/THE/CLONE[wandb]'")

from fanfold.pipeline.recording.wandb import Wandb


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    made = RunDirectory(tmp_path / "run")
    made.create("seed: 3\n")
    return made


def test_configuration_metrics_and_files_are_kept(recipe, directory, capfd):
    job = Job(replace(recipe, meta=replace(recipe.meta, iterations=6)), EvaluationConfig(every=6, validation_tasks=4))
    executor = LocalExecutor(job.recipe)
    segment = compute_segment(job, None, executor, partial(judge_by_validation, job, executor))
    recorder = Wandb(
        "team/mine", directory.path, job.recipe, {"seed": 3, "algorithm.name": "maml", "meta.minutes": None}
    )
    run = recorder._run
    with guarded(recorder, "Weights & Biases", pytest.fail) as listen:
        for event in (TrainingStarted("one", 0, 6, 0.0, None), *segment.events):
            directory.log(event)
            listen(event)
        accuracy = summarize(np.array([0.5, 1.0]))
        listen(MetaTested((Tested("batch", accuracy, None, None), Tested("single", accuracy, None, None))))
        found = dict(run.summary)
    (validation,) = lines(directory.validations)
    last = lines(directory.metrics)[-1]
    assert {name: found[f"train/{name}"] for name in ("loss", "accuracy")} == {
        name: last[name] for name in ("loss", "accuracy")
    }
    assert found["validation/accuracy"] == validation["accuracy"]
    assert (found["test/accuracy"], found["test/accuracy_inductive"], found["iteration"]) == (0.75, 0.75, 6)
    assert {name: value for name, value in dict(run.config).items() if name != "_wandb"} == {
        "seed": 3,
        "algorithm.name": "maml",
    }
    assert (run.entity, run.project, run.name) == ("team", "mine", "run")
    assert found["_step"] + 1 == 6 + 1 + 2  # points
    assert capfd.readouterr().err == ""
    kept = {path.name for path in directory.path.glob("wandb/offline-run-*/files/*")}
    assert {"config.yaml", "metrics.jsonl", "validations.jsonl"} <= kept


def test_a_resumed_run_goes_on_with_its_own_and_trials_are_shown_together(recipe, directory):
    for _ in range(2):
        recorder = Wandb("mine", directory.path, recipe, {}, group="search")
        recorder.close(KeyboardInterrupt())
        assert recorder._run.group == "search"
        assert recorder._run.id == (directory.path / "wandb" / "id").read_text()


def test_without_a_key_the_run_does_not_start_and_nobody_is_asked(recipe, directory, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(directory.path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(directory.path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(FanfoldError, match="no key: `wandb login` keeps one; or set WANDB_MODE=offline"):
        Wandb("mine", directory.path, recipe, {})

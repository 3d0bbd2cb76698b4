"""What TensorBoard is shown of a run: read back with its own reader."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.evaluation import test
from fanfold.pipeline.events import MetaTested, Validated
from fanfold.pipeline.recording.recorder import guarded
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.recording.task_sheet import RIGHT, WRONG, draw_predictions
from fanfold.pipeline.recording.tensorboard import TensorBoard
from fanfold.pipeline.training import train
from fanfold.pipeline.worker import tasks_of
from fanfold.tasks.episodes import Stream
from fanfold.tasks.predictions import Predictions
from tests.lines import lines

test.__test__ = False

EVALUATION = EvaluationConfig(every=5, validation_tasks=6, tasks=6, other_tasks=6)
SETTINGS = {"seed": 3, "algorithm.name": "maml", "algorithm.inner_lr": 0.1, "meta.minutes": None}


class StoppedError(Exception):
    """Stands for a driver that is killed."""


@pytest.fixture
def record(pair, recipe, tmp_path):
    """Trains and tests with TensorBoard listening; killed after some iterations, where they are given."""

    def run(iterations, killed_at=None):
        directory = RunDirectory(tmp_path)
        if not directory.config.exists():
            directory.create("seed: 3\n")

        def kill(event):
            if isinstance(event, Validated) and event.iteration == killed_at:
                raise StoppedError

        job = replace(recipe, meta=replace(recipe.meta, iterations=iterations, schedule="linear", checkpoint=10))
        board = TensorBoard(tmp_path / "tensorboard", job, SETTINGS, directory.result.exists())
        with guarded(board, "TensorBoard", pytest.fail) as listen:
            last = train(pair, job, EVALUATION, directory, [directory.log, listen, kill])
            tests = test(pair, job, last.best, EVALUATION)
            listen(MetaTested(tuple(tests)))
        directory.result.write_text("{}")
        return job, directory, tests

    return run


def read(folder, **sizes):
    """What TensorBoard reads, with all points."""
    return EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0, **sizes}).Reload()


def points(found, tag):
    return [(point.step, point.value) for point in found.Scalars(tag)]


def test_curves_are_the_metrics_files(record):
    job, directory, (published, other) = record(10)
    found = read(directory.path / "tensorboard")

    metrics = lines(directory.metrics)
    assert len(metrics) == 10
    for name in ("loss", "accuracy"):
        expected = [(line["iteration"], np.float32(line[name])) for line in metrics]
        assert points(found, f"train/{name}") == expected
    assert points(found, "train/tasks_per_second") == [
        (line["iteration"], pytest.approx(line["tasks_per_second"], abs=1e-3)) for line in metrics[4::5]
    ]
    rates = [(step, pytest.approx(3e-3 * (1 - (step - 1) / 10))) for step in range(1, 11)]
    assert points(found, "train/meta_learning_rate") == rates

    validations = lines(directory.validations)
    assert [line["iteration"] for line in validations] == [5, 10]
    for tag, sign in (("accuracy", 0), ("accuracy_low", -1), ("accuracy_high", 1)):
        expected = [(line["iteration"], pytest.approx(line["accuracy"] + sign * line["ci95"])) for line in validations]
        assert points(found, f"validation/{tag}") == expected
    assert points(found, "test/accuracy") == [(10, pytest.approx(published.accuracy.mean))]
    assert points(found, "test/accuracy_inductive") == [(10, pytest.approx(other.accuracy.mean))]
    assert job.meta.iterations == 10


def test_configurations_can_be_compared(record):
    _, directory, _ = record(5)
    found = read(directory.path / "tensorboard")

    def told(tag):
        return HParamsPluginData.FromString(found.SummaryMetadata(tag).plugin_data.content)

    started = told("_hparams_/session_start_info").session_start_info.hparams
    assert {key: value.WhichOneof("kind") for key, value in started.items()} == {
        "seed": "number_value",
        "algorithm.name": "string_value",
        "algorithm.inner_lr": "number_value",
    }
    assert (started["algorithm.name"].string_value, started["algorithm.inner_lr"].number_value) == ("maml", 0.1)
    metrics = told("_hparams_/experiment").experiment.metric_infos
    assert {metric.name.tag for metric in metrics} == {"validation/accuracy", "test/accuracy"}
    assert {metric.name.tag for metric in metrics} <= set(found.Tags()["scalars"])
    assert told("_hparams_/session_end_info").session_end_info.status == 1  # success


def test_a_resumed_run_has_no_point_twice(record):
    with pytest.raises(StoppedError):
        record(20, killed_at=15)  # the last checkpoint is that of iteration 10
    _, directory, _ = record(20)
    record(20)  # nothing is left to train: it is only tested again
    found = read(directory.path / "tensorboard")

    assert len(list((directory.path / "tensorboard").iterdir())) == 3
    assert points(found, "train/loss") == [
        (line["iteration"], np.float32(line["loss"])) for line in lines(directory.metrics)
    ]
    assert [step for step, _ in points(found, "train/accuracy")] == list(range(1, 21))
    assert [step for step, _ in points(found, "validation/accuracy")] == [5, 10, 15, 20]
    assert [image.step for image in found.Images("validation/tasks")] == [5, 10, 15, 20]
    assert [step for step, _ in points(found, "test/accuracy")] == [20]


def test_pictures_show_which_answers_are_right(record, recipe):
    job, directory, _ = record(5)
    (drawn,) = read(directory.path / "tensorboard").Images("validation/tasks")
    picture = np.asarray(Image.open(io.BytesIO(drawn.encoded_image_string)).convert("RGB"))
    assert picture.shape == (drawn.height, drawn.width, 3)

    _, tasks = tasks_of(job, Stream.VALIDATION, 0, 3)
    ways, queries = job.task.ways, job.task.queries
    labels = np.broadcast_to(np.arange(ways, dtype=np.int16)[:, None], (3, ways, queries)).copy()
    sure, losses = np.ones(labels.shape, np.float32), np.zeros(3, np.float32)
    all_right = draw_predictions(tasks, Predictions(labels, sure, losses))
    assert all_right.shape == picture.shape
    assert has(all_right, RIGHT)
    assert not has(all_right, WRONG)

    labels[2, 1, 0] = 2
    one_wrong = draw_predictions(tasks, Predictions(labels, sure, losses))
    assert has(one_wrong, WRONG)
    changed = np.argwhere((one_wrong != all_right).any(axis=2))
    height, width = len(picture) // 3, picture.shape[1] / ways
    assert changed[:, 0].min() > 2 * height  # the third task, in the column of its second class alone
    assert width <= changed[:, 1].min() <= changed[:, 1].max() < 2 * width + 8


def has(picture, colour):
    return bool((picture == colour).all(axis=2).any())


def test_a_folder_that_cannot_be_written_costs_a_line_and_not_the_run(pair, recipe, tmp_path):
    (tmp_path / "tensorboard").write_text("in the way")
    directory, said = RunDirectory(tmp_path), []
    directory.create("seed: 3\n")
    job = replace(recipe, meta=replace(recipe.meta, iterations=5))
    with guarded(TensorBoard(tmp_path / "tensorboard", job, {}), "TensorBoard", said.append) as listen:
        last = train(pair, job, EVALUATION, directory, [listen])
    assert last.state.iteration == 5
    assert len(said) == 1
    assert said[0].startswith("TensorBoard records no more of this (")

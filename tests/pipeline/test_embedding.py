"""A frozen network: pictures are embedded once, and tasks are made of embeddings."""

import importlib
import linecache
import shutil
import sys
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
import torch
from torch import nn

from fanfold.data.embeddings import EmbeddedImages
from fanfold.data.errors import FanfoldError
from fanfold.data.store import open_store
from fanfold.pipeline import evaluation, learning, worker
from fanfold.pipeline.checkpoint import Checkpoint, load_checkpoint
from fanfold.pipeline.classifier import Classifier
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.embed_once import embed_once
from fanfold.pipeline.embedding import embedded_pictures
from fanfold.pipeline.events import Embedding, Validated
from fanfold.pipeline.executors.choose import open_executor
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.fitting import fit, judge, own_parameters
from fanfold.pipeline.labelling import learner_of, measure, open_preprocessing
from fanfold.pipeline.learning import learn
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.training import train
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.batch import gather_tasks
from fanfold.tasks.episodes import Stream
from fanfold.tasks.learner import channels_last, in_batches
from fanfold.tasks.models import Conv4, PluginModel
from fanfold.tasks.predict import predict
from fanfold.workflows.actions.classify import _encoder_of
from tests.pipeline.conftest import PatternSource
from tests.pipeline.reference import alone, assert_same
from tests.tasks.every_algorithm import EVERY, FITTED, each

MODEL = PluginModel("tests.pipeline.test_embedding:Frozen")
SHORT = EvaluationConfig(every=4, validation_tasks=40, tasks=60, other_tasks=0)


class Frozen(nn.Module):
    """A body that stays as it is, with running statistics, and a head."""

    def __init__(self, ways, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = (
                nn.Conv2d(1, 8, 3, 2),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, 2),
                nn.ReLU(),
                nn.Flatten(),
            )
            self.body = nn.Sequential(*layers).requires_grad_(False).eval()
        self.body[1].track_running_stats = False
        self.head = nn.Linear(16 * 9, ways)

    def forward(self, images):
        return self.head(self.body(images))


@pytest.fixture(scope="module")
def frozen(recipe, patterns, tmp_path_factory):
    """A recipe on a frozen network, on a store of its own, beside which nothing lies yet."""
    store = tmp_path_factory.mktemp("frozen") / "patterns.zarr"
    shutil.copytree(patterns, store)
    shape = replace(recipe.train, rotations=False)
    return replace(recipe, store=str(store), model=MODEL, train=shape, algorithm=FITTED["ridge"], steps=None)


@pytest.fixture
def elsewhere(frozen, tmp_path):
    """The same, on a copy of the store that nothing was embedded of."""
    shutil.copytree(frozen.store, tmp_path / "copy.zarr")
    return replace(frozen, store=str(tmp_path / "copy.zarr"))


@pytest.fixture
def directory(tmp_path):
    made = RunDirectory(tmp_path / "run")
    made.create("seed: 3\n")
    return made


def pixels(number, drawing):
    return PatternSource().read(number, drawing, drawing + 1)[0][0]


def images_of(recipe):
    worker._embedded.cache_clear()
    return worker.open_context(recipe).images


def test_every_picture_is_embedded_once_over_the_workers_and_found_again(frozen, pair):
    told, images = [], images_of(frozen)
    assert isinstance(images, EmbeddedImages)
    assert images.path is None
    embed_once(GraphExecutor(pair.part("embedding"), frozen), frozen, told.append)
    assert [event.done for event in told if isinstance(event, Embedding)] == [480]
    store = open_store(frozen.store)
    body = Frozen(2).body
    with torch.no_grad():
        expected = body(torch.from_numpy(store.read()).float() / 255)
    np.testing.assert_allclose(images.values, expected, atol=1e-5)
    alone = in_batches(channels_last(body), torch.from_numpy(store.read(7, 8)).float() / 255)
    assert images.values[7].tobytes() == alone.numpy().tobytes(), "in the company of others it is another"
    assert images.path.parent.name == "patterns.embeddings"
    again = []
    embed_once(LocalExecutor(frozen), frozen, again.append)
    assert [event.text for event in again] == [f"480 pictures were embedded before: {images.path}"]
    assert images_of(replace(frozen, model=replace(MODEL, arguments={"seed": 1}))).path is None


def test_embeddings_by_other_code_are_computed_anew(elsewhere, tmp_path, monkeypatch):
    """The same tensors and layers, called otherwise."""
    monkeypatch.syspath_prepend(tmp_path)
    code = """from tests.pipeline.test_embedding import Frozen

class Own(Frozen):
    def forward(self, images):
        return super().forward({} * images)
"""
    name, found = "own_embedding_net", []
    for factor in (1, 2, 1):
        (tmp_path / f"{name}.py").write_text(code.format(f"{factor}.0"))
        linecache.clearcache()
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        worker._network.cache_clear()
        found.append(images_of(replace(elsewhere, model=PluginModel(f"{name}:Own"))))
        assert (found[-1].path is None) == (len(found) < 3)
        assert found[-1].values.any()
    assert found[0].key == found[2].key != found[1].key
    assert not np.allclose(found[0].values, found[1].values)
    worker._network.cache_clear()
    worker._embedded.cache_clear()


def test_embeddings_are_the_same_bits_for_any_number_of_threads(frozen):
    """By one: some networks' are others by two."""
    seen, threads = [], torch.get_num_threads()
    body = worker._network(MODEL, None, (1, 16, 16), 3, "cpu", False, "float32")
    opened = worker.open_context(frozen).pictures
    hook = body.module.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        assert embedded_pictures(body, opened, 0, 3).shape == (3, 144)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        hook.remove()
        torch.set_num_threads(threads)


def test_what_can_not_be_computed_is_not_taken_for_a_full_disk(elsewhere, monkeypatch):
    images = images_of(elsewhere)

    def lost():
        yield np.zeros((64, images.width), np.float32)
        raise ConnectionResetError("a worker left")

    with pytest.raises(ConnectionResetError, match="a worker left"):
        images.write(lost)
    assert images.path is None
    monkeypatch.setattr(EmbeddedImages, "_fill_group", lambda *_: exec("raise OSError(28, 'No space left')"))
    with pytest.raises(FanfoldError, match=r"the embeddings can't be written .*No space left"):
        images.write(lost)


def test_embeddings_that_are_damaged_are_computed_anew(elsewhere):
    images = images_of(elsewhere)
    values, path = images.values.copy(), images.path
    (shard,) = [file for file in (path / "embedding" / "c").rglob("*") if file.is_file()]
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    again = images_of(elsewhere)
    assert again.path is None
    assert again.values.tobytes() == values.tobytes()
    assert images_of(elsewhere).path == path
    shutil.rmtree(path / "checksum")
    assert images_of(elsewhere).path is None


def test_a_head_on_embeddings_has_the_same_bits_by_graph_and_gang(frozen, pair):
    recipe = replace(frozen, algorithm=Maml(inner_lr=3, inner_steps=2))
    expected = alone(recipe, 3)
    for reduction in ("graph", "gang"):
        with open_executor(replace(pair, reduction=reduction), recipe, uuid4().hex[:8], lambda _: None) as executor:
            assert_same(executor.window(worker.initialize(recipe), 3), expected)


@each({name: EVERY[name] for name in ("maml", "anil", "protonet", "proto-maml", "matching")} | FITTED)
def test_tasks_of_embeddings_are_judged_as_tasks_of_pictures_are(frozen, algorithm):
    recipe = replace(frozen, algorithm=algorithm)
    opened, meta = worker.open_context(recipe), torch.from_numpy(worker.initialize(recipe).parameters)
    found = worker.test(recipe, "batch", Stream.TEST, meta.numpy(), None, 0, 12)
    episodes = worker.drawn(recipe, Stream.TEST, 0, 12)
    tasks = gather_tasks(episodes, recipe.task, opened.pictures)
    whole = worker._network(
        recipe.model, 3 if algorithm.head else None, (1, 16, 16), recipe.seed, "cpu", False, "float32"
    )
    assert tasks.support.shape[2:] == (1, 16, 16)
    expected = predict(algorithm, whole, meta, tasks, None, "batch")
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-3, atol=1e-4)
    assert (found.labels == expected.labels).mean() > 0.98
    assert len(worker.tasks_of(recipe, Stream.TEST, 0, 1)[1].by_class()[0]) == 1  # as pictures, for reports


def test_a_head_is_meta_trained_on_embeddings(frozen, pair, directory):
    recipe = replace(frozen, algorithm=Maml(inner_lr=3, inner_steps=5), meta=replace(frozen.meta, iterations=4))
    last = train(pair, recipe, SHORT, directory)
    assert last.state.iteration == 4
    assert last.layout == {".head.weight": (3, 144), ".head.bias": (3,)}
    assert last.best_accuracy > 0.6


@each(FITTED | {"protonet": EVERY["protonet"]})
def test_a_method_on_embeddings_needs_no_iteration(frozen, pair, directory, algorithm):
    recipe, told = replace(frozen, algorithm=algorithm), []
    last = train(pair, recipe, SHORT, directory, [told.append])
    (validated,) = [event for event in told if isinstance(event, Validated)]
    assert (last.state.iteration, last.best_iteration, validated.accuracy) == (0, 0, last.best_accuracy)
    assert load_checkpoint(directory.last).best.tobytes() == last.best.tobytes()
    (tested,) = evaluation.test(pair, recipe, last.best, SHORT)
    assert tested.accuracy.mean > 0.8
    assert not tested.transductive
    if algorithm.name != "protonet":
        centre = last.best[: -len(algorithm.grids())]
        train_classes = worker.open_context(recipe).split.train
        values = worker.open_context(recipe).images.values.reshape(60, 8, -1)
        np.testing.assert_allclose(centre, values[train_classes].mean((0, 1)), rtol=1e-4, atol=1e-5)
    again = train(pair, recipe, SHORT, directory)
    assert again.best.tobytes() == last.best.tobytes()


@each({name: EVERY[name] for name in ("maml", "protonet")})
def test_the_embeddings_of_a_network_that_was_trained_otherwise_are_judged_too(recipe, algorithm):
    """By its own parameters, and batch norm's statistics of training pictures."""
    state = worker.initialize(replace(recipe, algorithm=algorithm))
    found = Checkpoint(state, state.parameters, "0123abcd", layout=worker.layout(replace(recipe, algorithm=algorithm)))
    other = replace(recipe, algorithm=FITTED["ridge"], steps=None)
    fitted = fit(LocalExecutor(other), other, own_parameters(other, found, found.best), 40)
    body = sum(int(np.prod(shape)) for name, shape in found.layout.items() if not name.startswith(".head"))
    assert fitted.parameters[:body].tobytes() == state.parameters[:body].tobytes()
    assert sorted(fitted.statistics) == sorted(worker.statistics(other, fitted.parameters))
    assert fitted.predictions.accuracies.mean() > 0.7
    tried = judge(other, [fitted.parameters], fitted.statistics, 0, 40)[0]
    assert tried.labels.tobytes() == fitted.predictions.labels.tobytes()
    encoder = _encoder_of(replace(recipe, algorithm=algorithm), found)  # for `export`
    assert encoder.embeds
    assert in_batches(encoder.encoder, torch.rand(3, 1, 16, 16)).shape == (
        3,
        worker.open_context(other).network.outputs,
    )
    with pytest.raises(FanfoldError, match=r"The run's network lacks \S+ of this configuration"):
        own_parameters(replace(other, model=Conv4(width=3)), found, found.best)


@each({"maml": Maml(inner_lr=3, inner_steps=5), "protonet": EVERY["protonet"]} | FITTED)
def test_new_pictures_are_labelled_by_a_frozen_network(frozen, algorithm):
    recipe = replace(frozen, algorithm=algorithm)
    state = worker.initialize(recipe)
    learner = learner_of(recipe, Checkpoint(state, state.parameters, "0123abcd"))
    assert measure(recipe, learner, 3, 2).accuracy > 0.5
    support = {
        str(number): [PatternSource().read(number, shot, shot + 1)[0][0] for shot in range(2)] for number in range(3)
    }
    classifier = learn(learner, open_preprocessing(recipe), support)
    query = [PatternSource().read(number, 4, 5)[0][0] for number in range(3)]
    said = list(classifier.predict(query))
    assert [one.label for one in said] == ["0", "1", "2"]
    assert next(classifier.predict(query[1:2])) == said[1]
    assert list(Classifier.from_bytes(classifier.to_bytes(), "kept", MODEL).predict(query)) == said


@each(FITTED)
def test_pictures_that_are_left_out_choose_nothing(frozen, algorithm, monkeypatch):
    """A backbone alone chooses its method's numbers by the support set."""
    recipe, asked = replace(frozen, algorithm=algorithm), []
    state, chosen_by = worker.initialize(recipe), learning.chosen_by

    def spied(learner, support, labels, **how):
        asked.append(support)
        return chosen_by(learner, support, labels, **how)

    monkeypatch.setattr(learning, "chosen_by", spied)
    support = {
        str(number): [PatternSource().read(number, shot, shot + 1)[0][0] for shot in range(3)] for number in range(3)
    }
    learner = learner_of(recipe, Checkpoint(state, state.parameters, "0123abcd"))
    classifier = learn(learner, open_preprocessing(recipe), support)
    whole, *parts = asked
    assert classifier.right[1] == len(whole) == 9
    assert [len(part) for part in parts] == [6, 6, 6]
    kept = sum((part[:, None] == whole[None]).all(2).sum(0) for part in parts)
    assert kept.tolist() == [2] * 9


def test_pictures_that_are_embedded_once_are_not_augmented(frozen):
    shapes = {"train": replace(frozen.train, rotations=True), "task": replace(frozen.task, reflections=True)}
    with pytest.raises(FanfoldError, match=r"add `train\.rotations=false`, `task\.reflections=false`\."):
        worker.check_recipe(replace(frozen, **shapes))

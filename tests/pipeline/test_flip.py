"""Test-time augmentation: what is said of a picture and of its mirror image is the same, for every algorithm."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fanfold.data.store import write_store
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import Checkpoint
from fanfold.pipeline.classifier import Classifier
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.ensemble import Member, meta_test_together
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.labelling import learner_of, measure, open_preprocessing
from fanfold.pipeline.learning import learn
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.episodes import Stream
from tests.pipeline.conftest import PatternSource
from tests.pipeline.test_embedding import MODEL
from tests.tasks.every_algorithm import EVERY, FITTED, each


class Mirrored(PatternSource):
    """The same classes and pictures, seen in a mirror."""

    def read(self, index, first, last):
        return [picture[..., ::-1].copy() for picture in super().read(index, first, last)]


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    path = tmp_path_factory.mktemp("mirrored") / "patterns.zarr"
    write_store(path, Mirrored(), progress=False)
    return str(path)


@each(EVERY | FITTED)
def test_tasks_in_a_mirror_are_judged_alike(recipe, mirrored, algorithm):
    recipe = replace(recipe, algorithm=algorithm, train=replace(recipe.train, rotations=False))
    recipe = replace(recipe, steps=recipe.steps if hasattr(algorithm, "inner_steps") else None)
    parameters, how = worker.initialize(recipe).parameters, algorithm.normalizations[0]
    population = worker.statistics(recipe, parameters) if how == "population" else None

    def losses(asked):
        return worker.test(asked, how, Stream.TEST, parameters, population, 0, 4).losses

    as_they_are, flip = losses(recipe), replace(recipe, flip=True)
    averaged = losses(flip)
    for one in (replace(flip, store=mirrored), replace(flip, meta=replace(recipe.meta, together=algorithm.vectorizes))):
        np.testing.assert_allclose(losses(one), averaged, rtol=2e-3)
    assert np.abs(losses(replace(recipe, store=mirrored)) - as_they_are).max() > 0.01 * as_they_are.max()
    assert np.abs(averaged - as_they_are).max() > 0.01 * as_they_are.max()


def pixels(number, drawing, source=PatternSource):
    return source().read(number, drawing, drawing + 1)[0][0]


def learnt(recipe, algorithm: Algorithm):
    recipe = replace(recipe, algorithm=algorithm, flip=True, steps=None)
    state = worker.initialize(recipe)
    statistics = {} if algorithm.head or recipe.model == MODEL else worker.statistics(recipe, state.parameters)
    learner = learner_of(recipe, Checkpoint(state, state.parameters, "0123abcd", statistics=statistics))
    support = {str(number): [pixels(number, drawing) for drawing in range(2)] for number in range(3)}
    return recipe, learner, learn(learner, open_preprocessing(recipe), support)


@each(EVERY | FITTED)
def test_a_picture_and_its_mirror_image_have_the_same_label_bit_for_bit(recipe, algorithm):
    _, learner, classifier = learnt(recipe, algorithm)
    queries = [pixels(number, 5 + drawing) for number in range(3) for drawing in range(2)]
    said = list(classifier.predict(queries))
    assert list(classifier.predict([query[..., ::-1].copy() for query in queries])) == said
    assert list(Classifier.from_bytes(classifier.to_bytes(), "kept").predict(queries)) == said
    assert said != list(replace(classifier, learnt=learn_without(learner, classifier)).predict(queries))


def learn_without(learner, classifier):
    """What it learns from the pictures as they are."""
    plain = replace(learner, flip=False)
    pictures = torch.from_numpy(np.stack([pixels(number, drawing) for number in range(3) for drawing in range(2)]))
    return plain.learn(pictures[:, None].float() / 255, classifier.numbers)


def test_embeddings_over_mirror_images_are_kept_apart_from_those_of_pictures_alone(recipe, mirrored):
    plain = replace(recipe, model=MODEL, algorithm=FITTED["ridge"], train=replace(recipe.train, rotations=False))
    found = [worker.open_context(replace(plain, store=store, flip=True)).images for store in (recipe.store, mirrored)]
    alone = worker.open_context(replace(plain, store=recipe.store)).images
    assert alone.key != found[0].key
    np.testing.assert_array_equal(found[0].values, found[1].values)
    assert np.abs(found[0].values - alone.values).max() > 0.01
    first = worker.embed(replace(plain, store=recipe.store, flip=True), 0, 3)
    np.testing.assert_array_equal(first, found[0].values[:3])
    _, learner, classifier = learnt(plain, FITTED["ridge"])
    said, other = classifier.predict([pixels(1, 5), pixels(1, 5, Mirrored)])
    assert said == other
    assert measure(plain, learner, 3, 2) is not None


@each({name: EVERY[name] for name in ("protonet", "anil")})
def test_a_calibration_averages_over_mirror_images(recipe, mirrored, algorithm):
    recipe, learner, _ = learnt(recipe, algorithm)
    one, other = (measure(replace(recipe, store=store), learner, 3, 2, tasks=8) for store in (recipe.store, mirrored))
    assert one.temperature == pytest.approx(other.temperature, rel=1e-3)
    assert abs(one.temperature / measure(recipe, replace(learner, flip=False), 3, 2, tasks=8).temperature - 1) > 0.01


def test_an_exported_classifier_averages_over_mirror_images(recipe, tmp_path):
    _, _, classifier = learnt(recipe, EVERY["protonet"])
    classifier.export(tmp_path / "signs.pt2")
    assert "takes the mean over a picture and its mirror image" in (tmp_path / "signs.pt2.md").read_text()
    images = torch.from_numpy(np.stack([pixels(1, 5), pixels(1, 5, Mirrored)]))[:, None].float() / 255
    one, other = torch.export.load(tmp_path / "signs.pt2").module()(images).tolist()
    assert one == pytest.approx(other, abs=1e-6)
    (said,) = classifier.predict([pixels(1, 5)])
    assert one == pytest.approx(list(said.probabilities.values()), abs=1e-5)


def test_an_ensemble_averages_over_mirror_images(recipe, mirrored):
    recipe = replace(recipe, algorithm=EVERY["protonet"], steps=None, flip=True)
    two = [(one, worker.initialize(one).parameters) for one in (recipe, replace(recipe, seed=4))]

    def judged(store):
        members = [
            Member(str(one.seed), replace(one, store=store), parameters, worker.statistics(one, parameters))
            for one, parameters in two
        ]
        (tested,) = meta_test_together(LocalExecutor(recipe), members, EvaluationConfig(tasks=8, other_tasks=0))
        return tested.predictions.losses

    np.testing.assert_allclose(judged(mirrored), judged(recipe.store), rtol=2e-3)

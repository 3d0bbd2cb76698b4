"""Classifiers of one's own pictures: from a run and some labelled ones to labels."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fanfold.data.errors import FanfoldError
from fanfold.data.labelled import UNKNOWN
from fanfold.data.pictures import PictureError
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import Checkpoint
from fanfold.pipeline.classifier import CHUNK, Classifier
from fanfold.pipeline.labelling import calibrated, learner_of, open_preprocessing
from fanfold.pipeline.learning import folds, learn
from fanfold.pipeline.spread import over_workers
from fanfold.tasks.algorithms.logistic import Logistic
from fanfold.tasks.algorithms.nearest_mean import NearestMean
from fanfold.tasks.algorithms.ridge import Ridge
from fanfold.tasks.models import Conv4, ResNet12
from fanfold.workflows.actions.classify import trust
from tests.pipeline.conftest import PatternSource
from tests.tasks.every_algorithm import EVERY, GRADIENT_LEARNERS, each

CLASSES = {"b": 3, "a": 1, "d": 2, "c": 5}  # pictures of each, unequal, and not in order


def trained(recipe, algorithm, model=Conv4(width=8)):  # noqa: B008 - it is frozen
    """A recipe and a checkpoint of the algorithm on a small network; nothing is learnt yet."""
    recipe = replace(recipe, algorithm=algorithm, model=model)
    state = worker.initialize(recipe)
    statistics = {} if algorithm.head else worker.statistics(recipe, state.parameters)
    return recipe, Checkpoint(state, state.parameters, "0123abcd", statistics=statistics)


def pixels(number, drawing):
    return PatternSource().read(number, drawing, drawing + 1)[0][0]


@pytest.fixture(scope="module")
def support():
    return {
        name: [pixels(place, drawing) for drawing in range(count)]
        for place, (name, count) in enumerate(CLASSES.items())
    }


@pytest.fixture(scope="module")
def queries():
    return [pixels(place, 5 + drawing % 3) for place in range(4) for drawing in range(12)] + [
        pixels(9, 1),
        pixels(10, 2),
    ]


@each(EVERY)
def test_a_pictures_label_is_the_same_alone_and_in_company(recipe, support, queries, algorithm):
    """Bit for bit, for every algorithm; a head for four classes takes the place of one for three."""
    recipe, found = trained(recipe, algorithm)
    classifier = learn(learner_of(recipe, found), open_preprocessing(recipe), support)
    together = list(classifier.predict(queries))
    alone = [next(classifier.predict([query])) for query in queries[::7]]
    assert alone == together[::7]
    assert [next(iter(classifier.predict(queries[:3][::-1])))] == together[2:3]
    assert classifier.labels == ("b", "a", "d", "c")
    assert set(together[0].probabilities) == set(CLASSES)
    assert sum(together[0].probabilities.values()) == pytest.approx(1)
    assert together[0].confidence == max(together[0].probabilities.values())
    loaded = Classifier.from_bytes(classifier.to_bytes(), "kept")
    assert list(loaded.predict(queries)) == together
    turned = {name: support[name] for name in sorted(support)}
    for one, other in zip(
        learn(learner_of(recipe, found), classifier.preprocessing, turned).predict(queries), together, strict=True
    ):
        if "context" not in repr(algorithm) and not algorithm.head:
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_patterns_are_told_apart_by_an_untrained_embedding(recipe, support, queries):
    recipe, found = trained(recipe, EVERY["protonet"])
    classifier = learn(learner_of(recipe, found), open_preprocessing(recipe), support)
    said = [prediction.label for prediction in classifier.predict(queries)][:48]
    assert np.mean([label == list(CLASSES)[place // 12] for place, label in enumerate(said)]) > 0.9
    right, asked = classifier.right
    assert asked == 10  # the only picture of its class can't be left out
    assert right >= 8
    assert trust(classifier)[0].endswith("; 1 is the only one of its class, which can't be left out")
    endless = itertools.cycle(queries)
    next(classifier.predict(endless))
    assert next(endless) is queries[CHUNK % len(queries)]  # no more are read than are judged together
    assert not any("guessing" in line for line in trust(classifier))
    assert "better than guessing (" in trust(replace(classifier, right=(2, 10)))[1]


@each({name: GRADIENT_LEARNERS[name] for name in ("maml", "reptile")})
def test_a_head_is_chosen_on_validation_classes_and_its_accuracy_is_told(recipe, algorithm):
    recipe, found = trained(recipe, algorithm)
    learner, calibration = calibrated(recipe, learner_of(recipe, found), 4, 2)
    assert learner.head in ("mean", "trained")
    assert (calibration.ways, calibration.shots, calibration.tasks) == (4, 2, 40)
    assert 0 <= calibration.accuracy <= 1


def test_pictures_of_other_classes_are_unknown(recipe, support, queries):
    recipe, found = trained(recipe, EVERY["protonet"])
    learner = learner_of(recipe, found)
    classifier = learn(
        learner, open_preprocessing(recipe), support, lambda ways, shots: calibrated(recipe, learner, ways, shots)
    )
    assert classifier.calibration.auroc > 0.7
    plain, scaled = (next(one.predict(queries)) for one in (replace(classifier, calibration=None), classifier))
    shares = {name: share ** (1 / classifier.temperature) for name, share in plain.probabilities.items()}
    expected = {name: share / sum(shares.values()) for name, share in shares.items()}
    assert scaled.probabilities == pytest.approx(expected, abs=1e-5)
    assert abs(classifier.temperature - 1) > 0.1  # so the confidence is another one
    assert not any(prediction.label == UNKNOWN for prediction in classifier.predict(queries))
    strict = classifier.with_unknown(0.3)
    said = [prediction.label for prediction in strict.predict(queries)]
    assert UNKNOWN in said
    assert classifier.with_unknown(0.01).threshold < strict.threshold
    again = Classifier.from_bytes(strict.to_bytes(), "kept")
    assert [prediction.label for prediction in again.predict(queries)] == said
    for rate in (0, 1, -1, float("nan")):
        with pytest.raises(FanfoldError, match="must be above 0 and below 1, such as"):
            classifier.with_unknown(rate)
    with pytest.raises(FanfoldError, match="A class is called unknown already"):
        replace(classifier, labels=("unknown", "a", "b", "c")).with_unknown(0.1)
    with pytest.raises(FanfoldError, match="Nothing was measured on validation classes"):
        replace(classifier, calibration=None).with_unknown(0.1)


def test_pictures_may_be_files_images_and_arrays_and_those_that_are_none_are_told(recipe, support, tmp_path):
    recipe, found = trained(recipe, EVERY["protonet"])
    classifier = learn(learner_of(recipe, found), open_preprocessing(recipe), support)
    image = Image.fromarray(pixels(0, 6))
    image.save(tmp_path / "one.png")
    (tmp_path / "two.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("not asked")
    told = []
    from_folder = list(classifier.predict(tmp_path, skip=told.append))
    assert [prediction.path.name for prediction in from_folder] == ["one.png"]
    assert "two.png" in str(told[0])
    with pytest.warns(UserWarning, match=r"^1 picture is skipped: .*two\.png: ") as warned:
        assert list(classifier.predict(tmp_path)) == from_folder
    assert warned[0].filename == __file__
    assert list(classifier.predict(tmp_path / "one.png")) == from_folder
    with pytest.raises(PictureError, match=r"two\.png"):
        list(classifier.predict([tmp_path / "one.png", tmp_path / "two.png"]))
    assert len(list(classifier.predict(image))) == len(list(classifier.predict(np.asarray(image)))) == 1
    others = list(classifier.predict([image, np.asarray(image), str(tmp_path / "one.png")]))
    assert [prediction.probabilities for prediction in others] == [from_folder[0].probabilities] * 3
    Image.new("RGB", (20, 20), "teal").save(tmp_path / "plain.png")
    (tmp_path / "two.png").unlink()
    with pytest.warns(UserWarning, match=r"^1 picture has one colour all over: .*plain\.png: unknown$"):
        one, plain = classifier.predict(tmp_path)
    assert (one.constant, plain.constant, plain.label) == (False, True, "unknown")
    assert set(plain.probabilities.values()) == {plain.confidence} == {1 / 4}  # nothing tells its class
    swatches = {**support, "blank": [np.full((16, 16), 30, np.uint8)] * 2}
    of_swatches = learn(learner_of(*trained(recipe, EVERY["protonet"])), classifier.preprocessing, swatches)
    for one in (of_swatches, Classifier.from_bytes(of_swatches.to_bytes(), "kept")):
        (blank,) = one.predict([np.full((20, 20), 40, np.uint8)])
        assert (blank.label, blank.constant) == ("blank", False)  # such is a class here
    padded = replace(classifier, preprocessing=replace(classifier.preprocessing, fit="pad"))
    wide = [np.full((10, 20), 90, np.uint8), np.tile(np.arange(20, dtype=np.uint8), (10, 1))]
    assert [one.constant for one in padded.predict(wide)] == [True, False]  # whatever border is added
    for wrong, said in (
        (tmp_path / "nowhere", "there is no such folder or picture"),
        (5, "^pictures must be .* not 5"),
    ):
        with pytest.raises(FanfoldError, match=said):
            classifier.predict(wrong)
    shown = "<fanfold.Classifier: 4 classes (b, a, d, c), 1 to 5 pictures each, protonet, no threshold>"
    assert repr(classifier) == shown


def test_pictures_are_labelled_over_a_clusters_workers_in_their_order(recipe, support, queries, pair):
    recipe, found = trained(recipe, EVERY["maml"])
    classifier = learn(learner_of(recipe, found), open_preprocessing(recipe), support)
    many = [*queries * 6, b"no picture"]
    told = []
    spread = list(classifier.predict(iter(many), over=over_workers(pair), skip=told.append))
    here = list(classifier.predict(many, skip=told.append))
    assert [one.label for one in spread] == [one.label for one in here]
    for one, other in zip(spread, here, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
    assert len(told) == 2


@pytest.mark.parametrize("keep", [("a",), ()])
def test_a_support_set_needs_two_classes(recipe, support, keep):
    recipe, found = trained(recipe, EVERY["protonet"])
    with pytest.raises(FanfoldError, match=f"two classes at least, not {len(keep)}"):
        learn(learner_of(recipe, found), open_preprocessing(recipe), {name: support[name] for name in keep})
    with pytest.raises(FanfoldError, match="The class x of the support set has no picture"):
        learn(learner_of(recipe, found), open_preprocessing(recipe), {**support, "x": []})


def test_a_damaged_file_or_one_with_somebodys_model_is_refused_in_a_line(recipe, support, tmp_path):
    recipe, found = trained(recipe, EVERY["protonet"])
    classifier = learn(learner_of(recipe, found), open_preprocessing(recipe), support)
    path = tmp_path / "one.fanfold"
    classifier.save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with pytest.raises(FanfoldError, match="is damaged: its content is not what its SHA-256 says"):
        Classifier.from_bytes(bytes(content), "one")
    own = replace(classifier, learner=replace(classifier.learner, model=OwnModel()))
    own.save(path)
    with pytest.raises(FanfoldError, match="a file runs no code of others: hand the model over"):
        Classifier.load(path)
    assert Classifier.load(path, model=OwnModel()).labels == classifier.labels
    built = Conv4(width=8).build(classifier.learner.ways or 2, classifier.learner.size)
    assert Classifier.load(path, model=built).labels == classifier.labels  # as a module
    with pytest.raises(FanfoldError, match="nowhere can't be read"):
        Classifier.load(tmp_path / "nowhere")


class OwnModel:
    """A model of one's own."""

    def build(self, ways, size, channels=1):
        return Conv4(width=8).build(ways, size, channels)


def test_folds_leave_every_picture_out_once_and_no_class_empty():
    labels = np.array([0, 0, 1, 2, 2, 2, 0])
    assert [places.tolist() for places in folds(labels, 10)] == [[0], [1], [3], [4], [5], [6]]
    few = folds(labels, 3)
    assert sorted(np.concatenate(few).tolist()) == [0, 1, 3, 4, 5, 6]
    for places in few:
        left = np.delete(labels, places)
        assert set(left) == {0, 1, 2}
    assert folds(np.array([0, 1]), 5) == []


def test_unread_pictures_of_a_support_set_are_told(recipe, support, tmp_path):
    recipe, found = trained(recipe, EVERY["protonet"])
    told = []
    mixed = {**support, "a": [b"no picture", *support["a"]]}
    classifier = learn(learner_of(recipe, found), open_preprocessing(recipe), mixed, skip=told.append)
    assert len(told) == 1
    assert torch.equal(classifier.numbers.bincount(), torch.tensor([3, 1, 2, 5]))
    with pytest.raises(PictureError):
        learn(learner_of(recipe, found), open_preprocessing(recipe), mixed)
    broken = {**support, "a": [tmp_path / name for name in ("1.png", "2.png")]}
    for path in broken["a"]:
        path.write_bytes(b"no picture")
    with pytest.raises(FanfoldError, match=r"The class a .*, the first because: .*1\.png: can't be read as a picture"):
        learn(learner_of(recipe, found), open_preprocessing(recipe), broken, skip=told.append)


def test_a_classifier_is_exported_by_its_files_suffix(recipe, support, queries, tmp_path):
    learner = learner_of(*trained(recipe, EVERY["protonet"]))
    classifier = learn(learner, open_preprocessing(recipe), support, origin="signs by hand")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "No complete tensor")
        classifier.export(tmp_path / "signs.pt2")
    images = torch.from_numpy(np.stack(queries))[:, None].float() / 255
    (found,) = torch.export.load(tmp_path / "signs.pt2").module()(images[:1])
    expected = next(classifier.predict(queries[:1]))
    assert found.tolist() == pytest.approx([expected.probabilities[label] for label in classifier.labels], abs=1e-5)
    assert "Trained on signs by hand." in (tmp_path / "signs.pt2.md").read_text()
    classifier.save(tmp_path / "signs")
    assert Classifier.load(tmp_path / "signs").origin == classifier.origin
    with pytest.raises(FanfoldError, match=r"`path` must end in .onnx or .pt2, not 'signs.h5'"):
        classifier.export(tmp_path / "signs.h5")


@pytest.mark.parametrize(
    ("algorithm", "model"),
    [
        (Ridge(regularization=0.1, scale=7), ResNet12(widths="4-4-8-8")),
        (Logistic(c=10), Conv4(width=4)),
        (NearestMean(scale=5), Conv4(width=4)),
    ],
    ids=["ridge", "logistic", "nearest-mean"],
)
def test_methods_on_embeddings_say_the_same_by_onnx(recipe, support, queries, tmp_path, algorithm, model):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    learner = learner_of(*trained(recipe, algorithm, model))
    classifier = learn(learner, open_preprocessing(recipe), support)
    classifier.export(tmp_path / "signs.onnx")
    images = torch.from_numpy(np.stack(queries))[:, None].float() / 255
    (found,) = runtime.InferenceSession(tmp_path / "signs.onnx").run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = (classifier.learnt(images) / classifier.temperature).softmax(1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert len(set(found.argmax(1))) > 1

"""The report's numbers, by hand, and its words, as they are drawn; no cluster."""

import json
import math

import numpy as np
import pytest

from fanfold.data.source import ClassName
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.results import Accuracy
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions
from fanfold.workflows.reporting.adaptation import draw_adaptation, steps_to_try
from fanfold.workflows.reporting.calibration import calibration, expected_error
from fanfold.workflows.reporting.characters import for_readers, in_print, label, shortened
from fanfold.workflows.reporting.confusions import Confusion, Mistake, confusions, draw_confusions
from fanfold.workflows.reporting.curves import curves
from fanfold.workflows.reporting.drawn_tasks import best_and_worst
from fanfold.workflows.reporting.embedding import in_the_plane
from fanfold.workflows.reporting.groups import by_group, wilson
from fanfold.workflows.reporting.history import read_history, smooth
from fanfold.workflows.reporting.run import read_run
from fanfold.workflows.reporting.single import duration
from fanfold.workflows.reporting.style import styled

NAMES = [ClassName(f"Alphabet_{number // 4}", f"character{number % 4:02}") for number in range(12)]


def episodes_of(classes, rotations=None):
    classes = np.array(classes)
    rotations = np.zeros_like(classes) if rotations is None else np.array(rotations)
    return Episodes(classes, rotations, np.zeros(classes.shape, bool), np.zeros((*classes.shape, 2), np.int64))


def predictions_of(labels, confidences=None):
    labels = np.array(labels, np.int16)
    confidences = np.ones(labels.shape) if confidences is None else np.array(confidences)
    return Predictions(labels, confidences.astype(np.float32), np.zeros(len(labels), np.float32))


def random_predictions(tasks=200, ways=3, queries=2, seed=0):
    random = np.random.default_rng(seed)
    classes = np.array([random.permutation(12)[:ways] for _ in range(tasks)])
    labels = np.where(random.random((tasks, ways, queries)) < 0.7, np.arange(ways)[:, None], 0)
    return episodes_of(classes), predictions_of(labels, random.random(labels.shape))


def test_accuracy_by_group_is_that_of_its_queries_and_comes_to_the_overall_one():
    episodes, predictions = random_predictions()
    found = by_group(NAMES, episodes, predictions)
    assert [one.accuracy for one in found] == sorted((one.accuracy for one in found), reverse=True)
    for one in found:
        of_alphabet = [
            predictions.right[task, way, query]
            for task, way, query in np.ndindex(*predictions.labels.shape)
            if NAMES[episodes.classes[task, way]].group == one.name
        ]
        assert (one.right, one.asked) == (sum(of_alphabet), len(of_alphabet))
        assert one.low < one.accuracy < one.high
    weighted = sum(one.accuracy * one.asked for one in found) / sum(one.asked for one in found)
    assert weighted == pytest.approx(predictions.accuracies.mean())
    seen = episodes_of([[0, 1, 2]])
    assert [one.name for one in by_group(NAMES, seen, predictions_of([[[0], [1], [2]]]))] == ["Alphabet_0"]


def test_wilsons_interval_is_the_textbooks():
    z, right, asked = 1.959964, 47, 50
    share = right / asked
    centre = (share + z**2 / (2 * asked)) / (1 + z**2 / asked)
    half = z / (1 + z**2 / asked) * math.sqrt(share * (1 - share) / asked + z**2 / (4 * asked**2))
    assert wilson(right, asked) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert wilson(50, 50)[1] == pytest.approx(1)
    assert wilson(50, 50)[0] < 0.95


def test_calibration_by_hand():
    predictions = predictions_of([[[0, 0], [1, 0]]], [[[0.95, 0.91], [0.55, 0.52]]])  # right, right, right, wrong
    unsure, sure = calibration(predictions)
    assert (unsure.predictions, unsure.right, unsure.confidence) == (2, 1, pytest.approx(0.535))
    assert (sure.predictions, sure.right, sure.confidence) == (2, 2, pytest.approx(0.93))
    assert expected_error([unsure, sure]) == pytest.approx((2 * 0.035 + 2 * 0.07) / 4)
    (certain,) = calibration(predictions_of([[[0], [1]]]))  # a probability of 1 has its place too
    assert (certain.predictions, certain.confidence) == (2, 1.0)


def test_pairs_are_counted_whichever_of_the_two_was_asked():
    episodes = episodes_of([[5, 7, 9], [7, 5, 2], [5, 7, 3], [9, 5, 0]])
    predictions = predictions_of([[[1], [1], [2]], [[1], [1], [2]], [[0], [1], [2]], [[0], [0], [2]]])
    first, second = confusions(episodes, predictions, 10)
    assert set(first.pair) == {(5, 0, False), (7, 0, False)}
    assert (first.mistakes, first.asked) == (2, 6)  # they met in three tasks, a query each
    assert first.example == Mistake(task=0, way=0, query=0, predicted=1)
    assert second.pair == ((5, 0, False), (9, 0, False))
    assert (second.mistakes, second.asked) == (1, 4)
    assert confusions(episodes, predictions, 1) == [first]


def test_a_turned_character_is_another_one():
    episodes = episodes_of([[5, 7], [5, 7]], rotations=[[0, 0], [1, 0]])
    found = confusions(episodes, predictions_of([[[1], [1]], [[1], [1]]]), 10)
    assert [one.mistakes for one in found] == [1, 1]
    assert label((5, 1, True), for_readers(NAMES, handwriting=True)) == "Alphabet 1 1, mirrored, rotated by 90°"
    letter = ClassName("Georgian Nuskhuri", "U+2D06 GEORGIAN SMALL LETTER ZEN")
    assert label((0, 0, False), for_readers([letter], handwriting=True)) == "Georgian Nuskhuri U+2D06 small letter zen"
    assert in_print("character07") == "character 7"
    assert shortened(in_print("Old_Church_Slavonic"), 10) == "Old Churc…"
    for name in ("sku007", "sku7", "1f3a4", "character12", "a_b"):  # names of pictures stay as they are
        named = [ClassName("shelf_01", name), ClassName("set", "x")]
        assert label((0, 0, False), for_readers(named, handwriting=False)) == f"shelf_01 {name}"
        assert label((0, 0, False), for_readers(named[:1], handwriting=False)) == name


def test_the_words_of_a_confusion_keep_to_their_place():
    names = [
        ClassName("Georgian_Nuskhuri", "U+2D06 GEORGIAN SMALL LETTER ZEN"),
        ClassName("Armenian", "U+057B ARMENIAN SMALL LETTER JHEH"),
        ClassName("Ojibwe_(Canadian_Aboriginal_Syllabics)", "character14"),
        ClassName("Japanese_(hiragana)", "character52"),
        ClassName("Packages/Yoghurt", "Arla-Natural-Mild-Low-Fat-Yoghurt"),
    ]
    pairs = [((0, 0, False), (1, 0, False)), ((2, 2, True), (3, 3, True)), ((4, 0, False), (1, 0, False))]
    found = [Confusion(pair, 10, 222, Mistake(0, 0, 0, 1)) for pair in pairs]
    image = np.zeros((8, 8), np.float32)
    with styled():
        (picture,) = draw_confusions(found, [(image, image)] * 3, names)
        picture.figure.canvas.draw()
    (plane,) = picture.figure.axes
    width, height = picture.figure.bbox.width, picture.figure.bbox.height
    for place, words in enumerate(plane.texts):
        box = words.get_window_extent()
        assert box.x1 < (place % 2 + 1) * width / 2
        assert box.y0 > 0
        assert box.y1 < height
    assert plane.texts[2].get_text().startswith("Packages/Yoghurt Arla-\nNatural-Mild-Low-Fat-…\n")


def test_best_and_worst_tasks_are_told_by_right_answers_then_by_confidence():
    right, half, wrong = [[0], [1]], [[0], [0]], [[1], [0]]
    predictions = predictions_of([half, right, wrong, right], [[[0.5]] * 2, [[0.6]] * 2, [[0.9]] * 2, [[0.8]] * 2])
    assert best_and_worst(predictions) == ([3, 1], [2, 0])
    assert best_and_worst(predictions.part(0, 1)) == ([], [0])


def test_adaptation_is_looked_at_about_the_steps_tested_with():
    assert steps_to_try(1) == [0, 1, 2, 3, 4, 5]
    assert steps_to_try(6) == [0, 1, 2, 3, 4, 5, 6, 7, 10]
    assert steps_to_try(50)[-2:] == [30, 50]
    assert 0 in steps_to_try(0)
    picture = draw_adaptation([(0, Accuracy(0.2, 0.01, 50)), (1, Accuracy(0.9, 0.02, 50))], tested=1)
    assert "20.0 % before the first, 90.0 % after" in picture.alt
    assert "50 test tasks" in picture.caption


def test_what_lies_in_a_plane_keeps_its_distances_there():
    random = np.random.default_rng(0)
    flat = random.normal(size=(4, 5, 2))
    turned = flat @ np.linalg.qr(random.normal(size=(6, 6)))[0][:2]
    points, share = in_the_plane(turned)
    assert share == pytest.approx(1)
    np.testing.assert_allclose(
        np.linalg.norm(points.reshape(-1, 1, 2) - points.reshape(1, -1, 2), axis=2),
        np.linalg.norm(flat.reshape(-1, 1, 2) - flat.reshape(1, -1, 2), axis=2),
        atol=1e-9,
    )
    points, _ = in_the_plane(random.normal(size=(1, 3, 4)))  # one class has no directions
    assert points.shape == (1, 3, 2)


def test_a_smoothed_curve_and_its_band_are_of_the_iterations_about_each_point():
    y = np.arange(100.0)
    drawn = smooth(np.arange(1, 101.0), y)
    assert drawn.window == 10
    np.testing.assert_allclose(drawn.mean[5:-5], y[5:-5] - 0.5)
    np.testing.assert_allclose(drawn.low[50], np.percentile(y[45:55], 10))
    assert (drawn.low <= drawn.mean).all()
    assert (drawn.mean <= drawn.high).all()
    assert len(smooth(y, y, points=30).x) == 30
    alone = smooth(np.array([1.0]), np.array([3.0]))
    assert (alone.mean, alone.low, alone.high) == (3, 3, 3)


def test_there_is_no_half_iteration(tmp_path):
    lines = ({"iteration": n, "loss": 1.0, "accuracy": 0.5, "seconds": float(n)} for n in (1, 2, 3))
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    by_name = {picture.name: picture.figure for picture in curves(read_run(tmp_path))}
    for name in ("loss-iterations", "accuracy-iterations"):
        (axis,) = by_name[name].axes
        assert all(tick == int(tick) for tick in axis.get_xticks())


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (167.9, "2 min 48 s"), (3600, "1 h"), (7380, "2 h 3 min")]
)
def test_times_are_said_as_people_say_them(seconds, words):
    assert duration(seconds).replace("\u00a0", " ") == words


def test_a_history_is_read_past_a_line_that_a_crash_cut_short(tmp_path):
    directory = RunDirectory(tmp_path)
    lines = [{"iteration": n, "loss": 1 / n, "accuracy": n / 8, "seconds": 4.0 * math.ceil(n / 4)} for n in range(1, 9)]
    directory.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"iterat')
    history = read_history(directory)
    assert len(history) == 8
    np.testing.assert_allclose(history.seconds, range(1, 9))  # those of a window lie within it
    assert len(history.validation) == 0
    assert repr(history).startswith("<history: 8 iterations, loss ")
    directory.validations.write_text(
        '{"iteration": 4, "accuracy": 0.1, "ci95": 0.1}\n{"iteration": 4, "accuracy": 0.5, "ci95": 0.1}\n'
    )
    history = read_history(directory)
    assert (history.validated, history.validation, history.validated_seconds) == (4, 0.5, 4)
    assert repr(read_history(RunDirectory(tmp_path / "nowhere"))) == "<history: 0 iterations>"

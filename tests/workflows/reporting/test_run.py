"""Runs read back from directories that are damaged or somebody else's."""

import json

import numpy as np
import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.recording.kept import ROW, TRAINED, read_configuration, wrong_row
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.reporting.heat_map import draw_grid, newest_grid
from fanfold.workflows.reporting.run import read_run

RESULT = {name: {str: "text", int: 3, float: 0.5, bool: True, list: []}[kind] for name, kind in TRAINED.items()}


def write_run(path, result=RESULT, metrics=b"", validations=b""):
    path.mkdir()
    for name, content in (
        ("config.yaml", b"seed: 0\n"),
        ("metrics.jsonl", metrics),
        ("validations.jsonl", validations),
        ("result.json", json.dumps(result).encode()),
    ):
        (path / name).write_bytes(content)
    return path


def test_a_whole_run_is_read(tmp_path):
    assert read_run(write_run(tmp_path / "run")).result == RESULT


@pytest.mark.parametrize("key", [*TRAINED, "reduction"])
@pytest.mark.parametrize("wrong", ["null", {}, [1], "inf"])
def test_a_result_of_another_type_is_named(tmp_path, key, wrong):
    value = float("inf") if wrong == "inf" and TRAINED.get(key) is not str else wrong
    if isinstance(value, str):
        value = 7 if wrong == "inf" or key == "reduction" else None
    with pytest.raises(FanfoldError, match=rf"result.json is damaged, or of another version \({key}\)") as caught:
        read_run(write_run(tmp_path / "run", {**RESULT, key: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [2**70, 1.01, -0.01])
def test_an_accuracy_that_is_no_share_is_named(tmp_path, share):
    with pytest.raises(FanfoldError, match=r"of another version \(test_accuracy\)"):
        read_run(write_run(tmp_path / "run", {**RESULT, "test_accuracy": share}))


def test_a_result_that_is_none_is_named(tmp_path):
    with pytest.raises(FanfoldError, match=r"result.json is damaged, or of another version \(it is no object\)"):
        read_run(write_run(tmp_path / "run", [1]))


def test_a_configuration_that_is_none_is_said(tmp_path):
    for content in (
        b"",
        b"7",
        b"seed: one",
        b"task: 5",
        b"1: {}",
        b"\xff\xfe",
        b"a: &a {b: *a}",
        b"seed: 0\nseed: 1",
        b"{" * 99,
    ):
        (tmp_path / "config.yaml").write_bytes(content)
        with pytest.raises(FanfoldError, match=r"The configuration .*config\.yaml ") as caught:
            read_configuration(tmp_path / "config.yaml")
        assert "\n" not in str(caught.value)


def test_a_row_of_a_table_is_checked():
    kinds = {str: "text", int: 3, float: 0.5, bool: True, list: [], dict: {}}
    row = {name: kinds[kind] for name, kind in ROW.items()}
    row["environment"] = {"python": "3.13", "torch": "2", "dask": "2026", "processor": "x", "cores": 2}
    assert wrong_row([row]) is None
    for rows, wrong in (
        ([row, 7], "it is no object"),
        ([{**row, "row": None}], "row"),
        ([{**row, "environment": {}}], "python"),
        ([{**row, "other_tests": [{}]}], "other_tests"),
        ([{**row, "environment": {**row["environment"], "gpus": 3}}], "environment"),
        ([{**row, "environment": {**row["environment"], "gpus": [{}]}}], "environment"),
        ([{**row, "validations": [[1, 0.5]]}], "validations"),
        ([{**row, "initial": 7}], "initial"),
        ("text", "results"),
    ):
        assert wrong_row(rows) == wrong


def test_a_link_to_nowhere_is_no_table_of_tests(tmp_path):
    (tmp_path / "grid-a.json").symlink_to(tmp_path / "nowhere")
    assert newest_grid(tmp_path) is None


def test_a_table_of_tests_has_rows_and_columns_of_tests_alone_and_a_title_where_it_stands_alone():
    measured = {"test_accuracy": 0.5, "test_ci95": 0.02, "test_episodes": 100, "transductive": False}
    cells = [{"ways": ways, "shots": shots, **measured} for ways, shots in ((2, 1), (2, 3), (5, 1))]
    left_out = [{"ways": ways, "shots": shots} for ways, shots in ((5, 3), (20, 1), (20, 3), (2, 9), (20, 9))]
    found = {"dataset": "signs", "split": "random", "cells": cells, "left_out": left_out}
    picture = draw_grid(found, "first")
    (axis,) = picture.figure.axes
    for labels, shown in ((axis.get_yticklabels(), ["2", "5"]), (axis.get_xticklabels(), ["1", "3"])):
        assert [label.get_text() for label in labels] == shown
    assert [text.get_text() for text in axis.texts] == [*["50.0\n± 2.0"] * 3, "–"]
    what = "Accuracy in % with its 95 % interval, 100 tasks each, inductive"
    assert axis.get_title(loc="left") == f"first: signs random\n{what}"
    dash = "A dash: too few classes or pictures for such tasks."
    assert (
        picture.caption
        == f"{what}: signs random. {dash} Left out, as classes or pictures are too few: 20 ways, 9 shots."
    )
    assert draw_grid({**found, "left_out": []}).caption == f"{what}: signs random."


@pytest.mark.parametrize("iteration", ['"7"', "7.5", "true", "-1", "1e400", "1" + "0" * 400])
def test_an_iteration_is_a_whole_number(tmp_path, iteration):
    line = b'{"iteration": %s, "loss": 1, "accuracy": 0.5, "seconds": 1}\n' % iteration.encode()
    history = read_run(write_run(tmp_path / "run", metrics=line, validations=line)).history
    assert (len(history), repr(history)) == (0, "<history: 0 iterations>")


def test_lines_that_are_none_of_ours_are_left_out(tmp_path):
    good = b'{"iteration": 1, "loss": 0.5, "accuracy": 0.25, "seconds": 1}\n'
    bad = b'{"iteration": 1e999}\n\xff\xfe\n[]\n' + b"[" * 100_000 + b"\n"
    odd = b'{"iteration": 2, "loss": 1e999, "accuracy": "high", "seconds": 2}\n'
    run = read_run(write_run(tmp_path / "run", metrics=good + bad + odd, validations=bad))
    np.testing.assert_array_equal(run.history.loss, [0.5, np.nan])
    np.testing.assert_array_equal(run.history.accuracy, [0.25, np.nan])
    assert len(run.history.validated) == 0
    directory = RunDirectory(tmp_path / "run")
    directory.forget_after(1, 0)
    assert directory.metrics.read_bytes() == good
    assert directory.validations.read_bytes() == b""


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "validations.jsonl", "result.json"])
def test_a_folder_in_a_files_place_is_said_in_one_line(tmp_path, name):
    path = write_run(tmp_path / "run")
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.raises(FanfoldError, match="can't be read") as caught:
        read_run(path)
    assert "\n" not in str(caught.value)

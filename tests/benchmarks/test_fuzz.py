"""Damaged and odd input by machine: a small part of it, and that it fails where a reader lets something through."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fuzz import judging
from benchmarks.fuzz.judging import Outcome, judged
from benchmarks.fuzz.kinds import KINDS
from benchmarks.fuzz.page import markdown
from benchmarks.fuzz.processes import Record, Task, together
from fanfold.data import pictures
from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import checkpoint, tensor_file
from fanfold.workflows.reporting import table

FEW = {"configuration": 2, "flags": 2, "learner": 3, "classifier": 6}  # the slow ones; of others 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def test_inputs_of_every_kind_are_accepted_and_right_or_refused_in_a_line(folder: Path) -> None:
    for kind in KINDS:
        for index in range(FEW.get(kind, 12)):
            found = judged(KINDS, 1, kind, index, folder)
            assert found.outcome != "failed", f"{kind} {index}: {found.line}"


def test_an_input_follows_from_seed_kind_and_number(folder: Path) -> None:
    once, again, other = ([judged(KINDS, seed, "picture", n, folder) for n in range(9)] for seed in (1, 1, 2))
    assert once == again != other


@pytest.mark.parametrize(
    ("kind", "places", "name", "instead"),
    [
        ("checkpoint", (tensor_file, checkpoint), "digest", "f" * 64),
        ("table of results", (table,), "wrong_row", None),
        ("picture", (pictures.Image,), "open", pictures.Image.new("L", (9, 9))),
    ],
)
def test_what_a_reader_lets_through_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, places: Sequence[Any], name: str, instead: Any
) -> None:
    for place in places:
        monkeypatch.setattr(place, name, lambda *_, **__: instead)
    assert "failed" in {judged(KINDS, 1, kind, index, folder).outcome for index in range(40)}


def raises(error: BaseException) -> judging.Kind:
    def read() -> None:
        raise error

    return lambda *_: read


@pytest.mark.parametrize(
    ("kind", "outcome", "says"),
    [
        (raises(FanfoldError("wrong")), "refused", "wrong"),
        (raises(RunError("wrong")), "failed", "status 1"),
        (raises(ValueError("wrong")), "failed", "ValueError: wrong"),
        (raises(MemoryError()), "failed", "MemoryError"),
        (raises(FanfoldError("")), "failed", "no printable line"),
        (raises(FanfoldError("<x at 0x7f12345678>")), "failed", "an object's address"),
        (lambda *_: lambda: print("words", file=sys.stderr), "failed", "accepted with words"),
        (lambda *_: lambda: None, "accepted", ""),
    ],
)
def test_what_comes_of_an_input_is_judged(tmp_path: Path, kind: judging.Kind, outcome: str, says: str) -> None:
    found = judged({"one": kind}, 0, "one", 0, tmp_path)
    assert found.outcome == outcome
    assert says in found.line


def test_an_input_that_takes_too_long_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "WAITING", 0.05)
    found = judged({"one": lambda *_: lambda: time.sleep(5)}, 0, "one", 0, tmp_path)
    assert (found.outcome, "more than" in found.line) == ("failed", True)


def test_records_go_on_and_are_put_together(tmp_path: Path) -> None:
    task = Task(tmp_path, ("store", "npz"), 100, 0, 2)
    for rank in range(2):
        record = Record(tmp_path, rank)
        for number in range(rank, 20, 2):
            found = Outcome("refused", f"/a/b{number}: no 'x'") if number % 3 else Outcome("failed", "Trace\nwhy")
            record.note(task, number, found)
        record.save()
    records = [Record(tmp_path, rank) for rank in range(2)]
    assert [record.next for record in records] == [20, 21]
    whole = together(records, 0)
    assert whole["inputs"] == 20
    assert {kind: of["failed"] for kind, of in whole["kinds"].items()} == {"store": 4, "npz": 3}
    assert [failure["index"] for failure in whole["failures"]] == [0, 6, 12, 18, 3, 9, 15]
    assert whole["refusals"][0] == {"kind": "npz", "line": "… no …", "inputs": 7}
    whole["failures"] = [{**failure, "now": "refused"} for failure in whole["failures"]]
    page = markdown({**whole, "command": "c", "date": "d", "machine": "m", "versions": {"python": "3"}})
    assert "| store | 10 | 0 | 6 | 4 |" in page
    assert "| npz | 3 | `why` | refused |" in page

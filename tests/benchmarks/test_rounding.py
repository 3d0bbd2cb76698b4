"""The benchmark of rounding, on a task of the smallest setting."""

import json

import pytest

from benchmarks.rounding import main
from fanfold.data.errors import FanfoldError


def test_float32_is_some_millionths_from_float64(tmp_path):
    main(["--settings", "d", "--tasks", "2", "--out", str(tmp_path / "found.json")])
    sides = json.loads((tmp_path / "found.json").read_text())["distances"]["d"]
    assert set(sides) == {"automatic differentiation", "one by one", "several at once"}
    for distances in sides.values():
        assert len(distances) == 2
        assert all(1e-9 < distance < 1e-5 for distance in distances)


@pytest.mark.parametrize("wrong", [["--tasks", "0"], ["--out", "nowhere/found.json"]])
def test_what_can_not_be_measured_is_said_before(wrong):
    with pytest.raises(FanfoldError, match=r"--tasks must be at least 1, not 0|no folder nowhere"):
        main(wrong)

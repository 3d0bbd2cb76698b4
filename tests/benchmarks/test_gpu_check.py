"""The check of a GPU, rehearsed without one: its parts, its report, and what becomes of parts that fail."""

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from benchmarks import gpu_check
from benchmarks.gpu import correctness, peers, rates, training
from benchmarks.gpu.floors import bytes_of_a_task, layers
from benchmarks.gpu.part import Options
from benchmarks.gpu.problem import SIZE, exact_gradient, module_of
from benchmarks.gpu.report import GOALS, markdown
from benchmarks.gpu_check import FIRST, LEEWAY, PARTS, SECOND, SECONDS, Part
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import Conv4
from fanfold.workflows.benchmark.peers.settings import Setting
from tests.environment import ROOT
from tests.tasks.derivatives.triton_ops.agreement import TensorCores
from tests.waiting import wait_for


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "scratch").mkdir()
    return Options("cpu", str(tmp_path / "found"), str(tmp_path / "scratch"))


def rows_of(jobs):
    """What jobs find, computed here."""
    found = [(job.what, job.find()) for job in jobs]
    return [what | row for what, rows in found for row in ([rows] if isinstance(rows, dict) else rows)]


def test_a_step_by_mixed_differentiation_goes_forward_and_backward_once_more():
    module = module_of(Setting(EpisodeShape(3, 2, 1), Maml(), Conv4(width=4)))
    shapes = {name: value.shape for name, value in module.named_parameters()}
    given = structure_of(module), shapes, SIZE
    mixed, reverse = (
        bytes_of_a_task(*given, 6, 3, Maml(inner_steps=2, differentiation=way)) for way in ("mixed", "reverse")
    )
    again = [layer.forward(6, shared=False) + layer.backward(6) for layer in layers(*given)]
    assert mixed - reverse == 2 * sum(again)


def test_least_bytes_of_a_layer_are_its_tensors():
    module = module_of(Setting(EpisodeShape(3, 1, 1), Maml(), Conv4(width=4)))
    shapes = {name: value.shape for name, value in module.named_parameters()}
    first, second, *_ = layers(structure_of(module), shapes, SIZE)
    picture, pooled, weights = 14 * 14 * 4, 7 * 7 * 4, 4 * 4 * 9 + 2 * 4
    assert first.forward(5, shared=True) == 4 * 5 * (28 * 28 + picture) + 5 * picture
    assert second.forward(5, shared=False) == 4 * (5 * (picture + picture + pooled) + weights) + 5 * pooled


def test_goals_are_judged_by_what_was_found():
    found = {
        "loop": [{"ms an iteration": 0.5, "iterations/s": 2000.0}],
        "fanfold": [
            {"tasks": 32, "side": "fanfold fused tf32, captured", "ms": 0.3},
            {"tasks": 32, "side": "fanfold plain, captured", "ms": 3.0},
            {"tasks": 512, "side": "fanfold fused tf32, captured", "ms": 4.0},
        ],
        "autograd": [{"side": "loop", "ms": 100.0}, {"side": "higher", "ms": 120.0}],
        "vmap": [{"side": "vmap patches tf32", "ms": 2.0}, {"side": "vmap convolution tf32", "failed": "memory"}],
        "jax": [{"side": "jax patches tf32", "ms": 1.2}],
        "window": [{"iterations/s": 1900.0, "test accuracy %": 98.8}],
        "memory": [{"way": "mixed", "steps": 1, "× the first": 1.0}, {"way": "mixed", "steps": 20, "× the first": 1.1}],
    }
    values = [goal.value(found) for goal in GOALS]
    expected = [0.5, 0.3, 128_000, 400, 4, 60_000 / 1900, 98.8, None, 5, 1.1]
    assert values == [value if value is None else pytest.approx(value) for value in expected]
    met = [value is not None and goal.met(value) for goal, value in zip(GOALS, values, strict=True)]
    assert met == [False, True, True, False, True, True, True, False, False, True]


def test_without_a_gpu_every_goal_is_told_as_unmeasured(tmp_path):
    assert gpu_check.main(["--goals", "--out", str(tmp_path / "h200")]) == 0
    text = (tmp_path / "h200.md").read_text()
    assert text.count("unmeasured") == len(GOALS)
    if not (ROOT / "results" / "h200.json").exists():
        assert (ROOT / "results" / "h200.md").read_text() == text == markdown({})


def test_parts_fit_into_their_time():
    assert LEEWAY * sum(part.seconds for part in FIRST.values()) <= SECONDS["first"]
    assert sum(part.seconds for part in SECOND.values()) <= SECONDS["second"]


def test_a_rehearsal_comes_to_a_report_which_a_second_one_adds_to(tmp_path):
    for part in ("short", "memory"):
        assert gpu_check.main(["--rehearse", "--parts", part, "--out", str(tmp_path / "found")]) == 0
    known = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert [part["state"] for part in known.values()] == ["done", "done"]
    assert {row["absent"] for row in known["memory"]["rows"]} == {"needs CUDA"}
    page = (tmp_path / "found.md").read_text()
    assert all(f"## {PARTS[name].title}" in page for name in known)
    assert "A rehearsal" in page


def test_what_a_part_found_survives_that_its_time_is_over_and_it_ends_with_all_that_it_started(options, monkeypatch):
    late, real, shown = [0.0], time.monotonic, []
    monkeypatch.setattr(gpu_check.time, "monotonic", lambda: real() + late[0])

    def show(outcome):
        shown.append(outcome)
        late[0] = 1000.0 * (len(outcome.rows) == 2)

    outcome = gpu_check.run(Part("tests.benchmarks.jobs:endless", "", 1), options, 100, show)
    assert (outcome.state, outcome.passed) == ("out of time", False)
    first, second = outcome.rows
    assert first == {"job": "quick", "value": 1}
    assert shown[-1].rows == outcome.rows
    wait_for(lambda: not psutil.pid_exists(second["process"]) or is_over(second["process"]), 20)


def is_over(process):
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def test_after_a_job_that_failed_or_died_the_others_go_on(options):
    outcome = gpu_check.run(Part("tests.benchmarks.jobs:failing", "", 1), options, 100, lambda _: None)
    *found, last = outcome.rows
    assert found == [
        {"job": "fine"},
        {"job": "failing", "failed": "no kernel"},
        {"job": "lacking", "absent": "needs CUDA"},
        {"job": "dying", "failed": outcome.rows[3]["failed"]},
    ]
    assert last["process"] > 0
    assert (outcome.state, outcome.passed) == ("done", False)


def test_a_part_that_does_not_begin_says_why(options):
    outcome = gpu_check.run(Part("tests.benchmarks.jobs:nothing", "", 1), options, 100, lambda _: None)
    assert (outcome.state, outcome.rows) == ("failed", ())
    assert "has no attribute 'nothing'" in outcome.reason


@pytest.mark.parametrize("jobs", [peers.autograd, peers.vmapped, peers.jaxed])
def test_every_side_gives_the_same_meta_gradient(jobs, options):
    if jobs is peers.jaxed:
        pytest.importorskip("jax", reason="needs JAX")
    known = [job for job in jobs(options) if job.what["side"] != "higher" or find_spec("higher")]  # of an extra
    rows = rows_of(known)
    assert rows
    assert [row for row in rows if not row["difference"] < 1e-4] == []


def test_what_tensor_cores_drop_is_allowed_in_single_products_and_no_more(options):
    """They take tf32's 11 bits of a number by dropping 13; of numbers of 8 bits, 16 would be dropped."""
    allowed = correctness.SINGLE["tf32"]
    rows = {bits: rows_of_products(TensorCores(bits), allowed, options) for bits in (13, 16)}
    assert all(row["passed"] for row in rows[13])
    assert not any(row["passed"] for row in rows[16])
    assert not any(row["passed"] for row in rows_of_products(TensorCores(13), correctness.SINGLE["tf32x3"], options))


def rows_of_products(products, allowed, options):
    return list(correctness.errors_of_products(products, allowed, options))


def test_every_network_is_checked_and_a_wrong_gradient_does_not_pass(options, monkeypatch):
    assert {job.what["network"] for job in correctness.whole(options)} == {"conv4", "conv4-stride", "article"}
    job = correctness.whole(options)[-1]
    assert all(row["passed"] for row in rows_of([job]))
    monkeypatch.setattr(correctness, "exact_gradient", lambda *arguments: 2 * exact_gradient(*arguments))
    (first, *_) = rows_of([job])
    assert first["difference"] == pytest.approx(0.5, rel=0.01)
    assert not first["passed"]


def test_meta_tests_kernels_and_a_ranks_loop_are_measured(options):
    assert all(row["tasks/s"] > 0 for row in rows_of(rates.meta_test(options)))
    first, *_ = rows_of(rates.kernels(options))
    assert first["launches"] > 10
    assert Path(f"{options.out}-trace.json.gz").stat().st_size > 1000
    (row,) = rows_of(training.loop(options))
    assert row["tasks/s"] == pytest.approx(4 * row["iterations/s"])


def test_a_training_run_is_measured_through_its_command(options):
    (row,) = rows_of(training.window(options))
    assert row["iterations"] == 12
    assert row["iterations/s"] > 0


SAID = """
import time
print("tests/test_x.py::test_a[1] PASSED [ 50%]", flush=True)
time.sleep({pause})
print("tests/test_x.py::test_b FAILED [100%]")
print("FAILED tests/test_x.py::test_b - AssertionError: 1")
raise SystemExit(1)
"""


def test_the_suites_tests_are_told_one_by_one():
    rows = correctness.run_tests([sys.executable, "-c", SAID.format(pause=600)])
    assert next(rows) == {"test": "test_a[1]", "passed": True}
    rows.close()
    assert list(correctness.run_tests([sys.executable, "-c", SAID.format(pause=0)]))[1:] == [
        {"test": "test_b", "passed": False},
        {"test": "test_b", "passed": False, "said": "AssertionError: 1"},
        {"test": "all of them", "passed": False, "said": "FAILED tests/test_x.py::test_b - AssertionError: 1"},
    ]


def test_what_there_is_not_is_refused():
    for wrong in (["--parts", "ceilings,floor"], ["--first", "--second"], []):
        with pytest.raises(SystemExit):
            gpu_check.main(wrong)

"""The check of a GPU, rehearsed without one: its parts, its report, and what becomes of parts that fail."""

import gzip
import json
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu_check
from benchmarks.gpu import (
    bare_loop,
    compiling,
    correctness,
    kernels,
    marked_tests,
    meta_test,
    runner,
    search,
    window,
    with_jax,
)
from benchmarks.gpu.floors import Work, layers, work_of_a_task
from benchmarks.gpu.goals import GOALS
from benchmarks.gpu.options import Options
from benchmarks.gpu.parts import PARTS, scale
from benchmarks.gpu.pool import in_processes
from benchmarks.gpu.roofline import shares
from benchmarks.gpu.runner import Outcome, Runner, _rows
from benchmarks.gpu.settings import SIZE, exact_gradient, module_of, tasks_of
from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.registry import TRAINED
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import MODELS, Article, Conv4, Conv4Stride
from fanfold.workflows.benchmark.peers.loop import prepare
from fanfold.workflows.benchmark.peers.settings import Setting

ROOT = Path(__file__).parents[2]


@pytest.fixture
def options(tmp_path):
    (tmp_path / "scratch").mkdir()
    return Options("cpu", True, tmp_path / "found", tmp_path / "scratch", ("a", "d"))


def ignore(_):
    pass


@pytest.mark.parametrize("model", [Conv4(width=4), Article(width=3, hidden=7)], ids=str)
@pytest.mark.parametrize("steps", [1, 3])
def test_operations_are_those_that_autograd_does(model, steps):
    setting = Setting(EpisodeShape(3, 2, 1), Maml(inner_steps=steps, differentiation="reverse"), model)
    module, tasks = module_of(setting), tasks_of(setting.shape, 1, torch.device("cpu"))
    compute = prepare(module, 0.1, steps)
    with FlopCounterMode(display=False) as counter:
        compute(tasks)
    # PyTorch differentiates the first convolution's backward pass by the images, too, though nobody asks for it.
    idle = steps * 2 * 6 * 28 * 28 * 9 * model.width
    assert of_a_task(setting, module).operations == counter.get_total_flops() - idle


def test_operations_with_strides_are_those_of_the_places_alone():
    setting = Setting(EpisodeShape(5, 1, 1), Maml(differentiation="reverse"), Conv4Stride())
    first, *others = (2 * 5 * places * 9 * 64 * inside for places, inside in ((196, 1), (49, 64), (16, 64), (4, 64)))
    head = 2 * 5 * 64 * 5
    assert of_a_task(setting).operations == 6 * first + 12 * (sum(others) + head)


def of_a_task(setting, module=None):
    module = module or module_of(setting)
    shapes = {name: value.shape for name, value in module.named_parameters()}
    support, queries = (setting.shape.ways * each for each in (setting.shape.shots, setting.shape.queries))
    return work_of_a_task(structure_of(module), shapes, SIZE, support, queries, setting.algorithm)


def test_a_step_by_mixed_differentiation_goes_forward_and_backward_once_more():
    setting = Setting(EpisodeShape(3, 2, 1), Maml(inner_steps=1, differentiation="reverse"), Conv4(width=4))
    mixed = replace(setting, algorithm=Maml(inner_steps=1, differentiation="mixed"))
    module = module_of(setting)
    shapes = {name: value.shape for name, value in module.named_parameters()}
    again = [layer.forward(6, shared=False) + layer.backward(6) for layer in layers(structure_of(module), shapes, SIZE)]
    assert of_a_task(mixed).operations - of_a_task(setting).operations == sum(work.operations for work in again)


def test_least_bytes_of_a_layer_are_its_tensors():
    module = module_of(Setting(EpisodeShape(3, 1, 1), Maml(), Conv4(width=4)))
    shapes = {name: value.shape for name, value in module.named_parameters()}
    first, second, *_ = layers(structure_of(module), shapes, SIZE)
    picture, pooled, weights = 14 * 14 * 4, 7 * 7 * 4, 4 * 4 * 9 + 2 * 4
    assert first.forward(5, shared=True).bytes == 4 * 5 * (28 * 28 + picture) + 5 * picture
    assert second.forward(5, shared=False).bytes == 4 * (5 * (picture + picture + pooled) + weights) + 5 * pooled


def test_the_share_of_the_floor_is_that_of_the_larger_one():
    ceilings = [
        {"ceiling": "matrix product, float32", "value": 50.0},
        {"ceiling": "matrix product, tf32", "value": 400.0},
        {"ceiling": "copy", "value": 4000.0},
    ]
    measured = [
        {"setting": "a", "tasks": 10, "side": f"fanfold fused {kind}", "ms": 1.0} for kind in ("float32", "tf32")
    ]
    by_operations, by_bytes = shares({"a": Work(1e9, 1e8)}, ceilings, measured)
    assert (by_operations["floor"], by_bytes["floor"]) == ("bytes", "bytes")
    assert by_bytes["of the floor %"] == pytest.approx(25)
    (by_operations,) = shares({"a": Work(2e10, 1e8)}, ceilings, measured[:1])
    assert (by_operations["floor"], by_operations["of the floor %"]) == ("operations", pytest.approx(400))
    assert not shares({"a": Work(1e9, 1e8)}, [], measured)


def test_aims_are_judged_by_what_was_found():
    rows = [
        {"setting": "a", "tasks": 32, "side": "fanfold fused tf32, captured", "ms": 0.3},
        {"setting": "a", "tasks": 32, "side": "fanfold plain, captured", "ms": 3.0},
        {"setting": "a", "tasks": 512, "side": "fanfold fused tf32, captured", "failed": "out of memory"},
    ]
    peers = {
        "autograd": [{"setting": "a", "tasks": 32, "side": "higher", "ms": 120.0}],
        "vmap": [{"setting": "a", "tasks": 32, "side": "vmap conv2d tf32", "ms": 2.0}],
        "jax": [{"setting": "a", "tasks": 32, "side": "jax patches tf32", "ms": 1.2}],
    }
    values = [goal.value({"fanfold": rows, **peers}) for goal in GOALS]
    assert values[:4] == [0.3, 400.0, 4.0, None]
    assert [goal.met(value) for goal, value in zip(GOALS, values[:3], strict=False)] == [True, False, True]


def test_a_rehearsal_comes_to_a_report(tmp_path):
    parts = ["fanfold", "memory", "ceilings", "fanfold-others"]
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--quick", "--device", "cpu"]
    command += ["--out", str(tmp_path / "found"), "--parts", ",".join(parts)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    states = {name: part["state"] for name, part in found["parts"].items()}
    assert states == dict(zip([*parts, "roofline"], ["done", "absent", "done", "done", "done"], strict=True))
    assert found["parts"]["memory"]["reason"] == "needs CUDA"
    rows = [row for part in ("fanfold", "fanfold-others") for row in found["parts"][part]["rows"]]
    assert all(row["difference"] < 1e-4 for row in rows)
    assert list(found["planned"]) == parts
    assert found["seconds"] >= sum(part["seconds"] for part in found["parts"].values()) > 0
    assert {row["setting"] for row in found["parts"]["roofline"]["rows"]} == {"a", "d"}
    page = (tmp_path / "found.md").read_text()
    assert all(f"## {PARTS[name].title}" in page for name in parts)
    assert "A rehearsal" in page
    planned = sum(PARTS[name].seconds for name in parts)
    assert f"| in all | {planned:.3g} | {found['seconds']:.3g} |" in page
    assert {path.name for path in tmp_path.iterdir()} == {"found.md", "found.json", "found-roofline.png"}


@pytest.mark.parametrize("part", ["autograd", "vmap"])
def test_every_side_gives_the_same_meta_gradient(part, options):
    rows = list(import_module(f"benchmarks.gpu.{PARTS[part].module}").measure(options))
    assert {row["setting"] for row in rows} == {"a", "d"}
    there = [row for row in rows if row["side"] != "higher" or find_spec("higher")]  # it comes with an extra
    assert [row for row in there if not row.get("difference", 1) < 1e-4] == []


def test_jax_gives_the_same_meta_gradient(options):
    pytest.importorskip("jax", reason="needs JAX")
    assert [row for row in with_jax.measure(options) if not row.get("difference", 1) < 1e-4] == []


def test_every_algorithm_is_checked(options):
    rows = list(correctness.measure(options))
    assert [row for row in rows if not row.get("passed")] == []
    assert {type(algorithm) for algorithm in correctness.OTHERS.values()} == set(TRAINED.values())
    assert {row["network"] for row in rows} == set(MODELS) - {"resnet12"}  # which is no stack


def test_a_wrong_gradient_does_not_pass(options, monkeypatch):
    monkeypatch.setattr(correctness, "exact_gradient", lambda *arguments: 2 * exact_gradient(*arguments))
    first = next(correctness.measure(options))
    assert first["difference"] == pytest.approx(0.5, rel=0.01)
    assert not first["passed"]


def test_meta_tests_and_kernels_are_measured(options):
    assert all(row["tasks/s"] > 0 for row in meta_test.measure(options))
    (row,) = kernels.measure(options)
    assert row["launches"] > 10
    assert "conv" in options.beside("kernels.txt").read_text()
    assert gzip.decompress(options.beside("trace.json.gz").read_bytes()).lstrip().startswith(b"{")


def test_a_training_run_is_measured_through_its_command(options, monkeypatch):
    monkeypatch.chdir(ROOT)
    row, _ = window.measure(options)
    assert row["iterations"] == 12
    assert row["iterations/s"] > 0
    assert 0 < row["outside computation %"] < 100


def test_the_loop_of_a_training_run_is_measured_without_a_cluster(options, monkeypatch):
    monkeypatch.chdir(ROOT)
    (row,) = bare_loop.measure(options)
    assert row["tasks/s"] == pytest.approx(4 * row["iterations/s"])


def test_all_parts_fit_into_the_time_that_they_have_by_default():
    assert sum(part.seconds for part in PARTS.values()) <= 60 * 7.9 - gpu_check.RESERVE
    assert scale(["memory", "ceilings"], 60) == 4


def test_a_part_that_fails_says_why_in_a_line(options):
    (options.scratch / "store.zarr").mkdir()
    with Runner(options) as parts:
        outcome = parts.run("window", time.monotonic() + 60, ignore)
    assert (outcome.state, outcome.passed) == ("failed", False)
    assert "store.zarr" in outcome.reason
    assert "\n" not in outcome.reason


def test_parts_share_a_process_and_one_that_dies_ends_no_other(options):
    with Runner(options) as parts:

        def run(name, show=ignore):
            return parts.run(name, time.monotonic() + 60, show)

        assert run("ceilings").state == "done"
        (first,) = processes_of_parts()
        assert run("memory").state == "absent"
        assert processes_of_parts() == [first]
        outcome = run("fanfold", lambda _: first.kill())
        assert (outcome.state, outcome.passed) == ("failed", False)
        assert outcome.rows
        assert run("meta-test").state == "done"
        (second,) = processes_of_parts()
        assert second != first
    assert not second.is_running()


def processes_of_parts():
    known = psutil.Process().children()
    return [process for process in known if "benchmarks.gpu.runner" in command_of(process)]


def test_a_part_without_time_ends_by_itself_and_says_for_what_it_had_none(options):
    (options.scratch / "ceilings.jsonl").touch()
    late = replace(options, ends=time.monotonic())
    assert runner._compute("ceilings", late) == (
        "out of time",
        "no time was left for ceiling matrix product, float32, unit TFLOP/s",
    )


def test_jobs_give_their_rows_in_order_from_several_processes(options):
    jobs = ["protonet", "maml, first order"]
    here, there = (list(in_processes(correctness._checks, jobs, options, count)) for count in (1, 2))
    assert [row["algorithm"] for row in there] == jobs
    # Another number of threads rounds otherwise.
    assert [row | {"difference": 0} for row in there] == [row | {"difference": 0} for row in here]


def test_all_that_is_measured_is_compiled_before(options):
    rows = list(compiling.measure(options))
    assert [row["what"] for row in rows] == ["a", "d", "meta-test"]
    assert all(row["seconds"] > 0 for row in rows)


def test_marked_tests_are_a_row_and_those_that_failed():
    good = (0, "..\n2 passed in 3.00s\n")
    bad = (1, "FAILED tests/test_x.py::test_y - AssertionError: 1\n1 failed, 2 passed in 3.00s\n")
    all_of = {"test": "all marked gpu", "passed": True, "said": "2 passed in 3.00s; 2 passed in 3.00s"}
    assert list(marked_tests.rows_of([good, good])) == [all_of]
    assert list(marked_tests.rows_of([good, bad])) == [
        {"test": "tests/test_x.py::test_y", "passed": False, "said": "AssertionError: 1"},
        all_of | {"passed": False, "said": "2 passed in 3.00s; 1 failed, 2 passed in 3.00s"},
    ]


def test_a_training_run_ends_in_time_to_be_tested(options):
    (options.scratch / "store.zarr").mkdir()
    full = replace(options, quick=False, ends=time.monotonic() + window.AROUND + 90)
    flags = window.training_flags(full)
    assert float(flags[flags.index("--meta.minutes") + 1]) == pytest.approx(1.5, abs=0.02)


def test_a_measurement_that_fails_says_why_in_its_row(options):
    (options.scratch / "store.zarr").mkdir()
    (row,) = search.measure(options)
    assert "store.zarr" in row["failed"]
    assert not Outcome("done", 1.0, (row,)).passed


def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started(options):
    with Runner(options) as parts:
        outcome = parts.run("window", time.monotonic() + 3, ignore)
    assert (outcome.state, outcome.passed) == ("out of time", False)
    assert outcome.seconds < 15
    deadline = time.monotonic() + 10
    while left := [process for process in psutil.process_iter() if str(options.scratch) in command_of(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def command_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_rows_are_read_while_they_are_written(tmp_path):
    path = tmp_path / "rows"
    path.write_text('{"setting": "a"}\n{"setting": "b"}\n{"sett')
    assert _rows(path) == ({"setting": "a"}, {"setting": "b"})


def test_what_checks_numbers_and_had_no_time_fails_the_whole(tmp_path, capsys):
    flags = ["--quick", "--device", "cpu", "--out", str(tmp_path / "found"), "--minutes", "0.1"]
    assert gpu_check.main([*flags, "--parts", "correctness"]) == 1
    assert gpu_check.main([*flags, "--parts", "ceilings"]) == 0
    assert "no time was left" in capsys.readouterr().out


def test_a_check_that_cannot_be_done_says_so(tmp_path):
    with pytest.raises(FanfoldError, match="--quick"):
        gpu_check.main(["--device", "cpu", "--out", str(tmp_path / "found")])
    with pytest.raises(SystemExit):
        gpu_check.main(["--parts", "ceilings,floor"])
    with pytest.raises(SystemExit):
        gpu_check.main(["--settings", "a,e"])

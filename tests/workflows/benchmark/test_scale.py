"""The benchmark's suite `scale`: what it simulates, counts, fits and projects."""

import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import worker
from fanfold.pipeline.executors.choose import open_executor
from fanfold.pipeline.executors.graph import window_graph
from fanfold.pipeline.executors.segments import pack, segment_size
from fanfold.pipeline.fold import ChunkSum
from fanfold.pipeline.optimizer import initial_state
from fanfold.workflows.benchmark import __main__ as benchmark
from fanfold.workflows.benchmark.scale import suite as scale
from fanfold.workflows.benchmark.scale.costs import Setup, all_work, busiest_work, moved_to_folds
from fanfold.workflows.benchmark.scale.model import TERMS, amount, fit
from fanfold.workflows.benchmark.scale.projection import Gpu, batch_for, project, setup_of
from fanfold.workflows.benchmark.scale.report import bends
from fanfold.workflows.benchmark.scale.simulated import sleeping_recipe, write_noise
from fanfold.workflows.benchmark.scale.simulation import open_simulation
from tests.pipeline.reference import alone, assert_same

GPU = Gpu(small=4e-4, rate=1e5)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "noise.zarr"
    write_noise(path)
    return path


def test_both_reductions_are_measured_by_the_true_pipeline(tmp_path, capsys, monkeypatch, noise):
    seen = {}

    @contextmanager
    def watched(reduction, patience):
        with open_simulation(reduction, patience) as simulation:
            yield simulation
            recipe = sleeping_recipe(noise, 5, 0, 3, 1_001)
            with open_executor(simulation.cluster, recipe, "0123abcd", lambda _: None) as executor:
                window = executor.window(worker.initialize(recipe), 3)
            # A lambda travels by value; a function of this module would bring along what the module imports.
            modules = simulation.cluster.client.run(lambda: set(sys.modules))
            seen[reduction] = window, set.union(*modules.values())

    monkeypatch.setattr(scale, "open_simulation", watched)
    small = ["--workers", "2", "1", "--sleeps", "2", "--seconds", "0.1", "--floats", "1001", "--chunks", "5"]
    benchmark.main(["--suite", "scale", *small, "--out", f"{tmp_path}/out"])

    expected = alone(sleeping_recipe(noise, 5, 0, 3, 1_001), 3)
    for window, modules in seen.values():
        assert_same(window, expected)
        assert {"fanfold.pipeline.fold", "fanfold.pipeline.worker"} <= modules

    result = json.loads((tmp_path / "out.json").read_text())
    for reduction, found in result["reductions"].items():
        assert found["stopped"] is None
        assert [(point["kind"], point["workers"], point["chunks"]) for point in found["points"]] == [
            *(("weak", 1, 1), ("strong", 1, 5), ("short", 1, 1)),
            *(("weak", 2, 2), ("strong", 2, 5), ("short", 2, 2)),
        ]
        for point, predicted in zip(found["points"], found["predicted"], strict=True):
            measured = point["measured"]
            assert measured["seconds"] > 0.002 * -(-point["chunks"] // point["workers"])
            assert 0 < measured["efficiency"] < 1
            assert predicted > 0
        for name in ("scheduler", "workers"):  # the system counts in steps of 10 ms, more than some points take
            assert sum(point["measured"][name] for point in found["points"]) > 0
        assert [row["gpus"] for row in found["paper"]["pays"]] == [8, 64, 1_000]
        assert f"## {reduction.capitalize()}" in (tmp_path / "out.md").read_text()
    assert all((tmp_path / f"out-{name}.png").stat().st_size > 10_000 for name in ("efficiency", "cost", "paper"))
    assert capsys.readouterr().out.count("\nstrong ") == 4


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_the_fit_finds_what_costs_were_made_of(data):
    reduction = data.draw(st.sampled_from(["graph", "collective"]))
    terms = TERMS[reduction]["seconds"]
    units = {"iteration": 1e-2, "scheduled": 1e-3, "turns": 1e-3, "doublings": 1e-3, "messages": 1e-4, "bytes": 1e-9}
    share = st.sampled_from([0.0, 1.0]) | st.floats(0.1, 10)
    truth = {term: units[term] * data.draw(share) for term in terms}
    works = [
        all_work(setup)
        for workers in (1, 2, 4, 8, 16, 32, 64)
        for _, setup in scale.setups(reduction, workers, [2.0], 32, 100_000)
    ]
    costs = [sum(value * amount(work, term) for term, value in truth.items()) for work in works]
    found = fit(terms, works, costs, [cost + 0.002 for cost in costs])
    assert found.coefficients == pytest.approx(truth, rel=1e-6, abs=1e-15)
    assert found.worst < 1e-9
    assert [found(work) for work in works] == pytest.approx(costs)


def test_a_fit_tells_how_bad_it_is():
    tasks, costs = [1, 2, 3, 4], [1, 2, 3, 8]
    works = [replace(all_work(Setup("graph", 1, 1, 0, 1, 10)), scheduled=scheduled) for scheduled in tasks]
    found = fit(["scheduled"], works, costs, [1, 1, 1, 1])
    slope = (1 + 4 + 9 + 32) / 30
    assert found.coefficients == {"scheduled": pytest.approx(slope)}
    assert found.worst == pytest.approx(8 - 4 * slope)
    errors = slope * np.array(tasks) - costs
    assert found.r2 == pytest.approx(1 - (errors**2).sum() / (4 * np.var(costs)))


@pytest.mark.parametrize(("workers", "chunks"), [(1, 1), (3, 8), (9, 9), (64, 64), (2, 70)])
def test_tasks_are_those_of_the_true_graph(workers, chunks, noise):
    setup = Setup("graph", workers, chunks, 0, 10, 10)
    recipe = sleeping_recipe(noise, chunks, 0, 1, 10)
    graph = window_graph("counted", recipe, initial_state(np.zeros(10, np.float32)), 1)
    assert all_work(setup).scheduled == len(graph.dask.to_dict()) - 1  # but for the first state


def test_bytes_are_those_of_the_true_vectors():
    floats, window = 1_000, 10
    ends = 4 * 3 * 4 * floats / window
    assert all_work(Setup("graph", 1, 20, 0, floats, window)).bytes == ends
    graph = Setup("graph", 4, 8, 0, floats, window)
    assert all_work(graph).bytes == ends + 4 * floats * (3 * 3 + 6)  # three states of three vectors, six chunks' sums
    assert busiest_work(graph).bytes == 4 * floats * 9
    assert moved_to_folds([0] * 16 + [1] * 16) == 2
    rows = pack([ChunkSum(np.zeros(floats, np.float32), 0, 0, 1)], 4, segment_size(floats, 4), torch.device("cpu"))
    gang = Setup("collective", 4, 4, 0, floats, window)
    all_to_all, all_gather, gathered = rows[1:].nbytes, 3 * 250 * 4, 3 * 3 * 250 * 4 / window
    assert busiest_work(gang).bytes == pytest.approx(all_to_all + all_gather + gathered)
    assert all_work(gang).bytes == pytest.approx(4 * busiest_work(gang).bytes + ends / 2)
    assert busiest_work(gang).messages == 6
    assert all_work(gang).messages == 24


def test_projections_are_of_one_gpu_alone():
    assert GPU.seconds(32) == pytest.approx(4e-4)
    assert Gpu(small=1e-5, rate=1e5).launch == 0
    setup = setup_of("graph", 8, 4_096, GPU, 10, 10)
    assert (setup.chunks, setup.seconds) == (8, GPU.seconds(512))
    free = project(lambda setup: setup.computing, replace(setup, workers=1, chunks=1, seconds=GPU.seconds(4_096)), GPU)
    assert free.efficiency == pytest.approx(1)
    slow = project(lambda setup: setup.computing + 1, setup, GPU)
    assert slow.seconds == 1 + GPU.seconds(512)
    assert slow.tasks_per_second == 4_096 / slow.seconds
    assert slow.efficiency == pytest.approx(GPU.seconds(4_096) / (8 * slow.seconds))
    assert setup_of("graph", 64, 32, GPU, 10, 10).chunks == 32


@settings(deadline=None)
@given(
    gpus=st.integers(2, 1_000),
    efficiency=st.floats(0.1, 0.9),
    overhead=st.floats(1e-4, 1),
    slope=st.just(0.0) | st.floats(1e-12, 1e-6),
)
def test_the_smallest_meta_batch_that_pays(gpus, efficiency, overhead, slope):
    def cost(setup):
        return setup.computing + overhead + slope * setup.tasks

    def reached(batch):
        return project(cost, setup_of("graph", gpus, batch, GPU, 10, 10), GPU).efficiency

    batch = batch_for(efficiency, cost, "graph", gpus, GPU, 10, 10)
    if batch is None:
        assert reached(gpus * 10**7) < efficiency
    else:
        assert batch % gpus == 0
        assert reached(batch) >= efficiency
        assert batch == gpus or reached(batch - gpus) < efficiency


def test_where_it_bends_is_said_by_sleep():
    points = [
        {"kind": "weak", "seconds": seconds, "workers": workers, "measured": {"efficiency": efficiency}}
        for seconds, efficiencies in ((0.2, (0.9, 0.85, 0.7)), (0.002, (0.3, 0.9, 0.1)))
        for workers, efficiency in zip((1, 8, 64), efficiencies, strict=True)
    ]
    assert bends(points, 0.8) == {0.002: None, 0.2: 8}
    assert bends(points, 0.5) == {0.002: None, 0.2: 64}


def test_it_stops_before_memory_does():
    def simulation(own):
        return SimpleNamespace(memory=lambda: (2**30, own), cluster=SimpleNamespace(workers=4))

    scale.check_memory(simulation(2**20), 64, 2 * 2**30)
    with pytest.raises(RunError, match=r"about 1\.88 GiB; 1\.5 GiB are allowed"):
        scale.check_memory(simulation(15 * 2**20), 64, 1.5 * 2**30)


def test_what_can_not_be_measured_is_refused_before_anything_starts():
    for wrong, message in (
        (["--reductions", "ring"], "--reductions can't be ring: there are graph, collective"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--out", "nowhere/scale"], "There is no folder nowhere for --out"),
        (["--task.ways", "5"], "Unknown flag --task.ways"),
    ):
        with pytest.raises(FanfoldError, match=message):
            benchmark.main(["--suite", "scale", *wrong])

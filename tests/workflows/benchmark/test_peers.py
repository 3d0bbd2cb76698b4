"""The benchmark's suite `peers`: what it compares, what it refuses, what it reports."""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from threading import Thread

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from fanfold.data.datasets import Folder, prepare
from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import worker
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import Conv4
from fanfold.workflows.benchmark import __main__ as benchmark
from fanfold.workflows.benchmark.peers import PEERS, Library, loop
from fanfold.workflows.benchmark.peers import suite as peers
from fanfold.workflows.benchmark.peers.agreement import (
    CHECKED,
    check_agreement,
    differences,
    fanfold_gradient,
    relative_difference,
)
from fanfold.workflows.benchmark.peers.process import Peer, gradient, serve
from fanfold.workflows.benchmark.peers.report import columns, summarize
from fanfold.workflows.benchmark.peers.settings import Setting


@dataclass(frozen=True)
class Here:
    """A peer without a process."""

    name: str
    prepare: Callable

    def gradient(self, recipe, tasks, dtype):
        return gradient(self.prepare, recipe, tasks, dtype)


@pytest.fixture(scope="session")
def own(pictures, tmp_path_factory):
    """The flags of a data set of one's own."""
    store = tmp_path_factory.mktemp("stores") / "own.zarr"
    prepare(Folder(source=str(pictures), store=str(store), size=16), progress=False)
    return ["--dataset.store", str(store), "--dataset.split", "alphabets"]


@pytest.fixture(scope="session")
def recipe(own):
    """Two inner steps of a tiny network."""
    setting = Setting(EpisodeShape(3, 1, 2), Maml(inner_lr=0.4, inner_steps=2), Conv4(width=4))
    return worker.check_recipe(setting.recipe(Folder(store=own[1], split="alphabets"), 3, Meta(batch=4, chunk=2)))


def prepare_first_order(module, inner_lr, inner_steps):
    """A peer that leaves second derivatives out."""
    start = dict(module.named_parameters())

    def compute(tasks):
        total = 0
        for support, query in zip(tasks.support, tasks.query, strict=True):
            theta = start
            for _ in range(inner_steps):
                loss = cross_entropy(functional_call(module, theta, (support,)), tasks.support_labels)
                found = torch.autograd.grad(loss, list(theta.values()))
                theta = {name: theta[name] - inner_lr * part for name, part in zip(theta, found, strict=True)}
            loss = cross_entropy(functional_call(module, theta, (query,)), tasks.query_labels)
            total += torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(start.values()))])
        return total

    return compute


@pytest.mark.parametrize("name", PEERS)
def test_a_peers_gradient_is_fanfolds(name, recipe):
    package = {"parallel-metalearn": "metalearn", "loop": "torch"}.get(name, name)
    pytest.importorskip(package, reason=f"the peer {name} is not installed", exc_type=ImportError)
    peer = Here(name, importlib.import_module(PEERS[name].module).prepare)
    expected = fanfold_gradient(recipe, CHECKED, torch.float64)
    assert relative_difference(peer.gradient(recipe, CHECKED, torch.float64), expected) < 1e-8
    assert relative_difference(peer.gradient(recipe, CHECKED, torch.float32), expected) < 1e-3
    assert relative_difference(fanfold_gradient(recipe, CHECKED, torch.float32), expected) < 1e-3
    assert relative_difference(expected[1:], expected) == float("inf")


def test_a_wrong_peer_is_refused(recipe):
    sides = [Here("loop", loop.prepare), Here("hasty", prepare_first_order)]
    found = differences(recipe, sides)
    assert found["float64"]["loop"] == 0
    check_agreement({name: value for name, value in found["float64"].items() if name != "hasty"})
    with pytest.raises(RunError, match=r"Gradients differ.* hasty by \d") as refused:
        check_agreement(found["float64"])
    assert "fanfold" not in str(refused.value)
    with pytest.raises(RunError):
        check_agreement({"loop": 0.0, "broken": float("nan")})


def test_a_peer_that_fails_is_told_in_a_line(recipe):
    here, there = Pipe()
    serving = Thread(target=serve, args=(there, Library("tests.workflows.failing_peer", "torch")))
    serving.start()
    peer = Peer("failing", *here.recv(), here)
    with pytest.raises(RunError, match="The peer failing fails: there is no such operator"):
        peer.gradient(recipe, CHECKED, torch.float64)
    here.close()
    serving.join()
    with pytest.raises(RunError, match="The process of the peer failing is gone"):
        peer.gradient(recipe, CHECKED, torch.float64)


def test_all_sides_are_measured_and_reported(own, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PEERS, "gone", Library("fanfold.workflows.benchmark.peers.gone", "torch"))
    measured = ["--settings", "a", "--peers", "gone", "--rounds", "1", "--seconds", "0.2", "--out", f"{tmp_path}/out"]
    small = ["--meta.batch", "4", "--meta.chunk", "2", "--cluster.workers", "1", "--cluster.dashboard", ":0"]
    benchmark.main(["--suite", "peers", *own, *measured, *small])
    printed = capsys.readouterr().out
    assert "gone is absent: No module named 'fanfold.workflows.benchmark.peers.gone'" in printed
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result["settings"]) == ["a"]
    assert list(result["peers"]) == ["loop"]
    found = result["settings"]["a"]
    assert [list(rates) for rates in found["rounds"]] == [["fanfold 1", "loop"]]
    assert all(rate > 0 for rates in found["rounds"] for rate in rates.values())
    assert found["differences"]["float64"]["fanfold"] <= 1e-8
    assert (found["fastest_peer"], found["ratios"]["loop"]) == ("loop", 1)
    assert f"{found['ratios']['fanfold 1']:.3f}" in printed
    report = (tmp_path / "out.md").read_text()
    assert f"**{found['tasks_per_second']['loop']:.1f}** | {found['tasks_per_second']['fanfold 1']:.1f} | " in report
    assert "Absent: gone (No module named 'fanfold.workflows.benchmark.peers.gone')." in report


def test_ratios_are_medians_over_rounds_to_the_peer_with_the_highest_median():
    rounds = [{"own": own, "slow": slow, "fast": fast} for own, slow, fast in ((6, 1, 2), (9, 9, 3), (8, 1, 4))]
    found = summarize(rounds, ["slow", "fast"])
    assert found["fastest_peer"] == "fast"
    assert found["tasks_per_second"] == {"own": 8, "slow": 1, "fast": 3}
    assert found["ratios"] == {"own": 3, "slow": 0.5, "fast": 1}


def test_columns_are_as_wide_as_what_stands_in_them():
    heads, cells = columns("round", ["loop", "a longer name"]), columns("1", ["loop", "a longer name"], ["1.0", "2.0"])
    assert len(heads) == len(cells)
    assert cells.split() == ["1", "1.0", "2.0"]


def test_what_can_not_be_measured_is_refused_before_anything_starts(own):
    for wrong, message in (
        (["--rounds", "0"], "must be above 0"),
        (["--settings", "a", "z"], "--settings can't be z: there are a, b, c, d"),
        (["--peers", "learn2learn"], "--peers can't be learn2learn: there are loop, higher"),
        (["--cluster.kind", "tcp://127.0.0.1:1"], "give --cluster.kind cpu"),
        (["--out", "nowhere/peers"], "There is no folder nowhere for --out"),
        (["--task.ways", "5"], "Unknown flag --task.ways"),
    ):
        with pytest.raises(FanfoldError, match=message):
            benchmark.main(["--suite", "peers", *own, *wrong])
    with pytest.raises(FanfoldError, match="No suite 'nonsense': there are pipeline, peers"):
        benchmark.main(["--suite", "nonsense"])


def test_workers_double_up_to_as_many_as_there_are_and_chunks_go_round(recipe):
    assert [peers.worker_counts(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
    assert [peers.small_enough(recipe, workers).meta.chunk for workers in (1, 2, 3, 8)] == [2, 2, 1, 1]

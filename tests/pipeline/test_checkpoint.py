import hashlib
import json
import pickle
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load, save
from safetensors.torch import load_file
from torch import nn

from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import (
    FORMAT,
    Checkpoint,
    earlier,
    load_checkpoint,
    newest_checkpoint,
    parameters_sha256,
    save_checkpoint,
)
from fanfold.pipeline.events import Noticed
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.training import named, resume
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.matching import Matching
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.models import Conv4
from fanfold.tasks.network import with_statistics
from tests.tasks.every_algorithm import EVERY, each

FACTS = {"iteration": 7, "best_iteration": 5, "best_accuracy": 0.75, "validated": 5, "seconds": 1.5}
FACTS |= {"fingerprint": "0123abcd", "note": None, "format": 2}


def make_checkpoint(size=1000, seed=0):
    random = np.random.default_rng(seed)
    parameters, mean, square, average, best = (random.normal(size=size).astype(np.float32) for _ in range(5))
    state = State(7, parameters, mean, square**2, average)
    layout = {".one.weight": (size // 4, 3), ".one.bias": (1,), ":rate": (size - 1 - size // 4 * 3,)}
    statistics = {"one.running_mean": random.normal(size=3).astype(np.float32), "one.running_var": np.ones(3, "f4")}
    facts = {"validated": 5, "seconds": 1.5, "note": "stands in", "layout": layout, "preprocessing": {"size": 28}}
    return Checkpoint(state, best, "0123abcd", 5, 0.75, statistics=statistics, **facts)


def parts(path):
    """The tensors of a checkpoint's file, and its facts."""
    content = path.read_bytes()
    with safe_open(path, framework="numpy") as file:
        facts = json.loads(file.metadata()["fanfold"])
    return load(content), facts


def assert_equal(one, other):
    plain = [replace(each, state=None, best=None, statistics=None) for each in (one, other)]
    assert plain[0] == plain[1]
    assert list((one.layout or {}).items()) == list((other.layout or {}).items())
    assert {name: value.tobytes() for name, value in one.statistics.items()} == {
        name: value.tobytes() for name, value in other.statistics.items()
    }
    assert one.best.tobytes() == other.best.tobytes()
    assert one.state.iteration == other.state.iteration
    for name in ("parameters", "mean", "square", "average"):
        assert getattr(one.state, name).tobytes() == getattr(other.state, name).tobytes()


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, make_checkpoint())
    save_checkpoint(path, make_checkpoint(seed=1))
    assert_equal(load_checkpoint(path), make_checkpoint(seed=1))
    assert_equal(load_checkpoint(earlier(path)), make_checkpoint())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.safetensors", "previous.safetensors"]


def test_a_checkpoint_is_replaced_as_a_whole(tmp_path):
    """Whoever has the old file open reads all of it: the new one was renamed into place, not written over it."""
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, make_checkpoint())
    old = path.read_bytes()
    with path.open("rb") as still_open:
        save_checkpoint(path, make_checkpoint(seed=1))
        assert still_open.read() == old


def test_the_hash_is_over_little_endian_float32():
    numbers = np.array([1.0, -2.5], dtype=np.float32)
    assert parameters_sha256(numbers) == hashlib.sha256(bytes.fromhex("0000803f000020c0")).hexdigest()
    assert parameters_sha256(numbers.astype(">f4")) == parameters_sha256(numbers)


@pytest.mark.parametrize("damage", ["cut", "garbage", "pickle", "empty", "other"])
def test_a_damaged_checkpoint_is_said_and_nothing_is_executed(tmp_path, damage):
    path, trap = tmp_path / "last.safetensors", tmp_path / "executed"
    save_checkpoint(path, make_checkpoint())
    whole = path.read_bytes()

    class Trap:
        def __reduce__(self):
            return (trap.touch, ())

    content = {
        "cut": whole[: len(whole) // 2],
        "garbage": b"\xff" * 100,
        "pickle": pickle.dumps(Trap()),
        "empty": b"",
        "other": whole.replace(b"fanfold", b"another"),
    }[damage]
    path.write_bytes(content)
    with pytest.raises(FanfoldError, match="is damaged"):
        load_checkpoint(path)
    assert not trap.exists()


def test_a_checkpoint_of_an_older_version_is_refused_with_one_line(tmp_path):
    """As it was written before there was an average: it has neither the vector nor this version's number."""
    path, random = tmp_path / "last.safetensors", np.random.default_rng(0)
    vectors = {name: random.normal(size=5).astype(np.float32) for name in ("parameters", "mean", "square", "best")}
    facts = {"format": 1, "iteration": 7, "best_iteration": 5, "best_accuracy": 0.75, "validated": 5, "seconds": 1.5}
    facts |= {"fingerprint": "0123abcd", "note": None}
    path.write_bytes(save(vectors, metadata={"fanfold": json.dumps(facts)}))
    with pytest.raises(FanfoldError, match="was written by another version of Fanfold: train again") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, make_checkpoint())
    content = path.read_bytes()
    number = f'\\"format\\": {FORMAT}'.encode()
    assert content.count(number) == 1
    path.write_bytes(content.replace(number, number[:-1] + b"9"))
    with pytest.raises(FanfoldError, match="another version of Fanfold"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_said(tmp_path):
    with pytest.raises(FanfoldError, match="No checkpoint at"):
        load_checkpoint(tmp_path / "nowhere")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """A limit on the size of files stands in for the disk's end: the write fails half-way, as it would there."""
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, make_checkpoint())
    script = f"""
        import resource, signal
        from fanfold.data.errors import FanfoldError
        from pathlib import Path
        from fanfold.pipeline.checkpoint import save_checkpoint
        from tests.pipeline.test_checkpoint import make_checkpoint
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            save_checkpoint(Path({str(path)!r}), make_checkpoint(size=100_000, seed=1))
        except FanfoldError as error:
            print(error)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "can't be written (File too large)" in ran.stdout
    assert len(ran.stdout.splitlines()) == 1
    assert_equal(load_checkpoint(path), make_checkpoint())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.safetensors", "previous.safetensors"]


def write_flat(path, facts=None, **tensors):
    """A file of format 2, as earlier versions wrote it, with other facts and tensors, or without those given none."""
    random = np.random.default_rng(0)
    vectors = {
        name: random.random(5).astype(np.float32) for name in ("parameters", "mean", "square", "average", "best")
    }
    vectors = {name: value for name, value in {**vectors, **tensors}.items() if value is not None}
    facts = {name: value for name, value in {**FACTS, **(facts or {})}.items() if value != "absent"}
    path.write_bytes(save(vectors, metadata={"fanfold": json.dumps(facts)}))
    return vectors


def test_a_checkpoint_of_the_earlier_format_is_read(tmp_path):
    vectors = write_flat(tmp_path / "last.safetensors")
    found = load_checkpoint(tmp_path / "last.safetensors")
    assert found.layout is None
    assert (found.state.iteration, found.best_iteration, found.best_accuracy) == (7, 5, 0.75)
    assert found.best.tobytes() == vectors["best"].tobytes()
    for name in ("parameters", "mean", "square", "average"):
        assert getattr(found.state, name).tobytes() == vectors[name].tobytes()


@pytest.mark.parametrize(
    ("facts", "tensors", "message"),
    [
        *(({name: "absent"}, {}, f"its fact {name} is missing") for name in FACTS),
        ({"iteration": -1}, {}, "its fact iteration is out of range"),
        ({"iteration": 1.5}, {}, "its fact iteration is not of type int"),
        ({"iteration": float("nan")}, {}, "its fact iteration is not of type int"),
        ({"iteration": True}, {}, "its fact iteration is not of type int"),
        ({"best_iteration": 8}, {}, "its fact best_iteration is out of range"),
        ({"best_accuracy": float("nan")}, {}, "its fact best_accuracy is out of range"),
        ({"best_accuracy": 10**400}, {}, "int too large"),
        ({"seconds": "1"}, {}, "its fact seconds is not of type float"),
        ({"fingerprint": 7}, {}, "its fact fingerprint is not of type str"),
        ({"note": []}, {}, "its fact note is not of type str"),
        ({}, {"best": np.full(5, np.nan, "f4")}, "the tensor best is not finite"),
        ({}, {"best": np.ones(4, "f4")}, "the tensors of best differ in shape from those of parameters"),
        ({}, {"mean": np.ones((5, 1), "f4")}, "the tensors of mean differ in shape from those of parameters"),
        ({}, {"average": np.ones(5)}, "the tensor average is of type float64, not float32"),
        ({}, {"average": np.ones(5, "i4")}, "the tensor average is of type int32, not float32"),
        ({}, {"square": -np.ones(5, "f4")}, "the optimizer's second moment is below zero"),
        ({}, {"average": None}, "the tensor average is missing"),
        ({}, {"stranger": np.ones(5, "f4")}, "the tensor stranger is none that should be there"),
    ],
)
def test_every_fact_and_tensor_is_checked(tmp_path, facts, tensors, message):
    path = tmp_path / "last.safetensors"
    write_flat(path, facts, **tensors)
    with pytest.raises(FanfoldError) as caught:
        load_checkpoint(path)
    assert f"{path} is damaged ({message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_flipped_bit_is_refused_and_the_checkpoint_before_is_used(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, make_checkpoint(size=20))
    save_checkpoint(path, make_checkpoint(size=20, seed=1))
    whole = path.read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(FanfoldError, match=r"is damaged|another version") as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
    found, note = newest_checkpoint(path)
    assert_equal(found, make_checkpoint(size=20))
    assert (
        note
        == f"The checkpoint {path} is damaged (its content is not what its SHA-256 says): {earlier(path)} is "
        + ("used, of iteration 7.")
    )
    earlier(path).unlink()
    with pytest.raises(FanfoldError, match=r"last.safetensors is damaged"):
        newest_checkpoint(path)


def test_a_folder_in_a_checkpoints_place_is_said(tmp_path):
    (tmp_path / "last.safetensors").mkdir()
    with pytest.raises(FanfoldError, match="is damaged"):
        load_checkpoint(tmp_path / "last.safetensors")


def test_parameters_that_are_not_finite_are_not_kept(tmp_path):
    path, found = tmp_path / "last.safetensors", make_checkpoint()
    save_checkpoint(path, found)
    found.best[3] = np.inf
    with pytest.raises(RunError, match="The best parameters are not finite after iteration 7"):
        save_checkpoint(path, found)
    assert_equal(load_checkpoint(path), make_checkpoint())


@each(EVERY)
def test_parameters_are_kept_by_their_names(recipe, tmp_path, algorithm):
    recipe = replace(recipe, algorithm=algorithm)
    state, layout = worker.initialize(recipe), worker.layout(recipe)
    save_checkpoint(tmp_path / "last.safetensors", Checkpoint(state, state.parameters, "0123abcd", layout=layout))
    assert_equal(
        load_checkpoint(tmp_path / "last.safetensors"), Checkpoint(state, state.parameters, "0123abcd", layout=layout)
    )
    network = worker.open_context(recipe).network
    tensors = load_file(tmp_path / "last.safetensors")
    own = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
    assert {name: value.shape for name, value in own.items()} == dict(network.shapes)
    assert all(torch.equal(own[name], value) for name, value in network.initial().items())
    others = {name for name in tensors if name.startswith("best:")}
    rates = isinstance(algorithm, MamlPlusPlus) and algorithm.learn_rates
    assert ("best:features.0.0.weight:inner_lr" in others) == (rates or algorithm.name == "meta-sgd")
    assert ("best:log_scale" in others) == (isinstance(algorithm, Matching) and algorithm.similarity == "cosine")


def test_a_checkpoint_of_another_model_is_refused(recipe, tmp_path):
    layout, state = worker.layout(recipe), worker.initialize(recipe)
    found = Checkpoint(state, state.parameters, "0123abcd", layout=layout)
    assert named(recipe, replace(found, layout=None), tmp_path).layout == layout
    turned = {**layout, ".head.weight": layout[".head.weight"][::-1]}
    with pytest.raises(FanfoldError, match=r"holds head.weight of \[8, 3\] where this configuration has head.weight"):
        named(recipe, replace(found, layout=turned), tmp_path)
    with pytest.raises(FanfoldError, match=r"parameters, but this configuration has"):
        named(replace(recipe, model=Conv4()), found, tmp_path)


@pytest.mark.parametrize("wrong", ["is damaged", "parameters, but this configuration has"])
def test_a_run_goes_on_from_the_newest_good_checkpoint(recipe, tmp_path, wrong):
    directory, told = RunDirectory(tmp_path), []
    directory.last.parent.mkdir()
    state = worker.initialize(recipe)
    fingerprint = worker.open_context(recipe).fingerprint
    for iteration in (4, 8):
        now = Checkpoint(
            replace(state, iteration=iteration), state.parameters, fingerprint, layout=worker.layout(recipe)
        )
        save_checkpoint(directory.last, now)
    if wrong == "is damaged":
        content = bytearray(directory.last.read_bytes())
        content[-1] ^= 1
        directory.last.write_bytes(content)
    else:
        other = Checkpoint(replace(state, iteration=8), state.parameters, fingerprint)
        save_checkpoint(tmp_path / "other", _shorter(other))
        directory.last.write_bytes((tmp_path / "other").read_bytes())
    assert resume(recipe, directory, told.append).state.iteration == 4
    (notice,) = told
    assert isinstance(notice, Noticed)
    assert str(directory.last) in notice.text
    assert wrong in notice.text
    assert "previous.safetensors is used, of iteration 4" in notice.text
    assert load_checkpoint(directory.last).state.iteration == 4


def _shorter(found: Checkpoint) -> Checkpoint:
    """A checkpoint of fewer parameters."""
    vectors = {name: getattr(found.state, name)[:-3] for name in ("parameters", "mean", "square", "average")}
    return replace(found, state=replace(found.state, **vectors), best=found.best[:-3])


def test_plain_pytorch_rebuilds_a_network_with_its_statistics(recipe, tmp_path):
    """As docs/pictures.md says; the network is built of PyTorch's layers alone."""
    recipe = replace(recipe, algorithm=ProtoNet(), model=Conv4(width=4))
    state = worker.initialize(recipe)
    statistics = worker.statistics(recipe, state.parameters)
    found = Checkpoint(state, state.parameters, "0123abcd", layout=worker.layout(recipe), statistics=statistics)
    save_checkpoint(tmp_path / "last.safetensors", found)

    def block(channels):
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )

    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*(block(channels) for channels in (1, 4, 4, 4)), nn.Flatten()))
    tensors = load_file(tmp_path / "last.safetensors")
    network.load_state_dict({name[5:]: tensor for name, tensor in tensors.items() if name.startswith("best.")})
    network.eval()

    images = torch.rand(7, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    own = worker.open_context(recipe).network
    still = with_statistics(own, {name: torch.from_numpy(value) for name, value in statistics.items()})
    with torch.no_grad():
        torch.testing.assert_close(network(images), still(own.own(torch.from_numpy(state.parameters)), images))

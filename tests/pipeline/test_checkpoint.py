import hashlib
import json
import pickle
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import FORMAT, Checkpoint, load_checkpoint, parameters_sha256, save_checkpoint
from fanfold.pipeline.optimizer import State


def make_checkpoint(size=1000, seed=0):
    random = np.random.default_rng(seed)
    parameters, mean, square, average, best = (random.normal(size=size).astype(np.float32) for _ in range(5))
    state = State(7, parameters, mean, square, average)
    return Checkpoint(state, best, "0123abcd", 5, 0.75, validated=5, seconds=1.5, note="stands in")


def assert_equal(one, other):
    assert replace(one, state=None, best=None) == replace(other, state=None, best=None)
    assert one.best.tobytes() == other.best.tobytes()
    assert one.state.iteration == other.state.iteration
    for name in ("parameters", "mean", "square", "average"):
        assert getattr(one.state, name).tobytes() == getattr(other.state, name).tobytes()


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, make_checkpoint())
    save_checkpoint(path, make_checkpoint(seed=1))
    assert_equal(load_checkpoint(path), make_checkpoint(seed=1))
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]


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
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]

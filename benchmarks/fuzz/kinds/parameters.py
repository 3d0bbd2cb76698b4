"""Files of parameters: checkpoints, learners and classifiers, damaged, or with odd facts under a right SHA-256."""

import io
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from benchmarks.fuzz.judging import Read, right
from benchmarks.fuzz.mutation import Random, choice, damaged, odd
from fanfold.data.pictures import Preprocessing
from fanfold.pipeline.calibration import Judged, calibrate
from fanfold.pipeline.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fanfold.pipeline.classifier import Classifier
from fanfold.pipeline.learner_file import KeptLearner, read_learner, write_learner
from fanfold.pipeline.learning import learn
from fanfold.pipeline.optimizer import State, Vector
from fanfold.pipeline.tensor_file import pack, unpack
from fanfold.pipeline.tensor_file import read as read_tensors
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.learner import Learner
from fanfold.tasks.models import Conv4, Conv4Stride
from fanfold.tasks.weights import find, tensors

SIZE = 16
QUERY = (np.arange(SIZE * SIZE, dtype=np.uint32).reshape(SIZE, SIZE) ** 2 % 251).astype(np.uint8)


def _checkpoint() -> Checkpoint:
    vector: Vector = np.linspace(-1, 1, 12).astype(np.float32)
    half: Vector = vector[::-1].copy()
    layout = {".weight": (3, 2), ".bias": (6,)}
    return Checkpoint(State(7, vector, half, np.abs(half), vector), vector, "f" * 64, 5, 0.5, 5, 2.5, layout=layout)


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    plain = [repr(replace(c, best=c.best[:0], state=State(c.state.iteration, *[c.best[:0]] * 4))) for c in (one, other)]
    return one.state.equals(other.state) and np.array_equal(one.best, other.best) and plain[0] == plain[1]


def checkpoint(folder: Path, random: Random) -> Read:
    """A checkpoint's bytes, damaged: none but the very content is accepted."""
    path = folder / "last.safetensors"
    save_checkpoint(path, _checkpoint())
    path.write_bytes(damaged(path.read_bytes(), random))
    return lambda: right("a damaged checkpoint is taken for sound", _same(load_checkpoint(path), _checkpoint()))


def checkpoint_facts(folder: Path, random: Random) -> Read:
    """A checkpoint of odd facts or tensors: what is accepted is the same after it is saved, and finite."""
    path = folder / "last.safetensors"
    save_checkpoint(path, _checkpoint())
    path.write_bytes(_spoiled(*unpack(path.read_bytes(), "checkpoint"), random))

    def read() -> None:
        found = load_checkpoint(path)
        right("a number is not finite", np.isfinite([float(found.seconds), found.best_accuracy, *found.best]).all())
        save_checkpoint(folder / "again.safetensors", found)
        right("a checkpoint differs after it is saved", _same(load_checkpoint(folder / "again.safetensors"), found))

    return read


def _spoiled(facts: Any, tensors: dict[str, NDArray[Any]], random: Random) -> bytes:
    """Facts and tensors with something odd about one of them, under a right SHA-256."""
    facts, tensors = dict(facts), dict(tensors)
    if random.random() < 0.6:
        facts = odd(facts, random)
    else:
        name = choice(random, list(tensors))
        value = tensors[name]
        match int(random.integers(8)):
            case 0:
                del tensors[name]
            case 1:
                tensors[name] = value.astype(choice(random, ("f2", "f8", "i4", "i8", "u1", "?")))
            case 2:
                tensors[name] = value[: int(random.integers(len(value) + 1))] if value.ndim else value[None]
            case 3:
                tensors[name] = value.reshape(-1) if value.ndim > 1 else value[None]
            case 4:
                tensors[name] = value.astype(float).astype("f4") * choice(random, (np.nan, np.inf, -1.0, 1e30, 0.0))
            case 5:
                tensors[name + "x"] = tensors.pop(name)
            case 6:
                tensors["more"] = np.zeros(int(random.integers(3)), "f4")
            case _:
                tensors[name] = np.concatenate([value, value]) if value.ndim else value
    return pack(facts, tensors)


@cache
def _learner(kind: str) -> KeptLearner:
    """A learner that embeds, or one that adapts a network with a head; nothing was learnt yet."""
    torch.manual_seed(0)
    chosen = (ProtoNet(), Conv4(width=4), None) if kind == "protonet" else (Maml(), Conv4Stride(width=4), 2)
    algorithm, model, ways = chosen
    empty = Learner(algorithm, model, (SIZE, SIZE), 1, ways, torch.zeros(0), {})
    network = empty.network(ways)
    statistics = {
        f"{name}.running_{what}": torch.rand(layer.num_features)
        for name, layer in network.batch_norms.items()
        for what in ("mean", "var")
    }
    learner = replace(empty, parameters=algorithm.initialize(network), statistics=statistics if ways is None else {})
    logits = np.random.default_rng(0).normal(size=(6, 2))
    judged = Judged(logits, np.array([0, 1, 0, 1, 0, 1]), logits - 1)
    return KeptLearner(learner, Preprocessing(SIZE, 1), [calibrate(2, 1, [judged, judged])])


@cache
def _written(folder: Path, kind: str) -> bytes:
    path = folder / "learner"
    write_learner(path, _learner(kind))
    content = path.read_bytes()
    path.unlink()
    return content


@cache
def _classifier(kind: str) -> tuple[Classifier, bytes]:
    kept = _learner(kind)
    support = {"a": [QUERY, QUERY // 2], "b": [255 - QUERY, QUERY.T.copy()]}
    found = learn(kept.learner, kept.preprocessing, support, kept.suited)
    return found, found.to_bytes()


def learner(folder: Path, random: Random) -> Read:
    """A learner's file: what is accepted learns, and is the same after it is written."""
    content = _written(folder.parent / "kept", "maml" if random.random() < 0.2 else "protonet")
    path = folder / "learner"
    path.write_bytes(damaged(content, random) if random.random() < 0.2 else _spoiled(*unpack(content, "x"), random))

    def read() -> None:
        found = read_learner(path)
        pictures = np.resize(QUERY, (4, 1, found.preprocessing.size, found.preprocessing.size))
        support = {"a": list(pictures[:2, 0]), "b": list(255 - pictures[2:, 0])}
        if found.preprocessing.channels == 3:
            support = {name: [np.stack([one] * 3, -1) for one in of_class] for name, of_class in support.items()}
        _label(learn(found.learner, found.preprocessing, support, found.suited))
        write_learner(folder / "again", found)
        first, again = read_tensors(path), read_tensors(folder / "again")
        right("tensors are lost", set(again[1]) <= set(first[1]))
        right("a tensor differs", all(np.array_equal(value, first[1][name]) for name, value in again[1].items()))
        right("facts differ", read_learner(folder / "again").calibrations == found.calibrations)

    return read


def classifier(folder: Path, random: Random) -> Read:
    """A classifier's file: what is accepted labels, by finite shares; damaged bytes are none but the very content."""
    true, content = _classifier(choice(random, ("protonet", "maml")))
    whole = random.random() < 0.2
    path = folder / "classifier"
    path.write_bytes(damaged(content, random) if whole else _spoiled(*unpack(content, "x"), random))

    def read() -> None:
        found = Classifier.load(path)
        said = _label(found)
        right("a damaged classifier says something else", not whole or np.array_equal(said, _label(true)))
        again = Classifier.from_bytes(found.to_bytes(), "again")
        right(
            "a classifier differs once it is saved",
            np.array_equal(_label(again), said) and again.labels == found.labels,
        )

    return read


@cache
def _weights() -> dict[str, bytes]:
    """A network's tensors in the formats that are read, and as training code wraps them."""
    torch.manual_seed(0)
    state = {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4), "a.number": torch.tensor(3)}
    zipped, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": state}, zipped)
    torch.save({f"module.{name}": value for name, value in state.items()}, old, _use_new_zipfile_serialization=False)
    return {"a.pt": zipped.getvalue(), "b.pt": old.getvalue(), "c.safetensors": save(state)}


def weights(folder: Path, random: Random) -> Read:
    """A file of a network's weights, damaged: what is accepted are finite tensors by name, the same when read again."""
    name = choice(random, list(_weights()))
    path = folder / name
    path.write_bytes(damaged(_weights()[name], random))

    def read() -> None:
        found = tensors(str(path), None, dict)
        right("a number is not finite", all(value.isfinite().all() for value in found.values()))
        again = tensors(str(path), find(str(path), None, dict)[1], dict)
        right("the tensors differ", all(torch.equal(value, again[key]) for key, value in found.items()))

    return read


def _label(found: Classifier) -> NDArray[np.float64]:
    """The shares of the classes that a classifier gives the query."""
    picture = QUERY if found.preprocessing.channels == 1 else np.stack([QUERY] * 3, -1)
    [said] = found.predict([picture])
    shares = np.array(list(said.probabilities.values()))
    right("shares are no shares", np.isfinite(shares).all() and abs(shares.sum() - 1) < 1e-6)
    right("the label is none of the classes", said.label in (*found.labels, "unknown"))
    right("a class is there twice", len(said.probabilities) == len(found.labels))
    f"{found!r} {said.label}".encode()
    return shares

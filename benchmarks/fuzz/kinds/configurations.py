"""Configurations: YAML texts, files and flags, and the spaces of searches."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.fuzz.judging import Read, right
from benchmarks.fuzz.mutation import ODD, Random, choice, damaged, odd
from fanfold.pipeline import yaml_text
from fanfold.pipeline.recording.kept import read_yaml
from fanfold.workflows.cli.configuration import parse
from fanfold.workflows.cli.search_space import read_space
from fanfold.workflows.cli.verbs import verb_parser

CONFIGURATION: dict[str, Any] = {
    "dataset": {"name": "glyphs", "store": "glyphs.zarr", "split": "random:3"},
    "task": {"ways": 5, "shots": 1, "queries": 15, "rotations": True},
    "train": {"ways": 20, "queries": 5},
    "algorithm": {"name": "maml", "inner_lr": 0.4, "inner_steps": 2, "first_order": False},
    "model": {"name": "conv4", "width": 32},
    "meta": {"iterations": 10, "batch": 4, "lr": 1e-3, "minutes": None, "schedule": "cosine"},
    "evaluation": {"every": 500, "tasks": 1000, "half_width": 0.01},
    "cluster": {"kind": "cpu", "workers": 1, "timeout": 60},
    "seed": 3,
}
MODELS = ("article", "conv4-stride", "resnet12", "torchvision/resnet18", "torch:load", "os:system", "x", "a:b:c")
ALGORITHMS = ("protonet", "anil", "maml++", "reptile", "matching", "logistic", "os:system", "x")
PIECES = (
    *(
        "a: &a 1\nb: *a\n",
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "<<: {a: 1}\n",
        "<<: *nothing\n",
        "a: 1\na: 2\n",
        "? [a]\n: 1\n",
    ),
    *("a: !!python/object/apply:os.system ['true']\n", "a: !!binary aGk=\n", "a: !!set {a, b}\n", "a: !!bool x\n"),
    *(
        "a: !!omap [b: 1]\n",
        "a: 2001-01-01\n",
        "a: 12:30:45\n",
        "a: 010\n",
        "a: 1e-3\n",
        "a: .nan\n",
        "a: 0x_\n",
        "a: yes\n",
    ),
    *(
        "---\na: 1\n---\nb: 2\n",
        "%YAML 9.9\n---\na\n",
        "a: |\n  b\n c\n",
        "\t",
        "a: 'b\n",
        'a: "\\x1b"\n',
        "\ufeffa: 1\n",
    ),
    *("[" * 70, "{a: " * 60, "- " * 80, "a: " + "9" * 5000 + "\n", "k: " + "x" * 100 + "\n", "\x00", "\x85", "\ud800"),
)


def yaml(folder: Path, random: Random) -> Read:
    """A text of YAML: what is read is read again from what is written of it."""
    path = folder / "some.yaml"
    if random.random() < 0.5:
        content = damaged(yaml_text.dump(CONFIGURATION).encode(), random)
    elif random.random() < 0.8:
        pieces = [choice(random, PIECES) for _ in range(random.integers(1, 4))]
        content = "".join(pieces).encode(errors="surrogatepass")
        content = damaged(content, random) if random.random() < 0.5 else content
    else:
        content = _nested(random).encode()
    path.write_bytes(content)

    def read() -> None:
        found = read_yaml("configuration", path)
        right("the values differ after a round trip", _same(yaml_text.load(yaml_text.dump(found)), found))

    return read


def _nested(random: Random) -> str:
    """Aliases that stand for ever more, as by *A billion laughs*."""
    levels, width = int(random.integers(2, 12)), int(random.integers(2, 12))
    lines = ["a0: &a0 x"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def configuration(folder: Path, random: Random) -> Read:
    """A configuration's file: what is accepted is accepted with the same values once it is written."""
    path = folder / "config.yaml"
    known = _chosen(random)
    if random.random() < 0.7:
        path.write_text(yaml_text.dump(odd(known, random)), errors="surrogatepass")
    else:
        path.write_bytes(damaged(yaml_text.dump(known).encode(), random))
    return lambda: _parsed(folder, ["--config", str(path)])


def flags(folder: Path, random: Random) -> Read:
    """Flags of `train`: what is accepted is accepted with the same values once they are written."""
    argv: list[str] = []
    for _ in range(random.integers(1, 4)):
        section = choice(random, [name for name, part in CONFIGURATION.items() if isinstance(part, dict)])
        fields = _chosen(random)[section]
        field = choice(random, list(fields))
        value = odd(fields[field], random) if random.random() < 0.4 else fields[field]
        text = value if isinstance(value, str) else json.dumps(value)
        text = text if random.random() < 0.9 else text[:20] * 200
        words = [f"--{section}.{field}", text] if random.random() < 0.8 else [f"--{section}.{field}={text}"]
        match int(random.integers(12)):
            case 0:
                words = words[:1]
            case 1:
                words = [words[0][: int(random.integers(len(words[0])))], *words[1:]]
            case 2:
                words = [f"--{section}", json.dumps(odd(fields, random))]
            case 3:
                words = [str(choice(random, ODD))]
        argv += words
    # The operating system takes no other arguments.
    argv = [word.replace("\0", "").encode(errors="replace").decode() for word in argv]
    return lambda: _parsed(folder, argv)


def _chosen(random: Random) -> dict[str, Any]:
    """The configuration, now and then of another model or algorithm."""
    found = dict(CONFIGURATION)
    if random.random() < 0.2:
        found["model"] = {"name": choice(random, MODELS)}
    if random.random() < 0.2:
        found["algorithm"] = {"name": choice(random, ALGORITHMS)}
    return found


def _parsed(folder: Path, argv: list[str]) -> None:
    found = parse(verb_parser("train", argv), argv)
    if {"-h", "--help"} & set(argv):
        return
    written = folder / "written.yaml"
    plain = {name: asdict(found[name]) if name != "seed" else found[name] for name in CONFIGURATION}
    written.write_text(yaml_text.dump(plain))
    again = ["--config", str(written)]
    other = parse(verb_parser("train", again), again)
    for name in CONFIGURATION:
        right(f"{name} is another once it is written", found[name] == other[name])


SPACE: dict[str, Any] = {
    "meta.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "algorithm.inner_lr": {"low": 0.01, "high": 1.0, "step": 0.01},
    "algorithm.inner_steps": {"low": 1, "high": 5},
    "model.width": {"choices": [32, 64]},
    "meta.batch": {"choices": [4, 8], "when": {"model.width": [32]}},
}


def space(folder: Path, random: Random) -> Read:
    """The space of a search: each dimension that is accepted draws values of the space."""
    path = folder / "space.yaml"
    if random.random() < 0.8:
        path.write_text(yaml_text.dump(odd(SPACE, random)), errors="surrogatepass")
    else:
        path.write_bytes(damaged(yaml_text.dump(SPACE).encode(), random))

    def read() -> None:
        found = read_space(path, {"algorithm": "maml", "model": "conv4"}, lambda _: None)
        keys = set(yaml_text.load(path.read_text()))
        right("a key was left out", {one.key for one in found.dimensions} == keys)

    return read


def _same(one: Any, other: Any) -> bool:
    """Whether plain values are the same; those that are no numbers, too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):  # pairs of `!!omap` become lists
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and (one == other or one != one)

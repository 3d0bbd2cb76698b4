"""Configuration files: where they are, and what they hold."""

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from fanfold.data.advice import did_you_mean
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.recording.kept import read_yaml

SHIPPED = Path(__file__).parents[1] / "configs"
"""The folder of the configurations that come with Fanfold."""


def shipped() -> Iterator[tuple[str, str]]:
    """The names of the configurations that come with Fanfold, each with the first sentence of its comment."""
    for path in sorted(SHIPPED.rglob("*.yaml"), key=lambda path: (len(path.parts), path)):
        lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        sentence = re.split(r"(?<=\.)\s", " ".join(line.lstrip("# ") for line in lines))[0]
        yield path.relative_to(SHIPPED).with_suffix("").as_posix(), sentence


def find_config(name: str) -> Path:
    """The file of a configuration: one at this path, or else, whatever folder is there, one of Fanfold's by its name.

    Raises:
        FanfoldError: There is neither.
    """
    path, own = Path(name), SHIPPED / f"{name.removesuffix('.yaml')}.yaml"
    if path.is_file():
        return path
    if own.is_file() and SHIPPED.resolve() in own.resolve().parents:
        return own
    if path.suffix or path.exists():
        return path  # reading it says what is wrong
    hint = did_you_mean(name, [known for known, _ in shipped()])
    raise FanfoldError(f"No configuration {name}: there is no such file, and Fanfold has none of that name.{hint}")


def read_config(name: str) -> dict[str, Any]:
    """The content of a configuration: a file's, or one of Fanfold's by its name.

    Raises:
        FanfoldError: It can't be read, or is no mapping.
    """
    content = read_yaml("configuration", find_config(name))
    if not isinstance(content, dict):
        raise FanfoldError(f"The configuration {name} must be a YAML mapping, such as `seed: 0`.")
    return content

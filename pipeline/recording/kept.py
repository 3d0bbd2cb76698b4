"""What runs keep, read back: bounded, and checked against what it must be before anything is made of it."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.pipeline import yaml_text

BYTES = 64_000_000  # of a file; a test of 10,000 classes has some megabytes

Schema = Mapping[str, type]
"""Keys that must be there, with the types of their values; numbers must be finite."""

TESTED: Schema = {"transductive": bool, "test_accuracy": float, "test_ci95": float, "test_episodes": int}
TRAINED: Schema = {
    **dict.fromkeys(("dataset", "algorithm", "device", "tested_sha256", "parameters_sha256"), str),
    **dict.fromkeys(("ways", "shots", "tested_iteration", "iterations", "workers"), int),
    **dict.fromkeys(("validation_accuracy", "train_seconds", "tasks_per_second"), float),
    **TESTED,
    "other_tests": list,
}
"""A run's result."""
ROW: Schema = {
    **TRAINED,
    **dict.fromkeys(("row", "split", "model"), str),
    **dict.fromkeys(("seed", "queries"), int),
    **{"rotations": bool, "environment": dict},
}
"""A result in a table."""
ENSEMBLE: Schema = {
    **{
        key: kind
        for key, kind in ROW.items()
        if key not in ("tested_iteration", "validation_accuracy", "tasks_per_second")
    },
    "members": list,
}
"""An ensemble's."""
MACHINE: Schema = {**dict.fromkeys(("python", "torch", "dask", "processor"), str), "cores": int}
"""The environment of such a result."""


def read_text(what: str, path: Path | str) -> str:
    """The content of a text file; an error calls it by its kind, such as "space".

    Raises:
        FanfoldError: It can't be read, isn't text, or is far too large.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(BYTES + 1)
        if len(content) > BYTES:
            raise FanfoldError(f"The {what} {path} can't be read (it has more than {BYTES // 1_000_000:,} MB).")
        return content.decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise FanfoldError(f"The {what} {path} can't be read ({reason}).") from error


def read_yaml(what: str, path: Path | str) -> Any:
    """The content of a YAML file.

    Raises:
        FanfoldError: It can't be read.
    """
    try:
        return yaml_text.load(read_text(what, path))
    except yaml_text.YAMLError as error:
        raise FanfoldError(f"The {what} {path} is not valid YAML: {one_line(error)}.") from error


def read_configuration(path: Path) -> dict[str, Any]:
    """The configuration that a run or a search keeps, by section.

    Raises:
        FanfoldError: It can't be read, or is none.
    """
    found = read_yaml("configuration", path)
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, int if key == "seed" else dict) for key, value in found.items()
    ):
        raise FanfoldError(f"The configuration {path} is damaged, or none of a run: its sections must be mappings.")
    return found


def read_object(what: str, path: Path, schema: Schema) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        FanfoldError: It can't be read, or lacks keys of the schema.
    """
    try:
        found = json.loads(read_text(what, path))
        json.dumps(found, ensure_ascii=False).encode()  # half a pair of surrogates is no text
    except (ValueError, RecursionError) as error:
        raise FanfoldError(f"The {what} {path} is not valid JSON ({one_line(error)}): move it away.") from error
    if (wrong := wrong_key(found, schema)) is not None:
        raise FanfoldError(f"The {what} {path} is damaged, or of another version ({wrong}): move it away.")
    whole: dict[str, Any] = found
    return whole


def read_result(path: Path) -> dict[str, Any] | None:
    """The result of a run; None where it hasn't ended.

    Raises:
        FanfoldError: It can't be read, or is none.
    """
    return read_object("result", path, TRAINED) if path.exists() else None


def wrong_key(found: Any, schema: Schema) -> str | None:
    """A key that is missing, or whose value is of another type, not finite or no share; None where all are right."""
    if not isinstance(found, dict):
        return "it is no object"
    for key, kind in schema.items():
        if not _is(found.get(key), kind) or (key.endswith("accuracy") and not 0 <= found[key] <= 1):
            return key
    optional = {
        **dict.fromkeys(("reduction", "note", "normalization", "initial"), str),
        **{"inner_steps": int, "environment": dict, "validations": list},
    }
    for key, kind in optional.items():
        if found.get(key) is not None and not _is(found[key], kind):
            return key
    gpus = (found.get("environment") or {}).get("gpus") or []
    if not isinstance(gpus, list) or not all(isinstance(gpu, str) for gpu in gpus):
        return "environment"
    if not all(_is_validation(one) for one in found.get("validations") or ()):
        return "validations"
    others = found.get("other_tests", [])
    if not isinstance(others, list) or any(wrong_key(other, TESTED) is not None for other in others):
        return "other_tests"
    return None


def wrong_row(rows: Any) -> str | None:
    """What is wrong in the rows of a table; None where nothing is."""
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        return "results"
    return next(filter(None, map(_wrong_in_row, rows)), None)


def _wrong_in_row(row: Any) -> str | None:
    schema = ENSEMBLE if isinstance(row, dict) and "members" in row else ROW
    return wrong_key(row, schema) or wrong_key(row["environment"], MACHINE)


def _is_validation(value: Any) -> bool:
    """Whether a value is an iteration, its validation's accuracy, and half the width of its interval."""
    return isinstance(value, list) and len(value) == 3 and all(_is(number, float) for number in value)


def _is(value: Any, kind: type) -> bool:
    if kind in (int, float):
        right = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
        return right and abs(value) < 1e300 and isfinite(value)
    return isinstance(value, kind)

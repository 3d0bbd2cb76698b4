"""Algorithms and models as plain values, for files that are read without running anybody's code."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import KindError, of_fields, shown
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.algorithms.registry import ALGORITHMS
from fanfold.tasks.backbones import PREFIXES, Backbone
from fanfold.tasks.models import MODELS, Model


def described(configuration: Any) -> dict[str, Any]:
    """A configuration's fields by name."""
    if is_dataclass(configuration) and not isinstance(configuration, type):
        return asdict(configuration)
    return {"name": type(configuration).__name__}


def model_from(fields: Mapping[str, Any], given: Model | None = None) -> Model:
    """A model from its fields, if it is one of Fanfold's; else the given one.

    Raises:
        FanfoldError: It isn't, and none is given; or the fields are others.
    """
    if given is not None:
        return given
    name = str(fields.get("name")) if isinstance(fields, Mapping) else ""
    found: Model = _from("model", {**MODELS, name: Backbone} if name.startswith(PREFIXES) else MODELS, fields)
    return found


def algorithm_from(fields: Mapping[str, Any], given: Algorithm | None = None) -> Algorithm:
    """An algorithm from its fields, as `model_from` does."""
    found: Algorithm = given if given is not None else _from("algorithm", ALGORITHMS, fields)
    return found


def _from(kind: str, known: Mapping[str, type], fields: Mapping[str, Any]) -> Any:
    name = fields.get("name") if isinstance(fields, Mapping) else None
    if not isinstance(name, str) or name not in known:
        raise FanfoldError(
            f"The {kind} {shown(name)} is none of Fanfold's, and a file runs no code of others: hand the {kind} "
            "over where you load it."
        )
    try:
        return of_fields(known[name], fields, whole=False)
    except KindError as error:
        raise FanfoldError(f"The {kind} {name} of this file is damaged, or of another version: its {error}") from error

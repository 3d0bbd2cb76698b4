"""Messages as Python shows them: configuration fields and flags become arguments."""

import functools
import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from fanfold.data.advice import did_you_mean
from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.flags import is_field, named_fields
from fanfold.workflows.cli.suggestions import SYNONYMS

P = ParamSpec("P")
T = TypeVar("T")

ARGUMENTS = {
    "task.ways": "ways",
    "task.shots": "shots",
    "task.queries": "queries",
    "meta.iterations": "iterations",
    "meta.minutes": "minutes",
    "meta.batch": "batch",
    "meta.lr": "lr",
    "algorithm.name": "algorithm",
    "model.name": "model",
    "cluster.kind": "cluster",
    "dataset.name": "data",
    "dataset.split": "split",
    "dataset.size": "size",
    "evaluation.tasks": "tasks",
    "run": "path",
}
"""The arguments of their own that fields have; a field of a section is given in the section's mapping otherwise."""

METHODS = {"evaluate": "test", "report": "report"}  # of a run, by the commands that do the same

FLAG = re.compile(r"(?<![\w-])--([a-z]\w*(?:\.\w+)?)(?:[ =]((?:[\w./:-]|(?<=\w)\+)*\w))?")


def in_arguments(message: str) -> str:
    """Word the configuration fields and flags of a message as arguments.

    >>> in_arguments("`meta.average` must be below 1: lower it, or `task.ways=5`, or --cluster.kind cpu.")
    'meta={"average": …} must be below 1: lower it, or ways=5, or cluster="cpu".'
    """
    return re.sub("`([^`]+)`|[^`]+", _part, message)


def spoken(function: Callable[P, T]) -> Callable[P, T]:
    """A function of the face, whose errors name arguments and come without the inner frames."""
    parameters = inspect.signature(function).parameters
    known, takes_any = list(parameters), any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    @functools.wraps(function)
    def spoken(*args: P.args, **kwargs: P.kwargs) -> T:
        if not takes_any and (unknown := [name for name in kwargs if name not in known]):
            hint = _meant(unknown[0], known) or did_you_mean(unknown[0], known)
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{unknown[0]}'.{hint}")
        try:
            return function(*args, **kwargs)
        except FanfoldError as error:
            message = str(error)
            if "evaluation" not in known:  # its fields are arguments of their own, if any
                message = re.sub(rf"`evaluation\.({'|'.join(known)})`", r"\1", message)
            error.args = (in_arguments(message),)
            raise error.with_traceback(None) from error.__cause__

    return spoken


def _meant(unknown: str, known: Sequence[str]) -> str:
    """A hint at the argument that other libraries call so; empty where there is none."""
    for field, argument in ARGUMENTS.items():
        if argument in known and unknown in SYNONYMS.get(f"--{field}", "").split():
            return f" Did you mean {argument}?"
    return ""


def _part(found: re.Match[str]) -> str:
    """A part of a message: quoted fields, or text in which flags stand for fields."""
    if quoted := found[1]:
        return _worded(quoted) or found[0]
    return FLAG.sub(lambda flag: _argument(flag[1], flag[2]) if is_field(flag[1]) else flag[0], found[0])


def _worded(quoted: str) -> str | None:
    """Fields as arguments, or a call; None for any other text."""
    if (found := named_fields(quoted)) is None:
        return None
    verb, values = found
    if verb:
        return _call(verb, {field: value or "" for field, value in values})
    return ", ".join(_argument(field, value) for field, value in values)


def _call(command: str, settings: dict[str, str]) -> str:
    """A command with its settings, as a call of the face's function."""
    if command in METHODS and "run" in settings:
        return f"fanfold.load({_value(settings['run'])}).{METHODS[command]}()"
    name, source = settings.pop("dataset.name", "auto"), settings.pop("dataset.source", None)
    store = settings.pop("dataset.store", None)
    words = [_value(source or name), *([f"path={_value(store)}"] if store else [])]
    words += [_argument(field.removeprefix("dataset."), value or None) for field, value in settings.items()]
    return f"fanfold.{command}({', '.join(words)})"


def _argument(field: str, value: str | None) -> str:
    section, _, name = field.partition(".")
    if field == "trust" and value is not None:
        return f"trust=[{_value(value)}]"
    if field in ("resume", "overwrite"):
        return f"{field}=True"
    if (plain := ARGUMENTS.get(field)) or not name:
        plain = plain or field
        return plain if value is None else f"{plain}={_value(value)}"
    return f'{section}={{"{name}": {"…" if value is None else _value(value)}}}'


def _value(text: str) -> str:
    """A value as Python writes it."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = text
    return f'"{found}"' if isinstance(found, str) else repr(found)

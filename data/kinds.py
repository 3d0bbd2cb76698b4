"""Plain values against the types of fields: the one place that checks them, for files, flags, Python and stores."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from math import inf, isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fanfold.data.advice import did_you_mean, one_printable_line

LENGTH = 100  # characters of a value that a message shows
LARGEST = sys.float_info.max
MOST = 2**64  # of whole numbers, either way
WITHIN = "a whole number from -2^64 to 2^64"
WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    NoneType: "null",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
}
"""Types in the words of files and flags."""


Made = TypeVar("Made")


class KindError(Exception):
    """A value of another type than its field's. The message goes on after the field's name: "must be …, not …"."""


def of_kind(kind: Any, value: Any) -> Any:
    """A value as YAML gives it, as a field of a type takes it: a whole float becomes an integer.

    Raises:
        KindError: It is of no such type.
    """
    for part in parts(kind):
        found = _as(part, value)
        if found is not _NOT:
            return found
    choices = [str(choice) for part in parts(kind) if get_origin(part) is Literal for choice in get_args(part)]
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    raise KindError(f"must be {wanted(kind, value)}, not {shown(value)}.{hint}")


def of_fields(kind: type[Made], values: Any, *, whole: bool = True) -> Made:
    """A dataclass of its fields' values, as JSON gives them.

    Args:
        kind: The dataclass.
        values: The values by the fields' names.
        whole: Whether fields with a default must be there, too.

    Raises:
        KindError: A value is missing, unknown, or of another type; the message goes on after "'s".
    """
    if not isinstance(values, Mapping):
        raise KindError(f"fields must be {WORDS[dict]}, not {shown(values)}.")
    known = fields(kind)  # type: ignore[arg-type]
    needed = [one.name for one in known if whole or one.default is one.default_factory is MISSING]
    if missing := [name for name in needed if name not in values]:
        raise KindError(f"{missing[0]} is missing.")
    kinds, found = get_type_hints(kind), dict[str, Any]()
    if unknown := sorted(set(values) - {one.name for one in known}):
        raise KindError(f"field {shown(unknown[0])} is unknown.")
    for name, value in values.items():
        try:
            found[name] = of_kind(kinds[name], value)
        except KindError as error:
            raise KindError(f"{name} {error}") from error
    return kind(**found)


def parts(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def in_words(kind: Any, words: Mapping[Any, str] = WORDS) -> str:
    """A type in words: "a whole number or null"."""
    return either(word for part in parts(kind) for word in _words(part, words))


def wanted(kind: Any, value: Any, words: Mapping[Any, str] = WORDS) -> str:
    """A type in words, to say what a value should be; with the bounds of whole numbers where it is beyond them."""
    return in_words(kind, {**words, int: WITHIN} if is_beyond(value) else words)


def is_beyond(value: Any) -> bool:
    """Whether a value is a whole number that no field takes."""
    return isinstance(value, (int, float)) and MOST < abs(value) < inf


def either(words: Iterable[str]) -> str:
    """Alternatives in words: "a, b or c"."""
    *some, last = words
    return f"{', '.join(some)} or {last}" if some else last


def shown(value: Any) -> str:
    """A value in a message: text in quotation marks, on one line, without control characters, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = one_printable_line(text)
    text = text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"
    return f"'{text}'" if isinstance(value, str) else text


_NOT = object()


def _as(kind: Any, value: Any) -> Any:
    """The value as one of a type that is no union; `_NOT` where it is none."""
    if get_origin(kind) is Literal:
        return next((choice for choice in get_args(kind) if choice == value and type(choice) is type(value)), _NOT)
    if kind is Any:
        return value
    if kind is int:
        if isinstance(value, float) and isfinite(value) and value == int(value):
            value = int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST else _NOT
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number and abs(value) <= LARGEST else _NOT  # neither infinite nor not a number
    if kind is Path:
        return value if isinstance(value, str) else _NOT
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # a folder may be called 2024
    plain = get_origin(kind) or kind
    if plain is tuple and get_args(kind)[1:] == (...,) and isinstance(value, (list, tuple)):
        found = tuple(_as(get_args(kind)[0], one) for one in value)
        return _NOT if _NOT in found else found
    if plain is Sequence:
        return value if isinstance(value, (list, tuple)) else _NOT
    return value if isinstance(plain, type) and isinstance(value, plain) else _NOT


def _words(kind: Any, words: Mapping[Any, str]) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    plain = get_origin(kind) or kind
    return [words.get(plain, getattr(plain, "__name__", str(plain)))]

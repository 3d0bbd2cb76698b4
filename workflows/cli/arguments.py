"""Arguments, checked before the parser sees them: flags that it knows, values of their types, sections of their keys.

What is wrong is said in the words of the command line, not of the parser. A flag's or file's value reaches the parser
as its type wants it: `--meta.iterations 1e4` as 10000.
"""

import json
from argparse import Action
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_origin

from jsonargparse import ArgumentParser

from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import KindError, is_beyond, of_kind, parts, shown
from fanfold.pipeline import yaml_text
from fanfold.workflows.cli.configs import read_config
from fanfold.workflows.cli.flags import SECTIONS, VARIANTS, variants
from fanfold.workflows.cli.suggestions import unknown_flag

ANYWHERE = {*SECTIONS, *VARIANTS, "seed"}  # a configuration's keys, of which a command may take only some


def checked(parser: ArgumentParser, argv: Sequence[str]) -> list[str]:
    """The arguments with every value as its type wants it.

    Raises:
        FanfoldError: A flag or key is unknown, a value of another type, or a file can't be read.
    """
    known = _known(parser)
    words, left = list[str](), list(argv)
    choices = [action for action in parser._actions if get_origin(kind_of(action)) is Literal]
    choices = [action for action in choices if not action.option_strings]
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        if not word.startswith("--") or word == "--":
            if choices and not word.startswith("-"):
                chosen = choices.pop(0)
                try:
                    of_text(kind_of(chosen), word)
                except KindError as error:
                    raise FanfoldError(f"{chosen.dest.upper()} {error}") from error
            words.append(word)
            continue
        if flag not in known:
            raise FanfoldError(unknown_flag(flag, known))
        if known[flag].nargs is not None and not _is_section(flag):
            words.append(word)
            continue
        if not equals and left and not left[0].startswith("--"):
            value = left.pop(0)
        elif not equals:
            if bool not in parts(kind_of(known[flag])):
                raise FanfoldError(f"{flag} needs a value: {flag} {_placeholder(known[flag])}.")
            value = "true"
        words.append(f"{flag}={_value(known, flag, value)}")
    return words


def apart(parser: ArgumentParser, words: Sequence[str]) -> tuple[list[str], dict[str, Path]]:
    """The words without flags of paths that are no UTF-8, which the parser can't read, and these by their fields."""
    known, left, paths = _known(parser), list[str](), dict[str, Path]()
    for word in words:
        flag, equals, value = word.partition("=")
        if equals and flag in known and Path in parts(kind_of(known[flag])) and _odd(value):
            paths[known[flag].dest] = Path(value)
        else:
            left.append(word)
    return left, paths


def _odd(text: str) -> bool:
    """Whether a path has bytes that are no UTF-8, which Python keeps as halves of surrogate pairs."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def section_of(section: str, value: str) -> dict[str, Any]:
    """What a flag such as `--algorithm` gives a section: a variant's name, YAML, or a file of it."""
    if section in VARIANTS and not value.lstrip().startswith("{") and not value.endswith((".yaml", ".yml", ".json")):
        return {"name": value}
    content = yaml_text_or_file(value)
    return as_section(f"--{section}", section, content)


def yaml_text_or_file(value: str) -> Any:
    """YAML in braces, or a file's content."""
    if not value.lstrip().startswith("{"):
        return read_config(value)
    try:
        return yaml_text.load(value)
    except yaml_text.YAMLError as error:
        raise FanfoldError(f"{shown(value)} is not valid YAML ({' '.join(str(error).split())}).") from error


def as_section(where: str, section: str, content: Any) -> dict[str, Any]:
    """A section as a mapping; a variant may stand there by its name alone, and an empty section has its defaults.

    Raises:
        FanfoldError: It is anything else.
    """
    if content is None:
        return {}
    if section in VARIANTS and isinstance(content, str):
        return {"name": content}
    if not isinstance(content, dict):
        example = "{name: …}" if section in VARIANTS else "{KEY: VALUE}"
        raise FanfoldError(f"{where} must be a section, such as `{section}: {example}`, not {shown(content)}.")
    return content


def undotted(content: Mapping[Any, Any]) -> dict[str, Any]:
    """A configuration in which `meta.lr: 1` stands for `meta: {lr: 1}`."""
    tree = dict[str, Any]()
    for key, value in content.items():
        section, dot, name = str(key).partition(".")
        before = tree.get(section)
        if dot and (before is None or isinstance(before, dict)):
            tree[section] = {**(before or {}), name: value}
        elif isinstance(before, dict) and isinstance(value, dict):
            tree[section] = before | value
        else:
            tree[section] = value
    return tree


def _known(parser: ArgumentParser) -> dict[str, Action]:
    return {option: action for action in parser._actions for option in action.option_strings}


def _is_section(flag: str) -> bool:
    return flag == "--config" or flag[2:] in (*SECTIONS, *VARIANTS)


def _value(known: Mapping[str, Action], flag: str, value: str) -> str:
    """A flag's value as the parser takes it."""
    if flag == "--config":
        return json.dumps(_tree(known, value, read_config(value)))
    if _is_section(flag):
        where = f"{flag} {shown(value)}: "
        return json.dumps(_section(known, where, flag[2:], section_of(flag[2:], value)))
    kind = kind_of(known[flag])
    if kind is None:
        return value
    try:
        found = of_text(kind, value)
    except KindError as error:
        raise FanfoldError(f"{flag} {error}") from error
    return found if isinstance(found, str) else json.dumps(found)


def _tree(known: Mapping[str, Action], file: str, content: Mapping[Any, Any]) -> dict[str, Any]:
    """A configuration's content with every value as its type wants it; parts that other commands take are left out."""
    where, tree = f"The configuration {file}: ", dict[str, Any]()
    for key, value in undotted(content).items():
        flag = f"--{key}"
        if flag not in known and key in ANYWHERE:
            continue
        if flag not in known or flag == "--config":
            raise FanfoldError(where + unknown_flag(flag, known, "key"))
        if _is_section(flag):
            content = as_section(f"{where}`{key}:`", key, value)
            chosen = known[f"{flag}.name"].default if key in VARIANTS else None
            tree[key] = _section(known, where, key, content if chosen is None else _of_variant(key, content, chosen))
        else:
            tree[key] = _typed(where, key, known[flag], value)
    return tree


def _of_variant(section: str, content: Mapping[Any, Any], chosen: str) -> dict[Any, Any]:
    """What a file says of a variant, without what means nothing to another one that is chosen in its place."""
    found = variants(section)
    own, other = found.get(content.get("name", chosen)), found.get(chosen)
    if own is other or own is None or other is None:
        return dict(content)
    kinds = [{field.name: field.type for field in fields(one)} for one in (own, other)]
    return {key: value for key, value in content.items() if key not in kinds[0] or kinds[0][key] == kinds[1].get(key)}


def _section(known: Mapping[str, Action], where: str, section: str, content: Mapping[Any, Any]) -> dict[str, Any]:
    found = dict[str, Any]()
    for key, value in content.items():
        path = f"{section}.{key}"
        if f"--{path}" not in known:
            raise FanfoldError(where + unknown_flag(f"--{path}", known, "key"))
        found[key] = _typed(where, path, known[f"--{path}"], value)
    return found


def _typed(where: str, path: str, action: Action, value: Any) -> Any:
    try:
        return of_kind(kind_of(action) or Any, value)
    except KindError as error:
        raise FanfoldError(f"{where}{path} {error}") from error


def of_text(kind: Any, text: str) -> Any:
    """A flag's value as a field of a type takes it; text that stands where text may stand is taken as it is.

    Raises:
        KindError: It is of no such type.
    """
    if text == "null" and NoneType in parts(kind):
        return None
    if str in parts(kind) or Path in parts(kind):
        return text
    try:
        value = yaml_text.load(text)
    except yaml_text.YAMLError:
        value = text
    try:
        return of_kind(kind, value)
    except KindError:
        if is_beyond(value):
            raise
        return of_kind(kind, text)  # a choice may look like a number; an error shows the text


def kind_of(action: Action) -> Any:
    """The type of a flag's value; None where it has none, or converts its text itself."""
    found = getattr(action, "_typehint", None) or action.type
    return None if isinstance(found, partial) else found


def _placeholder(action: Action) -> str:
    return str(action.metavar or action.dest.rpartition(".")[2]).upper()


def pairs(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Flags with their values, in order, "" where one has none; both `--flag value` and `--flag=value`."""
    for word, following in zip(argv, [*argv[1:], "--"], strict=False):
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            yield flag, value if equals or following.startswith("--") else following

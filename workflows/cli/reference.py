"""The page of the command line, written by the parsers themselves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from importlib import import_module
from inspect import cleandoc
from typing import get_type_hints

from fanfold.data.kinds import in_words
from fanfold.workflows.cli.flags import VARIANTS, variants
from fanfold.workflows.cli.schema import described
from fanfold.workflows.cli.verbs import VERBS, module_of, verb_parser

WIDTH = 100  # columns of help on the page


def reference() -> str:
    """Markdown of every verb's help, and of the settings of every data set, algorithm and model."""
    with _width(WIDTH):
        verbs = [_verb(verb) for verb in VERBS]
    return "\n\n".join([*verbs, *(_section(section) for section in VARIANTS)]) + "\n"


def _verb(verb: str) -> str:
    """A verb's description and help."""
    description = cleandoc(import_module(module_of(verb)).__doc__ or "")
    parser = verb_parser(verb)
    parser.description = None
    return f"## `fanfold {verb}`\n\n{description}\n\n```text\n{parser.format_help().rstrip()}\n```"


def _section(section: str) -> str:
    """The variants of a section, each with its settings as a table."""
    parts = [f"## `--{section}.name`"]
    for name, kind in variants(section).items():
        (about, texts), hints = described(kind), get_type_hints(kind)
        rows = [
            f"| `--{section}.{field.name}` | {in_words(hints[field.name])} | {_default(field.default)} "
            f"| {texts.get(field.name, '').replace('|', chr(92) + '|')} |"
            for field in fields(kind)
            if field.name != "name"
        ]
        table = ["| flag | takes | default | |", "| --- | --- | --- | --- |", *rows] if rows else []
        parts.append("\n".join([f"### `{name}`\n", f"{about}\n", *table]).rstrip())
    return "\n\n".join(parts)


def _default(value: object) -> str:
    if value is MISSING:
        return ""
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


@contextmanager
def _width(columns: int) -> Iterator[None]:
    """Format help for some columns, whatever the terminal."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before

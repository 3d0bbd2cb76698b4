"""The verbs of the command `fanfold`."""

import ast
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

VERBS: dict[str, str] = {
    "prepare": "prepare",
    "train": "train",
    "evaluate": "evaluate",
    "classify": "classify",
    "export": "export",
    "report": "report",
    "search": "search",
    "table": "table",
    "picture": "picture",
    "benchmark": "benchmark.__main__",
    "configs": "list_configs",
    "schema": "schema",
    "completion": "completion",
    "doctor": "doctor",
}
"""The modules of the verbs, in the order of the help; each has `main(argv)`."""


def module_of(verb: str) -> str:
    """The name of a verb's module."""
    return f"fanfold.workflows.{VERBS[verb]}"


def summary(verb: str) -> str:
    """The first line of a verb's docstring, read without importing its module, which may take seconds."""
    spec = find_spec(module_of(verb))
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def verb_parser(verb: str, argv: Sequence[str] = ()) -> "ArgumentParser":
    """The parser of a verb, with the variants that some arguments choose."""
    from fanfold.workflows.cli.configuration import parser_of  # only here: a page of verbs needs no parser

    return parser_of(import_module(module_of(verb)).main, argv)

"""The JSON schema of a configuration file, for editors that check and complete it."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from docstring_parser import parse

from fanfold.data.kinds import parts
from fanfold.workflows.cli.configuration import DEFAULTS
from fanfold.workflows.cli.flags import PLUGIN_MODEL, SECTIONS, VARIANTS, variants
from fanfold.workflows.cli.settings import settings

DRAFT = "https://json-schema.org/draft/2020-12/schema"
PLUGIN = {"type": "string", "pattern": "^[^:]+:[^:]+$", "description": "Your own, as package.module:Class."}
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", NoneType: "null"}


def schema(title: str, options: Sequence[tuple[str, Any, str]] = ()) -> dict[str, Any]:
    """The schema of all sections, and of a command's options beside them: names, types, descriptions."""
    sections = {name: _object(settings(target)) for name, target in SECTIONS.items()}
    chosen = {name: _variants(name) for name in VARIANTS}
    more = {name: {**_kind(kind), "description": text} for name, kind, text in options}
    return {
        "$schema": DRAFT,
        "title": title,
        "type": "object",
        "properties": {**more, **chosen, **sections},
        "additionalProperties": False,
    }


def _object(kind: type, **fixed: Any) -> dict[str, Any]:
    """The schema of a dataclass; `fixed` are the schemas of fields that are known better than their types."""
    hints, (about, texts), properties = get_type_hints(kind), described(kind), {}
    for field in fields(kind):
        found = fixed.get(field.name, _kind(hints[field.name]))
        default = {} if field.default is MISSING else {"default": field.default}
        properties[field.name] = {**found, "description": texts.get(field.name, ""), **default}
    return {"type": ["object", "null"], "description": about, "properties": properties, "additionalProperties": False}


def described(kind: type) -> tuple[str, dict[str, str]]:
    """What a dataclass's docstring says of it, and of its fields by their names."""
    docstring = parse(kind.__doc__ or "")
    texts = {part.arg_name: " ".join((part.description or "").split()) for part in docstring.params}
    return docstring.short_description or "", texts


def _variants(section: str) -> dict[str, Any]:
    """The schema of a section with variants: a variant's name alone, or its settings."""
    known = variants(section)
    forms: list[dict[str, Any]] = [{"enum": [*known, None]}]
    for name, kind in known.items():
        needs = {} if name == DEFAULTS[section] else {"required": ["name"]}
        forms.append(_object(kind, name={"const": name}) | {"type": "object"} | needs)
    if section != "dataset":
        forms.append(PLUGIN)
    if section == "model":
        forms.append(_object(settings(PLUGIN_MODEL), name=PLUGIN) | {"type": "object", "required": ["name"]})
    if section == "algorithm":
        forms.append({"type": "object", "properties": {"name": PLUGIN}, "required": ["name"]})
    return {"anyOf": forms}


def _kind(kind: Any) -> dict[str, Any]:
    """The schema of a field's type."""
    found = [_part(part) for part in parts(kind)]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _part(kind: Any) -> dict[str, Any]:
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    plain = get_origin(kind) or kind
    return {"type": "object"} if plain is dict else {"type": "array"} if plain is list else {"type": _TYPES[plain]}

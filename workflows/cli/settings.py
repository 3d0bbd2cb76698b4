"""The settings of a class that isn't imported: its fields, read from its source.

Importing an algorithm imports PyTorch, which takes seconds; its flags and their help need none of that. What an
algorithm's file says stays the one description of its settings. `real` imports the class itself, once the arguments
are sound.
"""

import ast
import builtins
import sys
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OWN = "fanfold."
_origins: dict[type, tuple[str, str]] = {}  # of reduced classes: module and name


class UnreadableError(Exception):
    """A source that needs more than its own names, Fanfold's and the standard library's."""


@cache
def settings(target: str) -> Any:
    """The value of a name, "package.module:NAME", with Fanfold's dataclasses reduced to their fields.

    A reduced class has the fields, types, defaults and docstring of its class, without methods and checks. What can't
    be read is imported.
    """
    module, _, name = target.partition(":")
    try:
        return _value(module, name)
    except (UnreadableError, SyntaxError, OSError):
        return getattr(import_module(module), name)


def real(config: Any) -> Any:
    """The same settings as an instance of the class itself, with all its checks.

    Raises:
        FanfoldError: The class refuses a setting.
    """
    found = real_class(type(config))
    if found is type(config):
        return config
    return found(**{field.name: getattr(config, field.name) for field in fields(config)})


def real_class(kind: type) -> type:
    """The class that one reduced to its fields stands for; any other class as it is."""
    if kind not in _origins:
        return kind
    module, name = _origins[kind]
    found: type = getattr(import_module(module), name)
    return found


def is_section(value: Any) -> bool:
    """Whether a value is a section's dataclass, reduced or not."""
    return is_dataclass(value) and not isinstance(value, type)


@cache
def _value(module: str, name: str) -> Any:
    """The value of a name in a module."""
    for node in reversed(_tree(module).body):
        match node:
            case ast.ClassDef() if node.name == name:
                return _reduced(module, node)
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                return _evaluated(module, value)
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                return _evaluated(module, value)
            case ast.ImportFrom(module=str(source)):
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return _imported(source, alias.name)
    if hasattr(builtins, name):
        return getattr(builtins, name)
    raise UnreadableError(f"{module}:{name}")


def _imported(source: str, name: str) -> Any:
    if source.startswith(OWN):
        return _value(source, name)
    if source.partition(".")[0] in sys.stdlib_module_names:
        return getattr(import_module(source), name)
    raise UnreadableError(f"{source}:{name}")


def _reduced(module: str, node: ast.ClassDef) -> type:
    """A class with the fields of a class's source alone."""
    annotations: dict[str, Any] = {}
    # Not the class's own module, which jsonargparse would import.
    body: dict[str, Any] = {"__module__": __name__, "__doc__": ast.get_docstring(node)}
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            annotations[part.target.id] = _evaluated(module, part.annotation)
            if part.value is not None:
                body[part.target.id] = _evaluated(module, part.value)
    bases = tuple(_evaluated(module, base) for base in node.bases)
    made: Any = types.new_class(node.name, bases, {}, lambda space: space.update(body, __annotations__=annotations))
    for decorator in reversed(node.decorator_list):
        made = _evaluated(module, decorator)(made)
    _origins[made] = module, node.name
    found: type = made
    return found


def _evaluated(module: str, node: ast.expr) -> Any:
    """The value of an expression of literals, names and calls, as it stands in a module."""
    namespace = {name: _value(module, name) for name in _names(node)}
    return eval(compile(ast.Expression(node), module, "eval"), namespace)  # noqa: S307 (of Fanfold's own sources)


def _names(node: ast.expr) -> Iterator[str]:
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


@cache
def _tree(module: str) -> ast.Module:
    spec = find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UnreadableError(module)
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))

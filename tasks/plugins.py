"""Classes that a user names as `package.module:Class`."""

import importlib
from typing import Any

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError


def import_class(kind: str, name: str) -> Any:
    """Import a class by its name; an error message calls it by its kind, `algorithm` or `model`.

    Raises:
        FanfoldError: There is no such class, or importing its module fails.
    """
    module_name, _, class_name = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # a user's module may raise anything
        raise FanfoldError(f"No {kind} '{name}' ({one_line(error)}): name it as package.module:Class.") from error

"""Classes that a user names as `package.module:Class`."""

import importlib
from typing import Any

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.tasks.given import PREFIX


def import_class(kind: str, name: str) -> Any:
    """Import a class by its name; an error message calls it by its kind, `algorithm` or `model`.

    Raises:
        FanfoldError: There is no such class, or importing its module fails.
    """
    module_name, _, class_name = name.partition(":")
    if module_name == PREFIX:
        raise FanfoldError(
            f"The {kind} {class_name} was handed over in Python, and a run keeps its name alone: hand it over again, "
            f"as {kind}=… of fanfold.load or fanfold.train."
        )
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # a user's module may raise anything
        raise FanfoldError(f"No {kind} '{name}' ({one_line(error)}): name it as package.module:Class.") from error

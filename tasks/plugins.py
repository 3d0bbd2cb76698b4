"""Classes of one's own, named as `package.module:Class`."""

import importlib
from typing import Any

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError


def import_class(what: str, name: str) -> Any:
    """Import what a user names.

    Args:
        what: What it is to be, for the message.
        name: `package.module:Class`.

    Raises:
        FanfoldError: There is no such class, or importing its module fails.
    """
    module_name, _, class_name = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # whatever importing someone's module may raise
        raise FanfoldError(f"No {what} '{name}' ({one_line(error)}): name it as package.module:Class.") from error

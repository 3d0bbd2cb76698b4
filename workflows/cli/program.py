"""How the program was started, for the commands that it suggests."""

import shlex
import sys
from dataclasses import dataclass


@dataclass
class _Started:
    prefix: tuple[str, ...] = ("fanfold",)
    package: str = ""
    goes_on: str | None = None


_started = _Started()


def started_by(*prefix: str, package: str = "") -> None:
    """Name commands by these words and the verb, such as `fanfold train`, from now on.

    `package` stands before the verb, as in `python -m workflows.train`.
    """
    _started.prefix, _started.package = prefix, package


def started_as_module() -> None:
    """Name commands as modules of the package that `python -m` was given, if it was one of Fanfold's."""
    spec = sys.modules["__main__"].__spec__
    package, found, _ = (spec.name if spec else "").partition("workflows.")
    if found:
        started_by("python", "-m", package=package + found)


def interruptible(goes_on: str | None) -> None:
    """Remember how the command goes on once it was interrupted; without it, the command begins again."""
    _started.goes_on = goes_on


def goes_on() -> str | None:
    """How the command goes on once it was interrupted."""
    return _started.goes_on


def command(verb: str, *words: str) -> str:
    """A command line that a user may copy: `fanfold train --resume --run 'my runs/1'`, as the program was started."""
    return shlex.join([*_started.prefix, _started.package + verb, *words])

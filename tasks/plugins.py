"""Classes that a user names as `package.module:Class`."""

import importlib
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError, RunError
from fanfold.tasks.given import PREFIX

OURS = Path(__file__).parents[1]


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
        if fault := _fault(error):
            raise FanfoldError(f"The {kind} '{name}' can't be imported: {fault}.") from error
        raise FanfoldError(f"No {kind} '{name}' ({one_line(error)}): name it as package.module:Class.") from error


@contextmanager
def own_faults() -> Iterator[None]:
    """A block in which the code of a user's algorithm or model runs: what it raises is said with its place.

    Raises:
        RunError: It raises anything; file, line and error are named.
    """
    try:
        yield
    except Exception as error:  # a user's code may raise anything
        ours = type(error).__module__.partition(".")[0] == __name__.partition(".")[0]  # also what ends a window early
        if not ours and (fault := _fault(error)):
            raise RunError(f"{fault} ({type(error).__name__}).") from error
        raise


def _fault(error: Exception) -> str | None:
    """What is wrong in a user's own file, and where; None where it is none of theirs."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_short(error.filename)}, line {error.lineno}: {error.msg}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    if not own:
        return None
    advice = ": write @dataclass(frozen=True)" if "non-frozen dataclass from a frozen" in str(error) else ""
    return f"{_short(own[-1].filename)}, line {own[-1].lineno}: {one_line(error)}{advice}"


def _is_own(file: str) -> bool:
    """Whether a file belongs to the user: not to Fanfold, to Python or to what is installed."""
    others = [OURS, *(Path(sysconfig.get_path(place)) for place in ("stdlib", "purelib", "platlib"))]
    return not file.startswith("<") and not any(Path(file).is_relative_to(other) for other in others)


def _short(file: str) -> str:
    """A file's name as seen from the current folder."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

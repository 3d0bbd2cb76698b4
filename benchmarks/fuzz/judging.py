"""What comes of an input: it is accepted and right, refused in one line, or neither."""

import contextlib
import io
import re
import resource
import shutil
import signal
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fuzz.mutation import Random
from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.entry import status_of

SECONDS = 5.0  # of a processor, at most, for an input
WAITING = 120.0  # seconds at most, however busy the machine is
MEMORY = 3 << 30  # bytes of address space at most, above those of the imports
REPOSITORY = Path(__file__).parents[2]
LENGTH = 1100  # characters of a refusal, without the folder's name

Read = Callable[[], None]
"""Reads an input, and raises WrongError where it is accepted and isn't what it should be."""
Kind = Callable[[Path, Random], Read]
"""Makes an input of a kind in an empty folder; what is made once lies beside it, see `kept`."""


class WrongError(Exception):
    """An input was accepted, and is not what it should be."""


class LateError(BaseException):
    """An input took too long; no reader catches this."""


@dataclass(frozen=True)
class Outcome:
    """What came of an input."""

    outcome: str  # accepted, refused or failed
    line: str = ""  # the refusal, or what failed


def right(what: str, holds: object) -> None:
    """Raise WrongError unless a property holds."""
    if not holds:
        raise WrongError(what)


def kept(folder: Path, name: str) -> Path:
    """A place that outlasts an input, for what is made once."""
    return folder.parent / "kept" / name


def judged(kinds: Mapping[str, Kind], seed: int, kind: str, index: int, root: Path) -> Outcome:
    """Make and read one input in a folder, and judge what comes of it."""
    random = np.random.default_rng([seed, zlib.crc32(kind.encode()), index])
    folder = root / "input"
    for path in (folder, root / "kept"):
        path.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():  # what the last input left
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = kinds[kind](folder, random)
            with _timed():
                status = status_of(lambda _: read())
    except (Exception, LateError):
        return Outcome("failed", _without_folders(traceback.format_exc()))
    line = said.getvalue().replace(str(root), "")
    if status == 0:
        return Outcome("failed", f"accepted with words: {line}") if line else Outcome("accepted")
    wrong = _wrong(status, line)
    return Outcome("failed", wrong) if wrong else Outcome("refused", line.removeprefix("error: ").rstrip())


def _without_folders(text: str) -> str:
    """A traceback with paths below the repository or the installed packages, wherever these lie."""
    return re.sub(r'File "(?:[^"]*/site-packages|' + re.escape(str(REPOSITORY)) + ")/", 'File "', text)


def _wrong(status: int, text: str) -> str:
    """What is wrong with a refusal; empty where nothing is."""
    line = text.removesuffix("\n")
    if status != FanfoldError.status:
        return f"status {status}: {text}"
    if not line.removeprefix("error: ").strip() or not line.isprintable():
        return f"no printable line: {text!r}"
    if len(line) > LENGTH:
        return f"{len(line):,} characters: {line}"
    return f"an object's address: {line}" if re.search(r"\bat 0x|\b0x[0-9a-f]{10,}", line) else ""


@contextlib.contextmanager
def _timed() -> Iterator[None]:
    def late(*_: object) -> None:
        raise LateError(f"more than {SECONDS} s of a processor, or {WAITING} s")

    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def bound_memory() -> None:
    """Bound this process's memory; to be called after the imports."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

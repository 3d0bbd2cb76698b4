"""Objects that a user hands over in Python: a model or an algorithm for which no importable name stands.

An object travels to each worker once, by cloudpickle. Everywhere else its digest stands for it: in recipes, in the keys
of caches, in messages. Nothing pickled is ever written to a file.
"""

import hashlib
from typing import Any

import cloudpickle

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError

PREFIX = "object"
"""The name of such an object is `object:Class`, where others have `package.module:Class`."""

# What this process was given, by digest: as it was sent, and the one shared copy of it.
_pickled: dict[str, bytes] = {}
_shared: dict[str, Any] = {}
_digests: dict[Any, str] = {}  # of the shared copies


class Absent:
    """Stands for a shared object in a process that wasn't given it, such as a scheduler's; it can be sent on."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (self.digest,)


def give(kind: str, found: object) -> str:
    """Keep an object as it is now. Returns its digest.

    Raises:
        FanfoldError: It can't be pickled; the message calls it by its kind, such as "model".
    """
    try:
        content: bytes = cloudpickle.dumps(found)
    except Exception as error:  # whatever a user's object may raise
        raise FanfoldError(f"The {kind} can't be pickled, to be sent to workers: {one_line(error)}.") from error
    digest = hashlib.sha256(content).hexdigest()
    receive(digest, content)
    return digest


def receive(digest: str, content: bytes) -> None:
    """Keep an object as it was sent."""
    _pickled[digest] = content


def as_sent(digest: str) -> bytes:
    """An object as it is sent, pickled."""
    return _pickled[digest]


def content(digest: str) -> bytes | None:
    """What this process was given; None where it wasn't."""
    return _pickled.get(digest)


def fresh(digest: str) -> Any:
    """A new copy of an object.

    Raises:
        FanfoldError: This process wasn't given it, or lacks what it imports.
    """
    if digest not in _pickled:
        raise FanfoldError("A model or algorithm that was handed over in Python isn't here: hand it over again.")
    try:
        return cloudpickle.loads(_pickled[digest])
    except Exception as error:  # whatever its modules may raise
        raise FanfoldError(f"A model or algorithm can't be unpickled here: {one_line(error)}.") from error


def shared(digest: str) -> Any:
    """The one copy of a hashable object that this process uses, which is pickled as its digest alone."""
    if digest not in _shared:
        if digest not in _pickled:
            return Absent(digest)
        _shared[digest] = fresh(digest)
        _digests[_shared[digest]] = digest
    return _shared[digest]


def digest_of(found: object) -> str | None:
    """The digest of a shared object; None of any other."""
    return _digests.get(found) if _digests else None


def importable(found: type) -> str | None:
    """The name `package.module:Class` by which any process can import a class; None where there is none."""
    if found.__module__ == "__main__" or "." in found.__qualname__:
        return None
    return f"{found.__module__}:{found.__qualname__}"

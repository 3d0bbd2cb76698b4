"""Stores in a place that fsspec reaches by an address, such as a bucket: `s3://bucket/store.zarr`.

Credentials and endpoints are those of the place's own library, which reads them from the environment and from its
files: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, or FSSPEC_S3_ANON=true for open buckets.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeAlias

from fanfold.data import extras
from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError

EXTRAS = {"s3": "s3", "s3a": "s3"}
"""The extra that each scheme needs."""

ROOT = "zarr.json"
"""The file that makes a folder a store: written last, removed first."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True)
class Remote:
    """An address, with the few methods of a path that a store needs."""

    address: str

    def __str__(self) -> str:
        return self.address

    def __fspath__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> Self:
        return type(self)(f"{self.address.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name.removesuffix(".zarr")

    def resolve(self) -> Self:
        """The address itself, which is the same from everywhere."""
        return self

    def exists(self) -> bool:
        """Whether anything is there.

        Raises:
            FanfoldError: The place can't be reached.
        """
        with self._reached() as (system, path):
            return bool(system.exists(path)) or self._no_bucket(system, path)

    def is_file(self) -> bool:
        """Whether there is a file of that address. Raises FanfoldError if the place can't be reached."""
        with self._reached() as (system, path):
            return bool(system.isfile(path))

    def files(self) -> frozenset[str]:
        """The files below, relative to the address. Raises FanfoldError if the place can't be reached."""
        with self._reached() as (system, path):
            return frozenset(str(found)[len(path) + 1 :] for found in system.find(path))

    def upload(self, folder: Path) -> None:
        """Replace what is there by the files of a folder: absent meanwhile, complete at the end.

        Raises:
            FanfoldError: The place can't be reached, or written to.
        """
        files = sorted(str(file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file())
        with self._reached() as (system, path):
            for stale in (ROOT, *sorted(self.files() - {ROOT})) if system.exists(path) else ():
                if system.exists(f"{path}/{stale}"):
                    system.rm_file(f"{path}/{stale}")
            parts = [file for file in files if file != ROOT]
            for some in (parts, [ROOT]):
                system.put([str(folder / file) for file in some], [f"{path}/{file}" for file in some])

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """The file system and the path in it; its errors become a FanfoldError."""
        import fsspec  # only here: most stores are local

        scheme = self.address.partition("://")[0]
        if scheme in EXTRAS:
            extras.need(EXTRAS[scheme], self.address)
        try:
            system, path = fsspec.url_to_fs(self.address)
            system.invalidate_cache()  # others write there, too
            yield system, path
        except FanfoldError:
            raise
        except (ImportError, ValueError) as error:  # an unknown scheme, or one whose library is absent
            raise FanfoldError(f"{self.address}: can't be reached ({one_line(error)[:200]})") from error
        except Exception as error:  # of as many kinds as there are places
            raise FanfoldError(f"{self.address}: {_reason(error)}") from error

    def _no_bucket(self, system: Any, path: str) -> bool:
        """Raise the system's error where not even the bucket is there; otherwise false."""
        system.ls(path.partition("/")[0])
        return False


Place: TypeAlias = Path | Remote


def place(path: str | PathLike[str]) -> Place:
    """The place that a path or an address names."""
    if isinstance(path, (Path, Remote)):
        return path
    return Remote(os.fspath(path)) if is_remote(path) else Path(path)


def is_remote(path: object) -> bool:
    """Whether a path is an address, such as `s3://bucket/store.zarr`."""
    return isinstance(path, Remote) or (isinstance(path, str) and _ADDRESS.match(path) is not None)


def _reason(error: Exception) -> str:
    """What is wrong, and what to do."""
    text = one_line(error)[:200]
    kind = type(error).__name__
    if isinstance(error, PermissionError) or "Credentials" in kind or "Token" in kind:
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return f"no credentials for it, or none that may do this ({text}); {advice}"
    if isinstance(error, FileNotFoundError):
        return f"no such bucket or folder ({text}); make it first, or name another"
    return f"can't be reached ({kind}: {text}); look at the address, and at AWS_ENDPOINT_URL"

"""Downloading Omniglot's official archives, through torchvision."""

import contextlib
import http.client
import io
import shutil
import socket
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fanfold.data.advice import one_line
from fanfold.data.atomic import needed_folder
from fanfold.data.errors import FanfoldError

_SECONDS = 20.0  # without an answer; torchvision sets no bound of its own
_FAILURES = (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException, zipfile.BadZipFile)


class DownloadError(FanfoldError):
    """Omniglot can't be downloaded from here."""


def download_omniglot(folder: Path, *, progress: bool = True) -> Path:
    """Have Omniglot's two parts in `folder`, fetching those not there yet; their MD5 sums are compared.

    Args:
        folder: where they go, in the sub-folder `omniglot-py`.
        progress: say on standard error what is going on: a bar on a terminal, otherwise one line.

    Returns:
        The folder, to be read by `data.sources.omniglot.OmniglotSource`.

    Raises:
        DownloadError: a part can't be had. What arrived of it is removed.
    """
    from torchvision.datasets import Omniglot  # takes seconds to import

    bar = progress and sys.stderr.isatty()
    for background, name in ((True, "images_background"), (False, "images_evaluation")):
        if progress and not (folder / "omniglot-py" / f"{name}.zip").exists():
            print(f"Downloading {Omniglot.download_url_prefix}/{name}.zip", file=sys.stderr, flush=True)
        try:
            with (
                needed_folder(folder / "omniglot-py"),
                _whole_or_nothing(folder / "omniglot-py", name),
                _patience(_SECONDS),
                contextlib.redirect_stderr(sys.stderr if bar else io.StringIO()),
            ):
                Omniglot(str(folder), background=background, download=True)
        except _FAILURES as error:
            raise DownloadError(
                f"Omniglot could not be downloaded ({one_line(error)}); name a folder that holds images_background.zip "
                f"and images_evaluation.zip with `dataset.source` or OMNIGLOT_SOURCE, or take the embedded data set "
                "with `dataset.name=glyphs`"
            ) from error
    return folder


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Bound what a socket waits for an answer; urllib takes its bound from this global alone."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _whole_or_nothing(place: Path, name: str) -> Iterator[None]:
    """Remove a part's archive and folder when the block fails."""
    try:
        yield
    except BaseException:
        shutil.rmtree(place / name, ignore_errors=True)
        (place / f"{name}.zip").unlink(missing_ok=True)
        raise

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

TIMEOUT_SECONDS = 20.0  # without an answer; torchvision sets no time-out
FAILURES = (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException, zipfile.BadZipFile)


class DownloadError(FanfoldError):
    """A data set can't be downloaded from here."""


def download_omniglot(folder: Path, *, progress: bool = True) -> Path:
    """Download the parts of Omniglot that the folder `omniglot-py` in `folder` lacks, and compare their MD5 sums.

    On standard error, progress is a bar on a terminal, otherwise a line for each part. The incomplete files of a part
    that can't be downloaded are removed.

    Returns:
        The folder, for `data.sources.omniglot.OmniglotSource`.

    Raises:
        DownloadError: A part can't be downloaded.
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
                socket_timeout(TIMEOUT_SECONDS),
                contextlib.redirect_stderr(sys.stderr if bar else io.StringIO()),
            ):
                Omniglot(str(folder), background=background, download=True)
        except FAILURES as error:
            raise DownloadError(
                f"Omniglot could not be downloaded ({one_line(error)}); name a folder that holds images_background.zip "
                f"and images_evaluation.zip with `dataset.source` or OMNIGLOT_SOURCE, or take the embedded data set "
                "with `dataset.name=glyphs`"
            ) from error
    return folder


@contextlib.contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Set the time-out of new sockets; urllib takes its time-out from this global only."""
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

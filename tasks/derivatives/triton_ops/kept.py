"""Where Triton keeps compiled kernels on disk: a folder that can be written to."""

import logging
import os
import tempfile
from functools import cache
from pathlib import Path

from fanfold.data.advice import one_line

ROOM = 1 << 20  # bytes that some kernels take

_LOG = logging.getLogger(__name__)


@cache
def find_folder() -> None:
    """Let Triton keep kernels in a temporary folder where its own can't be written to, as it must keep them somewhere.

    Its own is `TRITON_CACHE_DIR`, or `.triton/cache` in `TRITON_HOME` or in the home.
    """
    home = Path(os.environ.get("TRITON_HOME") or Path.home())
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or home / ".triton" / "cache")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(ROOM))
            probe.flush()
    except OSError as error:
        os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(prefix="fanfold-triton-")
        _LOG.warning(
            "Triton's kernels can't be kept in %s (%s): this process compiles its own; let TRITON_CACHE_DIR name a "
            "folder that can be written to.",
            folder,
            one_line(error),
        )

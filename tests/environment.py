"""Processes that tests start, and their environment."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def with_root(environment: Mapping[str, str] = os.environ, *before: Path) -> dict[str, str]:
    """An environment in which Python finds the project, after some folders, and then all that it finds here.

    Where nothing can be installed, dependencies come by PYTHONPATH, too.
    """
    known = environment.get("PYTHONPATH")
    places = [*map(str, before), str(ROOT), *([known] if known else [])]
    return {**environment, "PYTHONPATH": os.pathsep.join(places)}


def outcome(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end, however that is; what it prints is text."""
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )

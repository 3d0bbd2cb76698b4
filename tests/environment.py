"""The environment of processes that tests start."""

import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def with_root(environment: Mapping[str, str] = os.environ, *before: Path) -> dict[str, str]:
    """An environment in which Python finds the project, after some folders, and then all that it finds here.

    Where nothing can be installed, dependencies come by PYTHONPATH, too.
    """
    known = environment.get("PYTHONPATH")
    places = [*map(str, before), str(ROOT), *([known] if known else [])]
    return {**environment, "PYTHONPATH": os.pathsep.join(places)}

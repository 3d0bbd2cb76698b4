"""The names of runs: of those that come with the package, and what is wrong with a name that is none's."""

from pathlib import Path

SHIPPED = "fanfold:"
"""How runs that come with the package begin, in place of a run directory."""


def why_no_run(path: str, shipped_for: str, otherwise: str) -> str:
    """Why there is no run to read under a name.

    Args:
        path: The name.
        shipped_for: What runs that come with the package are for.
        otherwise: What to do where the folder holds nothing like a run, after its name.
    """
    if path.startswith(SHIPPED):
        return f"{path} is for {shipped_for} alone, without its data: name a run directory."
    if inside := sorted(Path(path).glob("*/config.yaml")):
        return f"The folder {path} holds runs, and is none: name one, such as {inside[-1].parent}."
    return f"The folder {path} holds no run{otherwise}."

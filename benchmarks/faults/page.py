"""The table as a page."""

from collections.abc import Mapping
from typing import Any

HELD = {True: "yes", False: "**no**", None: "–"}


def as_markdown(result: Mapping[str, Any]) -> str:
    """The table of a result."""
    cases, of = result["cases"], result["environment"]
    counts = [f"{sum(case['held'] is held for case in cases)} {word}" for held, word in WORDS.items()]
    lines = [
        "# Every kind of fault, one at a time",
        "",
        f"{len(cases)} of {result['known']} cases were played: {', '.join(counts)}.",
        "",
        "Where *held* says yes, the run ended by itself, or in one line and was gone on with; its parameters are the",
        "undisturbed run's, bit for bit; its metrics hold each iteration once; no process, temporary folder or half",
        "file is left. What was refused was refused in one line.",
        "",
        "| fault | by | held | what was seen | last line of the first driver | s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in cases:
        first = next(iter(case["drivers"]), {"status": 0})
        said = first["said"] if first["status"] > 0 else ""  # a driver that is killed says nothing
        cells = [case["fault"], case["reduction"], HELD[case["held"]], case["seen"], said, str(case["seconds"])]
        lines.append(f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |")
    versions = f"Python {of['python']}, PyTorch {of['torch']}, Dask {of['dask']}"
    return "\n".join(
        [*lines, "", f"`{result['command']}`, {of['date']}, {of['cores']} × {of['processor']}, {versions}.", ""]
    )


WORDS = {True: "held", False: "did not hold", None: "skipped"}

"""What the check found, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu.goals import GOALS, Goal
from benchmarks.gpu.options import Row

KEY = """Settings: (a) 5-way 1-shot, 1 query a class, 1 inner step; (b) 5-way 1-shot, 15 queries, 5 steps; (c) 20-way
1-shot, 1 query, 5 steps, these with Conv-4 of 64 filters; (d) as (a), with the article's network. A *difference* is the
distance from the gradient of the first 32 tasks in float64, as a share of its length. Times are medians of an exact
meta-gradient of all tasks, by the device's own events."""


def markdown(result: Mapping[str, Any]) -> str:
    """The report of a check, as far as it has come."""
    parts: Mapping[str, Any] = result["parts"]
    lines = [f"# Fanfold on {result['hardware']['device']}", "", _where(result), ""]
    found = {name: part["rows"] for name, part in parts.items()}
    if any(goal.value(found) is not None for goal in GOALS):
        lines += ["## Aims", "", *_table([_row(goal, found) for goal in GOALS]), ""]
    lines += [KEY, "", "## Time", "", *_table(_times(result)), ""]
    for part in parts.values():
        lines += [f"## {part['title']}", "", _state(part), ""]
        if part["rows"]:
            lines += [*_tables(part["rows"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _row(goal: Goal, found: Mapping[str, Sequence[Row]]) -> Row:
    value = goal.value(found)
    met = "not measured" if value is None else "met" if goal.met(value) else "**not met**"
    return {"aim": goal.words, "found": "" if value is None else value, "": met}


def _times(result: Mapping[str, Any]) -> list[Row]:
    """What each part was to take, by estimate for an H200, and took."""
    planned: Mapping[str, float] = result["planned"]
    parts, rows = result["parts"], []
    for name, seconds in planned.items():
        part = parts.get(name, {"seconds": "", "state": "still to come"})
        rows.append({"part": name, "planned, s": seconds, "taken, s": part["seconds"], "": part["state"]})
    return [*rows, {"part": "in all", "planned, s": sum(planned.values()), "taken, s": result["seconds"], "": ""}]


def _where(result: Mapping[str, Any]) -> str:
    hardware, versions = result["hardware"], result["versions"]
    words = [f"{name} {version}" for name, version in versions.items() if version]
    note = " A rehearsal with tiny sizes: its times say nothing." if result["quick"] else ""
    machine = ", ".join(str(value) for value in hardware.values() if value)
    return f"Measured {result['date']} on {machine}; {', '.join(words)}; by `{result['command']}`.{note}"


def _state(part: Mapping[str, Any]) -> str:
    state = part["state"] if part["state"] == "done" else f"**{part['state']}**"
    return f"{state} in {part['seconds']:.0f} s" + (f": {part['reason']}" if part["reason"] else "")


def _tables(rows: Sequence[Row]) -> list[str]:
    """Tables of rows, those that begin with the same column in one."""
    lines: list[str] = []
    for head in dict.fromkeys(next(iter(row)) for row in rows):
        lines += [*_table([row for row in rows if next(iter(row)) == head]), ""]
    return lines[:-1]


def _table(rows: Sequence[Row]) -> list[str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *cells)]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "/").replace("\n", " ")

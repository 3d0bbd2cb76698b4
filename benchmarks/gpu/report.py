"""What was aimed at on one NVIDIA H200, and what the check found there, as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.gpu.part import Row

Found = Mapping[str, Sequence[Row]]
"""The rows of each part."""

KEY = """Settings: (a) 5-way 1-shot, 1 query a class, 1 inner step; (b) 5-way 1-shot, 15 queries, 5 steps; (c) 20-way
1-shot, 1 query, 5 steps, these with Conv-4 of 64 filters; (d) as (a), with the article's network. A *difference* is the
distance from the gradient of the first 32 tasks in float64, as a share of its length. Times are medians of an exact
meta-gradient of all tasks, by the device's own events; those of first calls include what is compiled."""


class Goal(NamedTuple):
    """An aim: in words, the number found (None where it was not measured), and whether a number is good enough."""

    words: str
    value: Callable[[Found], float | None]
    met: Callable[[float], bool]


def least(column: str, part: str, **where: object) -> Callable[[Found], float | None]:
    """The least number in a column of a part's rows that have some cells, those of text beginning so."""

    def value(found: Found) -> float | None:
        return min((row[column] for row in found.get(part, ()) if column in row and _fits(row, where)), default=None)

    return value


def _fits(row: Row, where: Mapping[str, object]) -> bool:
    return all(
        str(row.get(key, "")).startswith(wanted) if isinstance(wanted, str) else row.get(key) == wanted
        for key, wanted in where.items()
    )


def ratio(
    one: Callable[[Found], float | None], other: Callable[[Found], float | None]
) -> Callable[[Found], float | None]:
    """One number over another, where both are known."""

    def value(found: Found) -> float | None:
        above, below = one(found), other(found)
        return None if above is None or below is None else above / below

    return value


def _all_at_once(found: Found) -> float | None:
    known = [least("ms", part)(found) for part in ("vmap", "jax")]
    return None if None in known else min(value for value in known if value is not None)


def _per_second(part: str, **where: object) -> Callable[[Found], float | None]:
    return ratio(lambda _: 1000.0, ratio(least("ms", part, **where), least("tasks", part, **where)))


def _lost(found: Found) -> float | None:
    share = ratio(least("iterations/s", "window"), least("iterations/s", "loop"))(found)
    return None if share is None else 100 * (1 - share)


OWN = least("ms", "fanfold", tasks=32, side="fanfold")
GOALS = (
    Goal("a meta-iteration of 32 tasks (a) in at most 0.4 ms", least("ms an iteration", "loop"), lambda ms: ms <= 0.4),
    Goal("its meta-gradient alone, ms", OWN, lambda ms: ms <= 0.4),
    Goal(
        "at least 100,000 tasks/s of training (a) at 512 tasks",
        _per_second("fanfold", tasks=512),
        lambda rate: rate >= 1e5,
    ),
    Goal(
        "at least 500 × as fast as higher",
        ratio(least("ms", "autograd", side="higher"), OWN),
        lambda times: times >= 500,
    ),
    Goal(
        "at least 3 × as fast as the better of torch.func.vmap and JAX",
        ratio(_all_at_once, OWN),
        lambda times: times >= 3,
    ),
    Goal(
        "60,000 meta-iterations over a cluster in at most 60 s",
        ratio(lambda _: 60_000.0, least("iterations/s", "window")),
        lambda seconds: seconds <= 60,
    ),
    Goal("at least 98.7 % on 5-way 1-shot test tasks", least("test accuracy %", "window"), lambda found: found >= 98.7),
    Goal("at least 100,000 tasks/s of meta-test", _per_second("meta-test", tasks=4096), lambda rate: rate >= 1e5),
    Goal("less than 2 % of a training's rate lost to Dask, beside its loop alone", _lost, lambda share: share < 2),
    Goal(
        "20 inner steps in at most 1.2 × the memory of one",
        least("× the first", "memory", way="mixed", steps=20),
        lambda times: times <= 1.2,
    ),
)


def markdown(result: Mapping[str, Any]) -> str:
    """The report of a check, as far as it has come; of none, the goals alone."""
    parts: Mapping[str, Any] = result.get("parts", {})
    found = {name: part["rows"] for name, part in parts.items()}
    lines = ["# Fanfold on a GPU", "", _where(result) if parts else "Nothing has been measured yet.", ""]
    lines += _table([_judged(goal, found, result.get("device") == "cuda") for goal in GOALS])
    if parts:
        times = [
            {"part": part["title"], "planned, s": part["planned"], "taken, s": part["seconds"], "": part["state"]}
            for part in parts.values()
        ]
        lines += ["", KEY, "", *_table(times)]
    for part in parts.values():
        lines += ["", f"## {part['title']}", *(["", part["reason"]] if part["reason"] else [])]
        for head in dict.fromkeys(next(iter(row)) for row in part["rows"]):  # those of one kind in a table
            lines += ["", *_table([row for row in part["rows"] if next(iter(row)) == head])]
    return "\n".join(lines).rstrip() + "\n"


def _judged(goal: Goal, found: Found, on_cuda: bool) -> Row:
    value = goal.value(found)
    met = "" if value is None or not on_cuda else "met" if goal.met(value) else "**not met**"
    return {"aim, on one NVIDIA H200": goal.words, "found": "unmeasured" if value is None else value, "": met}


def _where(result: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    note = "" if result["device"] != "cpu" else " **A rehearsal with small sizes: its times say nothing.**"
    return f"Measured {result['date']} on {result['hardware']}; {versions}.{note}"


def _table(rows: Sequence[Row]) -> list[str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *cells)]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value).replace("|", "/").replace("\n", " ")

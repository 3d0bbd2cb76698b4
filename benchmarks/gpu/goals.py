"""What was aimed at on one NVIDIA H200, and what was found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.gpu.options import Row

Found = Mapping[str, Sequence[Row]]
"""The rows of each part."""


@dataclass(frozen=True)
class Goal:
    """An aim.

    Args:
        words: What is aimed at.
        value: The number found, None where it was not measured.
        met: Whether a number is good enough.
    """

    words: str
    value: Callable[[Found], float | None]
    met: Callable[[float], bool]


def fastest(rows: Sequence[Row], setting: str, tasks: int, side: str = "") -> float | None:
    """The least milliseconds at a setting and number of tasks, of the sides whose names begin so."""
    known = [
        row["ms"]
        for row in rows
        if "ms" in row and (row["setting"], row["tasks"]) == (setting, tasks) and row["side"].startswith(side)
    ]
    return min(known, default=None)


def _at_once(found: Found) -> float | None:
    return fastest(found.get("fanfold", ()), "a", 32)


def _over(*parts: str, side: str = "") -> Callable[[Found], float | None]:
    """How many times as fast Fanfold is as the fastest of some parts' sides."""

    def ratio(found: Found) -> float | None:
        own, theirs = _at_once(found), [fastest(found.get(part, ()), "a", 32, side) for part in parts]
        known = [value for value in theirs if value is not None]
        return min(known) / own if own and known else None

    return ratio


def _most_tasks(found: Found) -> float | None:
    rows = [row for row in found.get("fanfold", ()) if row["setting"] == "a" and row["tasks"] >= 512]
    return max((row["tasks/s"] for row in rows if "tasks/s" in row), default=None)


def _share(found: Found) -> float | None:
    rows = [row for row in found.get("roofline", ()) if row["tasks"] == 512 and row["side"].startswith("fanfold")]
    best = {
        setting: max(row["of the floor %"] for row in rows if row["setting"] == setting) for setting in _names(rows)
    }
    return min(best.values(), default=None)


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["setting"] for row in rows))


def _of(part: str, column: str, choose: Callable[..., float] = max, **where: object) -> Callable[[Found], float | None]:
    """A number of a part's rows: of those that have it, and that are as they should be."""

    def value(found: Found) -> float | None:
        known = [
            row[column]
            for row in found.get(part, ())
            if column in row and all(row.get(key) == wanted for key, wanted in where.items())
        ]
        return choose(known) if known else None

    return value


def _lost(found: Found) -> float | None:
    """What share of its rate a training over a cluster loses to the loop alone, in percent."""
    own, alone = (_of(part, "iterations/s")(found) for part in ("window", "loop"))
    return 100 * (1 - own / alone) if own and alone else None


GOALS = (
    Goal("a meta-gradient of 32 tasks (a) in at most 0.4 ms", _at_once, lambda ms: ms <= 0.4),
    Goal("that is at least 500 × as fast as higher", _over("autograd", side="higher"), lambda times: times >= 500),
    Goal("and 3 × as fast as the better of torch.func.vmap and JAX", _over("vmap", "jax"), lambda times: times >= 3),
    Goal("at least 100,000 tasks/s of training (a), 512 or more at a time", _most_tasks, lambda rate: rate >= 1e5),
    Goal("at least 50 % of the floor at 512 tasks, in every setting", _share, lambda share: share >= 50),
    Goal(
        "60,000 meta-iterations in less than a minute, iterations done a minute",
        lambda found: None if (rate := _of("window", "iterations/s")(found)) is None else 60 * rate,
        lambda iterations: iterations > 60_000,
    ),
    Goal("less than 2 % of a training's time lost to Dask: beside its loop alone", _lost, lambda share: share < 2),
    Goal(
        "less than 2 % of it outside a worker's own time",
        _of("window", "outside computation %"),
        lambda share: share < 2,
    ),
    Goal("at least 98.7 % on 5-way 1-shot test tasks", _of("window", "test accuracy %"), lambda found: found >= 98.7),
    Goal("at least 100,000 tasks/s of meta-test", _of("meta-test", "tasks/s"), lambda rate: rate >= 1e5),
    Goal(
        "20 inner steps in at most 1.2 × the memory of one",
        _of("memory", "× the first", min, way="mixed", steps=20),
        lambda times: times <= 1.2,
    ),
)

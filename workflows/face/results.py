"""What tests of a run found, in Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fanfold.pipeline.results import Accuracy
from fanfold.workflows.cli.result import worst_first, worst_in_words

LISTED = 10  # classes that a test shows as text
NUMBERS = ("queries", "accuracy", "precision", "f1")


@dataclass(frozen=True)
class OfClass:
    """The predictions for the queries of one class, as shares of 1.

    Args:
        queries: How many queries of the class there were.
        accuracy: The share of them that was found to be of the class (its recall).
        precision: The share of those said to be of the class that are.
        f1: The harmonic mean of both.
    """

    queries: int
    accuracy: float
    precision: float
    f1: float


@dataclass(frozen=True, repr=False)
class TestResult:
    """A run's accuracy on tasks from test classes.

    Args:
        accuracy: The mean over tasks as a share of 1, half the width of its 95 % interval, and the number of tasks.
        transductive: Whether a task's queries were judged together, and so influenced each other.
        other: The accuracy judged in the other way, where the algorithm has two.
        by_class: The classes by name, the lowest accuracy first.
        keys: All that was measured, as it is kept in the run directory.
        notes: What puts the test in doubt, a line each: a damaged checkpoint, or a run that learnt nothing; and what
            other data it was on.
    """

    accuracy: Accuracy
    transductive: bool
    other: Accuracy | None
    by_class: Mapping[str, OfClass]
    keys: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    __test__ = False  # no test of pytest's

    @classmethod
    def of(cls, keys: Mapping[str, Any], notes: Sequence[str] = ()) -> Self:
        """The test that a file's keys describe, with notes on it."""
        found = {one["class"]: OfClass(**{name: one[name] for name in NUMBERS}) for one in worst_first(keys["classes"])}
        others = [accuracy_of(other) for other in keys["other_tests"]]
        return cls(accuracy_of(keys), keys["transductive"], others[0] if others else None, found, keys, tuple(notes))

    def __str__(self) -> str:
        kind = "transductive" if self.transductive else "inductive"
        accuracy = f"{self.accuracy} ({self.accuracy.tasks:,} tasks, {kind})"
        return "\n".join([accuracy, *worst_in_words(self.keys["classes"], LISTED), *self.notes])

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class TestGrid:
    """A run's accuracies on tasks of many numbers of ways and shots.

    Args:
        accuracies: The accuracy by `(ways, shots)`, where there are enough test classes and pictures for such tasks.
        keys: All that was measured, as it is kept in the run directory.
        notes: What was left out and why, a line each.
    """

    accuracies: Mapping[tuple[int, int], Accuracy]
    keys: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    __test__ = False  # no test of pytest's

    @classmethod
    def of(cls, keys: Mapping[str, Any], notes: Sequence[str] = ()) -> Self:
        """The table that a file's keys describe, with notes on it."""
        return cls({(one["ways"], one["shots"]): accuracy_of(one) for one in keys["cells"]}, keys, tuple(notes))

    def __str__(self) -> str:
        ways, shots = (sorted({cell[place] for cell in self.accuracies}) for place in (0, 1))
        lines = [f"{'':8}" + "".join(f"{f'{shot}-shot':>16}" for shot in shots)]
        for way in ways:
            found = [self.accuracies.get((way, shot)) for shot in shots]
            lines.append(f"{f'{way}-way':8}" + "".join(f"{'–' if one is None else str(one):>16}" for one in found))
        return "\n".join([*lines, *self.notes])

    __repr__ = __str__


def accuracy_of(keys: Mapping[str, Any]) -> Accuracy:
    """The accuracy that the keys of a test hold."""
    return Accuracy(keys["test_accuracy"], keys["test_ci95"], keys["test_episodes"])

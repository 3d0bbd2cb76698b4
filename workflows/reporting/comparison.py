"""The report of several runs, side by side."""

from collections.abc import Sequence

from fanfold.pipeline.experiment import PATHS
from fanfold.workflows.cli.result import kind
from fanfold.workflows.reporting.curves import overlaid
from fanfold.workflows.reporting.page import Page, Section, Table
from fanfold.workflows.reporting.published import published_beside
from fanfold.workflows.reporting.run import Run, told_apart
from fanfold.workflows.reporting.single import duration, percent
from fanfold.workflows.reporting.style import styled


@styled()
def comparison(runs: Sequence[Run]) -> Page:
    """The page of several runs: their results, their curves together, and the differences of their configurations."""
    runs = told_apart(runs)
    sections = [Section("Results", table=_results(runs))]
    drawn = overlaid(runs)
    sections.append(Section("Training", [] if drawn else ["No run has metrics yet."], drawn))
    different = _differences(runs)
    words = "Only what differs." if different.rows else "The configurations are the same."
    sections.append(Section("Configurations", [words], table=different if different.rows else None))
    titles = dict.fromkeys(run.title for run in runs)
    title = f"{len(runs)} runs: {next(iter(titles))}" if len(titles) == 1 else f"{len(runs)} runs"
    return Page(title, [], [], [], sections)


def _results(runs: Sequence[Run]) -> Table:
    head = ("run", "what", "test accuracy", "the other way", "published", "validation", "iterations", "time", "workers")
    return Table(head, [_row(run) for run in runs])


def _row(run: Run) -> list[str]:
    result = run.result
    if result is None:
        reached = f"{int(run.history.iteration[-1]):,}" if len(run.history) else "0"
        best = percent(run.history.validation.max()) if len(run.history.validation) else ""
        return [run.name, run.title, "not tested yet", "", "", best, reached, "", ""]
    published, *others = (
        f"{percent(test['test_accuracy'])} ± {100 * test['test_ci95']:.2f}, {kind(test)}"
        for test in (result, *result["other_tests"])
    )
    paper = published_beside(result)
    return [
        *(run.name, run.title, published, "; ".join(others), f"{paper.percent} %" if paper else ""),
        *(percent(result["validation_accuracy"]), f"{result['iterations']:,}", duration(result["train_seconds"])),
        f"{result['workers']}, {result['device']}",
    ]


def _differences(runs: Sequence[Run]) -> Table:
    """The keys whose values differ."""
    keys = dict.fromkeys(key for run in runs for key in run.config if key not in PATHS)
    missing = object()
    rows = [
        [key, *(str(run.config.get(key, "")) for run in runs)]
        for key in keys
        if len({repr(run.config.get(key, missing)) for run in runs}) > 1
    ]
    return Table(["key", *(run.name for run in runs)], rows)

"""The table of results as JSON and as Markdown."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster.gpus import in_words
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.pipeline.recording.kept import read_object, wrong_row
from fanfold.workflows.cli.result import kind
from fanfold.workflows.reporting.markdown import markdown_table
from fanfold.workflows.reporting.published import published_beside

ORDER = ("dataset", "split", "algorithm", "model", "ways", "shots", "row")

HEAD = """# Few-shot classification of {datasets}: measured beside published

Accuracy in %, with its 95 % confidence interval, on classes that were never trained on; checkpoints were chosen on
validation classes. *Transductive*: a task's queries are normalized together. *Inductive*: each is judged by itself.
The first is as published, *the other way* is the other one. Training is from nothing, or *from* another run's network,
whose own training is not in the minutes. A row of several seeds has the mean over them, ± its interval over the tasks
of all, and *seeds ±* the standard deviation between them. An *ensemble* is the runs of several seeds, whose class
probabilities are averaged; its training is theirs together. Written by `fanfold table`.

"""
CURVES = """
What more time would give: the [validation accuracy]({}) of rows below the published figure, against iterations.
"""
COLUMNS = (
    *("row", "network", "split", "queries · steps", "seeds · tasks", "accuracy", "published", "difference"),
    *("the other way", "training"),
)
VARIED = {"rotations": "rotations", "flip": "mirror images"}
"""Words on a row's test tasks, by the keys of its result."""


def make_folder(out: Path) -> None:
    """Make the folder of a table.

    Raises:
        FanfoldError: The folder can't be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FanfoldError(
            f"The folder {out.parent} can't be made ({error.strerror}): name another table with --out."
        ) from error


def add_to_table(out: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Add results, or replace those of the same row and seed, and write OUT.json and OUT.md.

    Raises:
        FanfoldError: A file can't be read or written.
    """
    path = out.with_name(out.name + ".json")
    known = read_object("table of results", path, {"results": list})["results"] if path.exists() else []
    if (wrong := wrong_row(known)) is not None:
        raise FanfoldError(
            f"The table of results {path} is damaged, or of another version ({wrong}): name another with --out."
        )
    by_run = {(result["row"], result["seed"]): result for result in (*known, *results)}
    ordered = sorted(by_run.values(), key=lambda result: [result[key] for key in (*ORDER, "seed")])
    write_json(path, {"results": ordered})
    drawn = draw_curves(ordered, out)
    write_bytes(out.with_name(out.name + ".md"), markdown(ordered, drawn).encode(errors="backslashreplace"))


def draw_curves(results: Sequence[Mapping[str, Any]], out: Path) -> str | None:
    """Draw the validation curves of rows below their papers, beside the table. Returns the file's name, if any.

    Raises:
        FanfoldError: The file can't be written.
    """
    if not any(result.get("validations") and published_beside(result) for result in results):
        return None
    # Imported here: drawing libraries take long to import.
    from fanfold.workflows.reporting.curves import short_of_paper
    from fanfold.workflows.reporting.style import styled

    path = out.with_name(out.name + "-curves.png")
    with styled():
        if (picture := short_of_paper(results)) is None:
            path.unlink(missing_ok=True)
            return None
        write_bytes(path, picture.png())
    return path.name


def markdown(results: Sequence[Mapping[str, Any]], curves: str | None = None) -> str:
    """The table with a line for each row, over its seeds; and the name of its curves' file."""
    datasets = " and ".join(dict.fromkeys(result["dataset"] for result in results))
    rows = [list(group) for _, group in groupby(results, key=lambda result: result["row"])]
    machines = dict.fromkeys(_machine(result) for result in results)
    sources = dict.fromkeys(found.source for result in results if (found := published_beside(result)))
    return "".join(
        [
            HEAD.format(datasets=datasets),
            markdown_table(COLUMNS, [_cells(row) for row in rows]),
            CURVES.format(curves) if curves else "",
            "\nMeasured on " + "; ".join(machines) + ".\n",
            "\nPublished: " + "; ".join(sources) + ".\n" if sources else "",
        ]
    )


def combined(results: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Mean accuracy over seeds, and half the width of its 95 % interval over all their tasks, in %."""
    mean = fmean(result["test_accuracy"] for result in results)
    return 100 * mean, 100 * math.hypot(*(result["test_ci95"] for result in results)) / len(results)


def _cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    first, paper = runs[0], published_beside(runs[0])
    others = [other for run in runs for other in run["other_tests"]]
    spread = f", seeds ± {100 * stdev(run['test_accuracy'] for run in runs):.2f}" if len(runs) > 1 else ""
    initial = f", from `{first['initial']}`" if first.get("initial") else ""
    tasks = sorted({run["test_episodes"] for run in runs}, reverse=True)
    steps = "" if first.get("inner_steps") is None else f" · {first['inner_steps']}"
    return [
        f"`{first['row']}`",
        first["model"],
        ", ".join([first["split"], *(word for key, word in VARIED.items() if first.get(key))]),
        f"{first['queries']}{steps}",
        f"{_seeds(runs)} · {' and '.join(f'{count:,}' for count in tasks)}",
        f"{_percent(runs)}{spread} {kind(first)}",
        str(float(paper.percent)) if paper else "",
        f"{combined(runs)[0] - paper.percent:+.2f}" if paper else "",
        f"{_percent(others)} {kind(others[0])}" if others else "",
        f"{first['iterations']:,} iterations, {fmean(run['train_seconds'] for run in runs) / 60:.0f} min{initial}",
    ]


def _seeds(runs: Sequence[Mapping[str, Any]]) -> str:
    """How many seeds a row is of, and whether they are an ensemble."""
    members = runs[0].get("members")
    return str(len(runs)) if members is None else f"ensemble of {len(members)}"


def _percent(results: Sequence[Mapping[str, Any]]) -> str:
    mean, ci95 = combined(results)
    return f"{mean:.2f} ± {ci95:.2f}"


def _machine(result: Mapping[str, Any]) -> str:
    found = result["environment"]
    versions = f"Python {found['python']}, PyTorch {found['torch']}, Dask {found['dask']}"
    device = ": ".join(filter(None, [result["device"], in_words(found.get("gpus", []))]))
    return f"{result['workers']} workers ({device}) of {found['cores']} × {found['processor']}, {versions}"

"""Accuracy by ways and shots, as a heat map."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.recording.kept import TESTED, Schema, read_object, wrong_key
from fanfold.workflows.reporting.characters import shortened
from fanfold.workflows.reporting.style import FAINT, Picture, axes

DARK, LIGHT = "#101418", "#ffffff"  # letters on light and on dark colours, in a page of either mode


TABLE: Schema = {**dict.fromkeys(("dataset", "split"), str), "cells": list, "left_out": list}
"""What a file of a table must have."""
PLACE: Schema = dict.fromkeys(("ways", "shots"), int)
CELL: Schema = {**PLACE, **TESTED}


def newest_grid(evaluations: Path) -> dict[str, Any] | None:
    """The table that was made last; None where there is none that can be read."""
    paths = sorted(evaluations.glob("grid-*.json"), key=lambda path: path.lstat().st_mtime, reverse=True)
    for path in paths:
        with suppress(FanfoldError):  # it is none of ours
            found = read_object("table of tests", path, TABLE)
            if found["cells"] and not any(_wrong_cells(found)):
                return found
    return None


def _wrong_cells(found: Mapping[str, Any]) -> Iterator[str]:
    """The keys that are wrong in a table's cells."""
    for schema, part in ((CELL, "cells"), (PLACE, "left_out")):
        yield from filter(None, (wrong_key(one, schema) for one in found[part]))


def draw_grid(found: Mapping[str, Any], run: str | None = None) -> Picture:
    """Draw a table of tests: a row for each number of ways, a column for each of shots.

    A cell that was left out has a dash; ways or shots of which no test could be drawn have no row or column.

    Args:
        found: The table.
        run: The run's name, for a picture that stands alone: it then has a title of what it shows.
    """
    cells = {(one["ways"], one["shots"]): one for one in found["cells"]}
    ways, shots = (sorted({cell[place] for cell in cells}) for place in (0, 1))
    left_out = {(one["ways"], one["shots"]) for one in found["left_out"]}
    blank = left_out & set(product(ways, shots))
    shares = np.full((len(ways), len(shots)), np.nan)
    for (way, shot), one in cells.items():
        shares[ways.index(way), shots.index(shot)] = one["test_accuracy"]
    low, high = float(np.nanmin(shares)), float(np.nanmax(shares))
    low = min(low, high - 0.1)  # where all are alike, colours are, too
    colours = matplotlib.colormaps["cividis"]
    figure, axis = axes(height=(1.2 if run is None else 1.5) + 0.5 * len(ways))
    axis.imshow(100 * shares, cmap=colours, vmin=100 * low, vmax=100 * high, aspect="auto")
    for (way, shot), one in cells.items():
        share = one["test_accuracy"]
        axis.text(
            *(shots.index(shot), ways.index(way)),
            f"{100 * share:.1f}\n± {100 * one['test_ci95']:.1f}",
            ha="center",
            va="center",
            fontsize=8,
            color=DARK if (share - low) / (high - low) > 0.55 else LIGHT,
        )
    for way, shot in blank:
        axis.text(shots.index(shot), ways.index(way), "–", ha="center", va="center", color=FAINT)
    axis.set_xticks(range(len(shots)), [f"{number:,}" for number in shots])
    axis.set_yticks(range(len(ways)), [f"{number:,}" for number in ways])
    axis.set(xlabel="shots: support pictures of each class", ylabel="ways: classes of a task")
    axis.grid(visible=False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    best, worst = (pick(found["cells"], key=lambda one: one["test_accuracy"]) for pick in (max, min))
    tasks = {one["test_episodes"] for one in found["cells"]}
    each = f"{min(tasks):,}" if len(tasks) == 1 else f"{min(tasks):,} to {max(tasks):,}"
    how = "transductive" if found["cells"][0]["transductive"] else "inductive"
    what = f"Accuracy in % with its 95 % interval, {each} tasks each, {how}"
    if run is not None:
        axis.set_title(f"{shortened(run, 40)}: {found['dataset']} {found['split']}\n{what}", loc="left")
    absent = _absent(left_out, ways, shots)
    notes = [
        *(["A dash: too few classes or pictures for such tasks."] if blank else []),
        *([f"Left out, as classes or pictures are too few: {absent}."] if absent else []),
    ]
    return Picture(
        "grid",
        "Accuracy by ways and shots",
        f"Accuracy in %, from {100 * worst['test_accuracy']:.1f} with {worst['ways']} ways and {worst['shots']} shots "
        f"to {100 * best['test_accuracy']:.1f} with {best['ways']} ways and {best['shots']} shots.",
        figure,
        " ".join([f"{what}: {found['dataset']} {found['split']}.", *notes]),
    )


def _absent(left_out: Collection[tuple[int, int]], ways: Sequence[int], shots: Sequence[int]) -> str:
    """The ways and shots of which no test could be drawn, in words; empty where there are none."""
    return ", ".join(
        f"{number:,} {name}"
        for place, name, drawn in ((0, "ways", ways), (1, "shots", shots))
        for number in sorted({cell[place] for cell in left_out} - set(drawn))
    )

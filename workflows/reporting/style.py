"""The style of the report's pictures, and their conversion for files and for the page.

A figure is drawn once. In the page its colours become CSS variables, which differ in the reader's dark mode.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Image = NDArray[np.float32]  # as shown, 0 to 1: `[height, width]`, or `[height, width, 3]` in colour

INK = "#1b1f24"
FAINT = "#5f6873"
GRID = "#d9dde3"
# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
Dashes = Literal["-"] | tuple[float, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))  # distinct without colours

VARIABLES = {
    INK: "ink",
    FAINT: "faint",
    GRID: "grid",
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
    ORANGE: "orange",
    SKY: "sky",
}
REFERENCE: Any = {"color": FAINT, "linestyle": (0, (4, 3)), "linewidth": 1}  # a line to compare others with
WIDTH = 5.2  # inches: letters of 9 points stay legible in a narrow window

RC: Any = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a run's name may have a dollar
    "axes.facecolor": "none",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text, which can be searched, copied and read out
    "svg.hashsalt": "fanfold",  # the same report is the same bytes
}


styled = partial(matplotlib.rc_context, RC)  # a context or a decorator for all drawing


@dataclass(frozen=True)
class Picture:
    """A figure of the report."""

    name: str  # its file's name without the suffix
    title: str
    alt: str  # its description for readers who can't see it
    figure: Figure
    caption: str = ""  # the text below it; empty for none

    def png(self) -> bytes:
        """The picture as a PNG file, dark on white."""
        content = io.BytesIO()
        with styled():
            self.figure.savefig(content, format="png", dpi=150, facecolor="white")
        return content.getvalue()

    def svg(self) -> str:
        """The picture for the page: an `<svg>` element of the full width, with CSS variables as colours."""
        content = io.StringIO()
        with styled():
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            self.figure.savefig(content, format="svg", facecolor="none", metadata=nothing)
        drawing = content.getvalue()
        drawing = drawing[drawing.index("<svg") :]
        for colour, name in VARIABLES.items():
            drawing = drawing.replace(colour, f"var(--{name})")
        # All drawings share the page, so their identifiers must differ.
        for before in (' id="', "url(#", 'href="#'):
            drawing = drawing.replace(before, f"{before}{self.name}-")
        label = f'<svg role="img" aria-label="{escape(self.alt)}"'
        return re.sub(r'^<svg|\s(?:width|height)="[\d.]+pt"', lambda found: label if "<" in found[0] else "", drawing)


def axes(height: float = 3.2, width: float = WIDTH) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; height and width in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def bare(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """A figure for images, without visible axes: its units are inches, x from the left and y from the top."""
    figure = Figure(figsize=(width, height))
    plane = figure.add_axes((0, 0, 1, 1))
    plane.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    plane.axis("off")
    return figure, plane


def tile(
    axis: Axes,
    image: Image,
    extent: tuple[float, float, float, float],
    colour: str,
    width: float = 1,
    zorder: float = 1,
) -> None:
    """Draw an image in a frame at `extent`: left, right, bottom, top."""
    left, right, bottom, top = extent
    axis.imshow(image, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="none", zorder=zorder)
    axis.set_aspect("auto")
    frame = ([left, right, right, left, left], [bottom, bottom, top, top, bottom])
    axis.plot(*frame, color=colour, linewidth=width, zorder=zorder + 0.1)


def percents(axis: Axes, low: float, high: float, *, horizontal: bool = False) -> None:
    """Set limits in % with some room around the values, within the possible ones."""
    room = max(0.06 * (high - low), 0.5)
    limits = (max(low - room, -1), min(high + room, 101))
    (axis.set_xlim if horizontal else axis.set_ylim)(limits)


def listed(words: Sequence[str]) -> str:
    """Words as in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))

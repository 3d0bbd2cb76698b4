"""The style of the page's figures: Okabe and Ito's colours, distinct to colour-blind people, one size, one toolbar."""

from typing import Any

from bokeh.models import BasicTicker, NumeralTickFormatter
from bokeh.plotting import figure

BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
GREY, DARK_GREY = "#bbbbbb", "#777777"
PHASE_COLOURS = (BLUE, GREEN, PURPLE, YELLOW, GREY)  # adapt, fold, step, transfer, waiting
TOOLS = "xpan,xbox_zoom,xwheel_zoom,reset,save"
HEIGHT = 240  # pixels


def make_figure(name: str, title: str, unit: str, across: Any) -> figure:
    """A figure against the iteration, as wide as the page allows."""
    made = figure(
        name=name,
        title=title,
        x_axis_label="iteration",
        y_axis_label=unit,
        x_range=across,
        height=HEIGHT,
        sizing_mode="stretch_width",
        tools=TOOLS,
        active_drag="xpan",
        active_scroll=None,
    )
    made.toolbar.autohide = True
    made.xaxis.ticker = BasicTicker(min_interval=1)  # there is no half iteration
    made.xaxis.formatter = NumeralTickFormatter(format="0,0")
    made.grid.grid_line_alpha = 0.4
    made.axis.minor_tick_line_color = None
    return made


def legend_below(made: figure) -> None:
    """Move a figure's legend below it, in one line."""
    plain = {"margin": 0, "padding": 0, "border_line_color": None, "background_fill_color": None}
    made.legend[0].update(orientation="horizontal", location="top_left", **plain)
    made.add_layout(made.legend[0], "below")

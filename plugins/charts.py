"""Drawing for the report: one set of linked Bokeh charts whose data the page swaps.

The charts are made once and without data; each series travels as compact JSON (plugins/payloads.py) and is unpacked by templates/report.js
when it is chosen. So the page grows by kilobytes per asset, and only what is looked at is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final

import numpy as np
from bokeh.embed import json_item
from bokeh.events import MouseLeave, MouseMove, Tap
from bokeh.layouts import column
from bokeh.models import (
    BoxAnnotation,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    DatetimeTickFormatter,
    FixedTicker,
    HoverTool,
    Label,
    LogTicker,
    NumeralTickFormatter,
    Range1d,
    Span,
)
from bokeh.plotting import figure
from bokeh.resources import Resources

from plugins.readings import Series
from plugins.wording import BAND_EDGES, BAND_WORDS
from transforms.vocabulary import COMPONENTS, STATUSES

#: All colours were chosen to stay apart for colour-blind readers, on light and on dark ground. Bands from fear to greed.
BAND_COLOURS: Final[dict[str, str]] = {
    "extreme_fear": "#b4432f",
    "fear": "#d98a66",
    "neutral": "#9aa3ad",
    "greed": "#58a8a0",
    "extreme_greed": "#157a75",
}
#: Families of S, components of F, components of X: those of one index stand side by side, never those of two.
COMPONENT_COLOURS: Final[dict[str, str]] = {
    "carry": "#4878c8",
    "trend": "#ee8434",
    "options": "#a05cb5",
    "flow": "#11a08a",
    "positioning": "#c9a91c",
    "stablecoin": "#5cbbe3",
    "conviction": "#dd5f7d",
    "leverage_level": "#4878c8",
    "build_up": "#5cbbe3",
    "crowding": "#ee8434",
    "latent_liquidation": "#dd5f7d",
    "thinness": "#11a08a",
    "options_convexity": "#a05cb5",
    "concentration": "#c9a91c",
    "interaction": "#8b7355",
    "liquidation": "#dd5f7d",
    "deleveraging": "#4878c8",
    "volatility": "#ee8434",
    "term_structure": "#a05cb5",
    "dispersion": "#11a08a",
}
REGIME_COLOURS: Final[dict[str, str]] = {
    "capitulation": "#8e2a5c",
    "deleveraging": "#cf6b33",
    "euphoria": "#1b8f76",
    "leverage_buildup": "#d3a518",
    "recovery": "#5a94dd",
    "neutral": "#aab2bb",
}
#: Who is in danger, in events and in the ladder of latent liquidations; grey where nobody is.
SIDE_COLOURS: Final[dict[str, str]] = {"long": "#cb4b32", "short": "#1f86a8", "up": "#7f8993", "down": "#7f8993", "none": "#7f8993"}
_ASSETS: Final = ("#4878c8", "#ee8434", "#11a08a", "#c9a91c", "#a05cb5", "#5cbbe3", "#dd5f7d")
#: What a person sees on pointing at an event. Bokeh escapes the values.
_EVENT: Final = (
    '<div style="max-width:300px;padding:2px 4px;color:#191c20;font:13px/1.4 system-ui,sans-serif"><b>@what</b>, @side, severity @severity'
    "<br>@at UTC<br>@why<br><i>@record</i></div>"
)
_REGIME: Final = '<div style="padding:2px 4px;color:#191c20;font:13px/1.4 system-ui,sans-serif">@word</div>'
#: Charts from top to bottom, and those that show their time axis.
PLOTS: Final = ("s", "f", "x", "strip", "price", "drawdown", "parts")
_DATED: Final = ("strip", "parts")
_TICKS: Final = """
    const size = Math.abs(tick)
    if (size >= 1e9) return (tick / 1e9).toPrecision(3) + "B"
    if (size >= 1e6) return (tick / 1e6).toPrecision(3) + "M"
    if (size >= 1e4) return (tick / 1e3).toPrecision(3).replace(/\\.0+$/, "") + "k"
    if (size >= 1 || size === 0) return String(Number(tick.toPrecision(4)))
    return size >= 1e-3 ? String(Number(tick.toPrecision(3))) : tick.toExponential(1)
"""


def bokeh_script() -> str:
    """The chart library itself (core only), to be put inside a script element."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def _figure(title: str, height: int, x_range: Range1d, y_range: Range1d, **options: Any) -> figure:
    """A chart in house style. Colours that depend on light or dark are set by the page."""
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
    made = figure(
        title=title,
        height=height,
        x_range=x_range,
        y_range=y_range,
        x_axis_type="datetime",
        tools="xpan,xwheel_zoom,reset",
        active_drag=None,
        active_scroll=None,
        toolbar_location=None,
        sizing_mode="stretch_width",
        min_border_left=52,
        min_border_right=10,
        min_border_top=4,
        min_border_bottom=6,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **options,
    )
    made.title.text_font = font
    made.title.text_font_size = "13px"
    made.title.text_font_style = "bold"
    made.title.standoff = 6
    for axis in (*made.xaxis, *made.yaxis):
        axis.major_label_text_font = font
        axis.major_label_text_font_size = "12px"
        axis.axis_line_color = None
        axis.minor_tick_line_color = None
        axis.major_tick_line_color = None
    made.xaxis.formatter = DatetimeTickFormatter(
        minutes="%H:%M",
        hourmin="%H:%M",
        hours="%H:%M",
        days="%d %b",
        months="%b %Y",
        years="%Y",
        context=DatetimeTickFormatter(hours="%d %b %Y", hourmin="%d %b %Y", minutes="%d %b %Y", days="%Y", months="", years=""),
        context_which="start",
    )
    made.xgrid.grid_line_alpha = 0.5
    made.yaxis.formatter = CustomJSTickFormatter(code=_TICKS)
    return made


def _lines(name: str, title: str, height: int, x_range: Range1d, line: ColumnDataSource, regimes: ColumnDataSource) -> figure:
    """F or X on its scale of quarters, the regimes faintly behind it."""
    made = _figure(title, height, x_range, Range1d(0, 100, name=f"y-{name}"))
    made.yaxis.ticker = FixedTicker(ticks=[0, 25, 50, 75, 100])
    made.quad("left", "right", 100, 0, source=regimes, fill_color="colour", fill_alpha="tint", line_color=None, level="underlay")
    made.line("t", name, source=line, line_width=1.2, line_join="round", name=f"line-{name}")
    return made


def _strip(x_range: Range1d, regimes: ColumnDataSource, watermark: str) -> figure:
    """Regimes as a strip of colour, and above it a mark for each event. The label is in the title: a strip has no room that is not data."""
    made = _figure(f"{watermark}{': ' if watermark else ''}regime, events", 96, x_range, Range1d(0, 2.4, name="y-strip"))
    made.yaxis.ticker = FixedTicker(ticks=[])
    made.ygrid.visible = False
    quads = made.quad("left", "right", 0.9, 0.1, source=regimes, fill_color="colour", fill_alpha="strength", line_color=None)
    columns = ("t", "y", "mark", "colour", "size", "what", "side", "severity", "at", "why", "record")
    events = ColumnDataSource({column: [] for column in columns}, name="events")
    marks = made.scatter("t", "y", source=events, marker="mark", size="size", fill_color="colour", fill_alpha=0.75, line_color=None)
    made.add_tools(HoverTool(renderers=[marks], tooltips=_EVENT, point_policy="snap_to_data"))
    made.add_tools(HoverTool(renderers=[quads], tooltips=_REGIME, point_policy="follow_mouse"))
    return made


def _stacked(layers: int, x_range: Range1d) -> figure:
    """Contributions to one of the three numbers; the page says to which, and names and colours the layers."""
    stack = ColumnDataSource(
        {"t": [], "net": [], **{f"{n}{side}": [] for n in range(layers) for side in ("+", "-", "+0", "-0")}}, name="stack"
    )
    made = _figure("Contributions, points", 250, x_range, Range1d(-50, 50, name="y-parts"))
    for layer in range(layers):
        for side in ("+", "-"):
            made.varea("t", f"{layer}{side}0", f"{layer}{side}", source=stack, fill_alpha=0.85, name=f"area-{layer}{side}")
    made.line("t", "net", source=stack, line_width=0.9, line_alpha=0.75, name="line-net")
    made.add_layout(Span(location=0, dimension="width", line_width=1, name="zero"))
    return made


def chart_item(layers: int, watermark: str) -> str:
    """The charts without data as a Bokeh JSON item (its key order matters): S, F, X, regimes with events, price, drawdown and stacked
    contributions on one time axis. `layers`: components of the number that has the most.

    The page finds the parts by name: sources `line`, `regimes`, `events`, `stack` and one per remarkable status, ranges `x` and `y-*`,
    plots `plot-*`, spans `cursor-*`.
    """
    line = ColumnDataSource({"t": [], "s": [], "f": [], "x": [], "price": [], "drawdown": [], "depth": []}, name="line")
    regimes = ColumnDataSource({"left": [], "right": [], "colour": [], "tint": [], "strength": [], "word": []}, name="regimes")
    x_range = Range1d(0, 1, name="x")

    s = _figure("Sentiment S, points", 240, x_range, Range1d(0, 100, name="y-s"))
    s.yaxis.ticker = FixedTicker(ticks=list(BAND_EDGES))
    for band, low, high in zip(BAND_WORDS, BAND_EDGES[:-1], BAND_EDGES[1:], strict=True):
        s.add_layout(BoxAnnotation(bottom=low, top=high, fill_color=BAND_COLOURS[band], fill_alpha=0.13, line_color=None, level="underlay"))
    for status, bottom, top, pattern in ((STATUSES[1], 0, 1.6, None), (STATUSES[2], 0, 100, "right_diagonal_line")):
        spans = ColumnDataSource({"left": [], "right": []}, name=status)
        block = s.quad(
            "left", "right", top, bottom, source=spans, line_color=None, name=f"block-{status}", fill_alpha=0.5 if top < 100 else 0.12
        )
        if pattern:
            block.glyph.update(hatch_pattern=pattern, hatch_alpha=0.45, hatch_weight=1, hatch_scale=8)
    s.line("t", "s", source=line, line_width=1.2, line_join="round", name="line-s")

    price = _figure("Price, USD (log scale)", 140, x_range, Range1d(1, 10, name="y-price"), y_axis_type="log")
    price.yaxis.ticker = LogTicker(desired_num_ticks=4)
    price.line("t", "price", source=line, line_width=1.2, line_join="round", name="line-price")

    drawdown = _figure("Open interest below its 90-day high", 110, x_range, Range1d(1, 0, name="y-drawdown"))
    drawdown.yaxis.ticker.desired_num_ticks = 3
    drawdown.yaxis.formatter = NumeralTickFormatter(format="0 %")
    drawdown.varea("t", 0, "depth", source=line, fill_alpha=0.35, name="area-drawdown")
    drawdown.line("t", "drawdown", source=line, line_width=1.2, name="line-drawdown")

    f, x = (_lines(name, title, 130, x_range, line, regimes) for name, title in (("f", "Fragility F, points"), ("x", "Stress X, points")))
    plots = dict(zip(PLOTS, (s, f, x, _strip(x_range, regimes, watermark), price, drawdown, _stacked(layers, x_range)), strict=True))
    for name, plot in plots.items():
        plot.name = f"plot-{name}"
        plot.xaxis.visible = name in _DATED
        plot.add_layout(Span(location=0, dimension="height", line_width=1, line_dash="dotted", visible=False, name=f"cursor-{name}"))
        if watermark and name != "strip":
            plot.add_layout(
                Label(
                    x=8,
                    y=6,
                    x_units="screen",
                    y_units="screen",
                    text=watermark,
                    text_font_size="13px",
                    text_font_style="bold",
                    text_color="#c2410c",
                    background_fill_alpha=0.8,
                    padding=2,
                    name=f"watermark-{name}",
                )
            )
        plot.js_on_event(MouseMove, CustomJS(code="window.tidegauge?.point(cb_obj.x)"))
        plot.js_on_event(Tap, CustomJS(code="window.tidegauge?.point(cb_obj.x)"))
        plot.js_on_event(MouseLeave, CustomJS(code="window.tidegauge?.point(null)"))
    text = json.dumps(json_item(column(*plots.values(), sizing_mode="stretch_width", spacing=10, name="charts")), separators=(",", ":"))
    numbers: dict[str, str] = {}  # Bokeh counts models per process: numbered anew, the same tables give the same page
    return re.sub(r'"p\d+"', lambda found: numbers.setdefault(found[0], f'"p{len(numbers) + 1}"'), text)


def drawn(found: Sequence[Series]) -> list[str]:
    """Components and assets that contribute anything anywhere, in the vocabulary's order, assets last."""
    names = {name for one in found for parts in one.parts.values() for name, points in parts.items() if np.any(points)}
    return sorted(names, key=lambda name: (COMPONENTS.index(name) if name in COMPONENTS else len(COMPONENTS), name))


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each component; assets take theirs in turn."""
    palette = cycle(_ASSETS)
    return {name: COMPONENT_COLOURS[name] if name in COMPONENT_COLOURS else next(palette) for name in names}


def layers(found: Sequence[Series]) -> int:
    """The most components any number of any series has."""
    return max((len(parts) for one in found for parts in one.parts.values()), default=0)

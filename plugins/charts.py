"""Drawing for the report: one set of linked Bokeh charts whose data the page swaps, thinned without hiding extremes, and small SVG lines.

The charts are made once and without data; each series travels as compact JSON and is unpacked by templates/report.js when it is chosen.
So the page grows by kilobytes per asset, and only what is looked at is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
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
    Label,
    LogTicker,
    NumeralTickFormatter,
    Range1d,
    Span,
)
from bokeh.plotting import figure
from bokeh.resources import Resources

from plugins.readings import BAND_EDGES, BAND_WORDS, Floats, Series
from transforms.vocabulary import FAMILIES, STATUSES
from transforms.windows import CADENCES

Places = npt.NDArray[np.intp]

#: Rows drawn per series at most (about), and how many of the newest are drawn without thinning.
DRAWN: Final = 4000
TAIL: Final = 1000
#: Fear to greed, then the families: both chosen to stay apart for colour-blind readers, on light and on dark ground.
BAND_COLOURS: Final[dict[str, str]] = {
    "extreme_fear": "#b4432f",
    "fear": "#d98a66",
    "neutral": "#9aa3ad",
    "greed": "#58a8a0",
    "extreme_greed": "#157a75",
}
FAMILY_COLOURS: Final[dict[str, str]] = {
    "carry": "#4878c8",
    "trend": "#ee8434",
    "options": "#a05cb5",
    "flow": "#11a08a",
    "positioning": "#c9a91c",
    "stablecoin": "#5cbbe3",
    "conviction": "#dd5f7d",
}
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


def thin(one: Series, drawn: int = DRAWN, tail: int = TAIL) -> Places:
    """Positions of the rows to draw, ascending: all of the newest `tail`, and of each bucket of time before them the rows that hold the
    lowest and the highest S, price and drawdown, the best and the worst status, the first and the last row. Nothing is averaged.

    >>> import numpy as np
    >>> flat, level = np.zeros(9000), np.full(9000, 50.0); level[4321] = 3.0
    >>> spike = Series("BTC", "1h", np.arange(9000) * 3_600_000, level, flat, flat, flat, flat.astype("int8"), {})
    >>> bool(4321 in thin(spike)), len(thin(spike)) <= 4000
    (True, True)
    """
    rows = one.at_ms.size
    if rows <= drawn:
        return np.arange(rows)
    tail = min(tail, drawn // 2)
    head = rows - tail
    columns: Sequence[npt.NDArray[Any]] = (one.s, one.price_usd, one.drawdown, one.status)
    buckets = max((drawn - tail) // (2 * len(columns) + 2), 1)
    at = one.at_ms[:head]
    edges = np.unique(np.searchsorted(at, np.linspace(at[0], at[-1] + 1, buckets + 1)))
    kept: list[int] = []
    for first, last in pairwise(edges):
        kept += [first, last - 1]
        for values in columns:
            part = values[first:last]
            known = np.isfinite(part)
            if known.any():
                kept += [first + int(np.argmin(np.where(known, part, np.inf))), first + int(np.argmax(np.where(known, part, -np.inf)))]
    return np.concatenate([np.unique(np.array(kept, dtype=np.intp)), np.arange(head, rows)])


def _scaled(values: Floats, unit: int) -> list[int | None]:
    """Integers in units of 1/`unit`; None where a value is missing."""
    rounded = np.rint(np.where(np.isfinite(values), values, 0.0) * unit).astype(np.int64).tolist()
    return [number if known else None for number, known in zip(rounded, np.isfinite(values).tolist(), strict=True)]


def _points(one: Series, places: Places) -> dict[str, list[int]]:
    """Contributions by family in 1/100 point, rounded by largest remainder so that each drawn row still adds up to its S - 50."""
    if not one.families:
        return {}
    exact = np.round(np.stack([values[places] for values in one.families.values()]) * 100, 9)
    lower = np.floor(exact)
    total = np.where(np.isfinite(one.s[places]), one.s[places] - 50, exact.sum(axis=0) / 100)
    missing = np.rint(total * 100) - lower.sum(axis=0)
    rank = np.argsort(np.argsort(lower - exact, axis=0, kind="stable"), axis=0)
    whole = (lower + (rank < missing)).astype(np.int64)
    return {name: row.tolist() for name, row in zip(one.families, whole, strict=True)}


def payload(one: Series) -> str:
    """A series as compact JSON for the page: minutes as differences, S and contributions in 1/100 point, drawdown in 1/10,000.

    `breaks` are the drawn positions before which a published row is missing: no line is drawn across.
    """
    places = thin(one)
    at = one.at_ms[places]
    step_ms = CADENCES[one.cadence].total_seconds() * 1000
    gap = np.concatenate([[0], np.cumsum(np.diff(one.at_ms) > 1.5 * step_ms)])[places]
    price = [float(f"{value:.6g}") if np.isfinite(value) else None for value in one.price_usd[places].tolist()]
    return json.dumps(
        {
            "asset": one.asset,
            "cadence": one.cadence,
            "rows": int(one.at_ms.size),
            "start": int(at[0]),
            "minutes": [0, *(np.diff(at) // 60_000).tolist()],
            "s": _scaled(one.s[places], 100),
            "price": price,
            "drawdown": _scaled(one.drawdown[places], 10_000),
            "confidence": _scaled(one.confidence[places], 100),
            "status": "".join("?" if code < 0 else str(code) for code in one.status[places].tolist()),
            "breaks": (np.flatnonzero(np.diff(gap)) + 1).tolist(),
            "families": _points(one, places),
        },
        separators=(",", ":"),
    )


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


def chart_item(families: Sequence[str], watermark: str) -> str:
    """The charts without data as a Bokeh JSON item (its key order matters): S, price, drawdown and stacked contributions on one time axis.

    The page finds the parts by name: sources `line`, `stack` and one per remarkable status, ranges `x` and `y-*`, spans `cursor-*`.
    """
    line = ColumnDataSource({"t": [], "s": [], "price": [], "drawdown": [], "depth": []}, name="line")
    stack = ColumnDataSource({"t": [], "net": [], **{f"{f}{side}": [] for f in families for side in ("+", "-", "+0", "-0")}}, name="stack")
    x_range = Range1d(0, 1, name="x")

    s = _figure("Sentiment S, points", 300, x_range, Range1d(0, 100, name="y-s"))
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

    price = _figure("Price, USD (log scale)", 160, x_range, Range1d(1, 10, name="y-price"), y_axis_type="log")
    price.yaxis.ticker = LogTicker(desired_num_ticks=4)
    price.line("t", "price", source=line, line_width=1.2, line_join="round", name="line-price")

    drawdown = _figure("Open interest below its 90-day high", 130, x_range, Range1d(1, 0, name="y-drawdown"))
    drawdown.yaxis.ticker.desired_num_ticks = 3
    drawdown.yaxis.formatter = NumeralTickFormatter(format="0 %")
    drawdown.varea("t", 0, "depth", source=line, fill_alpha=0.35, name="area-drawdown")
    drawdown.line("t", "drawdown", source=line, line_width=1.2, name="line-drawdown")

    parts = _figure("Contributions by family, points", 270, x_range, Range1d(-50, 50, name="y-parts"))
    for family in families:
        for side in ("+", "-"):
            parts.varea(
                "t",
                f"{family}{side}0",
                f"{family}{side}",
                source=stack,
                fill_color=FAMILY_COLOURS[family],
                fill_alpha=0.85,
                name=f"area-{family}{side}",
            )
    parts.line("t", "net", source=stack, line_width=0.9, line_alpha=0.75, name="line-net")
    parts.add_layout(Span(location=0, dimension="width", line_width=1, name="zero"))

    plots = {"s": s, "price": price, "drawdown": drawdown, "parts": parts}
    for name, plot in plots.items():
        plot.name = f"plot-{name}"
        plot.xaxis.visible = name in ("s", "parts")
        plot.add_layout(Span(location=0, dimension="height", line_width=1, line_dash="dotted", visible=False, name=f"cursor-{name}"))
        if watermark:
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


def families_drawn(found: Sequence[Series]) -> list[str]:
    """Families that contribute anything anywhere, in the vocabulary's order."""
    return [name for name in FAMILIES if any(name in one.families and np.any(one.families[name]) for one in found)]


def sparkline(one: Series, points: int = 90) -> str:
    """SVG path of the newest `points` rows' S in a box of 100 x 100 (y down); a new sub-path after each missing value."""
    values = one.s[-points:]
    across = max(values.size - 1, 1)
    path, pen = [], "M"
    for i, value in enumerate(values.tolist()):
        if np.isfinite(value):
            path.append(f"{pen}{i / across * 100:.1f} {100 - value:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(path)

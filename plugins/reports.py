"""The report: one self-contained HTML page that says what S is now, why, since when, and what was missing on the way.

`render` is pure: the same tables give the same page. Nothing in the page reaches a network; the chart library travels inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from plugins.charts import BAND_COLOURS, DRAWN, FAMILY_COLOURS, TAIL, bokeh_script, chart_item, families_drawn, payload, sparkline
from plugins.readings import (
    BAND_EDGES,
    BAND_WORDS,
    DISCLAIMER,
    Reading,
    ReportData,
    Series,
    accounts,
    in_words,
    market_label,
    markets,
    readings,
    series,
    span,
)
from plugins.strips import STATE_WORDS, strips
from transforms.index.attribution import displayed
from transforms.sources.contract import REASONS

__all__ = ["ReportData", "render"]

#: Bytes of chart data the page may carry. With the library (1.3 MB) and the tables this keeps the page below 8 MB.
CHART_BYTES: Final = 4_500_000
#: Rows of evidence listed one by one; what is left out is counted on the page.
LISTED: Final = 40
CADENCE_WORDS: Final[dict[str, str]] = {"1h": "hourly", "1d": "daily"}
PARTS: Final = (("coverage", 0.35), ("freshness", 0.25), ("agreement", 0.25), ("history", 0.15))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of contributions, as displayed: `contribution` is rounded so that the column adds up."""

    family: str
    feature: str
    value: str
    weight: str
    score: str
    stale: str
    history: str
    contribution: float
    reason: str


@dataclass(frozen=True, slots=True)
class Card:
    """One series on the page."""

    reading: Reading
    rows: tuple[Row, ...]
    total: float  #: displayed sum of contributions, points, two decimals
    spark: str
    readings: int
    history: int
    first: datetime
    charted: bool
    trace: str

    @property
    def largest(self) -> float:
        """Longest bar beside the contributions, points."""
        return max((abs(row.contribution) for row in self.rows), default=0.0) or 1.0

    @property
    def shown_s(self) -> str:
        """S with two decimals, as the table of contributions adds it up; a dash when withheld."""
        return "\u2013" if self.reading.s is None else f"{50 + self.total:.2f}"


@dataclass(frozen=True, slots=True)
class Rejects:
    """Quarantined rows of one reason at one endpoint."""

    source: str
    endpoint: str
    target: str
    reason_code: str
    meaning: str
    count: int
    instruments: int
    examples: tuple[dict[str, str], ...]


def render(data: ReportData, *, chart_bytes: int = CHART_BYTES) -> str:
    """The page as text (UTF-8). `chart_bytes` caps the chart data: series with the most values get charts first."""
    histories, latest = series(data), readings(data)
    payloads = _within(histories, data.order, chart_bytes)
    headline, explanation = market_label(data)
    found = markets(data)
    watermark = "" if found == ("live",) else headline
    page = _environment().get_template("report.html.j2")
    return page.render(
        headline=headline,
        explanation=explanation,
        tone=found[0] if len(found) == 1 else ("mixed" if found else "none"),
        watermark=watermark,
        cards=[_card(data, one, reading, one.key in payloads) for one, reading in zip(histories, latest, strict=True)],
        payloads={key: Markup(_harmless(text)) for key, text in payloads.items()},  # noqa: S704 - escaped by _harmless
        charts=Markup(_harmless(chart_item(families_drawn(histories), watermark))) if payloads else "",  # noqa: S704
        families=families_drawn(histories),
        family_colours=FAMILY_COLOURS,
        band_colours=BAND_COLOURS,
        bands=[
            {"name": name, "words": words, "low": low, "high": high}
            for (name, words), low, high in zip(BAND_WORDS.items(), BAND_EDGES[:-1], BAND_EDGES[1:], strict=True)
        ],
        edges=BAND_EDGES,
        parts=PARTS,
        cadences={name: word for name, word in CADENCE_WORDS.items() if any(one.cadence == name for one in histories)},
        disclaimer=DISCLAIMER,
        drawn=DRAWN,
        tail=TAIL,
        strips=strips(data.coverage),
        states=STATE_WORDS[::-1],
        accounts=accounts(data),
        rejects=_rejects(data.quarantine),
        rejected=data.quarantine.num_rows,
        troubles=_troubles(data.outcomes, "started_at"),
        steps=Counter(data.outcomes.column("outcome").to_pylist()),
        failed=_troubles(data.verdicts, "recorded_at"),
        checks=Counter(data.verdicts.column("outcome").to_pylist()),
        listed=LISTED,
        span=span(data),
        stamps={name: _distinct(data.sentiment, name) for name in ("index_version", "spec_sha256", "code_sha", "vintage")},
        generated_at=data.generated_at,
        bokeh=Markup(bokeh_script()) if payloads else "",  # noqa: S704 - the library as installed
    )


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "instant": lambda at: f"{at.astimezone(UTC):%Y-%m-%d %H:%M}",
        "day": lambda at: f"{at.astimezone(UTC):%Y-%m-%d}",
        "iso": lambda at: f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "count": lambda number: f"{number:,}",
        "signed": _signed,
        "price": _price,
        "share": lambda share: f"{100 * share:.1f} %",
        "words": in_words,
    }
    return made


def _harmless(text: str) -> str:
    """JSON that cannot close the script element it stands in."""
    return text.replace("<", "\\u003c")


def _signed(points: float) -> str:
    """Two decimals with a sign (a true minus), nothing before zero.

    >>> _signed(-1.5), _signed(0.0), _signed(2.25)
    ('\u22121.50', '0.00', '+2.25')
    """
    return "0.00" if points == 0 else f"{points:+.2f}".replace("-", "\u2212")


def _price(usd: float) -> str:
    """Five significant digits, thousands apart.

    >>> _price(67123.456), _price(0.000012345)
    ('67,123', '0.000012345')
    """
    if usd >= 1_000:
        return f"{usd:,.0f}" if usd >= 10_000 else f"{usd:,.1f}"
    return f"{usd:.5g}" if usd >= 1e-4 or usd == 0 else f"{float(f'{usd:.5g}'):.14f}".rstrip("0")


def _number(value: float | None, form: str = ".4g") -> str:
    return "\u2013" if value is None else format(value, form).replace("-", "\u2212")


def _within(histories: Sequence[Series], order: Sequence[str], budget: int) -> dict[str, str]:
    """Chart data by series within `budget` bytes: assets of the roster first, then those with the most readings."""
    ranked = sorted(histories, key=lambda one: (one.asset not in order, -one.readings, one.key))
    chosen, used = {}, 0
    for one in ranked:
        text = payload(one)
        used += len(text)
        if used > budget:
            break
        chosen[one.key] = text
    return chosen


def _card(data: ReportData, one: Series, reading: Reading, charted: bool) -> Card:
    shown = displayed([c.contribution for c in reading.constituents], 2)
    heaviest = max(reading.constituents, key=lambda c: abs(c.contribution), default=None)
    return Card(
        reading=reading,
        rows=tuple(
            Row(
                family=c.family,
                feature=c.feature,
                value=_number(c.feature_value),
                weight=f"{c.weight:.3f}",
                score=_number(c.score, "+.3f"),
                stale=f"{c.stale_factor:.2f}",
                history=f"{c.history_days:.0f}",
                contribution=points,
                reason=in_words(c.reason),
            )
            for c, points in zip(reading.constituents, shown, strict=True)
        ),
        total=round(sum(shown), 2) + 0.0,
        spark=sparkline(one),
        readings=one.readings,
        history=int(one.at_ms.size),
        first=datetime.fromtimestamp(int(one.at_ms[0]) / 1000, UTC),
        charted=charted,
        trace=data.trace_command.format(
            asset=one.asset,
            cadence=one.cadence,
            as_of=f"{reading.as_of:%Y-%m-%dT%H:%MZ}",
            feature=heaviest.feature if heaviest else "",
        ),
    )


def _rejects(quarantine: pa.Table) -> list[Rejects]:
    """Quarantine by source, endpoint, target and reason, most rows first; three examples each."""
    grouped: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    names = ["source", "endpoint", "target", "reason_code", "instrument", "detail", "row_json", "raw_sha256"]
    for row in quarantine.select(names).to_pylist():
        grouped.setdefault((row["source"], row["endpoint"], row["target"], row["reason_code"]), []).append(row)
    found = [
        Rejects(
            *key,
            meaning=REASONS.get(key[3], ""),
            count=len(rows),
            instruments=len({row["instrument"] for row in rows}),
            examples=tuple({name: str(row[name])[:400] for name in names[4:]} for row in rows[:3]),
        )
        for key, rows in grouped.items()
    ]
    return sorted(found, key=lambda one: (-one.count, one.source, one.endpoint, one.reason_code))


def _troubles(table: pa.Table, clock: str) -> list[dict[str, Any]]:
    """Rows that did not end in success, failures first, newest first."""
    rows = table.filter(pc.not_equal(table.column("outcome"), "success")).to_pylist()
    return sorted(sorted(rows, key=lambda row: row[clock], reverse=True), key=lambda row: row["outcome"])


def _distinct(table: pa.Table, name: str) -> list[str]:
    return sorted(pc.unique(table.column(name)).to_pylist())

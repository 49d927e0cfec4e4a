"""The report: one self-contained HTML page that says what S, F and X are now, why, since when, and what was missing on the way.

`render` is pure: the same tables give the same page. Nothing in the page reaches a network; the chart library travels inside.
"""

from __future__ import annotations

import math
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

from plugins import trust
from plugins.accounts import accounts, undecided
from plugins.charts import BAND_COLOURS, REGIME_COLOURS, SIDE_COLOURS, bokeh_script, chart_item, colours, drawn, layers
from plugins.payloads import DRAWN, EVENTS, RUNG_LOG, RUNGS, TAIL, bars, beyond, payload, rungs, sparkline
from plugins.readings import (
    MARKET,
    Constituent,
    Event,
    Ladder,
    Reading,
    ReportData,
    Series,
    market_label,
    markets,
    readings,
    series,
    span,
)
from plugins.strips import STATE_WORDS, strips
from plugins.wording import (
    BAND_EDGES,
    BAND_WORDS,
    DISCLAIMER,
    EVENT_SIDE_WORDS,
    INDEX_WORDS,
    LEVEL_WORDS,
    RISK_WORDS,
    SIDE_WORDS,
    duration,
    event_words,
    in_words,
    level,
    spaced,
)
from transforms.index.attribution import displayed
from transforms.sources.contract import REASONS
from transforms.vocabulary import INDICES

__all__ = ["ReportData", "render"]

#: Bytes of chart data the page may carry, and what each series takes from them with its tables: with the library (1.3 MB) and the evidence
#: this keeps the page below 8 MB.
CHART_BYTES: Final = 4_500_000
ROOM_BYTES: Final = 6_400_000
CARD_BYTES: Final = 25_000
#: Rows of evidence listed one by one; what is left out is counted on the page.
LISTED: Final = 40
#: Newest events listed with a series.
RECENT: Final = 8
#: Where the Data Docs lie, seen from the report in the object store (`report/index.html`).
DATA_DOCS: Final = "../published/data-docs/index.html"
#: Newest entries of quarantine that nobody has decided about.
NEWEST: Final = 10
CADENCE_WORDS: Final[dict[str, str]] = {"1h": "hourly", "1d": "daily"}
PARTS: Final = (("coverage", 0.35), ("freshness", 0.25), ("agreement", 0.25), ("history", 0.15))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table of contributions, as displayed: `contribution` is rounded so that the column adds up."""

    group: str
    label: str
    detail: str
    value: str
    weight: str
    score: str
    stale: str
    history: str
    contribution: float


@dataclass(frozen=True, slots=True)
class Number:
    """S, F or X of one series as displayed, with what it is made of."""

    index: str
    value: float | None
    confidence: float
    rows: tuple[Row, ...]
    total: float  #: displayed sum of contributions, points, two decimals
    residual: float | None
    adds_up: bool
    trace: str

    @property
    def shown(self) -> str:
        """Two decimals, as the table of contributions adds it up; a dash when withheld."""
        return "\u2013" if self.value is None else f"{(50 if self.index == 'S' else 0) + self.total:.2f}"

    @property
    def largest(self) -> float:
        """Longest bar beside the contributions, points."""
        return max((abs(row.contribution) for row in self.rows), default=0.0) or 1.0


@dataclass(frozen=True, slots=True)
class Heap:
    """Latent liquidations as drawn: paths of bars, and shares of open interest in words."""

    as_of: datetime
    price: float
    edges: tuple[float, float]  #: prices at the foot and at the top of the drawing
    long: str
    short: str
    most: float
    total: tuple[float, float]  #: longs, shorts: all of the table
    outside: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Card:
    """One series on the page."""

    reading: Reading
    numbers: tuple[Number, ...]
    spark: str
    values: int
    first: datetime
    charted: bool
    since: str  #: how long the regime has lasted
    recent: tuple[Event, ...]
    heap: Heap | None

    @property
    def s(self) -> Number:
        return self.numbers[0]


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
    payloads = _within(histories, data.order, min(chart_bytes, ROOM_BYTES - CARD_BYTES * len(histories)))
    headline, explanation = market_label(data)
    found = markets(data)
    watermark = "" if found == ("live",) else headline
    painted = colours(drawn(histories))
    setup = {
        "colours": painted,
        "cadences": list(CADENCE_WORDS),
        "layers": layers(histories),
        "regimes": [[spaced(name), colour] for name, colour in REGIME_COLOURS.items()],
        "levels": LEVEL_WORDS,
        "sides": {side: [words, SIDE_COLOURS[side]] for side, words in EVENT_SIDE_WORDS.items()},
    }
    page = _environment().get_template("report.html.j2")
    return page.render(
        headline=headline,
        explanation=explanation,
        tone=found[0] if len(found) == 1 else ("mixed" if found else "none"),
        watermark=watermark,
        cards=[_card(data, one, reading, one.key in payloads) for one, reading in zip(histories, latest, strict=True)],
        payloads={key: Markup(_harmless(text)) for key, text in payloads.items()},  # noqa: S704 - escaped by _harmless
        charts=Markup(_harmless(chart_item(layers(histories), watermark))) if payloads else "",  # noqa: S704
        setup=setup,
        colours=painted,
        band_colours=BAND_COLOURS,
        regime_colours=REGIME_COLOURS,
        side_colours=SIDE_COLOURS,
        bands=[
            {"name": name, "words": words, "low": low, "high": high}
            for (name, words), low, high in zip(BAND_WORDS.items(), BAND_EDGES[:-1], BAND_EDGES[1:], strict=True)
        ],
        edges=BAND_EDGES,
        parts=PARTS,
        index_words=INDEX_WORDS,
        level_words=LEVEL_WORDS,
        side_words=SIDE_WORDS,
        risk_words=RISK_WORDS,
        event_sides=EVENT_SIDE_WORDS,
        of_market=MARKET,
        cadences={name: word for name, word in CADENCE_WORDS.items() if any(one.cadence == name for one in histories)},
        disclaimer=DISCLAIMER,
        drawn=DRAWN,
        drawn_events=EVENTS,
        tail=TAIL,
        rung_count=RUNGS,
        evidence_since=data.evidence_since,
        voices=trust.voices(data.coverage, data.quarantine),
        pairs=trust.pairs(data.agreement),
        breaches=trust.breaches(data.agreement, LISTED),
        quantities=trust.QUANTITY_WORDS,
        found=trust.in_force(data.findings),
        strips=strips(data.coverage),
        states=STATE_WORDS[::-1],
        accounts=accounts(data.outcomes),
        rejects=_rejects(data.quarantine),
        rejected=data.quarantine.num_rows,
        revisions=_newest(data.revisions, [("known_at", "descending"), ("table_name", "ascending"), ("as_of", "descending")]),
        revised=data.revisions.num_rows,
        undecided=undecided(data.quarantine, data.decisions, NEWEST),
        outliers=_newest(data.outliers, [("as_of", "descending"), ("asset", "ascending")]),
        judged=data.outliers.num_rows,
        troubles=_troubles(data.outcomes, "started_at"),
        steps=Counter(data.outcomes.column("outcome").to_pylist()),
        failed=_troubles(data.verdicts, "recorded_at"),
        checks=Counter(data.verdicts.column("outcome").to_pylist()),
        listed=LISTED,
        data_docs=DATA_DOCS,
        span=span(data),
        stamps={name: _distinct(data.readings, name) for name in ("index_version", "spec_sha256", "code_sha", "vintage")},
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
        "spaced": spaced,
        "level": level,
        "event": event_words,
        "number": _number,
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
    """Chart data by series within `budget` bytes: assets of the roster first, then those with the most values."""
    ranked = sorted(histories, key=lambda one: (one.asset not in order, -one.values, one.key))
    chosen, used = {}, 0
    for one in ranked:
        text = payload(one)
        used += len(text)
        if used > budget:
            break
        chosen[one.key] = text
    return chosen


def _card(data: ReportData, one: Series, reading: Reading, charted: bool) -> Card:
    numbers = tuple(_made_of(data, reading, index) for index in INDICES)
    entered = reading.row["regime_since"]
    return Card(
        reading=reading,
        numbers=numbers,
        spark=sparkline(one),
        values=one.values,
        first=datetime.fromtimestamp(int(one.at_ms[0]) / 1000, UTC),
        charted=charted,
        since=duration(reading.as_of - entered.astimezone(UTC)) if entered else "",
        recent=reading.events[: -RECENT - 1 : -1],
        heap=_heap(reading.ladder) if reading.ladder else None,
    )


def _made_of(data: ReportData, reading: Reading, index: str) -> Number:
    """One of the three numbers with its inputs, points rounded by largest remainder."""
    inputs = reading.constituents[index]
    shown = displayed([one.contribution for one in inputs], 2)
    heaviest = max(inputs, key=lambda one: abs(one.contribution), default=None)
    return Number(
        index=index,
        value=reading.number(index),
        confidence=reading.confidence(index),
        rows=tuple(_row(index, one, points) for one, points in zip(inputs, shown, strict=True)),
        total=round(sum(shown), 2) + 0.0,
        residual=reading.residual(index),
        adds_up=reading.adds_up(index),
        trace=data.trace_command.format(
            asset=reading.asset,
            cadence=reading.cadence,
            as_of=f"{reading.as_of:%Y-%m-%dT%H:%MZ}",
            index=index,
            feature=heaviest.feature if heaviest else "",
        ),
    )


def _row(index: str, one: Constituent, points: float) -> Row:
    of_asset = one.component == "asset"
    split = ", ".join(f"{venue} {_signed(share)}" for venue, share in one.venues)
    made = of_asset or one.feature == one.component  # of assets, or of components: no history of its own
    said = ["asset" if of_asset else "" if made else spaced(one.component), in_words(one.reason), f"by venue: {split}" if split else ""]
    return Row(
        group=one.feature if of_asset else one.component,
        label=one.feature,
        detail="; ".join(words for words in said if words),
        value=_number(one.feature_value),
        weight=f"{one.weight:.3f}",
        score=_number(one.score, "+.3f" if index == "S" else ".3f"),
        stale=f"{one.stale_factor:.2f}",
        history="\u2013" if made else f"{one.history_days:.0f}",
        contribution=points,
    )


def _heap(ladder: Ladder) -> Heap:
    """The ladder as drawn: steps of price around the price of its instant, what lies further away summed up."""
    long, short = rungs(ladder)
    most = float(max(long.max(), short.max())) or 1.0
    reach = math.exp(RUNGS * RUNG_LOG)
    return Heap(
        as_of=ladder.as_of,
        price=ladder.price_usd,
        edges=(ladder.price_usd / reach, ladder.price_usd * reach),
        long=bars(long, most),
        short=bars(short, most),
        most=most,
        total=(float(ladder.long_share.sum()), float(ladder.short_share.sum())),
        outside=beyond(ladder),
    )


def _newest(rows: pa.Table, order: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The first rows in an order: as many as are listed one by one."""
    found: list[dict[str, Any]] = rows.sort_by(order).slice(0, LISTED).to_pylist()
    return found


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

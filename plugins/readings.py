"""What a person is shown, taken out of the published tables once: series, latest readings, and rounding that still adds up.

The report (plugins/reports.py) and the terminal summary (plugins/summary.py) both build on it, so they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.roster import HOURLY_ASSETS
from transforms.schema import empty
from transforms.sources.contract import REASONS
from transforms.tables import TABLES
from transforms.vocabulary import FAMILIES, MARKETS, SOURCES, STATUSES
from transforms.windows import CADENCES, from_ms

Floats = npt.NDArray[np.float64]

#: Edges of the bands on the scale of S (METHODOLOGY 4.1), and the words for them.
BAND_EDGES: Final = (0, 25, 45, 55, 75, 100)
BAND_WORDS: Final[dict[str, str]] = {
    "extreme_fear": "extreme fear",
    "fear": "fear",
    "neutral": "neutral",
    "greed": "greed",
    "extreme_greed": "extreme greed",
}
#: The first thing anybody reads, and what it means.
MARKET_WORDS: Final[dict[str, tuple[str, str]]] = {
    "simulated": ("SIMULATED MARKET", "these are not real prices"),
    "recorded": ("RECORDED DATA, replayed", "real data of the past, not today's market"),
    "live": ("LIVE", "what the venues publish"),
}
DISCLAIMER: Final = "S describes how people are positioned; it does not forecast, and it is no advice."
#: Contributions add up to S - 50 within this (law of additivity).
ADDITIVITY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class ReportData:
    """The tables to show, in the schemas of transforms/tables.py: any order of rows, any of them empty.

    Pass the rows of the span to be shown; `outcomes` and `verdicts` of the runs whose rows are to be accounted for.
    """

    sentiment: pa.Table = field(default_factory=partial(empty, TABLES["sentiment"]))
    contributions: pa.Table = field(default_factory=partial(empty, TABLES["contributions"]))
    features: pa.Table = field(default_factory=partial(empty, TABLES["features"]))
    coverage: pa.Table = field(default_factory=partial(empty, TABLES["coverage"]))
    quarantine: pa.Table = field(default_factory=partial(empty, TABLES["quarantine"]))
    outcomes: pa.Table = field(default_factory=partial(empty, TABLES["outcomes"]))
    verdicts: pa.Table = field(default_factory=partial(empty, TABLES["verdicts"]))
    #: label to show when there is no index row to take it from
    market: str = ""
    #: assets to show first; the others follow by name
    order: tuple[str, ...] = HOURLY_ASSETS
    #: printed in the footer when given; the page has no clock of its own
    generated_at: datetime | None = None
    #: how to trace a value; {asset}, {cadence}, {as_of} and {feature} are filled in
    trace_command: str = "make trace ASSET={asset} CADENCE={cadence} AT={as_of} FEATURE={feature}"


@dataclass(frozen=True, slots=True)
class Series:
    """The history of one asset at one cadence, in order of time. Arrays have one element per published row; missing numbers are NaN."""

    asset: str
    cadence: str
    at_ms: npt.NDArray[np.int64]  #: as_of, Unix milliseconds UTC
    s: Floats  #: points
    price_usd: Floats
    drawdown: Floats  #: share 0..1
    confidence: Floats
    status: npt.NDArray[np.int8]  #: position in STATUSES
    families: Mapping[str, Floats]  #: points, by family that occurs

    @property
    def key(self) -> str:
        """Name of the series in links and identifiers: BTC-1h."""
        return f"{self.asset}-{self.cadence}"

    @property
    def readings(self) -> int:
        """Rows that carry a value."""
        return int(np.isfinite(self.s).sum())


@dataclass(frozen=True, slots=True)
class Constituent:
    """One row of the latest contributions, with the feature's own value beside it."""

    family: str
    feature: str
    feature_value: float | None
    input_age_h: float | None
    weight: float
    sign: int
    score: float | None
    stale_factor: float
    history_days: float
    contribution: float
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest row of a series and why it is what it is."""

    asset: str
    cadence: str
    as_of: datetime
    known_at: datetime
    s: float | None
    s_ex: float | None
    band: str | None
    status: str
    reason: str
    confidence: float
    coverage: float
    freshness: float
    agreement: float
    history: float
    price_usd: float | None
    drawdown: float | None
    vintage: str
    constituents: tuple[Constituent, ...]
    #: newest row that carries a value, when the latest is withheld
    last_value: tuple[datetime, float] | None

    @property
    def key(self) -> str:
        return f"{self.asset}-{self.cadence}"

    @property
    def total(self) -> float:
        """Sum of the contributions, points."""
        return math.fsum(one.contribution for one in self.constituents)

    @property
    def residual(self) -> float | None:
        """Sum of contributions minus (S - 50); None when S is withheld."""
        return None if self.s is None else self.total - (self.s - 50.0)

    @property
    def adds_up(self) -> bool:
        return self.residual is None or abs(self.residual) <= ADDITIVITY

    def by_family(self) -> dict[str, float]:
        """Contributions by family, in the order of the vocabulary."""
        found = {one.family for one in self.constituents}
        return {name: math.fsum(c.contribution for c in self.constituents if c.family == name) for name in FAMILIES if name in found}


def markets(data: ReportData) -> tuple[str, ...]:
    """Markets the shown numbers come from, in the vocabulary's order (simulated first)."""
    found = set(pc.unique(data.sentiment.column("market")).to_pylist()) or ({data.market} if data.market else set())
    strange = found - set(MARKETS)
    if strange:
        raise ValueError(f"found market {sorted(strange)}; the vocabulary has {', '.join(MARKETS)}")
    return tuple(name for name in MARKETS if name in found)


def market_label(data: ReportData) -> tuple[str, str]:
    """Headline and explanation of the market label; several markets in one report are said to be mixed.

    >>> market_label(ReportData(market="simulated"))
    ('SIMULATED MARKET', 'these are not real prices')
    """
    found = markets(data)
    if not found:
        return "NO DATA", "no index row has been published yet"
    if len(found) == 1:
        return MARKET_WORDS[found[0]]
    return "MIXED: " + " + ".join(name.upper() for name in found), "rows of several markets stand side by side; compare none of them"


def _millis(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    stamps: npt.NDArray[np.int64] = pc.cast(column, pa.int64()).to_numpy(zero_copy_only=False) // 1000
    return stamps


def _floats(table: pa.Table, name: str) -> Floats:
    """A column with NaN where it is null."""
    values: Floats = pc.cast(pc.fill_null(pc.cast(table.column(name), pa.float64()), float("nan")), pa.float64()).to_numpy(
        zero_copy_only=False
    )
    return values


def _codes(table: pa.Table, name: str, words: Sequence[str]) -> npt.NDArray[np.int8]:
    """Position of each value in `words`; -1 for a word that is not there."""
    found = pc.fill_null(pc.index_in(table.column(name), pa.array(words, pa.string())), -1)
    codes: npt.NDArray[np.int8] = pc.cast(found, pa.int8()).to_numpy(zero_copy_only=False)
    return codes


def _groups(table: pa.Table) -> dict[tuple[str, str], pa.Table]:
    """Rows by (asset, cadence), each in order of as_of."""
    if not table.num_rows:
        return {}
    ordered = table.sort_by([("asset", "ascending"), ("cadence", "ascending"), ("as_of", "ascending")]).combine_chunks()
    keys = pc.binary_join_element_wise(ordered.column("asset"), ordered.column("cadence"), "\x1f").combine_chunks()
    runs = pc.run_end_encode(keys)
    groups, start = {}, 0
    for key, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        asset, cadence = key.split("\x1f")
        groups[asset, cadence] = ordered.slice(start, end - start)
        start = end
    return groups


def _rank(data: ReportData, key: tuple[str, str]) -> tuple[int, str, int]:
    asset, cadence = key
    place = data.order.index(asset) if asset in data.order else len(data.order)
    return place, asset, list(CADENCES).index(cadence) if cadence in CADENCES else len(CADENCES)


def series(data: ReportData) -> list[Series]:
    """All series of the report: assets of `order` first, then by name; the finer cadence first."""
    sentiment = _groups(data.sentiment)
    parts = _groups(data.contributions.select(["asset", "cadence", "as_of", "family", "contribution"]))
    found = []
    for key in sorted(sentiment, key=lambda one: _rank(data, one)):
        rows = sentiment[key]
        at_ms = _millis(rows.column("as_of"))
        found.append(
            Series(
                asset=key[0],
                cadence=key[1],
                at_ms=at_ms,
                s=_floats(rows, "s"),
                price_usd=_floats(rows, "price_usd"),
                drawdown=_floats(rows, "oi_drawdown_90d"),
                confidence=_floats(rows, "confidence"),
                status=_codes(rows, "status", STATUSES),
                families=_by_family(parts.get(key), at_ms),
            )
        )
    return found


def _by_family(parts: pa.Table | None, at_ms: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Contributions summed by family on the stamps `at_ms`, points; rows of other stamps are left out."""
    if parts is None:
        return {}
    stamps, family, value = _millis(parts.column("as_of")), _codes(parts, "family", FAMILIES), _floats(parts, "contribution")
    place = np.minimum(np.searchsorted(at_ms, stamps), at_ms.size - 1)
    known = (at_ms[place] == stamps) & np.isfinite(value)
    summed: dict[str, Floats] = {}
    for code, name in enumerate(FAMILIES):
        chosen = known & (family == code)
        if chosen.any():
            summed[name] = np.bincount(place[chosen], weights=value[chosen], minlength=at_ms.size).astype(np.float64)
    return summed


def readings(data: ReportData) -> list[Reading]:
    """The latest reading of each series, in the order of `series`."""
    sentiment = _groups(data.sentiment)
    newest_at = pa.array({rows.column("as_of")[-1].as_py() for rows in sentiment.values()}, data.sentiment.schema.field("as_of").type)
    parts, features = (_groups(table.filter(pc.is_in(table.column("as_of"), newest_at))) for table in (data.contributions, data.features))
    found = []
    for key in sorted(sentiment, key=lambda one: _rank(data, one)):
        rows = sentiment[key]
        last = rows.slice(rows.num_rows - 1).to_pylist()[0]
        valued = rows.filter(pc.is_valid(rows.column("s")))
        newest = valued.slice(max(0, valued.num_rows - 1)).select(["as_of", "s"]).to_pylist() if last["s"] is None else []
        found.append(
            Reading(
                asset=key[0],
                cadence=key[1],
                as_of=last["as_of"].astimezone(UTC),
                known_at=last["known_at"].astimezone(UTC),
                s=last["s"],
                s_ex=last["s_ex"],
                band=last["band"],
                status=last["status"],
                reason=last["reason"],
                confidence=last["confidence"],
                coverage=last["conf_coverage"],
                freshness=last["conf_freshness"],
                agreement=last["conf_agreement"],
                history=last["conf_history"],
                price_usd=last["price_usd"],
                drawdown=last["oi_drawdown_90d"],
                vintage=last["vintage"],
                constituents=_constituents(parts.get(key), features.get(key), last["as_of"]),
                last_value=(newest[0]["as_of"].astimezone(UTC), newest[0]["s"]) if newest else None,
            )
        )
    return found


def _at(rows: pa.Table | None, as_of: datetime) -> list[dict[str, Any]]:
    if rows is None:
        return []
    found: list[dict[str, Any]] = rows.filter(pc.equal(rows.column("as_of"), pa.scalar(as_of, rows.schema.field("as_of").type))).to_pylist()
    return found


def _constituents(parts: pa.Table | None, features: pa.Table | None, as_of: datetime) -> tuple[Constituent, ...]:
    """Constituents of one instant, by family in the vocabulary's order, heaviest first."""
    measured = {row["feature"]: row for row in _at(features, as_of)}
    found = [
        Constituent(
            family=row["family"],
            feature=row["feature"],
            feature_value=measured.get(row["feature"], {}).get("feature_value"),
            input_age_h=measured.get(row["feature"], {}).get("input_age_h"),
            weight=row["weight"],
            sign=row["sign"],
            score=row["score"],
            stale_factor=row["stale_factor"],
            history_days=row["history_days"],
            contribution=row["contribution"],
            reason=row["reason"],
        )
        for row in _at(parts, as_of)
    ]
    return tuple(sorted(found, key=lambda one: (FAMILIES.index(one.family), -one.weight, one.feature)))


@dataclass(frozen=True, slots=True)
class Account:
    """Where rows went: decoded = core + quarantined + duplicates."""

    subject: str
    answers: int
    decoded: int
    core: int
    quarantined: int
    duplicate: int
    published: int

    @property
    def difference(self) -> int:
        """Rows that are neither in core, nor in quarantine, nor duplicates. Anything but 0 is a fault of ours."""
        return self.decoded - self.core - self.quarantined - self.duplicate


_COUNTS: Final = ("answers", "rows_decoded", "rows_core", "rows_quarantined", "rows_duplicate", "rows_published")


def accounts(data: ReportData) -> list[Account]:
    """Row accounting by source. A step whose subject begins with no source's name is listed under its own name."""
    totals: dict[str, list[int]] = {}
    for row in data.outcomes.select(["step", "subject", *_COUNTS]).to_pylist():
        if not any(row[name] for name in _COUNTS[1:5]):
            continue
        subject = next((name for name in SOURCES if row["subject"].replace(".", "/").split("/")[0] == name), row["subject"])
        summed = totals.setdefault(subject, [0] * len(_COUNTS))
        for i, name in enumerate(_COUNTS):
            summed[i] += row[name]
    return [Account(subject, *totals[subject]) for subject in sorted(totals)]


def total_account(data: ReportData) -> Account:
    """Row accounting over all outcomes given."""
    sums = [int(pc.sum(data.outcomes.column(name)).as_py() or 0) for name in _COUNTS]
    return Account("all", *sums)


def span(data: ReportData) -> tuple[datetime, datetime] | None:
    """First and last `as_of` of the published rows."""
    if not data.sentiment.num_rows:
        return None
    stamps = _millis(data.sentiment.column("as_of"))
    return from_ms(int(stamps.min())), from_ms(int(stamps.max()))


def in_words(reason: str) -> str:
    """A reason for a person: known codes get their meaning, other words stay as they are.

    >>> in_words("STAMP")
    "STAMP: a stamp is off the endpoint's grid or outside the window asked for"
    """
    return f"{reason}: {REASONS[reason]}" if reason in REASONS else reason

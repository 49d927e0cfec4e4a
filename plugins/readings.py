"""What a person is shown, taken out of the published tables once: series, latest readings, events and latent liquidations.

The report (plugins/reports.py) and the terminal summary (plugins/summary.py) both build on it, so they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plugins.wording import MARKET_WORDS, change_words
from transforms.roster import HOURLY_ASSETS
from transforms.schema import empty
from transforms.tables import TABLES
from transforms.vocabulary import COMPONENTS, INDICES, MARKETS, REGIMES, STATUSES
from transforms.windows import CADENCES, from_ms

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]

#: The market as a whole: an asset of its own, shown first.
MARKET: Final = "MKT"
#: What a number is when nothing contributes to it.
ORIGIN: Final[dict[str, float]] = {"S": 50.0, "F": 0.0, "X": 0.0}
#: Contributions add up to S - 50, to F and to X within this (law of additivity).
ADDITIVITY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class ReportData:
    """The tables to show: columns as in transforms/tables.py, any order of rows, any of them empty.

    Pass the rows of the span to be shown; `outcomes` and `verdicts` of the runs whose rows are to be accounted for. Of features and
    liquidation_levels only the newest instant of each series is read; contributions, events and outliers need no stamps.
    """

    readings: pa.Table = field(default_factory=partial(empty, TABLES["readings"]))
    contributions: pa.Table = field(default_factory=partial(empty, TABLES["contributions"]))
    features: pa.Table = field(default_factory=partial(empty, TABLES["features"]))
    events: pa.Table = field(default_factory=partial(empty, TABLES["events"]))
    regime_changes: pa.Table = field(default_factory=partial(empty, TABLES["regime_changes"]))
    liquidation_levels: pa.Table = field(default_factory=partial(empty, TABLES["liquidation_levels"]))
    outliers: pa.Table = field(default_factory=partial(empty, TABLES["outliers"]))
    agreement: pa.Table = field(default_factory=partial(empty, TABLES["agreement"]))
    findings: pa.Table = field(default_factory=partial(empty, TABLES["findings"]))
    coverage: pa.Table = field(default_factory=partial(empty, TABLES["coverage"]))
    quarantine: pa.Table = field(default_factory=partial(empty, TABLES["quarantine"]))
    revisions: pa.Table = field(default_factory=partial(empty, TABLES["revisions"]))
    decisions: pa.Table = field(default_factory=partial(empty, TABLES["decisions"]))
    outcomes: pa.Table = field(default_factory=partial(empty, TABLES["outcomes"]))
    verdicts: pa.Table = field(default_factory=partial(empty, TABLES["verdicts"]))
    #: first day of recording of coverage, outcomes and verdicts, where older ones are left out
    evidence_since: date | None = None
    #: label to show when there is no index row to take it from
    market: str = ""
    #: assets to show first; the others follow by name
    order: tuple[str, ...] = (MARKET, *HOURLY_ASSETS)
    #: printed in the footer when given; the page has no clock of its own
    generated_at: datetime | None = None
    #: how to trace a value; {asset}, {cadence}, {as_of}, {index} and {feature} are filled in
    trace_command: str = "make trace ASSET={asset} CADENCE={cadence} AT={as_of} INDEX={index} FEATURE={feature}"


@dataclass(frozen=True, slots=True)
class Event:
    """One dated warning, with the record of its kind as it stood then."""

    at: datetime
    event_type: str
    side: str
    severity: float
    reason: str
    observed: float | None
    threshold: float | None
    track_record: str

    @property
    def found(self) -> str:
        """The reason with the value that was judged and the limit it passed."""
        if self.observed is None or self.threshold is None:
            return self.reason
        return f"{self.reason}: {self.observed:.4g}, limit {self.threshold:.4g}"


@dataclass(frozen=True, slots=True)
class Series:
    """The history of one asset at one cadence, in order of time. Arrays have one element per published row; missing numbers are NaN."""

    asset: str
    cadence: str
    at_ms: npt.NDArray[np.int64]  #: as_of, Unix milliseconds UTC
    s: Floats  #: points, as f and x
    f: Floats
    x: Floats
    price_usd: Floats
    drawdown: Floats  #: share 0..1
    confidence: Floats
    status: Codes  #: position in STATUSES
    regime: Codes  #: position in REGIMES, -1 = none
    #: points by index, then by component that occurs (by asset, where the series is the market's)
    parts: Mapping[str, Mapping[str, Floats]]
    events: tuple[Event, ...] = ()

    @property
    def key(self) -> str:
        """Name of the series in links and identifiers: BTC-1h."""
        return f"{self.asset}-{self.cadence}"

    @property
    def values(self) -> int:
        """Rows that carry an S."""
        return int(np.isfinite(self.s).sum())

    def number(self, index: str) -> Floats:
        """S, F or X."""
        return {"S": self.s, "F": self.f, "X": self.x}[index]


@dataclass(frozen=True, slots=True)
class Constituent:
    """One input of the latest S, F or X, its venues taken together, with the feature's own value beside it."""

    component: str
    feature: str
    feature_value: float | None
    weight: float
    score: float | None
    stale_factor: float
    history_days: float
    contribution: float
    reason: str
    #: points by venue, where more than one has a share
    venues: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Ladder:
    """Latent liquidations at one day's end, by the cohort model: ascending prices, shares of open interest."""

    as_of: datetime
    price_usd: float
    level_usd: Floats
    long_share: Floats
    short_share: Floats


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest row of a series and why it is what it is. `row` holds the columns of the table `readings`."""

    asset: str
    cadence: str
    as_of: datetime
    known_at: datetime
    row: Mapping[str, Any]
    #: inputs by index
    constituents: Mapping[str, tuple[Constituent, ...]]
    #: newest row that carries an S, when the latest is withheld
    last_value: tuple[datetime, float] | None = None
    #: why the regime was entered, in words; empty where no change is on record
    regime_reason: str = ""
    events: tuple[Event, ...] = ()
    ladder: Ladder | None = None

    @property
    def key(self) -> str:
        return f"{self.asset}-{self.cadence}"

    @property
    def s(self) -> float | None:
        return self.number("S")

    def number(self, index: str) -> float | None:
        """S, F or X in points; None when withheld."""
        found: float | None = self.row[index.lower()]
        return found

    def confidence(self, index: str) -> float:
        """Confidence of one of the three numbers."""
        found: float = self.row["confidence" if index == "S" else f"{index.lower()}_confidence"]
        return found

    def total(self, index: str) -> float:
        """Sum of the contributions, points."""
        return math.fsum(one.contribution for one in self.constituents[index])

    def residual(self, index: str) -> float | None:
        """Sum of contributions minus what it explains (S - 50, F, X); None when the number is withheld."""
        value = self.number(index)
        return None if value is None else self.total(index) - (value - ORIGIN[index])

    def adds_up(self, index: str) -> bool:
        residual = self.residual(index)
        return residual is None or abs(residual) <= ADDITIVITY

    def by_component(self, index: str) -> dict[str, float]:
        """Contributions by component (by asset, where the series is the market's), in the vocabulary's order."""
        summed: dict[str, list[float]] = {}
        for one in self.constituents[index]:
            summed.setdefault(group_of(one.component, one.feature), []).append(one.contribution)
        return {name: math.fsum(parts) for name, parts in summed.items()}


def group_of(component: str, feature: str) -> str:
    """What a contribution is drawn and summed under: its component; the market's inputs are assets, so there it is the asset."""
    return feature if component == "asset" else component


def markets(data: ReportData) -> tuple[str, ...]:
    """Markets the shown numbers come from, in the vocabulary's order (simulated first)."""
    found = set(pc.unique(data.readings.column("market")).to_pylist()) or ({data.market} if data.market else set())
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


def span(data: ReportData) -> tuple[datetime, datetime] | None:
    """First and last `as_of` of the published rows."""
    if not data.readings.num_rows:
        return None
    stamps = _millis(data.readings.column("as_of"))
    return from_ms(int(stamps.min())), from_ms(int(stamps.max()))


def _millis(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    stamps: npt.NDArray[np.int64] = pc.cast(column, pa.int64()).to_numpy(zero_copy_only=False) // 1000
    return stamps


def _floats(table: pa.Table, name: str) -> Floats:
    """A column with NaN where it is null."""
    values: Floats = pc.fill_null(pc.cast(table.column(name), pa.float64()), float("nan")).to_numpy(zero_copy_only=False)
    return values


def _codes(column: pa.ChunkedArray, words: Sequence[str]) -> Codes:
    """Position of each value in `words`; -1 for a word that is not there."""
    found = pc.fill_null(pc.index_in(column, pa.array(words, pa.string())), -1)
    codes: Codes = pc.cast(found, pa.int8()).to_numpy(zero_copy_only=False)
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
    readings_of, events_of = _groups(data.readings), _groups(data.events)
    parts = _groups(data.contributions.select(["asset", "cadence", "as_of", "index_name", "component", "feature", "contribution"]))
    found = []
    for key in sorted(readings_of, key=lambda one: _rank(data, one)):
        rows = readings_of[key]
        at_ms = _millis(rows.column("as_of"))
        found.append(
            Series(
                asset=key[0],
                cadence=key[1],
                at_ms=at_ms,
                s=_floats(rows, "s"),
                f=_floats(rows, "f"),
                x=_floats(rows, "x"),
                price_usd=_floats(rows, "price_usd"),
                drawdown=_floats(rows, "oi_drawdown_90d"),
                confidence=_floats(rows, "confidence"),
                status=_codes(rows.column("status"), STATUSES),
                regime=_codes(rows.column("regime"), REGIMES),
                parts=_parts(parts.get(key), at_ms),
                events=_events(events_of.get(key)),
            )
        )
    return found


def _parts(rows: pa.Table | None, at_ms: npt.NDArray[np.int64]) -> dict[str, dict[str, Floats]]:
    """Contributions summed by index and component on the stamps `at_ms`, points; rows of other stamps are left out."""
    summed: dict[str, dict[str, Floats]] = {index: {} for index in INDICES}
    if rows is None:
        return summed
    of_market = pc.equal(rows.column("component"), "asset")
    names = pc.if_else(of_market, rows.column("feature"), rows.column("component"))
    words = sorted(pc.unique(names).to_pylist(), key=_component_rank)
    stamps, value = _millis(rows.column("as_of")), _floats(rows, "contribution")
    group, index_of = _codes(names, words), _codes(rows.column("index_name"), INDICES)
    place = np.minimum(np.searchsorted(at_ms, stamps), at_ms.size - 1)
    known = (at_ms[place] == stamps) & np.isfinite(value)
    for number, index in enumerate(INDICES):
        for code, name in enumerate(words):
            chosen = known & (group == code) & (index_of == number)
            if chosen.any():
                summed[index][name] = np.bincount(place[chosen], weights=value[chosen], minlength=at_ms.size).astype(np.float64)
    return summed


def _component_rank(name: str) -> tuple[int, str]:
    return COMPONENTS.index(name) if name in COMPONENTS else len(COMPONENTS), name


def _events(rows: pa.Table | None) -> tuple[Event, ...]:
    """Events in order of time."""
    if rows is None:
        return ()
    columns = ["as_of", "event_type", "side", "severity", "reason", "observed", "threshold", "track_record"]
    return tuple(Event(row.pop("as_of").astimezone(UTC), **row) for row in rows.select(columns).to_pylist())


def readings(data: ReportData) -> list[Reading]:
    """The latest reading of each series, in the order of `series`."""
    rows_of = _groups(data.readings)
    newest_at = pa.array({rows.column("as_of")[-1].as_py() for rows in rows_of.values()}, data.readings.schema.field("as_of").type)
    parts, features = (_groups(table.filter(pc.is_in(table.column("as_of"), newest_at))) for table in (data.contributions, data.features))
    changes, events, levels = (_groups(table) for table in (data.regime_changes, data.events, data.liquidation_levels))
    found = []
    for key in sorted(rows_of, key=lambda one: _rank(data, one)):
        rows = rows_of[key]
        last = rows.slice(rows.num_rows - 1).to_pylist()[0]
        valued = rows.filter(pc.is_valid(rows.column("s")))
        newest = valued.slice(max(0, valued.num_rows - 1)).select(["as_of", "s"]).to_pylist() if last["s"] is None else []
        found.append(
            Reading(
                asset=key[0],
                cadence=key[1],
                as_of=last["as_of"].astimezone(UTC),
                known_at=last["known_at"].astimezone(UTC),
                row=last,
                constituents=_constituents(parts.get(key), features.get(key), last["as_of"]),
                last_value=(newest[0]["as_of"].astimezone(UTC), newest[0]["s"]) if newest else None,
                regime_reason=_regime_reason(changes.get(key), last),
                events=_events(events.get(key)),
                ladder=_ladder(levels.get(key), rows),
            )
        )
    return found


def _at(rows: pa.Table | None, as_of: datetime) -> list[dict[str, Any]]:
    if rows is None:
        return []
    found: list[dict[str, Any]] = rows.filter(pc.equal(rows.column("as_of"), pa.scalar(as_of, rows.schema.field("as_of").type))).to_pylist()
    return found


def _constituents(parts: pa.Table | None, features: pa.Table | None, as_of: datetime) -> dict[str, tuple[Constituent, ...]]:
    """Inputs of one instant by index: by component in the vocabulary's order, heaviest first."""
    measured = {row["feature"]: row["feature_value"] for row in _at(features, as_of)}
    split: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in _at(parts, as_of):
        split.setdefault((row["index_name"], row["component"], row["feature"]), []).append(row)
    found: dict[str, list[Constituent]] = {index: [] for index in INDICES}
    for (index, component, feature), rows in split.items():
        found[index].append(
            Constituent(
                component=component,
                feature=feature,
                feature_value=measured.get(feature),
                weight=math.fsum(row["weight"] for row in rows),
                score=rows[0]["score"],
                stale_factor=rows[0]["stale_factor"],
                history_days=rows[0]["history_days"],
                contribution=math.fsum(row["contribution"] for row in rows),
                reason="; ".join(sorted({row["reason"] for row in rows if row["reason"]})),
                venues=tuple(sorted((row["by_venue"], row["contribution"]) for row in rows)) if len(rows) > 1 else (),
            )
        )
    return {
        index: tuple(sorted(rows, key=lambda one: (COMPONENTS.index(one.component), -one.weight, one.feature)))
        for index, rows in found.items()
    }


def _regime_reason(changes: pa.Table | None, last: Mapping[str, Any]) -> str:
    """The words of the change that began the regime of the newest row."""
    found = _at(changes, last["regime_since"]) if last["regime_since"] else []
    return change_words(found[0]["rule"], found[0]["explanation_json"]) if found and found[0]["regime"] == last["regime"] else ""


def _ladder(levels: pa.Table | None, rows: pa.Table) -> Ladder | None:
    """Levels of the newest day that has any, beside the price of that instant; None without a price to hold them against."""
    if levels is None:
        return None
    as_of = levels.column("as_of")[-1].as_py()
    price = next((row["price_usd"] for row in _at(rows, as_of)), None)
    if not price:
        return None
    newest = pa.Table.from_pylist(_at(levels, as_of), schema=levels.schema).sort_by("level_usd")
    columns = (_floats(newest, name) for name in ("level_usd", "long_mass_share", "short_mass_share"))
    return Ladder(as_of.astimezone(UTC), price, *columns)

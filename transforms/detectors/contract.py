"""What every detector shares: the finding, the rows in tracks, and how suspect rows become findings.

A detector reads core tables as they stand and says which rows are suspect, why, and what would repair them. It repairs nothing. A finding
made from the rows known by an instant is the finding made from all rows, except that it may have grown forward: `window_end`, `rows`.
Window rule as everywhere: suspect rows have window_start < as_of <= window_end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.asof import floats, micros, tracks_of
from transforms.estimators import Bools, Floats, Ints
from transforms.schema import ARROW, arrow_schema
from transforms.tables import TABLES
from transforms.windows import partition_days

Consequence = Literal["quarantine", "flag"]

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
#: further parts of a table's key that split an instrument into several series
PARTS: Final = {"long_short": "ratio_metric", "funding": "funding_kind", "candles": "interval_h", "taker_flow": "interval_h"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect of one series. Instants in us since the epoch.

    series: "column=value" that narrows the instrument to one series, or "" for all its rows. observed, expected: the number that broke the
    rule and what the rule wanted, in the unit the detail names. factor: what to multiply the suspect values by, NaN where no
    factor repairs them. known_at: when the rows that prove it were known. proved_as_of: stamp of the row that completed the proof (rows
    before it were in use when it came); 0 where each row proves itself.
    """

    detector: str
    reason_code: str
    source: str
    venue: str
    instrument: str
    asset: str
    table: str
    series: str
    window_start: int
    window_end: int
    known_at: int
    consequence: Consequence
    detail: str
    observed: float
    expected: float
    factor: float
    rows: int
    proved_as_of: int = 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """What detectors look at: core tables with enough history before the rows that arrived, and what was asked.

    tables: by name, all columns, any order, every revision. arrived: decoded rows before the merge (the same columns), where they are at
    hand. coverage: rows of ops.coverage of the load.
    """

    tables: Mapping[str, pa.Table]
    arrived: Mapping[str, pa.Table]
    coverage: pa.Table | None = None


class Detector(ABC):
    """One kind of defect. `lookback_h`: history before the first judged row that the rule needs; a longer one is of no use to it."""

    name: ClassVar[str]
    reason_code: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    lookback_h: ClassVar[float]
    catches: ClassVar[str]
    rule_text: ClassVar[str]

    def back(self, arriving: Mapping[str, pa.Table]) -> float | None:
        """Hours of history that judging rows that arrive takes, at most `lookback_h`; None: they are nothing to this detector.

        arriving: by table, the columns of the table, revisions set.
        """
        return self.lookback_h if any(name in arriving for name in self.reads) else None

    @abstractmethod
    def find(self, inputs: Inputs) -> list[Finding]:
        """Findings in order of table, series and window; no input is changed."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The newest revision of each row of one table, sorted into tracks; track n is rows starts[n]..starts[n+1]-1, by as_of.

    names: (source, venue, instrument, asset, part) per track. own_known: when the row was known; known: when it and all before it in its
    track were.
    """

    table: str
    part: str
    names: list[tuple[str, ...]]
    starts: Ints
    track: Ints
    as_of: Ints
    known: Ints
    own_known: Ints
    values: dict[str, Floats]

    @property
    def first(self) -> Bools:
        """Whether a row is the first of its track."""
        found = np.zeros(len(self.as_of), dtype=bool)
        found[self.starts[:-1][np.diff(self.starts) > 0]] = True
        return found

    def before(self, values: Floats | Ints, steps: int = 1) -> Floats:
        """Values `steps` rows earlier in the same track; NaN where there is none."""
        found = np.full(len(values), np.nan)
        found[steps:] = values[:-steps]
        place = np.arange(len(values)) - self.starts[self.track]
        found[place < steps] = np.nan
        return found


def identity(table: str, rows: pa.Table) -> pa.Table:
    """Rows with the columns that name a track, also where a table names them otherwise (a stablecoin) or not at all."""
    count = rows.num_rows
    stand = {"stablecoin_supply": "stablecoin", "reference_index": "reference"}.get(table, "instrument")
    named = {"instrument": stand, "asset": "asset" if "asset" in rows.column_names else stand, "venue": "venue"}
    for column, origin in named.items():
        if column not in rows.column_names:
            held = rows.column(origin) if origin in rows.column_names else pa.array([""] * count, type=pa.string())
            rows = rows.append_column(column, held)
    part = PARTS.get(table, "")
    held = pc.cast(rows.column(part), pa.string()) if part else pa.array([""] * count, type=pa.string())
    return rows.append_column("_part", held)


def lines(inputs: Inputs, table: str, columns: Sequence[str]) -> Lines:
    """The table's newest revisions in tracks; a missing table is a table without rows. Columns outside the table are derived values."""
    rows = inputs.tables.get(table)
    if rows is None or rows.num_rows == 0:
        rows = arrow_schema(TABLES[table]).empty_table()
    rows = identity(table, rows)
    number, names = tracks_of(rows, ("source", "venue", "instrument", "asset", "_part"))
    as_of, known_at = micros(rows.column("as_of")), micros(rows.column("known_at"))
    revision = np.asarray(rows.column("revision").to_numpy(), dtype=np.int64)
    order = np.lexsort((revision, as_of, number))
    track, when = number[order], as_of[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (track[1:] != track[:-1]) | (when[1:] != when[:-1])
    order, track, when = order[last], track[last], when[last]
    starts = np.searchsorted(track, np.arange(len(names) + 1)).astype(np.int64)
    own_known = known_at[order]
    known = own_known.copy()
    for a, b in pairwise(starts):
        known[a:b] = np.maximum.accumulate(known[a:b])
    held = {name: floats(rows.column(name))[order] for name in columns}
    return Lines(table, PARTS.get(table, ""), names, starts, track, when, known, own_known, held)


@dataclass(frozen=True, slots=True)
class Told:
    """What a detector says per suspect row: arrays over the rows of Lines, scalars where all rows say the same."""

    bad: Bools
    observed: Floats
    expected: Floats
    factor: Floats
    consequence: Consequence
    detail: str
    known: Ints | None = None
    proof: Ints | None = None


def findings(detector: Detector, held: Lines, told: Told, *, split: bool = True) -> list[Finding]:
    """Neighbouring suspect rows of a track become one finding; what it says is what its first row says.

    `detail` is a format with the fields instrument, observed, expected, factor. split: a new finding where the factor changes.
    """
    at = np.flatnonzero(told.bad)
    if len(at) == 0:
        return []
    known = held.known if told.known is None else told.known
    fresh = np.ones(len(at), dtype=bool)
    fresh[1:] = (np.diff(at) > 1) | (np.diff(held.track[at]) != 0)
    if split:
        change = told.factor[at][1:] != told.factor[at][:-1]
        fresh[1:] |= change & ~(np.isnan(told.factor[at][1:]) & np.isnan(told.factor[at][:-1]))
    heads = np.flatnonzero(fresh)
    tails = np.append(heads[1:], len(at)) - 1
    found = []
    for head, tail in zip(heads.tolist(), tails.tolist(), strict=True):
        row, end = int(at[head]), int(at[tail])
        source, venue, instrument, asset, part = held.names[held.track[row]]
        inner = row > held.starts[held.track[row]]
        seen, wanted, factor = float(told.observed[row]), float(told.expected[row]), float(told.factor[row])
        found.append(
            Finding(
                detector.name,
                detector.reason_code,
                source,
                venue,
                instrument,
                asset,
                held.table,
                f"{held.part}={part}" if held.part else "",
                int(held.as_of[row - 1]) if inner else int(held.as_of[row]) - 1,
                int(held.as_of[end]),
                int(known[row]),
                told.consequence,
                told.detail.format(instrument=instrument, observed=seen, expected=wanted, factor=factor),
                seen,
                wanted,
                factor,
                end - row + 1,
                0 if told.proof is None else int(told.proof[row]),
            )
        )
    return found


def constant(held: Lines, value: float) -> Floats:
    """One value for every row."""
    return np.full(len(held.as_of), value)


def suspect(table: str, rows: pa.Table, found: Sequence[Finding], consequence: Consequence | None = None, *, proved: bool = False) -> Bools:
    """Which rows of a core table a list of findings speaks of; consequence: only findings of that one.

    Rows: any order, all columns. A finding names source, venue, instrument, span and, where it has one, the series.
    proved: only those that came when the proof was complete, which is all that a judge of arriving rows could have stopped.
    """
    mask = np.zeros(rows.num_rows, dtype=bool)
    wanted = [one for one in found if one.table == table and (consequence is None or one.consequence == consequence)]
    if not wanted or rows.num_rows == 0:
        return mask
    named = identity(table, rows)
    number, names = tracks_of(named, ("source", "venue", "instrument"))
    place = {name: n for n, name in enumerate(names)}
    as_of = micros(rows.column("as_of"))
    order = np.lexsort((as_of, number))
    starts = np.searchsorted(number[order], np.arange(len(names) + 1))
    when = as_of[order]
    series: dict[str, Bools] = {}
    for one in wanted:
        n = place.get((one.source, one.venue, one.instrument))
        if n is None:
            continue
        a, b = starts[n], starts[n + 1]
        first, last = a + np.searchsorted(
            when[a:b], (max(one.window_start, one.proved_as_of - 1 if proved else 0), one.window_end), "right"
        )
        hit = order[first:last]
        if one.series:
            if one.series not in series:
                column, _, value = one.series.partition("=")
                series[one.series] = np.asarray(
                    pc.fill_null(pc.equal(pc.cast(rows.column(column), pa.string()), value), False).to_numpy(zero_copy_only=False),
                    dtype=bool,
                )
            hit = hit[series[one.series][hit]]
        mask[hit] = True
    return mask


def to_table(found: Sequence[Finding], run_id: str, recorded_at: datetime) -> pa.Table:
    """Rows of ops.findings."""
    instant = ARROW["instant"]
    columns: dict[str, pa.Array] = {
        "detector": pa.array([one.detector for one in found], type=pa.string()),
        "reason_code": pa.array([one.reason_code for one in found], type=pa.string()),
        "source": pa.array([one.source for one in found], type=pa.string()),
        "venue": pa.array([one.venue for one in found], type=pa.string()),
        "instrument": pa.array([one.instrument for one in found], type=pa.string()),
        "asset": pa.array([one.asset for one in found], type=pa.string()),
        "table_name": pa.array([one.table for one in found], type=pa.string()),
        "series": pa.array([one.series for one in found], type=pa.string()),
        "window_start": pa.array([one.window_start for one in found], type=pa.int64()).cast(instant),
        "window_end": pa.array([one.window_end for one in found], type=pa.int64()).cast(instant),
        "known_at": pa.array([one.known_at for one in found], type=pa.int64()).cast(instant),
        "consequence": pa.array([one.consequence for one in found], type=pa.string()),
        "detail": pa.array([one.detail for one in found], type=pa.string()),
        "observed_value": pa.array([_number(one.observed) for one in found], type=pa.float64()),
        "expected_value": pa.array([_number(one.expected) for one in found], type=pa.float64()),
        "suggested_factor": pa.array([_number(one.factor) for one in found], type=pa.float64()),
        "rows_affected": pa.array([one.rows for one in found], type=pa.int64()),
        "run_id": pa.array([run_id] * len(found), type=pa.string()),
        "recorded_at": pa.array([recorded_at] * len(found), type=instant),
    }
    columns["date"] = partition_days(columns["recorded_at"])
    schema = arrow_schema(TABLES["findings"])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None

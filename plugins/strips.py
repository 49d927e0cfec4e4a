"""Coverage as a picture: for each endpoint and day, did everything that was asked for come?

Windows of any length are laid on an hourly grid, so that a year's backfill and an hour's update can be read together; what was asked
again counts by its best result, and a window recorded twice by its newest record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.windows import DAY, HOUR, from_ms, utc

States = npt.NDArray[np.int8]

NOT_ASKED, MISSING, PARTIAL, COMPLETE = range(4)
STATE_WORDS: Final = ("not asked", "missing", "partial", "complete")


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive days in one state, as positions on the strip: `[start, start + length)` days."""

    start: int
    length: int
    state: str
    label: str


@dataclass(frozen=True, slots=True)
class Strip:
    """One endpoint of one source over the days of the report."""

    source: str
    endpoint: str
    instruments: int
    windows: int
    expected: int  #: stamps, windows without a regular grid left out
    received: int
    missing: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Strips:
    """All strips and the days they span."""

    first: date
    days: int
    rows: tuple[Strip, ...]
    #: endpoints asked only outside these days, e.g. a list of instruments as of now beside a history
    outside: tuple[str, ...] = ()

    def ticks(self, wanted: int = 8) -> list[tuple[float, str]]:
        """Labels below the strips: position in 0..1 and text, on month starts."""
        months = [self.first + timedelta(days=n) for n in range(self.days) if (self.first + timedelta(days=n)).day == 1]
        stride = next(n for n in (1, 2, 3, 6, 12, 24, 60, 120, 600) if len(months) <= n * wanted)
        chosen = [month for month in months if (month.year * 12 + month.month - 1) % stride == 0]
        if len(chosen) < 2:
            return [(0.0, f"{self.first:%d %b %Y}")]
        return [(place, f"{month:%b %Y}") for month in chosen if (place := (month - self.first).days / self.days) < 0.95]


def in_force(coverage: pa.Table) -> list[dict[str, Any]]:
    """Coverage rows without those that newer ones replace: the same window asked again, or an incomplete one that was healed since.

    Healed: a newer record spans it whole, or complete windows cover it from end to end.
    """
    newest: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in coverage.drop_columns(["run_id", "date", "target"]).to_pylist():
        key = (row["source"], row["endpoint"], row["instrument"], row["window_start"], row["window_end"])
        if key not in newest or row["recorded_at"] > newest[key]["recorded_at"]:
            newest[key] = row
    of_series: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for key, row in newest.items():
        of_series.setdefault(key[:3], []).append(row)
    return [row for rows in of_series.values() for row in sorted(rows, key=_start) if row["complete"] or not _healed(row, rows)]


def _start(row: dict[str, Any]) -> tuple[datetime, datetime]:
    return row["window_start"], row["window_end"]


def _healed(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether later answers of the same series settle an incomplete window."""
    start, end = _start(row)
    if any(one["recorded_at"] > row["recorded_at"] and one["window_start"] <= start and end <= one["window_end"] for one in rows):
        return True
    for one in sorted((one for one in rows if one["complete"]), key=_start):
        if one["window_start"] <= start < one["window_end"]:
            start = one["window_end"]
    return start >= end


def strips(coverage: pa.Table) -> Strips | None:
    """Coverage rows (any order) to strips; None when nothing was asked."""
    rows = in_force(coverage)
    if not rows:
        return None
    # snapshots have no grid and lie at the venue's now: they must not stretch the days of a history
    spanning = [row for row in rows if row["expected"] >= 0] or rows
    origin = _midnight(min(row["window_start"] for row in spanning))
    days = -((origin - max(row["window_end"] for row in spanning)) // DAY)
    end = origin + days * DAY
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    outside = set()
    for row in rows:
        if row["window_start"] < end and row["window_end"] > origin:
            grouped.setdefault((row["source"], row["endpoint"]), []).append(row)
        else:
            outside.add((row["source"], row["endpoint"]))
    names = tuple(" ".join(key) for key in sorted(outside - set(grouped)))
    return Strips(origin.date(), days, tuple(_strip(*key, grouped[key], origin, days) for key in sorted(grouped)), names)


def _midnight(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _strip(source: str, endpoint: str, rows: list[dict[str, Any]], origin: datetime, days: int) -> Strip:
    instruments = sorted({row["instrument"] for row in rows})
    hours = np.zeros((len(instruments), days * 24), dtype=np.int8)
    place = {name: i for i, name in enumerate(instruments)}
    for row in rows:
        first, last = _cells(row["window_start"], row["window_end"], origin)
        mine = hours[place[row["instrument"]], max(first, 0) : last]
        np.maximum(mine, _states(row, last - first)[max(-first, 0) :][: mine.size], out=mine)
    asked = hours > NOT_ASKED
    per_day = (len(instruments), days, 24)
    any_asked = asked.reshape(per_day).any(axis=(0, 2))
    complete = (~asked | (hours == COMPLETE)).reshape(per_day).all(axis=(0, 2))
    missing = (~asked | (hours == MISSING)).reshape(per_day).all(axis=(0, 2))
    state = np.select([~any_asked, complete, missing], [NOT_ASKED, COMPLETE, MISSING], PARTIAL)
    gridded = [row for row in rows if row["expected"] >= 0]
    return Strip(
        source=source,
        endpoint=endpoint,
        instruments=len(instruments),
        windows=len(rows),
        expected=sum(row["expected"] for row in gridded),
        received=sum(row["received"] for row in gridded),
        missing=sum(row["missing"] for row in gridded),
        runs=_runs(state, origin.date()),
    )


def _cells(start: datetime, end: datetime, origin: datetime) -> tuple[int, int]:
    """Hour cells touched by the span `(start, end]`."""
    return (start - origin) // HOUR, -((origin - end) // HOUR)


def _states(row: dict[str, Any], cells: int) -> States:
    """State of each hour of one window."""
    if row["complete"]:
        return np.full(cells, COMPLETE, dtype=np.int8)
    if row["received"] == 0:
        return np.full(cells, MISSING, dtype=np.int8)
    stamps = _stamps(row["missing_stamps"])
    if not stamps or row["expected"] <= 0:
        return np.full(cells, PARTIAL, dtype=np.int8)
    states = np.full(cells, COMPLETE, dtype=np.int8)
    base = row["window_start"].replace(minute=0, second=0, microsecond=0)
    step = (row["window_end"] - row["window_start"]) / row["expected"]
    for stamp in stamps:
        first, last = _cells(stamp - step, stamp, base)
        states[max(first, 0) : last] = MISSING if step >= HOUR else PARTIAL
    if row["missing"] > len(stamps):  # the record names only the first missing stamps: what lies behind them is not known to be whole
        states[max(_cells(base, max(stamps), base)[1], 0) :] = PARTIAL
    return states


def _stamps(text: str) -> list[datetime]:
    """Missing stamps as recorded: ISO instants or Unix milliseconds; nothing when the record cannot be read."""
    try:
        return [from_ms(item) if isinstance(item, int) else utc(item) for item in json.loads(text or "[]")]
    except (ValueError, TypeError):
        return []


def _runs(state: npt.NDArray[Any], first: date) -> tuple[Run, ...]:
    edges = [0, *(np.flatnonzero(np.diff(state)) + 1).tolist(), state.size]
    found = []
    for start, end in pairwise(edges):
        word = STATE_WORDS[int(state[start])]
        begin, stop = first + timedelta(days=start), first + timedelta(days=end - 1)
        found.append(Run(start, end - start, word, f"{begin} to {stop}: {word}" if stop > begin else f"{begin}: {word}"))
    return tuple(found)

"""The coverage ledger: of every source, endpoint, instrument and day, which stamps were due and which never came.

`ops.coverage` has a row per window asked; windows overlap, are asked again and heal. Here the newest answer about each stamp counts, and a day
is complete when none of its stamps is missing. Only endpoints with a regular grid have stamps that are due.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np

from transforms.windows import Window

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_Span = tuple[int, int]


def _seconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _SECOND


def touched(rows: Sequence[Mapping[str, Any]]) -> set[date]:
    """Days that rows of `coverage` speak of."""
    found: set[date] = set()
    for row in rows:
        if row["expected"] > 0:
            found.update(Window(row["window_start"], row["window_end"]).days())
    return found


def by_day(rows: Sequence[Mapping[str, Any]], days: set[date]) -> list[dict[str, Any]]:
    """One row per (source, endpoint, instrument, day of `days`) of which a window with a grid had a stamp due, in key order.

    rows: of `coverage`, any order. `expected` counts the stamps of the day that were ever due, `missing` those the newest answer about them
    did not hold, `refused` the refused answers of windows of the day that no later window has covered since.
    """
    series: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["expected"] > 0:
            series[row["source"], row["endpoint"], row["instrument"]].append(row)
    found = []
    for (source, endpoint, instrument), asked in sorted(series.items()):
        states: dict[date, dict[int, bool]] = defaultdict(dict)
        refused: dict[date, list[tuple[int, list[_Span]]]] = defaultdict(list)
        for row in sorted(asked, key=lambda one: (one["recorded_at"], one["window_start"])):
            window = Window(row["window_start"], row["window_end"])
            gone = {_seconds(datetime.fromisoformat(text)) for text in json.loads(row["missing_stamps"])}
            stamps = _grid(window, row["expected"])
            for day in window.days():
                if day not in days:
                    continue
                whole = Window.day(day)
                low, high = np.searchsorted(stamps, [_seconds(whole.start), _seconds(whole.end)], side="right")
                for stamp in stamps[low:high].tolist():
                    states[day][stamp] = stamp not in gone
                span = (max(_seconds(window.start), _seconds(whole.start)), min(_seconds(window.end), _seconds(whole.end)))
                refused[day] = [(count, left) for count, parts in refused[day] if (left := _outside(parts, span))]
                refused[day] += [(int(row["refused"]), [span])] * (row["refused"] > 0)
        for day in sorted(states):
            missing = sum(not came for came in states[day].values())
            answers = sum(count for count, _ in refused[day])
            found.append(
                {
                    "source": source,
                    "endpoint": endpoint,
                    "instrument": instrument,
                    "target": asked[-1]["target"],
                    "expected": len(states[day]),
                    "received": len(states[day]) - missing,
                    "missing": missing,
                    "refused": answers,
                    "complete": missing == 0 and answers == 0,
                    "date": day,
                }
            )
    return found


def _outside(parts: Sequence[_Span], span: _Span) -> list[_Span]:
    """What of `parts` lies outside `span`."""
    pieces = [piece for start, end in parts for piece in ((start, min(end, span[0])), (max(start, span[1]), end))]
    return [(start, end) for start, end in pieces if start < end]


#: steps of the grids that sources declare, s; each divides the next
STEPS: Final = (300, 900, 3600, 14_400, 28_800, 86_400)


def _grid(window: Window, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The `count` stamps that were due in a window. The steps divide one another, so two grids of equal count are the same stamps."""
    start, end = _seconds(window.start), _seconds(window.end)
    for step in STEPS:
        stamps = np.arange((start // step + 1) * step, end + 1, step, dtype=np.int64)
        if len(stamps) == count:
            return stamps
    raise ValueError(f"found {count} stamps expected in {window}; none of the steps {STEPS} s gives that many: declare the step there")

"""Coverage as strips: every hour that was asked for has one state, and what was healed is told no more."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.strips import in_force, strips
from tests.unit.report_tables import START, build
from transforms.tables import TABLES


def window(hours: tuple[int, int], *, expected=24, missing=0, stamps=(), recorded=0, instrument="BTCUSDT", endpoint="klines"):
    row = {
        "source": "binance",
        "endpoint": endpoint,
        "instrument": instrument,
        "target": "candles",
        "window_start": START + timedelta(hours=hours[0]),
        "window_end": START + timedelta(hours=hours[1]),
        "expected": expected,
        "received": expected - missing,
        "missing": missing,
        "refused": 0,
        "missing_stamps": json.dumps([(START + timedelta(hours=h)).isoformat() for h in stamps]),
        "complete": missing == 0,
        "answers": 1,
        "run_id": "r",
        "recorded_at": START + timedelta(hours=recorded),
        "date": START.date(),
    }
    return {name: [row[name]] for name in TABLES["coverage"].columns}


def states(*windows) -> list[tuple[int, int, str]]:
    found = strips(pa.concat_tables([build("coverage", one) for one in windows]))
    assert len(found.rows) == 1
    return [(run.start, run.length, run.state) for run in found.rows[0].runs]


def test_coverage_by_day():
    whole = window((0, 96), expected=96)
    assert states(whole) == [(0, 4, "complete")]
    assert states(window((0, 24)), window((48, 72))) == [(0, 1, "complete"), (1, 1, "not asked"), (2, 1, "complete")]
    assert states(window((0, 24), missing=24, stamps=range(1, 21))) == [(0, 1, "missing")]
    # the 30th hour ends in the second day
    assert states(window((0, 96), expected=96, missing=1, stamps=[30])) == [(0, 1, "complete"), (1, 1, "partial"), (2, 2, "complete")]
    # midnight belongs to the day that ends there
    assert states(window((0, 96), expected=96, missing=1, stamps=[24])) == [(0, 1, "partial"), (1, 3, "complete")]
    # a whole day of hours missing is a missing day
    assert states(window((0, 72), expected=72, missing=24, stamps=range(25, 49)))[1] == (1, 1, "missing")
    # only the first missing stamps are recorded: what lies behind them is not called complete
    assert states(window((0, 96), expected=96, missing=60, stamps=range(30, 34))) == [(0, 1, "complete"), (1, 3, "partial")]


def test_coverage_of_what_was_asked_again():
    failed = window((0, 24), missing=24)
    assert states(failed, window((0, 24), recorded=1)) == [(0, 1, "complete")], "the newer record of a window is in force"
    assert states(window((0, 24)), window((0, 24), missing=24, recorded=1)) == [(0, 1, "missing")]
    assert states(failed, window((0, 12), expected=12), window((12, 24), expected=12)) == [(0, 1, "complete")], "any window may heal it"
    assert states(window((0, 24)), window((0, 24), missing=24, instrument="ETHUSDT")) == [(0, 1, "partial")], "one of two instruments"


def test_a_snapshot_of_today_does_not_stretch_a_history():
    history, today = window((0, 48), expected=48), window((24_000, 24_001), expected=-1, endpoint="exchangeInfo")
    found = strips(pa.concat_tables([build("coverage", one) for one in (history, today)]))
    assert found.days == 2
    assert [row.endpoint for row in found.rows] == ["klines"]
    assert found.outside == ("binance exchangeInfo",)
    # without a grid, but reaching into the days: drawn, cut at their edges
    wide = window((-30, 60), expected=-1, endpoint="fundingRate")
    found = strips(pa.concat_tables([build("coverage", one) for one in (history, wide)]))
    assert [[(run.start, run.length, run.state) for run in row.runs] for row in found.rows] == [[(0, 2, "complete")]] * 2


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 100), st.integers(0, 30)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_coverage_strips_tile_their_days(asked):
    windows = [
        window(
            (start, start + length), expected=length, missing=min(gone, length), stamps=range(start + 1, start + 1 + min(gone, 20, length))
        )
        for start, length, gone in asked
    ]
    found = strips(pa.concat_tables([build("coverage", one) for one in windows]))
    runs = found.rows[0].runs
    assert sum(run.length for run in runs) == found.days
    assert [run.start for run in runs] == list(np.cumsum([0, *(run.length for run in runs)])[:-1])
    if all(gone == 0 for _, _, gone in asked):
        assert {run.state for run in runs} <= {"complete", "not asked"}


def test_a_window_that_was_healed_is_told_no_more():
    def told(*windows) -> list[tuple[int, bool]]:
        rows = in_force(pa.concat_tables([build("coverage", one) for one in windows]))
        return [((row["window_end"] - row["window_start"]) // timedelta(hours=1), row["complete"]) for row in rows]

    early = window((23, 24), expected=1, missing=1)
    assert told(early, window((0, 24), recorded=1)) == [(24, True)], "asked again as part of a longer window"
    assert told(early, window((0, 24), missing=1, recorded=1)) == [(24, False)], "still open, but told once"
    assert told(window((0, 24), missing=2), window((0, 12), recorded=1), window((12, 24), recorded=1)) == [(12, True), (12, True)]
    assert told(window((0, 24), missing=2), window((12, 24), recorded=1)) == [(24, False), (12, True)], "half of it is not all"

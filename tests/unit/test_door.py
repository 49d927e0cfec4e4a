"""The detectors as a load calls them: answers decoded, stamps counted, and judged at the door of a lake that is still empty."""

from __future__ import annotations

import json
from datetime import timedelta

import pyarrow as pa
import pytest

from plugins import ledger, suspecting
from plugins.fetcher import Fetched
from plugins.loading import _Batch
from transforms.reading import to_us
from transforms.revisions import merge
from transforms.roster import source
from transforms.schema import empty
from transforms.sources.contract import Answer, Disposition, Series
from transforms.tables import TABLES
from transforms.windows import DAY, HOUR, Window, utc

BINANCE = source("binance")
START = utc("2026-05-01")
ASKED = START + 30 * DAY


class EmptyLake:
    """A lake before its first load."""

    def read(self, name, *, days=None, columns=None, where=None):
        rows = empty(TABLES[name])
        return rows if columns is None else rows.select(list(columns))


def bars(window, opened):
    """An answer about hourly bars of a window, whose bars open at these hours after START."""
    (ask,) = BINANCE.asks(Series("binance", "klines", "BTCUSDT", window, HOUR))
    body = []
    for n in opened:
        at = to_us(START + n * HOUR) // 1000
        price, volume = 100 + (n * 7) % 5 / 100, 10 + n % 3
        words = [f"{one:.2f}" for one in (price, price + 1, price - 1, price + 0.01, volume)]
        body.append([at, *words, at + 3_599_999, f"{price * volume:.2f}", 5, "4", f"{price * 4:.2f}", "0"])
    headers = {"Content-Type": "application/json"}
    return Fetched(ask, Answer(200, json.dumps(body).encode(), ASKED, headers), Disposition("accept"), 1)


def judged(*answers):
    """The load's steps up to the judgement: decode, merge, judge; every row passes the gate."""
    batch = _Batch("run")
    for one in answers:
        batch.take(one)
    assert batch.quarantine == []
    arrived = {name: pa.concat_tables(pieces) for name, pieces in batch.tables.items()}
    fresh = {name: merge(TABLES[name], empty(TABLES[name]), rows) for name, rows in arrived.items()}
    coverage = ledger.rows_table("coverage", [row | {"run_id": "run"} for row in batch.coverage()])
    passed = {name: one.rows for name, one in fresh.items()}
    found = suspecting.judge(EmptyLake(), passed, {}, "run", ASKED, arrived, coverage)
    assert found.aside == []
    assert found.passed["candles"].num_rows == passed["candles"].num_rows
    return [] if found.findings is None else found.findings.to_pylist()


@pytest.mark.parametrize(("opened", "missing"), [(range(140, 240), (0, 141)), (range(100), (100, 240))], ids=["head", "tail"])
def test_a_page_where_a_history_was_asked_for_is_on_record_with_what_is_missing(opened, missing):
    """Ten days of hours are asked for, 100 rows come: a page. A bar that opens at n ends at n + 1."""
    (one,) = judged(bars(Window(START, START + 10 * DAY), opened))
    assert (one["detector"], one["reason_code"], one["table_name"], one["consequence"]) == (
        "truncated_history",
        "TRUNCATED_HISTORY",
        "candles",
        "flag",
    )
    assert (one["source"], one["venue"], one["instrument"], one["run_id"]) == ("binance", "binance", "BTCUSDT", "run")
    assert (one["observed_value"], one["expected_value"], one["suggested_factor"], one["rows_affected"]) == (100.0, 240.0, None, 0)
    at_start = timedelta.resolution if missing[0] == 0 else timedelta(0)
    assert (one["window_start"], one["window_end"]) == (START + missing[0] * HOUR, START + missing[1] * HOUR - at_start)


@pytest.mark.parametrize("opened", [range(141, 240), range(240)], ids=["99 rows", "all rows"])
def test_no_page_and_no_hole_are_nothing(opened):
    assert judged(bars(Window(START, START + 10 * DAY), opened)) == []


def days(reach):
    """Three days, one answer each, whose windows begin `reach` before the day."""
    return [bars(Window(START + n * DAY - reach, START + (n + 1) * DAY), range(24 * n - reach // HOUR, 24 * (n + 1))) for n in range(1, 4)]


def test_answers_that_overlap_by_their_midnight_are_on_record_once_the_second_does():
    (one,) = judged(*days(HOUR))
    assert (one["detector"], one["reason_code"], one["table_name"]) == ("duplicated_midnight", "DUPLICATED_MIDNIGHT", "candles")
    assert (one["series"], one["consequence"], one["rows_affected"]) == ("interval_h=1", "flag", 2)
    assert (one["window_start"], one["window_end"]) == (START + 2 * DAY - timedelta.resolution, START + 3 * DAY)
    assert judged(*days(timedelta(0))) == []
    assert judged(*days(2 * HOUR)) == [], "they share more than that"

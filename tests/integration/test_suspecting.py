"""What passes the gate and comes from a broken source: put aside at the door, on record, and released by a person who knows better."""

from __future__ import annotations

import pytest

from plugins import steps
from plugins.quarantine import Choice, decide, still_open
from tests.integration.test_quarantine import accounts, bars, klines

pytestmark = pytest.mark.stack


def test_a_dead_feed_is_put_aside_and_a_release_brings_it_back(pipeline):
    lake = pipeline()
    bundle = klines(lake, move=0.0)
    counts = steps.load([bundle], "k", "first")
    entries = still_open(lake)
    assert counts["rows_core"] + len(entries) == 24
    assert entries
    assert {entry.reason_code for entry in entries} == {"SUSPECT"}
    assert all("DEAD_FEED: " in entry.detail for entry in entries)
    found = lake.read("findings").to_pylist()
    assert {(row["detector"], row["table_name"], row["consequence"]) for row in found} == {("dead_feed", "candles", "quarantine")}
    assert sum(row["rows_affected"] for row in found) == 23, "the finding names all equal rows"
    assert sorted(entry.at.hour for entry in entries) == [0, 21, 22, 23], "put aside are those that came when it was twenty hours long"
    accounts(lake)

    again = steps.load([bundle], "k", "again")
    assert again["rows_core"] == 0, "said once more it is as suspect as before"
    decide(lake, Choice(table="candles", reason_code="SUSPECT"), "release", "the venue was halted that day", "ana", "run-1")
    assert still_open(lake) == []
    assert len(bars(lake)) == 24
    assert sum("RELEASED" in row["flags"] for row in bars(lake)) == len(entries)
    steps.load([bundle], "k", "third")
    assert still_open(lake) == []
    accounts(lake)


def test_a_moving_market_passes(pipeline):
    lake = pipeline()
    assert steps.load([klines(lake)], "k", "first")["rows_core"] == 24
    assert lake.read("findings").num_rows == 0

"""A contract that left the list is asked about for the time it traded, on the real lake (PITFALLS E5: no survivorship)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from plugins import steps
from tests.integration.conftest import at_fault
from transforms.windows import HOUR, to_ms, utc

pytestmark = pytest.mark.stack

DAY_BEFORE = utc("2026-07-30")
ENDED = utc("2026-07-31T09:20")
KEY = "2026-07"


def stamps(lake, name, instrument):
    return sorted(
        row["as_of"] for row in lake.read(name, where={"instrument": instrument}).to_pylist() if row["as_of"] > DAY_BEFORE + 24 * HOUR
    )


def test_e5_what_a_contract_did_before_it_was_delisted_is_asked_for(pipeline, sandbox):
    lake = pipeline(SPANS={"*": [["2026-07-30", "2026-08-01"]]}, HOURLY_ASSETS="BTC ETH")
    gone = {"path": "/fapi/v1/exchangeInfo", "kind": "delisted", "params": {"symbol": "ETHUSDT", "ended": to_ms(ENDED)}}
    with at_fault(sandbox, gone) as struck:
        counts = steps.load([steps.fetch("binance", KEY, "first")], KEY, "first")
        assert struck() == [1]
        assert counts["rows_quarantined"] == 0, "nobody asked how a contract stands that is no more"
        last = ENDED - timedelta(minutes=20)
        assert stamps(lake, "candles", "ETHUSDT") == [DAY_BEFORE + n * HOUR for n in range(25, 34)]
        assert max(stamps(lake, "open_interest", "ETHUSDT")) <= last
        assert len(stamps(lake, "candles", "BTCUSDT")) == 23, "all hours that are over and published"
        asked = [row for row in lake.read("coverage").to_pylist() if row["instrument"] == "ETHUSDT"]
        assert asked
        assert all(row["complete"] and row["window_end"] <= last for row in asked)
        listed = {row["instrument"]: row for row in lake.read("instruments").to_pylist()}
        assert listed["ETHUSDT"]["instrument_status"] == "SETTLING", "the list is kept as it is"
        assert listed["ETHUSDT"]["delivery_at"] == ENDED

        assert steps.fetch("binance", KEY, "again") == [], "all of it is proved: nothing is asked twice"

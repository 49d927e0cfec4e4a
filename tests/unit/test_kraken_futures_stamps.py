"""Kraken Futures: periods other than declared, stamps at the ends of time, states out of a cache, contracts that a state leaves out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.payloads.reader import one
from tests.unit.test_kraken_futures import FUNDING, HOURS, INSTRUMENTS, TICKERS, TICKERS_INVERSE, decode, reasons
from transforms.windows import utc


@pytest.mark.parametrize(("hours", "kept"), [(1, 3), (2, 0), (4, 0), (8, 0)])
def test_c1_rates_of_another_period_than_declared_are_no_rates_an_hour(hours, kept):
    """PITFALLS C1: an 8-hour rate read as an hour's is annualised eight times too high."""

    def apart(tree):
        last = utc("2026-05-20T10:00")
        for n, row in enumerate(reversed(tree["rates"])):
            row["timestamp"] = f"{last - n * timedelta(hours=hours):%Y-%m-%dT%H:%M:%S}.000Z"

    decoded = decode(FUNDING, apart)
    assert decoded.tables["funding"].num_rows == kept
    assert {reason for _, reason in reasons(decoded)} == (set() if kept else {"CONVENTION"})


def test_a_period_that_is_missing_takes_no_other_with_it():
    decoded = decode(FUNDING, lambda tree: tree["rates"].pop(4))
    assert (decoded.tables["funding"]["as_of"].to_pylist(), reasons(decoded)) == (HOURS[:2], [])


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59.999Z", "9999-12-31T23:00:00-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_stamp_at_the_end_of_time_is_no_crash(stamp):
    def moved(tree):
        tree["rates"][0]["timestamp"] = stamp

    assert decode(FUNDING, moved).tables["funding"]["as_of"].to_pylist() == HOURS
    listed = decode(INSTRUMENTS, lambda tree: tree["instruments"][0].update(openingDate=stamp))
    assert len(listed.tables["instruments"].to_pylist()) + len(listed.rejects) == len(decode(INSTRUMENTS).tables["instruments"])


@pytest.mark.parametrize("endpoint", [INSTRUMENTS, TICKERS, TICKERS_INVERSE])
@pytest.mark.parametrize("clock", ["2026-05-20T10:59:59Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_state_out_of_a_cache_is_put_aside(endpoint, clock):
    decoded = decode(endpoint, lambda tree: tree.update(serverTime=clock))
    assert {table.num_rows for table in decoded.tables.values()} == {0}
    assert {reason for _, reason in reasons(decoded)} == {"STAMP"}


def test_a_contract_that_the_state_leaves_out_is_missed():
    decoded = decode(TICKERS, lambda tree: tree.update(tickers=[row for row in tree["tickers"] if row["symbol"] != "PF_XBTUSD"]))
    assert "PF_XBTUSD" in one("kraken_futures", "tickers.json").ask.series.instruments
    assert reasons(decoded) == [("open_interest", "MISSING")]

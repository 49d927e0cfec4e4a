"""The sandbox's BitMEX: what the source asks it answers whole, in the venue's units; pages, the token bucket, error bodies."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.market import frozen
from sandbox.recordings import RecordedMarket
from sandbox.server import venues
from sandbox.simulated import GENESIS, SimulatedMarket
from sandbox.wire.bitmex import INVERSE_PART
from sandbox.wire.reply import Query
from tests.payloads.reader import one
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.bitmex import FUNDING_SPAN
from transforms.sources.contract import Answer
from transforms.windows import HOUR, Window, to_ms, utc

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
VENUE = source("bitmex")
JSON = {"Content-Type": "application/json"}
MARKET = SimulatedMarket(7, frozen(NOW))
VIEW = MARKET.at("bitmex")
HOSTS = venues(MARKET, lambda: 0.0, 1e9)
#: our spelling -> the market's contract and the part of it
BEHIND = {
    "XBTUSD": ("BTCUSDT", INVERSE_PART),
    "XBTUSDT": ("BTCUSDT", 1.0 - INVERSE_PART),
    "ETHUSDT": ("ETHUSDT", 1.0),
    "SOLUSDT": ("SOLUSDT", 1.0),
}


def told(path, status=200, hosts=HOSTS, **params):
    reply = hosts["bitmex.api"].answer(Query(path, {name: str(value) for name, value in params.items()}))
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def answered(series):
    """Everything the source asks about one series, pages followed: tables by name, and the number of asks."""
    tables, count = {}, 0
    for first in VENUE.asks(series):
        ask = first
        while ask is not None:
            reply = HOSTS["bitmex.api"].answer(Query(ask.path, dict(ask.params)))
            answer = Answer(reply.status, reply.body, NOW, JSON)
            assert VENUE.classify(ask, answer).verb == "accept"
            decoded = VENUE.decode(ask, answer)
            assert not decoded.rejects
            assert not decoded.notes
            for name, table in decoded.tables.items():
                tables.setdefault(name, []).extend(table.to_pylist())
            ask, count = VENUE.follow(ask, answer), count + 1
    return tables, count


def listed():
    (ask,) = VENUE.asks(VENUE.catalogue(NOW))
    reply = HOSTS["bitmex.api"].answer(Query(ask.path, dict(ask.params)))
    return tradable(VENUE.decode(ask, Answer(200, reply.body, NOW, JSON)).tables["instruments"], VENUE.listing)


def test_the_listing_says_how_each_perpetual_stands_in_the_markets_numbers():
    tables, _ = answered(VENUE.catalogue(NOW))
    assert {row["instrument"]: row["payoff"] for row in tables["instruments"]} == {
        symbol: "inverse" if symbol == "XBTUSD" else "linear" for symbol in BEHIND
    }
    for row in tables["open_interest"]:
        contract, part = BEHIND[row["instrument"]]
        coins = VIEW.positioning(contract, 300_000, NOW_MS - DAY_MS, NOW_MS)["oi_base"][-1] * part
        mark = VIEW.premium(contract)["mark"]
        assert row["open_interest_base"] == pytest.approx(coins, rel=1e-3)
        assert row["open_interest_usd"] == pytest.approx(coins * mark, rel=1e-3)
        assert row["native_unit"] == "contracts"
        counted = coins * mark if row["instrument"] == "XBTUSD" else coins * {"BTC": 1e6, "ETH": 1e5, "SOL": 1e4}[row["asset"]]
        assert row["open_interest_native"] == pytest.approx(counted, rel=1e-3), "in the contract's own unit"
    for table, field, name in (("marks", "mark_usd", "mark"), ("marks", "index_usd", "index"), ("funding", "funding_rate", "rate")):
        assert len(tables[table]) == len(BEHIND)
        for row in tables[table]:
            assert row[field] == pytest.approx(VIEW.premium(BEHIND[row["instrument"]][0])[name], abs=1e-4, rel=1e-8)
            assert row["as_of"] == NOW


def test_the_source_reads_every_settlement_and_every_hour():
    window = Window(GENESIS, utc("2026-11-22T13:00"))
    planned = list(VENUE.plan(window, listed(), NOW))
    assert {(one.endpoint, one.instrument) for one in planned} == {(e, s) for e in ("funding", "trade/bucketed") for s in BEHIND}
    for series in planned:
        contract, part = BEHIND[series.instrument]
        tables, count = answered(series)
        if series.endpoint == "funding":
            rows, held = tables["funding"], VIEW.settlements(contract, to_ms(GENESIS), NOW_MS)
            assert np.allclose([row["funding_rate"] for row in rows], held["rate"], atol=1e-10, rtol=0)
            assert [to_ms(row["as_of"]) for row in rows] == held.at.tolist()
            assert {row["funding_interval_h"] for row in rows} == {8.0}
            assert count == len(list(series.window.split(FUNDING_SPAN)))
            continue
        rows, held = tables["candles"], VIEW.bars(contract, HOUR_MS, to_ms(GENESIS), NOW_MS)
        assert [row["as_of"] for row in rows] == series.expected()
        for ours, theirs, factor in (
            ("high_usd", "high", 1.0),
            ("low_usd", "low", 1.0),
            ("close_usd", "close", 1.0),
            ("volume_base", "volume", part),
        ):
            assert np.allclose([row[ours] for row in rows], held[theirs][: len(rows)] * factor, rtol=1e-9, atol=1e-8), ours
        assert [row["open_usd"] for row in rows[1:]] == [row["close_usd"] for row in rows[:-1]]
        assert count == -(-len(rows) // 500)


def shape(value):
    """Keys and kinds of a JSON value; a null counts as whatever it may stand for."""
    return {
        key: "number" if isinstance(kind, int | float) and not isinstance(kind, bool) else type(kind).__name__
        for key, kind in value.items()
    }


@pytest.mark.parametrize(
    ("file", "path", "params"), [("funding.json", "/funding", {}), ("trade_bucketed.json", "/trade/bucketed", {"binSize": "1h"})]
)
def test_rows_have_the_keys_and_kinds_of_the_payloads_in_their_order(file, path, params):
    ours = told(path, symbol="XBTUSD", count=3, reverse="true", **params)
    theirs = json.loads(one("bitmex", file).answer.body)
    assert [list(row) for row in ours] == [list(theirs[0])] * 3
    assert {tuple(shape(row).items()) for row in ours} <= {tuple(shape(row).items()) for row in theirs}
    for row in told("/instrument/active"):
        assert set(row) <= set(json.loads(one("bitmex", "instrument_active.json").answer.body)[0]) | {"fairPrice"}


@given(
    first=st.integers(0, 16_000), hours=st.integers(0, 1500), count=st.integers(1, 1000), start=st.integers(0, 40), reverse=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_pages_are_cut_as_the_venue_cuts_them(first, hours, count, start, reverse):
    begin = GENESIS + first * HOUR
    end = begin + hours * HOUR
    asked = {"startTime": begin.isoformat(), "endTime": end.isoformat(), "count": count, "start": start, "reverse": str(reverse).lower()}
    page = [row["timestamp"] for row in told("/trade/bucketed", symbol="ETHUSDT", binSize="1h", **asked)]
    every = [f"{begin + n * HOUR:%Y-%m-%dT%H:%M:%S}.000Z" for n in range(hours + 1) if GENESIS < begin + n * HOUR <= NOW]
    assert page == (every[::-1] if reverse else every)[start : start + count]


def test_the_running_bar_is_shown_on_demand_only():
    last = told("/trade/bucketed", symbol="XBTUSD", binSize="1h", reverse="true", count=1)
    running = told("/trade/bucketed", symbol="XBTUSD", binSize="1h", reverse="true", count=1, partial="true")
    assert (last[0]["timestamp"], running[0]["timestamp"]) == ("2026-11-22T13:00:00.000Z", "2026-11-22T14:00:00.000Z")


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/trade/bucketed", {"symbol": "XBTUSD", "binSize": "7h"}, 400),
        ("/trade/bucketed", {"symbol": "XBTUSD", "count": "1001"}, 400),
        ("/funding", {"symbol": "XBTUSD", "count": "501"}, 400),
        ("/funding", {"symbol": "XBTUSD", "count": "many"}, 400),
        ("/funding", {"symbol": "XBTUSD", "startTime": "soon"}, 400),
        ("/nothing", {}, 404),
    ],
)
def test_refusals_have_the_venues_body_and_the_source_names_them(path, params, status):
    said = told(path, status, **params)
    assert set(said) == {"error"}
    assert set(said["error"]) == {"message", "name"}
    verdict = VENUE.classify(one("bitmex", "funding.json").ask, Answer(status, json.dumps(said).encode(), NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")


def test_nobody_answers_for_a_symbol_that_is_not_listed():
    assert told("/funding", symbol="DOGEUSDT") == []


def test_d6_the_sandbox_serves_no_liquidation_orders_for_nothing_asks_for_them():
    assert told("/liquidation", 404)["error"]["message"] == "Not Found"


def test_thirty_requests_pass_and_one_more_every_two_seconds():
    clock = [1_000.0]
    hosts = venues(MARKET, lambda: clock[0])
    question = Query("/funding", {"symbol": "XBTUSD", "count": "1"})
    replies = [hosts["bitmex.api"].answer(question) for _ in range(31)]
    assert [reply.status for reply in replies] == [200] * 30 + [429]
    assert [int(reply.headers["x-ratelimit-remaining"]) for reply in replies[:3]] == [29, 28, 27]
    verdict = VENUE.classify(one("bitmex", "funding.json").ask, Answer(429, replies[-1].body, NOW, dict(replies[-1].headers)))
    assert (verdict.verb, verdict.wait) == ("retry", 2.0)
    assert "RateLimitError" in verdict.detail
    clock[0] += 2.0
    assert hosts["bitmex.api"].answer(question).status == 200
    assert hosts["bitmex.api"].answer(question).status == 429


def test_the_budget_never_runs_into_the_limit():
    """The fetcher lets at most the budget through in any span of its length: so the bucket of 30 tokens is never empty."""
    budget = VENUE.budgets["default"]
    clock = [0.0]
    hosts = venues(MARKET, lambda: clock[0])
    question = Query("/funding", {"symbol": "XBTUSD", "count": "1"})
    for _ in range(5):
        assert {hosts["bitmex.api"].answer(question).status for _ in range(int(budget.weight))} == {200}
        clock[0] += budget.per


@given(
    path=st.sampled_from(["/instrument/active", "/funding", "/trade/bucketed", "/liquidation", "/"]),
    params=st.dictionaries(
        st.sampled_from(["symbol", "count", "start", "startTime", "endTime", "reverse", "binSize", "partial"]),
        st.one_of(st.text(max_size=8), st.integers().map(str), st.sampled_from(["XBTUSD", "1h", "2026-01-01", "true", "9" * 40])),
    ),
)
@settings(max_examples=100, deadline=None)
def test_no_question_breaks_the_venue(path, params):
    reply = HOSTS["bitmex.api"].answer(Query(path, params))
    assert reply.status in (200, 400, 404)
    json.loads(reply.body)


@pytest.mark.recordings
def test_recordings_hold_nothing_of_this_venue():
    hosts = venues(RecordedMarket(RECORDINGS, frozen(utc("2026-05-28"))), lambda: 0.0, 1e9)
    assert told("/instrument/active", hosts=hosts) == []
    assert told("/funding", hosts=hosts, symbol="XBTUSD") == []

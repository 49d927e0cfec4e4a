"""The sandbox's Kraken Futures against its own market, through the source: every hour once, coins and dollars apart, errors with HTTP 200."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sandbox.market import frozen
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.wire.kraken_futures import HOLDERS, INVERSE_SHARE, PAGE
from sandbox.wire.reply import Query
from tests.payloads.reader import one
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.contract import Answer, Series
from transforms.sources.kraken_futures import (
    CANDLES,
    FLOW,
    FUNDING,
    HEADS,
    INSTRUMENTS,
    INTEREST,
    INTEREST_INVERSE,
    TICKERS,
    TICKERS_INVERSE,
    TOP,
)
from transforms.windows import HOUR, Window, to_ms, utc

NOW = utc("2026-11-22T13:07")
HOUR_MS = 3_600_000
JSON = {"Content-Type": "application/json"}
KRAKEN = source("kraken_futures")
START, END = utc("2026-09-10T05:00"), utc("2026-11-22T13:00")
CHARTS = "/api/charts/v1"


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW)).at("kraken_futures")


@pytest.fixture(scope="module")
def hosts():
    return venues(SimulatedMarket(7, frozen(NOW)), lambda: 0.0, 1e9)


def replied(hosts, path, **params):
    return hosts["kraken_futures.api"].answer(Query(path, {name: str(value) for name, value in params.items()}))


def told(hosts, path, status=200, **params):
    reply = replied(hosts, path, **params)
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def answered(hosts, series):
    """Everything the source asks about one series, decoded: rows by table, and how many answers there were."""
    rows, count = {}, 0
    for first in KRAKEN.asks(series):
        ask = first
        while ask is not None:
            reply = hosts["kraken_futures.api"].answer(Query(ask.path, dict(ask.params)))
            answer = Answer(reply.status, reply.body, NOW, JSON)
            assert KRAKEN.classify(ask, answer).verb == "accept", reply.body
            decoded = KRAKEN.decode(ask, answer)
            assert not decoded.rejects
            assert not decoded.notes
            for name, table in decoded.tables.items():
                rows.setdefault(name, []).extend(table.to_pylist())
            ask, count = KRAKEN.follow(ask, answer), count + 1
    return rows, count


@pytest.fixture(scope="module")
def listed(hosts):
    (ask,) = KRAKEN.asks(KRAKEN.catalogue(NOW))
    reply = replied(hosts, ask.path)
    decoded = KRAKEN.decode(ask, Answer(reply.status, reply.body, NOW, JSON))
    assert (decoded.rejects, decoded.notes) == ([], [])
    return tradable(decoded.tables["instruments"], KRAKEN.listing)


@pytest.fixture(scope="module")
def planned(listed):
    return {(one.endpoint, one.instrument): one for one in KRAKEN.plan(Window(START, END), listed, NOW)}


def test_what_the_sandbox_lists_is_planned_by_kind(listed, planned):
    kinds = {one.instrument: (one.payoff, one.contract_unit) for one in listed}
    assert kinds == {
        **dict.fromkeys(("PF_XBTUSD", "PF_ETHUSD", "PF_SOLUSD"), ("linear", "base")),
        **dict.fromkeys(("PI_XBTUSD", "PI_ETHUSD"), ("inverse", "usd")),
    }
    assert {endpoint for endpoint, _ in planned} == set(KRAKEN.endpoints) - {INSTRUMENTS}


@pytest.mark.parametrize(("base", "symbol"), [("XBT", "BTCUSDT"), ("ETH", "ETHUSDT")])
def test_open_interest_of_every_hour_is_the_markets_in_coins_and_in_dollars(hosts, market, planned, base, symbol):
    linear, inverse = planned[INTEREST, f"PF_{base}USD"], planned[INTEREST_INVERSE, f"PI_{base}USD"]
    hours = linear.expected()
    held = market.positioning(symbol, HOUR_MS, to_ms(hours[0]), to_ms(hours[-1]))
    for series, field, amounts, atol in (
        (linear, "open_interest_base", held["oi_base"], 5.1e-5),
        (inverse, "open_interest_usd", held["oi_usd"] * INVERSE_SHARE, 0.51),
    ):
        rows, answers = answered(hosts, series)
        assert answers == len(list(KRAKEN.asks(series))) > 1, "pages are shorter than the venue's"
        assert [row["as_of"] for row in rows["open_interest"]] == hours
        assert np.allclose([row[field] for row in rows["open_interest"]], amounts, rtol=0.0, atol=atol)


def test_heads_and_takers_are_the_markets(hosts, market, planned):
    series = planned[HEADS, "PF_XBTUSD"]
    hours = series.expected()
    start, end = to_ms(hours[0]), to_ms(hours[-1])
    held = market.positioning("BTCUSDT", HOUR_MS, start, end)
    for endpoint, metric, holders in ((HEADS, "global_account", HOLDERS), (TOP, "top_account", HOLDERS // 5)):
        for kind in ("PF", "PI"):
            rows, _ = answered(hosts, planned[endpoint, f"{kind}_XBTUSD"])
            assert [(row["as_of"], row["ratio_metric"]) for row in rows["long_short"]] == [(hour, metric) for hour in hours]
            assert np.allclose([row["long_share"] for row in rows["long_short"]], held[f"{metric}_long"], atol=0.51 / holders)
    flow = market.taker("BTCUSDT", HOUR_MS, start - HOUR_MS, end - HOUR_MS)
    rows, _ = answered(hosts, planned[FLOW, "PF_XBTUSD"])
    assert [row["as_of"] for row in rows["taker_flow"]] == hours
    for side in ("buy", "sell"):
        assert np.allclose([row[f"taker_{side}_base"] for row in rows["taker_flow"]], flow[side], atol=5.1e-5)


def test_bars_are_the_markets(hosts, market, planned):
    series = planned[CANDLES, "PF_ETHUSD"]
    rows, answers = answered(hosts, series)
    hours = series.expected()
    assert answers > 1
    bars = market.bars("ETHUSDT", HOUR_MS, to_ms(hours[0] - HOUR), to_ms(hours[-1] - HOUR))
    assert [row["as_of"] for row in rows["candles"]] == hours
    for name in ("open", "high", "low", "close"):
        assert np.allclose([row[f"{name}_usd"] for row in rows["candles"]], bars[name], rtol=1e-9)
    assert np.allclose([row["volume_base"] for row in rows["candles"]], bars["volume"], rtol=1e-9)


def test_c6_every_hour_is_settled_at_the_relative_rate_which_the_absolute_one_is_not(hosts, market, planned):
    for symbol in ("PF_XBTUSD", "PI_XBTUSD"):
        series = planned[FUNDING, symbol]
        rows, answers = answered(hosts, series)
        assert answers == 1
        assert [row["as_of"] for row in rows["funding"]] == series.expected()
        paid = market.settlements("BTCUSDT", to_ms(START) + 1, to_ms(END))
        found = np.array([row["funding_rate"] for row in rows["funding"]])
        assert np.allclose(found, paid["rate"], rtol=1e-12, atol=0.0)
        served = told(hosts, "/derivatives/api/v4/historicalfundingrates", symbol=symbol)["rates"]
        assert len(served) > len(found), "the venue sends its whole history"
        money = np.array([row["fundingRate"] for row in served[-len(found) :]])
        value = money / paid["mark"] if symbol.startswith("PF_") else money * paid["mark"]
        assert np.allclose(value, found, rtol=1e-9, atol=1e-18), "the absolute rate is the same only by the price of its hour"
        assert not np.allclose(money, found, rtol=0.5)


def test_the_state_now_is_the_markets_for_each_kind(hosts, market, planned):
    now_ms = to_ms(NOW)
    for endpoint, prefix, field in ((TICKERS, "PF", "open_interest_base"), (TICKERS_INVERSE, "PI", "open_interest_usd")):
        (series,) = (series for (name, _), series in planned.items() if name == endpoint)
        rows, _ = answered(hosts, series)
        assert sorted(row["instrument"] for row in rows["marks"]) == sorted(series.instruments)
        held = market.positioning("BTCUSDT", 300_000, now_ms - HOUR_MS, now_ms)
        amount = held["oi_base"][-1] if prefix == "PF" else held["oi_usd"][-1] * INVERSE_SHARE
        found = {row["instrument"]: row for row in rows["open_interest"]}[f"{prefix}_XBTUSD"]
        assert found[field] == pytest.approx(amount, rel=1e-6)
        mark = {row["instrument"]: row for row in rows["marks"]}[f"{prefix}_XBTUSD"]
        assert mark["mark_usd"] == pytest.approx(market.premium("BTCUSDT")["mark"], rel=1e-9)


def test_a_venue_that_stops_short_is_walked_to_the_end(hosts):
    """A range wider than the venue's page: `more`, and on from the last bucket; no hour twice, none left out."""
    series = Series("kraken_futures", INTEREST, "PF_XBTUSD", Window(utc("2026-01-01"), END), HOUR)
    first, *_, last = KRAKEN.asks(series)
    wide = tuple((name, dict(last.params)["to"] if name == "to" else value) for name, value in first.params)
    ask, stamps, pages = replace(first, params=wide), [], 0
    while ask is not None:
        reply = hosts["kraken_futures.api"].answer(Query(ask.path, dict(ask.params)))
        answer = Answer(reply.status, reply.body, NOW, JSON)
        stamps += KRAKEN.decode(ask, answer).tables["open_interest"]["as_of"].to_pylist()
        ask, pages = KRAKEN.follow(ask, answer), pages + 1
    assert pages == -(-len(series.expected()) // PAGE) > 1
    assert stamps == series.expected()


@pytest.mark.parametrize(
    ("path", "params", "status", "words"),
    [
        ("/derivatives/api/v4/historicalfundingrates", {"symbol": "PF_NONEUSD"}, 200, "Argument invalid: symbol"),
        ("/derivatives/api/v4/historicalfundingrates", {}, 200, "Argument invalid: symbol"),
        ("/derivatives/api/v3/orders", {}, 404, "notFound"),
        (f"{CHARTS}/trade/PF_NONEUSD/1h", {}, 404, "Unknown symbol"),
        (f"{CHARTS}/trade/PF_XBTUSD/2h", {}, 400, "resolution 2h"),
        (f"{CHARTS}/trade/PF_XBTUSD/1h", {"from": "soon"}, 400, "from soon"),
        (f"{CHARTS}/analytics/PF_XBTUSD/open-interest", {"interval": 3600}, 400, "since"),
        (f"{CHARTS}/analytics/PF_XBTUSD/open-interest", {"interval": 61, "since": 1795000000}, 400, "interval 61"),
        (f"{CHARTS}/analytics/PF_XBTUSD/moods", {"interval": 3600, "since": 1795000000}, 400, "moods"),
        (f"{CHARTS}/analytics/PF_NONEUSD/cvd", {"interval": 3600, "since": 1795000000}, 404, "Unknown symbol"),
    ],
)
def test_refusals_are_seen_whatever_their_status(hosts, path, params, status, words):
    reply = replied(hosts, path, **params)
    assert reply.status == status
    verdict = KRAKEN.classify(one("kraken_futures", f"{TICKERS}.json").ask, Answer(status, reply.body, NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")
    assert words in verdict.detail


def test_too_many_requests_come_with_http_200_and_are_waited_for():
    clock = [6000.0]
    hosts = venues(SimulatedMarket(7, frozen(NOW)), lambda: clock[0], 0.01)
    assert [replied(hosts, "/derivatives/api/v3/instruments").status for _ in range(3)] == [200] * 3
    said = told(hosts, "/derivatives/api/v3/instruments")
    assert said["error"] == "apiLimitExceeded"
    ask = one("kraken_futures", f"{INSTRUMENTS}.json").ask
    assert KRAKEN.classify(ask, Answer(200, json.dumps(said).encode(), NOW, JSON)).verb == "retry"
    clock[0] += 60.0
    assert told(hosts, "/derivatives/api/v3/instruments")["result"] == "success"

"""The sandbox's Gate against its own market, through the source: every hour, in coins, from answers that count contracts on both sides."""

import json
from datetime import timedelta

import numpy as np
import pytest

from sandbox.market import frozen
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.wire.reply import Query
from tests.payloads.reader import one
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.contract import Answer
from transforms.sources.gate import CANDLES, CONTRACT, CONTRACTS, FUNDING, PREMIUM, STATS
from transforms.windows import HOUR, Window, to_ms, utc

NOW = utc("2026-11-22T13:07")
HOUR_MS = 3_600_000
JSON = {"Content-Type": "application/json"}
GATE = source("gate")
START, END = utc("2026-11-10T05:00"), utc("2026-11-22T13:00")


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW)).at("gate")


@pytest.fixture(scope="module")
def hosts():
    return venues(SimulatedMarket(7, frozen(NOW)), lambda: 0.0, 1e9)


def replied(hosts, path, **params):
    return hosts["gate.api"].answer(Query(f"/futures/usdt/{path}", {name: str(value) for name, value in params.items()}))


def told(hosts, path, status=200, **params):
    reply = replied(hosts, path, **params)
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def answered(hosts, series):
    """Everything the source asks about one series, decoded: rows by table, and how many answers there were."""
    rows, count = {}, 0
    for first in GATE.asks(series):
        ask = first
        while ask is not None:
            reply = hosts["gate.api"].answer(Query(ask.path, dict(ask.params)))
            answer = Answer(reply.status, reply.body, NOW, JSON)
            assert GATE.classify(ask, answer).verb == "accept", reply.body
            decoded = GATE.decode(ask, answer)
            assert not decoded.rejects
            assert not decoded.notes
            for name, table in decoded.tables.items():
                rows.setdefault(name, []).extend(table.to_pylist())
            ask, count = GATE.follow(ask, answer), count + 1
    return rows, count


@pytest.fixture(scope="module")
def listed(hosts):
    rows, _ = answered(hosts, GATE.catalogue(NOW))
    reply = told(hosts, CONTRACTS)
    assert [row["instrument"] for row in rows["instruments"]] == [row["name"] for row in reply]
    (ask,) = GATE.asks(GATE.catalogue(NOW))
    table = GATE.decode(ask, Answer(200, json.dumps(reply).encode(), NOW, JSON)).tables["instruments"]
    return tradable(table, GATE.listing)


@pytest.fixture(scope="module")
def planned(listed):
    return {(one.endpoint, one.instrument): one for one in GATE.plan(Window(START, END), listed, NOW)}


def test_what_the_sandbox_lists_is_planned(listed, planned):
    assert {one.instrument: one.contract_size for one in listed} == {"BTC_USDT": 0.0001, "ETH_USDT": 0.01, "SOL_USDT": 1.0}
    assert {endpoint for endpoint, _ in planned} == set(GATE.endpoints) - {CONTRACTS}


@pytest.mark.parametrize("symbol", ["BTCUSDT", "SOLUSDT"])
def test_every_hour_of_the_statistics_is_the_markets_in_coins(hosts, market, planned, symbol):
    series = planned[STATS, f"{symbol.removesuffix('USDT')}_USDT"]
    rows, answers = answered(hosts, series)
    hours = series.expected()
    assert answers == 4, "296 hours in pages of 100, cut where everybody cuts"
    for name in ("open_interest", "liquidations", "taker_flow"):
        assert [row["as_of"] for row in rows[name]] == hours
    start, end = to_ms(hours[0]), to_ms(hours[-1])
    held = market.positioning(symbol, HOUR_MS, start, end)
    flow, lost = (found(symbol, HOUR_MS, start - HOUR_MS, end - HOUR_MS) for found in (market.taker, market.liquidations))
    size = dict(series.options)["contract_size"]
    close = {"rtol": 0.0, "atol": 0.5001 * float(size)}
    assert np.allclose([row["open_interest_base"] for row in rows["open_interest"]], held["oi_base"], **close)
    assert np.allclose([row["open_interest_usd"] for row in rows["open_interest"]], held["oi_usd"], rtol=1e-5)
    for side in ("long", "short"):
        assert np.allclose([row[f"{side}_liquidated_base"] for row in rows["liquidations"]], lost[side], **close)
    for side in ("buy", "sell"):
        assert np.allclose([row[f"taker_{side}_base"] for row in rows["taker_flow"]], flow[side], **close)
    for metric in ("global_account", "top_account", "top_position"):
        found = [row["long_share"] for row in rows["long_short"] if row["ratio_metric"] == metric]
        assert np.allclose(found, held[f"{metric}_long"], atol=1e-5)


def test_a2_the_snapshot_and_the_history_agree_although_one_counts_both_sides(hosts, market, planned):
    for name, symbol in (("BTC_USDT", "BTCUSDT"), ("ETH_USDT", "ETHUSDT")):
        rows, _ = answered(hosts, planned[CONTRACT, name])
        history, _ = answered(hosts, planned[STATS, name])
        (now,), last = rows["open_interest"], history["open_interest"][-1]
        assert now["open_interest_base"] == pytest.approx(last["open_interest_base"], rel=0.02)
        assert last["open_interest_native"] / now["open_interest_native"] == pytest.approx(2.0, rel=0.02)
        held = market.positioning(symbol, 300_000, to_ms(NOW) - HOUR_MS, to_ms(NOW))["oi_base"][-1]
        assert now["open_interest_base"] == pytest.approx(held, rel=1e-3)
        assert rows["marks"][0]["index_usd"] == pytest.approx(market.premium(symbol)["index"], rel=1e-9)


def test_bars_and_premiums_are_the_markets(hosts, market, planned):
    rows, _ = answered(hosts, planned[CANDLES, "ETH_USDT"])
    hours = planned[CANDLES, "ETH_USDT"].expected()
    bars = market.bars("ETHUSDT", HOUR_MS, to_ms(hours[0] - HOUR), to_ms(hours[-1] - HOUR))
    assert [row["as_of"] for row in rows["candles"]] == hours
    for name in ("open", "high", "low", "close"):
        assert np.allclose([row[f"{name}_usd"] for row in rows["candles"]], bars[name], rtol=1e-9)
    assert np.allclose([row["volume_base"] for row in rows["candles"]], bars["volume"], atol=0.00501)
    rows, _ = answered(hosts, planned[PREMIUM, "ETH_USDT"])
    premiums = market.premium_bars("ETHUSDT", HOUR_MS, to_ms(hours[0] - HOUR), to_ms(hours[-1] - HOUR))
    assert np.allclose([row["premium_share"] for row in rows["premiums"]], premiums["close"], atol=1e-8)


def test_settlements_come_once_each_at_their_hour(hosts, market, planned):
    rows, _ = answered(hosts, planned[FUNDING, "BTC_USDT"])
    paid = market.settlements("BTCUSDT", to_ms(START) + 1, to_ms(END))
    found = sorted((to_ms(row["as_of"]), row["funding_rate"]) for row in rows["funding"])
    assert [at for at, _ in found] == paid.at.tolist()
    assert np.allclose([rate for _, rate in found], paid["rate"], atol=1e-10)


def test_a_long_history_has_no_seams(hosts, listed):
    btc = [one for one in listed if one.instrument == "BTC_USDT"]
    for series in GATE.plan(Window(utc("2020-01-01"), END), btc, NOW):
        if series.step is None:
            continue
        rows, answers = answered(hosts, series)
        assert answers > 1
        assert [row["as_of"] for row in rows[GATE.endpoints[series.endpoint]]] == series.expected(), series.endpoint


@pytest.mark.parametrize(
    ("path", "params", "status", "label"),
    [
        (STATS, {}, 400, "MISSING_REQUIRED_PARAM"),
        (STATS, {"contract": "NONE_USDT"}, 400, "CONTRACT_NOT_FOUND"),
        (STATS, {"contract": "BTC_USDT", "interval": "2h"}, 400, "INVALID_PARAM_VALUE"),
        (STATS, {"contract": "BTC_USDT", "limit": 101}, 400, "INVALID_PARAM_VALUE"),
        (STATS, {"contract": "BTC_USDT", "from": 1700000000}, 400, "INVALID_PARAM_VALUE"),
        (FUNDING, {"contract": "BTC_USDT", "from": 1700000000}, 400, "INVALID_PARAM_VALUE"),
        (CANDLES, {"contract": "BTC_USDT", "from": 1700000000, "to": 1700003600, "interval": "1h"}, 400, "INVALID_PARAM_VALUE"),
        (CANDLES, {"contract": "BTC_USDT", "from": 1763000000, "to": 1795000000, "interval": "1h"}, 400, "INVALID_PARAM_VALUE"),
        (CANDLES, {"contract": "BTC_USDT", "from": "soon"}, 400, "INVALID_PARAM_VALUE"),
        (CANDLES, {"contract": "BTC_USDT", "from": 1795000000, "limit": 3}, 400, "INVALID_PARAM_VALUE"),
        (f"{CONTRACTS}/NONE_USDT", {}, 400, "CONTRACT_NOT_FOUND"),
        ("orders", {}, 404, "NOT_FOUND"),
    ],
)
def test_refusals_carry_a_label(hosts, path, params, status, label):
    said = told(hosts, path, status, **params)
    assert said["label"] == label
    ask = one("gate", f"{STATS}.json").ask
    assert GATE.classify(ask, Answer(status, json.dumps(said).encode(), NOW, JSON)).reason_code == "VENUE_ERROR"


def test_the_two_hundred_and_first_request_waits():
    clock = [1000.0]
    hosts = venues(SimulatedMarket(7, frozen(NOW)), lambda: clock[0], 1.0)
    assert {replied(hosts, FUNDING, contract="BTC_USDT", limit=1).status for _ in range(200)} == {200}
    reply = replied(hosts, FUNDING, contract="BTC_USDT", limit=1)
    assert reply.status == 429
    assert replied(hosts, CONTRACTS).status == 200, "each endpoint has a count of its own"
    ask = one("gate", f"{FUNDING}.json").ask
    at = utc("1970-01-01") + timedelta(seconds=clock[0])
    verdict = GATE.classify(ask, Answer(429, reply.body, at, JSON | dict(reply.headers)))
    assert verdict.verb == "retry"
    clock[0] += verdict.wait
    assert replied(hosts, FUNDING, contract="BTC_USDT", limit=1).status == 200

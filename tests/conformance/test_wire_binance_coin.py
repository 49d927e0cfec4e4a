"""The sandbox's COIN-M against what the venue really answered, and the source against the market behind it: whole windows, page by page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sandbox.market import RATIOS, frozen
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.wire.reply import Query
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources import binance_coin as coin
from transforms.sources.contract import Answer, Series
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

#: read only by tests marked `recordings`, which tests/conftest.py skips where the folder is not there
RECORDED = Path(__file__).parents[3] / "shared" / "recordings" / "payloads" / "recorded" / "binance"
NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
JSON = {"Content-Type": "application/json"}
BINANCE = source("binance")
HOST = "binance.dapi"


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW))


@pytest.fixture(scope="module")
def hosts(market):
    return venues(market, lambda: 0.0, 1e9)


@pytest.fixture(scope="module")
def instruments(hosts):
    """The catalogue's answer of this exchange, as `plan` takes it."""
    (ask,) = [ask for ask in BINANCE.asks(BINANCE.catalogue(NOW)) if ask.host == "dapi"]
    return tradable(answered(hosts, ask).tables["instruments"], BINANCE.listing)


def answered(hosts, ask):
    reply = hosts[f"binance.{ask.host}"].answer(Query(ask.path, dict(ask.params)))
    answer = Answer(reply.status, reply.body, NOW, JSON)
    assert BINANCE.classify(ask, answer).verb == "accept", reply.body[:200]
    decoded = BINANCE.decode(ask, answer)
    assert (list(decoded.rejects), list(decoded.notes)) == ([], [])
    return decoded


def fetched(hosts, series):
    """Everything the source asks about one series, decoded: rows of its main table, and the number of requests."""
    asks = list(BINANCE.asks(series))
    table = BINANCE.endpoints[series.endpoint]
    return [row for ask in asks for row in answered(hosts, ask).tables[table].to_pylist()], len(asks)


def planned(instruments, days):
    window = Window(utc("2026-11-22T13:00") - days * 24 * HOUR, utc("2026-11-22T13:00"))
    return {(one.endpoint, one.instrument): one for one in BINANCE.plan(window, instruments, NOW)}


def test_three_inverse_perpetuals_are_listed(instruments):
    assert [(one.instrument, one.asset, one.contract_size, one.contract_unit) for one in instruments] == [
        ("BTCUSD_PERP", "BTC", 100.0, "usd"),
        ("ETHUSD_PERP", "ETH", 10.0, "usd"),
        ("SOLUSD_PERP", "SOL", 10.0, "usd"),
    ]


@pytest.mark.parametrize("asset", ["BTC", "SOL"])
def test_a4_open_interest_is_the_markets_within_one_contract(hosts, market, instruments, asset):
    series = planned(instruments, 28)["coinOpenInterestHist", f"{asset}USD_PERP"]
    rows, pages = fetched(hosts, series)
    assert pages == 2
    assert [row["as_of"] for row in rows] == series.expected()
    view = market.at("binance_coin").positioning(f"{asset}USDT", HOUR_MS, to_ms(rows[0]["as_of"]), to_ms(rows[-1]["as_of"]))
    size = 100.0 if asset == "BTC" else 10.0
    price = view["oi_usd"] / view["oi_base"]
    assert np.allclose([row["open_interest_usd"] for row in rows], view["oi_usd"], rtol=0, atol=size)
    assert np.allclose([row["open_interest_base"] for row in rows], view["oi_base"], rtol=0, atol=(size / price).max() + 1e-8)
    assert {row["open_interest_native"] * size - row["open_interest_usd"] for row in rows} == {0.0}


def test_bars_flows_and_ratios_are_the_markets(hosts, market, instruments):
    series = planned(instruments, 20)
    view, symbol = market.at("binance_coin"), "ETHUSDT"
    first, last = NOW_MS // HOUR_MS * HOUR_MS - 20 * DAY_MS, NOW_MS // HOUR_MS * HOUR_MS - HOUR_MS
    bars, _ = fetched(hosts, series["coinKlines", "ETHUSD_PERP"])
    held = view.bars(symbol, HOUR_MS, first, last)
    assert [row["close_usd"] for row in bars] == held["close"].tolist()
    contracts = 10.0 / held["low"].min()
    assert np.allclose([row["volume_base"] for row in bars], held["volume"], rtol=1e-6, atol=1.1 * contracts)
    assert all(row["taker_buy_base"] <= row["volume_base"] * (1 + 1e-9) for row in bars)
    flow, pages = fetched(hosts, series["coinTakerBuySellVol", "ETHUSD_PERP"])
    held = view.taker(symbol, HOUR_MS, first, last)
    assert pages in (1, 2)
    assert [row["as_of"] for row in flow] == [from_ms(at + HOUR_MS) for at in held.at.tolist()]
    assert np.allclose([row["taker_buy_base"] for row in flow], held["buy"], rtol=0, atol=1.1 * contracts)
    held = view.positioning(symbol, HOUR_MS, first + HOUR_MS, last + HOUR_MS)
    for endpoint, metric in zip(coin.RATIOS, RATIOS, strict=True):
        rows, _ = fetched(hosts, series[endpoint, "ETHUSD_PERP"])
        assert np.allclose([row["long_share"] for row in rows], held[f"{metric}_long"], rtol=0, atol=5e-5)


def test_settlements_and_premiums_come_whole(hosts, market, instruments):
    series = planned(instruments, 400)
    rows, pages = fetched(hosts, series["coinFundingRate", "BTCUSD_PERP"])
    assert pages >= 2
    window = series["coinFundingRate", "BTCUSD_PERP"].window
    assert [row["as_of"] for row in rows] == window.grid(8 * HOUR)
    held = market.at("binance_coin").settlements("BTCUSDT", to_ms(window.start) + 1, to_ms(window.end))
    assert np.allclose([row["funding_rate"] for row in rows], held["rate"], rtol=0, atol=5.1e-9)
    rows, pages = fetched(hosts, series["coinPremiumIndexKlines", "BTCUSD_PERP"])
    assert pages in {7, 8}
    assert [row["as_of"] for row in rows] == window.grid(HOUR)


def test_snapshots_agree_with_the_newest_of_the_histories(hosts, instruments):
    series = planned(instruments, 1)
    (now,), _ = fetched(hosts, series["coinOpenInterest", "BTCUSD_PERP"])
    before, _ = fetched(hosts, series["coinOpenInterestHist", "BTCUSD_PERP"])
    assert now["as_of"] == utc("2026-11-22T13:05")
    assert now["open_interest_usd"] == pytest.approx(before[-1]["open_interest_usd"], rel=0.02)
    (mark,), _ = fetched(hosts, series["coinPremiumIndex", "BTCUSD_PERP"])
    assert mark["mark_usd"] == pytest.approx(mark["index_usd"], rel=0.02)


def told(hosts, path, status=200, **params):
    reply = hosts[HOST].answer(Query(path, {name: str(value) for name, value in params.items()}))
    assert reply.status == status, reply.body
    return json.loads(reply.body)


@pytest.mark.parametrize(
    ("path", "params", "code", "text"),
    [
        ("/dapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1h"}, -1121, "Invalid symbol."),
        (
            "/dapi/v1/klines",
            {"symbol": "BTCUSD_PERP", "interval": "1h", "startTime": 1, "endTime": 2**42},
            -4088,
            "Maximum time interval is 200 days.",
        ),
        (
            "/futures/data/openInterestHist",
            {"pair": "BTCUSD_PERP", "contractType": "PERPETUAL", "period": "1h"},
            -1130,
            "parameter 'pair' is invalid.",
        ),
        (
            "/futures/data/openInterestHist",
            {"pair": "BTCUSD", "contractType": "FOREVER", "period": "1h"},
            -1130,
            "parameter 'contractType' is invalid.",
        ),
        (
            "/futures/data/openInterestHist",
            {"pair": "BTCUSD", "contractType": "PERPETUAL", "period": "1h", "startTime": NOW_MS - 31 * DAY_MS},
            -1130,
            "parameter 'startTime' is invalid.",
        ),
    ],
)
def test_refusals_have_the_venues_bodies_and_the_source_names_them(hosts, path, params, code, text):
    body = told(hosts, path, 400, **params)
    assert body == {"code": code, "msg": text}
    (ask, *_) = BINANCE.asks(Series("binance", "coinKlines", "BTCUSD_PERP", Window(utc("2026-01-01"), utc("2026-01-02")), HOUR))
    verdict = BINANCE.classify(ask, Answer(400, json.dumps(body).encode(), NOW, JSON))
    assert (verdict.reason_code, str(code) in verdict.detail) == ("VENUE_ERROR", True)


def test_a5_another_contract_type_of_the_pair_holds_nothing_here(hosts):
    assert told(hosts, "/futures/data/openInterestHist", pair="BTCUSD", contractType="CURRENT_QUARTER", period="1h") == []


def shape(value):
    if isinstance(value, dict):
        return ("object", tuple((key, shape(item)) for key, item in sorted(value.items())))
    if isinstance(value, list):
        return ("array", frozenset(shape(item) for item in value))
    return type(value).__name__


def recorded(name):
    path = RECORDED / f"{name}.json"
    held = json.loads(path.read_text()) if path.is_file() else []
    return [(dict(part.split("=") for part in one["queryString"].split("&") if part), one["data"]) for one in held if one["data"]]


@pytest.mark.recordings
def test_answers_have_the_recorded_shape(hosts):
    (_, info) = recorded("dapi__v1__exchangeInfo")[0]
    ours = told(hosts, "/dapi/v1/exchangeInfo")
    assert set(ours) == set(info)
    assert {shape({k: v for k, v in one.items() if k != "filters"}) for one in ours["symbols"]} == {
        shape({k: v for k, v in one.items() if k != "filters"}) for one in info["symbols"]
    }
    (_, interest) = recorded("dapi__v1__openInterest")[0]
    assert shape(told(hosts, "/dapi/v1/openInterest", symbol="BTCUSD_PERP")) == shape(interest)
    premiums = next(data for asked, data in recorded("dapi__v1__premiumIndex") if asked.get("symbol"))
    assert shape(told(hosts, "/dapi/v1/premiumIndex", symbol="BTCUSD_PERP")) == shape(premiums)
    bars = next(data for asked, data in recorded("dapi__v1__klines") if isinstance(data, list))
    assert shape(told(hosts, "/dapi/v1/klines", symbol="BTCUSD_PERP", interval="1h")[-1]) == shape(bars[0])
    for name in (
        "openInterestHist",
        "takerBuySellVol",
        "globalLongShortAccountRatio",
        "topLongShortAccountRatio",
        "topLongShortPositionRatio",
    ):
        (data, *_) = [data for asked, data in recorded(f"futures__data__{name}") if "pair" in asked]
        params = {"pair": "BTCUSD", "period": "1h", "contractType": "PERPETUAL"}
        row = told(hosts, f"/futures/data/{name}", **params)[-1]
        assert shape(row) == shape(data[0])
        for key, value in data[0].items():
            if isinstance(value, str) and value[0].isdigit():
                assert len(row[key].partition(".")[2]) == len(value.partition(".")[2]), key


def test_a_recorded_market_lists_no_inverse_contract():
    class Recorded(SimulatedMarket):
        kind = "recorded"

    held = venues(Recorded(7, frozen(NOW)), lambda: 0.0, 1e9)
    assert told(held, "/dapi/v1/exchangeInfo")["symbols"] == []
    assert told(held, "/dapi/v1/premiumIndex") == []
    assert told(held, "/dapi/v1/openInterest", 400, symbol="BTCUSD_PERP")["code"] == -1121

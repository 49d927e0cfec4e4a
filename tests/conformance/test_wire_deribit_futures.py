"""The source against the sandbox's perpetuals of Deribit: whole windows, page by page, against the market behind them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sandbox.market import frozen
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.wire.reply import Query
from transforms.roster import source
from transforms.sources import deribit_futures as futures
from transforms.sources.contract import Answer, Ask, Series
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

#: read only by tests marked `recordings`, which tests/conftest.py skips where the folder is not there
PAYLOADS = Path(__file__).parents[3] / "shared" / "recordings" / "payloads"
NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR_MS = 3_600_000
JSON = {"Content-Type": "application/json"}
DERIBIT = source("deribit")


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW))


@pytest.fixture(scope="module")
def hosts(market):
    return venues(market, lambda: 0.0, 1e9)


def fetched(hosts, series: Series, put_aside: tuple[str, ...] = ()):
    """Everything the source asks about one series, pages followed: rows of its tables, and the number of pages."""
    rows, pages = {}, 0
    for first in DERIBIT.asks(series):
        ask: Ask | None = first
        while ask is not None:
            reply = hosts["deribit.api"].answer(Query(ask.path, dict(ask.params)))
            answer = Answer(reply.status, reply.body, NOW, JSON)
            assert DERIBIT.classify(ask, answer).verb == "accept", reply.body[:200]
            decoded = DERIBIT.decode(ask, answer)
            assert ([one.reason_code for one in decoded.rejects], list(decoded.notes)) == ([*put_aside], [])
            for name, table in decoded.tables.items():
                rows.setdefault(name, []).extend(table.to_pylist())
            pages += 1
            ask = DERIBIT.follow(ask, answer)
    return rows, pages


def planned(hours: int):
    window = Window(utc("2026-11-22T13:00") - hours * HOUR, utc("2026-11-22T13:00"))
    return {(one.endpoint, one.instrument): one for one in DERIBIT.plan(window, [], NOW)}


@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_funding_of_hours_is_the_markets(hosts, market, coin):
    series = planned(24 * 100)[futures.FUNDING, f"{coin}-PERPETUAL"]
    rows, pages = fetched(hosts, series)
    assert pages in {4, 5}
    assert [row["as_of"] for row in rows["funding"]] == series.expected()
    held = market.at("deribit").settlements(f"{coin}USDT", to_ms(series.window.start) + 1, to_ms(series.window.end))
    assert [row["funding_rate"] for row in rows["funding"]] == held["rate"].tolist()


def test_c3_the_trailing_eight_hours_are_the_sum_of_eight(hosts):
    params = {"instrument_name": "BTC-PERPETUAL", "start_timestamp": str(NOW_MS - 48 * HOUR_MS), "end_timestamp": str(NOW_MS)}
    rows = json.loads(hosts["deribit.api"].answer(Query("/public/get_funding_rate_history", params)).body)["result"]
    for n in range(7, len(rows)):
        assert rows[n]["interest_8h"] == pytest.approx(sum(row["interest_1h"] for row in rows[n - 7 : n + 1]), abs=1e-15)
        assert rows[n]["prev_index_price"] == rows[n - 1]["index_price"]


@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_the_tapes_liquidations_are_the_markets_and_every_page_is_taken(hosts, market, coin):
    series = planned(48)[futures.TAPE, f"{coin}-PERPETUAL"]
    rows, pages = fetched(hosts, series)
    found = {row["trade_id"]: row for row in rows["forced_trades"]}
    assert pages > 48, "some hours hold more than a page"
    start, end = to_ms(series.window.start), to_ms(series.window.end)
    gone = market.at("deribit").liquidations(f"{coin}USDT", 300_000, start, end - 1)
    bars = market.at("deribit").bars(f"{coin}USDT", 300_000, start, end - 1)
    middle = (bars["open"] + bars["close"]) / 2
    unit = {"BTC": 10.0, "ETH": 1.0}[coin]
    for side in ("long", "short"):
        told = Counter()
        for row in found.values():
            if row["position_side"] == side:
                told[(to_ms(row["as_of"]) - 1) // 300_000 * 300_000] += row["amount_base"] * row["price_usd"]
        assert gone[side].sum() > 0
        # four trades of a side in a bucket, each rounded to contracts
        assert np.allclose([told[at] for at in gone.at.tolist()], gone[side] * middle, rtol=0, atol=2.0 * unit + 1e-6)
    assert {row["trade_id"].partition("/")[2] for row in found.values()} == {"", "taker", "maker"}


def test_the_tape_holds_every_trade_once_in_either_order(hosts):
    start, end = NOW_MS // HOUR_MS * HOUR_MS - HOUR_MS, NOW_MS // HOUR_MS * HOUR_MS
    path, params = "/public/get_last_trades_by_instrument_and_time", {"instrument_name": "BTC-PERPETUAL"}

    def page(first, last, sorting, count=100):
        asked = {**params, "start_timestamp": str(first), "end_timestamp": str(last), "count": str(count), "sorting": sorting}
        return json.loads(hosts["deribit.api"].answer(Query(path, asked)).body)["result"]

    up, first = [], start
    while True:
        found = page(first, end, "asc")
        up += [row for row in found["trades"] if row["trade_seq"] not in {one["trade_seq"] for one in up[-8:]}]
        if not found["has_more"]:
            break
        first = found["trades"][-1]["timestamp"]
    whole = page(start, end, "desc", 1000)
    assert [row["trade_seq"] for row in up][::-1][:1000] == [row["trade_seq"] for row in whole["trades"]]
    assert [row["timestamp"] for row in up] == sorted(row["timestamp"] for row in up)
    assert page(end, end + HOUR_MS, "asc", 1000)["trades"][-1]["timestamp"] <= NOW_MS


def test_open_interest_is_the_markets_in_dollars(hosts, market):
    series = planned(1)[futures.FUTURES, "ETH-PERPETUAL"]
    rows, pages = fetched(hosts, series)
    assert pages == 1
    (row,) = rows["open_interest"]
    held = market.at("deribit").positioning("ETHUSDT", 300_000, NOW_MS - HOUR_MS, NOW_MS)["oi_usd"][-1]
    assert row["open_interest_usd"] == pytest.approx(held, abs=1.0)
    assert rows["marks"][0]["index_usd"] == pytest.approx(market.premium("ETHUSDT")["index"], abs=0.01)


def test_the_listing_holds_a_perpetual_and_a_dated_future(hosts):
    rows, _ = fetched(hosts, planned(1)[futures.INSTRUMENTS, "BTC"])
    assert [(row["contract_type"], row["delivery_at"] is None) for row in rows["instruments"]] == [("perpetual", True), ("month", False)]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        (futures.FUNDING, {"instrument_name": "BTCUSDT", "start_timestamp": "0", "end_timestamp": "1"}, 13020),
        (futures.FUNDING, {"instrument_name": "BTC-PERPETUAL", "end_timestamp": "1"}, -32602),
        (futures.TAPE, {"start_timestamp": "0", "end_timestamp": "1"}, -32602),
        (futures.TAPE, {"instrument_name": "BTC-PERPETUAL", "start_timestamp": "0", "end_timestamp": "1", "count": "1001"}, -32602),
        (futures.TAPE, {"instrument_name": "BTC-PERPETUAL", "start_timestamp": "0", "end_timestamp": "1", "sorting": "up"}, -32602),
        (futures.INSTRUMENTS, {"currency": "DOGE"}, -32602),
    ],
)
def test_refusals_are_errors_of_the_protocol_and_the_source_names_them(hosts, method, params, code):
    reply = hosts["deribit.api"].answer(Query(f"/public/{method}", params))
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, code)
    (ask, *_) = DERIBIT.asks(Series("deribit", futures.FUNDING, "BTC-PERPETUAL", Window(utc("2026-01-01"), utc("2026-01-02")), HOUR))
    verdict = DERIBIT.classify(ask, Answer(reply.status, reply.body, NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")


def test_a_recorded_market_holds_no_perpetual_of_this_venue():
    class Recorded(SimulatedMarket):
        kind = "recorded"

        def at(self, _venue):
            return self

    held = venues(Recorded(7, frozen(NOW)), lambda: 0.0, 1e9)
    for (endpoint, name), series in planned(2).items():
        if endpoint in futures.TABLES:
            rows, _ = fetched(held, series, ("MISSING",) if endpoint == futures.FUTURES else ())
            assert not any(rows.values()), (endpoint, name)


@pytest.mark.recordings
def test_answers_have_the_recorded_fields(hosts):
    def told(method, **params):
        return json.loads(hosts["deribit.api"].answer(Query(f"/public/{method}", params)).body)["result"]

    def held(kind, name):
        return json.loads((PAYLOADS / kind / "deribit" / name).read_text())["result"]

    theirs = {row["instrument_name"]: set(row) for row in held("recorded", "deribit_book_summary_btc_future.json")}
    perpetual, dated = told("get_book_summary_by_currency", currency="BTC", kind="future")
    assert set(perpetual) == theirs["BTC-PERPETUAL"]
    assert set(dated) in [fields for name, fields in theirs.items() if name != "BTC-PERPETUAL"]
    for row in told("get_instruments", currency="BTC", kind="future"):
        assert set(row) == set(held("recorded", "deribit_get_instruments_btc_future.json")[0])
    page = told(
        futures.TAPE, instrument_name="ETH-PERPETUAL", start_timestamp=str(NOW_MS - HOUR_MS), end_timestamp=str(NOW_MS), count="1000"
    )
    captured = held("mixed", "http_get_last_trades.json")
    assert set(page) == set(captured)
    assert {frozenset(row) for row in page["trades"]} == {
        frozenset(captured["trades"][0]),
        frozenset({*captured["trades"][0], "liquidation"}),
    }


def test_nothing_of_the_tape_is_shown_before_it_happened(market):
    early = SimulatedMarket(7, frozen(from_ms(NOW_MS - 3 * HOUR_MS)))
    asked = {
        "instrument_name": "BTC-PERPETUAL",
        "start_timestamp": str(NOW_MS - 4 * HOUR_MS),
        "end_timestamp": str(NOW_MS),
        "count": "1000",
        "sorting": "asc",
    }
    query = Query(f"/public/{futures.TAPE}", asked)
    then, now = (json.loads(venues(one, lambda: 0.0, 1e9)["deribit.api"].answer(query).body)["result"]["trades"] for one in (early, market))
    assert 0 < len(then) <= len(now)
    assert then == now[: len(then)]
    assert then[-1]["timestamp"] <= NOW_MS - 3 * HOUR_MS

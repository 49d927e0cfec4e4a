"""The sandbox's Bitget, asked as the source asks, against the numbers of its own market; limits and refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sandbox.market import frozen
from sandbox.recordings import RecordedMarket
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.wire.reply import Query
from tests.payloads.reader import one
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.bitget import ACCOUNTS, CANDLES, CONTRACTS, FUNDING, OPEN_INTEREST, POSITIONS, PRICE, QUOTE
from transforms.sources.contract import Answer
from transforms.windows import HOUR, Window, to_ms, utc

NOW = utc("2026-11-22T13:07")
HOUR_MS = 3_600_000
BITGET = source("bitget")


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW))


@pytest.fixture(scope="module")
def venue(market):
    return market.at("bitget")


@pytest.fixture(scope="module")
def hosts(market):
    return venues(market, lambda: 0.0, 1e9)


def told(hosts, path, params):
    return hosts["bitget.api"].answer(Query(path, {name: str(value) for name, value in params.items()}))


def answers(hosts, series):
    """Asks of a series with their answers, further pages too."""
    for first in BITGET.asks(series):
        ask = first
        while ask is not None:
            reply = told(hosts, ask.path, dict(ask.params))
            answer = Answer(reply.status, reply.body, NOW, {"Content-Type": reply.content_type})
            assert BITGET.classify(ask, answer).verb == "accept", reply.body
            yield ask, answer
            ask = BITGET.follow(ask, answer)


def decoded(hosts, series):
    """Everything the source asks about one series, as rows by table in order of time; nothing is put aside."""
    found = {}
    for ask, answer in answers(hosts, series):
        part = BITGET.decode(ask, answer)
        assert (list(part.rejects), list(part.notes)) == ([], [])
        for name, table in part.tables.items():
            found.setdefault(name, []).extend(table.to_pylist())
    return {name: sorted(rows, key=lambda row: row["as_of"]) for name, rows in found.items()}


@pytest.fixture(scope="module")
def planned(hosts):
    listed = next(part for ask, answer in answers(hosts, BITGET.catalogue(NOW)) for part in BITGET.decode(ask, answer).tables.values())
    instruments = tradable(listed, BITGET.listing)
    assert [one.instrument for one in instruments] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert set(listed["instrument_status"].to_pylist()) == {"normal", "off", "listed"}
    return list(BITGET.plan(Window(utc("2026-08-01"), utc("2026-11-22T13:00")), instruments, NOW))


def of(planned, endpoint, name="BTCUSDT"):
    (series,) = (one for one in planned if one.endpoint == endpoint and one.instrument == name)
    return series


def test_a_reply_has_the_fields_of_the_payload(hosts, planned):
    def fields(tree):
        if isinstance(tree, list):
            return [fields(tree[0])] if isinstance(tree[0], dict | list) else [type(part).__name__ for part in tree]
        return {name: fields(value) for name, value in tree.items()} if isinstance(tree, dict) else type(tree).__name__

    for endpoint in BITGET.endpoints:
        series = BITGET.catalogue(NOW) if endpoint == CONTRACTS else of(planned, endpoint)
        _, answer = next(answers(hosts, series))
        assert fields(json.loads(answer.body)) == fields(json.loads(one("bitget", f"{endpoint}.json").answer.body)), endpoint


@pytest.mark.parametrize("name", ["BTCUSDT", "ETHUSDT", "SOLUSDT"])
def test_every_settlement_of_the_window_arrives_once(hosts, planned, venue, name):
    series = of(planned, FUNDING, name)
    assert len(list(answers(hosts, series))) == 4  # 341 since August, a hundred a page
    rows = decoded(hosts, series)["funding"]
    true = venue.settlements(name, to_ms(series.window.start) + 1, to_ms(series.window.end))
    assert [to_ms(row["as_of"]) for row in rows] == true.at.tolist()
    assert [row["funding_rate"] for row in rows] == true["rate"].tolist()
    past = replace(series, window=Window(utc("2026-09-01"), utc("2026-09-03")))
    assert [row["as_of"] for row in decoded(hosts, past)["funding"]] == [past.window.start + n * 8 * HOUR for n in range(1, 7)]


@pytest.mark.parametrize("name", ["BTCUSDT", "SOLUSDT"])
def test_every_bar_arrives_once_across_the_pages(hosts, planned, venue, name):
    series = of(planned, CANDLES, name)
    assert len(list(BITGET.asks(series))) > 13
    rows = decoded(hosts, series)["candles"]
    assert [row["as_of"] for row in rows] == series.expected()
    true = venue.bars(name, HOUR_MS, to_ms(series.window.start), to_ms(series.window.end) - 1)
    for column, field in (
        ("close_usd", "close"),
        ("high_usd", "high"),
        ("low_usd", "low"),
        ("open_usd", "open"),
        ("volume_base", "volume"),
    ):
        assert np.allclose(
            [row[column] for row in rows], true[field], rtol=0, atol=0.51 if (field, name) == ("volume", "SOLUSDT") else 1e-3
        )


@pytest.mark.parametrize(("endpoint", "metric"), [(ACCOUNTS, "global_account"), (POSITIONS, "top_position")])
def test_splits_are_of_the_instant_at_which_their_hour_ends(hosts, planned, venue, endpoint, metric):
    series = of(planned, endpoint)
    rows = decoded(hosts, series)["long_short"]
    assert [row["as_of"] for row in rows] == series.expected()
    assert len(rows) == 29
    true = venue.positioning("BTCUSDT", HOUR_MS, to_ms(series.window.start) + 1, to_ms(series.window.end))
    assert [row["long_share"] for row in rows] == true[f"{metric}_long"].tolist()
    assert {row["ratio_metric"] for row in rows} == {metric}


def test_the_state_is_the_market_s_now(hosts, planned, venue):
    for name in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        true = venue.premium(name)
        (held,) = decoded(hosts, of(planned, OPEN_INTEREST, name))["open_interest"]
        rows = venue.positioning(name, 300_000, to_ms(NOW) - HOUR_MS, to_ms(NOW))
        assert held["open_interest_base"] == pytest.approx(rows["oi_base"][-1], abs=1e-4)
        assert to_ms(held["as_of"]) == rows.at[-1]
        (mark,) = decoded(hosts, of(planned, PRICE, name))["marks"]
        assert (mark["mark_usd"], mark["index_usd"]) == (pytest.approx(true["mark"], abs=1e-8), pytest.approx(true["index"], abs=1e-8))
        found = decoded(hosts, of(planned, QUOTE, name))
        assert found["funding"][0]["funding_rate"] == pytest.approx(true["rate"], abs=1e-8)
        assert found["funding"][0]["funding_interval_h"] == found["funding_terms"][0]["funding_interval_h"] == 8.0
        assert found["funding_terms"][0]["funding_cap_rate"] == pytest.approx(venue.contract(name).cap)


@pytest.mark.parametrize(
    ("name", "params", "status", "code"),
    [
        (CONTRACTS, {}, 400, "40019"),
        (CONTRACTS, {"productType": "SPOT"}, 400, "400172"),
        (OPEN_INTEREST, {"productType": "USDT-FUTURES"}, 400, "40019"),
        (OPEN_INTEREST, {"productType": "USDT-FUTURES", "symbol": "NONEUSDT"}, 400, "40034"),
        (FUNDING, {"productType": "USDT-FUTURES", "symbol": "BTCUSDT", "pageSize": 101}, 400, "40020"),
        (FUNDING, {"productType": "USDT-FUTURES", "symbol": "BTCUSDT", "pageNo": 0}, 400, "40020"),
        (CANDLES, {"productType": "USDT-FUTURES", "symbol": "BTCUSDT", "granularity": "7H"}, 400, "400171"),
        (CANDLES, {"productType": "USDT-FUTURES", "symbol": "BTCUSDT", "granularity": "1H", "limit": 201}, 400, "40020"),
        (CANDLES, {"productType": "USDT-FUTURES", "symbol": "BTCUSDT", "granularity": "1H", "startTime": 0}, 400, "40017"),
        (CANDLES, {"productType": "USDT-FUTURES", "symbol": "BTCUSDT", "granularity": "1H", "endTime": "x"}, 400, "40020"),
        (ACCOUNTS, {"symbol": "BTCUSDT", "period": "7h"}, 400, "400171"),
        ("orders", {}, 404, "40404"),
    ],
)
def test_refusals(hosts, planned, name, params, status, code):
    reply = told(hosts, f"/api/v2/mix/market/{name}", params)
    said = json.loads(reply.body)
    assert (reply.status, said["code"], said["data"]) == (status, code, None)
    ask = next(iter(BITGET.asks(of(planned, PRICE))))
    verdict = BITGET.classify(ask, Answer(reply.status, reply.body, NOW, {"Content-Type": reply.content_type}))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")


def test_a_page_beyond_the_oldest_settlement_is_empty_and_the_last(hosts, planned):
    (ask,) = BITGET.asks(of(planned, FUNDING))
    far = replace(ask, params=tuple((name, "9999" if name == "pageNo" else value) for name, value in ask.params))
    reply = told(hosts, far.path, dict(far.params))
    assert json.loads(reply.body)["data"] == []
    assert BITGET.follow(far, Answer(200, reply.body, NOW)) is None


def test_limits_are_a_second_s_for_each_path(market, planned):
    clock = [0.0]
    hosts = venues(market, lambda: clock[0], 1.0)

    def status(endpoint):
        (ask,) = BITGET.asks(of(planned, endpoint))
        reply = told(hosts, ask.path, dict(ask.params))
        answer = Answer(reply.status, reply.body, NOW, {"Content-Type": reply.content_type})
        assert (BITGET.classify(ask, answer).verb == "accept") is (reply.status == 200)
        assert BITGET.classify(ask, answer).verb in ("accept", "retry")
        return reply.status

    assert [status(PRICE) for _ in range(21)] == [200] * 20 + [429]
    assert [status(ACCOUNTS), status(ACCOUNTS), status(POSITIONS)] == [200, 429, 200]
    clock[0] = 1.0
    assert [status(PRICE), status(ACCOUNTS)] == [200, 200]


@pytest.mark.recordings
def test_nobody_recorded_this_venue(recordings):
    """Another venue's recordings under this one's name would confirm themselves."""
    at = utc("2026-05-20T13:07")
    hosts = venues(RecordedMarket(recordings, frozen(at)), lambda: 0.0, 1e9)
    listed = decoded(hosts, BITGET.catalogue(at))["instruments"]
    assert "normal" not in {row["instrument_status"] for row in listed}

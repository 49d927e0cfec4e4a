"""The sandbox's Hyperliquid, asked as the source asks, against the numbers of its own market; limits and refusals."""

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
from transforms.sources.contract import Answer, Instrument
from transforms.sources.hyperliquid import CANDLES, CONTEXTS, FUNDING, META
from transforms.windows import HOUR, Window, to_ms, utc

NOW = utc("2026-11-22T13:07")
HOUR_MS = 3_600_000
HYPERLIQUID = source("hyperliquid")
PAYLOADS = {META: "meta.json", CONTEXTS: "metaAndAssetCtxs.json", FUNDING: "fundingHistory.json", CANDLES: "candleSnapshot.json"}


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW))


@pytest.fixture(scope="module")
def venue(market):
    return market.at("hyperliquid")


@pytest.fixture(scope="module")
def hosts(market):
    return venues(market, lambda: 0.0, 1e9)


def posted(hosts, body, path="/info"):
    return hosts["hyperliquid.api"].answer(Query(path, body=body if isinstance(body, bytes) else json.dumps(body).encode()))


def answers(hosts, series):
    """Asks of a series with their answers, further pages too."""
    for first in HYPERLIQUID.asks(series):
        ask = first
        while ask is not None:
            reply = posted(hosts, ask.body.encode(), ask.path)
            answer = Answer(reply.status, reply.body, NOW, {"Content-Type": reply.content_type})
            assert HYPERLIQUID.classify(ask, answer).verb == "accept"
            yield ask, answer
            ask = HYPERLIQUID.follow(ask, answer)


def decoded(hosts, series):
    """Everything the source asks about one series, as rows by table; nothing is put aside."""
    found = {}
    for ask, answer in answers(hosts, series):
        part = HYPERLIQUID.decode(ask, answer)
        assert (list(part.rejects), list(part.notes)) == ([], [])
        for name, table in part.tables.items():
            found.setdefault(name, []).extend(table.to_pylist())
    return found


@pytest.fixture(scope="module")
def instruments(hosts):
    (ask,) = HYPERLIQUID.asks(HYPERLIQUID.catalogue(NOW))
    reply = posted(hosts, ask.body.encode())
    listed = HYPERLIQUID.decode(ask, Answer(200, reply.body, NOW)).tables["instruments"]
    return tradable(listed, HYPERLIQUID.listing)


@pytest.fixture(scope="module")
def planned(instruments):
    window = Window(utc("2026-03-01"), utc("2026-11-22T13:00"))
    return list(HYPERLIQUID.plan(window, instruments, NOW))


def of(planned, endpoint, name):
    (series,) = (one for one in planned if one.endpoint == endpoint and name in one.instruments)
    return series


def test_a_reply_has_the_fields_of_the_payload(hosts, planned):
    def fields(tree):
        if isinstance(tree, list):
            return fields(tree[0]) if not (tree and isinstance(tree[-1], list)) else [fields(part) for part in tree]
        return set(tree) if isinstance(tree, dict) else tree

    for endpoint, file in PAYLOADS.items():
        series = HYPERLIQUID.catalogue(NOW) if endpoint == META else of(planned, endpoint, "BTC")
        ask, answer = next(answers(hosts, series))
        held = json.loads(one("hyperliquid", file).answer.body)
        assert fields(json.loads(answer.body)) == fields(held), ask.body


def test_the_catalogue_lists_what_trades_and_what_did(hosts, instruments):
    assert [(one.instrument, one.asset, one.quote_asset) for one in instruments] == [
        ("BTC", "BTC", "USD"),
        ("ETH", "ETH", "USD"),
        ("SOL", "SOL", "USD"),
    ]
    rows = decoded(hosts, HYPERLIQUID.catalogue(NOW))["instruments"]
    assert {row["instrument"] for row in rows if row["instrument_status"] == "DELISTED"} == {"LOOM"}


@pytest.mark.parametrize("name", ["BTC", "ETH", "SOL"])
def test_every_settlement_arrives_once_across_the_pages(hosts, planned, venue, name):
    series = of(planned, FUNDING, name)
    assert len(list(HYPERLIQUID.asks(series))) > 10
    rows = decoded(hosts, series)["funding"]
    assert [row["as_of"] for row in rows] == series.expected()
    true = venue.settlements(f"{name}USDT", to_ms(series.window.start) + 1, to_ms(series.window.end))
    assert [row["funding_rate"] for row in rows] == true["rate"].tolist()
    assert len({row["funding_rate"] for row in rows}) > 500


@pytest.mark.parametrize("name", ["BTC", "SOL"])
def test_every_bar_arrives_once_and_none_from_beyond_the_last_five_thousand(hosts, planned, venue, name):
    series = of(planned, CANDLES, name)
    assert series.window.start > utc("2026-04-01")
    rows = decoded(hosts, series)["candles"]
    assert [row["as_of"] for row in rows] == series.expected()
    true = venue.bars(f"{name}USDT", HOUR_MS, to_ms(series.window.start), to_ms(series.window.end) - 1)
    for column, field in (
        ("close_usd", "close"),
        ("high_usd", "high"),
        ("low_usd", "low"),
        ("open_usd", "open"),
        ("volume_base", "volume"),
    ):
        assert np.allclose([row[column] for row in rows], true[field], rtol=0, atol=0.51 if field == "volume" and name == "SOL" else 1e-3)
    assert [row["trades"] for row in rows] == true["trades"].astype(int).tolist()


def test_a_cut_history_comes_back_short_and_is_seen_as_missing(hosts, planned):
    """Asked beyond the depth, the venue says nothing about it: the hours are missing from the grid, no row stands for them."""
    series = replace(of(planned, CANDLES, "BTC"), window=Window(utc("2026-04-01"), utc("2026-05-05")))
    rows = decoded(hosts, series)["candles"]
    missing = set(series.expected()) - {row["as_of"] for row in rows}
    assert rows
    assert sorted(missing) == series.expected()[: len(missing)]
    assert min(row["as_of"] for row in rows) == utc("2026-11-22T13:00") - 4998 * HOUR  # the running bar is one of the 5000


def test_the_state_is_the_market_s_now(hosts, planned, venue):
    rows = decoded(hosts, of(planned, CONTEXTS, "BTC"))
    assert {name: len(found) for name, found in rows.items()} == dict.fromkeys(("open_interest", "marks", "funding", "premiums"), 3)
    for held, mark, quote, premium in zip(*rows.values(), strict=True):
        symbol = f"{held['instrument']}USDT"
        true = venue.premium(symbol)
        amount = venue.positioning(symbol, 300_000, to_ms(NOW) - HOUR_MS, to_ms(NOW))["oi_base"][-1]
        assert held["open_interest_base"] == pytest.approx(amount, abs=1e-5)
        assert (mark["mark_usd"], mark["index_usd"]) == (pytest.approx(true["mark"], rel=1e-9), pytest.approx(true["index"], rel=1e-9))
        assert quote["funding_rate"] == pytest.approx(true["rate"], abs=1e-10)
        assert premium["premium_share"] == pytest.approx(true["mark"] / true["index"] - 1.0, abs=1e-9)
        assert {row["as_of"] for row in (held, mark, quote, premium)} == {NOW}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"not json", 400, b"Failed to parse the request body as JSON"),
        ({"type": "leaderboard"}, 422, b"Failed to deserialize the JSON body into the target type"),
        ({}, 422, b"Failed to deserialize the JSON body into the target type"),
        ([], 422, b"Failed to deserialize the JSON body into the target type"),
        ({"type": ["meta"]}, 422, b"Failed to deserialize the JSON body into the target type"),
        ({"type": FUNDING, "coin": "BTC"}, 422, b"Failed to deserialize the JSON body into the target type"),
        ({"type": FUNDING, "coin": "NONE", "startTime": 0}, 500, b"null"),
        ({"type": FUNDING, "coin": "BTC", "startTime": True}, 422, b"Failed to deserialize the JSON body into the target type"),
        (
            {"type": CANDLES, "req": {"coin": "BTC", "interval": "7h", "startTime": 0}},
            422,
            b"Failed to deserialize the JSON body into the target type",
        ),
        (
            {"type": CANDLES, "coin": "BTC", "interval": "1h", "startTime": 0},
            422,
            b"Failed to deserialize the JSON body into the target type",
        ),
    ],
)
def test_refusals(hosts, planned, body, status, said):
    reply = posted(hosts, body)
    assert (reply.status, reply.body) == (status, said)
    ask = next(iter(HYPERLIQUID.asks(of(planned, FUNDING, "BTC"))))
    verdict = HYPERLIQUID.classify(ask, Answer(reply.status, reply.body, NOW, {"Content-Type": reply.content_type}))
    assert (verdict.verb, verdict.reason_code) == (("retry", "HTTP_EXHAUSTED") if status == 500 else ("reject", "VENUE_ERROR"))


def test_settlements_come_five_hundred_at_a_time_from_the_oldest_on(hosts):
    rows = json.loads(posted(hosts, {"type": FUNDING, "coin": "BTC", "startTime": to_ms(utc("2026-03-01"))}).body)
    assert len(rows) == 500
    assert 0 <= rows[0]["time"] - to_ms(utc("2026-03-01")) < 1000
    assert all(0 < row["time"] % HOUR_MS < 1000 for row in rows)


def test_rows_that_were_served_are_paid_for(market):
    clock = [0.0]
    hosts = venues(market, lambda: clock[0], 1.0)
    many = {"type": FUNDING, "coin": "BTC", "startTime": to_ms(utc("2026-03-01"))}
    served = 0
    while posted(hosts, many).status == 200:
        served += 1
    assert served == 27  # 45 each: 26 make 1170, the next passes with its 20 and is paid for afterwards
    assert posted(hosts, {"type": META}).status == 429
    clock[0] = 60.0
    assert posted(hosts, {"type": META}).status == 200


def test_what_the_source_reckons_is_what_the_venue_counts(hosts, planned):
    info = hosts["hyperliquid.api"]
    for endpoint in (FUNDING, CANDLES, CONTEXTS):
        for ask, _ in answers(hosts, of(planned, endpoint, "ETH")):
            before = info.minute.used
            posted(hosts, ask.body.encode())
            assert ask.weight - 1.0 < info.minute.used - before <= ask.weight, ask.body


def test_another_path_is_not_there(hosts):
    assert posted(hosts, {"type": META}, "/exchange").status == 404


def test_windows_end_with_the_hour_that_is_over(planned):
    assert {series.window.end for series in planned if series.step == HOUR} == {utc("2026-11-22T13:00")}


@pytest.mark.recordings
def test_what_a_recording_does_not_hold_is_null_and_put_aside(recordings):
    """The recordings hold settlements of this clock, but neither bars nor marks: nothing is invented for them."""
    now = utc("2026-05-20T13:07")
    hosts = venues(RecordedMarket(recordings, frozen(now)), lambda: 0.0, 1e9)
    window = Window(utc("2026-05-19"), utc("2026-05-20T13:00"))
    for series in HYPERLIQUID.plan(window, [Instrument("BTC", "hyperliquid", "BTC")], now):
        for ask in HYPERLIQUID.asks(series):
            answer = Answer(200, posted(hosts, ask.body.encode()).body, now, {"Content-Type": "application/json"})
            found = HYPERLIQUID.decode(ask, answer)
            rows = sum(table.num_rows for table in found.tables.values())
            assert (rows > 0) is (series.endpoint == "fundingHistory")
            assert {reject.reason_code for reject in found.rejects} <= ({"SHAPE", "MISSING"} if series.endpoint == CONTEXTS else set())

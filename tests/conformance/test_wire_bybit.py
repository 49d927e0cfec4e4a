"""The sandbox's Bybit end to end: what the source asks is answered in the venue's format and decodes to the market's own numbers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sandbox.market import frozen
from sandbox.recordings import RecordedMarket
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.spoil import spoil_rows
from sandbox.wire.bybit import INVERSE_SHARE, SINGLE_SINCE_MS
from sandbox.wire.reply import Query
from tests.payloads.reader import payloads
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.contract import Answer, Instrument
from transforms.windows import HOUR, Window, to_ms, utc

NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR_MS = 3_600_000
BREAK = utc("2026-06-11")
BYBIT = source("bybit")


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(7, frozen(NOW))


@pytest.fixture(scope="module")
def hosts(market):
    return venues(market, lambda: 0.0, 1e9)


@pytest.fixture(scope="module")
def instruments(hosts):
    tables = [decoded.tables["instruments"] for _, _, decoded in exchanged(hosts, BYBIT.catalogue(NOW))]
    return [one for table in tables for one in tradable(table, BYBIT.listing)]


def told(hosts, path, **params):
    reply = hosts["bybit.api"].answer(Query(f"/v5/market/{path}", {name: str(value) for name, value in params.items()}))
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def exchanged(hosts, series):
    """Every ask of a series with its answer and what it decodes to, followed pages included."""
    found = []
    for first in BYBIT.asks(series):
        ask = first
        while ask is not None:
            reply = hosts["bybit.api"].answer(Query(ask.path, dict(ask.params)))
            answer = Answer(reply.status, reply.body, NOW, {"Content-Type": reply.content_type, **reply.headers})
            assert BYBIT.classify(ask, answer).verb == "accept", reply.body
            decoded = BYBIT.decode(ask, answer)
            assert (list(decoded.rejects), list(decoded.notes)) == ([], [])
            found.append((ask, answer, decoded))
            ask = BYBIT.follow(ask, answer)
    return found


def rows_of(hosts, series, table=None):
    name = table or BYBIT.endpoints[series.endpoint]
    rows = [row for _, _, decoded in exchanged(hosts, series) for row in decoded.tables[name].to_pylist()]
    return sorted(rows, key=lambda row: row["as_of"])


def planned(instruments, start, end, endpoint, instrument):
    window = Window(utc(start), utc(end))
    return [s for s in BYBIT.plan(window, instruments, NOW) if (s.endpoint, s.instrument) == (endpoint, instrument)]


def test_the_listing_holds_what_the_source_asks_about(instruments):
    assert [one.instrument for one in instruments] == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BTCUSD", "ETHUSD"]
    assert {one.instrument: (one.payoff, one.contract_unit) for one in instruments}["BTCUSD"] == ("inverse", "usd")


@pytest.mark.parametrize(("endpoint", "instrument"), [("open-interest", "SOLUSDT"), ("inverse-open-interest", "BTCUSD")])
def test_a1_open_interest_is_one_sided_and_continuous_across_the_break(hosts, market, instruments, endpoint, instrument):
    parts = planned(instruments, "2026-05-20T05:00", "2026-07-01", endpoint, instrument)
    assert [part.window.start for part in parts] == [utc("2026-05-20T05:00"), BREAK]
    rows = [row for part in parts for row in rows_of(hosts, part)]
    assert [row["as_of"] for row in rows] == [at for part in parts for at in part.expected()]
    symbol = instrument.replace("USD", "USDT") if endpoint.startswith("inverse") else instrument
    truth = market.at("bybit").positioning(symbol, HOUR_MS, to_ms(rows[0]["as_of"]), to_ms(rows[-1]["as_of"]))
    if endpoint == "open-interest":
        assert np.allclose([row["open_interest_base"] for row in rows], truth["oi_base"], rtol=0, atol=0.26)
    else:
        assert np.allclose([row["open_interest_usd"] for row in rows], truth["oi_usd"] * INVERSE_SHARE, rtol=0, atol=0.26)
    steps = np.abs(np.diff(np.log([row["open_interest_native"] for row in rows])))
    assert steps.max() < 0.2, "no cliff"


def test_a1_the_wire_adds_the_one_sided_figure_by_the_stamp_of_the_row(hosts):
    span = {"startTime": SINGLE_SINCE_MS - 2 * HOUR_MS, "endTime": SINGLE_SINCE_MS + HOUR_MS}
    for category, symbol in (("linear", "BTCUSDT"), ("inverse", "BTCUSD")):
        page = told(hosts, "open-interest", category=category, symbol=symbol, intervalTime="1h", limit=200, **span)["result"]
        assert [int(row["timestamp"]) for row in page["list"]] == [SINGLE_SINCE_MS + n * HOUR_MS for n in (1, 0, -1, -2)]
        for row in page["list"]:
            assert ("singleOpenInterest" in row) is (int(row["timestamp"]) >= SINGLE_SINCE_MS)
            if "singleOpenInterest" in row:
                assert 2 * float(row["singleOpenInterest"]) == pytest.approx(float(row["openInterest"]), rel=1e-9)


@pytest.mark.parametrize("instrument", ["BTCUSDT", "ETHUSD"])
def test_ratios_come_out_as_they_were(hosts, market, instruments, instrument):
    (series,) = planned(instruments, "2025-03-02T07:00", "2025-05-10", "account-ratio", instrument)
    rows = rows_of(hosts, series)
    assert [row["as_of"] for row in rows] == series.expected()
    symbol = instrument if instrument.endswith("T") else f"{instrument}T"
    truth = market.at("bybit").positioning(symbol, HOUR_MS, to_ms(rows[0]["as_of"]), to_ms(rows[-1]["as_of"]))
    assert np.allclose([row["long_share"] for row in rows], truth["global_account_long"], rtol=0, atol=5e-5)
    assert {row["ratio_metric"] for row in rows} == {"global_account"}


@pytest.mark.parametrize(("endpoint", "instrument", "share"), [("kline", "ETHUSDT", 1.0), ("inverse-kline", "ETHUSD", INVERSE_SHARE)])
def test_bars_come_out_as_they_were(hosts, market, instruments, endpoint, instrument, share):
    (series,) = planned(instruments, "2025-02-01T03:00", "2025-04-25", endpoint, instrument)
    rows = rows_of(hosts, series)
    assert len(exchanged(hosts, series)) == 3
    assert [row["as_of"] for row in rows] == series.expected()
    truth = market.at("bybit").bars("ETHUSDT", HOUR_MS, to_ms(series.window.start), to_ms(series.window.end) - 1)
    for name in ("open", "high", "low", "close"):
        assert np.allclose([row[f"{name}_usd"] for row in rows], truth[name], rtol=0, atol=6e-3)
    assert np.allclose([row["volume_base"] for row in rows], truth["volume"] * share, rtol=0, atol=6e-4)


def test_premiums_come_out_as_they_were_and_only_of_linear_contracts(hosts, market, instruments):
    (series,) = planned(instruments, "2026-10-01", "2026-11-22T13:00", "premium-index-price-kline", "BTCUSDT")
    rows = rows_of(hosts, series)
    assert [row["as_of"] for row in rows] == series.expected()
    truth = market.at("bybit").premium_bars("BTCUSDT", HOUR_MS, to_ms(series.window.start), to_ms(series.window.end) - 1)
    assert np.allclose([row["premium_share"] for row in rows], truth["close"], rtol=0, atol=6e-9)
    refused = told(hosts, "premium-index-price-kline", category="inverse", symbol="BTCUSD", interval=60)
    assert refused["retCode"] == 10001


@pytest.mark.parametrize("instrument", ["SOLUSDT", "BTCUSD"])
def test_settlements_come_out_once_and_as_they_were(hosts, market, instruments, instrument):
    (series,) = planned(instruments, "2025-01-15", "2026-11-22T13:00", "funding-history", instrument)
    rows = rows_of(hosts, series)
    symbol = instrument if instrument.endswith("T") else f"{instrument}T"
    truth = market.at("bybit").settlements(symbol, to_ms(series.window.start) + 1, to_ms(series.window.end))
    assert [to_ms(row["as_of"]) for row in rows] == truth.at.tolist()
    assert np.allclose([row["funding_rate"] for row in rows], truth["rate"], rtol=0, atol=6e-9)


def test_snapshots_are_of_now(hosts, market, instruments):
    (series,) = planned(instruments, "2026-11-22T12:00", "2026-11-22T13:00", "tickers", "ETHUSD")
    ((_, _, decoded),) = exchanged(hosts, series)
    (mark,), (rate,) = decoded.tables["marks"].to_pylist(), decoded.tables["funding"].to_pylist()
    truth = market.at("bybit").premium("ETHUSDT")
    assert mark["as_of"] == NOW
    assert (mark["mark_usd"], mark["index_usd"]) == (pytest.approx(truth["mark"], abs=6e-3), pytest.approx(truth["index"], abs=6e-3))
    assert (rate["funding_rate"], rate["funding_interval_h"], rate["funding_kind"]) == (
        pytest.approx(truth["rate"], abs=6e-9),
        8.0,
        "quote",
    )


@pytest.mark.parametrize("endpoint", ["open-interest", "account-ratio", "funding-history"])
def test_a_venue_that_serves_less_than_asked_is_followed_to_the_start(hosts, instruments, endpoint):
    """Pages of seven rows: every row comes once, and none is asked for after the last."""
    (series,) = planned(instruments, "2026-11-15", "2026-11-22T13:00", endpoint, "BTCUSDT")
    whole = exchanged(hosts, series)[0]
    ask = replace(whole[0], params=tuple((dict(whole[0].params) | {"limit": "7"}).items()))
    stamps, pages = [], 0
    while ask is not None:
        answer = Answer(200, hosts["bybit.api"].answer(Query(ask.path, dict(ask.params))).body, NOW)
        (table,) = BYBIT.decode(ask, answer).tables.values()
        stamps, pages, ask = stamps + table["as_of"].to_pylist(), pages + 1, BYBIT.follow(ask, answer)
    (table,) = whole[2].tables.values()
    assert stamps == table["as_of"].to_pylist()
    assert pages == -(-len(stamps) // 7)


@pytest.mark.parametrize("endpoint", ["open-interest", "account-ratio", "kline", "premium-index-price-kline", "funding-history"])
def test_faults_find_the_rows_inside_the_envelope(hosts, instruments, endpoint):
    """What a fault does to rows is put aside with a reason, row by row; a gap or a repetition is left to the ledger."""
    (series,) = planned(instruments, "2026-11-22T02:00", "2026-11-22T13:00", endpoint, "BTCUSDT")
    ask, clean, decoded = exchanged(hosts, series)[0]
    for kind, found in (
        ("missing_field", {"SHAPE"}),
        ("null_value", {"SHAPE"}),
        ("shift", {"STAMP"}),
        ("duplicate_page", set()),
        ("gap", set()),
    ):
        spoiled = BYBIT.decode(ask, replace(clean, body=spoil_rows(kind, {"hours": 30}, clean.body)))
        rows = {"duplicate_page": 2 * decoded.rows, "gap": decoded.rows - max(1, decoded.rows // 4)}.get(kind, decoded.rows)
        assert (spoiled.rows, {reject.reason_code for reject in spoiled.rejects}) == (rows, found), kind
    assert BYBIT.decode(ask, replace(clean, body=spoil_rows("extra_field", {}, clean.body))).notes
    wrong = BYBIT.decode(ask, replace(clean, body=spoil_rows("wrong_unit", {}, clean.body)))
    if endpoint == "open-interest":
        assert {reject.reason_code for reject in wrong.rejects} == {"CONVENTION"}, "the one-sided figure beside it says otherwise"


def test_the_listing_is_paged_by_cursor(hosts):
    names, cursor = [], ""
    for _ in range(9):
        result = told(hosts, "instruments-info", category="linear", limit=1, **({"cursor": cursor} if cursor else {}))["result"]
        names += [row["symbol"] for row in result["list"]]
        if not (cursor := result["nextPageCursor"]):
            break
    assert names == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert told(hosts, "instruments-info", category="linear", status="Closed")["result"]["list"] == []


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("open-interest", {"category": "spot", "symbol": "BTCUSDT", "intervalTime": "1h"}),
        ("open-interest", {"category": "inverse", "symbol": "BTCUSDT", "intervalTime": "1h"}),
        ("open-interest", {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "2h"}),
        ("open-interest", {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "1h", "limit": 201}),
        ("open-interest", {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "1h", "cursor": "x"}),
        ("account-ratio", {"category": "linear", "symbol": "BTCUSDT", "period": "1h", "limit": 501}),
        ("kline", {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "limit": 1001}),
        ("kline", {"category": "linear", "symbol": "NOUSDT", "interval": "60"}),
        ("kline", {"category": "linear", "interval": "60"}),
        ("funding/history", {"category": "linear", "symbol": "BTCUSDT", "startTime": 1}),
        ("funding/history", {"category": "linear", "symbol": "BTCUSDT", "endTime": "soon"}),
        ("instruments-info", {"category": "linear", "status": "Gone"}),
    ],
)
def test_refusals_come_with_http_200_and_a_code(hosts, path, params):
    """Among them C5: a startTime without an endTime."""
    said = told(hosts, path, **params)
    assert (said["retCode"], said["result"]) == (10001, {})
    assert said["retMsg"]


def test_unknown_paths_are_not_found(hosts):
    assert hosts["bybit.api"].answer(Query("/v5/market/taker-flow")).status == 404
    assert told(hosts, "time")["time"] == NOW_MS


def test_who_asks_too_fast_is_warned_and_then_banned(market):
    clock = [1_000_000_000.0]
    api = venues(market, lambda: clock[0])["bybit.api"]
    (series,) = (s for s in BYBIT.plan(Window(NOW - HOUR, NOW), [Instrument("BTCUSDT", "bybit", "BTC")], NOW) if s.endpoint == "tickers")
    (ask,) = BYBIT.asks(series)
    verdicts = []
    for _ in range(700):
        reply = api.answer(Query(ask.path, dict(ask.params)))
        answer = Answer(reply.status, reply.body, utc("2001-09-09T01:46:40"), {"Content-Type": reply.content_type, **reply.headers})
        verdicts.append(BYBIT.classify(ask, answer))
    words = [verdict.reason_code for verdict in verdicts]
    assert (words.index("HTTP_EXHAUSTED"), words.index("HTTP_BANNED")) == (120, 600)
    assert 0.9 < verdicts[120].wait < 1.1
    clock[0] += 590
    assert api.answer(Query(ask.path, dict(ask.params))).status == 403
    clock[0] += 20
    assert api.answer(Query(ask.path, dict(ask.params))).status == 200


FIELDS = {payload.endpoint: payload for payload in payloads() if payload.source == "bybit"}


@pytest.mark.parametrize("endpoint", sorted(FIELDS))
def test_the_wire_has_the_fields_and_types_of_the_payloads(hosts, instruments, endpoint):
    """Every field the wire serves is one the document's payload has, in the same type; none that is read is missing (the shapes see to that)."""
    payload = FIELDS[endpoint]
    series = (
        BYBIT.catalogue(NOW)
        if endpoint == "instruments-info"
        else next(s for s in BYBIT.plan(Window(NOW - 24 * HOUR, NOW), instruments, NOW) if s.endpoint == endpoint)
    )
    _, answer, _ = exchanged(hosts, series)[0]
    ours, theirs = (json.loads(body) for body in (answer.body, payload.answer.body))
    assert set(ours) == set(theirs)
    assert set(ours["result"]) <= set(theirs["result"])
    row, known = ours["result"]["list"][0], theirs["result"]["list"][0]
    if isinstance(row, list):
        assert [type(value) for value in row] == [type(value) for value in known]
        return
    assert set(row) <= set(known)
    assert all(isinstance(value, type(known[name])) for name, value in row.items())


@pytest.mark.recordings
def test_a_replay_shows_what_was_recorded_of_bybit_and_nothing_of_another_venue():
    folder = Path(__file__).parents[3] / "shared" / "recordings"
    hosts = venues(RecordedMarket(folder, frozen(utc("2026-05-28"))), lambda: 0.0, 1e9)
    assert [row["symbol"] for row in told(hosts, "instruments-info", category="linear")["result"]["list"]] == ["BTCUSDT", "ETHUSDT"]
    assert told(hosts, "instruments-info", category="inverse")["result"]["list"] == []
    recorded = pd.read_parquet(folder / "series" / "bybit_positioning_15m.parquet")
    at = pd.Timestamp("2026-05-25T12:00", tz="UTC")
    row = recorded[(recorded["symbol"] == "BTCUSDT") & (recorded["timestamp"] == at)].iloc[0]
    stamp = int(at.timestamp() * 1000)
    span = {"category": "linear", "symbol": "BTCUSDT", "startTime": stamp, "endTime": stamp}
    (interest,) = told(hosts, "open-interest", intervalTime="1h", **span)["result"]["list"]
    assert float(interest["openInterest"]) == pytest.approx(row["oi"], abs=1e-3)
    (ratio,) = told(hosts, "account-ratio", period="1h", **span)["result"]["list"]
    assert float(ratio["buyRatio"]) == row["ls_buy_ratio"]
    assert told(hosts, "premium-index-price-kline", interval=60, category="linear", symbol="BTCUSDT")["result"]["list"] == []
    assert told(hosts, "tickers", category="linear", symbol="BTCUSDT")["result"]["list"] == []

"""The sandbox's OKX against its own market and the source: pages, terms of contracts, memory, limits, errors, faults."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sandbox.market import frozen
from sandbox.recordings import RecordedMarket
from sandbox.server import venues
from sandbox.simulated import SimulatedMarket
from sandbox.spoil import spoil_rows
from sandbox.wire.okx import COINS, DOLLARS, INVERSE_SHARE, RATIO_PATHS
from sandbox.wire.reply import Query
from tests.payloads.reader import payloads
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.contract import Answer
from transforms.windows import Window, to_ms, utc

NOW = utc("2026-11-22T13:07")
NOW_MS = to_ms(NOW)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
JSON = {"Content-Type": "application/json"}
OKX = source("okx")
#: twelve days: several pages of 100 hours each
WINDOW = Window(utc("2026-11-10T05:00"), utc("2026-11-22T13:00"))
NAMES = [f"{coin}-{quote}-SWAP" for coin in ("BTC", "ETH", "SOL") for quote in ("USD", "USDT")]


@pytest.fixture(scope="module")
def simulated():
    return SimulatedMarket(7, frozen(NOW))


@pytest.fixture(scope="module")
def market(simulated):
    return simulated.at("okx")


@pytest.fixture(scope="module")
def host(simulated):
    return venues(simulated, lambda: 0.0, 1e9)["okx.api"]


@pytest.fixture(scope="module")
def swaps(host):
    """What the source is given: the listed instruments it asks for."""
    (decoded,) = decoded_pages(host, OKX.catalogue(NOW))
    return tradable(decoded.tables["instruments"], OKX.listing)


def told(host, path, status=200, **params):
    reply = host.answer(Query(f"/api/v5/{path}", {name: str(value) for name, value in params.items()}))
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def decoded_pages(host, series):
    """Everything the source asks about one series, decoded page by page."""
    found = []
    for first in OKX.asks(series):
        ask = first
        while ask is not None:
            reply = host.answer(Query(ask.path, dict(ask.params)))
            answer = Answer(reply.status, reply.body, NOW, JSON)
            assert OKX.classify(ask, answer).verb == "accept", reply.body
            decoded = OKX.decode(ask, answer)
            assert not decoded.rejects, decoded.rejects[:2]
            assert not decoded.notes
            found.append(decoded)
            ask = OKX.follow(ask, answer)
    return found


def rows(host, series, table=None):
    name = table or OKX.endpoints[series.endpoint]
    return [row for decoded in decoded_pages(host, series) for row in decoded.tables[name].to_pylist()]


def planned(swaps, window=WINDOW):
    return {(series.endpoint, series.instrument): series for series in OKX.plan(window, swaps, NOW)}


def symbol(instrument):
    return f"{instrument.split('-')[0]}USDT"


def share(instrument):
    return 1.0 if instrument.endswith("-USDT-SWAP") else INVERSE_SHARE


def test_the_source_asks_about_every_swap_of_the_market(swaps):
    assert [one.instrument for one in swaps] == NAMES
    for one in swaps:
        inverse = one.instrument.endswith("-USD-SWAP")
        assert (one.payoff, one.contract_unit) == (("inverse", "usd") if inverse else ("linear", "base"))
        assert one.contract_size == (DOLLARS.get(one.asset, 10.0) if inverse else COINS.get(one.asset, 1.0))
    assert set(planned(swaps)) == {(endpoint, name) for endpoint in set(OKX.endpoints) - {"instruments"} for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_open_interest_comes_back_in_coins_and_usd(host, market, swaps, name):
    series = planned(swaps)["open-interest-history", name]
    found = rows(host, series)
    held = market.positioning(symbol(name), HOUR_MS, to_ms(WINDOW.start) + 1, to_ms(WINDOW.end))
    assert len(list(OKX.asks(series))) >= 3
    assert sorted(row["as_of"] for row in found) == series.expected(), "every hour once, across the seams of pages"
    found.sort(key=lambda row: row["as_of"])
    assert np.allclose([row["open_interest_base"] for row in found], held["oi_base"] * share(name), rtol=1e-6)
    assert np.allclose([row["open_interest_usd"] for row in found], held["oi_usd"] * share(name), rtol=1e-6)
    assert {(row["native_unit"], row["oi_sides"]) for row in found} == {("contracts", 1)}


@pytest.mark.parametrize("name", ["BTC-USDT-SWAP", "SOL-USD-SWAP"])
@pytest.mark.parametrize("endpoint", RATIO_PATHS)
def test_ratios_come_back_as_the_shares_they_were_made_of(host, market, swaps, name, endpoint):
    series = planned(swaps)[endpoint, name]
    found = sorted(rows(host, series), key=lambda row: row["as_of"])
    assert [row["as_of"] for row in found] == series.expected()
    held = market.positioning(symbol(name), HOUR_MS, to_ms(WINDOW.start) + 1, to_ms(WINDOW.end))
    assert np.allclose([row["long_share"] for row in found], held[f"{RATIO_PATHS[endpoint]}_long"], atol=1e-6)
    assert {row["ratio_metric"] for row in found} == {RATIO_PATHS[endpoint]}


@pytest.mark.parametrize("name", ["BTC-USDT-SWAP", "ETH-USD-SWAP"])
def test_flows_and_bars_end_where_the_market_ends_them(host, market, swaps, name):
    first, last = to_ms(WINDOW.start), to_ms(WINDOW.end) - HOUR_MS
    flow, bars = planned(swaps)["taker-volume-contract", name], planned(swaps)["history-candles", name]
    found = sorted(rows(host, flow), key=lambda row: row["as_of"])
    held = market.taker(symbol(name), HOUR_MS, first, last)
    assert [row["as_of"] for row in found] == flow.expected()
    assert np.allclose([row["taker_buy_base"] for row in found], held["buy"] * share(name), atol=1e-5)
    assert np.allclose([row["taker_sell_base"] for row in found], held["sell"] * share(name), atol=1e-5)
    found = sorted(rows(host, bars), key=lambda row: row["as_of"])
    held = market.bars(symbol(name), HOUR_MS, first, last)
    assert [row["as_of"] for row in found] == bars.expected()
    assert np.allclose([row["close_usd"] for row in found], held["close"])
    assert np.allclose([row["volume_base"] for row in found], held["volume"] * share(name), atol=1e-5)


def test_settlements_are_what_was_paid_and_not_what_was_predicted(host, market, swaps):
    window = Window(utc("2026-08-01"), utc("2026-11-22T13:00"))
    series = planned(swaps, window)["funding-rate-history", "BTC-USDT-SWAP"]
    found = sorted(rows(host, series), key=lambda row: row["as_of"])
    held = market.settlements("BTCUSDT", to_ms(series.window.start) + 1, to_ms(series.window.end))
    assert len(found) == len(held) > 250
    assert [to_ms(row["as_of"]) for row in found] == held.at.tolist()
    assert np.allclose([row["funding_rate"] for row in found], held["rate"], atol=1e-10)


def test_a_shorter_interval_fills_pages_that_are_followed_to_their_end(host, swaps):
    """30 days at one hour are 720 settlements under a limit of 100: here the limit is made shorter instead of the interval."""
    series = planned(swaps)["funding-rate-history", "BTC-USDT-SWAP"]
    ask = list(OKX.asks(series))[-1]
    pages = []
    while ask is not None:
        params = dict(ask.params)
        page = told(host, "public/funding-rate-history", **params)["data"][:5]
        body = {"code": "0", "msg": "", "data": page + page * 19}  # full: a hundred rows
        pages.append([row["fundingTime"] for row in page])
        ask = OKX.follow(ask, Answer(200, json.dumps(body).encode(), NOW, JSON))
    stamps = [stamp for page in pages for stamp in page]
    assert len(pages) > 3
    assert len(set(stamps)) == len(stamps) >= 30
    assert stamps == sorted(stamps, reverse=True)


def test_snapshots_are_of_now(host, market, swaps):
    plan = planned(swaps)
    (quote,), (terms,) = (rows(host, plan["funding-rate", "BTC-USD-SWAP"], table) for table in ("funding", "funding_terms"))
    now = market.premium("BTCUSDT")
    assert quote["funding_rate"] == pytest.approx(now["rate"], abs=1e-9)
    assert (quote["funding_kind"], quote["funding_interval_h"], quote["as_of"]) == ("quote", 8.0, NOW)
    assert (terms["funding_cap_rate"], terms["funding_floor_rate"]) == (0.003, -0.003)
    (mark,) = rows(host, plan["mark-price", "ETH-USDT-SWAP"])
    assert mark["mark_usd"] == pytest.approx(market.premium("ETHUSDT")["mark"], abs=0.01)
    assert mark["index_usd"] is None
    (level,) = rows(host, plan["open-interest", "SOL-USD-SWAP"])
    held = market.positioning("SOLUSDT", 300_000, NOW_MS - 600_000, NOW_MS)
    assert level["open_interest_base"] == pytest.approx(held["oi_base"][-1] * INVERSE_SHARE, rel=1e-6)


@pytest.mark.parametrize("name", ["BTC-USDT-SWAP", "BTC-USD-SWAP", "SOL-USDT-SWAP"])
def test_d5_every_forced_order_of_the_day_comes_once_whatever_page_it_lies_on(host, market, swaps, name):
    series = planned(swaps)["liquidation-orders", name]
    pages = decoded_pages(host, series)
    found = [row for page in pages for row in page.tables["forced_trades"].to_pylist()]
    by_id = {row["trade_id"]: row for row in found}
    assert len(pages) > 2
    assert all(by_id[row["trade_id"]] == row for row in found), "what lies on a seam comes twice and is the same"
    assert any(key.endswith("-1") for key in by_id), "orders alike to the letter are two"
    step = 300_000
    start = -(-to_ms(series.window.start) // step) * step
    held = market.liquidations(symbol(name), step, start, to_ms(series.window.end) - step)
    for side in ("long", "short"):
        coins = sum(row["amount_base"] for row in by_id.values() if row["position_side"] == side and start < to_ms(row["as_of"]))
        assert coins == pytest.approx(float(held[side].sum()) * share(name), rel=2e-3), side
    assert {(row["price_kind"], row["completeness"]) for row in found} == {("bankruptcy", "floor")}


def test_a9_what_the_venue_forgot_does_not_come_and_is_missing_from_the_grid(host, swaps):
    """Asked for 1,500 hours, rubik serves its last 1,440: nothing is made up, and the source itself plans only what it remembers."""
    told_rows = []
    end = NOW_MS
    while page := told(host, "rubik/stat/contracts/open-interest-history", instId="BTC-USDT-SWAP", period="1H", end=end)["data"]:
        told_rows += page
        end = int(page[-1][0])
    assert len(told_rows) == 1440
    plan = planned(swaps, Window(utc("2026-01-01"), utc("2026-11-22T13:00")))
    series = plan["open-interest-history", "BTC-USDT-SWAP"]
    assert sorted(row["as_of"] for row in rows(host, series)) == series.expected()
    assert 1430 <= len(series.expected()) < 1440
    assert plan["history-candles", "BTC-USDT-SWAP"].window.start == utc("2026-01-01")


def test_the_running_hour_is_shown_by_the_venue_and_never_asked_for(host, swaps):
    newest = told(host, "rubik/stat/contracts/open-interest-history", instId="BTC-USDT-SWAP", period="1H")["data"][0]
    assert int(newest[0]) == to_ms(utc("2026-11-22T13:00"))
    bar = told(host, "market/history-candles", instId="BTC-USDT-SWAP", bar="1H")["data"][0]
    assert (int(bar[0]), bar[8]) == (to_ms(utc("2026-11-22T13:00")), "0")
    series = planned(swaps, Window(utc("2026-11-22T10:00"), utc("2026-11-22T15:00")))["history-candles", "BTC-USDT-SWAP"]
    assert [row["as_of"].hour for row in rows(host, series)] == [13, 12, 11]


RUBIK = "rubik/stat/contracts/open-interest-history"
SWAP = {"instType": "SWAP"}


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("public/instruments", {}, "50014"),
        ("public/instruments", {"instType": "SPOT"}, "51000"),
        ("public/mark-price", {**SWAP, "instId": "BTC-EUR-SWAP"}, "51001"),
        ("public/funding-rate", {}, "50014"),
        ("public/liquidation-orders", SWAP, "50014"),
        ("public/liquidation-orders", {**SWAP, "instFamily": "DOGE-USDT"}, "51001"),
        ("market/history-candles", {"instId": "BTC-USDT-SWAP", "bar": "7H"}, "51000"),
        ("market/history-candles", {"instId": "BTC-USDT-SWAP", "after": "soon"}, "51000"),
        (RUBIK, {"instId": "BTC-USDT-SWAP", "period": "7H"}, "51000"),
        ("rubik/stat/taker-volume-contract", {"instId": "BTC-USDT-SWAP", "unit": "3"}, "51000"),
    ],
)
def test_refusals_come_with_http_200_and_are_told_apart_by_their_code(host, path, params, code):
    said = told(host, path, **params)
    assert (said["code"], said["data"]) == (code, [])
    (ask,) = OKX.asks(OKX.catalogue(NOW))
    verdict = OKX.classify(ask, Answer(200, json.dumps(said).encode(), NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")
    assert said["msg"] in verdict.detail


@pytest.mark.recordings
def test_recordings_of_another_venue_are_not_shown_as_this_ones(recordings):
    host = venues(RecordedMarket(recordings, frozen(utc("2026-05-28"))), lambda: 0.0, 1e9)["okx.api"]
    assert told(host, "public/instruments", instType="SWAP") == {"code": "0", "data": [], "msg": ""}
    assert told(host, "market/history-candles", instId="BTC-USDT-SWAP", bar="1H")["code"] == "51001"


def test_an_unknown_path_is_not_found(host):
    assert told(host, "public/open-interest-volume", 404)["code"] == "404"


@pytest.mark.parametrize(("path", "most"), [(RUBIK, 5), ("public/funding-rate-history", 10), ("public/liquidation-orders", 40)])
def test_too_many_in_two_seconds_are_refused_and_waited_for(simulated, path, most):
    clock = [100.0]
    host = venues(simulated, lambda: clock[0])["okx.api"]
    asked = {"instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "instType": "SWAP", "period": "1H"}
    codes = [told(host, path, **asked)["code"] for _ in range(most + 2)]
    assert codes == ["0"] * most + ["50011"] * 2
    budget = OKX.budgets[path.rsplit("/", 1)[-1]]
    assert (budget.weight, budget.per) == (most, 2)
    (ask,) = OKX.asks(OKX.catalogue(NOW))
    verdict = OKX.classify(ask, Answer(200, json.dumps(told(host, path, **asked)).encode(), NOW, JSON))
    assert (verdict.verb, verdict.wait) == ("retry", 2.0)
    clock[0] += 2.0
    assert told(host, path, **asked)["code"] == "0"


@pytest.mark.parametrize(
    ("endpoint", "kind", "params", "reason"),
    [
        ("open-interest-history", "missing_field", {}, "SHAPE"),
        ("open-interest-history", "null_value", {}, "SHAPE"),
        ("open-interest-history", "shift", {"hours": 300}, "STAMP"),
        ("open-interest-history", "wrong_unit", {"field": 1}, "CONVENTION"),
        ("open-interest-history", "extra_field", {}, ""),
        ("history-candles", "missing_field", {}, "SHAPE"),
        ("history-candles", "shift", {"hours": 300}, "STAMP"),
        ("history-candles", "duplicate_page", {}, ""),
        ("open-interest", "wrong_unit", {"field": "oi"}, "CONVENTION"),
        ("liquidation-orders", "missing_field", {"field": "instId"}, "SHAPE"),
    ],
)
def test_faults_find_the_rows_inside_the_envelope(host, swaps, endpoint, kind, params, reason):
    series = planned(swaps, Window(utc("2026-11-22T06:00"), utc("2026-11-22T13:00")))[endpoint, "BTC-USDT-SWAP"]
    ask = next(iter(OKX.asks(series)))
    clean = host.answer(Query(ask.path, dict(ask.params))).body
    decoded = OKX.decode(ask, Answer(200, spoil_rows(kind, params, clean), NOW, JSON))
    assert {reject.reason_code for reject in decoded.rejects} == ({reason} if reason else set())
    assert bool(decoded.notes) is (kind == "extra_field")
    assert all(table.num_rows == 0 for table in decoded.tables.values()) is bool(reason)


@pytest.mark.parametrize("payload", [one for one in payloads() if one.source == "okx"], ids=str)
def test_the_wire_serves_the_fields_of_the_payloads(host, payload):
    """Same names, or the same number of places, as the answers written after the document."""
    params = {**dict(payload.ask.params)} | {name: str(NOW_MS) for name in ("end", "after") if name in dict(payload.ask.params)}
    params = {name: value for name, value in params.items() if name not in ("begin", "before")}
    said = json.loads(host.answer(Query(payload.ask.path, params)).body)["data"][0]
    held = json.loads(payload.answer.body)["data"][0]
    if payload.endpoint == "instruments":
        assert set(said) <= set(held)
    elif isinstance(held, list):
        assert len(said) == len(held)
        assert {type(part) for part in said} == {str}
    else:
        assert set(said) == set(held)
        if "details" in held:
            assert set(said["details"][0]) == set(held["details"][0])

"""Bybit: what is asked, how pages are proven complete, errors that come with HTTP 200, and how contracts are spelled."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.roster import source
from transforms.sources.bybit import PASSING
from transforms.sources.bybit_rows import bybit_asset, bybit_coin
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

BYBIT = source("bybit")
NOW = utc("2026-07-20T12:20")
JSON = {"Content-Type": "application/json"}
HISTORIES = ("open-interest", "inverse-open-interest", "account-ratio", "kline", "inverse-kline", "premium-index-price-kline")
ENDPOINTS = tuple(BYBIT.endpoints)
BTC = Instrument("BTCUSDT", "bybit", "BTC", listed_at=utc("2020-03-15"))
INVERSE = Instrument("BTCUSD", "bybit", "BTC", listed_at=utc("2018-11-14"), payoff="inverse", contract_unit="usd", quote_asset="USD")


def wrapped(result, code=0, message="OK") -> bytes:
    return json.dumps({"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": to_ms(NOW)}).encode()


# -- spelling


@pytest.mark.parametrize(
    ("symbol", "asset", "multiplier"),
    [
        ("BTCUSDT", "BTC", 1.0),
        ("BTCUSD", "BTC", 1.0),
        ("BTCPERP", "BTC", 1.0),
        ("SHIB1000USDT", "SHIB", 1e3),
        ("1000PEPEUSDT", "PEPE", 1e3),
        ("10000SATSUSDT", "SATS", 1e4),
        ("1000000MOGUSDT", "MOG", 1e6),
        ("1INCHUSDT", "1INCH", 1.0),
        ("C98USDT", "C98", 1.0),
        ("PERPUSDT", "PERP", 1.0),
        ("B3USDT", "B3", 1.0),
    ],
)
def test_e5_spellings(symbol, asset, multiplier):
    assert bybit_asset(symbol) == (asset, multiplier)


@pytest.mark.parametrize("symbol", ["PEPE1000USDT", "100PEPEUSDT", "100000PEPEUSDT", "USDT", "", "BTCEUR", "BTCUSDT-25DEC26", "1000USDT"])
def test_e5_an_undeclared_spelling_raises(symbol):
    with pytest.raises(LookupError):
        bybit_asset(symbol)


@given(st.text(st.sampled_from("ABX019"), max_size=10))
def test_e5_a_spelling_is_read_or_refused_and_never_loses_a_coin(base):
    try:
        asset, multiplier = bybit_coin(base)
    except LookupError:
        return
    assert asset
    assert base in {asset, f"{multiplier:.0f}{asset}", f"{asset}{multiplier:.0f}"}


# -- what is asked


def planned(start: str, end: str, instruments=(BTC, INVERSE), now=NOW) -> list[Series]:
    return list(BYBIT.plan(Window(utc(start), utc(end)), list(instruments), now))


def test_histories_reach_back_to_the_launch_and_the_ratio_to_its_first_day():
    found = {(series.endpoint, series.instrument): series.window for series in planned("2018-01-01", "2020-08-01")}
    end = utc("2020-08-01")
    assert found["open-interest", "BTCUSDT"] == found["kline", "BTCUSDT"] == Window(utc("2020-03-15"), end)
    assert found["inverse-open-interest", "BTCUSD"] == found["funding-history", "BTCUSD"] == Window(utc("2018-11-14"), end)
    assert found["account-ratio", "BTCUSDT"] == found["account-ratio", "BTCUSD"] == Window(utc("2020-07-20"), end)
    assert ("premium-index-price-kline", "BTCUSD") not in found
    assert not [series for series in planned("2020-01-01", "2020-07-20") if series.endpoint == "account-ratio"]


def test_only_ours_are_asked_about_each_in_its_category():
    others = [
        Instrument("BTCPERP", "bybit", "BTC"),
        Instrument("BTCUSDT-25DEC26", "bybit", "BTC"),
        Instrument("XBTH", "bybit", "X", payoff="quanto"),
    ]
    series = planned("2026-07-20T10:00", "2026-07-20T12:00", [*others, BTC, INVERSE])
    assert {each.instrument for each in series} == {"BTCUSDT", "BTCUSD"}
    for each in series:
        for ask in BYBIT.asks(each):
            assert dict(ask.params)["category"] == ("linear" if each.instrument == "BTCUSDT" else "inverse")
            assert dict(ask.params)["symbol"] == each.instrument
    assert {each.endpoint for each in series} == set(ENDPOINTS) - {"instruments-info"}
    assert "tickers" not in {one.endpoint for one in planned("2026-07-20T08:00", "2026-07-20T10:00")}


@given(st.integers(0, 50_000), st.integers(1, 3000), st.sampled_from(HISTORIES))
@settings(max_examples=80)
def test_a8_pages_hold_every_stamp_once_and_never_the_running_bar(offset, length, endpoint):
    start = utc("2020-09-01") + offset * HOUR
    options = (("category", "linear"),) if endpoint == "account-ratio" else ()
    series = Series("bybit", endpoint, "BTCUSDT", Window(start, start + length * HOUR), HOUR, options)
    bars = "kline" in endpoint
    labels = []
    for ask in BYBIT.asks(series):
        params = dict(ask.params)
        first, last = ("start", "end") if bars else ("startTime", "endTime")
        page = range(int(params[first]), int(params[last]) + 1, 3_600_000)
        assert len(page) == int(params["limit"]) <= {"account-ratio": 500}.get(endpoint, 1000 if bars else 200)
        labels += page
    assert [from_ms(label) + (HOUR if bars else timedelta(0)) for label in labels] == series.expected()


def test_c5_settlements_are_asked_for_by_their_end_too():
    series = Series("bybit", "funding-history", "BTCUSDT", Window(utc("2024-01-01"), utc("2026-01-01")), None, (("category", "linear"),))
    asks = list(BYBIT.asks(series))
    assert len(asks) in (13, 14)
    for ask in asks:
        assert {"startTime", "endTime"} <= set(dict(ask.params))


def answered(ask: Ask, stamps, cursor=None, **fields) -> Answer:
    name = "fundingRateTimestamp" if ask.series.endpoint == "funding-history" else "timestamp"
    listed = [{"symbol": "BTCUSDT", **fields, name: str(stamp)} for stamp in stamps]
    return Answer(200, wrapped({"category": "linear", "list": listed, "nextPageCursor": cursor}), NOW, JSON)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 70))
@settings(max_examples=30)
def test_c5_settlements_at_any_interval_come_complete(hours, days):
    """A server that gives the newest 200 of a range, as the venue does: nothing is lost at shorter intervals, nothing is asked twice."""
    window = Window(utc("2026-01-03"), utc("2026-01-03") + timedelta(days=days))
    series = Series("bybit", "funding-history", "BTCUSDT", window, None, (("category", "linear"),))
    width = hours * 3_600_000
    found = []
    for first in BYBIT.asks(series):
        ask: Ask | None = first
        while ask is not None:
            start, end = (int(dict(ask.params)[name]) for name in ("startTime", "endTime"))
            page = [at * width for at in range(end // width, -(-start // width) - 1, -1)][:200]
            found += page
            ask = BYBIT.follow(ask, answered(ask, page, fundingRate="0.0001"))
    assert sorted(found) == [to_ms(at) for at in window.grid(timedelta(hours=hours))]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("endpoint", ["open-interest", "account-ratio"])
def test_a_page_that_ends_before_its_start_is_followed_by_its_cursor(endpoint):
    window = Window(utc("2026-07-19"), utc("2026-07-20"))
    ask = next(iter(BYBIT.asks(Series("bybit", endpoint, "BTCUSDT", window, HOUR, (("category", "linear"),)))))
    fields = {"buyRatio": "0.5", "sellRatio": "0.5"} if endpoint == "account-ratio" else {"openInterest": "1"}
    stamps = [to_ms(at) for at in reversed(window.grid(HOUR))]
    short = BYBIT.follow(ask, answered(ask, stamps[:10], "last%3D9", **fields))
    assert dict(short.params) == {**dict(ask.params), "cursor": "last%3D9"}
    assert "cursor=last%253D9" in short.target, "the cursor is a text like any other: encoded once more on its way"
    assert BYBIT.follow(ask, answered(ask, stamps, "last%3D9", **fields)) is None, "the whole page came"
    assert BYBIT.follow(ask, answered(ask, stamps[:10], "", **fields)) is None
    assert BYBIT.follow(ask, answered(ask, [], "last%3D9", **fields)) is None
    assert BYBIT.follow(short, answered(short, stamps[10:20], "last%3D9", **fields)) is None, "the same word again leads nowhere"


def test_a_listing_is_followed_to_its_end():
    payload = one("bybit", "instruments-info.json")
    onward = BYBIT.follow(payload.ask, payload.answer)
    assert dict(onward.params)["cursor"] == "first%3D1000PEPEUSDT%26last%3DSHIB1000USDT"
    last = json.loads(payload.answer.body)
    last["result"]["nextPageCursor"] = ""
    assert BYBIT.follow(onward, replace(payload.answer, body=json.dumps(last).encode())) is None


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_nothing_follows_an_answer_nobody_can_read(endpoint):
    ask = one("bybit", f"{endpoint}.json").ask
    for body in (b"{", b"<html>", wrapped({}), wrapped({}, 10001, "Symbol Invalid"), wrapped({"list": [{"timestamp": "9" * 5000}]})):
        assert BYBIT.follow(ask, Answer(200, body, NOW, JSON)) is None


def test_an_unknown_endpoint_is_our_mistake():
    series = Series("bybit", "taker-flow", "BTCUSDT", Window(utc("2026-01-01"), utc("2026-01-02")))
    with pytest.raises(ValueError, match="taker-flow"):
        list(BYBIT.asks(series))
    with pytest.raises(ValueError, match="taker-flow"):
        BYBIT.decode(Ask(series, "api", "/"), Answer(200, b"{}", NOW))


def test_there_is_no_taker_flow_and_there_are_no_liquidations_by_rest():
    filled = {*BYBIT.endpoints.values(), *(table for tables in BYBIT.also.values() for table in tables)}
    assert not filled & {"taker_flow", "liquidations"}


# -- errors


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("code", sorted(PASSING))
def test_errors_that_pass_come_with_http_200_and_are_waited_for(endpoint, code):
    ask = one("bybit", f"{endpoint}.json").ask
    verdict = BYBIT.classify(ask, Answer(200, wrapped({}, code, "Too many visits."), NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("retry", "HTTP_EXHAUSTED")
    assert f"{code} Too many visits." in verdict.detail


@pytest.mark.parametrize(
    ("text", "wait"), [(str(to_ms(NOW) + 3500), 3.5), (str(to_ms(NOW) - 9), 0.1), ("9" * 13, 60.0), ("soon", 1.0), ("9" * 40, 1.0)]
)
def test_we_wait_until_the_limit_is_lifted(text, wait):
    ask = one("bybit", "tickers.json").ask
    answer = Answer(200, wrapped({}, 10006, "Too many visits."), NOW, JSON | {"X-Bapi-Limit-Reset-Timestamp": text})
    assert BYBIT.classify(ask, answer).wait == pytest.approx(wait)


@pytest.mark.parametrize(("code", "reason"), [(10001, "VENUE_ERROR"), (10009, "HTTP_BANNED"), (10024, "HTTP_BLOCKED"), (-1, "VENUE_ERROR")])
def test_other_errors_are_named_in_the_venues_words(code, reason):
    ask = one("bybit", "open-interest.json").ask
    body = wrapped({}, code, "params error: Symbol Invalid")
    verdict = BYBIT.classify(ask, Answer(200, body, NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", reason)
    assert f"{code} params error: Symbol Invalid" in verdict.detail
    with pytest.raises(Unreadable) as caught:
        BYBIT.decode(ask, Answer(200, body, NOW))
    assert caught.value.reject.reason_code == "VENUE_ERROR"


CLOUDFRONT = (
    b"<!DOCTYPE HTML><HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY><H1>403 ERROR</H1></BODY></HTML>"
)


def test_g1_a_403_is_a_refused_country_but_for_one_that_says_we_were_too_fast():
    ask = one("bybit", "tickers.json").ask
    blocked = BYBIT.classify(ask, Answer(403, CLOUDFRONT, NOW, {"Content-Type": "text/html"}))
    banned = BYBIT.classify(ask, Answer(403, b"403, Access too frequent", NOW, {"Content-Type": "text/plain"}))
    assert (blocked.verb, blocked.reason_code) == ("reject", "HTTP_BLOCKED")
    assert (banned.verb, banned.reason_code) == ("reject", "HTTP_BANNED")

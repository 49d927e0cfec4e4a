"""What OKX is asked, by which contracts, and what its errors mean."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one, payloads
from tests.unit.okx_answers import DAY, INVERSE, JSON, LINEAR, NOW, OKX, decode, planned, reasons, table
from transforms import conventions
from transforms.instruments import tradable
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.sources.okx import PASSING, RUBIK, TOO_FAST
from transforms.sources.okx_rows import swap
from transforms.windows import HOUR, Window, from_ms, utc

# -- the listing


def test_the_listing_says_what_a_contract_is():
    held = {row["instrument"]: row for row in table(decode("instruments"))}
    linear, inverse, pepe = held["BTC-USDT-SWAP"], held["BTC-USD-SWAP"], held["PEPE-USDT-SWAP"]
    assert (linear["payoff"], linear["contract_size"], linear["contract_unit"], linear["margin_asset"]) == ("linear", 0.01, "base", "USDT")
    assert (inverse["payoff"], inverse["contract_size"], inverse["contract_unit"], inverse["margin_asset"]) == (
        "inverse",
        100.0,
        "usd",
        "BTC",
    )
    assert (pepe["asset"], pepe["contract_size"]) == ("PEPE", 1e7), "ctVal x ctMult"
    assert linear["as_of"] == utc("2026-05-20T12:00:03")
    assert linear["funding_interval_h"] is None


def test_e5_contracts_that_do_not_trade_stay_with_their_state_and_are_not_asked_about():
    decoded = decode("instruments")
    held = {row["instrument"]: row for row in table(decoded)}
    assert (held["OLD-USDT-SWAP"]["instrument_status"], held["OLD-USDT-SWAP"]["delivery_at"]) == ("suspend", utc("2026-05-21T08:00"))
    assert (held["NEW-USDT-SWAP"]["instrument_status"], held["NEW-USDT-SWAP"]["listed_at"]) == ("preopen", None)
    asked = tradable(decoded.tables["instruments"], OKX.listing)
    assert [one.instrument for one in asked] == ["BTC-USD-SWAP", "BTC-USDT-SWAP", "PEPE-USDT-SWAP"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ctValCcy": "USDT"}, "CONVENTION"),
        ({"ctType": "quanto"}, "CONVENTION"),
        ({"instId": "BTC-USD_UM-SWAP"}, "CONVENTION"),
        ({"instId": "100000BTC-USDT-SWAP"}, "CONVENTION"),
        ({"ctVal": ""}, "VALUE"),
        ({"ctMult": "0"}, "VALUE"),
        ({"listTime": "soon"}, "VALUE"),
    ],
)
def test_a_contract_outside_the_convention_is_not_listed(change, reason):
    decoded = decode("instruments", lambda data: data[1].update(change))
    assert reasons(decoded) == [reason]
    assert len(table(decoded)) == 5


@pytest.mark.parametrize(
    "name", ["BTC-USDT", "BTCUSDT", "BTC-EUR-SWAP", "BTC-USD-260626", "-USDT-SWAP", "btc-USDT-SWAP", "BTC-USDT-SWAP\n"]
)
def test_a_name_of_another_form_is_no_swap(name):
    with pytest.raises(LookupError):
        swap(name)


# -- windows and pages


@given(st.integers(0, 20_000), st.integers(1, 3_000), st.sampled_from([*RUBIK, "history-candles"]))
@settings(max_examples=80)
def test_pages_leave_their_ends_out_and_hold_every_hour_once(offset, length, endpoint):
    start = utc("2024-04-01") + offset * HOUR
    series = Series("okx", endpoint, "BTC-USDT-SWAP", Window(start, start + length * HOUR), HOUR)
    labels = []
    for ask in OKX.asks(series):
        params = dict(ask.params)
        newer, older = (int(params[name]) for name in (("before", "after") if endpoint == "history-candles" else ("begin", "end")))
        page = range(newer + 1, older, 3_600_000)
        assert len(page) <= int(params["limit"]) == 100
        assert page[-1] == older - 1
        labels += page
    assert [from_ms(label) + HOUR for label in labels] == series.expected()


def test_a9_memory_is_declared_and_older_windows_are_not_planned():
    long_ago = planned(Window(utc("2025-01-01"), utc("2025-02-01")))
    assert {series.endpoint for series in long_ago} == {"history-candles"}
    for series in planned(Window(utc("2025-01-01"), utc("2026-05-28"))):
        if series.endpoint in (*RUBIK, "funding-rate-history", "liquidation-orders"):
            depth = conventions.span("okx", series.endpoint, "history_depth", NOW)
            assert NOW - depth < series.window.start <= NOW - depth + 2 * HOUR
            assert series.window.start.minute == 0


def test_d11_forced_orders_are_asked_of_the_last_day_only():
    def asked(window):
        return {series.endpoint for series in planned(window)} & {"liquidation-orders"}

    assert asked(Window(NOW - timedelta(hours=2), NOW))
    assert not asked(Window(NOW - timedelta(days=3), NOW - timedelta(days=1)))


@pytest.mark.parametrize(("end", "asked"), [("2026-05-28T10:00", True), ("2026-05-28T08:20", True), ("2026-05-28T08:00", False)])
def test_snapshots_are_asked_for_only_about_now(end, asked):
    found = {series.endpoint for series in planned(Window(utc("2026-05-28T07:00"), utc(end)))}
    assert (found >= {"open-interest", "funding-rate", "mark-price"}) is asked


def test_only_linear_usdt_and_inverse_usd_swaps_are_asked_about():
    others = [
        Instrument("ETH-USDC-SWAP", "okx", "ETH"),
        Instrument("BTCUSDT", "binance", "BTC"),
        replace(LINEAR, payoff="inverse"),
        replace(INVERSE, payoff="linear"),
        Instrument("BTC-USDT-260626", "okx", "BTC"),
    ]
    assert planned(instruments=others) == []
    assert {series.instrument for series in planned(instruments=[*others, LINEAR, INVERSE])} == {"BTC-USDT-SWAP", "BTC-USD-SWAP"}


def test_a_contract_is_not_asked_about_before_it_was_listed():
    young = replace(LINEAR, listed_at=utc("2026-05-27T06:30"))
    series = next(one for one in planned(instruments=[young]) if one.endpoint == "history-candles")
    assert series.expected()[0] == utc("2026-05-27T07:00")
    assert planned(instruments=[replace(LINEAR, listed_at=NOW)], window=Window(utc("2026-05-20"), utc("2026-05-21"))) == []


def test_series_carry_the_terms_of_their_contract():
    held = {series.instrument: dict(series.options) for series in planned()}
    assert held["BTC-USDT-SWAP"] == {"payoff": "linear", "contract_size": "0.01"}
    assert held["BTC-USD-SWAP"] == {"payoff": "inverse", "contract_size": "100.0"}


def test_an_unknown_endpoint_is_our_mistake():
    series = Series("okx", "tickers", "BTC-USDT-SWAP", DAY)
    with pytest.raises(ValueError, match="tickers"):
        list(OKX.asks(series))
    with pytest.raises(ValueError, match="tickers"):
        OKX.decode(Ask(series, "api", "/"), Answer(200, b"{}", NOW))


# -- errors


def error(code: str) -> bytes:
    return json.dumps({"code": code, "data": [], "msg": "said so"}).encode()


@pytest.mark.parametrize("status", [200, 400, 429, 500, 503])
@pytest.mark.parametrize("code", sorted(PASSING))
def test_errors_that_pass_are_waited_for_whatever_their_status(code, status):
    ask = one("okx", "open-interest.json").ask
    verdict = OKX.classify(ask, Answer(status, error(code), NOW, JSON))
    assert (verdict.verb, verdict.reason_code, verdict.wait) == ("retry", "HTTP_EXHAUSTED", TOO_FAST.get(code))
    assert f"{code} said so" in verdict.detail
    assert OKX.classify(ask, Answer(429, error(code), NOW, JSON | {"Retry-After": "7"})).wait == 7.0


@pytest.mark.parametrize("code", ["51001", "51000", "50014", "1"])
@pytest.mark.parametrize("status", [200, 400, 404])
def test_other_errors_are_named_in_the_venues_words(code, status):
    ask = one("okx", "open-interest.json").ask
    verdict = OKX.classify(ask, Answer(status, error(code), NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")
    assert f"{code} said so" in verdict.detail
    with pytest.raises(Unreadable) as caught:
        OKX.decode(ask, Answer(200, error(code), NOW))
    assert (caught.value.reject.reason_code, caught.value.reject.detail) == ("VENUE_ERROR", f"{code} said so")


def test_an_empty_list_is_an_answer():
    for payload in payloads():
        if payload.source == "okx":
            decoded = OKX.decode(payload.ask, replace(payload.answer, body=b'{"code":"0","msg":"","data":[]}'))
            assert (decoded.rows, list(decoded.notes)) == (0, [])

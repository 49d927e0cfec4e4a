"""Coinalyze: batches, weights, units, and daily bars that may have holes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.roster import source
from transforms.sources.coinalyze import BARS
from transforms.sources.contract import Answer, Ask, Decoded, Instrument, Series
from transforms.windows import DAY, Window, utc

COINALYZE = source("coinalyze")
NOW = utc("2024-01-01T09:30")
START = int(utc("2022-05-09").timestamp())
WINDOW = Window(utc("2022-05-09"), utc("2022-05-12"))


def contracts(count: int) -> list[Instrument]:
    return [Instrument(f"C{n:03}USDT_PERP.A", "binance", f"C{n:03}") for n in range(count)]


def decode(endpoint: str, bars: list[dict], symbol: str = "BTCUSDT_PERP.A", asked: str = "", window: Window = WINDOW) -> Decoded:
    (ask,) = COINALYZE.asks(Series("coinalyze", endpoint, asked or symbol, window, DAY))
    body = json.dumps([{"symbol": symbol, "history": bars}]).encode()
    return COINALYZE.decode(ask, Answer(200, body, NOW, {"Content-Type": "application/json"}))


def reasons(decoded: Decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


# -- what it asks


@given(st.integers(1, 130))
@settings(max_examples=20, deadline=None)
def test_every_contract_is_asked_once_per_endpoint_and_costs_one_call(count):
    asked: dict[str, list[str]] = {endpoint: [] for endpoint in BARS}
    weight = 0.0
    for series in COINALYZE.plan(WINDOW, contracts(count), NOW):
        (ask,) = COINALYZE.asks(series)
        assert len(series.instruments) <= 20
        assert ask.weight == len(series.instruments)
        assert dict(ask.params)["symbols"] == series.instrument
        asked[series.endpoint] += series.instruments
        weight += ask.weight
    assert all(names == sorted(one.instrument for one in contracts(count)) for names in asked.values())
    assert weight == count * len(BARS)


def test_a_request_names_bar_starts_and_no_conversion():
    (ask,) = COINALYZE.asks(Series("coinalyze", "open-interest-history", "BTCUSDT_PERP.A", WINDOW, DAY))
    params = dict(ask.params)
    assert (int(params["from"]), int(params["to"])) == (START, START + 2 * 86_400)
    assert params["convert_to_usd"] == "false"
    assert (params["interval"], ask.path) == ("daily", "/v1/open-interest-history")


def test_long_spans_are_cut_below_what_an_answer_can_hold():
    series = list(COINALYZE.plan(Window(utc("2019-01-01"), utc("2023-12-05")), contracts(1), NOW))
    days = [len(one.expected()) for one in series if one.endpoint == "ohlcv-history"]
    assert max(days) <= 1000
    assert sum(days) == (utc("2023-12-05") - utc("2019-01-01")) // DAY


def test_the_running_day_is_not_asked_for():
    last = max(series.window.end for series in COINALYZE.plan(Window(utc("2023-12-30"), utc("2024-02-01")), contracts(1), NOW))
    (ask,) = COINALYZE.asks(Series("coinalyze", "ohlcv-history", "C000USDT_PERP.A", Window(utc("2023-12-30"), last), DAY))
    assert int(dict(ask.params)["to"]) == int(utc("2023-12-31").timestamp())
    assert list(COINALYZE.plan(Window(utc("2024-01-01"), utc("2024-02-01")), contracts(1), NOW)) == []


# -- what it reads


def test_catalogue_keeps_binance_usdt_perpetuals():
    payload = one("coinalyze", "future-markets.json")
    rows = COINALYZE.decode(payload.ask, payload.answer).tables["instruments"].to_pylist()
    assert [(row["instrument"], row["asset"], row["base_asset"], row["base_multiplier"]) for row in rows] == [
        ("BTCUSDT_PERP.A", "BTC", "BTC", 1.0),
        ("1000SHIBUSDT_PERP.A", "SHIB", "1000SHIB", 1000.0),
    ]
    assert {(row["venue"], row["contract_type"], row["listed_at"]) for row in rows} == {("binance", "PERPETUAL", None)}


def test_amounts_in_another_unit_than_declared_are_put_aside():
    payload = one("coinalyze", "future-markets.json")
    markets = json.loads(payload.answer.body)
    markets[0]["oi_lq_vol_denominated_in"] = "QUOTE_ASSET"
    decoded = COINALYZE.decode(payload.ask, replace(payload.answer, body=json.dumps(markets).encode()))
    assert reasons(decoded) == ["CONVENTION"]


def test_bars_are_known_after_their_day():
    row = decode("open-interest-history", [{"t": START, "o": None, "h": None, "l": None, "c": 5.5}]).tables["open_interest"].to_pylist()[0]
    assert row["as_of"] == utc("2022-05-10")
    assert row["known_at"] == utc("2022-05-10T00:05")
    assert (row["native_unit"], row["oi_sides"], row["open_interest_usd"]) == ("base", 1, None)


def test_amounts_and_prices_refer_to_one_coin():
    symbol = "1000SHIBUSDT_PERP.A"
    interest = decode("open-interest-history", [{"t": START, "c": 4.05e10}], symbol).tables["open_interest"].to_pylist()[0]
    candle = decode("ohlcv-history", [{"t": START, "c": 0.017, "v": 9e10, "bv": 4e10}], symbol).tables["candles"].to_pylist()[0]
    assert (interest["asset"], interest["open_interest_native"], interest["open_interest_base"]) == ("SHIB", 4.05e10, 4.05e13)
    assert candle["close_usd"] == 0.017 / 1000
    assert (candle["volume_base"], candle["taker_buy_base"], candle["open_usd"], candle["trades"]) == (9e13, 4e13, None, None)
    # the dollar value is the same whichever way it is counted
    assert candle["close_usd"] * interest["open_interest_base"] == pytest.approx(0.017 * 4.05e10, rel=1e-12)


def test_funding_is_a_fraction_and_states_an_interval_only_where_declared():
    window = Window(utc("2023-09-26"), utc("2023-10-01"))
    first = int(window.start.timestamp())
    bars = [{"t": first + n * 86_400, "c": 0.01} for n in range(5)]
    sol = decode("funding-rate-history", bars, "SOLUSDT_PERP.A", window=window).tables["funding"]
    btc = decode("funding-rate-history", bars, "BTCUSDT_PERP.A", window=window).tables["funding"]
    assert sol["funding_rate"].to_pylist() == [0.0001] * 5
    assert sol["funding_interval_h"].to_pylist() == [8.0, 8.0, None, None, None]
    assert btc["funding_interval_h"].to_pylist() == [8.0] * 5


@given(st.floats(0.01, 100))
def test_shares_follow_from_the_ratio_or_from_the_percentages(ratio):
    long = 100 * ratio / (1 + ratio)
    bare = decode("long-short-ratio-history", [{"t": START, "r": ratio, "l": None, "s": None}])
    full = decode("long-short-ratio-history", [{"t": START, "r": ratio, "l": long, "s": 100 - long}])
    parts = decode("long-short-ratio-history", [{"t": START, "r": None, "l": long, "s": 100 - long}])
    assert bare.tables["long_short"].equals(full.tables["long_short"])
    rows = [decoded.tables["long_short"].to_pylist()[0] for decoded in (bare, parts)]
    assert rows[0]["long_share"] == pytest.approx(rows[1]["long_share"], abs=1e-12)
    assert all(row["long_share"] + row["short_share"] == pytest.approx(1.0, abs=1e-12) for row in rows)
    assert rows[0]["ratio_metric"] == "global_account"


@pytest.mark.parametrize(
    ("bar", "reason"),
    [
        ({"r": None, "l": None, "s": None}, "VALUE"),
        ({"r": None, "l": 60.0, "s": None}, "VALUE"),
        ({"r": -1.0}, "VALUE"),
        ({"r": 1.5, "l": 0.6, "s": 0.4}, "CONVENTION"),  # shares where percent is declared
        ({"r": 1.5, "l": 40.0, "s": 60.0}, "CONVENTION"),  # sides swapped
    ],
)
def test_a_split_outside_its_convention_is_put_aside(bar, reason):
    decoded = decode("long-short-ratio-history", [{"t": START, **bar}, {"t": START + 86_400, "r": 2.0}])
    assert reasons(decoded) == [reason]
    assert decoded.tables["long_short"].num_rows == 1


def test_liquidations_are_a_lower_bound_by_side_of_the_position():
    row = decode("liquidation-history", [{"t": START, "l": 812.5, "s": 0}]).tables["liquidations"].to_pylist()[0]
    assert (row["long_liquidated_base"], row["short_liquidated_base"]) == (812.5, 0.0)
    assert (row["completeness"], row["interval_h"]) == ("floor", 24.0)


@pytest.mark.parametrize(
    ("endpoint", "bar", "reason"),
    [
        ("open-interest-history", {"t": START, "c": 0}, "ZERO_OPEN_INTEREST"),
        ("open-interest-history", {"t": START, "c": -1}, "VALUE"),
        ("open-interest-history", {"t": START, "c": None}, "SHAPE"),
        ("funding-rate-history", {"t": START, "c": 90.0}, "VALUE"),
        ("ohlcv-history", {"t": START, "c": 0, "v": 1}, "VALUE"),
        ("ohlcv-history", {"t": START, "c": 1, "v": 1, "l": -1}, "VALUE"),
        ("ohlcv-history", {"t": START, "c": 1, "v": 1, "tx": 2**63}, "SHAPE"),
        ("ohlcv-history", {"t": START, "c": 1, "v": 1, "tx": 10**400}, "SHAPE"),
        ("liquidation-history", {"t": START, "l": 1}, "SHAPE"),
        ("open-interest-history", {"t": START + 3600, "c": 1}, "STAMP"),
        ("open-interest-history", {"t": START + 86_400 * 30, "c": 1}, "STAMP"),
        ("open-interest-history", {"t": -1, "c": 1}, "SHAPE"),
    ],
)
def test_one_bad_bar_is_put_aside_and_the_others_stay(endpoint, bar, reason):
    good = {"t": START + 86_400, "c": 1.0, "v": 1.0, "l": 1.0, "s": 1.0}
    fields = {"liquidation-history": ("t", "l", "s"), "ohlcv-history": ("t", "c", "v")}.get(endpoint, ("t", "c"))
    decoded = decode(endpoint, [bar, {name: good[name] for name in fields}])
    assert reasons(decoded) == [reason]
    assert decoded.rows == 2
    if reason == "SHAPE":
        assert "$[0].history[0]" in decoded.rejects[0].detail


def test_a_symbol_that_nobody_asked_for_is_put_aside():
    decoded = decode("open-interest-history", [{"t": START, "c": 1}], "ETHUSDT_PERP.A", asked="BTCUSDT_PERP.A")
    assert reasons(decoded) == ["CONVENTION"]


def test_the_same_day_of_two_symbols_is_no_contradiction_but_two_values_of_one_are():
    two = "BTCUSDT_PERP.A,ETHUSDT_PERP.A"
    (ask,) = COINALYZE.asks(Series("coinalyze", "open-interest-history", two, WINDOW, DAY))
    histories = [{"symbol": name, "history": [{"t": START, "c": n + 1.0}]} for n, name in enumerate(two.split(","))]
    fine = COINALYZE.decode(ask, Answer(200, json.dumps(histories).encode(), NOW))
    assert (fine.rows, reasons(fine)) == (2, [])
    histories[0]["history"].append({"t": START, "c": 7.0})
    assert reasons(COINALYZE.decode(ask, Answer(200, json.dumps(histories).encode(), NOW))) == ["DUPLICATE_KEY"] * 2


# -- its status lines


def ask() -> Ask:
    return one("coinalyze", "ohlcv-history.json").ask


@pytest.mark.parametrize(("header", "wait"), [("27", 27.0), ("27.341", 27.341), ("", None), ("soon", None), ("inf", None)])
def test_retry_after_may_have_decimals(header, wait):
    verdict = COINALYZE.classify(ask(), Answer(429, b"", NOW, {"Retry-After": header}))
    assert (verdict.verb, verdict.wait) == ("retry", wait)


def test_a_missing_key_says_what_to_do():
    verdict = COINALYZE.classify(ask(), Answer(401, b'{"message":"Invalid/Missing API key"}', NOW))
    assert verdict.verb == "reject"
    assert "COINALYZE_API_KEY" in verdict.detail


def test_an_error_body_is_named():
    verdict = COINALYZE.classify(ask(), Answer(400, b'{"message":"Invalid interval"}', NOW))
    assert (verdict.reason_code, "Invalid interval" in verdict.detail) == ("VENUE_ERROR", True)


@pytest.mark.recordings
def test_recorded_days_go_in_and_come_out(recordings):
    """The recorded daily set, put on the wire of open interest, decodes to itself."""
    import pandas as pd

    held = pd.read_parquet(recordings / "series" / "coinalyze_daily.parquet").query("symbol in ('BTCUSDT_PERP.A', '1000SHIBUSDT_PERP.A')")
    window = Window(utc("2022-01-01"), utc("2023-12-06"))
    for symbol, part in held.groupby("symbol"):
        starts = (pd.to_datetime(part["date"], utc=True) - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
        bars = [{"t": int(t), "c": float(c)} for t, c in zip(starts, part["open_interest_base"], strict=True)]
        decoded = decode("open-interest-history", bars, str(symbol), window=window)
        assert not decoded.rejects
        assert decoded.tables["open_interest"]["open_interest_native"].to_pylist() == part["open_interest_base"].to_list()
        assert decoded.tables["open_interest"]["as_of"].to_pylist()[0] == utc(str(part["date"].iloc[0])) + timedelta(days=1)

"""Kraken Futures: relative rates, coins and dollars kept apart, columns that become rows, and errors that come with HTTP 200."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.sources.kraken_futures import (
    ANALYTICS,
    CANDLES,
    FLOW,
    FUNDING,
    HEADS,
    INSTRUMENTS,
    INTEREST,
    INTEREST_INVERSE,
    INVERSE,
    LINEAR,
    TICKERS,
    TICKERS_INVERSE,
    TOP,
)
from transforms.sources.kraken_futures_rows import kraken_asset
from transforms.windows import HOUR, Window, from_ms, utc

KRAKEN = source("kraken_futures")
NOW = utc("2026-05-28T10:20")
JSON = {"Content-Type": "application/json"}
PF, PI = (Instrument(f"{kind}_XBTUSD", "kraken_futures", "BTC", quote_asset="USD") for kind in ("PF", "PI"))
HOURS = [utc(f"2026-05-20T{hour:02d}:00") for hour in (9, 10, 11)]


def decode(endpoint: str, change=lambda tree: None, **answered):
    """The payload after `change(tree)`, decoded."""
    payload = one("kraken_futures", f"{endpoint}.json")
    tree = json.loads(payload.answer.body)
    change(tree)
    return KRAKEN.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode(), **answered))


def reasons(decoded) -> list[tuple[str, str]]:
    return [(reject.target, reject.reason_code) for reject in decoded.rejects]


def rows(endpoint: str, table: str, change=lambda tree: None) -> list[dict]:
    return decode(endpoint, change).tables[table].to_pylist()


# -- funding


def test_c6_the_relative_rate_is_read_and_the_absolute_one_never():
    found = rows(FUNDING, "funding")
    assert [row["funding_rate"] for row in found] == [0.000011, 0.0000130211, -0.00000306]
    assert {(row["funding_kind"], row["funding_interval_h"]) for row in found} == {("settlement", 1.0)}

    def another(tree):
        for row in tree["rates"]:
            row["fundingRate"] = 77.7

    assert rows(FUNDING, "funding", another) == found
    missing = decode(FUNDING, lambda tree: tree["rates"][3].pop("relativeFundingRate"))
    assert reasons(missing) == [("funding", "SHAPE")]
    assert {table for endpoint in KRAKEN.endpoints for table in KRAKEN.also.get(endpoint, ())} == {"marks"}, "tickers give no funding"


def test_a_rate_is_known_when_its_hour_is_over_and_history_outside_the_window_is_passed_over():
    decoded = decode(FUNDING)
    assert decoded.tables["funding"]["as_of"].to_pylist() == HOURS
    assert decoded.rejects == []
    half = decode(FUNDING, lambda tree: tree["rates"][3].update(timestamp="2026-05-20T09:30:00.000Z"))
    assert reasons(half) == [("funding", "STAMP")]
    assert reasons(decode(FUNDING, lambda tree: tree["rates"][3].update(timestamp="2026-05-20T09:00:00"))) == [("funding", "SHAPE")]


def test_rates_as_texts_are_the_same_rates():
    def texts(tree):
        for row in tree["rates"]:
            row.update({name: format(row[name], ".18f") for name in ("fundingRate", "relativeFundingRate")})

    assert rows(FUNDING, "funding", texts) == rows(FUNDING, "funding")


# -- amounts


def test_a4_linear_contracts_are_coins_and_inverse_ones_dollars():
    linear, inverse = rows(INTEREST, "open_interest")[-1], rows(INTEREST_INVERSE, "open_interest")[-1]
    assert (linear["open_interest_base"], linear["open_interest_usd"], linear["native_unit"]) == (2188.312, None, "base")
    assert (inverse["open_interest_base"], inverse["open_interest_usd"], inverse["native_unit"]) == (None, 21090110.0, "usd")
    assert {linear["oi_sides"], inverse["oi_sides"]} == {1}


def test_the_state_now_agrees_with_the_history_of_each_kind():
    for now, history, amount in ((TICKERS, INTEREST, "open_interest_base"), (TICKERS_INVERSE, INTEREST_INVERSE, "open_interest_usd")):
        snapshot = {row["instrument"]: row for row in rows(now, "open_interest")}
        last = rows(history, "open_interest")[-1]
        assert snapshot[last["instrument"]][amount] == pytest.approx(last[amount], rel=0.01)
        assert {row["as_of"] for row in snapshot.values()} == {utc("2026-05-20T12:00:02.410")}


def test_a_snapshot_holds_what_was_asked_for_and_nothing_else():
    assert [row["instrument"] for row in rows(TICKERS, "marks")] == ["PF_XBTUSD", "PF_ETHUSD"]
    assert [row["instrument"] for row in rows(TICKERS_INVERSE, "marks")] == ["PI_XBTUSD", "PI_ETHUSD"]
    row = rows(TICKERS, "marks")[0]
    assert (row["mark_usd"], row["index_usd"], row["asset"]) == (108056.4, 108049.7, "BTC")


def test_a10_a_snapshot_is_never_later_than_our_asking():
    early = utc("2026-05-20T12:00:01")
    for file, name in ((TICKERS, "marks"), (TICKERS, "open_interest"), (INSTRUMENTS, "instruments")):
        assert set(decode(file, fetched_at=early).tables[name]["as_of"].to_pylist()) == {early}


@pytest.mark.parametrize(("field", "table"), [("openInterest", "open_interest"), ("markPrice", "marks"), ("indexPrice", "marks")])
def test_what_a_contract_lacks_is_missing_and_the_rest_stays(field, table):
    decoded = decode(TICKERS, lambda tree: tree["tickers"][0].pop(field))
    assert reasons(decoded) == [(table, "MISSING")]
    assert {name: found.num_rows for name, found in decoded.tables.items()} == {"open_interest": 2, "marks": 2} | {table: 1}


def test_a11_no_open_interest_is_put_aside():
    assert reasons(decode(TICKERS, lambda tree: tree["tickers"][1].update(openInterest=0))) == [("open_interest", "ZERO_OPEN_INTEREST")]
    zero = decode(INTEREST, lambda tree: tree["result"]["data"].__setitem__(1, ["0", "0", "0", "0"]))
    assert reasons(zero) == [("open_interest", "ZERO_OPEN_INTEREST")]


def test_bars_and_taker_volumes_are_in_coins():
    row = rows(CANDLES, "candles")[0]
    assert (row["as_of"], row["open_usd"], row["close_usd"], row["volume_base"]) == (HOURS[0], 108151.0, 108212.0, 110.1211)
    flows = rows(FLOW, "taker_flow")
    assert [(row["taker_buy_base"], row["taker_sell_base"]) for row in flows] == [(61.2211, 48.9), (40.105, 92.3301), (55.75, 51.002)]
    volumes = [candle["volume_base"] for candle in rows(CANDLES, "candles")]
    assert [row["taker_buy_base"] + row["taker_sell_base"] for row in flows] == pytest.approx(volumes, rel=1e-3), "both count coins"


# -- positioning


def test_e1_heads_of_all_and_of_the_largest_are_two_metrics():
    everybody, largest = rows(HEADS, "long_short")[0], rows(TOP, "long_short")[0]
    assert (everybody["ratio_metric"], largest["ratio_metric"]) == ("global_account", "top_account")
    assert everybody["long_share"] == pytest.approx(3610 / (3610 + 1844))
    assert largest["long_share"] == pytest.approx(671 / (671 + 420))
    assert everybody["long_share"] == pytest.approx(0.6619, abs=1e-4), "longPercent says the same"
    assert everybody["long_share"] + everybody["short_share"] == pytest.approx(1.0)


def test_e1_what_the_venue_calls_ratio_is_not_read():
    """It is a share of longs in one answer, and nobody says what it is in `long-short-ratio`, which is not asked for."""
    changed = rows(HEADS, "long_short", lambda tree: tree["result"]["data"].update(ratio=[9.9, 9.9, 9.9]))
    assert changed == rows(HEADS, "long_short")
    assert not {"long-short-ratio", "liquidation-volume", "future-basis"} & set(ANALYTICS.values())


def test_nobody_holding_anything_has_no_share():
    def nobody(tree):
        tree["result"]["data"]["longCount"][1] = tree["result"]["data"]["shortCount"][1] = 0

    assert reasons(decode(HEADS, nobody)) == [("long_short", "VALUE")]


# -- columns


@pytest.mark.parametrize("endpoint", ANALYTICS)
def test_a_bucket_that_is_wrong_is_put_aside_alone(endpoint):
    def spoil(tree):
        tree["result"]["timestamp"][1] = "soon"

    decoded = decode(endpoint, spoil)
    assert {code for _, code in reasons(decoded)} == {"SHAPE"}
    assert "$.result[1]" in decoded.rejects[0].detail
    (table,) = decoded.tables.values()
    assert table["as_of"].to_pylist() == [HOURS[0], HOURS[2]]


@pytest.mark.parametrize("endpoint", ANALYTICS)
def test_columns_of_different_lengths_are_not_guessed_together(endpoint):
    with pytest.raises(Unreadable) as caught:
        decode(endpoint, lambda tree: tree["result"]["timestamp"].pop(0))
    assert (caught.value.reject.reason_code, "different lengths" in caught.value.reject.detail) == ("SHAPE", True)


def test_columns_are_read_in_either_spelling():
    def camel(tree):
        data = tree["result"]["data"]
        data.update(buyVolume=data.pop("buy_volume"), sellVolume=[str(value) for value in data.pop("sell_volume")])

    assert rows(FLOW, "taker_flow", camel) == rows(FLOW, "taker_flow")
    unknown = decode(FLOW, lambda tree: tree["result"]["data"].update(newColumn=[1, 2, 3]))
    assert unknown.tables["taker_flow"].num_rows == 3
    assert "new_column" in unknown.notes[0]


def test_the_groups_of_traders_must_hold_the_one_that_is_read():
    with pytest.raises(Unreadable) as caught:
        decode(TOP, lambda tree: tree["result"]["data"].update(top5Percent=tree["result"]["data"].pop("top20Percent")))
    assert (caught.value.reject.reason_code, "top20Percent" in caught.value.reject.detail) == ("SHAPE", True)


def test_an_empty_page_is_an_answer():
    for endpoint, data in ((INTEREST, []), (FLOW, {"buy_volume": [], "sell_volume": [], "cvd": []})):
        assert decode(endpoint, lambda tree, data=data: tree.update(result={"timestamp": [], "data": data, "more": False})).rows == 0


def test_the_running_bucket_is_no_row():
    def running(tree):
        tree["result"]["timestamp"].append(tree["result"]["timestamp"][-1] + 3600)
        tree["result"]["data"].append(tree["result"]["data"][-1])

    assert reasons(decode(INTEREST, running)) == [("open_interest", "STAMP")]


# -- the listing


def test_the_listing_tells_kinds_apart_and_only_perpetuals_are_asked_about():
    table = decode(INSTRUMENTS).tables["instruments"]
    found = {row["instrument"]: row for row in table.to_pylist()}
    assert list(found) == ["PF_XBTUSD", "PF_PEPEUSD", "PI_XBTUSD", "FI_XBTUSD_260626"], "an index is no contract"
    assert {(row["payoff"], row["contract_unit"], row["margin_asset"]) for name, row in found.items() if name[1] == "I"} == {
        ("inverse", "usd", "BTC")
    }
    linear = found["PF_XBTUSD"]
    assert (linear["payoff"], linear["contract_unit"], linear["asset"], linear["base_asset"]) == ("linear", "base", "BTC", "XBT")
    assert (linear["funding_interval_h"], linear["listed_at"], linear["delivery_at"]) == (1.0, utc("2022-03-22"), None)
    dated = found["FI_XBTUSD_260626"]
    assert (dated["delivery_at"], dated["funding_interval_h"]) == (utc("2026-06-26T15:00"), None)
    assert found["PF_PEPEUSD"]["instrument_status"] == "not tradeable"
    assert [one.instrument for one in tradable(table, KRAKEN.listing)] == ["PF_XBTUSD", "PI_XBTUSD"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "futures_vanilla"}, "CONVENTION"),
        ({"symbol": "PF_XBTEUR"}, "CONVENTION"),
        ({"base": "ETH"}, "CONVENTION"),
        ({"contractSize": None}, "MISSING"),
        ({"contractSize": 0}, "VALUE"),
        ({"tradeable": "yes"}, "SHAPE"),
    ],
)
def test_a_contract_that_is_otherwise_is_put_aside_alone(change, reason):
    decoded = decode(INSTRUMENTS, lambda tree: tree["instruments"][0].update(change))
    assert reasons(decoded) == [("instruments", reason)]
    assert decoded.tables["instruments"].num_rows == 3


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [("PF_XBTUSD", ("BTC", 1.0)), ("PI_ETHUSD", ("ETH", 1.0)), ("PF_AAPLxUSD", ("AAPLx", 1.0)), ("PF_1000SATSUSD", ("SATS", 1e3))],
)
def test_e5_xbt_is_btc(symbol, expected):
    assert kraken_asset(symbol) == expected


@pytest.mark.parametrize("symbol", ["XBTUSD", "PF_XBTEUR", "PF_USD", "PF_XBTUSD_260626", "FI_XBTUSD", "in_xbtusd", "pf_xbtusd", ""])
def test_e5_other_spellings_are_not_guessed(symbol):
    with pytest.raises(LookupError):
        kraken_asset(symbol)


# -- what is asked


def planned(start: str, end: str, instruments=(PF, PI), now=NOW) -> list[Series]:
    return list(KRAKEN.plan(Window(utc(start), utc(end)), list(instruments), now))


def test_inverse_contracts_are_asked_about_what_needs_no_price_of_ours():
    found = planned("2026-05-01", "2026-05-02")
    assert {one.endpoint for one in found if one.instrument == "PF_XBTUSD"} == set(LINEAR)
    assert {one.endpoint for one in found if one.instrument == "PI_XBTUSD"} == set(INVERSE)
    assert not {CANDLES, FLOW, INTEREST} & set(INVERSE)


def test_states_are_asked_once_for_all_and_only_about_now():
    found = {one.endpoint: one.instrument for one in planned("2026-05-28T09:00", "2026-05-28T10:00") if one.step is None}
    assert found == {TICKERS: "PF_XBTUSD", TICKERS_INVERSE: "PI_XBTUSD"}
    assert [one for one in planned("2026-05-28T07:00", "2026-05-28T08:00") if one.step is None] == []
    assert [one.endpoint for one in planned("2026-05-28T09:00", "2026-05-28T10:00", [PF]) if one.step is None] == [TICKERS]


def test_history_begins_where_it_is_confirmed():
    starts = {one.endpoint: one.window.start for one in planned("2018-01-01", "2026-07-01", [PF]) if one.step}
    assert starts == {
        CANDLES: utc("2018-01-01"),
        FUNDING: utc("2023-01-01"),
        **dict.fromkeys(set(LINEAR) & set(ANALYTICS), utc("2023-02-16")),
    }
    young = replace(PF, listed_at=utc("2026-05-01"))
    assert {one.window.start for one in planned("2018-01-01", "2026-05-02", [young])} == {utc("2026-05-01")}


@given(st.integers(0, 40_000), st.integers(1, 6000), st.sampled_from([CANDLES, *ANALYTICS]))
@settings(max_examples=60)
def test_pages_hold_every_bucket_once_and_never_the_running_one(offset, length, endpoint):
    start = utc("2021-04-01") + offset * HOUR
    series = Series("kraken_futures", endpoint, "PF_XBTUSD", Window(start, start + length * HOUR), HOUR)
    labels = []
    for ask in KRAKEN.asks(series):
        params = dict(ask.params)
        page = range(int(params.get("since") or params["from"]), int(params["to"]) + 1, 3600)
        assert len(page) <= 1000
        assert from_ms(1000 * int(params["to"])) < series.window.end
        labels += page
    assert [from_ms(1000 * label) + HOUR for label in labels] == series.expected()


@pytest.mark.parametrize("endpoint", [CANDLES, *ANALYTICS])
def test_a_venue_that_stops_short_is_followed_after_its_last_bucket(endpoint):
    payload = one("kraken_futures", f"{endpoint}.json")
    name = "from" if endpoint == CANDLES else "since"
    wider = tuple((key, str(int(value) + 7200) if key == "to" else value) for key, value in payload.ask.params)
    ask = replace(payload.ask, params=wider)
    tree = json.loads(payload.answer.body)
    if endpoint == CANDLES:
        tree["more_candles"] = True
    else:
        tree["result"]["more"] = True
    short = replace(payload.answer, body=json.dumps(tree).encode())
    onward = KRAKEN.follow(ask, short)
    assert int(dict(onward.params)[name]) == int(HOURS[-1].timestamp())
    assert {key: value for key, value in onward.params if key != name} == {key: value for key, value in wider if key != name}
    assert KRAKEN.follow(onward, short) is None, "the same page again leads nowhere"
    assert KRAKEN.follow(payload.ask, short) is None, "the page is full"
    assert KRAKEN.follow(ask, payload.answer) is None, "there is no more"
    assert KRAKEN.follow(ask, replace(short, body=short.body[:-9])) is None


def test_other_answers_are_not_followed():
    for endpoint in (INSTRUMENTS, TICKERS, FUNDING):
        payload = one("kraken_futures", f"{endpoint}.json")
        assert KRAKEN.follow(payload.ask, payload.answer) is None


def test_an_unknown_endpoint_is_our_mistake():
    series = Series("kraken_futures", "long-short-ratio", "PF_XBTUSD", Window(utc("2026-01-01"), utc("2026-01-02")))
    with pytest.raises(ValueError, match="long-short-ratio"):
        list(KRAKEN.asks(series))
    with pytest.raises(ValueError, match="long-short-ratio"):
        KRAKEN.decode(Ask(series, "api", "/"), Answer(200, b"{}", NOW))


# -- errors

TRADING = b'{"result":"error","error":"notFound","serverTime":"2026-05-20T12:00:00.000Z"}'
RATES = b'{"status":"BAD_REQUEST","result":"error","errors":[{"code":11,"message":"Argument invalid: symbol"}]}'
CHARTS = b'{"result":null,"errors":[{"severity":"E","error_class":"General","type":"Invalid arguments","msg":null,"value":"61","field":"interval"}]}'


@pytest.mark.parametrize("status", [200, 400, 404])
@pytest.mark.parametrize(
    ("endpoint", "body", "words"),
    [
        (TICKERS, TRADING, "notFound"),
        (FUNDING, RATES, "11 Argument invalid: symbol"),
        (INTEREST, CHARTS, "General Invalid arguments interval 61"),
        (CANDLES, CHARTS, "General Invalid arguments interval 61"),
        (FUNDING, b'{"result":"error"}', "error without a word"),
    ],
)
def test_errors_are_seen_whatever_their_status(status, endpoint, body, words):
    payload = one("kraken_futures", f"{endpoint}.json")
    verdict = KRAKEN.classify(payload.ask, Answer(status, body, NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")
    assert words in verdict.detail
    with pytest.raises(Unreadable) as caught:
        KRAKEN.decode(payload.ask, Answer(200, body, NOW, JSON))
    assert (caught.value.reject.reason_code, caught.value.reject.detail) == ("VENUE_ERROR", words)


@pytest.mark.parametrize("word", ["apiLimitExceeded", "Unavailable", "Server Error"])
def test_errors_that_pass_are_waited_for(word):
    ask = one("kraken_futures", f"{TICKERS}.json").ask
    verdict = KRAKEN.classify(ask, Answer(200, json.dumps({"result": "error", "error": word}).encode(), NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("retry", "HTTP_EXHAUSTED")
    told = KRAKEN.classify(ask, Answer(429, b'{"result":"error","error":"other"}', NOW, JSON | {"Retry-After": "4"}))
    assert (told.verb, told.wait) == ("retry", 4.0)


def test_an_error_beside_rows_outweighs_them_and_a_warning_does_not():
    problem = json.loads(CHARTS)["errors"][0]
    with pytest.raises(Unreadable) as caught:
        decode(INTEREST, lambda tree: tree["errors"].append(problem))
    assert caught.value.reject.reason_code == "VENUE_ERROR"
    warned = decode(INTEREST, lambda tree: tree["errors"].append({**problem, "severity": "W"}))
    assert warned.tables["open_interest"].num_rows == 3
    assert warned.notes == ["the venue warns: General Invalid arguments interval 61"]


@pytest.mark.parametrize(("status", "reason"), [(403, "HTTP_BLOCKED"), (451, "HTTP_BLOCKED"), (418, "HTTP_BANNED")])
def test_a_refusal_of_the_place_outweighs_its_words(status, reason):
    ask = one("kraken_futures", f"{TICKERS}.json").ask
    assert KRAKEN.classify(ask, Answer(status, TRADING, NOW, JSON)).reason_code == reason


# -- recordings


@pytest.mark.recordings
def test_recorded_and_written_answers_of_a_client_library_decode_whole(recordings):
    """Captures and hand-made examples stand side by side there: shapes only."""
    folder = recordings / "payloads" / "mixed" / "kraken"

    def read(file, endpoint, instrument, start, end, step=None, said=()):
        at = utc(end)
        series = Series("kraken_futures", endpoint, instrument, Window(utc(start), at), step)
        body = (folder / f"http_futures_{file}.json").read_bytes()
        decoded = KRAKEN.decode(Ask(series, "api", "/"), Answer(200, body, at + timedelta(seconds=2), JSON))
        assert ({reject.reason_code for reject in decoded.rejects}, decoded.notes) == (set(said), []), file
        return decoded

    bars = read("candles_trade", CANDLES, "PF_XBTUSD", "2024-11-16T00:00", "2024-11-16T03:00", HOUR).tables["candles"]
    assert bars["close_usd"].to_pylist() == [91045.5, 91415.0, 91490.5]
    listed = read("instruments", INSTRUMENTS, "", "2025-11-17T00:00", "2025-11-17T01:00").tables["instruments"]
    assert {"PI_XBTUSD", "PF_ETHUSD", "PF_PEPEUSD"} <= set(listed["instrument"].to_pylist())
    assert {one.instrument for one in tradable(listed, KRAKEN.listing, ["BTC", "ETH"])} == {"PI_XBTUSD", "PF_ETHUSD"}
    states = read("tickers", TICKERS_INVERSE, "PI_XBTUSD", "2025-11-17T00:00", "2025-11-17T01:00").tables
    assert states["open_interest"]["open_interest_usd"].to_pylist() == [21279580.0]
    # the library's authors wrote these by hand, 8 h apart: of the declared shape, and no rates an hour
    rates = read("historical_funding_rates", FUNDING, "PF_XBTUSD", "2025-07-10T00:00", "2025-07-12T00:00", said=["CONVENTION"])
    assert (len(rates.rejects), rates.tables["funding"].num_rows) == (3, 0)

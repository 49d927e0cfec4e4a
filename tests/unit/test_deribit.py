"""Deribit: chains that are of one instant, pages of DVOL, and the venue's own errors. Names of options: test_deribit_names.py."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.reading import to_us
from transforms.roster import source
from transforms.sources.contract import Answer, Ask, Series, Unreadable
from transforms.sources.deribit import CHAIN, CURRENCIES, DVOL, PASSING
from transforms.sources.deribit_futures import FUNDING
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

DERIBIT = source("deribit")
NOW = utc("2026-05-28T10:20")
JSON = {"Content-Type": "application/json"}
PAYLOADS = {CHAIN: f"{CHAIN}.json", DVOL: f"{DVOL}.json"}


def decode(endpoint: str, change=lambda tree: None, **answered):
    """The payload after `change(tree)`, decoded."""
    payload = one("deribit", PAYLOADS[endpoint])
    tree = json.loads(payload.answer.body)
    change(tree)
    return DERIBIT.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode(), **answered))


def refused(endpoint: str, change):
    with pytest.raises(Unreadable) as caught:
        decode(endpoint, change)
    return caught.value.reject


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


# -- chains


def test_a_row_says_what_the_venue_said_in_our_units():
    row = decode(CHAIN).tables["option_chain"].to_pylist()[2]
    assert (row["instrument"], row["asset"], row["venue"]) == ("BTC-5JUN26-90000-P", "BTC", "deribit")
    assert (row["expiry_at"], row["strike_usd"], row["option_type"], row["settlement"]) == (utc("2026-06-05T08:00"), 90000.0, "put", "coin")
    assert (row["open_interest_base"], row["volume_24h_base"]) == (640.0, 4.1)
    assert row["mark_iv"] == pytest.approx(0.5285, rel=1e-15)
    assert (row["underlying_usd"], row["index_usd"]) == (108210.17, 107933.4)


def test_all_rows_of_an_answer_are_of_the_instant_it_was_sent():
    table = decode(CHAIN).tables["option_chain"]
    assert set(table["as_of"].to_pylist()) == {utc("2026-05-20T12:00:02.113807")}
    assert set(table["known_at"].to_pylist()) == {utc("2026-05-20T12:01:02.113807")}


def test_a_snapshot_is_never_later_than_our_asking():
    table = decode(CHAIN, fetched_at=utc("2026-05-20T12:00:01")).tables["option_chain"]
    assert set(table["as_of"].to_pylist()) == {utc("2026-05-20T12:00:01")}


def test_options_without_holders_or_trades_are_rows_too():
    def empty(tree):
        tree["result"][0] |= {"open_interest": 0.0, "volume": 0.0, "mark_iv": 0.0}

    decoded = decode(CHAIN, empty)
    assert not decoded.rejects
    assert decoded.tables["option_chain"].num_rows == 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mark_iv", -1.0),
        ("mark_iv", 2000.1),
        ("open_interest", -0.1),
        ("volume", -0.1),
        ("underlying_price", 0.0),
        ("estimated_delivery_price", 0.0),
        ("estimated_delivery_price", -5.0),
    ],
)
def test_what_cannot_be_is_put_aside_alone(field, value):
    def spoil(tree):
        tree["result"][1][field] = value

    decoded = decode(CHAIN, spoil)
    assert reasons(decoded) == ["VALUE"]
    assert decoded.tables["option_chain"].num_rows == 5


@pytest.mark.parametrize("field", ["mark_iv", "open_interest", "volume", "underlying_price", "estimated_delivery_price"])
def test_a_number_that_is_null_or_missing_rejects_its_row(field):
    for spoil in (lambda tree: tree["result"][1].update({field: None}), lambda tree: tree["result"][1].pop(field)):
        decoded = decode(CHAIN, spoil)
        assert reasons(decoded) == ["SHAPE"]
        assert field in decoded.rejects[0].detail
        assert "$.result[1]" in decoded.rejects[0].detail


@pytest.mark.parametrize("seconds", [-61, 61, -86_400])
def test_a_row_of_another_instant_is_no_part_of_the_snapshot(seconds):
    def old(tree):
        tree["result"][3]["creation_timestamp"] += 1000 * seconds

    assert reasons(decode(CHAIN, old)) == ["STAMP"]


def test_an_expired_option_is_put_aside():
    def expired(tree):
        tree["result"][0]["instrument_name"] = "BTC-20MAY26-108000-C"

    decoded = decode(CHAIN, expired)
    assert reasons(decoded) == ["STAMP"]
    assert "expired" in decoded.rejects[0].detail


@pytest.mark.parametrize(
    ("name", "base"), [("ETH-26JUN26-80000-C", "ETH"), ("BTC_USDC-26JUN26-80000-C", "BTC"), ("BTC-26JUN26-80000-C", "ETH")]
)
def test_an_option_that_was_not_asked_for_is_put_aside(name, base):
    def other(tree):
        tree["result"][0] |= {"instrument_name": name, "base_currency": base}

    assert reasons(decode(CHAIN, other)) == ["CONVENTION"]


def test_linear_options_are_listed_under_their_stablecoin():
    payload = one("deribit", PAYLOADS[CHAIN])
    tree = json.loads(payload.answer.body)
    names = ["BTC_USDC-30APR27-77500-P", "XRP_USDC-30APR27-0d55-C"]
    tree["result"] = [
        {**tree["result"][0], "instrument_name": name, "base_currency": name.split("_")[0], "quote_currency": "USDC"} for name in names
    ]
    ask = replace(payload.ask, series=replace(payload.ask.series, instrument="USDC"))
    decoded = DERIBIT.decode(ask, replace(payload.answer, body=json.dumps(tree).encode()))
    assert not decoded.rejects
    rows = decoded.tables["option_chain"].to_pylist()
    assert [(row["asset"], row["settlement"], row["strike_usd"]) for row in rows] == [("BTC", "usd", 77500.0), ("XRP", "usd", 0.55)]


def test_two_values_for_one_option_are_both_put_aside_and_a_repetition_stays():
    assert decode(CHAIN, lambda tree: tree["result"].append(tree["result"][0])).tables["option_chain"].num_rows == 7

    def contradict(tree):
        tree["result"].append({**tree["result"][0], "open_interest": 1.0})

    decoded = decode(CHAIN, contradict)
    assert reasons(decoded) == ["DUPLICATE_KEY", "DUPLICATE_KEY"]
    assert decoded.tables["option_chain"].num_rows == 5


@pytest.mark.parametrize("sent", [0, to_us(utc("2026-05-20T11:00"))])
def test_a_chain_out_of_a_cache_is_put_aside(sent):
    """Rows and envelope of one instant, and that instant long gone: known then, it would be a look into the future."""

    def old(tree):
        tree["usOut"] = sent
        for row in tree["result"]:
            row["creation_timestamp"] = sent // 1000

    decoded = decode(CHAIN, old)
    assert decoded.tables["option_chain"].num_rows == 0
    assert set(reasons(decoded)) == {"STAMP"}


def test_an_empty_chain_is_missed_and_no_silent_hour_without_options():
    decoded = decode(CHAIN, lambda tree: tree.update(result=[]))
    assert (decoded.tables["option_chain"].num_rows, reasons(decoded)) == (0, ["MISSING"])


# -- the volatility index


def test_dvol_is_a_fraction_at_the_end_of_its_bar():
    rows = decode(DVOL).tables["volatility_index"].to_pylist()
    assert [row["as_of"] for row in rows] == [utc(f"2026-05-20T{hour:02d}:00") for hour in (9, 10, 11)]
    assert [row["implied_volatility"] for row in rows] == pytest.approx([0.4138, 0.4086, 0.4295], rel=1e-15)
    assert {(row["instrument"], row["asset"], row["interval_h"]) for row in rows} == {("ETH-DVOL", "ETH", 1.0)}


def test_the_bar_that_still_runs_is_no_row():
    def running(tree):
        tree["result"]["data"].append([to_ms(utc("2026-05-20T11:00")), 42.95, 43.0, 42.0, 42.5])

    decoded = decode(DVOL, running)
    assert reasons(decoded) == ["STAMP"]
    assert decoded.tables["volatility_index"].num_rows == 3


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [(0, 60_000, "STAMP"), (2, -5.0, "VALUE"), (3, 5.0, "VALUE"), (4, 50.0, "VALUE"), (4, 4200.0, "VALUE"), (4, -4200.0, "VALUE")],
)
def test_a_bar_that_contradicts_itself_is_put_aside(place, value, reason):
    def spoil(tree):
        tree["result"]["data"][1][place] += value

    decoded = decode(DVOL, spoil)
    assert reasons(decoded) == [reason]
    assert decoded.tables["volatility_index"].num_rows == 2


@given(st.integers(0, 40_000), st.integers(1, 6000))
@settings(max_examples=60)
def test_pages_hold_every_bar_once_and_never_the_running_one(offset, length):
    start = utc("2021-04-01") + offset * HOUR
    series = Series("deribit", DVOL, "BTC-DVOL", Window(start, start + length * HOUR), HOUR)
    labels = []
    for ask in DERIBIT.asks(series):
        params = dict(ask.params)
        page = range(int(params["start_timestamp"]), int(params["end_timestamp"]) + 1, 3_600_000)
        assert len(page) <= 1000
        assert int(params["end_timestamp"]) < to_ms(series.window.end)
        assert (params["currency"], params["resolution"]) == ("BTC", "3600")
        labels += page
    assert [from_ms(label) + HOUR for label in labels] == series.expected()


def paged(continuation) -> tuple[Ask, Answer]:
    payload = one("deribit", PAYLOADS[DVOL])
    tree = json.loads(payload.answer.body)
    tree["result"]["continuation"] = continuation
    return payload.ask, replace(payload.answer, body=json.dumps(tree).encode())


def test_a_venue_that_serves_less_than_asked_is_followed_backwards_in_time():
    ask, answer = paged(to_ms(utc("2026-05-20T09:00")))
    onward = DERIBIT.follow(ask, answer)
    assert dict(onward.params)["end_timestamp"] == str(to_ms(utc("2026-05-20T09:00")))
    assert dict(onward.params)["start_timestamp"] == dict(ask.params)["start_timestamp"]
    assert DERIBIT.follow(onward, answer) is None, "the same word again leads nowhere"


@pytest.mark.parametrize("continuation", [None, 0, to_ms(utc("2026-05-20T07:59")), to_ms(utc("2026-05-20T11:00")), 2**60])
def test_what_leads_out_of_the_page_is_not_followed(continuation):
    assert DERIBIT.follow(*paged(continuation)) is None


def test_nothing_follows_a_chain_or_an_answer_nobody_can_read():
    payload = one("deribit", PAYLOADS[CHAIN])
    assert DERIBIT.follow(payload.ask, payload.answer) is None
    ask, answer = paged(0)
    assert DERIBIT.follow(ask, replace(answer, body=b"{")) is None


# -- what is asked


def planned(start: str, end: str, now=NOW) -> list[Series]:
    return list(DERIBIT.plan(Window(utc(start), utc(end)), [], now))


@pytest.mark.parametrize(("end", "asked"), [("2026-05-28T10:00", True), ("2026-05-28T08:30", True), ("2026-05-28T08:00", False)])
def test_chains_are_asked_for_only_about_now(end, asked):
    chains = [series for series in planned("2026-05-28T07:00", end) if series.endpoint == CHAIN]
    assert [series.instrument for series in chains] == (list(CURRENCIES) if asked else [])
    for series in chains:
        (ask,) = DERIBIT.asks(series)
        assert ask.target == f"/public/{CHAIN}?currency={series.instrument}&kind=option"


def test_history_is_of_the_index_and_of_funding_from_their_first_months_on_and_up_to_now():
    assert {series.endpoint for series in planned("2026-01-01", "2026-02-01")} == {DVOL, FUNDING}
    assert planned("2018-01-01", "2019-05-01") == []
    assert {series.endpoint for series in planned("2020-01-01", "2021-03-01")} == {FUNDING}
    whole = planned("2020-01-01", "2026-07-01")
    assert {series.window for series in whole if series.endpoint == DVOL} == {Window(utc("2021-03-01"), NOW)}
    assert [series.instrument for series in whole if series.endpoint in (CHAIN, DVOL)] == ["BTC-DVOL", "ETH-DVOL", "BTC", "ETH"]


def test_thirteen_months_of_hours_are_ten_pages_and_within_the_budget():
    asks = list(DERIBIT.asks(Series("deribit", DVOL, "BTC-DVOL", Window(utc("2025-04-01"), utc("2026-05-01")), HOUR)))
    assert len(asks) in (10, 11)
    assert {(ask.budget, ask.weight) for ask in asks} == {("default", 1.0)}
    assert DERIBIT.budgets["default"].weight / DERIBIT.budgets["default"].per <= 20 / 4


@pytest.mark.parametrize("instrument", ["BTC", "SOL-DVOL", "-DVOL", ""])
def test_an_index_that_does_not_exist_is_our_mistake(instrument):
    with pytest.raises(ValueError, match="DVOL"):
        list(DERIBIT.asks(Series("deribit", DVOL, instrument, Window(utc("2026-01-01"), utc("2026-01-02")), HOUR)))


def test_an_unknown_endpoint_is_our_mistake():
    series = Series("deribit", "ticker", "BTC", Window(utc("2026-01-01"), utc("2026-01-02")))
    with pytest.raises(ValueError, match="ticker"):
        list(DERIBIT.asks(series))
    with pytest.raises(ValueError, match="ticker"):
        DERIBIT.decode(Ask(series, "api", "/"), Answer(200, b"{}", NOW))


# -- envelopes and errors


def error(code: int, message: str = "said", data=None) -> bytes:
    what = {"message": message, "code": code} | ({} if data is None else {"data": data})
    return json.dumps({"jsonrpc": "2.0", "error": what, "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False}).encode()


@pytest.mark.parametrize("endpoint", [CHAIN, DVOL])
def test_play_money_is_refused_wherever_it_turns_up(endpoint):
    payload = one("deribit", PAYLOADS[endpoint])
    body = payload.answer.body.replace(b'"testnet": false', b'"testnet": true')
    verdict = DERIBIT.classify(payload.ask, replace(payload.answer, body=body))
    assert (verdict.verb, verdict.reason_code) == ("reject", "CONVENTION")
    with pytest.raises(Unreadable) as caught:
        DERIBIT.decode(payload.ask, replace(payload.answer, body=body))
    assert (caught.value.reject.reason_code, "test network" in caught.value.reject.detail) == ("CONVENTION", True)


@pytest.mark.parametrize("field", ["testnet", "usOut", "result"])
def test_an_envelope_without_its_word_is_not_opened(field):
    reject = refused(CHAIN, lambda tree: tree.pop(field))
    assert reject.reason_code == "SHAPE"
    assert field in reject.detail


@pytest.mark.parametrize("status", [200, 400, 404, 429, 500])
@pytest.mark.parametrize("code", sorted(PASSING))
def test_errors_that_pass_are_waited_for_whatever_their_status(code, status):
    ask = one("deribit", PAYLOADS[CHAIN]).ask
    verdict = DERIBIT.classify(ask, Answer(status, error(code, "too_many_requests"), NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("retry", "HTTP_EXHAUSTED")
    assert str(code) in verdict.detail
    assert verdict.wait == (1.0 if code in (10028, 10066) else None)
    told = DERIBIT.classify(ask, Answer(429, error(code), NOW, JSON | {"Retry-After": "7"}))
    assert told.wait == 7.0


@pytest.mark.parametrize(("code", "message"), [(-32602, "Invalid params"), (11029, "invalid_arguments"), (13020, "not_found")])
@pytest.mark.parametrize("status", [200, 400, 404])
def test_other_errors_are_named_in_the_venues_words(code, message, status):
    ask = one("deribit", PAYLOADS[DVOL]).ask
    body = error(code, message, {"reason": "invalid currency", "param": "currency"})
    verdict = DERIBIT.classify(ask, Answer(status, body, NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")
    assert f'{code} {message} {{"reason": "invalid currency", "param": "currency"}}' in verdict.detail
    with pytest.raises(Unreadable) as caught:
        DERIBIT.decode(ask, Answer(200, body, NOW))
    assert caught.value.reject.reason_code == "VENUE_ERROR"


@pytest.mark.parametrize(("status", "reason"), [(403, "HTTP_BLOCKED"), (451, "HTTP_BLOCKED"), (418, "HTTP_BANNED")])
def test_a_refusal_of_the_place_outweighs_its_words(status, reason):
    ask = one("deribit", PAYLOADS[CHAIN]).ask
    assert DERIBIT.classify(ask, Answer(status, error(10028), NOW, JSON)).reason_code == reason


# -- recordings of the venue itself


@pytest.mark.recordings
def test_recorded_chains_decode_whole(recordings):
    """The recorders left the envelope's stamps out; what is in `result` is as the venue sent it."""
    folder = recordings / "payloads" / "recorded" / "deribit"
    found = {}
    for file in ("deribit_book_summary_btc_option.json", "BTC_option_instruments_20250615_055819.json"):
        held = json.loads((folder / file).read_text())
        result = held["result"] if isinstance(held, dict) else held
        newest = max(row["creation_timestamp"] for row in result)
        assert newest - min(row["creation_timestamp"] for row in result) < 10, "the rows of an answer are made at once"
        sent = newest * 1000 + 417
        body = json.dumps({"jsonrpc": "2.0", "result": result, "usIn": sent - 900, "usOut": sent, "usDiff": 900, "testnet": False})
        at = from_ms(newest)
        series = Series("deribit", CHAIN, "BTC", Window(at - HOUR, at))
        decoded = DERIBIT.decode(Ask(series, "api", f"/public/{CHAIN}"), Answer(200, body.encode(), at + timedelta(seconds=2), JSON))
        assert not decoded.rejects
        assert not decoded.notes
        table = decoded.tables["option_chain"]
        assert len(set(table["as_of"].to_pylist())) == 1
        index = set(table["index_usd"].to_pylist())
        assert len(index) == 1, "one index for all options, whatever their expiry"
        found[file] = (table.num_rows, table.to_pylist())
    assert [rows for rows, _ in found.values()] == [5, 746]
    row = next(row for row in found["deribit_book_summary_btc_option.json"][1] if row["instrument"] == "BTC-23MAY26-68000-P")
    assert (row["open_interest_base"], row["index_usd"], row["underlying_usd"]) == (15.2, 76736.07, 76736.07)
    assert row["mark_iv"] == pytest.approx(0.59)

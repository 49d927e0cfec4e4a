"""Bitget: pages that no range can ask for, splits of thirty hours, envelopes with errors, contracts by the thousand."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms import conventions
from transforms.conventions import entries, find
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.bitget import ACCOUNTS, CANDLES, CANDLES_ROWS, CONTRACTS, FUNDING, OPEN_INTEREST, POSITIONS, PRICE, QUOTE, RATIOS
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

BITGET = source("bitget")
NOW = utc("2026-05-28T10:20")
BTC = Instrument("BTCUSDT", "bitget", "BTC")
JSON = {"Content-Type": "application/json"}
HOUR_MS = 3_600_000


def wrapped(data: object, code: str = "00000", at: str = "2026-05-28T10:20:01", status: int = 200) -> Answer:
    body = {"code": code, "msg": "success" if code == "00000" else "said", "requestTime": to_ms(utc(at)), "data": data}
    return Answer(status, json.dumps(body).encode(), utc(at), JSON)


def decode(endpoint: str, change=lambda _: None):
    """The payload's data after `change(data)`, decoded."""
    payload = one("bitget", f"{endpoint}.json")
    tree = json.loads(payload.answer.body)
    change(tree["data"])
    return BITGET.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode()))


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


def planned(start: str, end: str, now=NOW, instruments=(BTC,)) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for series in BITGET.plan(Window(utc(start), utc(end)), instruments, now):
        found.setdefault(series.endpoint, []).append(series)
    return found


# -- what is asked


def test_splits_reach_back_thirty_hours_and_the_rest_to_the_listing():
    routes = planned("2026-05-01", "2026-05-28T10:00")
    for endpoint in RATIOS:
        assert [series.window for series in routes[endpoint]] == [Window(utc("2026-05-27T05:00"), utc("2026-05-28T10:00"))]
        assert len(routes[endpoint][0].expected()) < 30
    for endpoint in (CANDLES, FUNDING):
        assert [series.window for series in routes[endpoint]] == [Window(utc("2026-05-01"), utc("2026-05-28T10:00"))]
    assert set(planned("2026-05-01", "2026-05-20")) == {CANDLES, FUNDING}
    listed = replace(BTC, listed_at=utc("2026-05-20T06:30"))
    assert planned("2026-05-01", "2026-05-28", instruments=(listed,))[CANDLES][0].window.start == utc("2026-05-20T06:30")


@pytest.mark.parametrize(("end", "there"), [("2026-05-28T10:00", True), ("2026-05-28T08:30", True), ("2026-05-28T08:00", False)])
def test_snapshots_are_asked_for_only_about_now_and_only_of_this_venue(end, there):
    routes = planned("2026-05-28T07:00", end, instruments=(BTC, replace(BTC, venue="okx")))
    assert ({OPEN_INTEREST, QUOTE, PRICE} <= set(routes)) is there
    assert all(len(series) == 1 for series in routes.values())


@given(st.integers(0, 9000), st.integers(1, 2000))
@settings(max_examples=60)
def test_pages_of_bars_hold_every_hour_once_however_ends_are_counted(offset, length):
    start = utc("2025-06-01") + offset * HOUR
    series = Series("bitget", CANDLES, "BTCUSDT", Window(start, start + length * HOUR), HOUR)
    closed, half_open = [], []
    for ask in BITGET.asks(series):
        params = dict(ask.params)
        first, last = int(params["startTime"]), int(params["endTime"])
        closed += (page := list(range(first, last + 1, HOUR_MS)))
        half_open += range(first, last, HOUR_MS)
        assert 0 < len(page) <= int(params["limit"]) == CANDLES_ROWS
        assert last - first < 90 * 86_400_000
    assert closed == half_open == [to_ms(stamp) - HOUR_MS for stamp in series.expected()]


@given(st.integers(0, 400), st.integers(1, 1500), st.sampled_from([1, 2, 4, 8]), st.integers(0, 250))
@settings(max_examples=60, deadline=None)
def test_settlements_are_turned_back_to_until_the_window_is_covered(end_ago, length, hours, more):
    """No range can be asked for: pages from the newest back, until one reaches beyond the window's start. Nothing lost, nothing else kept."""
    now = utc("2026-05-28T10:20:01")
    end = utc("2026-05-28T10:00") - end_ago * HOUR
    series = Series("bitget", FUNDING, "BTCUSDT", Window(end - length * HOUR, end))
    every = [n for n in range(to_ms(now) // HOUR_MS, to_ms(series.window.start) // HOUR_MS - more, -1) if n % hours == 0]
    (ask,) = BITGET.asks(series)
    got, pages = [], 0
    while ask is not None:
        params = dict(ask.params)
        size, number = int(params["pageSize"]), int(params["pageNo"])
        rows = [
            {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingTime": str(n * HOUR_MS)}
            for n in every[(number - 1) * size : number * size]
        ]
        answer = wrapped(rows, at=now.isoformat())
        decoded = BITGET.decode(ask, answer)
        assert not decoded.rejects
        got += decoded.tables["funding"]["as_of"].to_pylist()
        ask, pages = BITGET.follow(ask, answer), pages + 1
    assert [to_ms(at) // HOUR_MS for at in got] == [
        n for n in every if to_ms(series.window.start) < n * HOUR_MS <= to_ms(series.window.end)
    ]
    assert pages <= (end_ago + length) // (100 * hours) + 2


def test_a_venue_that_serves_one_page_for_all_is_not_asked_for_ever():
    series = Series("bitget", FUNDING, "BTCUSDT", Window(utc("2026-05-01"), utc("2026-05-28")))
    rows = [
        {"symbol": "BTCUSDT", "fundingRate": "0.1", "fundingTime": str(to_ms(NOW) // HOUR_MS * HOUR_MS - n * HOUR_MS)} for n in range(100)
    ]
    (ask,) = BITGET.asks(series)
    pages = 0
    while ask is not None and pages < 100:
        ask, pages = BITGET.follow(ask, wrapped(rows)), pages + 1
    assert pages == (27 * 24 + 10) // 100 + 2


def test_what_cannot_be_read_is_not_followed():
    (ask,) = BITGET.asks(Series("bitget", FUNDING, "BTCUSDT", Window(utc("2026-05-01"), utc("2026-05-28"))))
    assert BITGET.follow(ask, wrapped(None)) is None
    assert BITGET.follow(ask, wrapped([{"symbol": "BTCUSDT"}] * 100)) is None
    assert BITGET.follow(ask, wrapped([])) is None


# -- refusals


@pytest.mark.parametrize(
    ("status", "code", "verb", "reason"),
    [
        (200, "00000", "accept", ""),
        (200, "40034", "reject", "VENUE_ERROR"),
        (400, "40034", "reject", "VENUE_ERROR"),
        (400, "400171", "reject", "VENUE_ERROR"),
        (404, "40404", "reject", "VENUE_ERROR"),
        (200, "40725", "retry", "HTTP_EXHAUSTED"),
        (400, "40010", "retry", "HTTP_EXHAUSTED"),
        (429, "429", "retry", "HTTP_EXHAUSTED"),
        (403, "40014", "reject", "HTTP_BLOCKED"),
        (500, "40015", "retry", "HTTP_EXHAUSTED"),
    ],
)
def test_an_error_is_one_whatever_its_status(status, code, verb, reason):
    (ask,) = BITGET.asks(Series("bitget", PRICE, "BTCUSDT", Window(utc("2026-05-01"), NOW)))
    verdict = BITGET.classify(ask, wrapped(None, code, status=status))
    assert (verdict.verb, verdict.reason_code) == (verb, reason)


def test_a_stored_error_is_read_as_one():
    payload = one("bitget", "open-interest.json")
    with pytest.raises(Unreadable) as caught:
        BITGET.decode(payload.ask, wrapped(None, "40034"))
    assert (caught.value.reject.reason_code, caught.value.reject.detail) == ("VENUE_ERROR", "40034 said")


# -- contracts


def test_every_status_stays_in_the_list_and_only_what_trades_is_asked_about():
    table = decode(CONTRACTS).tables["instruments"]
    words = dict(zip(table["instrument"].to_pylist(), table["instrument_status"].to_pylist(), strict=True))
    assert (words["OLDUSDT"], words["GONEUSDT"], words["NEWUSDT"]) == ("limit_open", "off", "listed")
    assert [one.instrument for one in tradable(table, BITGET.listing)] == ["1000BONKUSDT", "BTCUSDT", "ETHUSDT"]
    rows = {row["instrument"]: row for row in table.to_pylist()}
    assert (rows["1000BONKUSDT"]["asset"], rows["1000BONKUSDT"]["base_multiplier"]) == ("BONK", 1000.0)
    assert rows["1000BONKUSDT"]["listed_at"] == utc("2023-11-29T07:00")
    assert (rows["BTCUSDT"]["listed_at"], rows["BTCUSDT"]["delivery_at"]) == (None, None)
    assert rows["OLDUSDT"]["delivery_at"] == utc("2026-05-23T12:00")  # announced: offTime
    assert {row["instrument"]: row["funding_interval_h"] for row in rows.values()} == {
        "BTCUSDT": 8.0, "ETHUSDT": 8.0, "1000BONKUSDT": 4.0, "OLDUSDT": 8.0, "GONEUSDT": 8.0, "NEWUSDT": 1.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("baseCoin", "10000SATS", "CONVENTION"),
        ("baseCoin", "ETH", "CONVENTION"),
        ("symbol", "ETHUSDT_UMCBL", "CONVENTION"),
        ("fundInterval", "", "VALUE"),
        ("launchTime", "soon", "VALUE"),
        ("offTime", "x", "VALUE"),
        ("symbolStatus", 1, "SHAPE"),
    ],
)
def test_a_bad_listing_is_put_aside_alone(field, value, reason):
    decoded = decode(CONTRACTS, lambda rows: rows[0].update({field: value}))
    assert reasons(decoded) == [reason]
    assert decoded.tables["instruments"].num_rows == 5


def test_e5_prices_and_amounts_are_of_one_coin():
    (held,) = decode(OPEN_INTEREST).tables["open_interest"].to_pylist()
    assert (held["asset"], held["open_interest_native"], held["open_interest_base"]) == ("BONK", 421_905_337.0, 421_905_337_000.0)
    (mark,) = decode(PRICE).tables["marks"].to_pylist()
    assert (mark["mark_usd"], mark["index_usd"]) == (pytest.approx(1.84366e-5), pytest.approx(1.84401e-5))
    bar = decode(CANDLES).tables["candles"].to_pylist()[0]
    assert (bar["as_of"], bar["interval_h"]) == (utc("2026-05-20T09:00"), 1.0)
    assert (bar["high_usd"], bar["volume_base"]) == (pytest.approx(1.849e-5), pytest.approx(30_112_208_000.0))


# -- snapshots


def test_a1_the_sides_are_declared_and_that_nobody_states_them_too():
    (entry,) = (one for one in entries("bitget") if one.what == "oi_sides")
    assert entry.value == 1
    assert "NOT STATED" in entry.evidence
    (held,) = decode(OPEN_INTEREST).tables["open_interest"].to_pylist()
    assert (held["oi_sides"], held["native_unit"], held["open_interest_usd"]) == (1, "base", None)


def test_a10_a_snapshot_is_never_later_than_we_asked():
    def ahead(data):
        data["ts"] = str(to_ms(utc("2026-05-20T13:00")))

    payload = one("bitget", "open-interest.json")
    assert decode(OPEN_INTEREST, ahead).tables["open_interest"]["as_of"].to_pylist() == [payload.answer.fetched_at]
    assert decode(OPEN_INTEREST).tables["open_interest"]["as_of"].to_pylist() == [utc("2026-05-20T12:00:02.699")]


def test_a11_open_interest_of_zero_is_put_aside():
    decoded = decode(OPEN_INTEREST, lambda data: data["openInterestList"][0].update(size="0"))
    assert reasons(decoded) == ["ZERO_OPEN_INTEREST"]


@pytest.mark.parametrize("endpoint", [OPEN_INTEREST, PRICE, QUOTE, FUNDING])
def test_an_instrument_that_was_not_asked_for_is_put_aside(endpoint):
    def other(data):
        (data["openInterestList"] if endpoint == OPEN_INTEREST else data)[0]["symbol"] = "BTCUSDT"

    missed = set() if endpoint == FUNDING else {"MISSING"}
    assert set(reasons(decode(endpoint, other))) == {"CONVENTION"} | missed


@pytest.mark.parametrize("endpoint", [OPEN_INTEREST, PRICE, QUOTE])
def test_a_state_that_does_not_come_is_missed(endpoint):
    decoded = decode(endpoint, lambda data: (data["openInterestList"] if endpoint == OPEN_INTEREST else data).clear())
    assert {table.num_rows for table in decoded.tables.values()} == {0}
    assert reasons(decoded) == ["MISSING"]


@pytest.mark.parametrize("endpoint", [OPEN_INTEREST, PRICE, QUOTE, CONTRACTS])
@pytest.mark.parametrize("stamp", [0, to_ms(utc("2026-05-20T11:00:00"))])
def test_a_state_out_of_a_cache_is_put_aside(endpoint, stamp):
    payload = one("bitget", f"{endpoint}.json")
    tree = json.loads(payload.answer.body) | {"requestTime": stamp}
    for holder in tree["data"] if isinstance(tree["data"], list) else [tree["data"]]:
        if "ts" in holder:
            holder["ts"] = str(stamp)
    decoded = BITGET.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode()))
    assert {table.num_rows for table in decoded.tables.values()} == {0}
    assert set(reasons(decoded)) == {"STAMP"}


@pytest.mark.parametrize("endpoint", [OPEN_INTEREST, PRICE, QUOTE])
def test_a_state_is_read_by_the_conventions_of_its_own_instant(endpoint, monkeypatch):
    """The hour asked for may have begun under other conventions than those in force when the state was taken."""
    payload = one("bitget", f"{endpoint}.json")
    changed = utc("2026-05-20T12:00")
    held = [entry for entry in entries("bitget") if entry.dataset == endpoint]
    later = [
        replace(entry, since=changed, value={1: 2}.get(entry.value, entry.value)) for entry in held if entry.what in ("oi_sides", "lag")
    ]
    later = [replace(entry, value=2 * HOUR) if entry.what == "lag" else entry for entry in later]
    table = {(endpoint, entry.what): (entry, *(one for one in later if one.what == entry.what)) for entry in held}
    before = BITGET.decode(payload.ask, payload.answer)
    monkeypatch.setattr(conventions, "_of", lambda _source: table)
    after = BITGET.decode(payload.ask, payload.answer)
    for name, rows in after.tables.items():
        (old,), (new,) = before.tables[name].to_pylist(), rows.to_pylist()
        assert new["known_at"] - new["as_of"] == 2 * HOUR
        if name == "open_interest":
            assert (new["oi_sides"], new["open_interest_base"]) == (2, old["open_interest_base"] / 2)


def test_c7_the_running_rate_is_a_quote_with_its_own_interval_and_limits():
    decoded = decode(QUOTE)
    (rate,), (terms,) = (decoded.tables[name].to_pylist() for name in ("funding", "funding_terms"))
    assert (rate["funding_rate"], rate["funding_kind"], rate["funding_interval_h"]) == (0.000061, "quote", 4.0)
    assert (terms["funding_interval_h"], terms["funding_cap_rate"], terms["funding_floor_rate"]) == (4.0, 0.015, -0.015)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("nextUpdate", "1779278402000", "CONVENTION"), ("fundingRateInterval", "0", "VALUE"), ("fundingRate", "", "VALUE")],
)
def test_a_quote_that_contradicts_itself_is_put_aside(field, value, reason):
    decoded = decode(QUOTE, lambda rows: rows[0].update({field: value}))
    assert set(reasons(decoded)) == {reason}
    assert decoded.tables["funding"].num_rows == 0


# -- settled funding


@given(st.lists(st.floats(-0.01, 0.01), min_size=2, max_size=90), st.sampled_from([1, 4, 8]))
@settings(max_examples=30)
def test_c2_the_sum_of_settlements_is_the_annual_rate_times_the_time(rates, hours):
    """The rows carry no interval (C1): it is what lies between two settlements, and annualised by it they add up."""
    start = utc("2026-05-01")
    series = Series("bitget", FUNDING, "BTCUSDT", Window(start, start + len(rates) * hours * HOUR))
    stamps = [to_ms(start) + (n + 1) * hours * HOUR_MS for n in range(len(rates))]
    rows = [{"symbol": "BTCUSDT", "fundingRate": f"{rate:.12f}", "fundingTime": str(at)} for rate, at in zip(rates, stamps, strict=True)][
        ::-1
    ]
    (ask,) = BITGET.asks(series)
    table = BITGET.decode(ask, wrapped(rows)).tables["funding"].sort_by("as_of").to_pylist()
    assert {(row["funding_kind"], row["funding_interval_h"]) for row in table} == {("settlement", None)}
    (between,) = {(second["as_of"] - first["as_of"]) / HOUR for first, second in itertools.pairwise(table)}
    annual = np.mean([row["funding_rate"] * 8760.0 / between for row in table])
    assert annual * (len(rates) * between / 8760.0) == pytest.approx(sum(row["funding_rate"] for row in table), abs=1e-12)


def test_settlements_outside_the_window_are_nobody_s_and_inside_it_each_has_its_minute():
    payload = one("bitget", "history-fund-rate.json")
    assert [row["as_of"] for row in decode(FUNDING).tables["funding"].to_pylist()] == [
        utc(f"2026-05-20T{hour:02d}:00") for hour in (12, 8, 4)
    ]
    assert len(json.loads(payload.answer.body)["data"]) == 5
    decoded = decode(FUNDING, lambda rows: rows[1].update(fundingTime=str(int(rows[1]["fundingTime"]) + 17_000)))
    assert reasons(decoded) == ["STAMP"]
    assert reasons(decode(FUNDING, lambda rows: rows[4].update(fundingTime="soon"))) == ["VALUE"]


# -- splits


def test_e1_two_splits_have_two_names():
    for endpoint, metric, long in ((ACCOUNTS, "global_account", 0.5512), (POSITIONS, "top_position", 0.5107)):
        rows = decode(endpoint).tables["long_short"].to_pylist()
        assert [row["as_of"] for row in rows] == [utc(f"2026-05-20T{hour:02d}:00") for hour in (9, 10, 11, 12)]
        assert {row["ratio_metric"] for row in rows} == {metric}
        assert rows[0]["long_share"] == long
        assert rows[0]["known_at"] == rows[0]["as_of"] + timedelta(minutes=5)
    assert "NOT STATED" in find("bitget", POSITIONS, "ratio_metric", NOW).evidence


def test_the_third_field_of_a_split_is_not_read():
    """It is a hundredth of the quotient of the other two; whoever reads it as the ratio sees everybody short."""
    clean = decode(ACCOUNTS).tables["long_short"]
    assert decode(ACCOUNTS, lambda rows: rows[0].update(longShortAccountRatio="9")).tables["long_short"].equals(clean)


@pytest.mark.parametrize(("value", "reason"), [(str(1779264000000 + 60_000), "STAMP"), ("x", "VALUE")])
def test_a_split_off_the_grid_is_put_aside(value, reason):
    assert reasons(decode(POSITIONS, lambda rows: rows[2].update(ts=value))) == [reason]


def test_the_running_hour_of_a_split_is_no_row():
    decoded = decode(ACCOUNTS, lambda rows: rows.append({**rows[-1], "ts": str(int(rows[-1]["ts"]) + HOUR_MS)}))
    assert (decoded.tables["long_short"].num_rows, reasons(decoded)) == (4, [])


# -- bars


@pytest.mark.parametrize(
    ("place", "value", "reason"), [(0, "1779264060000", "STAMP"), (4, "0", "VALUE"), (5, "-1", "VALUE"), (2, 1.5, "SHAPE")]
)
def test_a_bad_bar_is_put_aside_alone(place, value, reason):
    def spoil(rows):
        rows[1][place] = value

    decoded = decode(CANDLES, spoil)
    assert reasons(decoded) == [reason]
    assert decoded.tables["candles"].num_rows == 2


# -- documents


@pytest.mark.recordings
def test_documented_rows_fit_the_shapes(recordings):
    """The answers that a client library's notes hold; what is no plain JSON there is passed over."""
    notes = (recordings / "payloads" / "documented" / "notes" / "bitget.txt").read_text()
    found: dict[str, int] = {}
    marks = {'"fundingTime"': FUNDING, '"fundingRateInterval"': QUOTE, '"openInterestList"': OPEN_INTEREST, '"longAccountRatio"': ACCOUNTS}
    for block in notes.split("\n\n"):
        text = block.strip().replace("},\n        ]", "}\n        ]")
        endpoint = next((name for mark, name in marks.items() if mark in text), None)
        if endpoint is None or not text.startswith("{") or '"code"' not in text:
            continue
        at = utc("2026-11-01") if endpoint in (FUNDING, ACCOUNTS) else from_ms(json.loads(text)["requestTime"])
        span = Window(at - HOUR, at) if endpoint in (QUOTE, OPEN_INTEREST) else Window(utc("2020-01-01"), at)
        series = Series("bitget", endpoint, "BTCUSDT", span)
        decoded = BITGET.decode(Ask(series, "api", "/"), Answer(200, text.encode(), at, JSON))
        assert (list(decoded.rejects), list(decoded.notes)) == ([], []), text
        assert decoded.rows > 0
        found[endpoint] = found.get(endpoint, 0) + 1
    assert set(found) == set(marks.values())

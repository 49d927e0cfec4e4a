"""Binance by REST: routing, pages, stamps, and the traps of its answers."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.roster import source
from transforms.sources.binance import FUTURES_DATA, QUARTER
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

BINANCE = source("binance")
NOW = utc("2026-05-28T10:20")
BTC = Instrument("BTCUSDT", "binance", "BTC")
DAY = timedelta(days=1)


def answer(rows: object, at: str = "2026-05-28T10:20:01") -> Answer:
    return Answer(200, json.dumps(rows).encode(), utc(at), {"Content-Type": "application/json"})


def decode(file: str, change) -> object:
    """The payload's rows after `change(rows)`, decoded."""
    payload = one("binance", file)
    rows = json.loads(payload.answer.body)
    change(rows)
    return BINANCE.decode(payload.ask, replace(payload.answer, body=json.dumps(rows).encode()))


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


# -- routing


def planned(start: str, end: str, now=NOW, instruments=(BTC,)) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for series in BINANCE.plan(Window(utc(start), utc(end)), instruments, now):
        found.setdefault(series.endpoint, []).append(series)
    return found


def test_what_is_older_than_thirty_days_goes_to_the_archive():
    routes = planned("2026-03-01", "2026-05-28")
    cut = utc("2026-04-28T12:00")  # now - 30 d + 1 h, up to the hour
    assert [series.window for series in routes["archiveMetrics"]] == [Window(utc("2026-03-01"), cut)]
    for endpoint in FUTURES_DATA:
        assert [series.window for series in routes[endpoint]] == [Window(cut, utc("2026-05-28"))]
        assert routes[endpoint][0].options == (("period", "15m"),)
    for endpoint in ("fundingRate", "klines", "premiumIndexKlines"):
        assert [series.window for series in routes[endpoint]] == [Window(utc("2026-03-01"), utc("2026-05-28"))]


def test_a_young_window_needs_no_archive_and_an_old_one_no_futures_data():
    assert "archiveMetrics" not in planned("2026-05-27", "2026-05-28")
    old = planned("2022-05-01", "2022-06-01")
    assert set(old) == {"fundingRate", "klines", "premiumIndexKlines", "archiveMetrics"}


@given(st.integers(0, 90 * 96), st.integers(1, 60 * 96))
@settings(max_examples=60)
def test_the_two_routes_share_a_window_without_gap_or_overlap(offset, length):
    start = utc("2026-02-20") + offset * QUARTER
    window = Window(start, min(start + length * QUARTER, utc("2026-05-28")))
    routes = planned(window.start.isoformat(), window.end.isoformat())
    parts = sorted(series.window for name in ("archiveMetrics", "openInterestHist") for series in routes.get(name, []))
    assert (parts[0].start, parts[-1].end) == (window.start, window.end)
    assert all(first.end == second.start for first, second in itertools.pairwise(parts))


def test_the_archive_is_cut_where_its_labels_changed():
    windows = [s.window for s in planned("2026-06-20", "2026-07-01", utc("2026-11-01"))["archiveMetrics"]]
    assert windows == [Window(utc("2026-06-20"), utc("2026-06-25")), Window(utc("2026-06-25"), utc("2026-07-01"))]


def test_nothing_is_asked_before_the_listing_or_before_the_archive_begins():
    listed = replace(BTC, listed_at=utc("2026-05-27T06:30"))
    assert planned("2026-05-01", "2026-05-28", instruments=(listed,))["klines"][0].window.start == utc("2026-05-27T06:30")
    assert planned("2026-05-01", "2026-05-02", instruments=(listed,)) == {}
    assert planned("2019-12-01", "2020-10-01")["archiveMetrics"][0].window.start == utc("2020-09-01")


@pytest.mark.parametrize(("end", "asked"), [("2026-05-28T10:00", True), ("2026-05-28T08:30", True), ("2026-05-28T08:00", False)])
def test_snapshots_are_asked_for_only_about_now(end, asked):
    routes = planned("2026-05-28T07:00", end)
    assert ({"openInterest", "premiumIndex", "fundingInfo"} <= set(routes)) is asked


def test_other_margins_are_passed_over():
    assert planned("2026-05-27", "2026-05-27T12:00", instruments=(Instrument("BTCUSDC", "binance", "BTC"),)) == {}


def test_the_substitute_for_a_blocked_venue_asks_the_archive_alone():
    window = Window(utc("2026-04-20"), utc("2026-05-28T10:00"))
    found = list(BINANCE.plan_blocked(window, [BTC], NOW))
    assert {(series.endpoint, series.window.end) for series in found} == {
        ("archiveMetrics", utc("2026-05-28")),
        ("archiveFundingRate", utc("2026-04-30T23:00")),  # the settlement of May's first midnight lies in May's file
    }
    assert {ask.host for series in found for ask in BINANCE.asks(series)} == {"archive"}


# -- pages


@given(st.integers(0, 2000), st.integers(1, 3000))
@settings(max_examples=60)
def test_pages_of_a_grid_hold_every_stamp_once(offset, length):
    start = utc("2026-04-01") + offset * QUARTER
    window = Window(start, start + length * QUARTER)
    series = Series("binance", "openInterestHist", "BTCUSDT", window, QUARTER, (("period", "15m"),))
    stamps = []
    for ask in BINANCE.asks(series):
        params = dict(ask.params)
        page = range(int(params["startTime"]), int(params["endTime"]) + 1, 900_000)
        assert len(page) <= int(params["limit"]) == 500
        stamps += page
    assert stamps == [to_ms(stamp) for stamp in series.expected()]


@pytest.mark.parametrize("endpoint", ["klines", "premiumIndexKlines"])
def test_kline_pages_are_stamped_at_the_open_and_weigh_by_their_rows(endpoint):
    series = Series("binance", endpoint, "BTCUSDT", Window(utc("2022-01-01"), utc("2022-01-02")), HOUR)
    (ask,) = BINANCE.asks(series)
    params = dict(ask.params)
    assert (from_ms(int(params["startTime"])), from_ms(int(params["endTime"]))) == (utc("2022-01-01"), utc("2022-01-01T23:00"))
    assert (params["limit"], ask.weight, ask.target.split("?")[0]) == ("24", 1.0, f"/fapi/v1/{endpoint}")
    whole_year = list(BINANCE.asks(replace(series, window=Window(utc("2022-01-01"), utc("2023-01-01")))))
    assert sum(int(dict(ask.params)["limit"]) for ask in whole_year) == 365 * 24
    assert max(ask.weight for ask in whole_year) == 10.0


def test_taker_pages_ask_for_the_start_of_each_bucket():
    window = Window(utc("2026-05-20"), utc("2026-05-20T01:00"))
    (ask,) = BINANCE.asks(Series("binance", "takerlongshortRatio", "BTCUSDT", window, QUARTER, (("period", "15m"),)))
    assert from_ms(int(dict(ask.params)["startTime"])) == utc("2026-05-20")
    assert from_ms(int(dict(ask.params)["endTime"])) == utc("2026-05-20T00:45")


def funding_ask(start: str, end: str) -> Ask:
    return next(iter(BINANCE.asks(Series("binance", "fundingRate", "BTCUSDT", Window(utc(start), utc(end))))))


def test_a_full_page_of_settlements_goes_on_and_ends():
    """Hourly settlements served 1000 at a time, as the venue does: all come, none twice, and it stops."""
    ask: Ask | None = funding_ask("2026-01-01", "2026-04-20")
    held = [(to_ms(utc("2026-01-01")) + n * 3_600_000 + n % 12, n) for n in range(109 * 24 + 40)]
    got: list[int] = []
    pages = 0
    while ask is not None:
        params = {name: value for name, value in ask.params if name != "symbol"}
        page = [n for at, n in held if int(params["startTime"]) <= at <= int(params["endTime"])][: int(params["limit"])]
        sent = answer([{"symbol": "BTCUSDT", "fundingTime": held[n][0], "fundingRate": "0.0001"} for n in page])
        got += BINANCE.decode(ask, sent).tables["funding"]["as_of"].to_pylist()
        ask = BINANCE.follow(ask, sent)
        pages += 1
        assert pages < 10
    assert got == [utc("2026-01-01") + n * HOUR for n in range(1, 109 * 24 + 1)]


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"code":-1121,"msg":"Invalid symbol."}', b"<html>"])
def test_an_odd_page_is_not_followed(body):
    assert BINANCE.follow(funding_ask("2026-01-01", "2026-02-01"), Answer(200, body, NOW)) is None


def test_a_venue_that_repeats_a_full_page_is_not_followed_for_ever():
    ask = funding_ask("2026-01-01", "2026-02-01")
    stuck = answer([{"symbol": "BTCUSDT", "fundingTime": to_ms(utc("2025-01-01")), "fundingRate": "0.0001"}] * 1000)
    assert BINANCE.follow(ask, stuck) is None


# -- answers


@given(st.lists(st.integers(-999, 999), min_size=1, max_size=20))
def test_settlements_are_put_on_the_instant_they_pay_for(jitters):
    ask = funding_ask("2026-01-01", "2026-01-20")
    times = [to_ms(utc("2026-01-01")) + (n + 1) * 8 * 3_600_000 + jitter for n, jitter in enumerate(jitters)]
    decoded = BINANCE.decode(ask, answer([{"symbol": "BTCUSDT", "fundingTime": at, "fundingRate": "-0.00001"} for at in times]))
    assert decoded.tables["funding"]["as_of"].to_pylist() == [utc("2026-01-01") + (n + 1) * 8 * HOUR for n in range(len(jitters))]
    assert not decoded.rejects


def test_a_settlement_far_from_a_whole_minute_is_put_aside():
    def late(rows):
        rows[1]["fundingTime"] += 17_000

    decoded = decode("fundingRate.json", late)
    assert reasons(decoded) == ["STAMP"]
    assert decoded.tables["funding"].num_rows == 3


def test_the_settlement_at_the_windows_start_belongs_to_the_window_before():
    ask = funding_ask("2026-01-01T08:00", "2026-01-02")
    start = int(dict(ask.params)["startTime"])
    assert to_ms(utc("2026-01-01T08:00")) + 9 < start <= to_ms(utc("2026-01-01T16:00"))
    assert int(dict(ask.params)["endTime"]) > to_ms(utc("2026-01-02")) + 9


def test_zero_open_interest_is_put_aside():
    def zero(rows):
        rows[2]["sumOpenInterest"] = "0.00000000"

    decoded = decode("openInterestHist.json", zero)
    assert reasons(decoded) == ["ZERO_OPEN_INTEREST"]
    assert decoded.rejects[0].target == "open_interest"
    assert '"0.00000000"' in decoded.rejects[0].row


@pytest.mark.parametrize("text", ["", "nan", "NaN", "inf", "-1.5", "1_000", "0x1p3", "1e400", " 1", "1,5", "١٢"])
def test_what_is_no_plain_number_within_limits_is_put_aside(text):
    def spoil(rows):
        rows[0]["sumOpenInterest"] = text

    decoded = decode("openInterestHist.json", spoil)
    assert reasons(decoded) == ["VALUE"]
    assert decoded.tables["open_interest"].num_rows == 3


@given(st.decimals(min_value="0.00000001", max_value="999999999999", places=8))
def test_numeric_texts_are_read_exactly(value):
    def put(rows):
        rows[0]["sumOpenInterest"] = f"{value:f}"

    assert decode("openInterestHist.json", put).tables["open_interest"]["open_interest_native"][0].as_py() == float(value)


def test_an_exact_repetition_stays_and_a_contradiction_goes():
    assert decode("openInterestHist.json", lambda rows: rows.append(dict(rows[0]))).tables["open_interest"].num_rows == 5

    def contradict(rows):
        rows.append({**rows[0], "sumOpenInterest": "1.0"})

    decoded = decode("openInterestHist.json", contradict)
    assert reasons(decoded) == ["DUPLICATE_KEY", "DUPLICATE_KEY"]  # nobody can say which one is right
    assert decoded.tables["open_interest"].num_rows == 3


@pytest.mark.parametrize(
    ("offset", "said"), [(-86_400_000, "outside the window"), (60_000, "off the grid"), (86_400_000, "outside the window")]
)
def test_stamps_outside_the_window_or_off_the_grid_are_put_aside(offset, said):
    def move(rows):
        rows[1]["timestamp"] += offset

    decoded = decode("globalLongShortAccountRatio.json", move)
    assert reasons(decoded) == ["STAMP"]
    assert said in decoded.rejects[0].detail


def test_stamps_may_be_texts_as_the_document_has_them():
    def as_text(rows):
        for row in rows:
            row["timestamp"] = str(row["timestamp"])

    assert decode("openInterestHist.json", as_text).tables["open_interest"].num_rows == 4


def test_another_symbol_is_put_aside():
    def other(rows):
        rows[3]["symbol"] = "ETHUSDT"

    assert reasons(decode("openInterestHist.json", other)) == ["CONVENTION"]


def test_a_missing_field_names_its_place_and_leaves_the_other_rows():
    def lose(rows):
        del rows[2]["longAccount"]

    decoded = decode("topLongShortPositionRatio.json", lose)
    assert reasons(decoded) == ["SHAPE"]
    assert "longAccount" in decoded.rejects[0].detail
    assert "$[2]" in decoded.rejects[0].detail
    assert decoded.tables["long_short"].num_rows == 3
    assert decoded.rows == 4


def test_prices_and_amounts_refer_to_one_coin():
    bars = one("binance", "klines.json")
    row = BINANCE.decode(bars.ask, bars.answer).tables["candles"].to_pylist()[0]
    assert (row["asset"], row["instrument"]) == ("PEPE", "1000PEPEUSDT")
    assert row["close_usd"] == pytest.approx(0.01425 / 1000, rel=1e-15)
    assert row["volume_base"] == 91234567 * 1000.0
    assert row["as_of"] == utc("2026-05-20T09:00")


def test_open_interest_keeps_the_venues_figure_beside_the_coins():
    window = Window(utc("2026-05-20T10:00"), utc("2026-05-20T10:15"))
    series = Series("binance", "openInterestHist", "1000PEPEUSDT", window, QUARTER)
    row = {"symbol": "1000PEPEUSDT", "sumOpenInterest": "5.5", "sumOpenInterestValue": "0.066", "timestamp": to_ms(window.end)}
    (found,) = BINANCE.decode(Ask(series, "fapi", "/"), answer([row])).tables["open_interest"].to_pylist()
    assert (found["open_interest_native"], found["native_unit"], found["oi_sides"]) == (5.5, "base", 1)
    assert (found["open_interest_base"], found["open_interest_usd"], found["asset"]) == (5500.0, 0.066, "PEPE")


@pytest.mark.parametrize("file", ["klines.json", "premiumIndexKlines.json"])
def test_a_bar_of_another_length_is_put_aside(file):
    def stretch(rows):
        rows[1][6] += 3_600_000

    assert reasons(decode(file, stretch)) == ["STAMP"]


def test_a_premium_is_the_close_of_its_bar_at_its_end_whatever_the_contract_holds():
    bars = one("binance", "premiumIndexKlines.json")
    rows = BINANCE.decode(bars.ask, bars.answer).tables["premiums"].to_pylist()
    assert [row["as_of"] for row in rows] == [utc(f"2026-05-20T{hour:02d}:00") for hour in (9, 10, 11)]
    assert [row["premium_share"] for row in rows] == [0.00011903, -0.00041766, -0.0005506]
    assert {(row["asset"], row["interval_h"], row["known_at"] - row["as_of"]) for row in rows} == {("PEPE", 1.0, timedelta(minutes=1))}


@pytest.mark.parametrize("change", [{2: "-0.9"}, {3: "0.7"}, {4: "0.00031878"}, {2: "nan"}, {3: ""}, dict.fromkeys((1, 2, 3, 4), "80.0")])
def test_a_premium_outside_its_bar_or_beyond_all_measure_is_put_aside(change):
    def spoil(rows):
        rows[0] = [change.get(place, value) for place, value in enumerate(rows[0])]

    decoded = decode("premiumIndexKlines.json", spoil)
    assert reasons(decoded) == ["VALUE"]
    assert decoded.tables["premiums"].num_rows == 2


def test_what_a_premium_bar_asks_to_ignore_is_not_looked_at():
    def change(rows):
        for row in rows:
            row[5], row[7:] = 0, [None, "many", 1.5, {"a": 1}, []]

    bars = one("binance", "premiumIndexKlines.json")
    decoded = decode("premiumIndexKlines.json", change)
    assert decoded.tables["premiums"].equals(BINANCE.decode(bars.ask, bars.answer).tables["premiums"])
    assert (list(decoded.rejects), list(decoded.notes)) == ([], [])


def test_a_premium_is_a_quote_and_never_later_than_our_asking():
    payload = one("binance", "premiumIndex.json")
    early = replace(payload.answer, fetched_at=utc("2026-05-20T11:59:59"))
    tables = BINANCE.decode(payload.ask, early).tables
    assert tables["marks"]["as_of"].to_pylist() == [utc("2026-05-20T11:59:59")]
    assert tables["funding"]["funding_kind"].to_pylist() == ["quote"]

    def paid(row):
        row["nextFundingTime"] = 0

    decoded = decode("premiumIndex.json", paid)  # a dated contract: it has no funding
    assert reasons(decoded) == ["CONVENTION"]
    assert (decoded.tables["marks"].num_rows, decoded.tables["funding"].num_rows) == (1, 0)


def test_an_undeclared_multiplier_is_put_aside_in_a_listing():
    def odd(info):
        info["symbols"][0]["baseAsset"] = "10000BTC"

    decoded = decode("exchangeInfo.json", odd)
    assert reasons(decoded) == ["CONVENTION"]
    assert decoded.tables["instruments"].num_rows == 4


def test_delivery_is_null_only_for_a_contract_without_end():
    listing = one("binance", "exchangeInfo.json")
    rows = {row["instrument"]: row for row in BINANCE.decode(listing.ask, listing.answer).tables["instruments"].to_pylist()}
    assert rows["BTCUSDT"]["delivery_at"] is None
    assert rows["BTCUSDT_260626"]["delivery_at"] == utc("2026-06-26T08:00")
    assert rows["SRMUSDT"]["instrument_status"] == "SETTLING"


# -- errors of the venue


def test_an_error_body_is_named_whatever_its_status():
    ask = one("binance", "openInterestHist.json").ask
    body = b'{"code":-1130,"msg":"Data sent for parameter \'startTime\' is not valid."}'
    refused = BINANCE.classify(ask, Answer(400, body, NOW, {"Content-Type": "application/json"}))
    assert (refused.verb, refused.reason_code) == ("reject", "VENUE_ERROR")
    assert "-1130" in refused.detail
    with pytest.raises(Unreadable) as caught:
        BINANCE.decode(ask, Answer(200, body, NOW))
    assert caught.value.reject.reason_code == "VENUE_ERROR"


def test_an_unknown_endpoint_is_our_mistake():
    series = Series("binance", "leverage", "BTCUSDT", Window(utc("2026-01-01"), utc("2026-01-02")))
    with pytest.raises(ValueError, match="leverage"):
        list(BINANCE.asks(series))
    with pytest.raises(ValueError, match="leverage"):
        BINANCE.decode(Ask(series, "fapi", "/"), answer([]))


def test_an_instrument_outside_the_spelling_makes_the_answer_unreadable():
    series = Series("binance", "takerlongshortRatio", "BTCEUR", Window(utc("2026-01-01"), utc("2026-01-02")), QUARTER)
    with pytest.raises(Unreadable) as caught:
        BINANCE.decode(Ask(series, "fapi", "/"), answer([]))
    assert caught.value.reject.reason_code == "CONVENTION"

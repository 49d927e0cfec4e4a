"""BitMEX: units of its contracts, quotes against settlements, labels, pages, and what is not asked."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import metadata, one
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources import bitmex_rows as rows
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.windows import HOUR, Window, utc

VENUE = source("bitmex")
JSON = {"Content-Type": "application/json; charset=utf-8"}
NOW = utc("2026-05-28T10:20")


def decoded(file, change=lambda rows: None, **answer):
    payload = one("bitmex", file)
    tree = json.loads(payload.answer.body)
    change(tree)
    return VENUE.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode(), **answer))


def active(change=lambda rows: None, **answer):
    return decoded("instrument_active.json", change, **answer)


def by_symbol(found, table):
    return {row["instrument"]: row for row in found.tables[table].to_pylist()}


def reasons(found):
    return [(reject.target, reject.reason_code) for reject in found.rejects]


# -- what a contract is


def test_a4_open_interest_is_converted_by_what_the_listing_says_of_each_contract():
    found = by_symbol(active(), "open_interest")
    assert set(found) == {"XBTUSD", "XBTUSDT"}, "perpetuals only"
    inverse, linear = found["XBTUSD"], found["XBTUSDT"]
    assert (inverse["open_interest_native"], inverse["native_unit"], inverse["oi_sides"]) == (3e8, "contracts", 1)
    assert (inverse["open_interest_usd"], inverse["open_interest_base"]) == (3e8, 3000.0)
    assert (linear["open_interest_native"], linear["open_interest_base"], linear["open_interest_usd"]) == (5e8, 500.0, 5e7)


def test_e5_xbt_is_btc_and_the_payoffs_are_told():
    found = by_symbol(active(), "instruments")
    assert {row["asset"] for row in found.values()} == {"BTC"}
    assert {row["base_asset"] for row in found.values()} == {"XBT"}, "the venue's spelling stays"
    told = {name: (row["payoff"], row["contract_size"], row["contract_unit"], row["margin_asset"]) for name, row in found.items()}
    assert told == {
        "XBTUSD": ("inverse", 1.0, "usd", "XBt"),
        "XBTUSDT": ("linear", 1e-6, "base", "USDt"),
        "XBTM26": ("inverse", 1.0, "usd", "XBt"),
    }
    assert found["XBTM26"]["delivery_at"] == utc("2026-06-26T12:00")
    assert (found["XBTM26"]["funding_interval_h"], found["XBTUSD"]["funding_interval_h"]) == (None, 8.0)
    assert {row["as_of"] for row in found.values()} == {utc("2026-05-20T12:00:03")}, "one snapshot, one instant"


def test_perpetuals_of_both_payoffs_are_asked_about_and_expiring_contracts_are_not():
    listed = tradable(active().tables["instruments"], VENUE.listing)
    assert [one.instrument for one in listed] == ["XBTUSD", "XBTUSDT"]
    closed = active(lambda tree: tree[0].__setitem__("state", "Closed"))
    assert by_symbol(closed, "instruments")["XBTUSD"]["instrument_status"] == "Closed", "it stays in the snapshot"
    assert set(by_symbol(closed, "open_interest")) == {"XBTUSDT"}
    assert not closed.rejects


def quanto(tree):
    tree.append(
        tree[0]
        | {
            "symbol": "ETHUSD",
            "underlying": "ETH",
            "isQuanto": True,
            "isInverse": False,
            "multiplier": 100,
            "underlyingToSettleMultiplier": None,
        }
    )


def test_a_quanto_contract_is_neither_coins_nor_dollars():
    found = active(quanto)
    assert reasons(found) == [("instruments", "CONVENTION")]
    assert "quanto" in found.rejects[0].detail
    assert "ETHUSD" not in by_symbol(found, "open_interest")


def test_what_is_no_contract_on_a_coin_is_no_row_and_an_unknown_kind_is_put_aside():
    others = active(lambda tree: tree.extend(tree[0] | {"symbol": f"X{n}", "typ": typ} for n, typ in enumerate(rows.OTHERS)))
    assert not others.rejects
    assert set(by_symbol(others, "instruments")) == {"XBTUSD", "XBTUSDT", "XBTM26"}
    strange = active(lambda tree: tree[0].__setitem__("typ", "FFZZZZ"))
    assert reasons(strange) == [("instruments", "CONVENTION")]
    assert set(by_symbol(strange, "open_interest")) == {"XBTUSDT"}


@pytest.mark.parametrize(
    ("row", "field", "value", "target", "reason"),
    [
        (0, "openValue", 300000000000 * 1000, "open_interest", "CONVENTION"),
        (0, "openValue", 3000, "open_interest", "CONVENTION"),
        (1, "openInterest", 500, "open_interest", "CONVENTION"),
        (1, "quoteToSettleMultiplier", 1, "open_interest", "CONVENTION"),
        (1, "quoteToSettleMultiplier", None, "open_interest", "CONVENTION"),
        (0, "openInterest", 0, "open_interest", "ZERO_OPEN_INTEREST"),
        (0, "openInterest", None, "open_interest", "MISSING"),
        (0, "openInterest", -1, "open_interest", "VALUE"),
        (0, "indicativeSettlePrice", None, "marks", "MISSING"),
        (0, "indicativeSettlePrice", 0, "marks", "VALUE"),
        (0, "indicativeFundingRate", 12.0, "funding", "VALUE"),
        (0, "underlying", "10000SATS", "instruments", "CONVENTION"),
        (0, "underlyingToSettleMultiplier", 0, "instruments", "CONVENTION"),
        (1, "underlyingToPositionMultiplier", None, "instruments", "CONVENTION"),
        (0, "settlCurrency", None, "instruments", "MISSING"),
        (0, "timestamp", "2026-05-20T12:00:01", "instruments", "SHAPE"),
        (0, "fundingInterval", "2000-01-05T00:00:00.000Z", "instruments", "VALUE"),
        (0, "listing", "0001-01-01T00:00:00+14:00", "instruments", "VALUE"),
        (0, "expiry", "1969-12-31T23:59:59Z", "instruments", "VALUE"),
        (0, "underlying", "ETH", "open_interest", "CONVENTION"),
        (1, "underlying", "ETH", "marks", "CONVENTION"),
        (1, "quoteCurrency", "USD", "instruments", "CONVENTION"),
        (0, "timestamp", "2026-05-20T10:59:59.000Z", "open_interest", "STAMP"),
        (0, "timestamp", "1970-01-01T00:00:00.000Z", "marks", "STAMP"),
        (0, "timestamp", "0001-01-01T00:00:00+14:00", "funding", "STAMP"),
        (0, "openInterest", 1e308, "open_interest", "CONVENTION"),
    ],
)
def test_one_bad_field_puts_its_row_aside_and_leaves_the_other_contract(row, field, value, target, reason):
    found = active(lambda tree: tree[row].__setitem__(field, value))
    assert (target, reason) in reasons(found)
    spared = ("XBTUSDT", "XBTUSD")[row]
    assert all(spared in by_symbol(found, table) for table in found.tables)
    hurt = ("XBTUSD", "XBTUSDT")[row]
    assert hurt not in by_symbol(found, target)


@given(contracts=st.integers(1, 10**10), mark=st.floats(100, 1e6), drift=st.floats(0.8, 1.25))
@settings(max_examples=60, deadline=None)
def test_a4_a_value_that_disagrees_with_contracts_and_mark_is_never_taken(contracts, mark, drift):
    def change(tree):
        tree[0] |= {"openInterest": contracts, "markPrice": mark, "openValue": contracts / mark * 1e8 * drift}

    found = active(change)
    taken = by_symbol(found, "open_interest").get("XBTUSD")
    if taken is None:
        assert abs(drift - 1.0) > 0.0499
        assert ("open_interest", "CONVENTION") in reasons(found)
    else:
        assert abs(taken["open_interest_base"] * mark / taken["open_interest_usd"] - 1.0) < 0.0501


def test_a10_a_snapshot_is_of_its_own_stamp_and_never_later_than_our_asking():
    found = active()
    assert {row["as_of"] for table in ("open_interest", "marks", "funding") for row in found.tables[table].to_pylist()} == {
        utc("2026-05-20T12:00:01.250")
    }
    early = active(fetched_at=utc("2026-05-20T11:59:59"))
    assert {row["as_of"] for row in early.tables["open_interest"].to_pylist()} == {utc("2026-05-20T11:59:59")}


def test_c7_the_running_estimate_is_a_quote_and_not_the_rate_that_was_fixed():
    found = by_symbol(active(), "funding")
    assert {(row["funding_kind"], row["funding_interval_h"]) for row in found.values()} == {("quote", 8.0)}
    assert found["XBTUSD"]["funding_rate"] == 0.00012
    assert found["XBTUSDT"]["funding_rate"] == -0.00005, "negative: shorts pay"


# -- histories


def test_c1_each_settlement_carries_its_interval():
    def daily(tree):
        tree[1]["fundingInterval"] = "2000-01-02T00:00:00.000Z"

    found = decoded("funding.json", daily).tables["funding"].to_pylist()
    assert [row["funding_interval_h"] for row in found] == [8.0, 24.0, 8.0]
    assert {row["funding_kind"] for row in found} == {"settlement"}
    assert [row["as_of"] for row in found] == [utc("2026-05-19T12:00"), utc("2026-05-19T20:00"), utc("2026-05-20T04:00")]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("timestamp", "2026-05-19T20:00:30.000Z", "STAMP"),
        ("timestamp", "2026-05-18T20:00:00.000Z", "STAMP"),
        ("symbol", "ETHUSD", "CONVENTION"),
        ("fundingRate", "0.0001", "SHAPE"),
        ("fundingRate", 0.8, "VALUE"),
        ("fundingInterval", "1999-12-31T00:00:00.000Z", "VALUE"),
        ("fundingInterval", None, "SHAPE"),
    ],
)
def test_one_bad_settlement_is_put_aside_and_the_others_stay(field, value, reason):
    found = decoded("funding.json", lambda tree: tree[1].__setitem__(field, value))
    assert reasons(found) == [("funding", reason)]
    assert found.tables["funding"].num_rows == 2


def test_a_bar_is_stamped_at_its_end_and_opens_at_the_close_before():
    found = decoded("trade_bucketed.json").tables["candles"].to_pylist()
    assert [row["as_of"] for row in found] == [utc(f"2026-05-20T{hour}:00") for hour in ("09", "10", "11")]
    assert [row["open_usd"] for row in found[1:]] == [row["close_usd"] for row in found[:-1]]
    assert (found[0]["volume_base"], found[0]["trades"], found[0]["taker_buy_base"]) == (249.8, 4100, None)
    assert found[2]["volume_base"] == 0.0, "an hour without a trade is a bar"


def test_a_bar_of_the_hour_that_runs_is_outside_of_the_window():
    found = decoded("trade_bucketed.json", lambda tree: tree[2].__setitem__("timestamp", "2026-05-20T12:00:00.000Z"))
    assert reasons(found) == [("candles", "STAMP")]


# -- what is asked


def test_d6_neither_liquidation_orders_nor_the_sums_without_a_stamp_are_asked_for():
    """`/liquidation` lists orders that are open now; `/stats` sums over symbols and has no time (A10)."""
    assert set(VENUE.endpoints) == {"instrument/active", "funding", "trade/bucketed"}
    filled = {*VENUE.endpoints.values(), *(table for tables in VENUE.also.values() for table in tables)}
    assert "liquidations" not in filled
    instruments = [Instrument(**one) for one in metadata("bitmex")["instruments"]]
    planned = [VENUE.catalogue(NOW), *VENUE.plan(Window(utc("2026-05-01"), NOW), instruments, NOW)]
    assert {ask.path for series in planned for ask in VENUE.asks(series)} == {"/instrument/active", "/funding", "/trade/bucketed"}


def test_histories_begin_with_the_listing_and_with_what_is_served():
    old = Instrument("XBTUSD", "bitmex", "BTC", listed_at=utc("2015-01-01"))
    new = Instrument("XBTUSDT", "bitmex", "BTC", listed_at=utc("2021-11-10T04:00"))
    foreign = Instrument("XBT_USDT", "bitmex", "BTC")
    found = {
        (s.endpoint, s.instrument): s.window for s in VENUE.plan(Window(utc("2010-01-01"), utc("2030-01-01")), [old, new, foreign], NOW)
    }
    assert {key: window.start for key, window in found.items()} == {
        ("funding", "XBTUSD"): utc("2016-05-07"),
        ("trade/bucketed", "XBTUSD"): utc("2017-01-01"),
        ("funding", "XBTUSDT"): utc("2021-11-10T04:00"),
        ("trade/bucketed", "XBTUSDT"): utc("2021-11-10T04:00"),
    }
    assert {window.end for window in found.values()} == {NOW}


def params_of(ask):
    return dict(ask.params)


@given(st.integers(0, 80_000), st.integers(1, 3000))
@settings(max_examples=30, deadline=None)
def test_pages_of_bars_hold_every_hour_once(first, count):
    start = utc("2017-01-01") + first * HOUR
    series = Series("bitmex", "trade/bucketed", "XBTUSD", Window(start, start + count * HOUR), HOUR)
    stamps = []
    for ask in VENUE.asks(series):
        begin, end = (utc(params_of(ask)[name]) for name in ("startTime", "endTime"))
        page = [begin + n * HOUR for n in range((end - begin) // HOUR + 1)]
        assert len(page) <= int(params_of(ask)["count"]) == 500
        stamps += page
    assert stamps == series.expected()


def test_settlements_of_neighbouring_windows_are_asked_for_once():
    edge = utc("2026-05-20T04:00")
    spans = []
    for window in (Window(utc("2026-05-19"), edge), Window(edge, utc("2026-05-21"))):
        (ask,) = VENUE.asks(Series("bitmex", "funding", "XBTUSD", window))
        spans.append(tuple(utc(params_of(ask)[name]) for name in ("startTime", "endTime")))
    assert [start <= edge <= end for start, end in spans] == [True, False]
    assert spans[1][0] - spans[0][1] == timedelta(milliseconds=1)


def test_a_full_page_of_settlements_goes_on_after_its_last():
    (ask,) = VENUE.asks(Series("bitmex", "funding", "XBTUSD", Window(utc("2026-05-01"), utc("2026-05-21"))))
    row = json.loads(one("bitmex", "funding.json").answer.body)[0]
    stamps = [utc("2026-05-01") + n * timedelta(minutes=30) for n in range(1, 501)]
    page = [row | {"timestamp": f"{stamp:%Y-%m-%dT%H:%M:%S}.000Z"} for stamp in stamps]
    onward = VENUE.follow(ask, Answer(200, json.dumps(page).encode(), NOW, JSON))
    assert params_of(onward) == params_of(ask) | {"startTime": f"{stamps[-1]:%Y-%m-%dT%H:%M:%S}.001Z"}
    assert VENUE.follow(ask, Answer(200, json.dumps(page[1:]).encode(), NOW, JSON)) is None
    assert VENUE.follow(onward, Answer(200, json.dumps(page).encode(), NOW, JSON)) is None, "a page that repeats itself ends the walk"
    assert VENUE.follow(ask, Answer(200, b"{}", NOW, JSON)) is None


@pytest.mark.parametrize("last", ["9999-12-31T23:59:59.999999Z", "9999-12-31T23:00:00-14:00", "2026-05-20T02:00:00+02:00"])
def test_a_stamp_of_another_zone_or_age_leads_no_page_astray(last):
    (ask,) = VENUE.asks(Series("bitmex", "funding", "XBTUSD", Window(utc("2026-05-01"), utc("2026-05-21"))))
    row = json.loads(one("bitmex", "funding.json").answer.body)[0]
    page = [row | {"timestamp": "2026-05-19T20:00:00.000Z"}] * 499 + [row | {"timestamp": last}]
    onward = VENUE.follow(ask, Answer(200, json.dumps(page).encode(), NOW, JSON))
    after = "2026-05-20T00:00:00.001Z" if last.startswith("2026") else "2026-05-19T20:00:00.001Z"
    assert params_of(onward)["startTime"] == after


@pytest.mark.parametrize("symbol", ["XBT_USDT", "XBTZ26", "USD", "", "XBTEUR", "XBTUSD-XBTU26"])
def test_only_perpetuals_have_a_spelling(symbol):
    with pytest.raises(LookupError):
        rows.spelled(symbol)


@pytest.mark.parametrize(
    ("status", "body", "headers", "verb", "reason", "wait"),
    [
        (
            503,
            '{"error":{"message":"The system is currently overloaded. Please try again later.","name":"HTTPError"}}',
            {},
            "retry",
            "HTTP_EXHAUSTED",
            None,
        ),
        (
            429,
            '{"error":{"message":"Rate limit exceeded, retry in 7 seconds.","name":"RateLimitError"}}',
            {"Retry-After": "7"},
            "retry",
            "HTTP_EXHAUSTED",
            7.0,
        ),
        (
            429,
            '{"error":{"message":"Rate limit exceeded.","name":"RateLimitError"}}',
            {"X-RateLimit-Reset": str(int(NOW.timestamp()) + 3), "X-RateLimit-Remaining": "0"},
            "retry",
            "HTTP_EXHAUSTED",
            3.0,
        ),
        (400, '{"error":{"message":"Invalid symbol","name":"HTTPError"}}', {}, "reject", "VENUE_ERROR", None),
        (401, '{"error":{"message":"Invalid API Key.","name":"HTTPError"}}', {}, "reject", "VENUE_ERROR", None),
        (403, "<html>", {}, "reject", "HTTP_BLOCKED", None),
    ],
)
def test_refusals(status, body, headers, verb, reason, wait):
    ask = one("bitmex", "funding.json").ask
    verdict = VENUE.classify(ask, Answer(status, body.encode(), NOW, JSON | headers))
    assert (verdict.verb, verdict.reason_code, verdict.wait) == (verb, reason, wait)


# -- what others captured and documented


@pytest.mark.recordings
def test_the_captured_inverse_perpetual_decodes_and_its_values_agree(recordings):
    """411 million contracts of a dollar each are 4,207 bitcoin: what the units of `openInterest` and `openValue` rest on."""
    body = (recordings / "payloads" / "mixed" / "bitmex" / "http_get_instrument_xbtusd.json").read_bytes()
    spread = (recordings / "payloads" / "mixed" / "bitmex" / "http_get_instrument_xbtm26_xbtu26_spread.json").read_bytes()
    payload = one("bitmex", "instrument_active.json")
    taken = datetime.fromisoformat(json.loads(body)["timestamp"])
    ask = replace(payload.ask, series=replace(payload.ask.series, window=Window(taken - HOUR, taken)))
    found = VENUE.decode(ask, Answer(200, b"[" + body + b"," + spread + b"]", taken + timedelta(seconds=2), JSON))
    assert not found.rejects
    assert not found.notes
    assert {name: table.num_rows for name, table in found.tables.items()} == {
        "instruments": 1,
        "open_interest": 1,
        "marks": 1,
        "funding": 1,
    }
    (held,), (mark,) = (found.tables[name].to_pylist() for name in ("open_interest", "marks"))
    assert held["open_interest_usd"] == held["open_interest_native"] == json.loads(body)["openInterest"]
    assert abs(held["open_interest_base"] * mark["mark_usd"] / held["open_interest_usd"] - 1.0) < 1e-5


@pytest.mark.recordings
def test_captured_rows_fit_the_shapes(recordings):
    folder = recordings / "payloads" / "mixed" / "bitmex"
    bars = VENUE.decode(
        Ask(Series("bitmex", "trade/bucketed", "XBTUSD", Window(utc("2024-11-25"), utc("2024-11-26")), timedelta(minutes=1)), "api", "/"),
        Answer(200, (folder / "http_get_trade_bins.json").read_bytes(), NOW, JSON),
    )
    settled = VENUE.decode(
        Ask(Series("bitmex", "funding", "XBTUSD", Window(utc("2024-11-25"), utc("2024-11-26"))), "api", "/"),
        Answer(200, b"[" + (folder / "ws_funding_rate.json").read_bytes() + b"]", NOW, JSON),
    )
    for found, count in ((bars, 3), (settled, 1)):
        assert not found.rejects
        assert not found.notes
        assert found.rows == count
    with pytest.raises(Unreadable, match="VENUE_ERROR: HTTPError Invalid API Key"):
        VENUE.decode(one("bitmex", "funding.json").ask, Answer(200, (folder / "http_error_response.json").read_bytes(), NOW, JSON))

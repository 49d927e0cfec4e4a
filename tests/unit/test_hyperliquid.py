"""Hyperliquid: routing, pages by POST, stamps that come late, coins by the thousand, and what its numbers mean."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms import conventions
from transforms.conventions import entries, number
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.sources.hyperliquid import CANDLES, CONTEXTS, FUNDING, LATE, META, PAGE, coin
from transforms.windows import HOUR, Window, to_ms, utc

HYPERLIQUID = source("hyperliquid")
NOW = utc("2026-05-28T10:20")
BTC = Instrument("BTC", "hyperliquid", "BTC", quote_asset="USD")
JSON = {"Content-Type": "application/json"}


def answer(body: object, at: str = "2026-05-28T10:20:01", status: int = 200) -> Answer:
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), utc(at), JSON)


def decode(endpoint: str, change=lambda _: None):
    """The payload's tree after `change(tree)`, decoded."""
    payload = one("hyperliquid", f"{endpoint}.json")
    tree = json.loads(payload.answer.body)
    change(tree)
    return HYPERLIQUID.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode()))


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


def planned(start: str, end: str, now=NOW, instruments=(BTC,)) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for series in HYPERLIQUID.plan(Window(utc(start), utc(end)), instruments, now):
        found.setdefault(series.endpoint, []).append(series)
    return found


def asked(series: Series) -> list[dict]:
    return [json.loads(ask.body) for ask in HYPERLIQUID.asks(series)]


def payments(start: str, end: str, name: str = "BTC") -> Series:
    return Series("hyperliquid", FUNDING, name, Window(utc(start), utc(end)), HOUR)


def bars(start: str, end: str, name: str = "BTC") -> Series:
    return Series("hyperliquid", CANDLES, name, Window(utc(start), utc(end)), HOUR)


# -- what is asked


def test_bars_older_than_the_last_five_thousand_are_not_asked_for():
    routes = planned("2025-01-01", "2026-05-28T10:00")
    (series,) = routes[CANDLES]
    assert (series.window.start, series.window.end) == (utc("2025-11-01T04:00"), utc("2026-05-28T10:00"))  # 5000 h back, less two of slack
    assert len(series.expected()) < 5000
    assert [series.window.start for series in routes[FUNDING]] == [utc("2025-01-01")]
    assert set(planned("2025-01-01", "2025-06-01")) == {FUNDING}


def test_c2_settlements_are_expected_every_hour_from_the_date_on_which_that_is_declared():
    before, after = planned("2023-05-01", "2024-02-01")[FUNDING]
    assert (before.window.end, before.step) == (utc("2024-01-01"), None)
    assert (after.window.start, after.step) == (utc("2024-01-01"), HOUR)


@pytest.mark.parametrize(("end", "there"), [("2026-05-28T10:00", True), ("2026-05-28T08:30", True), ("2026-05-28T08:00", False)])
def test_the_state_is_asked_for_only_about_now_and_once_for_all(end, there):
    routes = planned("2026-05-28T07:00", end, instruments=(BTC, replace(BTC, instrument="kPEPE"), replace(BTC, venue="okx")))
    assert [series.instrument for series in routes.get(CONTEXTS, [])] == (["BTC,kPEPE"] if there else [])


def test_everything_is_posted_to_one_path_and_told_apart_by_its_body():
    series = [
        bars("2026-05-01", "2026-05-02"),
        payments("2026-05-01", "2026-05-02"),
        Series("hyperliquid", META, "", Window(utc("2026-05-01"), NOW)),
    ]
    asks = [ask for each in series for ask in HYPERLIQUID.asks(each)]
    assert {(ask.path, ask.params, ask.host) for ask in asks} == {("/info", (), "api")}
    assert len({ask.question for ask in asks}) == len(asks)
    assert [json.loads(ask.body)["type"] for ask in asks] == [CANDLES, FUNDING, META]
    assert [ask.weight for ask in asks] == [21.0, 22.0, 20.0]  # 20, one more for 60 bars or 20 settlements, rounded up


@given(st.integers(0, 9000), st.integers(1, 3000))
@settings(max_examples=60)
def test_pages_of_bars_hold_every_hour_once_and_never_the_running_one(offset, length):
    start = utc("2025-11-02") + offset * HOUR
    series = Series("hyperliquid", CANDLES, "BTC", Window(start, start + length * HOUR), HOUR)
    labels = []
    for page in asked(series):
        first, last = page["req"]["startTime"], page["req"]["endTime"]
        opens = list(range(first, last + 1, 3_600_000))
        assert 0 < len(opens) <= PAGE
        assert last == opens[-1] + 3_599_999
        labels += opens
    assert labels == [to_ms(stamp) - 3_600_000 for stamp in series.expected()]


@given(st.integers(0, 9000), st.integers(1, 3000), st.integers(0, 59), st.integers(0, 119_000))
@settings(max_examples=60)
def test_pages_of_settlements_hold_every_payment_once_however_late_it_came(offset, length, minutes, late):
    start = utc("2025-01-01") + offset * HOUR + timedelta(minutes=minutes)
    series = Series("hyperliquid", FUNDING, "BTC", Window(start, start + length * HOUR), HOUR)
    spans = [(page["startTime"], page["endTime"]) for page in asked(series)]
    paid = [to_ms(stamp) + late for stamp in series.expected()]
    found = [stamp for first, last in spans for stamp in paid if first <= stamp <= last]
    assert found == paid
    assert all(sum(first <= stamp <= last for stamp in paid) <= PAGE for first, last in spans)
    outside = [to_ms(series.window.start) // 3_600_000 * 3_600_000 + late, to_ms(series.expected()[-1]) + 3_600_000 + late]
    assert not any(first <= stamp <= last for first, last in spans for stamp in outside)


@given(st.integers(1, 600), st.integers(1, 900), st.sampled_from([FUNDING, CANDLES]))
@settings(max_examples=40, deadline=None)
def test_a_venue_that_serves_less_is_asked_until_everything_is_there(most, hours, endpoint):
    start, most = utc("2026-03-01T07:00"), max(most, hours // 50)
    bar = json.loads(one("hyperliquid", "candleSnapshot.json").answer.body)[0]
    came: list[int] = []
    for first_ask in HYPERLIQUID.asks(Series("hyperliquid", endpoint, "BTC", Window(start, start + hours * HOUR), HOUR)):
        ask = first_ask
        while ask is not None:
            body = json.loads(ask.body)
            span = body.get("req", body)
            page = [n * 3_600_000 for n in range(-(-span["startTime"] // 3_600_000), span["endTime"] // 3_600_000 + 1)][:most]
            came += page
            paid = [{"coin": "BTC", "fundingRate": "0.1", "premium": "0.1", "time": stamp + 5} for stamp in page]
            rows = paid if endpoint == FUNDING else [{**bar, "t": stamp} for stamp in page]
            onward = HYPERLIQUID.follow(ask, answer(rows))
            assert onward is None or onward.body != ask.body
            ask = onward
    assert len(came) == hours == len(set(came))


def test_an_unreadable_page_is_the_last():
    (ask,) = HYPERLIQUID.asks(bars("2026-05-01", "2026-05-02"))
    assert HYPERLIQUID.follow(ask, answer(b"null")) is None
    assert HYPERLIQUID.follow(ask, answer([])) is None


# -- refusals


@pytest.mark.parametrize(
    ("status", "body", "verb", "reason"),
    [
        (422, b"Failed to deserialize the JSON body into the target type", "reject", "VENUE_ERROR"),
        (400, b"Failed to parse the request body as JSON", "reject", "VENUE_ERROR"),
        (500, b"null", "retry", "HTTP_EXHAUSTED"),
        (429, b"null", "retry", "HTTP_EXHAUSTED"),
        (200, b"null", "reject", "VENUE_ERROR"),
        (200, b"[]", "accept", ""),
    ],
)
def test_refusals_are_named(status, body, verb, reason):
    (ask,) = HYPERLIQUID.asks(payments("2026-05-01", "2026-05-02"))
    verdict = HYPERLIQUID.classify(ask, answer(body, status=status))
    assert (verdict.verb, verdict.reason_code) == (verb, reason)


def test_a_stored_null_is_the_venue_s_error():
    (ask,) = HYPERLIQUID.asks(payments("2026-05-01", "2026-05-02"))
    with pytest.raises(Unreadable) as caught:
        HYPERLIQUID.decode(ask, answer(b"null"))
    assert caught.value.reject.reason_code == "VENUE_ERROR"


# -- coins


@pytest.mark.parametrize(
    ("name", "expected"), [("BTC", ("BTC", 1.0)), ("kPEPE", ("PEPE", 1e3)), ("kSHIB", ("SHIB", 1e3)), ("2Z", ("2Z", 1.0))]
)
def test_e5_k_is_a_thousand_coins(name, expected):
    assert coin(name) == expected


@pytest.mark.parametrize("name", ["xyz:TSLA", "@107", "PURR/USDC", "kpepe", "mPEPE", "1000PEPE", "1MBABYDOGE", "", "k", "12"])
def test_another_spelling_raises(name):
    with pytest.raises(LookupError):
        coin(name)


def test_e5_prices_and_amounts_are_of_one_coin():
    row = decode(CANDLES).tables["candles"].to_pylist()[0]
    assert (row["asset"], row["as_of"]) == ("PEPE", utc("2026-05-20T09:00"))
    assert row["close_usd"] == pytest.approx(4.731e-6)
    assert row["volume_base"] == pytest.approx(31_120_455_000.0)
    held = {row["instrument"]: row for row in decode(CONTEXTS).tables["open_interest"].to_pylist()}
    assert held["kPEPE"]["open_interest_base"] == 1000.0 * held["kPEPE"]["open_interest_native"] == 9_120_553_118_000.0
    marks = {row["instrument"]: row["mark_usd"] for row in decode(CONTEXTS).tables["marks"].to_pylist()}
    assert marks["kPEPE"] == pytest.approx(4.763e-6)


# -- what is listed


def test_delisted_contracts_stay_in_the_list_and_are_not_asked_about():
    listed = decode(META).tables["instruments"]
    words = dict(zip(listed["instrument"].to_pylist(), listed["instrument_status"].to_pylist(), strict=True))
    assert words == {"BTC": "TRADING", "ETH": "TRADING", "kPEPE": "TRADING", "LOOM": "DELISTED", "0G": "TRADING"}
    chosen = tradable(listed, HYPERLIQUID.listing)
    assert [(one.instrument, one.base_multiplier) for one in chosen] == [("0G", 1.0), ("BTC", 1.0), ("ETH", 1.0), ("kPEPE", 1000.0)]
    assert set(listed["quote_asset"].to_pylist()) == {"USD"}
    assert set(listed["margin_asset"].to_pylist()) == {"USDC"}
    assert set(listed["funding_interval_h"].to_pylist()) == {1.0}


@pytest.mark.parametrize("endpoint", [META, CONTEXTS])
def test_a_dex_with_another_collateral_is_not_the_venue_s_own(endpoint):
    def other(tree):
        (tree if endpoint == META else tree[0])["collateralToken"] = 235

    with pytest.raises(Unreadable) as caught:
        decode(endpoint, other)
    assert caught.value.reject.reason_code == "CONVENTION"


def test_a_coin_in_an_unknown_spelling_is_put_aside_alone():
    def strange(tree):
        tree["universe"][1]["name"] = "xyz:TSLA"

    decoded = decode(META, strange)
    assert reasons(decoded) == ["CONVENTION"]
    assert decoded.tables["instruments"].num_rows == 4


# -- the state now


def test_a10_a_state_without_a_stamp_is_of_the_instant_we_asked():
    payload = one("hyperliquid", "metaAndAssetCtxs.json")
    for table in decode(CONTEXTS).tables.values():
        assert set(table["as_of"].to_pylist()) == {payload.answer.fetched_at}


def test_c7_the_running_rate_is_a_quote_of_one_hour():
    rows = decode(CONTEXTS).tables["funding"].to_pylist()
    assert {(row["funding_kind"], row["funding_interval_h"]) for row in rows} == {("quote", 1.0)}
    assert {row["instrument"]: row["funding_rate"] for row in rows}["ETH"] == -0.0000208


def test_delisted_coins_have_no_market_and_a_book_may_be_empty():
    tables = decode(CONTEXTS).tables
    assert {name: table["instrument"].to_pylist() for name, table in tables.items()} == {
        "open_interest": ["BTC", "ETH", "kPEPE", "SOL"],
        "marks": ["BTC", "ETH", "kPEPE", "SOL"],
        "funding": ["BTC", "ETH", "kPEPE", "SOL"],
        "premiums": ["BTC", "ETH", "kPEPE"],
    }


def test_the_premium_is_that_of_the_impact_price_at_the_instant():
    payload = json.loads(one("hyperliquid", "metaAndAssetCtxs.json").answer.body)
    rows = {row["instrument"]: row for row in decode(CONTEXTS).tables["premiums"].to_pylist()}
    for named, state in zip(payload[0]["universe"], payload[1], strict=True):
        if state["premium"] is None or named["name"] == "kPEPE":
            continue
        bid, ask, oracle = float(state["impactPxs"][0]), float(state["impactPxs"][1]), float(state["oraclePx"])
        assert rows[named["name"]]["premium_share"] == pytest.approx((max(bid - oracle, 0) - max(oracle - ask, 0)) / oracle, abs=1e-7)
        assert rows[named["name"]]["interval_h"] == 0.0


def test_a11_no_open_interest_on_a_contract_that_trades_is_put_aside():
    def nothing(tree):
        tree[1][0]["openInterest"] = "0.0"

    decoded = decode(CONTEXTS, nothing)
    assert reasons(decoded) == ["ZERO_OPEN_INTEREST"]
    assert "BTC" not in decoded.tables["open_interest"]["instrument"].to_pylist()
    assert "BTC" in decoded.tables["marks"]["instrument"].to_pylist()


@pytest.mark.parametrize("side", [0, 1])
def test_lists_that_do_not_pair_say_nothing(side):
    """A context belongs to the coin in the same place: with one lost, every later number would be another coin's."""

    def cut(tree):
        (tree[0]["universe"] if side == 0 else tree[1]).pop(2)

    with pytest.raises(Unreadable) as caught:
        decode(CONTEXTS, cut)
    assert caught.value.reject.reason_code == "SHAPE"


def test_one_bad_context_takes_no_other_with_it_and_is_missed():
    def spoil(tree):
        tree[1][0].pop("markPx")

    decoded = decode(CONTEXTS, spoil)
    assert reasons(decoded) == ["SHAPE", "MISSING"]
    clean = decode(CONTEXTS)
    for name, table in decoded.tables.items():
        assert table.to_pylist() == [row for row in clean.tables[name].to_pylist() if row["instrument"] != "BTC"]


# -- open interest: whose sides?


def test_a3_the_sides_are_declared_with_both_readings_as_evidence():
    (entry,) = (one for one in entries("hyperliquid") if one.what == "oi_sides")
    assert (entry.dataset, entry.value) == (CONTEXTS, 1)
    assert all(word in entry.evidence for word in ("CONTRADICTED", "docs.nexus.xyz", "docs.hydromancer.xyz"))


@given(st.lists(st.floats(1.0, 1e6), min_size=2, max_size=20))
@settings(max_examples=20)
def test_a3_if_it_were_two_sided_levels_would_halve_and_links_would_not_move(amounts):
    payload = one("hyperliquid", "metaAndAssetCtxs.json")
    found = {}
    for sides in (1, 2):
        levels = []
        for amount in amounts:
            tree = json.loads(payload.answer.body)
            tree[1][0]["openInterest"] = repr(amount)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    conventions,
                    "number",
                    lambda name, set_, what, at, *rest, n=sides: n if what == "oi_sides" else number(name, set_, what, at, *rest),
                )
                decoded = HYPERLIQUID.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode()))
            row = decoded.tables["open_interest"].to_pylist()[0]
            assert (row["oi_sides"], row["open_interest_native"]) == (sides, amount)
            levels.append(row["open_interest_base"])
        found[sides] = np.array(levels)
    assert np.array_equal(found[1], 2.0 * found[2])
    assert np.allclose(np.diff(np.log(found[1])), np.diff(np.log(found[2])), rtol=0, atol=1e-12)


# -- settled funding


def test_settlements_lie_on_their_hour_and_pay_for_it():
    rows = decode(FUNDING).tables["funding"].to_pylist()
    assert [row["as_of"] for row in rows] == [utc(f"2026-05-20T{hour:02d}:00") for hour in (9, 10, 11, 12)]
    assert {(row["funding_kind"], row["funding_interval_h"], row["asset"]) for row in rows} == {("settlement", 1.0, "PEPE")}
    assert rows[1]["funding_rate"] == -0.00006181


@given(st.lists(st.floats(-0.01, 0.01), min_size=1, max_size=400))
@settings(max_examples=30)
def test_c2_the_sum_of_settlements_is_the_annual_rate_times_the_time(rates):
    start = utc("2026-03-01")
    series = Series("hyperliquid", FUNDING, "BTC", Window(start, start + len(rates) * HOUR), HOUR)
    rows = [{"coin": "BTC", "fundingRate": f"{rate:.12f}", "time": to_ms(start + (n + 1) * HOUR) + 40} for n, rate in enumerate(rates)]
    (ask, *_) = HYPERLIQUID.asks(series)
    decoded = HYPERLIQUID.decode(ask, answer(rows))
    assert not decoded.rejects
    table = decoded.tables["funding"].to_pylist()
    annual = np.mean([row["funding_rate"] * 8760.0 / row["funding_interval_h"] for row in table])
    assert annual * len(rates) / 8760.0 == pytest.approx(sum(row["funding_rate"] for row in table), abs=1e-12)
    assert sum(row["funding_interval_h"] for row in table) == len(rates)  # the settlements pay for all of the time, once


@pytest.mark.parametrize(("late", "found"), [(0, ""), (999, ""), (110_963, ""), (300_000, ""), (300_001, "STAMP"), (1_800_000, "STAMP")])
def test_a_settlement_that_came_late_is_of_its_hour_and_known_when_it_came(late, found):
    def delay(tree):
        tree[1]["time"] = to_ms(utc("2026-05-20T10:00")) + late

    decoded = decode(FUNDING, delay)
    assert reasons(decoded) == ([found] if found else [])
    if not found:
        row = decoded.tables["funding"].to_pylist()[1]
        assert row["as_of"] == utc("2026-05-20T10:00")
        assert row["known_at"] == max(row["as_of"] + timedelta(minutes=1), row["as_of"] + timedelta(milliseconds=late))
    assert timedelta(milliseconds=300_000) == LATE


def test_before_the_interval_is_known_nobody_says_it():
    payload = one("hyperliquid", "fundingHistory.json")
    rows = json.loads(payload.answer.body)
    for n, row in enumerate(rows):
        row["time"] = to_ms(utc("2023-05-12")) + 8 * n * 3_600_000 + 76
    series = Series("hyperliquid", FUNDING, "kPEPE", Window(utc("2023-05-11T23:00"), utc("2023-05-14")))
    decoded = HYPERLIQUID.decode(Ask(series, "api", "/info"), answer(rows))
    assert not decoded.rejects
    assert set(decoded.tables["funding"]["funding_interval_h"].to_pylist()) == {None}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("coin", "BTC", "CONVENTION"), ("fundingRate", "nan", "VALUE"), ("fundingRate", "1.25", "VALUE"), ("time", "x", "SHAPE")],
)
def test_a_bad_settlement_is_put_aside_alone(field, value, reason):
    decoded = decode(FUNDING, lambda tree: tree[2].update({field: value}))
    assert reasons(decoded) == [reason]
    assert decoded.tables["funding"].num_rows == 3


# -- bars


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("s", "BTC", "CONVENTION"),
        ("i", "15m", "STAMP"),
        ("T", 1779271200000, "STAMP"),
        ("v", "-1", "VALUE"),
        ("c", "0", "VALUE"),
        ("n", "9", "SHAPE"),
    ],
)
def test_a_bad_bar_is_put_aside_alone(field, value, reason):
    decoded = decode(CANDLES, lambda tree: tree[1].update({field: value}))
    assert reasons(decoded) == [reason]
    assert decoded.tables["candles"].num_rows == 2


def test_the_bar_that_still_runs_is_no_row():
    decoded = decode(CANDLES, lambda tree: tree.append({**tree[2], "t": tree[2]["t"] + 3_600_000, "T": tree[2]["T"] + 3_600_000}))
    assert reasons(decoded) == ["STAMP"]

"""Gate, the venue: two ways of counting open interest, four ratios that are four things, contracts into coins, how far back it answers.

The gate of expectations is tested in test_gate.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms.conventions import number
from transforms.roster import source
from transforms.sources.contract import Answer, Ask, Instrument, Series, Unreadable
from transforms.sources.gate import CANDLES, CONTRACT, CONTRACTS, FUNDING, PREMIUM, STATS
from transforms.sources.gate_rows import gate_asset
from transforms.windows import HOUR, Window, from_ms, utc

GATE = source("gate")
NOW = utc("2026-05-28T10:20")
JSON = {"Content-Type": "application/json"}
BTC = Instrument("BTC_USDT", "gate", "BTC", contract_size=0.0001)
SECOND = timedelta(seconds=1)


def decode(endpoint: str, change=lambda tree: None, **answered):
    """The payload after `change(tree)`, decoded."""
    payload = one("gate", f"{endpoint}.json")
    tree = json.loads(payload.answer.body)
    change(tree)
    return GATE.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode(), **answered))


def reasons(decoded) -> list[tuple[str, str]]:
    return [(reject.target, reject.reason_code) for reject in decoded.rejects]


def column(decoded, table: str, name: str) -> list:
    return decoded.tables[table][name].to_pylist()


# -- open interest


def test_a2_two_endpoints_count_differently_and_agree_in_coins():
    """contract_stats adds both sides, position_size holds the longs: native amounts differ by two, coins by less than a percent."""
    history, now = decode(STATS), decode(CONTRACT)
    last, snapshot = (found.tables["open_interest"].to_pylist()[-1] for found in (history, now))
    assert (last["oi_sides"], snapshot["oi_sides"]) == (2, 1)
    assert last["open_interest_native"] / snapshot["open_interest_native"] == pytest.approx(2.0, rel=0.01)
    assert last["open_interest_base"] == pytest.approx(snapshot["open_interest_base"], rel=0.01)
    assert last["open_interest_base"] == pytest.approx(411020000 * 0.0001 / 2)
    assert last["open_interest_usd"] == pytest.approx(411020000 * 0.0001 * 108055.0 / 2)
    assert (last["native_unit"], snapshot["native_unit"]) == ("contracts", "contracts")


@pytest.mark.parametrize("factor", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("field", ["open_interest", "open_interest_usd"])
def test_a2_a_venue_that_begins_to_count_otherwise_is_put_aside(field, factor):
    def other(tree):
        tree[1][field] *= factor

    decoded = decode(STATS, other)
    assert reasons(decoded) == [("open_interest", "CONVENTION")]
    assert "way of counting" in decoded.rejects[0].detail
    assert decoded.tables["open_interest"].num_rows == 2
    assert decoded.tables["liquidations"].num_rows == 3, "what is right in the row stays"


def test_a4_a_size_that_changed_since_the_listing_is_put_aside():
    payload = one("gate", f"{STATS}.json")
    ask = replace(payload.ask, series=replace(payload.ask.series, options=(("contract_size", "0.001"),)))
    assert set(reasons(GATE.decode(ask, payload.answer))) == {("open_interest", "CONVENTION")}


@pytest.mark.parametrize("endpoint", [STATS, CANDLES])
def test_a4_contracts_without_a_size_have_no_unit(endpoint):
    payload = one("gate", f"{endpoint}.json")
    with pytest.raises(Unreadable) as caught:
        GATE.decode(replace(payload.ask, series=replace(payload.ask.series, options=())), payload.answer)
    assert caught.value.reject.reason_code == "CONVENTION"


def test_a11_no_open_interest_on_a_trading_contract_is_put_aside():
    assert reasons(decode(STATS, lambda tree: tree[0].update(open_interest=0, open_interest_usd=0))) == [
        ("open_interest", "ZERO_OPEN_INTEREST")
    ]
    decoded = decode(CONTRACT, lambda tree: tree.update(position_size=0))
    assert reasons(decoded) == [("open_interest", "ZERO_OPEN_INTEREST")]
    assert decoded.tables["marks"].num_rows == 1


def test_a10_a_snapshot_without_a_stamp_is_of_our_asking():
    assert set(column(decode(CONTRACT), "open_interest", "as_of")) == {utc("2026-05-20T12:00:03")}


# -- positioning and flow


def test_e1_three_ratios_are_three_metrics_and_the_fourth_is_no_split():
    table = decode(STATS).tables["long_short"]
    first = {row["ratio_metric"]: row for row in table.to_pylist() if row["as_of"] == utc("2026-05-20T09:00")}
    ratios = {"global_account": 1.42, "top_account": 1.18, "top_position": 1.07}
    assert {metric: row["long_share"] / row["short_share"] for metric, row in first.items()} == pytest.approx(ratios)
    assert first["global_account"]["long_share"] == pytest.approx(15620 / (15620 + 11000), abs=1e-3), "heads of all holders"
    assert all(row["long_share"] + row["short_share"] == pytest.approx(1.0) for row in table.to_pylist())
    without = decode(STATS, lambda tree: [row.update(lsr_taker=row["lsr_taker"] * 7) for row in tree])
    assert without.tables["long_short"].equals(table)


@pytest.mark.parametrize("value", [-0.5, -1, -2, "much", "nan"])
def test_a_ratio_that_cannot_be_is_put_aside_alone(value):
    decoded = decode(STATS, lambda tree: tree[0].update(top_lsr_size=value))
    assert reasons(decoded) == [("long_short", "VALUE")]
    assert decoded.tables["long_short"].num_rows == 8


def test_a_bucket_of_another_contract_is_in_no_table():
    decoded = decode(STATS, lambda tree: [row.update(contract="ETH_USDT" if n == 0 else "BTC_USDT") for n, row in enumerate(tree)])
    assert set(reasons(decoded)) == {(table, "CONVENTION") for table in decoded.tables}
    first = decode(STATS).tables["open_interest"]["as_of"][0].as_py()
    assert all(first not in table["as_of"].to_pylist() for table in decoded.tables.values())


def test_d3_liquidations_are_of_the_position_in_coins():
    rows = decode(STATS).tables["liquidations"].to_pylist()
    assert [row["long_liquidated_base"] for row in rows] == pytest.approx([0.12, 2.54, 0.0])
    assert [row["short_liquidated_base"] for row in rows] == pytest.approx([0.03, 0.0, 0.88])
    assert {(row["completeness"], row["interval_h"]) for row in rows} == {("full", 1.0)}


def test_taker_volumes_are_in_coins_and_may_be_absent():
    rows = decode(STATS).tables["taker_flow"].to_pylist()
    assert (rows[1]["taker_buy_base"], rows[1]["taker_sell_base"]) == pytest.approx((312.09, 641.03))

    def older(tree):
        for row in tree[:2]:
            del row["long_taker_size"], row["short_taker_size"]

    decoded = decode(STATS, older)
    assert (decoded.tables["taker_flow"].num_rows, reasons(decoded)) == (1, [])
    half = decode(STATS, lambda tree: tree[0].pop("long_taker_size"))
    assert reasons(half) == [("taker_flow", "MISSING")]


def test_counts_may_be_texts():
    """The venue's present document writes sizes as texts, its older answers are numbers."""

    def texts(tree):
        for row in tree:
            row.update(
                {name: str(value) for name, value in row.items() if name.endswith("_size") or name in ("open_interest", "mark_price")}
            )

    written, plain = decode(STATS, texts), decode(STATS)
    assert all(written.tables[name].equals(plain.tables[name]) for name in plain.tables)


def test_a_bucket_is_known_when_it_is_over():
    assert column(decode(STATS), "open_interest", "as_of") == [utc(f"2026-05-20T{hour:02d}:00") for hour in (9, 10, 11)]
    assert column(decode(STATS), "open_interest", "known_at")[0] == utc("2026-05-20T09:05")

    def running(tree):
        tree.append({**tree[-1], "time": tree[-1]["time"] + 3600})

    assert {code for _, code in reasons(decode(STATS, running))} == {"STAMP"}


# -- bars, premium, funding


def test_bars_are_per_coin():
    row = decode(CANDLES).tables["candles"].to_pylist()[0]
    assert (row["as_of"], row["open_usd"], row["close_usd"]) == (utc("2026-05-20T09:00"), 108150.0, 108210.5)
    assert row["volume_base"] == pytest.approx(1019.05)
    payload = one("gate", f"{CANDLES}.json")
    series = replace(payload.ask.series, instrument="1000SATS_USDT", options=(("contract_size", "100.0"),))
    row = GATE.decode(replace(payload.ask, series=series), payload.answer).tables["candles"].to_pylist()[0]
    assert (row["asset"], row["close_usd"]) == ("SATS", pytest.approx(108.2105))
    assert row["volume_base"] == pytest.approx(10190500 * 100 * 1000)


def test_premium_is_the_close_between_its_extremes():
    assert column(decode(PREMIUM), "premiums", "premium_share") == [0.000102, -0.00031, 0.00002]
    assert reasons(decode(PREMIUM, lambda tree: tree[0].update(c="0.5"))) == [("premiums", "VALUE")]


def test_a_settlement_booked_seconds_late_belongs_to_its_hour():
    table = decode(FUNDING).tables["funding"]
    assert table["as_of"].to_pylist() == [utc("2026-05-20T16:00"), utc("2026-05-20T08:00"), utc("2026-05-20T00:00")]
    assert table["funding_rate"].to_pylist() == [0.000042, -0.000013, 0.0001]
    assert set(table["funding_interval_h"].to_pylist()) == {None}
    assert reasons(decode(FUNDING, lambda tree: tree[0].update(t=tree[0]["t"] + 120))) == [("funding", "STAMP")]


def test_c7_the_rate_on_display_is_a_quote():
    row = decode(CONTRACT).tables["funding"].to_pylist()[0]
    assert (row["funding_kind"], row["funding_rate"], row["funding_interval_h"]) == ("quote", 0.000042, 8.0)
    over = decode(CONTRACT, lambda tree: tree.update(funding_next_apply=1779264000))
    assert reasons(over) == [("funding", "CONVENTION")]


# -- the listing


def test_the_listing_keeps_contracts_that_end_and_their_sizes():
    rows = {row["instrument"]: row for row in decode(CONTRACTS).tables["instruments"].to_pylist()}
    assert {name: (row["instrument_status"], row["contract_size"], row["funding_interval_h"]) for name, row in rows.items()} == {
        "BTC_USDT": ("trading", 0.0001, 8.0),
        "PEPE_USDT": ("trading", 1e7, 8.0),
        "1000SATS_USDT": ("trading", 100.0, 4.0),
        "SRM_USDT": ("delisting", 1.0, 8.0),
    }
    assert (rows["1000SATS_USDT"]["asset"], rows["1000SATS_USDT"]["base_multiplier"]) == ("SATS", 1000.0)
    assert rows["BTC_USDT"]["listed_at"] == utc("2020-10-26")
    old = decode(CONTRACTS, lambda tree: [(row.pop("status"), row.pop("create_time")) for row in tree])
    assert column(old, "instruments", "instrument_status") == ["trading", "trading", "trading", "delisting"]
    assert set(column(old, "instruments", "listed_at")) == {None}


def test_a_contract_of_another_kind_is_put_aside():
    assert reasons(decode(CONTRACTS, lambda tree: tree[1].update(type="inverse"))) == [("instruments", "CONVENTION")]
    assert reasons(decode(CONTRACTS, lambda tree: tree[1].update(name="BTC_USD"))) == [("instruments", "CONVENTION")]


@pytest.mark.parametrize("name", ["BTC_USD", "BTCUSDT", "BTC_USDT_20260626", "_USDT", "10000SATS_USDT", ""])
def test_e5_other_spellings_are_not_guessed(name):
    with pytest.raises(LookupError):
        gate_asset(name)


# -- what is asked


def planned(start: str, end: str, now=NOW) -> list[Series]:
    return list(GATE.plan(Window(utc(start), utc(end)), [BTC], now))


def test_histories_reach_back_as_far_as_declared():
    whole = {series.endpoint: series for series in planned("2020-01-01", "2026-07-01")}
    assert {name: (NOW - series.window.start).days for name, series in whole.items() if name != CONTRACT} == {
        STATS: 179,
        FUNDING: 179,
        CANDLES: 416,
        PREMIUM: 416,
    }
    assert all(series.window.end == NOW for name, series in whole.items() if name != CONTRACT)
    assert {series.endpoint for series in planned("2025-01-01", "2025-06-01")} == {CANDLES, PREMIUM}
    assert planned("2022-01-01", "2022-06-01") == []


def test_nothing_is_asked_of_before_the_listing():
    young = replace(BTC, listed_at=utc("2026-05-01"))
    found = list(GATE.plan(Window(utc("2026-04-01"), utc("2026-05-02")), [young], NOW))
    assert {series.window.start for series in found} == {utc("2026-05-01")}


@given(st.integers(0, 40_000), st.integers(1, 6000), st.sampled_from([(STATS, 100), (CANDLES, 2000), (PREMIUM, 1000)]))
@settings(max_examples=60)
def test_pages_hold_every_label_once_and_never_the_running_one(offset, length, endpoint):
    name, most = endpoint
    start = utc("2021-04-01") + offset * HOUR
    series = Series("gate", name, "BTC_USDT", Window(start, start + length * HOUR), HOUR, (("contract_size", "0.0001"),))
    labels = []
    for ask in GATE.asks(series):
        params = dict(ask.params)
        assert "contract_size" not in params
        first = int(params["from"])
        count = int(params["limit"]) if name == STATS else (int(params["to"]) - first) // 3600 + 1
        assert 1 <= count <= most
        assert ("limit" in params) is (name == STATS)
        labels += [first + 3600 * n for n in range(count)]
    assert [from_ms(label * 1000) + HOUR for label in labels] == series.expected()


@given(st.integers(0, 40_000), st.integers(1, 4000))
@settings(max_examples=40)
def test_every_settlement_of_the_window_lies_in_one_page_that_cannot_be_full(offset, length):
    start = utc("2021-04-01") + offset * HOUR
    series = Series("gate", FUNDING, "BTC_USDT", Window(start, start + length * HOUR))
    pages = [(int(dict(ask.params)["from"]), int(dict(ask.params)["to"])) for ask in GATE.asks(series)]
    assert all((last - first) // 3600 + 1 < 1000 for first, last in pages)
    for hour in (start, start + HOUR, series.window.end):
        booked = int(hour.timestamp()) + 3
        assert sum(first <= booked <= last for first, last in pages) == (hour in series.window)


def test_a_full_page_of_settlements_goes_on_before_its_oldest():
    payload = one("gate", f"{FUNDING}.json")
    first = int(dict(payload.ask.params)["from"])
    ask = replace(payload.ask, params=tuple((name, "3" if name == "limit" else value) for name, value in payload.ask.params))
    oldest = min(row["t"] for row in json.loads(payload.answer.body))
    onward = GATE.follow(ask, payload.answer)
    assert (int(dict(onward.params)["to"]), int(dict(onward.params)["from"])) == (oldest - 1, first)
    assert GATE.follow(payload.ask, payload.answer) is None, "the page was not full"
    assert GATE.follow(onward, payload.answer) is None, "the same page again leads nowhere"
    assert GATE.follow(ask, replace(payload.answer, body=b"{")) is None


def test_an_unknown_endpoint_is_our_mistake():
    series = Series("gate", "liq_orders", "BTC_USDT", Window(utc("2026-01-01"), utc("2026-01-02")))
    with pytest.raises(ValueError, match="liq_orders"):
        list(GATE.asks(series))
    with pytest.raises(ValueError, match="liq_orders"):
        GATE.decode(Ask(series, "api", "/"), Answer(200, b"{}", NOW))


# -- errors


@pytest.mark.parametrize("status", [200, 400, 404])
def test_errors_are_named_in_the_venues_words(status):
    payload = one("gate", f"{CANDLES}.json")
    body = b'{"label":"INVALID_PARAM_VALUE","message":"Candlestick too long ago. Maximum 10000 points ago are allowed"}'
    verdict = GATE.classify(payload.ask, Answer(status, body, NOW, JSON))
    assert (verdict.verb, verdict.reason_code) == ("reject", "VENUE_ERROR")
    assert "INVALID_PARAM_VALUE Candlestick too long ago" in verdict.detail
    with pytest.raises(Unreadable) as caught:
        GATE.decode(payload.ask, Answer(200, body, NOW, JSON))
    assert caught.value.reject.reason_code == "VENUE_ERROR"


@pytest.mark.parametrize(("anew", "wait"), [("1779963607", 7.0), ("1779960000", 1.0), ("1999999999", 60.0), ("soon", None), ("", None)])
def test_too_many_requests_wait_for_the_new_count(anew, wait):
    ask = one("gate", f"{STATS}.json").ask
    now = from_ms(1779963600_000)
    body = b'{"label":"TOO_MANY_REQUESTS","message":"Request Rate limit Exceeded"}'
    verdict = GATE.classify(ask, Answer(429, body, now, JSON | {"X-Gate-RateLimit-Reset-Timestamp": anew}))
    assert (verdict.verb, verdict.wait) == ("retry", wait)
    told = GATE.classify(ask, Answer(429, body, now, JSON | {"Retry-After": "3", "X-Gate-RateLimit-Reset-Timestamp": anew}))
    assert told.wait == 3.0


# -- recordings


@pytest.mark.recordings
def test_documented_contracts_decode_whole(recordings):
    """The sample of a client library is of before `status` and `create_time`."""
    text = (recordings / "payloads" / "documented" / "notes" / "gate.txt").read_text().split("##### ")[1]
    body = text[text.index("[") : text.rindex("]") + 1].replace("False", "false").replace("True", "true").encode()
    at = utc("2021-01-07T09:30")
    series = Series("gate", CONTRACTS, "", Window(at - HOUR, at))
    decoded = GATE.decode(Ask(series, "api", "/futures/usdt/contracts"), Answer(200, body, at, JSON))
    assert (decoded.rejects, decoded.notes) == ([], [])
    (row,) = decoded.tables["instruments"].to_pylist()
    assert (row["instrument"], row["contract_size"], row["instrument_status"], row["listed_at"]) == ("BTC_USDT", 0.0001, "trading", None)
    state = replace(series, endpoint=CONTRACT, instrument="BTC_USDT")
    decoded = GATE.decode(Ask(state, "api", "/"), Answer(200, body.strip(b"[] \n"), at, JSON))
    assert decoded.rejects == []
    (row,) = decoded.tables["open_interest"].to_pylist()
    assert row["open_interest_base"] == pytest.approx(5223816 * 0.0001 / number("gate", CONTRACT, "oi_sides", at))

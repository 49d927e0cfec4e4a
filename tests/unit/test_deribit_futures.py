"""Deribit's perpetuals: what was paid in an hour, whose position a trade liquidated, dollars of open interest."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payloads.reader import one
from transforms import conventions
from transforms.instruments import tradable
from transforms.roster import source
from transforms.sources import deribit_futures as futures
from transforms.sources.contract import Answer, Ask, Series, Unreadable
from transforms.sources.deribit import DVOL
from transforms.windows import HOUR, Window, from_ms, to_ms, utc

DERIBIT = source("deribit")
NOW = utc("2026-05-28T10:20")
JSON = {"Content-Type": "application/json"}


def decode(endpoint: str, change=lambda tree: None, **answered):
    """The payload after `change(tree)`, decoded."""
    payload = one("deribit", f"{endpoint}.json")
    tree = json.loads(payload.answer.body)
    change(tree)
    return DERIBIT.decode(payload.ask, replace(payload.answer, body=json.dumps(tree).encode(), **answered))


def reasons(decoded) -> list[str]:
    return [reject.reason_code for reject in decoded.rejects]


def planned(start: str, end: str, now=NOW) -> dict[tuple[str, str], Series]:
    return {(series.endpoint, series.instrument): series for series in DERIBIT.plan(Window(utc(start), utc(end)), [], now)}


def envelope(result, at=NOW) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "result": result, "usIn": 1, "usOut": to_ms(at) * 1000, "usDiff": 1, "testnet": False}).encode()


# -- what is asked


def test_e3_the_volatility_that_is_asked_for_is_implied_and_never_realised():
    """ccxt's fetchVolatilityHistory is get_historical_volatility, realised: the index DVOL has a method of its own."""
    paths = {ask.path for series in planned("2026-05-20", "2026-05-28T10:00").values() for ask in DERIBIT.asks(series)}
    assert f"/public/{DVOL}" in paths
    assert DVOL == "get_volatility_index_data"
    assert not any("historical" in path for path in paths)
    bars = one("deribit", f"{DVOL}.json")
    assert list(DERIBIT.decode(bars.ask, bars.answer).tables) == ["volatility_index"]


def test_d6_bankruptcies_are_not_asked_for_as_liquidations():
    """ccxt's fetchLiquidations asks get_last_settlements_by_currency: bankruptcy settlements."""
    assert not any("settlement" in endpoint for endpoint in DERIBIT.endpoints)


def test_both_perpetuals_have_their_histories_and_snapshots():
    found = planned("2026-05-20", "2026-05-28T10:00")
    for name in futures.PERPETUALS:
        assert found[futures.FUNDING, name].window == Window(utc("2026-05-20"), utc("2026-05-28T10:00"))
        assert found[futures.FUNDING, name].step == HOUR
        assert found[futures.TAPE, name].window == Window(NOW - timedelta(days=3), utc("2026-05-28T10:00"))
        assert (futures.FUTURES, name) in found
    assert {name for endpoint, name in found if endpoint == futures.INSTRUMENTS} == {"BTC", "ETH"}
    old = planned("2024-01-01", "2024-02-01")
    assert {endpoint for endpoint, _ in old} == {futures.FUNDING, DVOL}
    assert planned("2018-01-01", "2019-06-01")[futures.FUNDING, "BTC-PERPETUAL"].window.start == utc("2019-05-01")


@given(st.integers(0, 3000), st.integers(1, 3000))
@settings(max_examples=40)
def test_pages_of_funding_hold_every_hour_once_however_ends_are_counted(offset, length):
    """Whether the venue counts the start in or out, a page holds its own hours and none of the page before."""
    start = utc("2025-01-01") + offset * HOUR
    series = Series("deribit", futures.FUNDING, "ETH-PERPETUAL", Window(start, start + length * HOUR), HOUR)
    stamps = []
    for ask in DERIBIT.asks(series):
        params = dict(ask.params)
        first, last = int(params["start_timestamp"]), int(params["end_timestamp"])
        inside = [at for at in range(first // 3_600_000 * 3_600_000, last + 1, 3_600_000) if first <= at <= last]
        assert len(inside) <= futures.FUNDING_ROWS
        assert first not in inside
        stamps += [from_ms(at) for at in inside]
    assert stamps == series.expected()


@given(st.integers(0, 3_600_000), st.integers(1, 10 * 3_600_000))
@settings(max_examples=40)
def test_hours_of_the_tape_hold_every_millisecond_once(offset, length):
    window = Window(utc("2026-05-27") + timedelta(milliseconds=offset), utc("2026-05-27") + timedelta(milliseconds=offset + length))
    spans = [dict(ask.params) for ask in DERIBIT.asks(Series("deribit", futures.TAPE, "BTC-PERPETUAL", window))]
    edges = [(int(span["start_timestamp"]), int(span["end_timestamp"])) for span in spans]
    assert (edges[0][0], edges[-1][1]) == (to_ms(window.start) + 1, to_ms(window.end))
    assert all(first[1] + 1 == second[0] for first, second in itertools.pairwise(edges))
    assert all(span["sorting"] == "asc" and span["count"] == "1000" for span in spans)


# -- pages of the tape


class Tape:
    """A venue that serves trades as documented: [start, end], oldest first, `count` at most, and whether there is more."""

    def __init__(self, trades):
        self.trades = trades

    def answer(self, ask: Ask) -> Answer:
        params = dict(ask.params)
        inside = [one for one in self.trades if int(params["start_timestamp"]) <= one["timestamp"] <= int(params["end_timestamp"])]
        page = {"trades": inside[: int(params["count"])], "has_more": len(inside) > int(params["count"])}
        return Answer(200, envelope(page), NOW, JSON)


def trade(number: int, at: int, flag: str | None = "T") -> dict:
    row = {
        "trade_id": str(number),
        "instrument_name": "BTC-PERPETUAL",
        "timestamp": at,
        "price": 100_000.0,
        "amount": 10.0,
        "direction": "sell",
    }
    return row | ({"liquidation": flag} if flag else {})


def taken(tape: Tape, window: Window):
    """All rows and rejects of one window, pages followed as the fetcher does."""
    rows, rejects = [], []
    for first in DERIBIT.asks(Series("deribit", futures.TAPE, "BTC-PERPETUAL", window)):
        ask: Ask | None = first
        seen = set()
        while ask is not None and ask.question not in seen:
            seen.add(ask.question)
            assert len(seen) < 50
            answer = tape.answer(ask)
            decoded = DERIBIT.decode(ask, answer)
            rows += decoded.tables["forced_trades"].to_pylist()
            rejects += decoded.rejects
            ask = DERIBIT.follow(ask, answer)
    return rows, rejects


@given(st.lists(st.integers(1, 3_600_000), min_size=1, max_size=40), st.lists(st.integers(1, 250), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_every_liquidation_comes_whatever_shares_a_millisecond_at_the_seam(instants, counts):
    start = to_ms(utc("2026-05-27"))
    stamps = sorted(start + at for at, count in zip(instants, itertools.cycle(counts), strict=False) for _ in range(count))
    tape = Tape([trade(n, at) for n, at in enumerate(stamps)])
    rows, rejects = taken(tape, Window(utc("2026-05-27"), utc("2026-05-27T01:00")))
    if max(Counter(stamps).values()) < futures.TAPE_ROWS:
        assert not rejects
    if not rejects:
        assert {row["trade_id"] for row in rows} == {str(n) for n in range(len(stamps))}
        repeated = Counter(row["trade_id"] for row in rows)
        whole = {row["trade_id"]: row for row in rows}
        assert all(whole[row["trade_id"]] == row for row in rows), "what comes twice is an exact repetition"
        assert sum(count - 1 for count in repeated.values()) <= sum(Counter(stamps).values())


def test_more_trades_in_a_millisecond_than_a_page_holds_are_not_passed_over_in_silence():
    at = to_ms(utc("2026-05-27T00:30"))
    rows, rejects = taken(Tape([trade(n, at) for n in range(1500)]), Window(utc("2026-05-27"), utc("2026-05-27T01:00")))
    assert len({row["trade_id"] for row in rows}) == 1000
    assert [reject.reason_code for reject in rejects] == ["TRUNCATED"]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"<html>", envelope([]), envelope({"trades": [], "has_more": True}), envelope({"trades": 3})]
)
def test_an_odd_page_is_not_followed(body):
    (ask, *_) = DERIBIT.asks(Series("deribit", futures.TAPE, "BTC-PERPETUAL", Window(utc("2026-05-27"), utc("2026-05-27T01:00"))))
    assert DERIBIT.follow(ask, Answer(200, body, NOW, JSON)) is None


# -- liquidations


def test_d3_the_position_follows_from_the_takers_direction_and_whose_order_it_was():
    rows = decode(futures.TAPE).tables["forced_trades"].to_pylist()
    told = [(row["trade_id"], row["position_side"]) for row in rows]
    assert told == [
        ("391044211", "long"),  # the taker sold
        ("391044212", "long"),
        ("391044213", "long"),  # the taker bought, the maker sold
        ("391044215", "short"),  # the taker bought
        ("391044216", "short"),  # the taker sold, the maker bought
        ("391044217/taker", "long"),
        ("391044217/maker", "short"),
    ]


def test_a4_amounts_of_inverse_contracts_are_dollars():
    rows = decode(futures.TAPE).tables["forced_trades"].to_pylist()
    assert rows[0]["amount_base"] == 80_000.0 / 107_121.0
    assert {row["instrument"] for row in rows} == {"BTC-PERPETUAL"}
    assert {(row["price_kind"], row["completeness"], row["asset"]) for row in rows} == {("trade", "full", "BTC")}
    assert rows[0]["as_of"] == utc("2026-05-20T11:17") + timedelta(milliseconds=311)


def test_trades_of_one_instant_are_told_apart():
    table = decode(futures.TAPE).tables["forced_trades"]
    keys = list(zip(table["as_of"].to_pylist(), table["trade_id"].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys) == 7


def test_other_trades_are_no_rows_of_ours():
    def calm(tree):
        for row in tree["result"]["trades"]:
            row.pop("liquidation", None)

    decoded = decode(futures.TAPE, calm)
    assert decoded.rows == 0
    assert not decoded.notes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"liquidation": "TM"}, "CONVENTION"),
        ({"liquidation": ""}, "CONVENTION"),
        ({"direction": "zero"}, "CONVENTION"),
        ({"instrument_name": "ETH-PERPETUAL"}, "CONVENTION"),
        ({"timestamp": to_ms(utc("2026-05-20T12:00")) + 1}, "STAMP"),
        ({"price": 0.0}, "VALUE"),
        ({"price": -1.0}, "VALUE"),
        ({"amount": -10.0}, "VALUE"),
        ({"amount": None}, "SHAPE"),
        ({"direction": None}, "SHAPE"),
        ({"liquidation": 1}, "SHAPE"),
    ],
)
def test_what_is_not_declared_or_cannot_be_is_put_aside_alone(change, reason):
    decoded = decode(futures.TAPE, lambda tree: tree["result"]["trades"][1].update(change))
    assert reasons(decoded) == [reason]
    assert decoded.tables["forced_trades"].num_rows == 6


def test_two_trades_of_one_number_are_both_put_aside_when_they_differ():
    def twice(tree):
        trades = tree["result"]["trades"]
        trades.append({**trades[1], "amount": 10.0})

    assert reasons(decode(futures.TAPE, twice)) == ["DUPLICATE_KEY", "DUPLICATE_KEY"]


# -- funding


def test_c3_what_was_paid_in_an_hour_is_stored_and_not_the_trailing_eight():
    rows = decode(futures.FUNDING).tables["funding"].to_pylist()
    assert [row["funding_rate"] for row in rows] == [3.11e-06, -1.27e-07, 7.0951e-06]
    assert {(row["funding_kind"], row["funding_interval_h"]) for row in rows} == {("settlement", 1.0)}
    assert [row["as_of"] for row in rows] == [utc(f"2026-05-20T{hour:02d}:00") for hour in (9, 10, 11)]


@given(st.lists(st.floats(-1e-3, 1e-3), min_size=24, max_size=72))
def test_c2_the_settlements_of_a_span_add_up_to_its_annualised_rate_times_its_length(rates):
    """Each row annualised with its own interval: the mean over the span times its length is what was paid. With interest_8h it would be 8x."""
    start = utc("2026-05-01")
    series = Series("deribit", futures.FUNDING, "BTC-PERPETUAL", Window(start, start + len(rates) * HOUR), HOUR)
    rows = [
        {"timestamp": to_ms(start + (n + 1) * HOUR), "interest_1h": rate, "interest_8h": sum(rates[max(0, n - 7) : n + 1])}
        for n, rate in enumerate(rates)
    ]
    (ask,) = DERIBIT.asks(series)
    found = DERIBIT.decode(ask, Answer(200, envelope(rows), NOW, JSON)).tables["funding"].to_pylist()
    annual = [row["funding_rate"] * 8766 / row["funding_interval_h"] for row in found]
    assert sum(annual) / len(annual) * len(rates) / 8766 == pytest.approx(sum(rates), abs=1e-12)


@pytest.mark.parametrize("change", [{"interest_1h": 0.8}, {"interest_1h": None}, {"timestamp": 1779263999999}])
def test_a_strange_hour_is_put_aside_alone(change):
    decoded = decode(futures.FUNDING, lambda tree: tree["result"][1].update(change))
    assert len(decoded.rejects) == 1
    assert decoded.tables["funding"].num_rows == 2


# -- snapshots


def test_a4_open_interest_of_a_perpetual_is_dollars_and_has_no_coins():
    tables = decode(futures.FUTURES).tables
    (row,) = tables["open_interest"].to_pylist()
    assert (row["instrument"], row["native_unit"], row["oi_sides"]) == ("BTC-PERPETUAL", "usd", 1)
    assert (row["open_interest_usd"], row["open_interest_base"]) == (871204530.0, None)
    assert row["as_of"] == utc("2026-05-20T12:00:02.113807")
    (mark,) = tables["marks"].to_pylist()
    assert (mark["mark_usd"], mark["index_usd"]) == (107119.38, 107133.02)


def test_a10_a_snapshot_is_never_later_than_our_asking_and_of_one_instant():
    (row,) = decode(futures.FUTURES, fetched_at=utc("2026-05-20T12:00:01")).tables["open_interest"].to_pylist()
    assert row["as_of"] == utc("2026-05-20T12:00:01")

    def old(tree):
        tree["result"][1]["creation_timestamp"] -= 61_000

    assert reasons(decode(futures.FUTURES, old)) == ["STAMP", "STAMP"]


def test_a11_zero_open_interest_is_put_aside_and_the_mark_stays():
    decoded = decode(futures.FUTURES, lambda tree: tree["result"][1].update(open_interest=0))
    assert reasons(decoded) == ["ZERO_OPEN_INTEREST"]
    assert decoded.tables["marks"].num_rows == 1


def test_a_perpetual_that_is_not_served_is_missing():
    decoded = decode(futures.FUTURES, lambda tree: tree["result"].pop(1))
    assert not any(table.num_rows for table in decoded.tables.values())
    assert [one.reason_code for one in decoded.rejects] == ["MISSING"]
    assert "BTC-PERPETUAL is not among the 2" in decoded.rejects[0].detail


def test_a_state_from_before_its_window_is_put_aside():
    def old(tree):
        for row in tree["result"]:
            row["creation_timestamp"] -= 7_200_000
        tree["usOut"] -= 7_200_000_000

    decoded = decode(futures.FUTURES, old)
    assert not any(table.num_rows for table in decoded.tables.values())
    assert {one.reason_code for one in decoded.rejects} == {"STAMP"}


def test_a_listing_tells_perpetuals_from_dated_futures():
    table = decode(futures.INSTRUMENTS).tables["instruments"]
    rows = {row["instrument"]: row for row in table.to_pylist()}
    assert {(row["payoff"], row["contract_unit"], row["margin_asset"], row["contract_size"]) for row in rows.values()} == {
        ("inverse", "usd", "ETH", 1.0)
    }
    assert rows["ETH-PERPETUAL"]["delivery_at"] is None
    assert rows["ETH-26JUN26"]["delivery_at"] == utc("2026-06-26T08:00")
    assert [(one.instrument, one.payoff) for one in tradable(table, DERIBIT.listing)] == [("ETH-PERPETUAL", "inverse")]


@pytest.mark.parametrize("change", [{"instrument_type": "quanto"}, {"instrument_name": "ETH-FS-26JUN26_PERP"}, {"base_currency": "BTC"}])
def test_e5_a_contract_of_another_kind_is_put_aside_in_a_listing(change):
    decoded = decode(futures.INSTRUMENTS, lambda tree: tree["result"][0].update(change))
    assert reasons(decoded) == ["CONVENTION"]
    assert decoded.tables["instruments"].num_rows == 2


def test_a_linear_future_counts_coins():
    def linear(tree):
        tree["result"][0] |= {"instrument_type": "linear", "instrument_name": "ETH_USDC-PERPETUAL", "settlement_currency": "USDC"}

    (row, *_) = decode(futures.INSTRUMENTS, linear).tables["instruments"].to_pylist()
    assert (row["payoff"], row["contract_unit"], row["asset"]) == ("linear", "base", "ETH")


@pytest.mark.parametrize("endpoint", [futures.FUNDING, futures.TAPE, futures.FUTURES])
def test_an_instrument_outside_the_spelling_makes_the_answer_unreadable(endpoint):
    result = {"trades": [], "has_more": False} if endpoint == futures.TAPE else []
    series = Series("deribit", endpoint, "BTCUSDT", Window(utc("2026-05-01"), utc("2026-05-02")), HOUR)
    with pytest.raises(Unreadable) as caught:
        DERIBIT.decode(Ask(series, "api", "/"), Answer(200, envelope(result), NOW, JSON))
    assert caught.value.reject.reason_code == "CONVENTION"


# -- what the venue really answered


def recorded(recordings, kind, name):
    return json.loads((recordings / "payloads" / kind / "deribit" / name).read_text())


def told(endpoint, instrument, tree, at):
    series = Series("deribit", endpoint, instrument, Window(utc("2019-01-01"), utc("2026-11-01")))
    full = {"usOut": to_ms(at) * 1000, **tree, "testnet": False}  # one page was captured on the test network: its shape is what is read
    (ask, *_) = DERIBIT.asks(replace(series, window=Window(at - HOUR, at + HOUR)))
    return DERIBIT.decode(replace(ask, series=series), Answer(200, json.dumps(full).encode(), at + HOUR, JSON))


@pytest.mark.recordings
def test_recorded_futures_decode_and_their_open_interest_can_only_be_dollars(recordings):
    tree = recorded(recordings, "recorded", "deribit_book_summary_btc_future.json")
    at = from_ms(tree["result"][0]["creation_timestamp"])
    decoded = told(futures.FUTURES, "BTC-PERPETUAL", tree, at)
    assert (list(decoded.rejects), list(decoded.notes)) == ([], [])
    (row,) = decoded.tables["open_interest"].to_pylist()
    assert row["open_interest_usd"] > 21e6, "more than there are coins"
    (mark,) = decoded.tables["marks"].to_pylist()
    ticker = recorded(recordings, "recorded", "deribit_ticker_btc_perpetual.json")["result"]
    assert ticker["index_price"] == ticker["estimated_delivery_price"], "of a perpetual the field is the index"
    assert mark["index_usd"] == pytest.approx(ticker["index_price"], rel=1e-4)


@pytest.mark.recordings
def test_recorded_listings_decode_whole(recordings):
    tree = recorded(recordings, "recorded", "deribit_get_instruments_btc_future.json")
    decoded = told(futures.INSTRUMENTS, "BTC", tree, from_ms(tree["usOut"] // 1000))
    assert not decoded.rejects
    assert decoded.tables["instruments"].num_rows == len(tree["result"])
    assert [one.instrument for one in tradable(decoded.tables["instruments"], DERIBIT.listing)] == ["BTC-PERPETUAL"]


@pytest.mark.recordings
def test_captured_pages_of_the_tape_decode_whole_and_hold_no_liquidation(recordings):
    for name, instrument in (
        ("http_get_last_trades.json", "ETH-PERPETUAL"),
        ("http_get_last_trades_perpetual_with_combo_tags.json", "BTC-PERPETUAL"),
    ):
        tree = recorded(recordings, "mixed", name)
        decoded = told(futures.TAPE, instrument, tree, from_ms(tree["result"]["trades"][0]["timestamp"]))
        assert decoded.rows == 0
        assert not decoded.notes
        size = {"ETH-PERPETUAL": 1.0, "BTC-PERPETUAL": 10.0}[instrument]
        assert all(row["amount"] == row["contracts"] * size for row in tree["result"]["trades"]), "amounts are USD"


@pytest.mark.recordings
def test_the_documents_example_of_funding_ends_its_hours_at_the_stamp(recordings):
    """Asked 2019-10-01 00:00 to 04:00 the venue's example begins at 01:00; the client library's note holds its first row."""
    note = (recordings / "payloads" / "documented" / "notes" / "deribit.txt").read_text()
    assert '"timestamp": 1569891600000' in note
    label = conventions.find("deribit", futures.FUNDING, "label", NOW)
    assert label.value == "end"
    (ask,) = DERIBIT.asks(Series("deribit", futures.FUNDING, "BTC-PERPETUAL", Window(utc("2019-10-01"), utc("2019-10-01T04:00")), HOUR))
    params = dict(ask.params)
    assert int(params["start_timestamp"]) < 1569891600000 <= int(params["end_timestamp"]) == 1569902400000

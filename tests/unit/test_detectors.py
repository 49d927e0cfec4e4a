"""Detectors on histories made by hand: which rows, which factor, known since when. Calibration on real history: tests/golden/test_defects.py."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from transforms.detectors import Inputs, to_table
from transforms.detectors.contract import Told, findings, lines
from transforms.detectors.gaps import MissingInCrash, TruncatedHistory
from transforms.detectors.sides import SideBreak
from transforms.detectors.units import RateUnitBreak, UnitBreak
from transforms.reading import to_us
from transforms.schema import arrow_schema
from transforms.tables import TABLES
from transforms.windows import HOUR, utc

START = utc("2024-03-01")
LAG = timedelta(minutes=5)
BLANK = {"string": "", "double": 0.0, "int64": 0, "int32": 0, "bool": False}


def core(name, rows):
    """A core table; what a row does not say is blank, its instant START + `n` hours, known five minutes later unless it says `late`."""
    schema = arrow_schema(TABLES[name])
    filled = []
    for row in rows:
        at = START + row["n"] * HOUR
        named = {"source": row["venue"], "as_of": at, "known_at": at + LAG + row.get("late", timedelta(0)), "date": at.date()}
        filled.append({field.name: (named | row).get(field.name, BLANK.get(str(field.type))) for field in schema})
    return pa.Table.from_pylist(filled, schema=schema)


def contract(venue, values, *, source=None, instrument="BTCUSDT", asset="BTC", known=None):
    """Open interest of one contract, hour by hour, coins at 50,000 USD. known: hour -> how late that row was."""
    who = {"venue": venue, "source": source or venue, "instrument": instrument, "asset": asset, "native_unit": "base", "oi_sides": 1}
    return [
        who
        | {"n": n, "open_interest_native": one, "open_interest_base": one, "open_interest_usd": 5e4 * one}
        | ({"late": known[n]} if known and n in known else {})
        for n, one in enumerate(values)
        if one is not None
    ]


def bars(venue, volumes, **who):
    named = {"venue": venue, "instrument": "BTCUSDT", "asset": "BTC", "interval_h": 1.0} | who
    return [named | {"n": n, "close_usd": 5e4, "volume_base": volume} for n, volume in enumerate(volumes)]


def wave(count, level=1000.0):
    """A living level: hours that go up and down by a thousandth and two."""
    return [level * (1 + 0.001 * (n % 3)) for n in range(count)]


def at(n):
    return to_us(START + n * HOUR)


# -- unit breaks


@pytest.mark.parametrize("by", [100.0, 1000.0, 0.01, 0.001])
def test_the_factor_is_what_the_suspect_rows_are_to_be_multiplied_by(by):
    values = wave(40)
    broken = [one * by if 30 <= n < 36 else one for n, one in enumerate(values)]
    found = UnitBreak().find(Inputs({"open_interest": core("open_interest", contract("okx", broken))}, {}))
    assert {(one.window_start, one.window_end, one.rows, one.consequence) for one in found} == {(at(29), at(35), 6, "quarantine")}
    assert [one.factor for one in found] == [pytest.approx(1 / by)] * len(found)
    assert {one.known_at for one in found} == {at(30) + LAG // timedelta(microseconds=1)}, "the first row proves it"


def test_two_sources_a_thousandfold_apart_are_both_flagged_from_the_third_row_on_and_known_when_both_were():
    """Nobody knows who is right. Both levels are their own and steady, so neither breaks by itself."""
    late = dict.fromkeys(range(40), HOUR)
    own = contract("binance", [None] * 20 + wave(20), known=late)
    told = contract("binance", [one * 1000 for one in wave(23)], source="coinalyze")
    found = UnitBreak().find(Inputs({"open_interest": core("open_interest", [*own, *told])}, {}))
    of_coins = [one for one in found if "open_interest_base" in one.detail]
    assert sorted((one.source, one.factor, one.rows, one.consequence) for one in of_coins) == [
        ("binance", 1000.0, 3, "flag"),
        ("coinalyze", 0.001, 3, "flag"),
    ]
    assert {one.window_end for one in found} == {at(22)}
    assert {one.known_at for one in found} == {to_us(START + 22 * HOUR + HOUR + LAG)}, "the third row of the later voice"
    two = core("open_interest", [*own, *contract("binance", [one * 1000 for one in wave(22)], source="coinalyze")])
    assert UnitBreak().find(Inputs({"open_interest": two}, {})) == [], "two rows are a bad tick"


def test_value_over_amount_is_held_against_the_candle():
    rows = contract("okx", wave(20))
    for row in rows:
        row["open_interest_usd"] *= 100
    tables = {"open_interest": core("open_interest", rows), "candles": core("candles", bars("okx", [1.0] * 20))}
    (one,) = UnitBreak().find(Inputs(tables, {}))
    assert (one.rows, one.factor, one.consequence, one.observed, one.expected) == (20, 0.01, "quarantine", 5e6, 5e4)
    thousand = [row | {"instrument": "1000BTCUSDT"} for row in rows]
    named = core("candles", bars("okx", [1.0] * 20, instrument="1000BTCUSDT"))
    assert UnitBreak().find(Inputs({"open_interest": core("open_interest", thousand), "candles": named}, {})) == []


# -- sides


def halved(count=40, since=30):
    return [one / 2 if n >= since else one for n, one in enumerate(wave(count))]


def sides(*rows, volumes=None):
    candles = {} if volumes is None else {"candles": core("candles", bars("bybit", volumes))}
    return SideBreak().find(Inputs({"open_interest": core("open_interest", [one for some in rows for one in some]), **candles}, {}))


def test_alone_and_without_volume_a_half_proves_nothing():
    assert sides(contract("bybit", halved())) == []


def test_a_change_larger_than_all_that_was_traded_is_no_trade():
    """From 1002 to 500 coins: with 501 traded it cannot be, with 503 it can."""
    (one,) = sides(contract("bybit", halved()), volumes=[501.0] * 40)
    assert (one.window_start, one.window_end, one.factor, one.rows) == (at(29), at(39), 2.0, 10)
    assert sides(contract("bybit", halved()), volumes=[503.0] * 40) == []


@pytest.mark.parametrize(("peer", "seen"), [("okx", True), ("bybit", False)])
def test_a_quiet_peer_is_of_another_venue(peer, seen):
    rows = contract("bybit", halved()), contract(peer, wave(40), instrument="BTCUSDC")
    found = sides(*rows, volumes=[600.0] * 40)
    assert [one.instrument for one in found] == (["BTCUSDT"] if seen else [])


def test_a_peer_that_moved_a_tenth_or_is_silent_is_no_witness_and_a_busy_hour_is_the_market():
    moved = [one * 1.2 if n >= 30 else one for n, one in enumerate(wave(40))]
    silent = [None if n >= 28 else one for n, one in enumerate(wave(40))]
    for peer in (moved, silent):
        assert sides(contract("bybit", halved()), contract("okx", peer), volumes=[600.0] * 40) == []
    for most, count in ((1799.0, 1), (1801.0, 0)):  # three medians of an hour's 600
        volumes = [most if n == 30 else 600.0 for n in range(40)]
        assert len(sides(contract("bybit", halved()), contract("okx", wave(40)), volumes=volumes)) == count


def test_what_a_peer_proves_is_known_when_the_peer_was():
    (one,) = sides(contract("bybit", halved()), contract("okx", wave(40), known={30: timedelta(hours=2)}), volumes=[600.0] * 40)
    assert one.known_at == to_us(START + 32 * HOUR + LAG)


def test_the_step_back_ends_it():
    there_and_back = [one / 2 if 30 <= n < 33 else one for n, one in enumerate(wave(40))]
    (one,) = sides(contract("bybit", there_and_back), volumes=[400.0] * 40)
    assert (one.window_start, one.window_end, one.rows, one.expected, one.observed) == (at(29), at(32), 3, pytest.approx(1002), 500.0)


# -- truncated histories


def asked(hours, **said):
    """Of a window of so many hours, as the ledger of coverage has it."""
    window = {"window_start": START, "window_end": START + hours * HOUR, "recorded_at": START + (hours + 5) * HOUR}
    row = window | {"source": "okx", "instrument": "BTCUSDT", "target": "open_interest", "expected": hours} | said
    schema = arrow_schema(TABLES["coverage"])
    return pa.Table.from_pylist([{one.name: row.get(one.name, BLANK.get(str(one.type))) for one in schema}], schema=schema)


def truncated(came, hours=240):
    rows = [row for row in contract("okx", [None, *wave(hours)]) if row["n"] in came]
    coverage = asked(hours, received=len(came), missing=hours - len(came))
    return TruncatedHistory().find(Inputs({"open_interest": core("open_interest", rows)}, {}, coverage))


def test_a_page_at_either_end_says_which_end_is_missing():
    (late,) = truncated(range(141, 241))
    assert (late.window_start, late.window_end, late.known_at) == (at(0), at(141) - 1, at(245))
    assert "start is missing" in late.detail
    (early,) = truncated(range(1, 101))
    assert (early.window_start, early.window_end) == (at(100), at(240))
    assert "end is missing" in early.detail


def test_no_page_a_page_in_the_middle_and_a_page_full_of_holes_are_none():
    assert truncated(range(142, 241)) == [], "99 rows are no page"
    assert truncated(range(71, 171)) == [], "both ends are missing"
    assert truncated(range(42, 241, 2)) == [], "neighbouring rows only"


# -- how suspect rows become findings


def told(held, factor, consequence="flag"):
    """Every row of `held` suspect, each with its factor."""
    count = len(held.as_of)
    numbers = np.arange(count, dtype=float)
    return Told(np.ones(count, dtype=bool), numbers, numbers + 0.5, np.array(factor), consequence, "{instrument} {observed:g} {factor:g}")


def test_neighbouring_rows_are_one_finding_until_the_factor_or_the_contract_changes():
    rows = core("open_interest", [*contract("okx", wave(6)), *contract("okx", wave(2), instrument="ETHUSDT", asset="ETH")])
    held = lines(Inputs({"open_interest": rows}, {}), "open_interest", ("open_interest_base",))
    said = told(held, [0.01, 0.01, 0.001, np.nan, np.nan, 0.01, 0.01, 0.01])
    found = findings(UnitBreak(), held, said)
    assert [(one.instrument, one.window_start, one.window_end, one.rows, one.observed) for one in found] == [
        ("BTCUSDT", at(0) - 1, at(1), 2, 0.0),
        ("BTCUSDT", at(1), at(2), 1, 2.0),
        ("BTCUSDT", at(2), at(4), 2, 3.0),
        ("BTCUSDT", at(4), at(5), 1, 5.0),
        ("ETHUSDT", at(0) - 1, at(1), 2, 6.0),
    ]
    assert [str(one.factor) for one in found] == ["0.01", "0.001", "nan", "0.01", "0.01"], "an unknown factor is one factor"
    assert to_table(found, "r", START).column("rows_affected").to_pylist() == [2, 1, 2, 1, 2]
    assert to_table(found, "r", START).column("suggested_factor").to_pylist() == [0.01, 0.001, None, 0.01, 0.01]
    whole = findings(UnitBreak(), held, said, split=False)
    assert [(one.instrument, one.rows, one.observed, one.detail) for one in whole] == [
        ("BTCUSDT", 6, 0.0, "BTCUSDT 0 0.01"),
        ("ETHUSDT", 2, 6.0, "ETHUSDT 6 0.01"),
    ]
    said.bad[[1, 4]] = False
    assert [(one.window_start, one.rows) for one in findings(UnitBreak(), held, said, split=False)] == [
        (at(0) - 1, 1),
        (at(1), 2),
        (at(4), 1),
        (at(0) - 1, 2),
    ]


# -- rates in percent


def paid(*groups, coins=("BTC", "ETH", "SOL")):
    """Settlements, hourly: the same rate in every coin, its sign alternating. groups: (rows, size)."""
    sizes = [size for count, size in groups for _ in range(count)]
    return core(
        "funding",
        [
            {"venue": "okx", "instrument": coin, "asset": coin, "funding_kind": "settlement", "n": n, "funding_rate": size * (-1) ** n}
            for coin in coins
            for n, size in enumerate(sizes)
        ],
    )


@pytest.mark.parametrize(("first", "factor"), [(1e-2, 100.0), (3e-2, 100.0), (4e-2, 1000.0), (1e-1, 1000.0)])
def test_a_rate_break_that_lasts_keeps_the_factor_it_began_with(first, factor):
    """Beside 1e-4 the first rate is 100 to 1,000 times too large; 316 lies halfway. What rates do afterwards says nothing about the unit."""
    found = RateUnitBreak().find(Inputs({"funding": paid((25, 1e-4), (1, first), (2, 1e-2), (2, 1e-1), (3, 1e-4))}, {}))
    assert [(one.instrument, one.window_start, one.window_end, one.rows) for one in found] == [
        (coin, at(24), at(29), 5) for coin in ("BTC", "ETH", "SOL")
    ]
    assert {(one.factor, one.observed, one.expected) for one in found} == {(1 / factor, first, 1e-4)}


def test_two_contracts_are_no_median():
    assert RateUnitBreak().find(Inputs({"funding": paid((25, 1e-4), (5, 1e-2), coins=("BTC", "ETH"))}, {})) == []


# -- rows missing in a crash


def crash(*, amount=0.0, price=0.0, usual=0.001, candles=None):
    """Hours 0 to 19, a gap of four hours, and one row across which amount and implied price have moved; logs. Before, amounts step by `usual`."""
    rows = contract("okx", [1000 * np.exp(usual * (n % 2)) for n in range(20)])
    (last,) = contract("okx", [rows[-1]["open_interest_base"] * np.exp(amount)])
    rows.append(last | {"n": 23, "open_interest_usd": last["open_interest_usd"] * np.exp(price)})
    tables = {"open_interest": core("open_interest", rows)} | ({} if candles is None else {"candles": core("candles", candles)})
    return [(one.observed, one.expected, one.window_start, one.window_end, one.rows) for one in MissingInCrash().find(Inputs(tables, {}))]


def near(*numbers):
    return tuple(pytest.approx(one, rel=1e-9) for one in numbers)


def test_a_gap_is_told_with_the_move_across_it_and_the_move_it_took_to_be_told():
    place = (at(19), at(23), 1)
    assert crash(amount=-0.079) == [], "eight per cent of open interest, in logs"
    assert crash(amount=-0.081) == [(*near(-0.081, 0.08), *place)]
    assert crash(price=0.029) == [], "three per cent of price"
    assert crash(price=0.031) == [(*near(0.031, 0.03), *place)]
    assert crash(amount=-0.081, price=-0.2) == [(*near(-0.081, 0.08), *place)], "the amount is told before the price it implies"
    assert crash(amount=-0.079, price=-0.2) == [(*near(-0.2, 0.03), *place)]


def test_what_is_extreme_grows_with_the_square_root_of_the_steps_it_took():
    """Usual steps of 0.02, six of them are 0.12; across four hours 0.24."""
    assert crash(amount=0.23, usual=0.02) == []
    assert crash(amount=0.25, usual=0.02) == [(*near(0.25, 0.24), at(19), at(23), 1)]


@pytest.mark.parametrize(("fall", "seen"), [(0.029, False), (0.031, True)])
def test_a_candle_inside_the_gap_tells_what_the_rows_do_not(fall, seen):
    """There and back: across the gap nothing moved."""
    candles = [one | {"close_usd": 5e4 * np.exp(-fall * (one["n"] == 21))} for one in bars("okx", [1.0] * 24)]
    found = crash(candles=candles)
    assert found == ([(*near(-fall, 0.03), at(19), at(23), 1)] if seen else [])

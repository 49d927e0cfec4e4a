"""Pitfalls of real data that no single source owns; docs/pitfalls.md says for each of the 51 which test holds it."""

from __future__ import annotations

import ast
import re
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins import ledger
from tests.payloads.reader import metadata
from tests.property.synthetic import core_table
from tests.unit.panels import WHO, candles, interest, panel_of, settled, stamps, value
from transforms import conventions
from transforms.coverage import STEPS, by_day, touched
from transforms.roster import SOURCES, source
from transforms.sources import coinmetrics
from transforms.sources.contract import Instrument, Series
from transforms.tables import TABLES, tables
from transforms.windows import HOUR, Window, utc

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "pitfalls.md").read_text()
ROW = re.compile(r"^\| ([A-G][0-9]+) \|.*\| (\S+\.py)::(test_\w+) \|$", re.MULTILINE)
COUNTS = {"A": 11, "B": 9, "C": 7, "D": 13, "E": 5, "F": 4, "G": 2}


def asked(window, *, missing=(), at="2026-06-01", refused=0, step=HOUR):
    due = window.grid(step)
    gone = [stamp for stamp in due if stamp in missing]
    series = Series("binance", "openInterestHist", "BTCUSDT", window, step)
    row = ledger.coverage_row(
        "binance", "openInterestHist", "BTCUSDT", "open_interest", window, series, set(due) - set(gone), answers=1, failed=refused
    )
    return row | {"recorded_at": utc(at)}


def test_every_pitfall_has_a_test_that_exists():
    named = {code: (path, name) for code, path, name in ROW.findall(PAGE)}
    assert set(named) == {f"{letter}{n}" for letter, count in COUNTS.items() for n in range(1, count + 1)}
    for code, (path, name) in named.items():
        found = ast.parse((ROOT / "tests" / path).read_text())
        assert name in {node.name for node in ast.walk(found) if isinstance(node, ast.FunctionDef)}, f"{code}: {path} has no {name}"


def test_b3_a_gap_in_a_file_whose_checksum_is_right_is_missing_in_coverage():
    """Bytes that are what the venue published prove nothing about the grid inside: the expected stamps do."""
    day = Window(utc("2023-11-10"), utc("2023-11-11"))
    gone = [utc("2023-11-10T03:00"), utc("2023-11-10T04:00")]
    row = asked(day, missing=gone)
    assert (row["expected"], row["received"], row["missing"], row["complete"]) == (24, 22, 2, False)
    assert all(stamp.isoformat() in row["missing_stamps"] for stamp in gone)


@given(st.sets(st.integers(0, 71), max_size=40), st.sets(st.integers(0, 71)))
def test_b4_the_ledger_knows_every_day_and_the_newest_answer_counts(first, healed):
    """Partial and whole missing days, asked again: a day is complete when its last answers hold every stamp that was due."""
    window = Window(utc("2024-02-15"), utc("2024-02-18"))
    due = window.grid(HOUR)
    gone = {due[n] for n in first}
    still = {due[n] for n in first - healed}
    rows = [asked(window, missing=gone), asked(window, missing=still, at="2026-06-02")]
    days = by_day(rows[::-1], touched(rows))
    assert [one["date"] for one in days] == window.days()
    for one in days:
        inside = [stamp for stamp in due if stamp in Window.day(one["date"])]
        assert (one["expected"], one["missing"]) == (24, sum(stamp in still for stamp in inside))
        assert one["complete"] is (one["missing"] == 0)


def test_b4_a_window_that_touches_a_day_without_a_due_stamp_says_nothing_about_it():
    """From 22:30 to 00:30 the hours 23:00 and 00:00 were due: both of the day that ends there, whose end the second is."""
    rows = [asked(Window(utc("2026-05-01T22:30"), utc("2026-05-02T00:30")), missing=[utc("2026-05-02")], refused=1)]
    assert touched(rows) == {date(2026, 5, 1), date(2026, 5, 2)}
    (day,) = by_day(rows, touched(rows))
    assert (day["date"], day["expected"], day["missing"], day["refused"]) == (date(2026, 5, 1), 2, 1, 1)
    assert by_day(rows, {date(2026, 5, 2)}) == []


def test_b4_overlapping_windows_of_another_width_count_each_stamp_once():
    rows = [asked(Window(utc("2026-05-01"), utc("2026-05-03")), missing=[utc("2026-05-02T12:00")])]
    rows.append(asked(Window(utc("2026-05-02T11:00"), utc("2026-05-02T13:00")), at="2026-06-02"))
    assert [(one["expected"], one["complete"]) for one in by_day(rows, touched(rows))] == [(24, True), (24, True)]
    refused = [*rows, asked(Window(utc("2026-05-02T23:00"), utc("2026-05-03")), at="2026-06-03", refused=1)]
    assert [one["complete"] for one in by_day(refused, touched(refused))] == [True, False]


def test_b4_a_refused_part_of_a_day_is_not_healed_by_another_part():
    """Live a day is twenty-four windows: what was refused at noon stays refused until noon is answered."""
    hours = [Window(due - HOUR, due) for due in Window.day(date(2026, 5, 1)).grid(HOUR)]
    rows = [asked(hour, at=f"{hour.end:%Y-%m-%dT%H:%M}", refused=2 if n == 11 else 0) for n, hour in enumerate(hours)]
    (day,) = by_day(rows, touched(rows))
    assert (day["missing"], day["refused"], day["complete"]) == (0, 2, False)
    for again, left in ((hours[12], 2), (hours[11], 0)):
        rows.append(asked(again, at=f"2026-06-0{3 - left}"))
        (day,) = by_day(rows, touched(rows))
        assert (day["refused"], day["complete"]) == (left, left == 0)


@pytest.mark.parametrize("name", SOURCES)
def test_the_ledger_knows_the_grid_of_every_source(name):
    """It tells grids apart by their counts, which only works while each step divides the next."""
    assert all(coarse % fine == 0 for fine, coarse in pairwise(STEPS))
    instruments = [Instrument(**one) for one in metadata(name).get("instruments", [])]
    planned = source(name).plan(Window(utc("2026-03-01"), utc("2026-07-01")), instruments, utc("2026-05-28T10:20"))
    assert {series.step.total_seconds() for series in planned if series.step is not None} <= set(STEPS)


def test_a_count_that_fits_no_grid_is_refused():
    row = asked(Window(utc("2026-05-01"), utc("2026-05-02"))) | {"expected": 23}
    with pytest.raises(ValueError, match="none of the steps"):
        by_day([row], touched([row]))


LIQUIDATED = [
    (name, endpoint)
    for name in SOURCES
    for endpoint in source(name).endpoints
    if {source(name).endpoints[endpoint], *source(name).also.get(endpoint, ())} & {"liquidations", "forced_trades"}
]


@pytest.mark.parametrize(("name", "endpoint"), LIQUIDATED, ids="/".join)
def test_d1_whether_liquidations_are_all_or_a_lower_bound_is_declared(name, endpoint):
    found = conventions.find(name, endpoint, "completeness", utc("2026-05-01"))
    assert found.value in ("full", "floor")
    for target in (source(name).endpoints[endpoint], *source(name).also.get(endpoint, ())):
        if target in ("liquidations", "forced_trades"):
            assert "completeness" in TABLES[target].columns


def imported(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [one.name for one in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            yield from (name.split(".")[0] for name in names)


def test_d4_no_unified_client_stands_between_a_venue_and_us():
    """ccxt.pro loses Bybit's side and OKX's further details, cryptofeed still asks a dead topic: our decoders read the venues' own bytes."""
    assert not {"ccxt", "cryptofeed"} & {name for room in ("transforms", "plugins", "dags", "expectations") for name in imported(room)}


def test_d2_no_throttled_stream_is_mixed_into_a_history():
    """No source reads a WebSocket: a feed that dropped messages until some day cannot make a break inside a series of ours."""
    assert all(base.startswith("https://") for name in SOURCES for base in source(name).hosts.values())


@pytest.mark.parametrize("table", tables("core"), ids=lambda table: table.name)
def test_d9_every_row_says_out_of_which_bytes_it_is(table):
    assert {"source", "raw_sha256", "fetched_at", "known_at", "revision"} <= set(table.columns)


@pytest.mark.parametrize("table", tables("index"), ids=lambda table: table.name)
def test_d9_every_number_says_by_which_method_and_code(table):
    assert {"index_version", "spec_sha256", "code_sha", "market", "vintage"} <= set(table.columns)


def test_d12_a_day_without_liquidation_rows_is_unknown_and_not_calm():
    bars = {"candles": candles([20_000.0] * 3, cadence="1d"), "open_interest": interest([1000.0] * 3, usd=[np.nan] * 3, cadence="1d")}
    amounts = {"interval_h": 24.0, "long_liquidated_base": 0.0, "short_liquidated_base": 0.0, "completeness": "floor"}
    calm = core_table("liquidations", stamps(3, "1d")[[0, 2]], **amounts, **WHO | {"source": "coinalyze"})
    said = value(panel_of(bars | {"liquidations": calm}, 3, "1d"), "liquidation_intensity_h")
    assert said[[0, 2]].tolist() == [0.0, 0.0]
    assert np.isnan(said[1])


def test_c3_a_displayed_rate_is_in_no_sum_of_settlements():
    """Some venues re-quote a rate every second; summed, it would be paid thousands of times over."""
    paid = settled([1e-4, 1e-4, 1e-4], [8, 16, 24], interval_h=8.0)
    quotes = core_table("funding", stamps(24) + 1, funding_rate=0.5, funding_kind="quote", funding_interval_h=None, **WHO)
    amounts = interest([1000.0] * 24)
    plain, both = (panel_of({"open_interest": amounts, "funding": rows}, 24) for rows in (paid, pa.concat_tables([paid, quotes])))
    for feature in ("funding_realised_annual", "funding_last_annual"):
        assert value(both, feature).tolist() == pytest.approx(value(plain, feature).tolist(), nan_ok=True)
    assert value(plain, "funding_realised_annual")[-1] == pytest.approx(3e-4 * 365)


def test_e3_deribits_volatility_is_its_index_and_never_the_realised_one():
    deribit = source("deribit")
    assert deribit.endpoints["get_volatility_index_data"] == "volatility_index"
    assert not any("historical_volatility" in endpoint for endpoint in deribit.endpoints)


def test_f1_no_table_adds_a_bridged_supply_to_a_native_one():
    """Supply of one chain goes by a name of its own; circulating supply is the source's count over chains, never a sum of ours."""
    assert source("coinmetrics").endpoints["asset-metrics"] == "chain_metrics"
    assert "USDT_ETH" in coinmetrics.ASSETS.values()
    assert "USDT" not in coinmetrics.ASSETS.values()


def test_c7_a_rate_on_display_leaves_no_hole_where_nothing_was_displayed():
    """The same answer of a history would have holes: no contract settles less often than every eight hours."""
    window = Window(utc("2026-05-01"), utc("2026-05-03"))
    now = {utc("2026-05-02T23:00")}
    missing = {}
    for endpoint in ("funding-rate", "funding-rate-history"):
        series = Series("okx", endpoint, "BTC-USDT-SWAP", window)
        row = ledger.coverage_row("okx", endpoint, "BTC-USDT-SWAP", "funding", window, series, now, answers=1, failed=0)
        missing[endpoint] = row["missing"]
    assert missing["funding-rate"] == 0
    assert missing["funding-rate-history"] > 0

"""The terminal summary: short, the market first, and every line of it adds up."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.readings import ReportData, readings
from plugins.summary import WIDTH, scale, text
from tests.unit.report_tables import READING, STAMP, START, build, many, report_data


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(days=60)


def sums(summary: str) -> list[tuple[float, float]]:
    """(S, 50 + the terms) of each line of contributions."""
    flat = re.sub(r"\n +(?=[+-] )", " ", summary)
    found = re.findall(r"^  (\d+\.\d) = 50((?: [+-] \w+ \d+\.\d)*)$", flat, re.MULTILINE)
    return [(float(s), 50 + sum(float(sign + size) for sign, size in re.findall(r"([+-]) \w+ (\d+\.\d)", terms))) for s, terms in found]


def test_the_market_and_three_assets_fit_a_screen_and_add_up(data):
    summary = text(data)
    lines = summary.splitlines()
    assert lines[0] == "SIMULATED MARKET - these are not real prices"
    assert len(lines) <= 30
    assert [line.split()[0] for line in lines if "|-----" in line] == ["MKT", "BTC", "ETH", "SOL"]
    assert max(map(len, lines)) <= WIDTH
    assert summary.isascii()
    found = sums(summary)
    assert len(found) == 4
    assert all(round(total, 1) == s for s, total in found)
    assert [s for s, _ in found] == [pytest.approx(one.s, abs=0.05 + 1e-9) for one in readings(data)]
    assert "45,000 in = 44,912 core + 8 quarantined + 80 duplicates; 28,640 published" in summary
    assert "2025-01-01 01:00Z to 2025-03-02 00:00Z" in summary


def test_counts_of_a_part_of_the_evidence_say_so(data):
    assert "recorded from" not in text(data)
    lines = text(replace(data, evidence_since=date(2025, 2, 20))).splitlines()
    assert "since      rows, steps and windows: those recorded from 2025-02-20 on; the tables ops have all" in lines
    assert max(map(len, lines)) <= WIDTH


def test_f_x_and_the_states_stand_beside_s(data):
    lines = text(data).splitlines()
    for reading in readings(data):
        at = next(n for n, line in enumerate(lines) if line.startswith(f"{reading.asset} {reading.cadence}"))
        block = " ".join(lines[at : at + 6])
        row = reading.row
        assert f"F {row['f']:.1f} {('low', 'moderate', 'elevated', 'high')[int(row['f'] // 25)]}" in block
        assert f"X {row['x']:.1f} " in block
        assert ("longs crowded" in block) == (row["crowded_side"] == "long_crowded")
        assert "risk off" in block
        if reading.asset == "MKT":
            assert "no cascade probability: not made for the market" in block
            assert "regime" not in block
        else:
            assert "cascade within 24 h 0.041 (base rate 0.020)" in block
            assert f"regime {row['regime'].replace('_', ' ')} since {row['regime_since']:%Y-%m-%d %H:%MZ}" in block


@pytest.mark.parametrize(
    ("market", "first"), [("recorded", "RECORDED DATA, replayed"), ("live", "LIVE"), ("simulated", "SIMULATED MARKET")]
)
def test_market_comes_first(market, first):
    assert text(report_data(("BTC",), "1d", 40, market)).startswith(first)


@given(st.lists(st.floats(-1, 1), min_size=5, max_size=5))
@settings(max_examples=80, deadline=None)
def test_displayed_families_add_up_whatever_the_scores(scores):
    families = ("carry", "trend", "flow", "positioning", "conviction")
    points = [10.0 * score for score in scores]
    s = 50.0 + float(np.sum(points))
    common = STAMP | {"asset": "BTC", "cadence": "1h", "as_of": [START], "known_at": START}
    reading = {"s": s, "f": 40.0, "x": 20.0, "band": "neutral", "status": "ok", "reason": "", "price_usd": 1.0}
    contributions = build(
        "contributions",
        common
        | {
            "as_of": [START] * 5,
            "index_name": "S",
            "component": list(families),
            "feature": list(families),
            "by_venue": "all",
            "weight": 0.2,
            "sign": 1,
            "score": scores,
            "stale_factor": 1.0,
            "history_days": 90.0,
            "contribution": points,
            "reason": "",
        },
    )
    ((shown, total),) = sums(text(ReportData(readings=build("readings", common | READING | reading), contributions=contributions)))
    assert round(total, 1) == shown
    assert abs(shown - s) <= 0.05 + 1e-6


def test_many_assets_are_counted():
    summary = text(many(count=30, days=60), series_shown=2)
    assert len(summary.splitlines()) <= 25
    (counts,) = re.findall(r"^and 29 more: (.*)$", summary, re.MULTILINE)
    assert sum(map(int, re.findall(r"\d+", counts))) == 29
    assert "1 withheld" in counts


def test_withheld_shows_no_value():
    summary = text(report_data(("DEAD",), "1d", 60))
    assert "S withheld" in summary
    assert "F withheld   X withheld   no cascade probability: no fragility" in summary
    assert "no value: confidence below 0.3, last value " in summary
    assert not sums(summary)


def test_faults_are_loud(data):
    for name, explained in (("s", "S - 50"), ("x", "X")):
        place = data.readings.schema.get_field_index(name)
        broken = data.readings.set_column(place, name, pc.add(data.readings.column(name), 0.3))
        said = text(replace(data, readings=broken))
        assert said.count(f"DOES NOT ADD UP: contributions differ from {explained} by -0.3") == 4
    core = data.outcomes.set_column(
        data.outcomes.schema.get_field_index("rows_duplicate"), "rows_duplicate", pc.multiply(data.outcomes.column("rows_duplicate"), 0)
    )
    assert "DOES NOT ADD UP, 80 rows unaccounted for" in " ".join(text(replace(data, outcomes=core)).split())


def test_nothing_published_yet():
    summary = text(ReportData(market="live"))
    assert summary.startswith("LIVE")
    assert "No reading has been published" in summary


@given(st.floats(0, 100))
def test_scale_marks_the_band(s):
    row = scale(s)
    assert len(row) == 51
    assert row.count("#") == 1
    assert abs(row.index("#") * 2 - s) <= 1

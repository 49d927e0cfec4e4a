"""The terminal summary: short, the market first, and every line of it adds up."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.readings import ReportData, readings
from plugins.summary import WIDTH, scale, text
from tests.unit.report_tables import STAMP, START, build, many, report_data


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(days=60)


def sums(summary: str) -> list[tuple[float, float]]:
    """(S, 50 + the terms) of each line of contributions."""
    flat = re.sub(r"\n +(?=[+-] )", " ", summary)
    found = re.findall(r"^  (\d+\.\d) = 50((?: [+-] \w+ \d+\.\d)*)$", flat, re.MULTILINE)
    return [(float(s), 50 + sum(float(sign + size) for sign, size in re.findall(r"([+-]) \w+ (\d+\.\d)", terms))) for s, terms in found]


def test_three_assets_fit_a_screen_and_add_up(data):
    summary = text(data)
    lines = summary.splitlines()
    assert lines[0] == "SIMULATED MARKET - these are not real prices"
    assert len(lines) <= 25
    assert max(map(len, lines)) <= WIDTH
    assert summary.isascii()
    found = sums(summary)
    assert len(found) == 3
    assert all(round(total, 1) == s for s, total in found)
    assert [s for s, _ in found] == [pytest.approx(one.s, abs=0.05 + 1e-9) for one in readings(data)]
    assert "45,000 in = 44,912 core + 8 quarantined + 80 duplicates; 28,640 published" in summary
    assert "2025-01-01 01:00Z to 2025-03-02 00:00Z" in summary


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
    sentiment = build(
        "sentiment",
        common
        | dict.fromkeys(("confidence", "conf_coverage", "conf_freshness", "conf_agreement", "conf_history"), 0.5)
        | {"s": s, "s_ex": s, "band": "neutral", "status": "ok", "reason": "", "price_usd": 1.0, "oi_drawdown_90d": 0.0},
    )
    contributions = build(
        "contributions",
        common
        | {
            "as_of": [START] * 5,
            "family": list(families),
            "feature": list(families),
            "weight": 0.2,
            "sign": 1,
            "score": scores,
            "stale_factor": 1.0,
            "history_days": 90.0,
            "contribution": points,
            "reason": "",
        },
    )
    ((shown, total),) = sums(text(ReportData(sentiment=sentiment, contributions=contributions)))
    assert round(total, 1) == shown
    assert abs(shown - s) <= 0.05 + 1e-6


def test_many_assets_are_counted():
    summary = text(many(count=30, days=60), series_shown=2)
    assert len(summary.splitlines()) <= 25
    (counts,) = re.findall(r"^and 28 more: (.*)$", summary, re.MULTILINE)
    assert sum(map(int, re.findall(r"\d+", counts))) == 28
    assert "1 withheld" in counts


def test_withheld_shows_no_value():
    summary = text(report_data(("DEAD",), "1d", 60))
    assert "withheld" in summary
    assert "no value: confidence below 0.3, last value " in summary
    assert not sums(summary)


def test_faults_are_loud(data):
    s = data.sentiment.set_column(data.sentiment.schema.get_field_index("s"), "s", pc.add(data.sentiment.column("s"), 0.3))
    assert text(replace(data, sentiment=s)).count("DOES NOT ADD UP: contributions differ from S - 50 by -0.3") == 3
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

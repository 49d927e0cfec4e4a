"""The report says whom the numbers rest on: what each source is for, who refuses us, who contradicts whom, what detectors found."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plugins import trust
from plugins.readings import ReportData
from plugins.reports import render
from plugins.spans import in_shadow
from tests.unit.report_tables import HOSTILE, build
from transforms.roster import SOURCES
from transforms.spec import SPEC

T0 = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def covered(source, endpoint, run, at, received):
    window = {"window_start": T0, "window_end": T0 + HOUR, "expected": 1, "received": received, "missing": 1 - received, "refused": 0}
    said = {"instrument": "BTCUSDT", "target": "open_interest", "missing_stamps": "[]", "complete": received == 1, "answers": 1}
    return {"source": source, "endpoint": endpoint, "run_id": run, "recorded_at": at, "date": at.date()} | window | said


def aside(source, endpoint, run, at, code="HTTP_BLOCKED"):
    said = {"instrument": "BTCUSDT", "target": "open_interest", "reason_code": code, "detail": "HTTP 451", "row_json": "{}"}
    what = {"raw_sha256": "ab" * 32, "fetched_at": at, "quarantine_id": "cd" * 32}
    return {"source": source, "endpoint": endpoint, "run_id": run, "recorded_at": at, "date": at.date()} | said | what


def compared(at, source, difference, **other):
    said = {"asset": "BTC", "cadence": "1h", "known_at": at, "quantity": "open_interest", "venue": source, "instrument": "BTCUSDT"}
    values = {"other_source": "coinalyze", "compared_at": at, "observed": 100.0, "other_value": 100.0 * (1 + difference)}
    judged = {"difference": difference, "tolerance": 0.02, "agrees": difference < 0.02}
    stamp = {"market": "simulated", "vintage": "reconstructed", "index_version": "1", "spec_sha256": "5e" * 32, "code_sha": "c0" * 32}
    return {"as_of": at, "source": source, "date": at.date()} | said | values | judged | stamp | other


def finding(recorded, rows, detail="multiply by 0.001", **other):
    said = {"detector": "unit_break", "reason_code": "UNIT_BREAK", "source": "binance", "venue": "binance", "instrument": "BTCUSDT"}
    where = {"asset": "BTC", "table_name": "open_interest", "series": "", "window_start": T0, "window_end": T0 + rows * HOUR}
    values = {"known_at": T0, "consequence": "quarantine", "observed_value": 5e7, "expected_value": 5e4, "suggested_factor": 0.001}
    return (
        {"detail": detail, "rows_affected": rows, "run_id": "r", "recorded_at": recorded, "date": T0.date()} | said | where | values | other
    )


def table(name, rows):
    return build(name, {column: [row[column] for row in rows] for column in rows[0]})


def section(page, head):
    found = re.search(rf'<table id="{head}">(.*?)</table>', page, re.DOTALL)
    return re.sub(r"<[^>]*>", " ", found[1]) if found else ""


def test_every_source_is_shown_with_what_it_is_for():
    shown = {one.source: one for one in trust.voices(ReportData().coverage, ReportData().quarantine)}
    assert list(shown) == list(SOURCES)
    assert {name for name, one in shown.items() if one.role.startswith("in the hourly numbers")} == set(SPEC.cadence("1h").sources)
    assert set(in_shadow()) <= {name for name, one in shown.items() if one.role == trust.SHADOW}
    assert shown["coinalyze"].role == "checks the hourly numbers; in the daily numbers"
    assert {(one.asked, one.reached, one.endpoints, one.refused) for one in shown.values()} == {(None, None, 0, ())}


def test_the_readme_names_the_same_sources_in_shadow():
    said = re.search(r"in no number yet: (.*?)\.", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL)
    assert said
    named = {name.strip().lower().replace(" ", "_").replace("coin_metrics", "coinmetrics") for name in said[1].split(",")}
    assert named == {name for name in SOURCES if trust.role(name) == trust.SHADOW}


def test_a_venue_that_refused_when_it_was_asked_last_is_named_and_one_that_answers_again_is_not():
    coverage = table(
        "coverage",
        [
            covered("okx", "history", "first", T0, 1),
            covered("okx", "history", "second", T0 + HOUR, 0),
            covered("okx", "tickers", "second", T0 + HOUR, 1),
            covered("bybit", "kline", "first", T0, 0),
            covered("bybit", "kline", "second", T0 + HOUR, 1),
            covered("gate", "candles", "second", T0 + HOUR, 0),
        ],
    )
    quarantine = table(
        "quarantine",
        [
            aside("okx", "history", "second", T0 + HOUR),
            aside("bybit", "kline", "first", T0),
            aside("gate", "candles", "second", T0 + HOUR, "SHAPE"),
        ],
    )
    shown = {one.source: one for one in trust.voices(coverage, quarantine)}
    assert (shown["okx"].refused, shown["okx"].endpoints, shown["okx"].asked) == (("history",), 2, T0 + HOUR)
    assert (shown["bybit"].refused, shown["gate"].refused) == ((), ())
    assert shown["gate"].reached is None, "nothing came"
    told = section(render(replace(ReportData(market="simulated"), coverage=coverage, quarantine=quarantine)), "voices")
    assert re.search(r"okx\s+refuses this location\s+at 1 of 2 endpoints\s+history", told)
    assert told.count("refuses this location") == 1


def test_a_disagreement_is_counted_and_shown_with_both_values():
    rows = [compared(T0, "binance", 0.001), compared(T0 + HOUR, "binance", 0.05), compared(T0, "bybit", 0.0)]
    data = ReportData(market="simulated", agreement=table("agreement", rows))
    first, second = trust.pairs(data.agreement)
    assert (first.source, first.compared, first.breaches, first.worst, first.breached) == ("binance", 2, 1, pytest.approx(2.5), T0 + HOUR)
    assert (second.source, second.breaches, second.breached) == ("bybit", 0, None)
    page = render(data)
    assert "1 of 3 comparisons beyond their tolerance" in page
    told = section(page, "breaches").split()
    assert told[told.index("BTCUSDT") + 1 :][:2] == ["100", "105"]


def test_of_a_finding_the_newest_record_is_shown_and_its_words_stay_text():
    found = [finding(T0, 1), finding(T0 + HOUR, 3), finding(T0, 2, detail=HOSTILE, instrument="ETHUSDT")]
    data = ReportData(market="simulated", findings=table("findings", found))
    assert [(row["instrument"], row["rows_affected"]) for row in trust.in_force(data.findings)] == [("BTCUSDT", 3), ("ETHUSDT", 2)]
    page = render(data)
    assert "What detectors found (2)" in page
    assert "multiply by 0.001" in section(page, "findings")
    assert HOSTILE not in page


def test_nothing_to_compare_and_nothing_found_is_said():
    page = render(ReportData(market="simulated"))
    assert "no two voices spoke of the same thing" in page
    assert "Nothing looks broken." in page

"""A file that the archive publishes again becomes a new revision: found by its checksum, on the real lake, through the steps the Dags call."""

from __future__ import annotations

import pytest

from plugins import steps
from tests.integration.conftest import at_fault

pytestmark = pytest.mark.stack

#: two days of files from the archive, older than the 30 days of REST
SPANS = {"*": [["2026-06-10", "2026-06-12"]]}
KEY = "2026-04"
METRICS = "/binance.archive/.*/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-06-10"


def looked(lake, run):
    """What the check of that run says of itself."""
    (told,) = lake.read("outcomes", where={"step": "recheck", "run_id": run}).to_pylist()
    return told


def test_b5_a_republished_file_is_a_new_version(pipeline, sandbox):
    lake = pipeline(SPANS=SPANS, HOURLY_ASSETS="BTC ETH")
    steps.load([steps.fetch("binance", KEY, "first")], KEY, "first")
    before = lake.read("open_interest").to_pylist()
    splits = lake.read("long_short").num_rows
    files = lake.read("archive_files").to_pylist()
    assert len({row["file"] for row in files}) == 4
    assert {row["revision"] for row in before} == {0}

    counts = steps.load([steps.recheck("binance", "quiet")], "week", "quiet")
    assert looked(lake, "quiet")["outcome"] == "success"
    assert "4 files looked at" in looked(lake, "quiet")["detail"]
    assert "published again" not in looked(lake, "quiet")["detail"]
    assert counts["rows_core"] == counts["rows_decoded"] == 4, "a check leaves a row a file and touches nothing else"
    assert lake.read("open_interest").to_pylist() == before

    with at_fault(sandbox, {"kind": "republish", "path": METRICS}) as struck:
        counts = steps.load([steps.recheck("binance", "mended")], "week", "mended")
        assert struck() == [1], "one file, whose fate its CHECKSUM shares"
        assert looked(lake, "mended")["answers"] == 5
        assert "BTCUSDT-metrics-2026-06-10.zip" in looked(lake, "mended")["detail"]
        stored = lake.read("open_interest").to_pylist()
        restated = [row for row in stored if row["revision"] == 1]
        assert len(stored) == len(before) + len(restated)
        assert {(row["instrument"], row["date"].isoformat()) for row in restated} == {("BTCUSDT", "2026-06-10")}
        assert len(restated) == 24, "one line in twelve of the file, all on the grid"
        old = {(row["instrument"], row["as_of"]): row for row in before}
        for row in restated:
            first = old[row["instrument"], row["as_of"]]
            assert row["open_interest_base"] == pytest.approx(first["open_interest_base"] * 1.001, rel=1e-9)
            assert row["known_at"] == row["fetched_at"] > first["known_at"], "nobody knew it before"
        assert [row for row in stored if row["revision"] == 0] == before, "what was said first is not edited"
        # 96 rows of open interest and 288 splits came again; the splits and 72 of the 96 say what they said
        assert counts["rows_duplicate"] == 96 - 24 + 288
        assert counts["rows_decoded"] == counts["rows_core"] + counts["rows_duplicate"]
        assert lake.read("long_short").num_rows == splits
        versions = {
            row["file_sha256"]
            for row in lake.read("archive_files").to_pylist()
            if "BTCUSDT-metrics-2026-06-10" in row["file"] and row["file_sha256"]
        }
        assert len(versions) == 2, "both hashes are kept"

        again = steps.load([steps.recheck("binance", "after")], "week", "after")
        assert looked(lake, "after")["answers"] == 4, "the new version is the one that is held now"
        assert again["rows_core"] == 4

    bundles = steps.recheck("binance", "back")  # the archive takes the change back
    steps.load([bundles], "week", "back")
    newest = {}
    for row in lake.read("open_interest").to_pylist():
        key = (row["instrument"], row["as_of"])
        newest[key] = max(newest.get(key, row), row, key=lambda one: one["revision"])
    assert {row["revision"] for row in newest.values()} == {0, 2}
    assert all(row["open_interest_base"] == old[key]["open_interest_base"] for key, row in newest.items())
    assert lake.read("quarantine").num_rows == 0


def test_b2_a_checksum_that_does_not_fit_is_put_aside_and_asked_again_the_next_time(pipeline, sandbox):
    lake = pipeline(SPANS=SPANS, HOURLY_ASSETS="BTC")
    steps.load([steps.fetch("binance", KEY, "first")], KEY, "first")
    before = lake.read("open_interest").to_pylist()
    with at_fault(sandbox, {"kind": "checksum", "path": f"{METRICS}.zip.CHECKSUM"}):
        steps.load([steps.recheck("binance", "broken")], "week", "broken")
    (aside,) = lake.read("quarantine").to_pylist()
    assert aside["reason_code"] == "CHECKSUM"
    assert "0" * 64 in aside["detail"], "the published hash; the file's own stands before it"
    assert lake.read("open_interest").to_pylist() == before
    counts = steps.load([steps.recheck("binance", "mended")], "week", "mended")
    assert (counts["rows_quarantined"], counts["rows_core"]) == (0, 2)
    assert lake.read("open_interest").to_pylist() == before


def test_a_refused_exchange_does_not_hide_the_contracts_of_the_other(pipeline, sandbox):
    """USD-M refuses, COIN-M lists: the USDT contracts are still known, and their archive is asked."""
    lake = pipeline(SPANS=SPANS, HOURLY_ASSETS="BTC")
    with at_fault(sandbox, {"kind": "http", "path": "/binance.fapi/", "params": {"status": 451}}):
        steps.load([steps.fetch("binance", KEY, "first")], KEY, "first")
    stored = lake.read("open_interest").to_pylist()
    assert {row["instrument"] for row in stored} == {"BTCUSDT"}, "of the inverse contract REST keeps 30 days alone"
    assert {row["instrument"] for row in lake.read("candles").to_pylist()} == {"BTCUSD_PERP"}

"""An hour of an old lake costs what an hour of a young one costs: what is read and kept does not follow the lake's age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc
import pytest

from plugins import deriving, ledger, publishing
from plugins.lake import Lake
from transforms.sources.contract import Series
from transforms.windows import DAY, HOUR, Window

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
LAST = NOW.replace(minute=0)


def asked(lake, ends, *, missing=0):
    """Rows of coverage as an hourly run leaves them, one an hour, recorded when the hour was over; a commit a day."""
    by_day = {}
    for end in ends:
        window = Window(end - HOUR, end)
        series = Series("binance", "klines", "BTCUSDT", window, HOUR, {})
        row = ledger.coverage_row(
            "binance", "klines", "BTCUSDT", "candles", window, series, set() if missing else {end}, answers=1, failed=0
        )
        told = min(end + timedelta(minutes=6), datetime.now(UTC))
        by_day.setdefault(told.date(), []).append(row | {"run_id": "r", "recorded_at": told, "date": told.date()})
    for rows in by_day.values():
        lake.append("coverage", ledger.rows_table("coverage", rows))


def entries(day, hours, content):
    return [
        {
            "table_name": "candles",
            "subject": "binance",
            "day": day,
            "row_count": 1,
            "content_sha256": f"{content}-{day}-{hour}",
            "inputs_sha256": "",
            "run_id": "r",
            "recorded_at": datetime(day.year, day.month, day.day, hour, tzinfo=UTC),
            "date": day,
        }
        for hour in hours
    ]


@pytest.fixture
def opened(monkeypatch):
    """Data files opened, by table."""
    found = {}
    plan = Lake._files

    def counted(self, name, *rest, **more):
        files = plan(self, name, *rest, **more)
        found[name] = found.get(name, 0) + len(files)
        return files

    monkeypatch.setattr(Lake, "_files", counted)
    return found


def test_coverage_of_long_ago_is_not_opened_for_an_hour(pipeline, opened):
    lake = pipeline()
    asked(lake, [LAST - n * DAY for n in range(2, 12)] + [LAST - n * HOUR for n in range(24)])
    whole = ledger.covered(lake, "binance")
    opened.clear()
    since = LAST - 2 * HOUR
    known = ledger.covered(lake, "binance", since)
    assert opened["coverage"] <= 2
    assert known == {key: [one for one in windows if one.end >= since] for key, windows in whole.items()}
    assert len(known["klines", "BTCUSDT"]) == 3
    opened.clear()
    assert deriving.asked_until(lake, "binance", NOW) == LAST
    assert opened["coverage"] <= 5
    assert deriving.asked_until(lake, "binance", NOW + 900 * DAY) == LAST, "where nothing is recent, all of it is looked through"
    assert deriving.asked_until(lake, "okx", NOW) is None


def test_the_coverage_of_days_is_brought_up_to_date_from_what_is_new(pipeline, opened):
    lake = pipeline()
    asked(lake, [LAST - n * DAY for n in range(3, 10)])
    assert ledger.note_coverage_days(lake) > 0
    old = lake.read("coverage_days")
    asked(lake, [LAST], missing=1)
    opened.clear()
    assert ledger.note_coverage_days(lake) == 1
    assert opened["coverage"] <= 4
    rows = lake.read("coverage_days")
    assert rows.num_rows == old.num_rows + 1
    assert pc.sum(rows.column("missing")).as_py() == 1
    assert ledger.note_coverage_days(lake) == 0


def test_what_is_in_force_is_kept_once_a_day_and_is_what_the_ledger_says(pipeline, opened):
    lake = pipeline()
    today = NOW.date()
    for back in range(6, -1, -1):
        lake.append("partitions", ledger.rows_table("partitions", entries(today - timedelta(days=back), range(3), "a")))
    redone = [row | {"day": today - timedelta(days=6)} for row in entries(today, [5], "b")]
    lake.append("partitions", ledger.rows_table("partitions", redone))
    whole = ledger.partitions(lake)
    assert len(whole) == 7
    ledger.settle_partitions(lake, today)
    opened.clear()
    assert ledger.partitions(lake) == whole
    assert opened["partitions"] <= 3
    ledger.settle_partitions(lake, today + timedelta(days=3))
    assert ledger.partitions(lake) == whole
    lake.catalog.drop_table("ops.partitions")
    lake.create()
    assert ledger.partitions(lake) == {}, "what a dropped table held is not in force"


def test_small_files_and_snapshots_are_cleared_away_and_no_row_is(pipeline):
    lake = pipeline()
    today = NOW.date()
    for hour in range(4):
        for back in (0, 3):
            lake.append("partitions", ledger.rows_table("partitions", entries(today - timedelta(days=back), [hour], "a")))
    before = lake.read("partitions").sort_by([("day", "ascending"), ("recorded_at", "ascending")])
    assert lake.compact("partitions", closed=today) == 1
    assert lake.days("partitions") == {today: 4, today - timedelta(days=3): 1}
    assert len(lake.iceberg("partitions").metadata.snapshots) >= 9
    publishing.keep_small(lake, datetime.now(UTC))
    assert len(lake.iceberg("partitions").metadata.snapshots) >= 9, "a week's snapshots stay"
    publishing.keep_small(lake, datetime.now(UTC) + publishing.SNAPSHOTS)
    assert len(lake.iceberg("partitions").metadata.snapshots) <= 2, "that in force, and the first half of the compaction just made"
    assert lake.read("partitions").sort_by([("day", "ascending"), ("recorded_at", "ascending")]).equals(before)
    lake.append("partitions", ledger.rows_table("partitions", entries(today, [7], "c")))
    assert lake.read("partitions").num_rows == before.num_rows + 1

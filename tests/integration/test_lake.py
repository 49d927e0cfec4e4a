"""The lake's own promises: whole days replaced at once, losing no concurrent evidence, and tables that grow a column."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pyarrow as pa
import pytest

from plugins import ledger
from plugins.lakefiles import OnePutFileIO
from transforms.tables import TABLES

pytestmark = pytest.mark.stack


def note(number, day=date(2026, 5, 1)):
    row = {
        "table_name": "candles",
        "subject": "binance",
        "day": day,
        "row_count": number,
        "content_sha256": "",
        "inputs_sha256": "",
        "run_id": "r",
    }
    return ledger.rows_table("partitions", [row])


def test_files_go_through_the_one_put_file_system(pipeline):
    assert isinstance(pipeline().iceberg("partitions").io, OnePutFileIO)


def test_a_column_declared_later_is_added_and_old_rows_read_as_empty(pipeline):
    lake = pipeline()
    with lake.iceberg("partitions").update_schema() as change:
        change.delete_column("run_id")
        change.delete_column("row_count")
    old = note(7).drop_columns(["run_id", "row_count"])
    lake.iceberg("partitions").append(old)
    lake.create()
    lake.append("partitions", note(8))
    rows = lake.read("partitions").sort_by("row_count")
    assert rows.column("row_count").to_pylist() == [0, 8]
    assert rows.column("run_id").to_pylist() == ["", "r"]
    assert rows.schema.names == list(TABLES["partitions"].columns)


def test_writers_at_once_lose_nothing_and_compaction_keeps_what_arrives_meanwhile(pipeline):
    lake = pipeline()
    for number in range(6):
        lake.append("partitions", note(number))
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(lake.append, "partitions", note(number)) for number in range(6, 10)]
        work.append(pool.submit(lake.compact, "partitions", 3))
        for one in work:
            one.result()
    assert sorted(lake.read("partitions").column("row_count").to_pylist()) == list(range(10))


def test_rows_outside_the_days_to_replace_are_refused(pipeline):
    lake = pipeline()
    rows = note(1)
    with pytest.raises(ValueError, match="outside the days"):
        lake.replace("partitions", rows, (date(2020, 1, 1), date(2020, 1, 2)))
    assert isinstance(lake.read("partitions"), pa.Table)

"""The main job as a person runs it: a process of its own, real Airflow, a short simulated history, killed half-way once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import dataset

from plugins.lake import Lake
from plugins.settings import Settings
from plugins.stack import Stack, alive
from tests.integration.conftest import Started, at_home, cli, end_postgres, short_history, short_home
from transforms.schema import arrow_schema, content_sha256
from transforms.tables import TABLES, tables
from transforms.windows import utc

pytestmark = pytest.mark.stack

SPAN = short_history()
HISTORY = {"TIDEGAUGE_SPANS": json.dumps({"*": [SPAN]})}
ASSETS = ("BTC", "ETH", "SOL")


@dataclass
class Story:
    """One home: a job killed while it loads, the same job to its end, and once more with nothing to do."""

    home: Path
    left_running: int
    complete: subprocess.CompletedProcess[str]
    completed_at: datetime
    again: subprocess.CompletedProcess[str]
    traced: subprocess.CompletedProcess[str]
    asked: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def story():
    home = short_home()
    with Started(home, "run", **HISTORY) as killed:
        killed.wait_for("running")
        killed.process.kill()
        killed.process.wait(60)
        left = sum(alive(one) for one in killed.services())
    complete = cli(home, "run", **HISTORY)
    completed_at = datetime.now(UTC)
    again = cli(home, "run", **HISTORY)
    traced = cli(home, "trace", "--asset", "ETH")
    asked = cli(home, "sql", "select count(*) as n from index.readings where s is not null")
    yield Story(home, left, complete, completed_at, again, traced, asked)
    cli(home, "down")
    end_postgres(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def lake(story):
    """The lake the job has left behind, served for the moment."""
    with warnings.catch_warnings(), Stack("simulated", story.home, say=lambda _text: None) as stack:
        warnings.simplefilter("ignore")
        stack.postgres()
        stack.object_store()
        yield Lake(Settings.read(stack.environment | {"TIDEGAUGE_SANDBOX_URL": "none"}))
        started = [service.process for service in stack.services]
    for process in started:
        process.wait(60)


def test_a_killed_job_is_taken_over_and_completed(story):
    assert story.left_running >= 4, "the killed job left its services, as kill -9 does"
    assert story.complete.returncode == 0, story.complete.stdout + story.complete.stderr
    assert story.complete.stdout.count("left by a run that was killed") == story.left_running
    assert "Traceback" not in story.complete.stdout + story.complete.stderr
    assert "FAILED" not in story.complete.stdout


def test_the_reading_is_printed(story):
    said = story.complete.stdout
    assert "SIMULATED MARKET - these are not real prices" in said
    for asset in ("MKT", ASSETS[0]):
        assert f"{asset} 1h" in said
    assert "S, F and X describe how people are positioned; they do not forecast" in said
    assert "regime" in said
    assert "confidence" in said
    assert f"covered    {SPAN[0]} 01:00Z to {SPAN[1]} 00:00Z" in said
    for word in ("rows ", "lake ", "DuckDB ", "report ", "more "):
        assert f"\n{word}" in said
    assert "make up" in said
    assert str(story.home / "report.html") in said


def test_the_duckdb_line_works(story):
    """The line that is printed for reading the result, as it stands."""
    line = next(line for line in story.complete.stdout.splitlines() if line.startswith("DuckDB"))
    shown = subprocess.run(line.removeprefix("DuckDB").strip(), shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "simulated" in shown.stdout
    assert "BTC" in shown.stdout


def test_report_and_summary_say_what_they_are(story):
    report = (story.home / "report.html").read_text()
    assert "SIMULATED" in report
    assert "<script src=" not in report
    assert "SIMULATED" in (story.home / "summary.txt").read_text()


def test_everything_is_in_the_lake_and_in_the_mirror(story, lake):
    readings = lake.read("readings")
    hours = int((utc(SPAN[1]) - utc(SPAN[0])).total_seconds() // 3600)
    assert readings.filter(readings["cadence"].to_numpy(zero_copy_only=False) == "1h").num_rows == hours * (
        len(ASSETS) + 1
    )  # the market, too
    assert set(readings.column("market").to_pylist()) == {"simulated"}
    filled = {table.name for table in tables("core") if lake.read(table.name, columns=["date"]).num_rows}
    absent = {"funding_terms", "option_chain", "forced_trades"}  # snapshots, and what venues keep for days only
    assert filled == {table.name for table in tables("core")} - absent
    by_day = dataset.partitioning(pa.schema([("date", pa.date32())]), flavor="hive")
    for name in ("features", "contributions", "readings"):
        mirrored = dataset.dataset(story.home / "published" / name, format="parquet", partitioning=by_day).to_table()
        schema = arrow_schema(TABLES[name])
        assert content_sha256(TABLES[name], mirrored.select(schema.names).cast(schema)) == content_sha256(TABLES[name], lake.read(name))
    outcomes = lake.read("outcomes").to_pylist()
    assert all(row["rows_decoded"] == row["rows_core"] + row["rows_quarantined"] + row["rows_duplicate"] for row in outcomes)


def test_a_second_call_asks_and_derives_nothing_needlessly(story, lake):
    assert story.again.returncode == 0, story.again.stdout + story.again.stderr
    assert "SIMULATED MARKET" in story.again.stdout
    late = [row for row in lake.read("raw_answers").to_pylist() if row["fetched_at"] > story.completed_at]
    asked = {(row["source"], row["endpoint"]) for row in late}
    assert not asked, "what is proved complete was asked again"
    assert not [row for row in lake.read("partitions").to_pylist() if row["recorded_at"] > story.completed_at]
    steps = [row for row in lake.read("outcomes").to_pylist() if row["started_at"] > story.completed_at]
    assert sum(row["rows_published"] + row["rows_decoded"] for row in steps) == 0


def test_a_value_is_traced_to_its_bytes(story):
    """When nothing runs any more: the services it needs are started for the moment."""
    assert story.traced.returncode == 0, story.traced.stderr
    assert "SIMULATED" in story.traced.stdout
    assert f"ETH 1h as of {SPAN[1]} 00:00Z" in story.traced.stdout
    assert "verified: the sums hold" in story.traced.stdout


def test_the_lake_answers_sql(story, lake):
    assert story.asked.returncode == 0, story.asked.stderr
    held = sum(s is not None for s in lake.read("readings", columns=["s"]).column("s").to_pylist())
    assert held > 0
    assert f" {held} " in story.asked.stdout


def test_down_ends_what_a_killed_job_left():
    home = short_home()
    with Started(home, "run", **HISTORY) as killed:
        killed.wait_for("object store answer")
        killed.process.kill()
        killed.process.wait(60)
        left = killed.services()
        assert any(alive(one) for one in left)
        done = cli(home, "down")
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 20
    while any(alive(one) for one in left) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(alive(one) for one in left)
    assert not (home / "running.json").exists()
    assert cli(home, "down").returncode == 0, "down twice is no error"
    end_postgres(home)
    shutil.rmtree(home, ignore_errors=True)


def test_an_interrupt_ends_the_job_and_its_services():
    home = short_home()
    with Started(home, "run", **HISTORY) as job:
        job.wait_for("object store answer")
        left = job.services()
        job.process.send_signal(signal.SIGINT)
        assert job.process.wait(60) == 130
        assert "Traceback" not in job.said()
    assert not any(alive(one) for one in left)
    assert not at_home(home)
    shutil.rmtree(home, ignore_errors=True)

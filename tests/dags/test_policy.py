"""What every Dag of ours must have, whoever adds one."""

from __future__ import annotations

import ast
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

from transforms.roster import DAILY_SOURCES, HOURLY_SOURCES, SOURCES

DAGS = Path(__file__).resolve().parents[2] / "dags"
EXPECTED = {"ingest_hourly", "ingest_daily", "ingest_history", "derive", "publish", "quarantine", "recheck", "replay"}


@pytest.fixture(scope="module")
def bag():
    """The Dags as Airflow's own processor reads them."""
    from airflow.dag_processing.dagbag import DagBag

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*determine_kwargs.*")  # providers-standard 1.21.0 importing from where 3.3.2 moved it
        return DagBag(str(DAGS))


def test_all_files_import_and_all_dags_are_there(bag):
    assert bag.import_errors == {}
    assert set(bag.dags) == EXPECTED


def test_every_dag_says_what_it_is_and_bounds_itself(bag):
    for dag in bag.dags.values():
        assert "tidegauge" in dag.tags, dag.dag_id
        assert len(dag.doc_md or "") > 80, dag.dag_id
        assert dag.catchup is False, f"{dag.dag_id}: history is filled by backfill, never by catch-up"
        assert 1 <= dag.max_active_runs <= 4, dag.dag_id
        for task in dag.tasks:
            assert task.owner == "tidegauge"
            assert task.retries >= 2, task
            assert task.retry_policy is not None, task
            assert timedelta(minutes=5) <= task.execution_timeout <= timedelta(hours=1), task


def test_every_source_has_its_pool_and_all_writers_share_one(bag):
    for dag, sources in (("ingest_hourly", HOURLY_SOURCES), ("ingest_daily", DAILY_SOURCES), ("ingest_history", tuple(SOURCES))):
        fetches = {task.task_id: task.pool for task in bag.dags[dag].tasks if task.task_id.startswith("fetch_")}
        assert fetches == {f"fetch_{source}": f"venue_{source}" for source in sources}
    writers = [task for dag in bag.dags.values() for task in dag.tasks if task.task_id in {"load", "derive", "replay", "decide", "follow"}]
    assert len(writers) == 8
    assert {task.pool for task in writers} == {"lake"}


def test_producers_are_partitioned_and_consumers_follow_them_by_key(bag):
    assert {type(bag.dags[name].timetable).__name__ for name in EXPECTED if name.startswith("ingest")} == {"CronPartitionTimetable"}
    assert {type(bag.dags[name].timetable).__name__ for name in ("derive", "publish")} == {"PartitionedAssetTimetable"}
    for name in ("ingest_hourly", "ingest_daily", "ingest_history"):
        load = bag.dags[name].get_task("load")
        assert [outlet.name for outlet in load.outlets] == [f"core_{name.removeprefix('ingest_')}"]
        assert bag.dags[name].deadline, f"{name} has no freshness deadline"
    assert [outlet.name for outlet in bag.dags["derive"].get_task("derive").outlets] == ["index"]
    assert [outlet.name for outlet in bag.dags["publish"].get_task("publish").outlets] == ["published"]


def test_a_blocked_venue_does_not_stop_the_load(bag):
    for name in ("ingest_hourly", "ingest_daily", "ingest_history"):
        assert bag.dags[name].get_task("load").trigger_rule == "all_done"


def test_no_deprecated_airflow_module_is_imported():
    deprecated = ("airflow.operators", "airflow.hooks.base", "airflow.models", "airflow.utils", "airflow.io", "airflow.decorators")
    for path in DAGS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            assert not [name for name in names if name.startswith(deprecated)], path


def test_a_form_can_be_sent_when_only_what_must_be_given_is_filled_in(bag):
    """Airflow's UI takes an empty text for no text: a field of a plain type that starts empty keeps the button dead until it is filled."""
    must = {"quarantine": {"reason", "who"}}
    for dag in bag.dags.values():
        fields = {name: dag.params.get_param(name) for name in dag.params}
        plain = {name: field for name, field in fields.items() if "null" not in field.schema.get("type", "null")}
        dead = {name for name, field in plain.items() if not field.has_value or field.value == ""}
        assert dead == must.get(dag.dag_id, set()), dag.dag_id

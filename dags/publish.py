"""Bring what BI tools and people read up to date: the Hive mirror, DDL and dictionary, DuckDB views, and the report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from plugins.assets import INDEX, LAKE_POOL, PUBLISHED, defaults

with DAG(
    dag_id="publish",
    schedule=PartitionedAssetTimetable(assets=INDEX),
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(timeout=timedelta(minutes=30)),
    tags=["tidegauge", "publish"],
    doc_md=__doc__,
):

    @task(outlets=[PUBLISHED], pool=LAKE_POOL)
    def publish(*, dag_run=None) -> dict[str, int]:
        from plugins import steps

        return steps.publish(dag_run.partition_key, dag_run.run_id)

    publish()

"""Features, contributions and the index, for every day whose inputs changed.

The run is keyed like the load that caused it. It first lets a backfill finish loading, then brings up to date all that lies open: when ten
quarters are loaded at once, the first run does the work and the rest find nothing left to do (they skip, and publish nothing).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from plugins.assets import CORE_DAILY, CORE_HISTORY, CORE_HOURLY, CORE_RECHECK, INDEX, LAKE_POOL, defaults

with DAG(
    dag_id="derive",
    schedule=PartitionedAssetTimetable(assets=CORE_HOURLY | CORE_DAILY | CORE_HISTORY | CORE_RECHECK),
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(timeout=timedelta(minutes=60)),
    tags=["tidegauge", "derive"],
    doc_md=__doc__,
):

    @task.sensor(poke_interval=2, timeout=3600, mode="poke")
    def history_loaded(*, ti=None, triggering_asset_events=None) -> bool:
        own = [event.source_run_id for events in triggering_asset_events.values() for event in events]
        busy = ["queued", "running"]
        others = ti.get_dr_count("ingest_history", states=busy) - ti.get_dr_count("ingest_history", run_ids=own, states=busy)
        return others <= 0

    @task(outlets=[INDEX], pool=LAKE_POOL)
    def derive(*, dag_run=None) -> dict[str, int]:
        from plugins import steps

        return steps.derive(dag_run.partition_key, dag_run.run_id)

    history_loaded() >> derive()

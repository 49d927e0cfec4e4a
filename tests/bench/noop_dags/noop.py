"""The main job's shape without its work: the same Dags, tasks, pools, assets and partitions, whose tasks return at once.

What remains is Airflow's own cost; tests/bench compares the real backfill with it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronPartitionTimetable, Param, PartitionedAssetTimetable, task

from plugins.assets import CORE_HISTORY, INDEX, LAKE_POOL, PUBLISHED, defaults, venue_pool
from transforms.roster import SOURCES

START = datetime(2020, 1, 1, tzinfo=UTC)

with DAG(
    "ingest_history",
    schedule=CronPartitionTimetable("0 0 1 1,4,7,10 *", timezone="UTC", run_offset=0, key_format="%Y-%m"),
    start_date=START,
    catchup=False,
    max_active_runs=3,
    default_args=defaults(timeout=timedelta(minutes=60)),
    params={"again": Param(default=False, type="boolean")},
):

    @task
    def fetch(source: str) -> list[str]:
        return [source]

    @task(outlets=[CORE_HISTORY], pool=LAKE_POOL, trigger_rule="all_done")
    def load(bundles: list[list[str]]) -> dict[str, int]:
        return {"rows_core": len(bundles)}

    load([fetch.override(task_id=f"fetch_{source}", pool=venue_pool(source))(source) for source in SOURCES])

for name, trigger, outlet in (("derive", CORE_HISTORY, INDEX), ("publish", INDEX, PUBLISHED)):
    with DAG(
        name,
        schedule=PartitionedAssetTimetable(assets=trigger),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        default_args=defaults(timeout=timedelta(minutes=60)),
    ):

        @task(task_id=name, outlets=[outlet])
        def nothing() -> dict[str, int]:
            return {"rows_published": 1}

        nothing()

"""The main job's shape without its work: the same Dags, tasks, sensor, pools, assets, partitions and deadlines, whose tasks return at once.

What remains is Airflow's own cost; tests/bench compares the real backfill with it. Keep it in step with dags/*.py.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, CronPartitionTimetable, Param, PartitionedAssetTimetable, task
from airflow.sdk.exceptions import AirflowSkipException

from plugins.assets import CORE_DAILY, CORE_HISTORY, CORE_HOURLY, INDEX, LAKE_POOL, PUBLISHED, defaults, freshness, venue_pool
from transforms.roster import DAILY_SOURCES, HOURLY_SOURCES, SOURCES

START = datetime(2020, 1, 1, tzinfo=UTC)


def ingest(name: str, cron: str, key_format: str, offset: int, sources: tuple[str, ...], outlet: Asset, minutes: int, runs: int) -> DAG:
    with DAG(
        dag_id=name,
        schedule=CronPartitionTimetable(cron, timezone="UTC", run_offset=offset, key_format=key_format),
        start_date=START,
        catchup=False,
        max_active_runs=runs,
        default_args=defaults(timeout=timedelta(minutes=60)),
        deadline=freshness(timedelta(minutes=minutes)),
        params={"again": Param(default=False, type="boolean")},
    ) as dag:

        @task
        def fetch(source: str, *, dag_run=None, params=None) -> list[str]:
            return [f"{source}/{dag_run.partition_key}"]

        @task(outlets=[outlet], pool=LAKE_POOL, trigger_rule="all_done")
        def load(bundles: list[list[str] | None], *, dag_run=None) -> dict[str, int]:
            return {"rows_core": len(bundles)}

        load([fetch.override(task_id=f"fetch_{source}", pool=venue_pool(source))(source) for source in sources])
    return dag


hourly = ingest("ingest_hourly", "6 * * * *", "%Y-%m-%dT%H", -1, HOURLY_SOURCES, CORE_HOURLY, 30, 4)
daily = ingest("ingest_daily", "6 0 * * *", "%Y-%m-%d", -1, DAILY_SOURCES, CORE_DAILY, 120, 4)
history = ingest("ingest_history", "0 0 1 1,4,7,10 *", "%Y-%m", 0, tuple(SOURCES), CORE_HISTORY, 360, 3)

with DAG(
    dag_id="derive",
    schedule=PartitionedAssetTimetable(assets=CORE_HOURLY | CORE_DAILY | CORE_HISTORY),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=defaults(timeout=timedelta(minutes=60)),
):

    @task.sensor(poke_interval=2, timeout=3600, mode="poke")
    def history_loaded(*, ti=None, triggering_asset_events=None) -> bool:
        own = [event.source_run_id for events in triggering_asset_events.values() for event in events]
        busy = ["queued", "running"]
        others = ti.get_dr_count("ingest_history", states=busy) - ti.get_dr_count("ingest_history", run_ids=own, states=busy)
        return others <= 0

    @task(outlets=[INDEX], pool=LAKE_POOL)
    def derive(*, ti=None) -> dict[str, int]:
        if ti.get_dr_count("derive", states=["success"]):  # the first run does all the work
            raise AirflowSkipException("no day's inputs changed")
        return {"rows_published": 1}

    history_loaded() >> derive()

with DAG(
    dag_id="publish",
    schedule=PartitionedAssetTimetable(assets=INDEX),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=defaults(timeout=timedelta(minutes=30)),
):

    @task(outlets=[PUBLISHED])
    def publish() -> dict[str, int]:
        return {"rows_published": 1}

    publish()

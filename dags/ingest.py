"""Ask the venues and load what they said: hourly, daily, and whole quarters of history.

One task per source asks (its venue's pool bounds it) and stores the untouched answers; one task decodes, gates and commits them.
History is filled with Airflow's own backfill of `ingest_history`: one run a quarter (docs/adr/0004 has the figures behind that size).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, CronPartitionTimetable, Param, task

from plugins.assets import CORE_DAILY, CORE_HISTORY, CORE_HOURLY, LAKE_POOL, defaults, freshness, venue_pool
from transforms.roster import DAILY_SOURCES, HOURLY_SOURCES, SOURCES


def ingest(
    name: str, cron: str, key_format: str, offset: int, sources: tuple[str, ...], outlet: Asset, deadline: timedelta, runs: int
) -> DAG:
    """A producer: `name` asks `sources` for the partition that its cron tick names."""
    with DAG(
        dag_id=name,
        schedule=CronPartitionTimetable(cron, timezone="UTC", run_offset=offset, key_format=key_format),
        start_date=datetime(2020, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=runs,
        default_args=defaults(timeout=timedelta(minutes=60)),
        deadline=freshness(deadline),
        params={"again": Param(default=False, type="boolean", description="ask again for what coverage already proves complete")},
        tags=["tidegauge", "ingest"],
        doc_md=__doc__,
    ) as dag:

        @task
        def fetch(source: str, *, dag_run=None, params=None) -> list[str]:
            from plugins import steps

            return steps.fetch(source, dag_run.partition_key, dag_run.run_id, again=params["again"])

        @task(outlets=[outlet], pool=LAKE_POOL, trigger_rule="all_done")
        def load(bundles: list[list[str] | None], *, dag_run=None) -> dict[str, int]:
            from plugins import steps

            return steps.load(bundles, dag_run.partition_key, dag_run.run_id)

        load([fetch.override(task_id=f"fetch_{source}", pool=venue_pool(source))(source) for source in sources])
    return dag


hourly = ingest("ingest_hourly", "6 * * * *", "%Y-%m-%dT%H", -1, HOURLY_SOURCES, CORE_HOURLY, timedelta(minutes=30), 4)
daily = ingest("ingest_daily", "6 0 * * *", "%Y-%m-%d", -1, DAILY_SOURCES, CORE_DAILY, timedelta(hours=2), 4)
history = ingest("ingest_history", "0 0 1 1,4,7,10 *", "%Y-%m", 0, tuple(SOURCES), CORE_HISTORY, timedelta(hours=6), 3)

"""Once a week: were files of an archive published again since they were read?

Archives mend their files without notice. For files read in the last sixty days the published CHECKSUM alone is asked for; where it is another
one, the file is read again and what changed becomes a new revision. Both hashes of every version stand in `core.archive_files`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronPartitionTimetable, task

from plugins.assets import CORE_RECHECK, LAKE_POOL, defaults, venue_pool
from transforms.roster import ARCHIVES

with DAG(
    dag_id="recheck",
    schedule=CronPartitionTimetable("17 5 * * 1", timezone="UTC", run_offset=-1, key_format="%G-W%V"),
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(timeout=timedelta(minutes=60)),
    tags=["tidegauge", "ingest"],
    doc_md=__doc__,
):

    @task
    def recheck(source: str, *, dag_run=None) -> list[str]:
        from plugins import steps

        return steps.recheck(source, dag_run.run_id)

    @task(outlets=[CORE_RECHECK], pool=LAKE_POOL, trigger_rule="all_done")
    def load(bundles: list[list[str] | None], *, dag_run=None) -> dict[str, int]:
        from plugins import steps

        return steps.load(bundles, dag_run.partition_key, dag_run.run_id)

    load([recheck.override(task_id=f"recheck_{source}", pool=venue_pool(source))(source) for source in ARCHIVES])

"""Decode stored answers again: after a decoder was mended, a convention declared, or rows were put aside that are good after all.

Nobody is asked anything. Answers of `source` fetched on the days `first`..`last` go through decode, gate and commit once more; what is stored
already counts as duplicate. Trigger `derive` afterwards (or wait for the next load): it follows what changed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param, task

from plugins.assets import LAKE_POOL, defaults
from transforms.roster import SOURCES

with DAG(
    dag_id="replay",
    schedule=None,
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(timeout=timedelta(minutes=60)),
    params={
        "source": Param("binance", enum=list(SOURCES), description="whose answers"),
        "first": Param("2026-01-01", format="date", description="first day of fetching"),
        "last": Param("2026-01-01", format="date", description="last day of fetching"),
    },
    tags=["tidegauge", "replay"],
    doc_md=__doc__,
):

    @task(pool=LAKE_POOL)
    def replay(*, params=None, dag_run=None) -> dict[str, int]:
        from plugins import steps

        return steps.replay(params["source"], params["first"], params["last"], dag_run.run_id)

    replay()

"""Decide on what was put aside: release rows of `ops.quarantine` into core, or reject them for good; then derive and publish what that changed.

Give an id (as `make quarantine` and the report show it) or filters, never both; filters take every open entry that fits all of them.
A released row becomes a new revision, flagged RELEASED and known from now on, never earlier. Who decided and why is kept in `ops.decisions`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param, task

from plugins.assets import LAKE_POOL, defaults
from transforms.roster import SOURCES

# an empty text is no text to the form: what may be left out must be allowed to be null, or its button stays dead
WHAT = {
    "quarantine_id": Param(None, type=["null", "string"], description="one entry; its first 8 characters or more"),
    "source": Param("", enum=["", *SOURCES], description="filter: who said it"),
    "table": Param(None, type=["null", "string"], description="filter: the table it was meant for, e.g. open_interest"),
    "instrument": Param(None, type=["null", "string"], description="filter: in the source's spelling"),
    "reason_code": Param(None, type=["null", "string"], description="filter: e.g. EXPECTATION (docs/operations.md)"),
    "first": Param(None, type=["null", "string"], format="date", description="filter: first day the rows speak of"),
    "last": Param(None, type=["null", "string"], format="date", description="filter: last day"),
}

with DAG(
    dag_id="quarantine",
    schedule=None,
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(timeout=timedelta(minutes=60)),
    params={
        **WHAT,
        "decision": Param("reject", enum=["release", "reject"]),
        "reason": Param(type="string", minLength=1, description="why; kept with the rows"),
        "who": Param(type="string", minLength=1, description="who decides"),
    },
    tags=["tidegauge", "quarantine"],
    doc_md=__doc__,
):

    @task(pool=LAKE_POOL)
    def decide(*, params=None, dag_run=None) -> dict[str, int]:
        from plugins import steps

        what = {name: params[name] for name in WHAT}
        return steps.decide(what, params["decision"], params["reason"], params["who"], dag_run.run_id)

    @task(pool=LAKE_POOL)
    def follow(*, dag_run=None) -> dict[str, int]:
        from plugins import steps

        return steps.follow(dag_run.run_id)

    decide() >> follow()

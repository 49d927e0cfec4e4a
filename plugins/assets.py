"""The assets that carry the data-aware schedule, and the defaults that every task shares. Imported at parse time: keep it light.

ingest_hourly, ingest_daily, ingest_history, recheck  -> core_*   (one per producer: keys of different producers look different)
derive (on any core_*, same key)             -> index
publish (on index, same key)                 -> published
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from airflow.sdk import Asset, DeadlineAlert, DeadlineReference, ExceptionRetryPolicy, RetryAction, RetryRule, SyncCallback

from plugins.pools import LAKE_POOL, venue_pool

__all__ = [
    "CORE_DAILY",
    "CORE_HISTORY",
    "CORE_HOURLY",
    "CORE_RECHECK",
    "INDEX",
    "LAKE_POOL",
    "PUBLISHED",
    "defaults",
    "freshness",
    "venue_pool",
]

CORE_HOURLY: Final = Asset(name="core_hourly", uri="tidegauge://core/hourly", group="core")
CORE_DAILY: Final = Asset(name="core_daily", uri="tidegauge://core/daily", group="core")
CORE_HISTORY: Final = Asset(name="core_history", uri="tidegauge://core/history", group="core")
CORE_RECHECK: Final = Asset(name="core_recheck", uri="tidegauge://core/recheck", group="core")
INDEX: Final = Asset(name="index", uri="tidegauge://index", group="index")
PUBLISHED: Final = Asset(name="published", uri="tidegauge://published", group="published")


def defaults(*, timeout: timedelta) -> dict[str, object]:
    """Task defaults: what is worth another try is tried again, what is ours to mend fails at once."""
    return {
        "owner": "tidegauge",
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timeout,
        "retry_policy": ExceptionRetryPolicy(
            rules=[
                RetryRule(
                    exception=[
                        f"plugins.errors.{name}"
                        for name in ("ConfigurationError", "LakeRefused", "GateClosed", "DecisionRefused", "NotFound")
                    ],
                    action=RetryAction.FAIL,
                    reason="another try cannot help: see the message",
                ),
                RetryRule(
                    exception=["plugins.errors.LakeUnreachable", "plugins.errors.CommitConflict"],
                    action=RetryAction.RETRY,
                    retry_delay=timedelta(seconds=10),
                    reason="the lake was not reachable or busy",
                ),
            ]
        ),
    }


def freshness(limit: timedelta) -> DeadlineAlert:
    """A run that is not done `limit` after it was queued leaves a row in `outcomes` (step `deadline`) and a warning in the log."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=limit,
        callback=SyncCallback("plugins.steps.deadline_missed", kwargs={"limit_minutes": int(limit.total_seconds() // 60)}),
    )

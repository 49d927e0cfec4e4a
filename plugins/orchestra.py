"""Talking to Airflow's REST API: pools, pausing, backfills and what became of their runs.

The API is used instead of the CLI because every CLI call costs seconds of imports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from plugins.errors import TidegaugeError

FINAL: Final = frozenset({"success", "failed"})


class AirflowRefused(TidegaugeError):
    """Airflow's API answered with an error."""


@dataclass(frozen=True, slots=True)
class Run:
    """One Dag run."""

    dag: str
    run_id: str
    key: str
    state: str
    queued_at: str


class Airflow:
    """A signed-in session."""

    def __init__(self, address: str, user: str, password: str) -> None:
        self.address = address
        self.session = requests.Session()
        self.session.mount(
            "http://", HTTPAdapter(max_retries=Retry(5, backoff_factor=0.3, status_forcelist=(502, 503, 504), allowed_methods=None))
        )
        token = self._call("POST", "/auth/token", {"username": user, "password": password})["access_token"]
        self.session.headers["Authorization"] = f"Bearer {token}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.session.request(method, self.address + path, json=body, timeout=30)
        if not answer.ok:
            raise AirflowRefused(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def pools(self, wanted: dict[str, int]) -> None:
        """Make the pools that are not there; slots of existing ones are left to their owner."""
        there = {pool["name"] for pool in self._call("GET", "/api/v2/pools?limit=100")["pools"]}
        for name, slots in wanted.items():
            if name not in there:
                self._call("POST", "/api/v2/pools", {"name": name, "slots": slots, "description": "Tidegauge", "include_deferred": False})

    def wait_for_dags(self, names: Iterable[str], check: Callable[[], None], seconds: float = 120) -> None:
        """Wait until the Dag processor has parsed all of them; a broken file raises with its error."""
        missing, end = set(names), time.monotonic() + seconds
        while missing:
            check()
            missing -= {dag["dag_id"] for dag in self._call("GET", "/api/v2/dags?limit=100")["dags"]}
            errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
            if errors:
                raise AirflowRefused(f"A Dag file does not import: {errors[0]['filename']}: {errors[0]['stack_trace'][-800:]}")
            if missing and time.monotonic() > end:
                raise AirflowRefused(f"Airflow did not see the Dags {sorted(missing)} within {seconds:.0f} s: look at dag-processor.log.")
            time.sleep(0.3)

    def pause(self, dag: str, *, paused: bool) -> None:
        """Pause or unpause a Dag."""
        self._call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": paused})

    def runs(self, dag: str) -> list[Run]:
        """All runs of a Dag."""
        found: list[Run] = []
        while True:
            page = self._call("GET", f"/api/v2/dags/{dag}/dagRuns?limit=100&offset={len(found)}")
            found += [
                Run(dag, run["dag_run_id"], run.get("partition_key") or "", run["state"], run.get("queued_at") or "")
                for run in page["dag_runs"]
            ]
            if len(found) >= page["total_entries"] or not page["dag_runs"]:
                return found

    def tasks(self, run: Run) -> list[dict[str, Any]]:
        """Task instances of a run."""
        path = f"/api/v2/dags/{run.dag}/dagRuns/{run.run_id}/taskInstances?limit=100"
        found: list[dict[str, Any]] = self._call("GET", path)["task_instances"]
        return found

    def trigger(self, dag: str, key: str) -> None:
        """Run a Dag once, by hand, for a partition key."""
        self._call("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "partition_key": key})

    def backfill(self, dag: str, first: datetime, last: datetime, *, reprocess: str, conf: dict[str, Any], runs: int) -> int:
        """`airflow backfill create`: ticks from `first` to `last` inclusive. `reprocess`: none, failed or completed. Returns its id."""
        body = {
            "dag_id": dag,
            "from_date": first.isoformat(),
            "to_date": last.isoformat(),
            "reprocess_behavior": reprocess,
            "max_active_runs": runs,
            "run_backwards": False,
            "dag_run_conf": conf,
        }
        return int(self._call("POST", "/api/v2/backfills", body)["id"])

    def backfill_active(self, dag: str) -> bool:
        """Whether Airflow still counts a backfill of the Dag as running."""
        found = self._call("GET", f"/api/v2/backfills?dag_id={dag}&limit=100&order_by=-id")["backfills"]
        return any(one["completed_at"] is None for one in found)

"""What the Dags call, one function a task: the same code for an hour, a day and a quarter."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final

from airflow.sdk.exceptions import AirflowSkipException

from plugins import deriving, ledger, loading, publishing, quarantine
from plugins.errors import ConfigurationError
from plugins.lake import Lake
from plugins.settings import Settings
from transforms.roster import source as source_of
from transforms.windows import DAY, HOUR, Window, window_of

log = logging.getLogger(__name__)

#: How far before its own span an hourly and a daily run looks for what did not come: an outage heals by itself; what is complete is not asked.
LOOK_BACK: Final = {HOUR: timedelta(days=2), DAY: timedelta(days=7)}


def _open() -> tuple[Lake, Settings]:
    settings = Settings.read()
    return Lake(settings), settings


def fetch(source: str, key: str, run_id: str, *, again: bool = False) -> list[str]:
    """Ask a source for the part of a partition that is past, held by the market and not yet proved complete; returns bundle keys."""
    lake, settings = _open()
    if settings.sources and source not in settings.sources:
        log.info("%s is not in TIDEGAUGE_SOURCES: nothing asked", source)
        return []
    bundles: list[str] = []
    asked = window_of(key)
    daily = asked.end - asked.start == DAY
    rewrites = source_of(source).rewrites.values() if daily else ()
    asked = Window(asked.start - max([LOOK_BACK.get(asked.end - asked.start, timedelta(0)), *rewrites]), asked.end)
    for span in settings.spans_of(source):
        window = asked.clip(span)
        if window is not None:
            bundles += loading.ask(lake, settings, source, window, run_id, again=again, rewritten=daily)
    return bundles


def recheck(source: str, run_id: str) -> list[str]:
    """Look whether the archive published files again that are held, and ask for those; returns bundle keys."""
    lake, settings = _open()
    if settings.sources and source not in settings.sources:
        log.info("%s is not in TIDEGAUGE_SOURCES: nothing asked", source)
        return []
    return loading.recheck(lake, settings, source, run_id)


def load(bundles: Iterable[list[str] | None], key: str, run_id: str) -> dict[str, int]:
    """Decode, gate and commit what the fetch tasks of this run stored; a source whose task failed brings None."""
    lake, _ = _open()
    keys = [one for some in bundles for one in some or ()]
    if not keys:
        raise AirflowSkipException("no source brought anything new")
    return loading.load(lake, keys, run_id, key).counts()


def replay(source: str, first: str, last: str, run_id: str) -> dict[str, int]:
    """Decode, gate and commit again what a source answered on the days `first`..`last` (of fetching, ISO dates), in order of asking."""
    lake, _ = _open()
    days = (date.fromisoformat(first), date.fromisoformat(last))
    if days[0] > days[1]:
        raise ConfigurationError(
            f"The days run backwards: first {first} lies after last {last}. Trigger the Dag again with both exchanged."
        )
    manifest = lake.read("raw_answers", days=days, columns=("bundle", "fetched_at"), where={"source": source})
    began = manifest.group_by("bundle").aggregate([("fetched_at", "min")]).sort_by("fetched_at_min")
    bundles = began.column("bundle").to_pylist()
    if not bundles:
        raise AirflowSkipException(f"no answer of {source} is stored from {first} to {last}")
    return loading.load(lake, bundles, run_id, f"replay-{first}..{last}").counts()


def decide(what: Mapping[str, Any], decision: str, why: str, who: str, run_id: str) -> dict[str, int]:
    """Release quarantined rows into core, or reject them for good; `what`: fields of `quarantine.Choice`, empty ones left out or empty."""
    lake, _ = _open()
    days = {name: date.fromisoformat(what[name]) for name in ("first", "last") if what.get(name)}
    chosen = {name: str(value) for name, value in what.items() if value and name not in ("first", "last")}
    done = quarantine.decide(lake, quarantine.Choice(**chosen, **days), decision, why, who, run_id)
    log.info("%s: %s", decision, done)
    return {"decided": len(done.entries), **done.rows}


def derive(key: str, run_id: str) -> dict[str, int]:
    """Derive every day whose inputs changed; nothing changed means skip (and nothing to publish)."""
    lake, settings = _open()
    outcome = deriving.bring_up_to_date(lake, settings, run_id, key)
    if not outcome.rows_published:
        raise AirflowSkipException("no day's inputs changed")
    return outcome.counts()


def publish(key: str, run_id: str) -> dict[str, int]:
    """Bring mirror, catalog files and report up to date with the index."""
    lake, settings = _open()
    with ledger.recorded(lake, "publish", key, run_id) as outcome:
        written = publishing.publish(lake, settings)
        outcome.detail.append(f"{written:,} rows mirrored")
    return outcome.counts()


def follow(run_id: str) -> dict[str, int]:
    """Derive what a decision changed, and publish: where no day changed, still what is open."""
    lake, settings = _open()
    counts = deriving.bring_up_to_date(lake, settings, run_id, "after a decision").counts()
    publish("after a decision", run_id)
    return counts


def deadline_missed(limit_minutes: int, context: dict[str, Any] | None = None, **_: object) -> None:
    """A run took longer than its freshness limit: say so in `outcomes`."""
    lake, _settings = _open()
    run = (context or {}).get("dag_run") or {}
    name = run.get("dag_run_id", "unknown run") if isinstance(run, dict) else str(run)
    with ledger.recorded(lake, "deadline", name, name) as outcome:
        outcome.partly(f"not done {limit_minutes} minutes after it was queued: what it should bring is late; look at its tasks in the UI")

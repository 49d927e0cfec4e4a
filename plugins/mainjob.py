"""The main job: fill what is missing of the market's history with Airflow's own backfill, and wait until it is derived and published."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from plugins.errors import TidegaugeError
from plugins.lake import Lake
from plugins.orchestra import FINAL, Airflow, Run
from plugins.pools import LAKE_POOL, venue_pool
from plugins.settings import Settings
from transforms.roster import SOURCES
from transforms.windows import window_of

INGEST: Final = ("ingest_history", "ingest_daily", "ingest_hourly")
DAGS: Final = (*INGEST, "derive", "publish")
#: what a run may take before we say that it hangs, seconds
PATIENCE: Final = 3600


class JobFailed(TidegaugeError):
    """A run of the main job failed."""


def quarters(settings: Settings) -> list[datetime]:
    """The quarters the market's spans touch, by their first instant."""
    found: set[datetime] = set()
    for source in SOURCES:
        for span in settings.spans_of(source):
            year, month = span.start.year, (span.start.month - 1) // 3 * 3 + 1
            while (start := datetime(year, month, 1, tzinfo=UTC)) < span.end:
                found.add(start)
                year, month = (year, month + 3) if month < 10 else (year + 1, 1)
    return sorted(found)


def blocks(starts: list[datetime]) -> list[list[datetime]]:
    """Consecutive quarters together: one backfill each.

    >>> [len(block) for block in blocks([datetime(2023, 7, 1), datetime(2023, 10, 1), datetime(2024, 1, 1), datetime(2026, 4, 1)])]
    [3, 1]
    """
    found: list[list[datetime]] = []
    for start in starts:
        if found and start == window_of(key_of(found[-1][-1])).end.replace(tzinfo=start.tzinfo):
            found[-1].append(start)
        else:
            found.append([start])
    return found


def key_of(start: datetime) -> str:
    """Partition key of the quarter that begins at `start`."""
    return f"{start:%Y-%m}"


def asked_when_over(run: Run) -> bool:
    """Whether the quarter had ended when the run was queued; one asked while it lasted is asked again."""
    end = window_of(run.key).end
    return run.queued_at != "" and datetime.fromisoformat(run.queued_at) >= end


def faulty(lake: Lake) -> set[str]:
    """Runs in which a fetch failed or was refused something: their quarters are asked again, although Airflow calls the runs successful."""
    fetches = lake.read("outcomes", columns=("run_id", "outcome"), where={"step": "fetch", "outcome": ("failed", "partial")})
    return set(fetches.column("run_id").to_pylist())


def catch_up(airflow: Airflow, lake: Lake, watch: Watch, key: str) -> None:
    """Derive and publish what an earlier call left undone: a run that failed then is not caused again when nothing new is loaded."""
    from plugins import deriving, publishing

    if deriving.plans(lake, deriving.SPEC) and not watch.failed("derive"):
        airflow.trigger("derive", key)
        watch.until(watch.settled)
    if publishing.behind(lake) and not watch.failed("publish"):
        airflow.trigger("publish", key)
        watch.until(watch.settled)


def fill(
    airflow: Airflow,
    lake: Lake,
    say: Callable[[str], None],
    check: Callable[[], None],
    *,
    live: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> bool:
    """Backfill every quarter that is not complete, then wait for derive and publish; True if no run failed. With `live`, leave the live Dags on."""
    airflow.pools({LAKE_POOL: 1} | {venue_pool(name): slots for name, slots in SOURCES.items()})
    airflow.wait_for_dags(DAGS, check)
    before = [run for dag in DAGS for run in airflow.runs(dag)]
    for dag in ("ingest_history", "derive", "publish"):
        airflow.pause(dag, paused=False)
    watch = Watch(airflow, say, check, stopping, {run.run_id for run in before})
    settings, bad = lake.settings, faulty(lake)
    past = [run for run in before if run.dag == "ingest_history" and run.state == "success" and run.run_id not in bad]
    good = {run.key for run in past if settings.now or asked_when_over(run)}
    wanted = quarters(settings)
    # the quarter we live in: asked again at every call
    still_open = [start for start in wanted[-1:] if not settings.now and window_of(key_of(start)).end > settings.clock()]
    todo = [start for start in wanted if key_of(start) not in good and start not in still_open]
    say(f"history: {len(wanted)} quarters, {len(todo) + len(still_open)} to ask")
    for starts in blocks(todo):
        watch.backfill(starts)
    for start in still_open:
        if not watch.began_by_itself(key_of(start), first_time=not before):
            watch.backfill([start])
    watch.until(watch.settled)
    catch_up(airflow, lake, watch, key_of(wanted[-1]) if wanted else "now")
    if live:
        for dag in DAGS:
            airflow.pause(dag, paused=False)
    return watch.verdict(lake)


class Watch:
    """Follows the runs that the job causes and says what changes."""

    def __init__(
        self, airflow: Airflow, say: Callable[[str], None], check: Callable[[], None], stopping: Callable[[], bool], before: set[str]
    ) -> None:
        self.airflow, self.say, self.check, self.stopping, self.before = airflow, say, check, stopping, before
        self.told = ""

    def runs(self, dag: str) -> list[Run]:
        """The job's own runs of a Dag."""
        return [run for run in self.airflow.runs(dag) if run.run_id not in self.before or run.state not in FINAL]

    def began_by_itself(self, key: str, *, first_time: bool) -> bool:
        """Whether the scheduler made a run for the newest tick on its own, as it does when a new Dag is unpaused for the first time."""
        end = time.monotonic() + (10 if first_time else 0)
        while not (found := any(run.key == key for run in self.runs("ingest_history"))) and time.monotonic() < end:
            self.check()
            time.sleep(0.3)
        return found

    def backfill(self, starts: list[datetime]) -> None:
        """`airflow backfill create` over consecutive quarters, and wait for its runs.

        Airflow marks a backfill complete only every half minute, and takes one at a time: that mark is waited for before, not after.
        """
        self.until(lambda: not self.airflow.backfill_active("ingest_history"))
        earlier = {run.run_id for run in self.airflow.runs("ingest_history")}
        self.airflow.backfill("ingest_history", starts[0], starts[-1], reprocess="completed", conf={"again": False}, runs=3)
        wanted = {key_of(start) for start in starts}

        def over() -> bool:
            mine = [run for run in self.airflow.runs("ingest_history") if run.run_id not in earlier and run.key in wanted]
            return {run.key for run in mine} == wanted and all(run.state in FINAL for run in mine)

        self.until(over)

    def until(self, done: Callable[[], bool]) -> None:
        """Wait, telling progress; raises when the services die or nothing happens for too long."""
        end = time.monotonic() + PATIENCE
        while not done() and not self.stopping():
            self.check()
            self.tell()
            if time.monotonic() > end:
                raise JobFailed(f"The job did not end within {PATIENCE} s: look at the UI (`make up`) and the logs.")
            time.sleep(1)
        self.tell()

    def tell(self) -> None:
        """One line per change: runs by state for each Dag."""
        parts = []
        for dag in ("ingest_history", "derive", "publish"):
            states = Counter(run.state for run in self.runs(dag))
            if states:
                parts.append(f"{dag.removeprefix('ingest_')} " + ", ".join(f"{n} {state}" for state, n in sorted(states.items())))
        text = "   ".join(parts)
        if text and text != self.told:
            self.told = text
            self.say(text)

    def settled(self) -> bool:
        """Every load that brought something has its derive run, every derive run that published something its publish run, all ended."""
        ingest, derive, publish = (self.runs(dag) for dag in ("ingest_history", "derive", "publish"))
        if any(run.state not in FINAL for run in (*ingest, *derive, *publish)):
            return False
        loaded = {run.key for run in ingest if self._did(run, "load")}
        derived = {run.key for run in derive if self._did(run, "derive")}
        return loaded <= {run.key for run in derive} and derived <= {run.key for run in publish}

    def _did(self, run: Run, task: str) -> bool:
        return any(one["task_id"] == task and one["state"] == "success" for one in self.airflow.tasks(run))

    def failed(self, dag: str) -> bool:
        """Whether a run of the Dag failed in this job."""
        return any(run.state == "failed" for run in self.runs(dag))

    def verdict(self, lake: Lake) -> bool:
        """True when no run failed; says which did, and what stayed partial: refused answers are evidence, not a failure of the job."""
        mine = sorted({run.run_id for dag in DAGS for run in self.runs(dag)})
        told = lake.read("outcomes", columns=("step", "subject", "outcome", "detail", "run_id"), where={"outcome": ("failed", "partial")})
        poor = {tuple(row[name] for name in ("outcome", "step", "subject", "detail")) for row in told.to_pylist() if row["run_id"] in mine}
        for outcome, step, subject, detail in sorted(poor):
            self.say(f"{outcome.upper():8} {step} {subject}: {detail[:160]}")
        failed = []  # task instances: a first try that failed and a second that did not is no failure
        for run in (run for dag in DAGS for run in self.runs(dag)):
            failed += [(run, one["task_id"]) for one in self.airflow.tasks(run) if one["state"] == "failed"]
        for run, task in failed:
            self.say(f"FAILED   {run.dag} {run.key}: task {task}; its log is in the UI (`make up`) and below var/*/logs/airflow")
        return not failed

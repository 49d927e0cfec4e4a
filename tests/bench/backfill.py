"""The whole backfill through Airflow, against Dags of the same shape whose tasks do nothing, on the same services."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import psutil

from plugins import mainjob
from plugins.lake import Lake
from plugins.orchestra import Airflow
from plugins.settings import ROOT, Settings
from plugins.stack import Stack
from tests.bench.measuring import Cost, Section, cpu_of, medians, seconds, times

ROUNDS = 2
NOOP = Path(__file__).parent / "noop_dags"
DAGS = {"real": ROOT / "dags", "no-op": NOOP}
STEPS = ("fetch", "load", "derive", "publish")


@dataclass
class Backfill:
    """One backfill: seconds by name, how many task instances ran, rows published."""

    wall: float
    cpu: Cost
    #: seconds of the tasks' own work by step, from ops.outcomes; of the whole task, Airflow's start-up included, by Dag
    work: Cost
    busy: Cost
    tasks: int
    runs: int
    rows: int


def first_day(now: datetime) -> str:
    """The quarter before the running one: two quarters of history, the second one still open, as a newcomer's first run meets it."""
    month = now.year * 12 + (now.month - 1) // 3 * 3 - 3
    return f"{month // 12}-{month % 12 + 1:02d}-01"


@contextmanager
def services(home: Path, dags: Path) -> Iterator[Stack]:
    """The stack of `make run`, with a folder of Dags of our choice."""
    with Stack("simulated", home, say=lambda _text: None, dags=dags) as stack:
        stack.postgres()
        stack.object_store()
        stack.sandbox("--limits-scale", "1000")
        stack.plan_history()
        stack.environment["TIDEGAUGE_SPANS"] = json.dumps({"*": [[first_day(datetime.now(UTC)), "2100-01-01"]]})
        Lake(Settings.read(stack.environment)).create()
        stack.airflow()
        yield stack


def groups(stack: Stack) -> dict[str, float]:
    """CPU seconds so far by group of processes."""
    found: dict[str, float] = {}
    for service in stack.services:
        own, below = cpu_of(service.process.pid)
        if service.name == "scheduler":
            found["scheduler"], found["tasks (forked by the scheduler)"] = own, below
        else:
            found[service.name] = own + below
    found["PostgreSQL"] = sum(cpu_of(postmaster(stack)))
    found["this program (polls the API)"] = sum(psutil.Process().cpu_times()[:2])
    return found


def postmaster(stack: Stack) -> int:
    return int((stack.home / "postgres" / "postmaster.pid").read_text().split()[0])


def backfilled(dags: Path) -> Backfill:
    """Start everything in a fresh folder, fill two quarters, and take the times from Airflow and from the evidence."""
    home = Path(tempfile.mkdtemp(prefix="tidegauge-bench-"))
    try:
        with services(home, dags) as stack:
            lake = Lake(Settings.read(stack.environment))
            airflow = Airflow(stack.address, "admin", stack.secret("airflow_password"))
            airflow.wait_for_dags(mainjob.DAGS, stack.check)
            before = groups(stack)
            with ExitStack() as patches:
                if dags == NOOP:  # it looks for undone work in the lake, which the no-op leaves empty, and would publish once more
                    patches.enter_context(mock.patch.object(mainjob, "catch_up", return_value=None))
                if not mainjob.fill(airflow, lake, lambda _text: None, stack.check):
                    raise RuntimeError("the backfill failed")
            after = groups(stack)
            runs = [run for dag in mainjob.DAGS for run in airflow.runs(dag)]
            tasks = [task | {"dag": run.dag} for run in runs for task in airflow.tasks(run) if task["start_date"] and task["end_date"]]
            created = min(datetime.fromisoformat(run.queued_at) for run in runs)
            ended = max(datetime.fromisoformat(task["end_date"]) for task in tasks)
            busy: Cost = defaultdict(float)
            for task in tasks:
                name = "wait for the loads" if task["task_id"] == "history_loaded" else task["task_id"].split("_")[0]
                busy[name] += (datetime.fromisoformat(task["end_date"]) - datetime.fromisoformat(task["start_date"])).total_seconds()
            work, rows = steps(lake)
            cpu = {name: after[name] - before[name] for name in after}
            return Backfill((ended - created).total_seconds(), cpu, work, dict(busy), len(tasks), len(runs), rows)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def steps(lake: Lake) -> tuple[Cost, int]:
    """Seconds by step (a step that reports several sources counts once) and rows in core."""
    seen: dict[tuple[str, str, datetime], float] = {}
    rows = 0
    for row in lake.read("outcomes").to_pylist():
        who = row["subject"] if row["step"] == "fetch" else ""
        seen[row["run_id"], f"{row['step']}/{who}", row["started_at"]] = (row["finished_at"] - row["started_at"]).total_seconds()
        rows += row["rows_core"]
    found: Cost = dict.fromkeys(STEPS, 0.0)
    for (_run, step, _at), took in seen.items():
        found[step.split("/")[0]] += took
    return found, rows


def run(rounds: int = ROUNDS) -> Section:
    section = Section("The whole backfill, and Airflow's share of it")
    got: dict[str, list[Backfill]] = {name: [] for name in DAGS}
    for _ in range(rounds):
        for name, dags in DAGS.items():
            got[name].append(backfilled(dags))
    wall = {name: medians([{"wall": one.wall} for one in many])["wall"] for name, many in got.items()}
    one = got["real"][-1]
    share = wall["no-op"] / wall["real"]
    section.say(
        "The main job of `make run` on a fresh home: PostgreSQL, SeaweedFS, the sandbox and Airflow's scheduler, API server and Dag processor, "
        f"two quarters of the simulated market (from {first_day(datetime.now(UTC))}), {one.rows:,} core rows. No-op: "
        "`tests/bench/noop_dags`, the same Dags, tasks, sensor, pools, assets and partitions, whose tasks return at once, on the same services. "
        f"Wall from the first run queued to the last publish task ended. Median of {rounds} interleaved rounds, each from empty."
    )
    section.table(
        ["backfill", "wall, real = 1", "wall s", "each round, s", "runs", "task instances"],
        [
            [
                name,
                times(wall[name] / wall["real"]),
                seconds(wall[name]),
                " / ".join(seconds(each.wall) for each in many),
                many[-1].runs,
                many[-1].tasks,
            ]
            for name, many in got.items()
        ],
    )
    section.verdicts.append(("backfill: Airflow's share of the wall (no-op / real)", "at most 0.50", times(share), share <= 0.5))
    work = medians([each.work for each in got["real"]])
    busy = {name: medians([each.busy for each in many]) for name, many in got.items()}
    section.say(
        "Where the wall goes. `work` is what the step itself reports in `ops.outcomes`; `task` is Airflow's start to end of the task "
        "instances, and contains it. Both are sums over all runs; tasks overlap, so they do not add up to the wall."
    )
    names = [*STEPS, "wait for the loads"]
    section.table(
        ["step", "work s", "task s (real)", "task s (no-op)"],
        [
            [name, seconds(work[name]) if name in work else "", *(seconds(busy[kind].get(name, 0.0)) for kind in ("real", "no-op"))]
            for name in names
        ],
    )
    cpu = {name: medians([each.cpu for each in many]) for name, many in got.items()}
    total = {name: sum(costs.values()) for name, costs in cpu.items()}
    section.say("CPU by group of processes, between the first and the last second of the backfill (services' start not counted):")
    section.table(
        ["processes", "share of the real backfill", "real s", "no-op s"],
        [
            *(
                [name, f"{cpu['real'][name] / total['real']:.0%}", seconds(cpu["real"][name]), seconds(cpu["no-op"][name])]
                for name in sorted(cpu["real"], key=lambda name: -cpu["real"][name])
            ),
            ["all", "100%", seconds(total["real"]), seconds(total["no-op"])],
        ],
    )
    section.say(
        f"CPU of the no-op backfill is {times(total['no-op'] / total['real'])} of the real one's. A task instance costs "
        f"{seconds(cpu['no-op']['tasks (forked by the scheduler)'] / got['no-op'][-1].tasks)} s of CPU before it does anything."
    )
    return section

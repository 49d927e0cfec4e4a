"""The pipeline's own work, without Airflow, against the floor: the least that turns the same answers into the same rows."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from sqlalchemy import create_engine, text

from plugins import deriving, gate, recorder, steps
from plugins.fetcher import Fetched
from plugins.lake import Lake
from plugins.settings import Settings
from plugins.stack import Stack
from tests.bench.backfill import postmaster
from tests.bench.floor_program import floor
from tests.bench.measuring import Cost, Section, cpu_of, medians, seconds, times
from tests.bench.splitting import split
from transforms.index.build import Stamp
from transforms.roster import SOURCES
from transforms.schema import content_sha256
from transforms.tables import TABLES
from transforms.windows import Window, utc

ROUNDS = 2
NOW = "2026-07-01T12:00:00Z"
WINDOW = Window(utc("2026-01-01"), utc("2026-07-01"))
KEYS = ("2026-01", "2026-04")
TARGET = 3.0
NETWORK = "asking: network client"


@dataclass
class Work:
    """One run of the four steps: CPU and wall by step, CPU by function, CPU of the services, and the lake it made."""

    cpu: Cost
    wall: Cost
    split: Cost
    services: Cost
    lake: Lake


@contextmanager
def services(home: Path) -> Iterator[Stack]:
    """PostgreSQL, SeaweedFS and a sandbox whose clock stands still; no Airflow."""
    with Stack("simulated", home, say=lambda _text: None) as stack:
        stack.postgres()
        stack.object_store()
        stack.sandbox("--limits-scale", "1000", "--now", NOW)
        stack.plan_history()
        stack.environment |= {
            "TIDEGAUGE_NOW": NOW,
            "TIDEGAUGE_SPANS": json.dumps({"*": [[WINDOW.start.isoformat(), WINDOW.end.isoformat()]]}),
        }
        yield stack


@contextmanager
def fresh_lake(stack: Stack, number: int) -> Iterator[Lake]:
    """An empty lake of its own (prefix, catalog database, home) in the same services, which this process is pointed at."""
    url = stack.environment["TIDEGAUGE_CATALOG_URL"]
    name = f"iceberg_{number}"
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    home = stack.home / f"home-{number}"
    home.mkdir()
    chosen = {key: value for key, value in stack.environment.items() if key.startswith("TIDEGAUGE_")} | {
        "TIDEGAUGE_WAREHOUSE": f"lake-{number}",
        "TIDEGAUGE_CATALOG_URL": url.replace("/iceberg", f"/{name}", 1),
        "TIDEGAUGE_HOME": str(home),
    }
    with mock.patch.dict(os.environ, chosen):
        lake = Lake(Settings.read())
        lake.create()
        yield lake


def worked(stack: Stack, number: int) -> Work:
    """Fetch and load both quarters, derive, publish: the calls that the tasks make, in this process."""
    cpu: Cost = dict.fromkeys(("fetch", "load", "derive", "publish"), 0.0)
    wall = dict(cpu)

    @contextmanager
    def step(name: str) -> Iterator[None]:
        began = time.process_time(), time.perf_counter()
        yield
        cpu[name] += time.process_time() - began[0]
        wall[name] += time.perf_counter() - began[1]

    with fresh_lake(stack, number) as lake:
        before = used(stack)
        with split() as found:
            for key in KEYS:
                with step("fetch"):
                    bundles = [steps.fetch(source, key, f"bench-{key}") for source in SOURCES]
                with step("load"):
                    steps.load(bundles, key, f"bench-{key}")
            with step("derive"):
                steps.derive(KEYS[-1], "bench")
            with step("publish"):
                steps.publish(KEYS[-1], "bench")
        after = used(stack)
    return Work(cpu, wall, dict(found.seconds), {name: after[name] - before[name] for name in after}, lake)


def used(stack: Stack) -> Cost:
    """CPU seconds of the services so far."""
    found = {service.name: sum(cpu_of(service.process.pid)) for service in stack.services}
    return found | {"PostgreSQL": sum(cpu_of(postmaster(stack)))}


def answers_of(lake: Lake) -> list[Fetched]:
    keys = dict.fromkeys(lake.read("raw_answers", columns=("bundle",)).column("bundle").to_pylist())
    return [one for key in keys for one in recorder.load(lake, key)]


def same(lake: Lake, tables: Mapping[str, object]) -> int:
    """Rows of the published tables, the same on both sides by content hash; another content raises."""
    rows = 0
    for name in deriving.OUTPUT:
        ours, theirs = lake.read(name), tables[name]
        if content_sha256(TABLES[name], ours) != content_sha256(TABLES[name], theirs):
            raise RuntimeError(f"{name}: the lake and the floor hold other rows ({ours.num_rows} and {theirs.num_rows})")
        rows += ours.num_rows
    return rows


def run(rounds: int = ROUNDS) -> Section:
    section = Section("Work against the floor")
    home = Path(tempfile.mkdtemp(prefix="tidegauge-bench-"))
    stamp = Stamp("simulated", "reconstructed", deriving.code_sha())
    began = time.process_time()
    gate.warm()
    imported = time.process_time() - began
    works: list[Work] = []
    floors: list[Cost] = []
    try:
        with services(home) as stack:
            first = worked(stack, 0)  # compiles and imports what is left
            answers = answers_of(first.lake)
            rows = same(first.lake, floor(answers, WINDOW, stamp, home / "floor-0")[0])
            core = sum(first.lake.read(table.name, columns=("date",)).num_rows for table in TABLES.values() if table.layer == "core")
            for number in range(1, rounds + 1):
                works.append(worked(stack, number))
                floors.append(floor(answers, WINDOW, stamp, home / f"floor-{number}")[1])
    finally:
        shutil.rmtree(home, ignore_errors=True)
    base = medians(floors)
    least = sum(base.values())
    cpu, wall = medians([one.cpu for one in works]), medians([one.wall for one in works])
    names = sorted({name for one in works for name in one.split})
    parts = medians([{name: one.split.get(name, 0.0) for name in names} for one in works])
    spent = medians([one.services for one in works])
    total = sum(cpu.values())
    ours = total - parts[NETWORK]
    section.say(
        f"Two quarters of the simulated market ({WINDOW}): {len(answers):,} answers, {sum(len(one.answer.body) for one in answers) / 1e6:.0f} "
        f"MB, {core:,} core rows, {rows:,} published rows, which are the same on both sides (content hashes compared before timing). "
        "Ours: `plugins.steps.fetch`, `load`, `derive` and `publish` called in this process as the tasks call them, against real "
        "SeaweedFS and PostgreSQL, without Airflow. Floor: `tests/bench/floor_program.py`, one process, the same decoders, one vectorised pass of "
        "checks, the same `derive`, one zstd Parquet file per table and day on the local disk, and nothing else: no raw answers kept, no "
        "revisions, no Great Expectations, no table format, no hashes, no mirror, no report. CPU seconds of this process, median of "
        f"{rounds} interleaved rounds after one that warms both."
    )
    section.table(["floor", "share", "CPU s"], [[name, f"{value / least:.0%}", seconds(value)] for name, value in base.items()])
    section.table(
        ["ours", "floor = 1", "CPU s", "wall s"],
        [
            *([name, times(value / least), seconds(value), seconds(wall[name])] for name, value in cpu.items()),
            ["all four steps", times(total / least), seconds(total), seconds(sum(wall.values()))],
            ["network client apart", times(ours / least), seconds(ours), ""],
        ],
    )
    section.verdicts.append(
        ("work against the floor, network apart (CPU)", f"at most {TARGET:.1f}", times(ours / least), ours <= TARGET * least)
    )
    section.say("Where ours goes (exclusive CPU seconds of this process):")
    section.table(
        ["function", "floor = 1", "share", "CPU s"],
        [
            [name, times(value / least), f"{value / total:.0%}", seconds(value)]
            for name, value in sorted(parts.items(), key=lambda one: -one[1])
        ],
    )
    section.say(
        "Beside it, CPU of the services during the four steps, in no ratio above: "
        + ", ".join(f"{name} {seconds(value)} s ({times(value / least)} x the floor)" for name, value in spent.items())
        + f". Importing Great Expectations costs {seconds(imported)} s of CPU once per process; the scheduler preloads it."
    )
    extra = sorted(((value, name) for name, value in parts.items() if name not in ("decode", "derive", NETWORK)), reverse=True)[:4]
    section.say(
        f"The floor's own stages, decoding and deriving, cost {times((parts['decode'] + parts['derive']) / least)} of the floor in ours; the rest is "
        "what makes the result evidence instead of files. Largest of it: "
        + ", ".join(f"{name} {times(value / least)}" for value, name in extra)
        + " (floor = 1)."
    )
    return section

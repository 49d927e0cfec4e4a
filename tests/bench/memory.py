"""Memory of a long history derived year by year from checkpoints, one year in memory at a time, against a longer one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from plugins.settings import ROOT
from tests.bench.features import MADE_UP, STAMP, Core
from tests.bench.many import core as many
from tests.bench.measuring import Cost, Section, apart, gib, seconds, times
from transforms.index.build import Checkpoint, derive, reach, stored
from transforms.windows import DAY, Window, utc

ASSETS, VENUE_COUNT = 2, 3
START, YEARS = 2019, (2, 4, 6)
#: largest ratio of the peaks that counts as flat: two years are less than the look-back of a year
FLAT = 1.5


def first_of(year: int) -> datetime:
    return utc(f"{year}-01-01")


def store(folder: Path, core: Core, years: int) -> None:
    """One file per table and year of as_of."""
    for name, table in core.items():
        year = pc.year(table.column("as_of")).combine_chunks()
        for number in range(START - 1, START + years + 1):
            rows = table.filter(pc.equal(year, number))
            if rows.num_rows:
                pq.write_table(rows, folder / f"{name}-{number}.parquet")


def read(folder: Path, window: Window) -> Core:
    """The rows that a year needs, as `plugins.deriving` reads them: back to the reach of each table, and no further."""
    found = {}
    for name, back in reach(MADE_UP, "1h").items():
        since = window.start - back - DAY
        files = [folder / f"{name}-{year}.parquet" for year in range(max(START - 1, since.year), window.end.year + 1)]
        if held := [file for file in files if file.exists()]:
            found[name] = pq.read_table(held, filters=[("as_of", ">=", since), ("as_of", "<=", window.end)])
    return found


def year_by_year(folder: Path, years: int) -> Cost:
    """Derive year after year; of each only the checkpoint at its end stays."""
    before: Checkpoint | None = None
    rows = 0
    for year in range(START, START + years):
        window = Window(first_of(year), first_of(year + 1))
        made = derive(read(folder, window), window, "1h", MADE_UP, stamp=STAMP, before=before)
        rows += sum(table.num_rows for table in made.values())
        points = made["checkpoints"]
        before = stored(points.filter(pc.equal(points.column("as_of"), pc.max(points.column("as_of")))))
        if before is None or before.as_of != window.end:
            raise RuntimeError(f"{year} left no checkpoint at its end")
    return {"rows": rows}


def alone(folder: Path, years: int) -> Cost:
    """`year_by_year` in an interpreter that has done nothing else."""
    command = [sys.executable, "-m", "tests.bench.memory", str(folder), str(years)]
    said = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=True)
    found: Cost = json.loads(said.stdout)
    return found


def run(rounds: int = 1, years: tuple[int, ...] = YEARS) -> Section:
    section = Section("Memory of a long history")
    with tempfile.TemporaryDirectory(prefix="tidegauge-bench-") as name:
        folder = Path(name)
        core = many(ASSETS, VENUE_COUNT, first_of(START), first_of(START + max(years)), 5)
        store(folder, core, max(years))
        held = sum(table.nbytes for table in core.values())
        del core
        got = {span: alone(folder, span) for span in years}
    peaks = {span: cost["peak"] for span, cost in got.items()}
    ratio = max(peaks.values()) / min(peaks.values())
    section.say(
        f"{ASSETS} assets on {VENUE_COUNT} venues, hourly (made up), rows in Parquet files by year. Each year is read with its look-back, "
        "derived from the checkpoint the year before left, and dropped but for its own checkpoint: what a backfill that goes year by year "
        "holds. Peak: resident set of a process of its own, above what it held after its imports. Peer: the shorter history."
    )
    section.table(
        ["years", "peak, shortest = 1", "peak GiB", "rows made", "CPU s"],
        [
            [span, times(cost["peak"] / peaks[years[0]]), gib(cost["peak"]), f"{cost['rows']:,.0f}", seconds(cost["cpu"])]
            for span, cost in got.items()
        ],
    )
    back = max(reach(MADE_UP, "1h").values()).days
    section.say(
        f"A year reads its look-back, {back} d, and itself: {years[0]} years are less than that. From {years[-2]} to {years[-1]} years the peak "
        f"changes by a factor of {times(peaks[years[-1]] / peaks[years[-2]])}. All core rows of {years[-1]} years would be {gib(held)} GiB."
    )
    section.verdicts.append(
        (f"memory, {years[-1]} years derived year by year / {years[0]} years", f"at most {FLAT:.1f}", times(ratio), ratio <= FLAT)
    )
    return section


if __name__ == "__main__":
    where, count = Path(sys.argv[1]), int(sys.argv[2])
    print(json.dumps(apart(lambda: year_by_year(where, count))))

"""Five years of hours, 20 assets on 5 venues: the numbers against the floor of the transform, and their rows against pandas."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd

from tests.bench import plain_index as plain
from tests.bench.features import MADE_UP, Core, rows_of, within
from tests.bench.many import core as many
from tests.bench.measuring import Cost, Section, gib, interleaved_apart, seconds, times
from tests.bench.transform_floor import METRICS, WINDOW_H, floor, passed
from transforms.index.build import measure
from transforms.index.measure import Measurement
from transforms.index.walk import Walked, walk
from transforms.vocabulary import VENUES
from transforms.windows import DAY, Window, utc

ROUNDS = 2
ASSETS, YEARS = 20, 5
START = utc("2020-01-01")
#: span of the rows: those of all five years do not fit
ROWS_D = 91
TARGET = 3.0


def numbers(core: Core, window: Window) -> tuple[Measurement, Walked]:
    one = measure(core, window, "1h", MADE_UP)
    return one, walk(one, "1h", MADE_UP, None)


def run(rounds: int = ROUNDS, assets: int = ASSETS, years: float = YEARS) -> Section:
    section = Section("Five years of hours from core tables to S, F and X")
    window = Window(START, START + round(365 * years) * DAY)
    small = Window(START, START + 60 * DAY)
    numbers(within(many(2, 2, small.start, small.end, 11), small), small)  # compiles
    passed(np.zeros((1, 2)), 2)
    _numbers(section, window, assets, rounds)
    _rows(section, window, assets, rounds)
    return section


def _numbers(section: Section, window: Window, assets: int, rounds: int) -> None:
    """All of the window, against the floor."""
    core = within(many(assets, len(VENUES), window.start, window.end, 11), window)
    count, years = sum(table.num_rows for table in core.values()), len(window.days()) / 365
    section.say(
        f"{assets} assets x {len(VENUES)} venues x {years:g} years of hours (made up): {count:,} core rows in memory. Ours: `measure` and "
        "`walk`: every feature, S, F and X with contributions, confidence, cohort book, regimes, events, estimated weights. Floor: "
        f"`tests/bench/transform_floor.py`, {len(METRICS)} metrics of every contract ({', '.join(f'`{one[1]}`' for one in METRICS)}) sampled as "
        f"of each bar and passed once through a sorted window of {WINDOW_H} h: median, MAD, rank. It says nothing about revisions, units, age, "
        "averages or an index. Ours has as much to pass in its outlier gate (four quantities of every contract, MAD every 4 h), then ranks "
        "the features of the assets. A second, lower floor averages the venues first and passes the assets alone. Each run in a process "
        f"of its own; peak is what it added to the core tables. Median of {rounds} interleaved rounds; kernels compiled before."
    )
    got = interleaved_apart(
        {
            "ours": lambda: _nothing(numbers(core, window)),
            "floor: every contract": lambda: _nothing(floor(core, window, "1h", MADE_UP)),
            "floor: venues averaged first": lambda: _nothing(floor(core, window, "1h", MADE_UP, together=True)),
        },
        rounds,
    )
    base = got["floor: every contract"]
    section.table(
        ["what", "CPU, floor = 1", "wall, floor = 1", "peak memory, floor = 1", "CPU s", "wall s", "peak GiB"],
        [_row(name, cost, base) for name, cost in got.items()],
    )
    ratio, lower = (got["ours"]["cpu"] / got[name]["cpu"] for name in ("floor: every contract", "floor: venues averaged first"))
    section.say(f"Of the lower floor's CPU, ours is {times(lower)} times as much.")
    what = f"{assets} assets x {len(VENUES)} venues x {years:g} years, hourly: CPU of all numbers, floor = 1"
    section.verdicts.append((what, f"at most {TARGET:.1f}", times(ratio), ratio <= TARGET))


def _nothing(_made: object) -> None:
    """A child has nothing to hand back."""


def _row(name: str, cost: Cost, base: Cost) -> list[str]:
    return [name, *(times(cost[what] / base[what]) for what in ("cpu", "wall", "peak")), *_told(cost)]


def _told(cost: Cost) -> list[str]:
    return [seconds(cost["cpu"]), seconds(cost["wall"]), gib(cost["peak"])]


def _rows(section: Section, whole: Window, assets: int, rounds: int) -> None:
    """Rows of the last quarter, out of the numbers of the last year: how many years came before makes no difference to them."""
    window = Window(whole.end - 365 * DAY, whole.end)
    made = numbers(within(many(assets, len(VENUES), window.start, window.end, 11), window), window)
    start = window.end - ROWS_D * DAY
    theirs = _as_wide(made, start)

    def ours() -> Cost:
        tables = rows_of(made, start, "1h", MADE_UP)
        return {"rows": sum(table.num_rows for table in tables.values()), "bytes": sum(table.nbytes for table in tables.values())}

    def pandas() -> Cost:
        frames = plain.rows(theirs)
        return {
            "rows": sum(len(frame) for frame in frames.values()),
            "bytes": sum(int(frame.memory_usage(deep=True).sum()) for frame in frames.values()),
        }

    got = interleaved_apart({"ours: rows of all tables": ours, "pandas: long frames of the same values": pandas}, rounds)
    sizes = next(iter(got.values()))
    section.say(
        f"The rows of {assets} assets: {ROWS_D} days of them, from the numbers of a year; those of all {len(whole.days()):,} days would take about "
        f"{sizes['bytes'] / ROWS_D * len(whole.days()) / 2**30:.0f} GiB at once. Peer: features, contributions by venue and "
        "readings as long pandas frames (`melt`, `concat`, `sort_values`), values and keys alone; ours with reasons, ages, clocks and stamps."
    )
    section.table(
        ["what", "CPU, ours = 1", "wall, ours = 1", "peak, own tables = 1", "rows", "tables GiB", "CPU s", "wall s", "peak GiB"],
        [
            [
                name,
                times(cost["cpu"] / sizes["cpu"]),
                times(cost["wall"] / sizes["wall"]),
                times(cost["peak"] / cost["bytes"]),
                f"{cost['rows']:,.0f}",
                gib(cost["bytes"]),
                *_told(cost),
            ]
            for name, cost in got.items()
        ],
    )


def _as_wide(made: tuple[Measurement, Walked], start: datetime) -> plain.Numbers:
    """Ours as the peer holds its own: wide frames from `start` on."""
    one, found = made
    panel = one.panel
    first = int(np.searchsorted(panel.when, int(start.timestamp()) * 1_000_000, side="right"))
    shift = first - panel.window_first
    grid = pd.DatetimeIndex(panel.when[first:].astype("datetime64[us]"), tz="UTC")

    def wide(values: np.ndarray, skip: int) -> pd.DataFrame:
        shape = (len(panel.assets), len(grid))
        return pd.DataFrame(np.broadcast_to(values[:, skip:], shape).T.copy(), index=grid, columns=panel.assets)

    features = {name: wide(part.value, first) for name, part in one.features.items() if np.isfinite(part.value[:, first:]).any()}
    features |= {name: wide(part.value, shift) for name, part in found.book.items()}
    points = {("S", c.family, c.feature): wide(part, shift) for c, part in zip(MADE_UP.active("1h"), found.s_parts, strict=True)}
    for index, composite in (("F", found.f_made), ("X", found.x_made)):
        points |= {(index, share.component, share.feature): wide(share.points, shift) for share in composite.shares}
    series = pd.MultiIndex.from_product([panel.assets, panel.venues], names=["asset", "venue"])
    shares = pd.DataFrame(panel.venue_shares[:, :, first:].reshape(len(series), -1).T.copy(), index=grid, columns=series)
    return plain.Numbers(features, points, wide(found.sentiment.s, shift), wide(found.f, shift), wide(found.x, shift), shares)

"""Features, scores, S, F and X, against idiomatic pandas on the same core tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tests.bench import plain_index as plain
from tests.bench.many import core as many
from tests.bench.measuring import Cost, Section, interleaved, seconds, times
from transforms.estimators import Floats
from transforms.index.build import Stamp, measure, published
from transforms.index.measure import Measurement
from transforms.index.walk import BOOK, Walked, walk
from transforms.signals.contract import State
from transforms.spec import SPEC, Spec
from transforms.vocabulary import VENUES
from transforms.windows import DAY, Window, utc

ROUNDS = 2
ASSETS, YEARS = 2, 2
#: the market is made of the first two assets that there are
MADE_UP = replace(SPEC, market=replace(SPEC.market, assets=("A00", "A01"), capped_asset="A00"))
STAMP = Stamp("simulated", "reconstructed", "0" * 64)
RECORDED = Path(__file__).parents[3] / "shared" / "recordings" / "series" / "coinalyze_daily.parquet"
#: of a feature's own size, or of one where that is small: what rounding explains (ours counts logs in steps of 2^-40 and squares in 2^-50)
ROUNDING = 1e-6
#: the same in points of an index
POINTS = 1e-6
#: share of the values at which a tie may break
TORN = 1e-4
TARGET = 20.0
Core = Mapping[str, pa.Table]


@dataclass(frozen=True)
class Case:
    """Core tables, the window they fill and the cadence; the ratio of the peer's CPU to ours that is aimed at."""

    name: str
    core: Core
    window: Window
    cadence: str
    spec: Spec
    target: float

    @property
    def grid(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.window.grid(self.spec.cadence(self.cadence).step)).as_unit("us")

    def ours(self) -> tuple[Measurement, Walked]:
        one = measure(self.core, self.window, self.cadence, self.spec)
        return one, walk(one, self.cadence, self.spec, None)

    def theirs(self, *, weighted: bool = True) -> plain.Numbers:
        return plain.numbers(self.core, self.grid, self.cadence, self.spec, weighted=weighted)


def rows_of(made: tuple[Measurement, Walked], start: datetime, cadence: str, spec: Spec) -> dict[str, pa.Table]:
    """The tables of the bars after `start`, from numbers that are there already."""
    one, found = made
    first = int(np.searchsorted(one.panel.when, int(start.timestamp()) * 1_000_000, side="right"))
    return published(one, found, first, cadence, spec, STAMP, whatever=False)


def within(core: Core, window: Window) -> Core:
    """Without the supply from before the window: it would be history for ours alone, which begins with its oldest row."""
    supply = core["stablecoin_supply"]
    start = pa.scalar(window.start, type=supply.schema.field("as_of").type)
    return {**core, "stablecoin_supply": supply.filter(pc.greater(supply.column("as_of"), start))}


def hourly() -> Case:
    window = Window(utc("2024-01-01"), utc("2024-01-01") + 365 * YEARS * DAY)
    core = within(many(ASSETS, len(VENUES), window.start, window.end, 7), window)
    return Case(f"hourly: {ASSETS} assets x {len(VENUES)} venues x {YEARS} years (made up)", core, window, "1h", MADE_UP, TARGET)


def daily() -> Case | None:
    """The recorded daily set of 119 contracts, where the recordings are."""
    if not RECORDED.exists():
        return None
    from tests.golden.test_real_history import SPAN, core

    return Case("daily: 119 assets x 703 days (recorded)", within(core(), SPAN), SPAN, "1d", SPEC, 1.0)


# --- are they the same numbers? -------------------------------------------------------------------------------------------------------


def difference(mine: Floats, theirs: pd.DataFrame, sure: np.ndarray | bool = True) -> tuple[int, int, float]:
    """(values of both, of one side only, largest difference) where `sure`; mine: (assets or 1, bars), theirs: (bars, assets)."""
    a = np.broadcast_to(mine.T, theirs.shape)
    b = theirs.to_numpy(float)
    both, one = np.isfinite(a) & np.isfinite(b) & sure, (np.isfinite(a) ^ np.isfinite(b)) & sure
    return int(both.sum()), int(one.sum()), float(np.abs(a - b)[both].max(initial=0.0))


def compared(case: Case, made: tuple[Measurement, Walked], theirs: plain.Numbers) -> list[str]:
    """Sentences of what was compared; another number than rounding explains raises.

    S, F and X are compared where ours holds no score of an input that stopped coming: the peer keeps nothing of it.
    """
    one, found = made
    first = one.panel.window_first
    worst, values, alone = 0.0, 0, 0
    for name, wide in theirs.features.items():
        own = one.features[name].value[:, first:]
        size = float(np.nanmax(np.abs(own), initial=0.0)) or 1.0
        both, lonely, off = difference(own, wide)
        values, alone, worst = values + both, alone + lonely, max(worst, min(off, off / size))
        if not min(off, off / size) < ROUNDING or lonely > both / 100:
            raise RuntimeError(
                f"{case.name}: {name} is another number for the peer: {off / size:.1e} of its size, {lonely} on one side only"
            )
    states = [part.state for part in (*one.scored.values(), *one.ranked.values())]
    fresh = ~np.any([np.broadcast_to(state[:, first:] == State.STALE, found.f.shape) for state in states], axis=0).T
    cohort = sum(share.points for share in found.f_made.shares if share.component == plain.COHORT)
    told = [f"{len(theirs.features)} features, {values:,} values: {worst:.0e} of their own size ({alone:,} known to one side only)"]
    totals = {"S": sum(found.s_parts) + 50.0, "F": found.f_made.value - cohort, "X": found.x_made.value}
    for name, mine in totals.items():
        wide = getattr(theirs, name.lower())
        close = np.abs(mine.T - wide.to_numpy()) < POINTS
        both, _, off = difference(mine, wide, fresh & close)
        _, _, most = difference(mine, wide, fresh)
        torn = int((fresh & ~close & np.isfinite(wide.to_numpy())).sum())
        told.append(f"{name}{' without the cohort book' if name == 'F' else ''}, {both:,} values: {off:.0e} points")
        if torn:  # two values that tie in integers and not in floats, or the other way round, change places in one rank
            told[-1] += f" but for {torn}, where rounding breaks a tie of the peer's ranks ({most:.2f} points)"
        if torn > both * TORN:
            raise RuntimeError(f"{case.name}: {name} differs by up to {most} points in {torn} of {both} values; aimed at {POINTS}")
    return told


# --- the bench ------------------------------------------------------------------------------------------------------------------------


def run(rounds: int = ROUNDS) -> Section:
    section = Section("Features, scores, S, F and X against pandas")
    section.say(
        "Ours: `measure` and `walk` (transforms/index), the numbers of every table; `derive` makes the rows of them. Peer: "
        "`tests/bench/plain_index.py`, idiomatic pandas over wide frames: `merge_asof` for what a bar can see, `rolling`, `ewm`, `groupby` "
        "over venues, the outlier gate, averages weighted by open interest, ramped and capped. Both start from the same Arrow tables in "
        "memory. pandas has no weighted rank among strictly past values: the peer's is a numpy loop over bars, vectorised over history and "
        "assets; with `rolling().rank()` in its place the peer is faster and gives other numbers, and is shown for what it costs. "
        "The peer leaves out what ours does beside it: the cohort book and its part of F, options, reasons, what is held of an input that "
        "stopped coming, restatements, confidence, regimes and the percentiles that only they read, events, the probability, estimated "
        f"weights, the market, checkpoints. Median of {rounds} interleaved rounds; kernels compiled before."
    )
    for case in (hourly(), daily()):
        if case is None:
            section.say("The recorded daily set (119 assets) is not beside this checkout: left out.")
            continue
        _case(section, case, rounds)
    return section


def _case(section: Section, case: Case, rounds: int) -> None:
    made, theirs = case.ours(), case.theirs()
    told = compared(case, made, theirs)
    tables, long = rows_of(made, case.window.start, case.cadence, case.spec), plain.rows(theirs)
    others = sum(table.num_rows for name, table in tables.items() if name not in ("features", "contributions"))
    got = interleaved(
        {
            "ours: features, S, F, X and all the rest": case.ours,
            "pandas, the same definitions": case.theirs,
            "of ours: `measure`, features and ranks": lambda: measure(case.core, case.window, case.cadence, case.spec),
            "pandas with `rolling().rank()`, another number": lambda: case.theirs(weighted=False),
        },
        rounds,
    )
    rows = interleaved(
        {
            "ours: rows of all tables": lambda: rows_of(made, case.window.start, case.cadence, case.spec),
            "pandas: `melt`, `concat`, `sort_values`": lambda: plain.rows(theirs),
        },
        rounds,
    )
    section.say(
        f"**{case.name}**: {sum(table.num_rows for table in case.core.values()):,} core rows. Both sides' numbers compared before timing, "
        f"largest difference: {'; '.join(told)}. Not covered by the peer: {_left_out(case, theirs)}."
    )
    for group in (got, rows):
        section.table(["what", "wall, ours = 1", "CPU, ours = 1", "wall s", "CPU s"], _ratios(group))
    section.say(
        f"Rows: ours {tables['features'].num_rows:,} features, {tables['contributions'].num_rows:,} contributions and "
        f"{others:,} others, with reasons, ages, clocks and stamps; pandas {len(long['features']):,} features and "
        f"{len(long['contributions']):,} contributions, values alone."
    )
    base, peer = (got[name]["cpu"] for name in list(got)[:2])
    name = f"{case.name.split(' (')[0]}: CPU of pandas for the same numbers"
    section.verdicts.append((name, f"at least {case.target:.0f} x ours", f"{times(peer / base)} x ours", peer >= case.target * base))


def _ratios(group: Mapping[str, Cost]) -> list[list[str]]:
    base = next(iter(group.values()))
    return [
        [name, times(cost["wall"] / base["wall"]), times(cost["cpu"] / base["cpu"]), seconds(cost["wall"]), seconds(cost["cpu"])]
        for name, cost in group.items()
    ]


def _left_out(case: Case, theirs: plain.Numbers) -> str:
    uses = case.spec.cadence(case.cadence).uses
    left = sorted(use.feature for use in uses if use.feature not in theirs.features and not use.sparse)
    return ", ".join(["options", *(f"`{name}`" for name in (*BOOK, *left))])

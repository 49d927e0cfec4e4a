"""The floor of the transform: the least that makes hourly features with a history out of core rows.

Four metrics of many venues: each contract sampled as of every bar on the knowledge clock, then one numba pass of a sorted trailing window: median,
MAD and percentile rank at every bar. Nothing else: no revisions, no ages, no reasons, no units, no outliers set aside, no averages, no weights
that decay, no index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import asof
from transforms.estimators import Floats, Ints, kernel
from transforms.rolling import middle, sorted_in, sorted_out, spread
from transforms.spec import Spec
from transforms.windows import Window

#: table, value column, column and word that choose its rows
METRICS = (
    ("open_interest", "open_interest_base", None),
    ("candles", "close_usd", None),
    ("premiums", "premium_share", None),
    ("long_short", "long_share", ("ratio_metric", "global_account")),
)
WINDOW_H = 720


@dataclass
class Ranked:
    """Of one metric: value, median, MAD and rank of (series or assets, bars)."""

    value: Floats
    median: Floats
    mad: Floats
    rank: Floats


@kernel
def passed(values: Floats, window: int) -> tuple[Floats, Floats, Floats]:
    """(median, MAD, mid-rank of the value) over the last `window` bars, the present one among them, per row and bar."""
    rows, bars = values.shape
    medians, mads, ranks = np.full((rows, bars), np.nan), np.full((rows, bars), np.nan), np.full((rows, bars), np.nan)
    ordered = np.empty(window + 1)
    for r in range(rows):
        size = 0
        for t in range(bars):
            x = values[r, t]
            if np.isfinite(x):
                size = sorted_in(ordered, size, x)
            if t >= window and np.isfinite(values[r, t - window]):
                size = sorted_out(ordered, size, values[r, t - window])
            if size == 0:
                continue
            medians[r, t] = middle(ordered, size)
            mads[r, t] = spread(ordered, size, medians[r, t])
            if np.isfinite(x):
                low, high = np.searchsorted(ordered[:size], x, "left"), np.searchsorted(ordered[:size], x, "right")
                ranks[r, t] = 0.5 * (low + high) / size
    return medians, mads, ranks


def series(table: pa.Table) -> tuple[Ints, list[str]]:
    """Number of each row's contract, and the asset of each contract."""
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for key in ("venue", "instrument"):
        column = pc.dictionary_encode(table.column(key).combine_chunks())
        codes = codes * len(column.dictionary) + column.indices.to_numpy()
    _, first, number = np.unique(codes, return_index=True, return_inverse=True)
    assets = table.column("asset").take(pa.array(first)).to_pylist()
    return number, assets


def sampled(table: pa.Table, column: str, when: Ints, delay: int, max_age: int) -> tuple[Floats, list[str]]:
    """The newest value of each contract at each bar, (contracts, bars)."""
    number, assets = series(table)
    as_of, known_at = (table.column(name).cast(pa.int64()).to_numpy() for name in ("as_of", "known_at"))
    values = table.column(column).to_numpy()
    if not np.all((number[1:] > number[:-1]) | ((number[1:] == number[:-1]) & (as_of[1:] > as_of[:-1]))):
        order = np.lexsort((as_of, number))
        number, as_of, known_at, values = number[order], as_of[order], known_at[order], values[order]
    starts = np.searchsorted(number, np.arange(len(assets) + 1))
    shown = asof.newest(starts, as_of, known_at, when, when + delay, max_age)
    return np.where(shown >= 0, values[shown], np.nan), assets


def floor(core: Mapping[str, pa.Table], window: Window, cadence: str, spec: Spec, *, together: bool = False) -> dict[str, Ranked]:
    """The four metrics on the grid; `together`: the mean over an asset's venues is passed, not each venue."""
    rule = spec.cadence(cadence)
    step = round(rule.step_h * 3_600_000_000)
    when = np.arange(int(window.start.timestamp()) * 1_000_000 + step, int(window.end.timestamp()) * 1_000_000 + 1, step)
    delay, max_age = round(spec.publication_delay_min * 60e6), round(rule.carry_h * 3.6e9)
    found = {}
    for name, column, chosen in METRICS:
        table = core[name]
        if chosen is not None:
            table = table.filter(pc.equal(table.column(chosen[0]), chosen[1]))
        values, assets = sampled(table, column, when, delay, max_age)
        if together:
            values = venue_means(values, assets)
        found[column] = Ranked(values, *passed(values, round(WINDOW_H / rule.step_h)))
    return found


def venue_means(values: Floats, assets: list[str]) -> Floats:
    """Plain mean over the contracts of an asset."""
    groups = [[n for n, one in enumerate(assets) if one == asset] for asset in sorted(set(assets))]
    means = np.full((len(groups), values.shape[1]), np.nan)
    for row, own in enumerate(groups):
        known = np.isfinite(values[own])
        count = known.sum(axis=0)
        means[row, count > 0] = np.where(known, values[own], 0.0).sum(axis=0)[count > 0] / count[count > 0]
    return means

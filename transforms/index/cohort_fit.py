"""Does the cohort book know where liquidations happen? Fitted walk-forward, compared with maps that know nothing (METHODOLOGY 2.4).

A map says how much would be liquidated on the way the price took in a bar; it does not say where the price goes. Each map is regressed on
the liquidations that were reported, with a constant, on bars up to a refit; it is judged on the bars after it, up to the next refit.
Positions of one leverage tier are a book of their own: mass is homogeneous in quantity, so the tiers' books add up, each times its
weight. A weight is the tier's share of open interest times the share of its liquidations that venues report; no data tell the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from transforms.estimators import DAY_US, Bools, Floats, Ints, kernel
from transforms.index import cohorts
from transforms.rules import CohortRule

NO_SKILL: Final = "model, no measured skill"
#: the tiers' books with fitted weights; the book of the rule as it stands, which is what gets published
BOOKS: Final = ("fitted", "book")
#: traded volume at the crossed prices; round prices crossed; length of the way
NAIVE: Final = ("volume_at_price", "round_numbers", "uniform")

#: coordinate descent stops when no weight moves by more than this, or after so many rounds
_TOLERANCE: Final = 1e-12
_ROUNDS: Final = 20_000
#: weights of naive maps are in their own units; a share of open interest is at most 1
_UNBOUNDED: Final = np.inf


@dataclass(frozen=True, slots=True)
class Market:
    """Bars of one or several assets, (assets, bars), NaN = unknown; a fit pools them.

    close, high, low in USD (high and low may be unknown); quantity as for cohorts.run; volume traded in the bar, any unit of its own;
    liquidated_long, liquidated_short: reported liquidations as shares of the open interest before the bar; when: bar ends, us.
    """

    close: Floats
    high: Floats
    low: Floats
    quantity: Floats
    volume: Floats
    liquidated_long: Floats
    liquidated_short: Floats
    when: Ints
    step_h: float


@dataclass(frozen=True, slots=True)
class CohortFit:
    """What the fit found. `skill` is what may be said about the map.

    turnover_per_h: chosen before the out-of-sample start; refit_at: us; tier_weights: (refits, leverages);
    tier_shares, unseen_share: from the first refit, tiers summing to 1 (NaN where no tier has weight) and what was never liquidated or never
    reported; predicted: by map, (long and short, assets, bars), NaN outside the sample judged; r2: by map, `1 - SSE / SSE of the mean so
    far` on those bars; gain_t: t statistic over the spans between refits of how much smaller the squared error of `fitted` is than that of
    the best naive map; observations: judged bars x sides.
    """

    turnover_per_h: float
    refit_at: Ints
    leverages: tuple[float, ...]
    tier_weights: Floats
    tier_shares: Floats
    unseen_share: float
    predicted: Mapping[str, Floats]
    r2: Mapping[str, float]
    gain_t: float
    observations: int
    skill: str


def fit(market: Market, rule: CohortRule, out_of_sample_from: int) -> CohortFit:
    """Fit on bars up to `out_of_sample_from` (us), refit at every multiple of `fit_refit_d` days since 1970 after it, judge all later bars.

    Turnover is the value of `fit_turnovers_per_h` with the least squared error up to the start. A bar counts where every map and the
    reported liquidations are known. Raises ValueError where fewer than `fit_least_bars` of them lie before the start, or none after it.
    """
    reported = np.stack([market.liquidated_long, market.liquidated_short])
    naive = naive_maps(market, rule)
    ways = {name: naive[name][None] for name in NAIVE} | {"book": _triggered(market, rule)[None]}
    tiers = {turnover: tier_maps(market, rule, turnover) for turnover in rule.fit_turnovers_per_h}
    known = np.isfinite(reported)
    for maps in (*ways.values(), *tiers.values()):
        known &= np.isfinite(maps).all(axis=0)
    before = known & (market.when <= out_of_sample_from)
    judged = known & (market.when > out_of_sample_from)
    least = rule.fit_least_bars
    if before.sum() < least or not judged.any():
        raise ValueError(
            f"found {before.sum()} usable bars x sides up to the out-of-sample start and {judged.sum()} after it; at least {least} and 1 are needed"
        )
    turnover = min(tiers, key=lambda one: _error(tiers[one], reported, before, 1.0))
    ways["fitted"] = tiers[turnover]

    step = round(rule.fit_refit_d * DAY_US)
    refit_at = np.array([out_of_sample_from, *range((out_of_sample_from // step + 1) * step, int(market.when[-1]), step)], dtype=np.int64)
    predicted = {name: np.full(reported.shape, np.nan) for name in (*BOOKS, *NAIVE, "mean")}
    weights = np.zeros((len(refit_at), len(rule.leverages)))
    for n, at in enumerate(refit_at):
        past = known & (market.when <= at)
        span = judged & (market.when > at)
        if n + 1 < len(refit_at):
            span &= market.when <= refit_at[n + 1]
        predicted["mean"][span] = _sum(np.where(past, reported, 0.0)) / past.sum()
        for name, maps in ways.items():
            found = _weights(maps, reported, past, 1.0 if name in BOOKS else _UNBOUNDED)
            expected = np.full(reported.shape, found[0])
            for weight, one in zip(found[1:], maps, strict=True):
                expected = expected + weight * one
            predicted[name][span] = expected[span]
            if name == "fitted":
                weights[n] = found[1:]
    errors = {name: np.where(judged, (reported - values) ** 2, 0.0) for name, values in predicted.items()}
    total = {name: _sum(values) for name, values in errors.items()}
    r2 = {name: 1.0 - total[name] / total["mean"] if total["mean"] > 0.0 else float("nan") for name in (*BOOKS, *NAIVE)}
    best = max(NAIVE, key=lambda name: r2[name])
    gain_t = _gain(errors[best] - errors["fitted"], judged, market.when, refit_at)
    first = _sum(weights[0])
    return CohortFit(
        turnover_per_h=turnover,
        refit_at=refit_at,
        leverages=rule.leverages,
        tier_weights=weights,
        tier_shares=weights[0] / first if first > 0.0 else np.full(len(rule.leverages), np.nan),
        unseen_share=max(0.0, 1.0 - first),
        predicted={name: predicted[name] for name in (*BOOKS, *NAIVE)},
        r2=r2,
        gain_t=gain_t,
        observations=int(judged.sum()),
        skill=_said(r2, best, gain_t, rule.fit_least_t),
    )


def tier_maps(market: Market, rule: CohortRule, turnover_per_h: float) -> Floats:
    """Triggered share of each tier's own book, (tiers, long and short, assets, bars); nothing is safe in it."""
    alone = replace(rule, safe_share=0.0, turnover_per_h=turnover_per_h, tier_shares=(1.0,))
    return np.stack([_triggered(market, replace(alone, leverages=(leverage,))) for leverage in rule.leverages])


def naive_maps(market: Market, rule: CohortRule) -> dict[str, Floats]:
    """What maps that know no position say was crossed between the close before and the low (long side) or the high (short side).

    uniform: the log distance. round_numbers: multiples of a tenth of the price's power of ten (Osler 2003: orders cluster at round
    prices). volume_at_price: share of the traded volume, halved every `fit_profile_half_life_d`, that lies in the crossed bins.
    Each (long and short, assets, bars).
    """
    found = np.full((3, 2, *market.close.shape), np.nan)
    bars = tuple(np.require(values, np.float64, ["C", "W"]) for values in (market.close, market.high, market.low, market.volume))
    _ways(bars, rule.bin_log, market.step_h / (24.0 * rule.fit_profile_half_life_d), found)
    return dict(zip(("uniform", "round_numbers", "volume_at_price"), found, strict=True))


def least_squares(products: Floats, moments: Floats, upper: Floats) -> Floats:
    """Minimise `x' P x - 2 m' x` over x in [0, upper]: non-negative least squares from P = A'A and m = A'b, by coordinate descent.

    A column that is 0 throughout gets 0. Columns are scaled to length 1 first, so that the tolerance means the same for each.
    """
    return _descend(
        np.ascontiguousarray(products, dtype=np.float64),
        np.ascontiguousarray(moments, dtype=np.float64),
        np.ascontiguousarray(upper, dtype=np.float64),
        _TOLERANCE,
        _ROUNDS,
    )


def _triggered(market: Market, rule: CohortRule) -> Floats:
    unknown = np.full(market.close.shape, np.nan)
    state = cohorts.start(len(market.close), rule)
    levels, _ = cohorts.run(market.close, market.high, market.low, market.quantity, unknown, market.when, state, rule, market.step_h)
    return np.stack([levels.triggered_long, levels.triggered_short])


def _weights(maps: Floats, reported: Floats, used: Bools, upper: float) -> Floats:
    """Constant first, then one weight per map."""
    products, moments = _products(maps, reported, used)
    limits = np.full(len(moments), upper)
    limits[0] = _UNBOUNDED
    return least_squares(products, moments, limits)


def _error(maps: Floats, reported: Floats, used: Bools, upper: float) -> float:
    found = _weights(maps, reported, used, upper)
    expected = np.full(reported.shape, found[0])
    for weight, one in zip(found[1:], maps, strict=True):
        expected = expected + weight * one
    return _sum(np.where(used, (reported - expected) ** 2, 0.0))


def _gain(better: Floats, judged: Bools, when: Ints, refit_at: Ints) -> float:
    """Student's t of the mean over spans between refits: neighbouring bars share their shocks, spans hardly do. NaN below three spans."""
    spans = []
    for n, at in enumerate(refit_at):
        inside = judged & (when > at) & (when <= (refit_at[n + 1] if n + 1 < len(refit_at) else when[-1]))
        if inside.any():
            spans.append(_sum(np.where(inside, better, 0.0)) / int(inside.sum()))
    values = np.array(spans)
    if len(values) < 3:
        return float("nan")
    mean = _sum(values) / len(values)
    deviation = (_sum((values - mean) ** 2) / (len(values) - 1)) ** 0.5
    return mean / (deviation / len(values) ** 0.5) if deviation > 0.0 else float("nan")


def _said(r2: Mapping[str, float], best: str, gain_t: float, least_t: float) -> str:
    """The only words under which the map may be shown."""
    test = f"t of the difference {gain_t:.1f}" if np.isfinite(gain_t) else "too few spans for a test"
    figures = f"out-of-sample R2 {r2['fitted']:.2f}, {best} {r2[best]:.2f}, {test}"
    if r2["fitted"] > max(0.0, r2[best]) and gain_t >= least_t:
        return f"model, measured skill: {figures}"
    return f"{NO_SKILL}: {figures}"


def _sum(values: Floats) -> float:
    """Sum in the order of the array."""
    return float(_total(np.ascontiguousarray(values).ravel()))


@kernel
def _total(values: Floats) -> float:
    total = 0.0
    for x in values:
        total += x
    return total


@kernel
def _products(maps: Floats, reported: Floats, used: Bools) -> tuple[Floats, Floats]:
    """(A'A, A'b) of a constant and the maps over the used bars, side by side, asset by asset, bar by bar."""
    count = maps.shape[0] + 1
    products, moments, row = np.zeros((count, count)), np.zeros(count), np.ones(count)
    for side in range(reported.shape[0]):
        for a in range(reported.shape[1]):
            for t in range(reported.shape[2]):
                if not used[side, a, t]:
                    continue
                for n in range(1, count):
                    row[n] = maps[n - 1, side, a, t]
                for n in range(count):
                    moments[n] += row[n] * reported[side, a, t]
                    for m in range(count):
                        products[n, m] += row[n] * row[m]
    return products, moments


@kernel
def _descend(products: Floats, moments: Floats, upper: Floats, tolerance: float, rounds: int) -> Floats:
    count = moments.shape[0]
    length, scaled = np.zeros(count), np.zeros(count)
    for n in range(count):
        length[n] = np.sqrt(products[n, n])
    for _ in range(rounds):
        moved, largest = 0.0, 0.0
        for n in range(count):
            if length[n] == 0.0:
                continue
            slope = moments[n] / length[n]
            for m in range(count):
                if m != n and length[m] > 0.0:
                    slope -= products[n, m] / (length[n] * length[m]) * scaled[m]
            value = min(max(0.0, slope), upper[n] * length[n])
            moved = max(moved, abs(value - scaled[n]))
            largest = max(largest, value)
            scaled[n] = value
        if moved <= tolerance * largest:
            break
    for n in range(count):
        scaled[n] = min(scaled[n] / length[n], upper[n]) if length[n] > 0.0 else 0.0
    return scaled


@kernel
def _ways(bars: tuple[Floats, ...], width: float, half_lives: float, found: Floats) -> None:
    """Write (uniform, round_numbers, volume_at_price) of naive_maps; half_lives: of the volume profile in one bar."""
    close, high, low, volume = bars
    for a in range(close.shape[0]):
        lowest, highest = np.inf, -np.inf
        for t in range(close.shape[1]):
            for price in (close[a, t], high[a, t], low[a, t]):
                if price > 0.0 and np.isfinite(price):
                    lowest, highest = min(lowest, np.log(price)), max(highest, np.log(price))
        if not highest >= lowest:
            continue
        base = int(np.floor(lowest / width))
        profile = np.zeros(int(np.floor(highest / width)) - base + 1)
        traded = 0.0
        before = np.nan
        for t in range(close.shape[1]):
            # the profile ages by growing what is added
            growth = 2.0 ** (half_lives * t)
            price = close[a, t]
            if not (price > 0.0 and np.isfinite(price)):
                continue
            bottom = min(price, low[a, t]) if low[a, t] > 0.0 else price
            ceiling = max(price, high[a, t]) if high[a, t] > 0.0 and np.isfinite(high[a, t]) else price
            first, last = int(np.floor(np.log(bottom) / width)) - base, int(np.floor(np.log(ceiling) / width)) - base
            if np.isfinite(before):
                at = int(np.floor(np.log(before) / width)) - base
                unit = 10.0 ** (np.floor(np.log10(before)) - 1.0)
                found[0, 0, a, t] = max(0.0, np.log(before / bottom))
                found[0, 1, a, t] = max(0.0, np.log(ceiling / before))
                found[1, 0, a, t] = max(0.0, np.floor(before / unit) - np.floor(bottom / unit))
                found[1, 1, a, t] = max(0.0, np.floor(ceiling / unit) - np.floor(before / unit))
                if traded > 0.0:
                    below, above = 0.0, 0.0
                    for n in range(first, at):
                        below += profile[n]
                    for n in range(at + 1, last + 1):
                        above += profile[n]
                    found[2, 0, a, t] = below / traded
                    found[2, 1, a, t] = above / traded
                first, last = min(first, at), max(last, at)
            amount = volume[a, t]
            if amount > 0.0 and np.isfinite(amount):
                traded += amount * growth
                for n in range(first, last + 1):
                    profile[n] += amount * growth / (last - first + 1)
            before = price

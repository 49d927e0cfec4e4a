"""Latent liquidation levels: a book of open positions by the price at which each would be liquidated (METHODOLOGY 2.4, LQ.8, LQ.9).

A model, not a measurement: nobody publishes entries, leverage or margin. What the map is worth against naive ones is measured in
transforms/index/cohort_fit.py. Mass is in units of open-interest quantity, so that the book survives price moves.

Bins are 0.25 % wide on the absolute axis of log price. Each side keeps a ring of them that ends at the price: longs downwards, shorts
upwards. Levels count towards the price on both sides: the bin's number for longs, minus the number minus one for shorts. What the price
crosses is therefore always `level >= that of the extreme`, and both sides run through the same lines. A mass is stored divided by its
side's running scale: closing a part of a side multiplies one number, not a thousand bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import DAY_US, HOUR_US, Floats, Ints, kernel
from transforms.rules import CohortRule

State = dict[str, NDArray[np.generic]]

#: a running scale below this is multiplied into its bins: depends on the state alone, so cuts do not matter. A guessed share below is 0
_SMALLEST: Final = 2.0**-30
#: a bin that keeps its share all day stays dense all day: shares are products of many factors, rounding must not decide
_ROUNDING: Final = 1.0 - 1e-9
#: a shortfall below this part of the quantity is rounding and opens nothing
_DUST: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Levels:
    """What the book says at the end of each bar, (assets, bars); NaN where unknown or still warming.

    near_long, near_short, near: share of the quantity that would be liquidated within `near_sigma` daily sigmas below, above, both.
    asymmetry: ln(near_short / near_long), positive = more above; NaN where either is 0.
    distance_sigma: to the centre of the nearest dense bin in daily sigmas, + above, - below the price; NaN where none is in reach.
    triggered_long, triggered_short: crossed in the bar, share of the quantity held before it.
    guessed: upper bound of the share of the quantity whose entry price is not known (held before the first bar or through a gap);
    the others are NaN while it exceeds `warm_share`.
    """

    near_long: Floats
    near_short: Floats
    near: Floats
    asymmetry: Floats
    distance_sigma: Floats
    triggered_long: Floats
    triggered_short: Floats
    guessed: Floats


def liquidation_price(entry: float, leverage: float, maintenance: float, side: int, inverse: bool) -> float:
    """Price at which isolated margin falls to maintenance, fees ignored (METHODOLOGY 2.4); side +1 long, -1 short.

    Linear: `entry (1 - side / leverage) / (1 - side maintenance)`; inverse: `entry (1 + side maintenance) / (1 + side / leverage)`.
    Raises ValueError where the position can never be liquidated, or would be at entry.

    >>> round(liquidation_price(100_000.0, 10.0, 0.005, +1, inverse=False), 2)
    90452.26
    """
    if side not in (1, -1):
        raise ValueError(f"found side {side!r}; a position is +1 (long) or -1 (short)")
    if not (leverage > 1.0 and 0.0 <= maintenance < 1.0 / leverage):
        raise ValueError(f"found leverage {leverage!r} with maintenance {maintenance!r}; need leverage > 1 and maintenance < 1 / leverage")
    if inverse:
        return entry * (1.0 + side * maintenance) / (1.0 + side / leverage)
    return entry * (1.0 - side / leverage) / (1.0 - side * maintenance)


def start(assets: int, rule: CohortRule) -> State:
    """A book of nothing for each asset. Raises ValueError for a rule that cannot be run."""
    _tiers(rule)
    return {
        # masses / scale, by level modulo the ring's length
        "book": np.zeros((assets, 2, rule.window_bins)),
        "scale": np.ones((assets, 2)),
        # sum of a side's ring
        "held": np.zeros((assets, 2)),
        # never liquidated
        "safe": np.zeros((assets, 2)),
        # share of the quantity that makes a bin dense, and the UTC day it was set
        "dense": np.full(assets, np.inf),
        "dense_day": np.full(assets, -1, dtype=np.int64),
        # nearest extreme since the book moved: ln low, -ln high
        "seen": np.full((assets, 2), np.inf),
        # level of the price, and the highest level that may hold mass
        "anchor": np.zeros((assets, 2), dtype=np.int64),
        "top": np.zeros((assets, 2), dtype=np.int64),
        # NaN = nothing held yet
        "quantity": np.full(assets, np.nan),
        "guessed": np.full(assets, np.nan),
        "moved_at": np.full(assets, -1, dtype=np.int64),
    }


def run(
    close: Floats,
    high: Floats,
    low: Floats,
    quantity: Floats,
    sigma_d: Floats,
    when: Ints,
    state: State,
    rule: CohortRule,
    step_h: float,
) -> tuple[Levels, State]:
    """Carry the book through the bars: LQ.8's four steps in each, then LQ.9 at the close.

    close, high, low: USD; quantity: one-sided open interest on any positive scale, free of price (OI.3); sigma_d: daily volatility, log.
    All (assets, bars), NaN or not positive = unknown. when: bar ends, us; step_h: hours between them.

    The book moves at bars where close and quantity are known. At others it stands still and remembers the lowest low and the highest
    high; they are crossed, and the hours' turnover is closed, when it moves again. Where high or low is unknown the close stands for it:
    whatever the price crossed on its way to the close before was taken then. Positions enter at the close, after the bar's crossing.
    After each move, on both sides, book + safe equals the quantity.
    Raises ValueError for arrays of other shapes, an irregular grid, or bars that the state has already been through.
    """
    shape = (len(state["quantity"]), len(when))
    inputs = {"close": close, "high": high, "low": low, "quantity": quantity, "sigma_d": sigma_d}
    wrong = {name: np.shape(values) for name, values in inputs.items() if np.shape(values) != shape}
    if wrong:
        raise ValueError(f"found {wrong}; the state and the bars need (assets, bars) = {shape}")
    if (np.diff(when) != round(step_h * HOUR_US)).any():
        raise ValueError(f"found bar ends that are not {step_h} h apart; hand over a regular grid, unknown bars as NaN")
    if len(when) and (when[0] <= state["moved_at"]).any():
        raise ValueError(
            f"found a first bar at {when[0]} us; the state has been through {state['moved_at'].max()} us: run it from before that"
        )
    after = {name: array.copy() for name, array in state.items()}
    levels = np.full((8, *shape), np.nan)
    ready = tuple(np.require(values, np.float64, ["C", "W"]) for values in inputs.values())
    carried = tuple(after[name] for name in start(0, rule))
    dense = (rule.dense_quantile, rule.dense_reach_sigma)
    constants = (rule.safe_share, rule.turnover_per_h, rule.bin_log, rule.near_sigma, *dense, rule.warm_share, rule.gap_h)
    _advance(ready, np.require(when, np.int64, ["C", "W"]), levels, carried, *_tiers(rule), constants)
    return Levels(*levels), after


def ladder(state: State, asset: int, price: float, rule: CohortRule) -> tuple[Floats, Floats, Floats]:
    """Levels of one asset that a price has not crossed: (USD at the bin's centre, ascending; long mass; short mass), shares of quantity.

    Only bins that hold something. Empty where nothing is held.
    """
    reached = np.array([math.log(price), -math.log(price)])
    parts = tuple(state[name][asset] for name in ("book", "scale", "anchor", "top", "seen", "quantity"))
    return _rungs(parts, reached, rule.bin_log)


def _tiers(rule: CohortRule) -> tuple[Floats, Floats]:
    """(log distance of the liquidation price from entry, (2, tiers), towards the price = towards 0 from below; share of new positions).

    Linear and inverse contracts are tiers of their own. Raises ValueError for a rule that cannot be run.
    """
    if len(rule.leverages) != len(rule.tier_shares) or min(rule.tier_shares, default=-1.0) < 0 or abs(sum(rule.tier_shares) - 1.0) > 1e-9:
        raise ValueError(f"found tier_shares {rule.tier_shares} for leverages {rule.leverages}; one share >= 0 per tier, together 1")
    parts = {"inverse_share": rule.inverse_share, "safe_share": rule.safe_share, "turnover_per_h": rule.turnover_per_h}
    wrong = {name: part for name, part in parts.items() if not 0.0 <= part < 1.0 and not (name == "inverse_share" and part == 1.0)}
    if wrong:
        raise ValueError(f"found {wrong} in the cohort rule; shares lie in [0, 1)")
    found: list[tuple[float, float, float]] = []
    for leverage, share in zip(rule.leverages, rule.tier_shares, strict=True):
        for inverse, part in ((False, share * (1.0 - rule.inverse_share)), (True, share * rule.inverse_share)):
            below, above = (math.log(liquidation_price(1.0, leverage, rule.maintenance_share, side, inverse)) for side in (1, -1))
            reach = math.floor(max(-below, above) / rule.bin_log) + 2
            if min(-below, above) < rule.bin_log or reach > rule.window_bins:
                raise ValueError(
                    f"found leverage {leverage}: its levels lie {below:+.4f} and {above:+.4f} (log) from entry; they need at least one bin "
                    f"({rule.bin_log}) and at most window_bins - 2 ({rule.window_bins - 2}); count lower leverage as safe_share"
                )
            if part > 0.0:
                found.append((below, -above, part))
    table = np.array(found, dtype=np.float64)
    return np.ascontiguousarray(table[:, :2].T), np.ascontiguousarray(table[:, 2])


# --- kernels: `ring` is one side's masses / scale, addressed by level modulo its length -------------------------------------------


@kernel
def _level(position: float, width: float, side: int) -> int:
    """Level of the bin of a position (ln price for longs, -ln price for shorts)."""
    if side == 0:
        return int(np.floor(position / width))
    return -int(np.floor(-position / width)) - 1


@kernel
def _drop(ring: Floats, first: int, last: int) -> float:
    """Empty the levels first..last, highest first; what they held."""
    dropped = 0.0
    bins = ring.shape[0]
    for level in range(last, max(first, last - bins + 1) - 1, -1):
        slot = level % bins
        dropped += ring[slot]
        ring[slot] = 0.0
    return dropped


@kernel
def _near(ring: Floats, top: int, bottom: int, edge: float) -> float:
    """Sum from the highest level down to the position `edge` (in bins), the last bin by the part of it inside."""
    bins = ring.shape[0]
    last = int(np.floor(edge))
    total = 0.0
    slot = top % bins
    for level in range(top, max(last, bottom) - 1, -1):
        mass = ring[slot]
        total += mass * (last + 1 - edge) if level == last else mass
        slot = slot - 1 if slot > 0 else bins - 1
    return total


@kernel
def _gap_to_dense(ring: Floats, top: int, bottom: int, position: float, unit: float, dense: float) -> float:
    """Bins from the position down to the centre of the first level that is dense; infinite where none is."""
    bins = ring.shape[0]
    slot = top % bins
    for level in range(top, bottom - 1, -1):
        share = ring[slot] * unit
        if share > 0.0 and share >= dense:
            return position - (level + 0.5)
        slot = slot - 1 if slot > 0 else bins - 1
    return np.inf


@kernel
def _dense_share(book: Floats, unit: Floats, anchor: Ints, reach: int, quantile: float) -> float:
    """Share of the quantity that so many of the bins within reach of the price, empty ones included, do not exceed (nearest rank)."""
    bins = book.shape[1]
    shares = np.empty(2 * reach)
    for side in range(2):
        for n in range(reach):
            shares[side * reach + n] = book[side, (anchor[side] - n) % bins] * unit[side]
    rank = min(2 * reach, max(1, int(np.ceil(quantile * 2 * reach - 1e-9))))
    found: float = np.partition(shares, rank - 1)[rank - 1]
    return found


@kernel
def _advance(
    inputs: tuple[Floats, ...], when: Ints, levels: Floats, state: Any, offsets: Floats, shares: Floats, constants: tuple[float, ...]
) -> None:
    """Write `levels` (fields of Levels, assets, bars) and carry the arrays of the state, in the order of `start`, in place."""
    close, high, low, quantity, sigma_d = inputs
    book, scale, held, safe, dense, dense_day, seen, anchor, top, quantity_before, guessed, moved_at = state
    safe_share, turnover_per_h, width, near_sigma, dense_quantile, dense_reach_sigma, warm_share, gap_h = constants
    assets, bars = close.shape
    length = book.shape[2]
    triggered = np.zeros(2)
    near = np.zeros(2)
    gap = np.zeros(2)
    at = np.zeros(2)
    for a in range(assets):
        for t in range(bars):
            price, amount, sigma = close[a, t], quantity[a, t], sigma_d[a, t]
            priced = price > 0.0 and np.isfinite(price)
            for extreme in (price, low[a, t], high[a, t]):
                if extreme > 0.0 and np.isfinite(extreme):
                    seen[a, 0] = min(seen[a, 0], np.log(extreme))
                    seen[a, 1] = min(seen[a, 1], -np.log(extreme))
            if not (priced and amount > 0.0 and np.isfinite(amount)):
                continue
            at[0] = np.log(price)
            at[1] = -at[0]
            first = np.isnan(quantity_before[a])
            hours = 0.0 if first else (when[t] - moved_at[a]) / HOUR_US
            kept = (1.0 - turnover_per_h) ** hours
            most_kept = 0.0
            entered = 0.0
            for side in range(2):
                level = _level(at[side], width, side)
                ring = book[a, side]
                factor = 1.0
                triggered[side] = 0.0
                if not first:
                    # 1: the price has been there. What ends up below the ring can no longer be followed: it counts as safe
                    lowest = anchor[a, side] - length + 1
                    crossed = _drop(ring, max(lowest, _level(seen[a, side], width, side)), top[a, side])
                    top[a, side] = min(top[a, side], max(lowest, _level(seen[a, side], width, side)) - 1)
                    left = _drop(ring, lowest, min(top[a, side], level - length)) if level > anchor[a, side] else 0.0
                    held[a, side] = max(0.0, held[a, side] - crossed - left)
                    safe[a, side] += left * scale[a, side]
                    triggered[side] = crossed * scale[a, side]
                    # 2: more than is open was closed; 3: turnover
                    total = held[a, side] * scale[a, side] + safe[a, side]
                    if total > amount:
                        factor = amount / total
                    factor *= kept
                    scale[a, side] *= factor
                    safe[a, side] *= factor
                else:
                    top[a, side] = level - length
                anchor[a, side] = level
                most_kept = max(most_kept, factor)
                if scale[a, side] < _SMALLEST:
                    held[a, side] = 0.0
                    for slot in range(length):
                        ring[slot] *= scale[a, side]
                        held[a, side] += ring[slot]
                    scale[a, side] = 1.0
                # 4: the shortfall enters at the close
                shortfall = amount - (held[a, side] * scale[a, side] + safe[a, side])
                if shortfall > _DUST * amount:
                    entered = max(entered, shortfall)
                    safe[a, side] += safe_share * shortfall
                    for tier in range(shares.shape[0]):
                        mass = (1.0 - safe_share) * shares[tier] * shortfall / scale[a, side]
                        entry = _level(at[side] + offsets[side, tier], width, side)
                        ring[entry % length] += mass
                        held[a, side] += mass
                        top[a, side] = max(top[a, side], entry)
                seen[a, side] = np.inf
            if first:
                guessed[a] = amount
            else:
                guessed[a] *= most_kept
                if hours > gap_h:
                    guessed[a] += entered
                guessed[a] = min(guessed[a], amount) if guessed[a] > _SMALLEST * amount else 0.0
            held_before = quantity_before[a]
            quantity_before[a] = amount
            moved_at[a] = when[t]

            levels[7, a, t] = guessed[a] / amount
            usable = sigma > 0.0 and np.isfinite(sigma)
            day = when[t] // DAY_US
            span = min(near_sigma * sigma / width, float(length)) if usable else 0.0
            reach = int(np.ceil(min(dense_reach_sigma * sigma / width, float(length)))) if usable else 0
            if usable and day != dense_day[a]:
                dense[a] = _dense_share(book[a], scale[a] / amount, anchor[a], reach, dense_quantile) * _ROUNDING
                dense_day[a] = day
            if not guessed[a] / amount <= warm_share:
                continue
            levels[5, a, t] = triggered[0] / held_before
            levels[6, a, t] = triggered[1] / held_before
            if not usable:
                continue
            for side in range(2):
                position = at[side] / width
                bottom = anchor[a, side] - length + 1
                near[side] = _near(book[a, side], top[a, side], bottom, position - span) * scale[a, side] / amount
                farthest = anchor[a, side] - reach + 1
                gap[side] = (
                    _gap_to_dense(book[a, side], top[a, side], farthest, position, scale[a, side] / amount, dense[a]) * width / sigma
                )
            levels[0, a, t] = near[0]
            levels[1, a, t] = near[1]
            levels[2, a, t] = near[0] + near[1]
            if near[0] > 0.0 and near[1] > 0.0:
                levels[3, a, t] = np.log(near[1] / near[0])
            if min(gap[0], gap[1]) < np.inf:
                levels[4, a, t] = -gap[0] if gap[0] <= gap[1] else gap[1]


@kernel
def _rungs(state: Any, reached: Floats, width: float) -> tuple[Floats, Floats, Floats]:
    """Bins with mass below what was seen or reached, as (price at the centre, long share, short share), ascending."""
    book, scale, anchor, top, seen, quantity = state
    length = book.shape[1]
    prices, longs, shorts = np.empty(2 * length), np.zeros(2 * length), np.zeros(2 * length)
    count = 0
    if not np.isnan(quantity):
        for level in range(anchor[0] - length + 1, min(top[0], _level(min(seen[0], reached[0]), width, 0) - 1) + 1):
            mass = book[0, level % length] * scale[0] / quantity
            if mass > 0.0:
                prices[count] = np.exp((level + 0.5) * width)
                longs[count] = mass
                count += 1
        for level in range(min(top[1], _level(min(seen[1], reached[1]), width, 1) - 1), anchor[1] - length, -1):
            mass = book[1, level % length] * scale[1] / quantity
            if mass > 0.0:
                prices[count] = np.exp((-level - 0.5) * width)
                shorts[count] = mass
                count += 1
    return prices[:count].copy(), longs[:count].copy(), shorts[:count].copy()

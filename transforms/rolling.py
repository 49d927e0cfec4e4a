"""Trailing windows in integers: sums, levels, deviations and sorted windows whose result does not depend on where a run began.

A float running sum remembers every value that ever left its window; an integer one does not. Values are rounded once to a fixed step
(`scale` steps per unit, a power of two) and summed in int64, whose differences are exact even when the running sum wraps. So a window costs
one subtraction, however long it is, and gives the same bits from any starting point. Layout as in transforms/estimators.py.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from transforms.estimators import Bools, Floats, Ints, kernel

#: steps per unit of a log: differences are exact to 2^-40, sums fit up to |ln| < 2^22
LOG_SCALE: Final = 2.0**40
#: steps per unit of a squared log return
SQUARE_SCALE: Final = 2.0**50


@kernel
def cumulated(values: Floats, scale: float) -> tuple[Ints, Ints]:
    """(running sums in steps of 1/scale, running counts of known values), each (rows, bars + 1): entry j is over the first j bars."""
    rows, bars = values.shape
    sums = np.zeros((rows, bars + 1), np.int64)
    known = np.zeros((rows, bars + 1), np.int64)
    for r in range(rows):
        for t in range(bars):
            x = values[r, t]
            fine = np.isfinite(x)
            sums[r, t + 1] = sums[r, t] + (np.int64(np.floor(x * scale + 0.5)) if fine else 0)
            known[r, t + 1] = known[r, t] + (1 if fine else 0)
    return sums, known


@kernel
def totals(values: Floats, starts: Ints) -> Floats:
    """Sum over the rows of each asset of what is known, in the order of rows; NaN where nothing is."""
    found = np.full((starts.shape[0] - 1, values.shape[1]), np.nan)
    for a in range(found.shape[0]):
        for i in range(starts[a], starts[a + 1]):
            for t in range(values.shape[1]):
                if np.isfinite(values[i, t]):
                    found[a, t] = (found[a, t] if np.isfinite(found[a, t]) else 0.0) + values[i, t]
    return found


@kernel
def window_sums(sums: Ints, known: Ints, count: int, least: int, scale: float) -> Floats:
    """Sum over the last `count` bars, (rows, bars); NaN where fewer than `least` of them are known."""
    rows, bars = sums.shape[0], sums.shape[1] - 1
    found = np.full((rows, bars), np.nan)
    for r in range(rows):
        for t in range(bars):
            start = max(0, t + 1 - count)
            if known[r, t + 1] - known[r, start] >= least:
                found[r, t] = (sums[r, t + 1] - sums[r, start]) / scale
    return found


@kernel
def window_roots(squares: Ints, known: Ints, count: int, least: int) -> Floats:
    """Square root of the mean of squares over the last `count` bars; squares in steps of 1/SQUARE_SCALE."""
    rows, bars = squares.shape[0], squares.shape[1] - 1
    found = np.full((rows, bars), np.nan)
    for r in range(rows):
        for t in range(bars):
            start = max(0, t + 1 - count)
            held = known[r, t + 1] - known[r, start]
            if held >= least and held > 0:
                found[r, t] = np.sqrt((squares[r, t + 1] - squares[r, start]) / SQUARE_SCALE / held)
    return found


@kernel
def falls_from_high(level: Ints, known: Ints, count: int, least: int, first: int) -> Floats:
    """OI.7: `1 - Q_t / max Q` over [t - count, t] from the running log level; share 0..1. Bars before `first` are not computed."""
    rows, bars = level.shape[0], level.shape[1] - 1
    found = np.full((rows, bars), np.nan)
    highs = np.empty(bars + 1, np.int64)
    for r in range(rows):
        head, tail = 0, 0
        begin = max(0, first + 1 - count)
        for j in range(begin, bars + 1):
            while tail > head and level[r, highs[tail - 1]] <= level[r, j]:
                tail -= 1
            highs[tail] = j
            tail += 1
            while highs[head] < j - count:
                head += 1
            t = j - 1
            if t >= first and known[r, j] - known[r, max(0, j - count)] >= least:
                found[r, t] = 1.0 - np.exp(-(level[r, highs[head]] - level[r, j]) / LOG_SCALE)
    return found


@kernel
def above_mean(level: Ints, known: Ints, count: int, least: int) -> Floats:
    """Ln Q_t minus the mean of ln Q over the last `count` bars, from the first of them with a known link on; from the running log level.

    Independent of where the level starts: bars before anything is known of a row belong to no mean.
    """
    rows, bars = level.shape[0], level.shape[1] - 1
    found = np.full((rows, bars), np.nan)
    added = np.zeros(bars + 2, np.int64)
    later = np.empty(bars + 1, np.int64)
    for r in range(rows):
        later[bars] = bars
        for t in range(bars - 1, -1, -1):
            later[t] = t if known[r, t + 1] > known[r, t] else later[t + 1]
        for j in range(bars + 1):
            added[j + 1] = added[j] + level[r, j]
        for t in range(bars):
            start = max(0, t + 1 - count)
            if known[r, t + 1] - known[r, start] < least or later[start] > t:
                continue
            held = t + 1 - later[start]
            total = added[t + 2] - added[later[start] + 1]
            found[r, t] = (held * level[r, t + 1] - total) / (held * LOG_SCALE)
    return found


@kernel
def sorted_in(ordered: Floats, size: int, value: float) -> int:
    """Put a value into the first `size` ordered entries; returns the new size."""
    at = np.searchsorted(ordered[:size], value)
    for n in range(size, at, -1):
        ordered[n] = ordered[n - 1]
    ordered[at] = value
    return size + 1


@kernel
def sorted_out(ordered: Floats, size: int, value: float) -> int:
    """Take one such value out of the first `size` ordered entries; returns the new size."""
    at = np.searchsorted(ordered[:size], value)
    for n in range(at, size - 1):
        ordered[n] = ordered[n + 1]
    return size - 1


@kernel
def middle(ordered: Floats, size: int) -> float:
    """Median of the first `size` ordered entries, size > 0."""
    found: float = ordered[size // 2] if size % 2 else (ordered[size // 2 - 1] + ordered[size // 2]) / 2.0
    return found


@kernel
def spread(ordered: Floats, size: int, centre: float) -> float:
    """Median of |x - centre| over the first `size` ordered entries: two fingers walk out from the centre."""
    right = np.searchsorted(ordered[:size], centre)
    left = right - 1
    before, found = 0.0, 0.0
    for _ in range(size // 2 + 1):
        before = found
        if right >= size or (left >= 0 and centre - ordered[left] <= ordered[right] - centre):
            found = centre - ordered[left]
            left -= 1
        else:
            found = ordered[right] - centre
            right += 1
    return found if size % 2 else (before + found) / 2.0


@kernel
def bands(values: Floats, grid: Bools, median_bars: int, mad_bars: int, least: int, tick: float, first: int = 0) -> tuple[Floats, Floats]:
    """(deviation from the median, MAD) per row and bar, both against bars strictly before: median over `median_bars`, MAD about its own
    median over the bars of `grid` among the last `mad_bars`, at least `tick`; NaN where fewer than `least` such bars are known, and before `first`.
    """
    rows, bars = values.shape
    off = np.full((rows, bars), np.nan)
    mads = np.full((rows, bars), np.nan)
    near = np.empty(median_bars + 1)
    far = np.empty(bars + 1)
    for r in range(rows):
        n, m = 0, 0
        mad = np.nan
        for u in range(max(0, first - 1 - median_bars), first - 1):
            if np.isfinite(values[r, u]):
                near[n] = values[r, u]
                n += 1
        near[:n] = np.sort(near[:n])
        for u in range(max(0, first - 1 - mad_bars), first - 1):
            if grid[u] and np.isfinite(values[r, u]):
                far[m] = values[r, u]
                m += 1
        far[:m] = np.sort(far[:m])
        changed = m > 0
        for t in range(first, bars):
            if t >= 1 and np.isfinite(values[r, t - 1]):
                n = sorted_in(near, n, values[r, t - 1])
            if t - 1 - median_bars >= 0 and np.isfinite(values[r, t - 1 - median_bars]):
                n = sorted_out(near, n, values[r, t - 1 - median_bars])
            if t >= 1 and grid[t - 1] and np.isfinite(values[r, t - 1]):
                m = sorted_in(far, m, values[r, t - 1])
                changed = True
            gone = t - 1 - mad_bars
            if gone >= 0 and grid[gone] and np.isfinite(values[r, gone]):
                m = sorted_out(far, m, values[r, gone])
                changed = True
            if changed:
                mad = max(tick, spread(far, m, middle(far, m))) if m >= least and m > 0 else np.nan
                changed = False
            mads[r, t] = mad
            if n > 0 and np.isfinite(values[r, t]):
                off[r, t] = values[r, t] - middle(near, n)
    return off, mads


@kernel
def set_aside(off: Floats, mads: Floats, own: Bools, venue: Ints, starts: Ints, limit: float, support: int) -> tuple[Bools, Bools]:
    """METHODOLOGY 3.2: (set aside, flagged only) per instrument and bar.

    Beyond `limit` MADs from the median. Another venue of the asset that is beyond its own limit on the same side within the last
    `support` bars confirms the value: it is used, however large. A witness has a band and a value of its own bar (`own`), not one that is
    carried from before it fell silent; where no other venue has them, nobody can contradict: flagged, used.
    """
    rows, bars = off.shape
    aside = np.zeros((rows, bars), np.bool_)
    flagged = np.zeros((rows, bars), np.bool_)
    for a in range(starts.shape[0] - 1):
        for i in range(starts[a], starts[a + 1]):
            for t in range(bars):
                if not abs(off[i, t]) > limit * mads[i, t]:
                    continue
                witness = False
                confirmed = False
                for other in range(starts[a], starts[a + 1]):
                    if venue[other] == venue[i]:
                        continue
                    for u in range(max(0, t - support), t + 1):
                        if own[other, u] and np.isfinite(off[other, u]) and np.isfinite(mads[other, u]):
                            witness = True
                            if abs(off[other, u]) > limit * mads[other, u] and (off[other, u] > 0.0) == (off[i, t] > 0.0):
                                confirmed = True
                if witness and not confirmed:
                    aside[i, t] = True
                elif not witness:
                    flagged[i, t] = True
    return aside, flagged


@kernel
def last_kept(kept: Bools, limit: int) -> Ints:
    """Per row and bar: the bar itself where kept, else the last kept bar at most `limit` bars back, else -1."""
    rows, bars = kept.shape
    found = np.full((rows, bars), -1)
    for r in range(rows):
        last = -1
        for t in range(bars):
            if kept[r, t]:
                last = t
            if last >= 0 and t - last <= limit:
                found[r, t] = last
    return found


@kernel
def average_weights(
    value: Floats, usd: Floats, quality: Floats, venue: Ints, starts: Ints, ramp: int, cap: float, first: int = 0
) -> tuple[Floats, Floats]:
    """(weight, value averaged) of each instrument at each bar (METHODOLOGY FU.4, 3.4); weights of an asset add up to 1, or are all 0.

    Weight: USD open interest of the bar before x quality x presence, venues capped at `cap` where there are enough of them for it (the
    excess goes to the others pro rata). Presence is the share of the last `ramp` bars with a value: who enters rises in a line, who leaves
    falls in a line with its last value. Without any open interest instruments count equally. 0 where no instrument shows a value now, and
    before bar `first`.
    """
    rows, bars = value.shape
    weights = np.zeros((rows, bars))
    held = np.full((rows, bars), np.nan)
    count = np.zeros(rows, np.int64)
    size = np.full(rows, np.nan)
    size_age = np.zeros(rows, np.int64)
    for a in range(starts.shape[0] - 1):
        low, high = starts[a], starts[a + 1]
        plain = np.zeros(high - low)
        share = np.zeros(high - low)
        closed = np.zeros(high - low, np.bool_)
        for t in range(bars):
            alive = 0
            sized = False
            for i in range(low, high):
                now = np.isfinite(value[i, t])
                count[i] += 1 if now else 0
                if t >= ramp and np.isfinite(value[i, t - ramp]):
                    count[i] -= 1
                held[i, t] = value[i, t] if now else (held[i, t - 1] if t > 0 and count[i] > 0 else np.nan)
                alive += 1 if now else 0
                if t > 0 and usd[i, t - 1] > 0.0:
                    size[i] = usd[i, t - 1]
                    size_age[i] = 0
                else:
                    size_age[i] += 1
                    if size_age[i] > ramp:
                        size[i] = np.nan
                if np.isfinite(held[i, t]) and size[i] > 0.0:
                    sized = True
            if alive == 0 or t < first:
                continue
            total = 0.0
            for i in range(low, high):
                k = i - low
                plain[k] = 0.0
                if np.isfinite(held[i, t]):
                    base = max(0.0, size[i])
                    plain[k] = (base if sized else 1.0) * count[i]
                    share[k] = plain[k] * quality[i, t]
                else:
                    share[k] = 0.0
                total += share[k]
            if not total > 0.0:  # no quality anywhere: better an average of doubtful voices than none; quality lowers confidence elsewhere
                for k in range(high - low):
                    share[k] = plain[k]
                    total += share[k]
            if not total > 0.0:
                continue
            for k in range(high - low):
                share[k] /= total
                closed[k] = False
            voices = 0
            longest = 0
            for k in range(high - low):
                longest = max(longest, count[low + k])
            present = 0.0
            for k in range(high - low):
                fresh = share[k] > 0.0
                own_count = 0
                for other in range(high - low):
                    if share[other] > 0.0 and venue[low + other] == venue[low + k]:
                        own_count = max(own_count, count[low + other])
                        fresh = fresh and other >= k
                if fresh:
                    voices += 1
                    present += own_count / longest
            # It takes three venues to hold 40 %: the cap comes into force as the third one does.
            limit = 1.0 - (1.0 - cap) * min(1.0, max(0.0, present - (np.ceil(1.0 / cap) - 1.0)))
            if limit < 1.0:
                for _ in range(voices):
                    worst, amount = -1, limit
                    for k in range(high - low):
                        if closed[k] or not share[k] > 0.0:
                            continue
                        own = 0.0
                        for other in range(high - low):
                            if venue[low + other] == venue[low + k]:
                                own += share[other]
                        if own > amount + 1e-12:
                            worst, amount = k, own
                    if worst < 0:
                        break
                    rest = 0.0
                    for k in range(high - low):
                        if venue[low + k] == venue[low + worst]:
                            share[k] *= limit / amount
                            closed[k] = True
                        elif not closed[k]:
                            rest += share[k]
                    if not rest > 0.0:
                        break
                    fixed = 0.0
                    for k in range(high - low):
                        fixed += share[k] if closed[k] else 0.0
                    for k in range(high - low):
                        if not closed[k]:
                            share[k] *= (1.0 - fixed) / rest
            for i in range(low, high):
                weights[i, t] = share[i - low]
    return weights, held


@kernel
def median_shares(usd: Floats, starts: Ints, count: int, first: int) -> Floats:
    """Share of each instrument in its asset's USD open interest: median of its known shares over the last `count` bars (0 if none)."""
    rows, bars = usd.shape
    medians = np.zeros((rows, bars))
    begin = max(0, first - count + 1)
    shares = np.full((rows, bars), np.nan)
    for a in range(starts.shape[0] - 1):
        for t in range(begin, bars):
            total = 0.0
            for i in range(starts[a], starts[a + 1]):
                if usd[i, t] > 0.0:
                    total += usd[i, t]
            for i in range(starts[a], starts[a + 1]):
                if usd[i, t] > 0.0:
                    shares[i, t] = usd[i, t] / total
    ordered = np.empty(count + 1)
    for i in range(rows):
        size = 0
        for t in range(begin, first):
            if np.isfinite(shares[i, t]):
                ordered[size] = shares[i, t]
                size += 1
        ordered[:size] = np.sort(ordered[:size])
        for t in range(first, bars):
            if np.isfinite(shares[i, t]):
                size = sorted_in(ordered, size, shares[i, t])
            if t - count >= begin and np.isfinite(shares[i, t - count]):
                size = sorted_out(ordered, size, shares[i, t - count])
            if t >= first and size > 0:
                medians[i, t] = middle(ordered, size)
    return medians

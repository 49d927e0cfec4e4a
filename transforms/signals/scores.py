"""From a feature to a score in [-1, 1]: rank against its own strictly past history, and what is left of it when input stops coming."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from transforms.estimators import Bools, Floats, Ints, kernel
from transforms.rolling import middle, sorted_in, sorted_out, spread

#: Rank weights are integers, round(2^30 * 2^(instant / half-life)), so their sums do not depend on order. Instants count from the start
#: of the block of two half-lives that t lies in: any run over any range uses the same integers. A weight is at most 2^32 (its square
#: 2^34), so sums of 2^28 samples fit; a sample 30 half-lives older than the block weighs 0.
_SCALE: Final = 2.0**30


@kernel
def _prefix(tree: Ints, end: int) -> int:
    """Sum of the first `end` leaves of a Fenwick tree."""
    total = 0
    while end > 0:
        total += tree[end]
        end -= end & -end
    return total


@kernel
def _add(tree: Ints, leaf: int, amount: int) -> None:
    """Add `amount` to a leaf (counted from 0) of a Fenwick tree."""
    node = leaf + 1
    while node < tree.shape[0]:
        tree[node] += amount
        node += node & -node


@kernel
def ecdf_scores(
    values: Floats,
    usable: Bools,
    when: Ints,
    reference: Bools,
    first: int,
    window_us: int,
    half_life_us: int,
    reference_days: float,
    min_days: float,
    anchored: bool,
    floor: float,
) -> tuple[Floats, Floats]:
    """METHODOLOGY 3.1: (score in [-1, 1], effective history in days) per row and bar, from `first` on.

    Reference sample of bar t: usable values on the reference grid in (t - window, t), weighted 2^(-age / half-life).
    Centred: `2 P(X < x) + P(X = x) - 1`. Anchored (values are distances from the anchor):
    `sign(x) * (P(|X| < |x|) + P(|X| = |x|) / 2) * min(1, |x| / floor)`, floor 0 = none.
    Score NaN where the value is not usable or the sample spans less than `min_days` (samples x `reference_days`).
    values: (rows, bars); usable: same shape; when: bar instants, us, ascending; reference: bars on the reference grid.
    """
    rows, bars = values.shape
    span = 2 * half_life_us
    scores = np.full((rows, bars), np.nan)
    history = np.zeros((rows, bars))
    for r in range(rows):
        marks = np.empty(bars, np.int64)
        count = 0
        for u in range(bars):
            if reference[u] and usable[r, u]:
                marks[count] = u
                count += 1
        sizes = np.abs(values[r]) if anchored else values[r]
        t = first
        low = 0
        while t < bars:
            block = when[t] // span * span
            end = t
            while end < bars and when[end] < block + span:
                end += 1
            while low < count and when[marks[low]] <= when[t] - window_us:
                low += 1
            high = low
            while high < count and when[marks[high]] < when[end - 1]:
                high += 1
            held = marks[low:high]
            sample = np.empty(held.shape[0])
            weight = np.empty(held.shape[0], np.int64)
            square = np.empty(held.shape[0], np.int64)
            for n in range(held.shape[0]):
                sample[n] = sizes[held[n]]
                exponent = (when[held[n]] - block) / half_life_us
                weight[n] = np.int64(np.floor(_SCALE * 2.0**exponent + 0.5))
                square[n] = np.int64(np.floor(_SCALE * 2.0 ** (2.0 * exponent) + 0.5))
            order = np.argsort(sample)
            leaf = np.empty(held.shape[0], np.int64)
            for n in range(held.shape[0]):
                leaf[order[n]] = n
            ranked = sample[order]
            tree = np.zeros(held.shape[0] + 1, np.int64)
            came = 0
            left = 0
            total = 0
            squares = 0
            for bar in range(t, end):
                while came < held.shape[0] and when[held[came]] < when[bar]:
                    _add(tree, leaf[came], weight[came])
                    total += weight[came]
                    squares += square[came]
                    came += 1
                while left < came and when[held[left]] <= when[bar] - window_us:
                    _add(tree, leaf[left], -weight[left])
                    total -= weight[left]
                    squares -= square[left]
                    left += 1
                if squares > 0:
                    history[r, bar] = float(total) * float(total) / float(squares) / _SCALE * reference_days
                if not usable[r, bar] or total == 0 or (came - left) * reference_days < min_days:
                    continue
                x = sizes[bar]
                below = _prefix(tree, np.searchsorted(ranked, x, "left"))
                upto = _prefix(tree, np.searchsorted(ranked, x, "right"))
                if anchored:
                    part = float(below + upto) / float(2 * total)
                    if floor > 0.0:
                        part *= min(1.0, x / floor)
                    scores[r, bar] = part * np.sign(values[r, bar])
                else:
                    scores[r, bar] = float(below + upto - total) / float(total)
            t = end
    return scores, history


@kernel
def robust_scores(
    values: Floats,
    usable: Bools,
    when: Ints,
    reference: Bools,
    first: int,
    window_us: int,
    reference_days: float,
    min_days: float,
    anchored: bool,
    floor: float,
    limit: float,
) -> tuple[Floats, Floats]:
    """METHODOLOGY 3.1, the alternative: `2 Phi(z) - 1`, `z = (x - median) / max(1.4826 MAD, floor)` within +-limit; history in days.

    Unweighted, over the same strictly past reference sample as `ecdf_scores`. Anchored values are distances from the anchor, which takes
    the place of the median: MAD is then the median of sizes. Without a floor a sample without spread has no score.
    """
    rows, bars = values.shape
    scores = np.full((rows, bars), np.nan)
    history = np.zeros((rows, bars))
    for r in range(rows):
        ordered = np.empty(bars + 1)
        size, low = 0, 0
        for t in range(bars):
            if t >= 1 and reference[t - 1] and usable[r, t - 1]:
                size = sorted_in(ordered, size, abs(values[r, t - 1]) if anchored else values[r, t - 1])
            while low < t and when[low] <= when[t] - window_us:
                if reference[low] and usable[r, low]:
                    size = sorted_out(ordered, size, abs(values[r, low]) if anchored else values[r, low])
                low += 1
            if t < first:
                continue
            history[r, t] = size * reference_days
            if not usable[r, t] or size == 0 or size * reference_days < min_days:
                continue
            centre = 0.0 if anchored else middle(ordered, size)
            deviation = middle(ordered, size) if anchored else spread(ordered, size, centre)
            width = max(1.4826 * deviation, floor)
            if width > 0.0:
                z = min(limit, max(-limit, (values[r, t] - centre) / width))
                scores[r, t] = math.erf(z / math.sqrt(2.0))
    return scores, history


@kernel
def trailing_quantile(values: Floats, when: Ints, reference: Bools, first: int, window_us: int, share: float, least: int) -> Floats:
    """Quantile (lower, unweighted) of the known values on the reference grid in (t - window, t), strictly past; NaN below `least` of them."""
    rows, bars = values.shape
    found = np.full((rows, bars), np.nan)
    for r in range(rows):
        ordered = np.empty(bars + 1)
        size, low = 0, 0
        for t in range(bars):
            if t >= 1 and reference[t - 1] and np.isfinite(values[r, t - 1]):
                size = sorted_in(ordered, size, values[r, t - 1])
            while low < t and when[low] <= when[t] - window_us:
                if reference[low] and np.isfinite(values[r, low]):
                    size = sorted_out(ordered, size, values[r, low])
                low += 1
            if t >= first and size >= least and size > 0:
                found[r, t] = ordered[min(size - 1, math.floor(share * size))]
    return found


@kernel
def held_scores(
    scores: Floats, fresh: Bools, when: Ints, first: int, grace_h: float, half_life_h: float, horizon_h: float
) -> tuple[Floats, Floats]:
    """METHODOLOGY 3.3: (last fresh score, part of it still used) per row and bar from `first` on.

    Fresh bars keep their own score (NaN and factor 0 while there is none). After the last fresh bar the score is held; its factor is
    1 within the grace, then halved every half-life, and 0 with a NaN score from `horizon_h` on.
    """
    rows, bars = scores.shape
    held = np.full((rows, bars), np.nan)
    factor = np.zeros((rows, bars))
    for r in range(rows):
        last = -1
        for t in range(bars):
            if fresh[r, t]:
                last = t
            if t < first or last < 0 or not np.isfinite(scores[r, last]):
                continue
            age_h = (when[t] - when[last]) / 3.6e9
            if age_h >= horizon_h and last != t:
                continue
            held[r, t] = scores[r, last]
            factor[r, t] = 2.0 ** (-max(0.0, age_h - grace_h) / half_life_h)
    return held, factor

"""From a feature to a score in [-1, 1]: rank against its own strictly past history, and what is left of it when input stops coming."""

from __future__ import annotations

import math
from functools import lru_cache
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


#: below this many bars to score, counting a sample for each costs less than sorting it once for all
_FEW: Final = 8


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
    if not 0 < bars - first <= _FEW:
        return _of_many(values, usable, when, reference, first, window_us, half_life_us, reference_days, min_days, anchored, floor)
    scores, history = np.full((rows, bars), np.nan), np.zeros((rows, bars))
    marks = np.flatnonzero(reference)
    for bar in range(first, bars):
        held = marks[np.searchsorted(when[marks], when[bar] - window_us, "right") : np.searchsorted(when[marks], when[bar])]
        weight, square = _weights_of(when[held], int(when[bar]) // (2 * half_life_us) * (2 * half_life_us), half_life_us)
        _of_one(values, usable, bar, held, weight, square, reference_days, min_days, anchored, floor, scores, history)
    return scores, history


def _weights_of(stamps: Ints, block: int, half_life_us: int) -> tuple[Ints, Ints]:
    """(weights, their squares) of sample instants; those of a regular grid are computed once for all who ask."""
    steps = np.diff(stamps)
    if len(steps) and (steps == steps[0]).all():
        return _weights_on_grid(int(stamps[0]), len(stamps), int(steps[0]), block, half_life_us)
    return _weights(stamps, block, half_life_us)


@lru_cache(maxsize=16)
def _weights_on_grid(start: int, count: int, step: int, block: int, half_life_us: int) -> tuple[Ints, Ints]:
    return _weights(start + step * np.arange(count, dtype=np.int64), block, half_life_us)


@kernel
def _weights(stamps: Ints, block: int, half_life_us: int) -> tuple[Ints, Ints]:
    weight = np.empty(stamps.shape[0], np.int64)
    square = np.empty(stamps.shape[0], np.int64)
    for n in range(stamps.shape[0]):
        exponent = (stamps[n] - block) / half_life_us
        weight[n] = np.int64(np.floor(_SCALE * 2.0**exponent + 0.5))
        square[n] = np.int64(np.floor(_SCALE * 2.0 ** (2.0 * exponent) + 0.5))
    return weight, square


@kernel
def _effective(total: int, squares: int, reference_days: float) -> float:
    """Effective history in days."""
    return float(total) * float(total) / float(squares) / _SCALE * reference_days


@kernel
def _rank(below: int, upto: int, total: int, x: float, value: float, anchored: bool, floor: float) -> float:
    """Score of a value whose size is x, from the weight below x, up to x, and of all."""
    if anchored:
        part = float(below + upto) / float(2 * total)
        if floor > 0.0:
            part *= min(1.0, x / floor)
        return float(part * np.sign(value))
    return float(below + upto - total) / float(total)


@kernel
def _of_one(
    values: Floats,
    usable: Bools,
    bar: int,
    held: Ints,
    weight: Ints,
    square: Ints,
    reference_days: float,
    min_days: float,
    anchored: bool,
    floor: float,
    scores: Floats,
    history: Floats,
) -> None:
    """`ecdf_scores` of one bar against the bars `held`, by counting."""
    for r in range(values.shape[0]):
        x = abs(values[r, bar]) if anchored else values[r, bar]
        below, upto, total, squares, count = 0, 0, 0, 0, 0
        for n in range(held.shape[0]):
            if usable[r, held[n]]:
                other = abs(values[r, held[n]]) if anchored else values[r, held[n]]
                total += weight[n]
                squares += square[n]
                count += 1
                below += weight[n] if other < x else 0
                upto += weight[n] if other <= x else 0
        if squares > 0:
            history[r, bar] = _effective(total, squares, reference_days)
        if usable[r, bar] and total > 0 and count * reference_days >= min_days:
            scores[r, bar] = _rank(below, upto, total, x, values[r, bar], anchored, floor)


@kernel
def _of_many(
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
    """`ecdf_scores` of many bars: a sorted sample per block, from which old weights leave while new ones come."""
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
            sample = sizes[held]
            weight, square = _weights(when[held], block, half_life_us)
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
                    history[r, bar] = _effective(total, squares, reference_days)
                if not usable[r, bar] or total == 0 or (came - left) * reference_days < min_days:
                    continue
                x = sizes[bar]
                below = _prefix(tree, np.searchsorted(ranked, x, "left"))
                upto = _prefix(tree, np.searchsorted(ranked, x, "right"))
                scores[r, bar] = _rank(below, upto, total, x, values[r, bar], anchored, floor)
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
        while low < first - 1 and when[low] <= when[first] - window_us:
            low += 1
        for u in range(low, first - 1):
            if reference[u] and np.isfinite(values[r, u]):
                ordered[size] = values[r, u]
                size += 1
        ordered[:size] = np.sort(ordered[:size])
        for t in range(first, bars):
            if t >= 1 and reference[t - 1] and np.isfinite(values[r, t - 1]):
                size = sorted_in(ordered, size, values[r, t - 1])
            while low < t and when[low] <= when[t] - window_us:
                if reference[low] and np.isfinite(values[r, low]):
                    size = sorted_out(ordered, size, values[r, low])
                low += 1
            if size >= least and size > 0:
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

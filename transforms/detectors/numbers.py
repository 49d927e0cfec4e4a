"""Kernels of the detectors: what a row is held against, from sound rows strictly before it."""

from __future__ import annotations

import numpy as np

from transforms.estimators import Bools, Floats, Ints, kernel
from transforms.rolling import middle, sorted_in, sorted_out


@kernel
def trailing_median(values: Floats, starts: Ints, size: int, least: int) -> Floats:
    """Median of the last `size` rows of the track strictly before each row; NaN where fewer than `least` of them are known."""
    found = np.full(values.shape[0], np.nan)
    near = np.empty(size + 1)
    for r in range(starts.shape[0] - 1):
        n = 0
        for i in range(starts[r], starts[r + 1]):
            if n >= least:
                found[i] = middle(near, n)
            if np.isfinite(values[i]):
                n = sorted_in(near, n, values[i])
            gone = i - size
            if gone >= starts[r] and np.isfinite(values[gone]):
                n = sorted_out(near, n, values[gone])
    return found


@kernel
def breaks(
    values: Floats,
    as_of: Ints,
    starts: Ints,
    size: int,
    least: int,
    max_age: int,
    factors: Floats,
    step_limit: float,
    level_limit: float,
) -> tuple[Floats, Floats]:
    """(factor the row is off by, sound level) per row; the factor is NaN where nothing is wrong. Values in logs, instants in us.

    A break begins where a row is `factors[f]` away from the row before (within `step_limit`) and from the median of the last `size` sound
    rows (within `level_limit`), and lasts while rows are nearer to the broken level than to the sound one. Suspect rows do not enter
    the level. A break older than `max_age`, and a level whose newest row is, are forgotten: that is the finite look-back.
    """
    off = np.full(values.shape[0], np.nan)
    level = np.full(values.shape[0], np.nan)
    near = np.empty(size + 1)
    ring = np.empty(size)
    for r in range(starts.shape[0] - 1):
        n, put = 0, 0
        broken, since, newest, prior = 0.0, 0, 0, np.nan
        for i in range(starts[r], starts[r + 1]):
            x = values[i]
            if not np.isfinite(x):
                continue
            if n > 0 and (as_of[i] - newest > max_age or (broken != 0.0 and as_of[i] - since > max_age)):
                n, put, broken = 0, 0, 0.0
            if n >= least:
                level[i] = middle(near, n)
                apart = x - level[i]
                if broken == 0.0:
                    for f in factors:
                        if abs(apart - f) < level_limit and abs(x - prior - f) < step_limit:
                            broken, since = f, as_of[i]
                elif abs(apart - broken) > abs(apart):
                    broken = 0.0
            prior = x
            if broken != 0.0:
                off[i] = broken
                continue
            if n == size:
                n = sorted_out(near, n, ring[put])
            n = sorted_in(near, n, x)
            ring[put] = x
            put = (put + 1) % size
            newest = as_of[i]
    return off, level


@kernel
def excursions(
    values: Floats, as_of: Ints, starts: Ints, size: int, least: int, max_age: int, enter: float, leave: float, floor: float
) -> tuple[Bools, Floats]:
    """(suspect, sound level) per row: from where a size exceeds `enter` levels until it is below `leave` levels; not in logs.

    The level is the median of the last `size` sound rows, at least `floor`; forgetting as in `breaks`.
    """
    bad = np.zeros(values.shape[0], np.bool_)
    level = np.full(values.shape[0], np.nan)
    near = np.empty(size + 1)
    ring = np.empty(size)
    for r in range(starts.shape[0] - 1):
        n, put, broken, since, newest = 0, 0, False, 0, 0
        for i in range(starts[r], starts[r + 1]):
            x = values[i]
            if not np.isfinite(x):
                continue
            if n > 0 and (as_of[i] - newest > max_age or (broken and as_of[i] - since > max_age)):
                n, put, broken = 0, 0, False
            if n >= least:
                level[i] = max(floor, middle(near, n))
                if not broken and x > enter * level[i]:
                    broken, since = True, as_of[i]
                elif broken and x < leave * level[i]:
                    broken = False
            bad[i] = broken
            if broken:
                continue
            if n == size:
                n = sorted_out(near, n, ring[put])
            n = sorted_in(near, n, x)
            ring[put] = x
            put = (put + 1) % size
            newest = as_of[i]
    return bad, level

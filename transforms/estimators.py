"""The arithmetic of the index: plain functions and numba kernels on numpy arrays, causal to the last bit.

Layout: a measure is a float64 array (rows, bars); rows are instruments or assets, bars a regular time grid, NaN = unknown.
`starts` (int64, assets + 1) gives each asset's rows: instruments of asset a are rows starts[a]..starts[a+1]-1.

Three habits keep a value at t independent of everything that comes later, and of where a range was cut:
every reduction runs over its own window in one fixed order (no running sums, no BLAS); rank weights are integers, whose sums
do not depend on order (transforms/signals/scores.py); logarithms and powers are taken inside kernels, one value at a time
(SIMD tails may round differently).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HOURS_A_YEAR: Final = 8760.0
#: microseconds
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US

_F = TypeVar("_F", bound=Callable[..., Any])


def kernel(function: _F) -> _F:
    """Compile on first use, keep the machine code beside the source."""
    return cast("_F", njit(cache=True)(function))


# --- element by element --------------------------------------------------------------------------------------------------------


def kernel_weights(step_h: float, half_life_h: float, cut_half_lives: float) -> Floats:
    """Weights 2^(-age/half-life) of the bars at ages 0, step, 2 step, ... below the cut. At least one."""
    count = max(1, math.ceil(cut_half_lives * half_life_h / step_h - 1e-9))
    return np.array([2.0 ** (-n * step_h / half_life_h) for n in range(count)], dtype=np.float64)


@kernel
def logs(values: Floats) -> Floats:
    """Natural logarithm of each value of a vector; NaN where it is not positive."""
    found = np.full(values.shape[0], np.nan)
    for n in range(values.shape[0]):
        if values[n] > 0.0:
            found[n] = np.log(values[n])
    return found


@kernel
def exps(values: Floats) -> Floats:
    """E to the power of each value of a matrix; NaN stays NaN."""
    found = np.empty(values.shape)
    for r in range(values.shape[0]):
        for t in range(values.shape[1]):
            found[r, t] = np.exp(values[r, t])
    return found


# --- chain links and windows ----------------------------------------------------------------------------------------------------


@kernel
def chain_links(quantity: Floats, unit: Ints, usd: Floats, starts: Ints) -> Floats:
    """OI.3: ln q_t per asset and bar, `q_t = sum U_{t-1} (N_t / N_{t-1}) / sum U_{t-1}` over instruments usable at t-1 and t.

    quantity: native amounts, one-sided, > 0 where usable; unit: code of the native unit, a change of it breaks the link;
    usd: USD weight of the same bar. A lone instrument needs no weight. NaN where no instrument links.
    """
    assets, bars = starts.shape[0] - 1, quantity.shape[1]
    links = np.full((assets, bars), np.nan)
    for a in range(assets):
        for t in range(1, bars):
            top = 0.0
            bottom = 0.0
            linked = 0
            lone = np.nan
            for i in range(starts[a], starts[a + 1]):
                now, before = quantity[i, t], quantity[i, t - 1]
                if not (now > 0.0 and before > 0.0) or unit[i, t] != unit[i, t - 1]:
                    continue
                linked += 1
                lone = now / before
                weight = usd[i, t - 1]
                if weight > 0.0:
                    top += weight * (now / before)
                    bottom += weight
            if linked == 1:
                links[a, t] = np.log(lone)
            elif bottom > 0.0:
                links[a, t] = np.log(top / bottom)
    return links


@kernel
def log_returns(price: Floats, weight: Floats, starts: Ints, lag: int) -> Floats:
    """Log return over `lag` bars per asset: mean over instruments priced at both ends, weighted by USD open interest at t-1.

    A lone instrument needs no weight; instruments without weight count equally where none has one. NaN where none is priced.
    """
    assets, bars = starts.shape[0] - 1, price.shape[1]
    returns = np.full((assets, bars), np.nan)
    for a in range(assets):
        for t in range(lag, bars):
            top = 0.0
            bottom = 0.0
            plain = 0.0
            count = 0
            for i in range(starts[a], starts[a + 1]):
                now, before = price[i, t], price[i, t - lag]
                if not (now > 0.0 and before > 0.0):
                    continue
                value = np.log(now / before)
                plain += value
                count += 1
                w = weight[i, t - 1]
                if w > 0.0:
                    top += w * value
                    bottom += w
            if count == 1 or (count > 1 and not bottom > 0.0):
                returns[a, t] = plain / count
            elif bottom > 0.0:
                returns[a, t] = top / bottom
    return returns


@kernel
def rolling_sums(values: Floats, count: int, least: int) -> Floats:
    """Sum of the known values among the last `count` bars, oldest first; NaN where fewer than `least` are known."""
    rows, bars = values.shape
    sums = np.full((rows, bars), np.nan)
    for r in range(rows):
        for t in range(bars):
            total = 0.0
            known = 0
            for u in range(max(0, t - count + 1), t + 1):
                x = values[r, u]
                if np.isfinite(x):
                    total += x
                    known += 1
            if known >= least:
                sums[r, t] = total
    return sums


@kernel
def emas(values: Floats, weights: Floats, min_weight: float) -> Floats:
    """Finite exponential mean: `sum w_k x_{t-k} / sum w_k` over known values; NaN where less than `min_weight` of the kernel is known."""
    rows, bars = values.shape
    whole = 0.0
    for w in weights:
        whole += w
    means = np.full((rows, bars), np.nan)
    for r in range(rows):
        for t in range(bars):
            top = 0.0
            bottom = 0.0
            for k in range(min(weights.shape[0], t + 1)):
                x = values[r, t - k]
                if np.isfinite(x):
                    top += weights[k] * x
                    bottom += weights[k]
            if bottom > 0.0 and bottom >= min_weight * whole:
                means[r, t] = top / bottom
    return means

"""S under estimated family weights, beside the fixed ones: erc, pca and ic (METHODOLOGY 4.2). Selectable; ic for research only.

Each scheme is estimated per asset at the first bar of a UTC month from what that bar has seen, waits `lag_d` and then replaces the weights
before it linearly over `ramp_d`. A family whose score does not vary keeps its fixed weight; the scheme shares out what is left.

* erc: every family contributes the same risk, on the correlation of the family scores.
* pca: first principal component of the same correlation, turned towards the fixed weights, negative loadings dropped, half fixed.
* ic: correlation of a family's score with the return of the next `ic_horizon_d` days, negative ones dropped, T / (T + ic_shrink_d) of it.
  It asks about the components of S_ex only: trend and conviction are price and get 0 of the estimated part. Pearson's correlation, not
  Spearman's: the scores are ranks already, and a rank of returns would need all of them in the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from transforms.estimators import DAY_US, HOUR_US, Bools, Floats, Ints, kernel
from transforms.features.contract import Codes
from transforms.index.attribution import HALF_RANGE
from transforms.index.ciss import NEVER, State, check_bars, check_weights
from transforms.index.market import exact_shares
from transforms.rules import SchemeRule

#: in this order wherever schemes are an axis
SCHEMES: Final = ("erc", "pca", "ic")
_ERC, _PCA, _IC = range(3)
_TOLERANCE: Final = 1e-9


class Basis(IntEnum):
    """What the weights at a bar rest on. Anything but ESTIMATED: they are, or are on their way to, the fixed ones."""

    ESTIMATED = 0
    WARMING = 1
    FLAT = 2
    NO_EVIDENCE = 3


WORDS: Final[dict[Basis, str]] = {
    Basis.ESTIMATED: "",
    Basis.WARMING: "fixed weights: too little history",
    Basis.FLAT: "fixed weights: no family varies",
    Basis.NO_EVIDENCE: "fixed weights: no price-free family has a positive correlation",
}
_ESTIMATED, _WARMING, _FLAT, _NO_EVIDENCE = (int(basis) for basis in Basis)


class _Memory(NamedTuple):
    """The arrays of a State, assets first, as kernels read and write them."""

    when: Ints
    #: exponentially weighted moments of the family scores
    scale: Floats
    samples: Ints
    mean: Floats
    covariance: Floats
    #: scores of the bar before; scores of a day until their return has ended and waited; returns until they have waited
    before: Floats
    waiting_scores: Floats
    waiting_returns: Floats
    #: means and sums about the mean of the pairs of score and return
    pairs: Ints
    pair_mean: Floats
    pair_square: Floats
    pair_cross: Floats
    return_mean: Floats
    return_square: Floats
    #: instant of the last estimate, the estimates before and after it (NaN: fixed) and what they rest on
    estimated_at: Ints
    old: Floats
    new: Floats
    old_basis: Codes
    new_basis: Codes


class _Constants(NamedTuple):
    """A SchemeRule on one grid."""

    reference_us: int
    decay: float
    min_samples: float
    min_pairs: float
    lag_us: int
    ramp_us: int
    identity_shrink: float
    min_deviation: float
    erc_sweeps: int
    pca_iterations: int
    pca_fixed_shrink: float
    ic_shrink_d: float


@dataclass(frozen=True, slots=True)
class Weighted:
    """By scheme: values S, (assets, bars), 0..100; weights, (families, assets, bars), >= 0, adding up to 1 exactly; basis, (assets, bars)."""

    values: dict[str, Floats]
    weights: dict[str, Floats]
    basis: dict[str, Codes]


@kernel
def equal_risk(correlation: Floats, sweeps: int) -> Floats:
    """Weights x >= 0, adding up to 1, with equal `x_i (C x)_i`; C positive definite with unit diagonal.

    Cyclical coordinate descent on `x'Cx / 2 - sum ln x_i / n`, a fixed number of sweeps (Griveau-Billion, Richard, Roncalli 2013):
    each x_i in turn is the positive root of `x_i^2 + x_i sum_{j != i} C_ij x_j - 1/n = 0`.
    """
    count = correlation.shape[0]
    budget = 1.0 / count
    x = np.full(count, np.sqrt(budget))
    for _ in range(sweeps):
        for i in range(count):
            others = 0.0
            for j in range(count):
                if j != i:
                    others += correlation[i, j] * x[j]
            x[i] = (np.sqrt(others * others + 4.0 * budget) - others) / 2.0
    found: Floats = x / x.sum()
    return found


@kernel
def first_component(correlation: Floats, start: Floats, iterations: int) -> Floats:
    """First principal component by power iteration from `start` (>= 0, not all 0), of length 1.

    Aligned with `start` without further ado: C is positive definite, so `start' C^n start > 0`. Where several components are equally
    large, or the first is orthogonal to `start`, it is the one nearest to `start`: without correlation, `start` itself.
    """
    x: Floats = start / np.sqrt((start * start).sum())
    y = np.empty(x.shape)
    for _ in range(iterations):
        for i in range(x.shape[0]):
            y[i] = (correlation[i] * x).sum()
        x = y / np.sqrt((y * y).sum())
    return x


@kernel
def shrunk_correlation(covariance: Floats, kept: Ints, shrink: float) -> Floats:
    """Correlation matrix of the rows `kept` of a covariance, `(1 - shrink) C + shrink I`."""
    count = kept.shape[0]
    found = np.empty((count, count))
    for i in range(count):
        found[i, i] = 1.0
        for j in range(i):
            k, m = kept[i], kept[j]
            plain = covariance[k, m] / (np.sqrt(covariance[k, k]) * np.sqrt(covariance[m, m]))
            found[i, j] = (1.0 - shrink) * max(-1.0, min(1.0, plain))
            found[j, i] = found[i, j]
    return found


@kernel
def _varying(variance: Floats, min_deviation: float) -> Ints:
    """Which families have a standard deviation of at least min_deviation."""
    found: Ints = np.nonzero(np.floor(np.sqrt(variance) * 1e6 + 0.5) / 1e6 >= min_deviation)[0]
    return found


@kernel
def _shared_out(part: Floats, kept: Ints, fixed: Floats, estimated_share: float) -> Floats:
    """Fixed weights, of which those of `kept` are replaced to estimated_share by the same budget shared out like `part` (>= 0)."""
    found = fixed.copy()
    budget, total = fixed[kept].sum(), part.sum()
    for n in range(kept.shape[0]):
        found[kept[n]] = estimated_share * (budget * (part[n] / total)) + (1.0 - estimated_share) * fixed[kept[n]]
    return found


@kernel
def _by_correlation(covariance: Floats, fixed: Floats, how: _Constants) -> tuple[Floats, Floats, int]:
    """(erc weights, pca weights, basis) from the covariance of the family scores."""
    kept = _varying(np.diag(covariance), how.min_deviation)
    count = kept.shape[0]
    if count == 0:
        return fixed, fixed, _FLAT
    correlation = shrunk_correlation(covariance, kept, how.identity_shrink)
    erc = _shared_out(equal_risk(correlation, how.erc_sweeps), kept, fixed, 1.0)
    start = fixed[kept]
    if not start.max() > 0.0:
        start = np.ones(count)
    loadings = np.maximum(first_component(correlation, start, how.pca_iterations), 0.0)
    return erc, _shared_out(loadings, kept, fixed, 1.0 - how.pca_fixed_shrink), _ESTIMATED


@kernel
def _by_information(memory: _Memory, a: int, fixed: Floats, priced: Bools, how: _Constants) -> tuple[Floats, int]:
    """(ic weights, basis) from the pairs of score and return of one asset."""
    pairs = memory.pairs[a]
    kept = _varying(memory.pair_square[a] / pairs, how.min_deviation)
    if kept.shape[0] == 0:
        return fixed, _FLAT
    part = np.zeros(kept.shape[0])
    for n in range(kept.shape[0]):
        f = kept[n]
        if not priced[f] and memory.return_square[a] > 0.0:
            correlation = memory.pair_cross[a, f] / (np.sqrt(memory.pair_square[a, f]) * np.sqrt(memory.return_square[a]))
            part[n] = max(0.0, np.floor(correlation * 1e6 + 0.5) / 1e6)
    if not part.max() > 0.0:
        return fixed, _NO_EVIDENCE
    return _shared_out(part, kept, fixed, pairs / (pairs + how.ic_shrink_d)), _ESTIMATED


def start(assets: int, families: int, rule: SchemeRule) -> State:
    """State before the first bar. Raises ValueError where the rule contradicts itself."""
    found = f"found {rule}; "
    if not (rule.ic_embargo_d >= 1 and rule.ic_horizon_d >= 1):
        raise ValueError(found + "give ic_horizon_d and ic_embargo_d whole days from 1 on")
    if not (rule.lag_d >= 0.0 and rule.ramp_d > 0.0 and rule.lag_d + rule.ramp_d <= 28.0):
        raise ValueError(found + "let lag_d + ramp_d end before the next month's estimate: within 28 days")
    if not (0.0 < rule.identity_shrink <= 1.0 and 0.0 <= rule.pca_fixed_shrink <= 1.0):
        raise ValueError(found + "give identity_shrink a share above 0 and pca_fixed_shrink a share, at most 1")
    waiting = rule.ic_horizon_d + rule.ic_embargo_d
    matrix, per_scheme = (assets, families), (assets, len(SCHEMES))
    return _Memory(
        when=np.full(assets, NEVER, dtype=np.int64),
        scale=np.zeros(assets),
        samples=np.zeros(assets, dtype=np.int64),
        mean=np.zeros(matrix),
        covariance=np.zeros((assets, families, families)),
        before=np.full(matrix, np.nan),
        waiting_scores=np.full((assets, waiting, families), np.nan),
        waiting_returns=np.full((assets, rule.ic_embargo_d), np.nan),
        pairs=np.zeros(assets, dtype=np.int64),
        pair_mean=np.zeros(matrix),
        pair_square=np.zeros(matrix),
        pair_cross=np.zeros(matrix),
        return_mean=np.zeros(assets),
        return_square=np.zeros(assets),
        estimated_at=np.full(assets, NEVER, dtype=np.int64),
        old=np.full((*per_scheme, families), np.nan),
        new=np.full((*per_scheme, families), np.nan),
        old_basis=np.full(per_scheme, Basis.WARMING, dtype=np.int8),
        new_basis=np.full(per_scheme, Basis.WARMING, dtype=np.int8),
    )._asdict()


@kernel
def _observe(x: Floats, gain: float, mean: Floats, covariance: Floats) -> None:
    """One sample into weighted moments: `C <- (1 - g)(C + g d d')`, `m <- m + g d`, d = x - m (West 1979). Positive semidefinite."""
    d = x - mean
    for i in range(x.shape[0]):
        for j in range(i + 1):
            covariance[i, j] = (1.0 - gain) * (covariance[i, j] + gain * (d[i] * d[j]))
            covariance[j, i] = covariance[i, j]
    mean += gain * d


@kernel
def _pair(x: Floats, r: float, memory: _Memory, a: int) -> None:
    """One pair of scores and return into equally weighted means and sums about the mean (Welford 1962)."""
    memory.pairs[a] += 1
    off = r - memory.return_mean[a]
    memory.return_mean[a] += off / memory.pairs[a]
    off_after = r - memory.return_mean[a]
    memory.return_square[a] += off * off_after
    d = x - memory.pair_mean[a]
    memory.pair_mean[a] += d / memory.pairs[a]
    memory.pair_square[a] += d * (x - memory.pair_mean[a])
    memory.pair_cross[a] += d * off_after


@kernel
def _day(day: int, r: float, memory: _Memory, a: int) -> None:
    """A day's end: pair the return that has waited with the score before it, and let the newest score and return wait."""
    place = day % memory.waiting_scores.shape[1]
    delay = day % memory.waiting_returns.shape[1]
    asked, came = memory.waiting_scores[a, place], memory.waiting_returns[a, delay]
    if np.isfinite(came) and np.isfinite(asked).all() and (asked != 0.0).any():
        _pair(asked, came, memory, a)
    memory.waiting_scores[a, place] = memory.before[a]
    memory.waiting_returns[a, delay] = r


@kernel
def _month(when: int, fixed: Floats, priced: Bools, memory: _Memory, a: int, how: _Constants) -> None:
    """A month's first bar: the estimates before become the old ones."""
    memory.estimated_at[a] = when
    memory.old[a] = memory.new[a]
    memory.old_basis[a] = memory.new_basis[a]
    memory.new[a] = np.nan
    memory.new_basis[a] = _WARMING
    if memory.samples[a] > 0 and memory.samples[a] >= how.min_samples:
        erc, pca, basis = _by_correlation(memory.covariance[a], fixed, how)
        memory.new_basis[a, _ERC] = memory.new_basis[a, _PCA] = basis
        if basis == _ESTIMATED:
            memory.new[a, _ERC] = erc
            memory.new[a, _PCA] = pca
    if memory.pairs[a] > 0 and memory.pairs[a] >= how.min_pairs:
        ic, basis = _by_information(memory, a, fixed, priced, how)
        memory.new_basis[a, _IC] = basis
        if basis == _ESTIMATED:
            memory.new[a, _IC] = ic


@kernel
def _walk(
    scores: Floats, fixed: Floats, priced: Bools, realised: Floats, when: Ints, months: Bools, memory: _Memory, how: _Constants
) -> tuple[Floats, Codes]:
    """Weights (schemes, families, assets, bars) before they are made exact, basis (schemes, assets, bars); memory moves on in place."""
    families, assets, bars = scores.shape
    schemes = memory.old.shape[1]
    weights = np.empty((schemes, families, assets, bars))
    basis = np.empty((schemes, assets, bars), np.int8)
    for a in range(assets):
        for t in range(bars):
            x = scores[:, a, t].copy()
            if when[t] % how.reference_us == 0:
                memory.scale[a] *= how.decay
                if (x != 0.0).any():
                    memory.scale[a] += 1.0
                    memory.samples[a] += 1
                    _observe(x, 1.0 / memory.scale[a], memory.mean[a], memory.covariance[a])
            if when[t] % DAY_US == 0:
                _day(when[t] // DAY_US, realised[a, t], memory, a)
            if months[t]:
                _month(when[t], fixed, priced, memory, a, how)
            elapsed = np.int64(-1) if memory.estimated_at[a] == NEVER else when[t] - memory.estimated_at[a] - how.lag_us
            share = min(1.0, max(0.0, elapsed / how.ramp_us))
            for s in range(schemes):
                basis[s, a, t] = memory.new_basis[a, s] if elapsed > 0 else memory.old_basis[a, s]
                for f in range(families):
                    left = memory.old[a, s, f] if np.isfinite(memory.old[a, s, f]) else fixed[f]
                    right = memory.new[a, s, f] if np.isfinite(memory.new[a, s, f]) else fixed[f]
                    weights[s, f, a, t] = (1.0 - share) * left + share * right if left != right else right
            memory.before[a] = x
    return weights, basis


def run(
    family_scores: Floats,
    fixed: Floats,
    return_7d_realised: Floats,
    when: Ints,
    state: State,
    rule: SchemeRule,
    step_h: float,
    *,
    priced: Bools,
) -> tuple[Weighted, State]:
    """S under each scheme, `50 + 50 sum_f W_f(t) score_f`, and the state after the last bar.

    family_scores: (families, assets, bars) in [-1, 1], signed, decayed, weighted within the family; missing counts 0. A bar at which every
    family of an asset is 0 is no sample. fixed: (families,) weights, adding up to 1. return_7d_realised: (assets, bars), log return of the
    `ic_horizon_d` days that end at the bar, NaN = unknown. priced: (families,), which are left out of S_ex. when: bar ends, us, one step
    apart, following the state's. Raises ValueError for anything else.

    A return is paired with the score of the bar before it began, which was published by then, and used `ic_embargo_d` after it ended.
    """
    families, assets, bars = family_scores.shape
    step_us = round(step_h * HOUR_US)
    check_bars(when, state["when"], step_us)
    if fixed.shape != (families,) or priced.shape != (families,) or return_7d_realised.shape != (assets, bars):
        raise ValueError(
            f"found scores {family_scores.shape}, fixed {fixed.shape}, priced {priced.shape}, return_7d_realised {return_7d_realised.shape}; "
            "hand over (families, assets, bars), (families,), (families,), (assets, bars)"
        )
    check_weights(fixed, "fixed weights")
    scores = np.where(np.isfinite(family_scores), family_scores, 0.0)
    if (np.abs(scores) > 1.0 + _TOLERANCE).any():
        raise ValueError(f"found a family score of {float(np.abs(scores).max())}; scores lie in [-1, 1]")
    scores = np.maximum(-1.0, np.minimum(1.0, scores))
    reference_us = max(round(rule.reference_h * HOUR_US), step_us)
    if DAY_US % step_us or reference_us % step_us:
        raise ValueError(f"found a step of {step_h} h; a day and reference_h ({rule.reference_h} h) of SchemeRule are multiples of it")
    exact = exact_shares(fixed.reshape(-1, 1))[:, 0]
    after = {name: values.copy() for name, values in state.items()}
    how = _Constants(
        reference_us=reference_us,
        decay=2.0 ** (-reference_us / (rule.correlation_half_life_d * DAY_US)),
        min_samples=rule.min_history_d * DAY_US / reference_us,
        min_pairs=rule.min_history_d,
        lag_us=round(rule.lag_d * DAY_US),
        ramp_us=round(rule.ramp_d * DAY_US),
        identity_shrink=rule.identity_shrink,
        min_deviation=rule.min_deviation,
        erc_sweeps=rule.erc_sweeps,
        pca_iterations=rule.pca_iterations,
        pca_fixed_shrink=rule.pca_fixed_shrink,
        ic_shrink_d=rule.ic_shrink_d,
    )
    month, month_before = ((when - back).astype("datetime64[us]").astype("datetime64[M]") for back in (0, step_us))
    returns = np.array(return_7d_realised, dtype=np.float64, order="C")
    raw, basis = _walk(scores, exact, priced.astype(np.bool_), returns, when.copy(), month != month_before, _Memory(**after), how)
    if bars:
        after["when"][:] = when[-1]
    values, weights = {}, {}
    for s, scheme in enumerate(SCHEMES):
        weights[scheme] = exact_shares(raw[s].reshape(families, -1)).reshape(families, assets, bars)
        total: Floats = np.zeros((assets, bars))
        for f in range(families):
            total = total + weights[scheme][f] * scores[f]
        values[scheme] = HALF_RANGE + HALF_RANGE * total
    return Weighted(values, weights, {scheme: basis[s] for s, scheme in enumerate(SCHEMES)}), after

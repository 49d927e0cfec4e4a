"""p_cascade_24h: how likely a cascade of either side begins within the next 24 h, given F (METHODOLOGY 4.3).

A logistic regression on F/100, refitted at fixed calendar instants on labels already known. It is shown only while its own past forecasts
beat the base rate that was in force when they were made; the reason stands beside the gap.

One fit for all assets: cascades of one asset are too few. So the state has two kinds of arrays: per asset (asset axis first: `pending_*`),
and one block for all of them (a first axis of length 1: the rest). Samples are counts by rounded F and refit span, so the state is bounded,
a sum does not depend on order, and whole == pieces, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import DAY_US, HOUR_US, Floats, Ints, kernel
from transforms.index.cascades import NEVER, Sides, Starts, State, copied, follow, micro
from transforms.rules import CascadeRule, ProbabilityRule

Codes = NDArray[np.int8]

#: steps per unit of a squared error
_SCALE: Final = 2.0**40
#: Newton steps; the penalised likelihood is strictly concave, so a few are enough
_STEPS: Final = 50
#: below this Newton decrement (squared) the likelihood no longer tells a better step from a worse one, and the step is the last
_CLOSE: Final = 1e-8


class Why(IntEnum):
    """Why there is no probability."""

    FINE = 0
    NO_SKILL = 1
    TOO_FEW = 2
    NO_FRAGILITY = 3


WORDS: Final[dict[Why, str]] = {
    Why.FINE: "",
    Why.NO_SKILL: "no measured skill",
    Why.TOO_FEW: "too few cascades",
    Why.NO_FRAGILITY: "no fragility",
}
_NO_SKILL, _TOO_FEW, _NO_FRAGILITY = int(Why.NO_SKILL), int(Why.TOO_FEW), int(Why.NO_FRAGILITY)


@dataclass(frozen=True, slots=True)
class Probability:
    """(assets, bars). p: NaN unless the last validation measured skill; base_rate: share of all known samples, of all assets, with a cascade;
    skill: Brier skill of the last validation, NaN where nothing could be validated; why: code from `Why`;
    forecast: what the fit says whether or not it has skill, for the validation report, never for publication.
    """

    p: Floats
    base_rate: Floats
    skill: Floats
    why: Codes
    forecast: Floats


def label_lag_h(rule: ProbabilityRule, cascade: CascadeRule, step_h: float) -> float:
    """Hours after which it is known whether a cascade began within the horizon: the last one may begin a bar before its end."""
    return rule.horizon_h - step_h + max(cascade.window_h, step_h)


def start(assets: int, rule: ProbabilityRule, cascade: CascadeRule, step_h: float) -> State:
    """State before the first bar: no sample, no fit. A rule that does not fit the grid raises ValueError."""
    step_us, refit_us, sample_us = round(step_h * HOUR_US), round(rule.refit_d * DAY_US), _sample_us(rule, step_h)
    if refit_us % step_us or sample_us % step_us or round(rule.horizon_h * HOUR_US) % step_us:
        raise ValueError(
            f"found refit_d {rule.refit_d:g}, sample_step_h {rule.sample_step_h:g}, horizon_h {rule.horizon_h:g} on a grid of {step_h:g} h; "
            f"make each a multiple of the step"
        )
    if rule.validation_refits > rule.window_refits or rule.validation_refits < 1:
        raise ValueError(f"found validation_d {rule.validation_d:g}; it must hold a refit and not exceed window_d {rule.window_d:g}")
    slots = _wait_us(rule, cascade, step_h) // sample_us + 1
    spans = rule.window_refits + 1
    return {
        "pending_at": np.full((assets, slots), NEVER),
        "pending_bin": np.zeros((assets, slots), np.int64),
        "pending_p": np.full((assets, slots), np.nan),
        "pending_base": np.full((assets, slots), np.nan),
        "pending_hit": np.zeros((assets, slots), np.bool_),
        "pending_whole": np.zeros((assets, slots), np.bool_),
        #: samples and those with a cascade, by refit span and rounded F
        "samples": np.zeros((1, spans, rule.bins, 2), np.int32),
        #: squared errors of forecast and base rate, by refit span
        "errors": np.zeros((1, spans, 2), np.int64),
        #: cascades that hit a sample; those that hit a forecast
        "cascades": np.zeros((1, spans, 2), np.int64),
        #: all samples whose label is known, and those with a cascade
        "known": np.zeros((1, 2), np.int64),
        #: intercept, slope per 100 points of F, skill
        "fit": np.full((1, 3), np.nan),
        "span": np.full(1, NEVER),
        "until": np.full(1, NEVER),
    }


def _sample_us(rule: ProbabilityRule, step_h: float) -> int:
    """Distance between samples of one asset."""
    return round(max(rule.sample_step_h, step_h) * HOUR_US)


def _wait_us(rule: ProbabilityRule, cascade: CascadeRule, step_h: float) -> int:
    """How long a sample waits for its label."""
    return round(max(label_lag_h(rule, cascade, step_h), rule.embargo_h) * HOUR_US)


def run(
    f: Floats, starts: Starts, when: Ints, rule: ProbabilityRule, cascade: CascadeRule, step_h: float, state: Mapping[str, NDArray[Any]]
) -> tuple[Probability, State]:
    """Probability at each bar, and the state after the last. f: fragility 0..100, (assets, bars); starts: the label's stream.

    A sample is a bar of the sample grid with a known F; its label is 1 if a start lies in [t, t + 24 h), 0 if none does and every bar that
    could have told one was seen, else unknown and dropped. At a refit instant T: counts of the last 52 spans of 14 d whose labels are known
    -> fit; squared errors of the forecasts of the last 26 -> skill = 1 - sum (p - y)^2 / sum (base - y)^2. F outside 0..100 raises ValueError.
    """
    if np.isfinite(f).any() and not (np.nanmin(f) >= -1e-6 and np.nanmax(f) <= 100.0 + 1e-6):
        raise ValueError(f"found F from {np.nanmin(f):g} to {np.nanmax(f):g}; hand over fragility in points, 0 to 100")
    left = copied(state)
    follow(left, when, step_h)
    p, base_rate, skill, forecast = (np.full(f.shape, np.nan) for _ in range(4))
    found = Probability(p, base_rate, skill, np.zeros(f.shape, np.int8), forecast)
    _walk(
        np.ascontiguousarray(f, dtype=np.float64),
        np.ascontiguousarray(starts.side),
        np.ascontiguousarray(starts.began),
        np.ascontiguousarray(starts.seen),
        when,
        (_sample_us(rule, step_h), round(rule.horizon_h * HOUR_US), _wait_us(rule, cascade, step_h)),
        round(rule.refit_d * DAY_US),
        rule.validation_refits,
        rule.f_step,
        rule.ridge,
        (rule.min_events, rule.min_validation_events),
        (left["pending_at"], left["pending_bin"], left["pending_p"], left["pending_base"], left["pending_hit"], left["pending_whole"]),
        (left["samples"][0], left["errors"][0], left["cascades"][0], left["known"][0], left["fit"][0], left["span"]),
        (found.p, found.base_rate, found.skill, found.why, found.forecast),
    )
    return found, left


# --- the arithmetic ---------------------------------------------------------------------------------------------------------------


@kernel
def logistic(x: float) -> float:
    """1 / (1 + e^-x)."""
    return float(1.0 / (1.0 + np.exp(-x)) if x >= 0.0 else np.exp(x) / (1.0 + np.exp(x)))


@kernel
def _likelihood(samples: Ints, hits: Ints, x: Floats, a: float, b: float, ridge: float) -> float:
    """Log likelihood of counts at x, minus ridge / 2 * b^2."""
    total = -0.5 * ridge * b * b
    for n in range(x.shape[0]):
        if samples[n] > 0:
            eta = a + b * x[n]
            total += hits[n] * eta - samples[n] * (max(eta, 0.0) + np.log1p(np.exp(-abs(eta))))
    return total


@kernel
def fitted(samples: Ints, hits: Ints, x: Floats, ridge: float) -> tuple[float, float]:
    """(intercept, slope) of the logistic regression of hits among samples on x, slope penalised by ridge / 2 * slope^2, intercept free.

    Newton's method (iteratively reweighted least squares) about the mean of x, from (logit of the share, 0), halving a step that does not
    raise the likelihood. NaN unless 0 < hits < samples. Perfect separation: a large, finite slope; x without spread: slope 0.
    """
    all_samples, all_hits = 0, 0
    middle = 0.0
    for n in range(x.shape[0]):
        all_samples += samples[n]
        all_hits += hits[n]
        middle += samples[n] * x[n]
    if all_hits <= 0 or all_hits >= all_samples:
        return np.nan, np.nan
    middle /= all_samples
    a, b = np.log(all_hits / (all_samples - all_hits)), 0.0
    best = _likelihood(samples, hits, x - middle, a, b, ridge)
    for _ in range(_STEPS):
        up_a, up_b = 0.0, -ridge * b
        aa, ab, bb = 0.0, 0.0, ridge
        for n in range(x.shape[0]):
            if samples[n] > 0:
                d = x[n] - middle
                p = logistic(a + b * d)
                w = samples[n] * p * (1.0 - p)
                up_a += hits[n] - samples[n] * p
                up_b += (hits[n] - samples[n] * p) * d
                aa += w
                ab += w * d
                bb += w * d * d
        determinant = aa * bb - ab * ab
        if not determinant > 0.0:
            break
        step_a, step_b = (bb * up_a - ab * up_b) / determinant, (aa * up_b - ab * up_a) / determinant
        if up_a * step_a + up_b * step_b < _CLOSE:
            a, b = a + step_a, b + step_b
            break
        part = 1.0
        improved = False
        while part > 1e-6 and not improved:
            found = _likelihood(samples, hits, x - middle, a + part * step_a, b + part * step_b, ridge)
            if found > best:
                a, b, best = a + part * step_a, b + part * step_b, found
                improved = True
            part *= 0.5
        if not improved:
            break
    return a - b * middle, b


@kernel
def _walk(
    f: Floats,
    side: Sides,
    began: Ints,
    seen: NDArray[np.bool_],
    when: Ints,
    spans_us: tuple[int, int, int],
    refit_us: int,
    validated: int,
    f_step: float,
    ridge: float,
    least: tuple[int, int],
    pending: tuple[Any, ...],
    pooled: tuple[Any, ...],
    found: tuple[Any, ...],
) -> None:
    """`run`, bar by bar; the arrays of the last three tuples are changed. Order within a bar: labels, refit, forecast, new sample."""
    sample_us, horizon_us, wait_us = spans_us
    at, bins, forecast, base, hit, whole = pending
    samples, errors, cascades, known, fit, span = pooled
    p, rates, skill, why, said = found
    assets, bars = f.shape
    slots, ring = at.shape[1], samples.shape[0]
    x = np.arange(samples.shape[1]) * f_step / 100.0
    for t in range(bars):
        now = when[t]
        slot = now // refit_us % ring
        turned = span[0] != now // refit_us
        if turned:
            span[0] = now // refit_us
            samples[slot] = 0
            errors[slot] = 0
            cascades[slot] = 0
        # labels that became known
        for a in range(assets):
            struck, foreseen = False, False
            for n in range(slots):
                if at[a, n] == NEVER:
                    continue
                if side[a, t] != 0 and at[a, n] <= began[a, t] < at[a, n] + horizon_us:
                    struck = True
                    foreseen = foreseen or np.isfinite(forecast[a, n])
                    hit[a, n] = True
                if not seen[a, t]:
                    whole[a, n] = False
                if at[a, n] + wait_us <= now:
                    if hit[a, n] or whole[a, n]:
                        own = at[a, n] // refit_us % ring
                        y = 1 if hit[a, n] else 0
                        samples[own, bins[a, n], 0] += 1
                        samples[own, bins[a, n], 1] += y
                        known[0] += 1
                        known[1] += y
                        if np.isfinite(forecast[a, n]):
                            errors[own, 0] += np.int64(np.floor((forecast[a, n] - y) ** 2 * _SCALE + 0.5))
                            errors[own, 1] += np.int64(np.floor((base[a, n] - y) ** 2 * _SCALE + 0.5))
                    at[a, n] = NEVER
            cascades[slot, 0] += 1 if struck else 0
            cascades[slot, 1] += 1 if foreseen else 0
        if turned:
            fit[0], fit[1] = np.nan, np.nan
            if np.sum(cascades[:, 0]) >= least[0]:
                counts = np.zeros((samples.shape[1], 2), np.int64)
                for n in range(ring):
                    counts += samples[n]
                fit[0], fit[1] = fitted(counts[:, 0], counts[:, 1], x, ridge)
            fit[2] = _skill(errors, cascades[:, 1], span[0], validated, least[1])
        # forecast and new sample
        rate = known[1] / known[0] if known[0] > 0 else np.nan
        for a in range(assets):
            p[a, t], rates[a, t], skill[a, t], why[a, t], said[a, t] = _said(f[a, t], fit, rate)
            if now % sample_us == 0 and np.isfinite(f[a, t]):
                n = now // sample_us % slots
                if at[a, n] != NEVER:
                    raise RuntimeError("a sample would overwrite one that still waits for its label")
                at[a, n] = now
                bins[a, n] = int(np.floor(f[a, t] / f_step + 0.5))
                forecast[a, n] = said[a, t]
                base[a, n] = rate
                hit[a, n] = False
                whole[a, n] = True


@kernel
def _skill(errors: Ints, foreseen: Ints, span: int, validated: int, least: int) -> float:
    """1 - sum (p - y)^2 / sum (base - y)^2 over the last `validated` spans; NaN with too few cascades among their forecasts."""
    ours, theirs, cascades = 0, 0, 0
    for back in range(1, validated + 1):
        slot = (span - back) % errors.shape[0]
        ours += errors[slot, 0]
        theirs += errors[slot, 1]
        cascades += foreseen[slot]
    return 1.0 - ours / theirs if cascades >= least and theirs > 0 else np.nan


@kernel
def _said(f: float, fit: Floats, rate: float) -> tuple[float, float, float, int, float]:
    """(p, base rate, skill, why, forecast) at one bar."""
    if not np.isfinite(f):
        return np.nan, rate, fit[2], _NO_FRAGILITY, np.nan
    forecast = logistic(fit[0] + fit[1] * f / 100.0)
    if not np.isfinite(forecast) or not np.isfinite(fit[2]):
        return np.nan, rate, fit[2], _TOO_FEW, forecast
    if micro(fit[2]) <= 0:
        return np.nan, rate, fit[2], _NO_SKILL, forecast
    return forecast, rate, fit[2], 0, forecast

"""How far a number can be trusted at a bar: coverage, freshness, agreement and history, each in [0, 1] (METHODOLOGY 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transforms import rolling
from transforms.estimators import DAY_US, Bools, Floats, Ints, kernel
from transforms.features.contract import Measured
from transforms.features.panel import Panel
from transforms.rules import ConfidenceRule
from transforms.signals.contract import Scored, State
from transforms.signals.scores import trailing_quantile


@dataclass(frozen=True, slots=True)
class Ground:
    """What all numbers of an asset stand on, (assets, bars of the window): the same for S, F and X."""

    coverage: Floats
    agreement: Floats
    #: venues with open interest at the bar
    venues: Ints
    #: was an input of the bar beyond the outlier gate's limit
    outlier: Bools


@dataclass(frozen=True, slots=True)
class Confidence:
    """Confidence of one number and the two parts that are its own; warming, stale: does an input lack history, is one without fresh input."""

    value: Floats
    freshness: Floats
    history: Floats
    warming: Bools
    stale: Bools


@kernel
def combined(coverage: Floats, freshness: Floats, agreement: Floats, history: Floats, powers: tuple[float, float, float, float]) -> Floats:
    """`coverage^a * freshness^b * agreement^c * history^d`, element by element."""
    found = np.empty(coverage.shape)
    for a in range(coverage.shape[0]):
        for t in range(coverage.shape[1]):
            found[a, t] = (
                coverage[a, t] ** powers[0] * freshness[a, t] ** powers[1] * agreement[a, t] ** powers[2] * history[a, t] ** powers[3]
            )
    return found


def ground(panel: Panel, dispersion: Measured, disagreement: Measured) -> Ground:
    """Coverage: share of reference open interest (median share over 30 d) whose instruments show a value within the carry limit.

    Agreement: `.5 + .5 (1 - min(1, dispersion / its trailing q95))`, dispersion of funding across venues; the spec's constant where it
    cannot be measured. Half the weight only: in a real crisis venues do disagree, and that is signal. Where sources differ by more than
    their tolerance (transforms/agreement.py), agreement is multiplied by the spec's constant.
    """
    rule, first = panel.spec.confidence, panel.window_first
    coverage = _coverage(panel, panel.steps(rule.reference_oi_d * 24))
    outlier = np.zeros(coverage.shape, dtype=bool)
    for gate in panel.gates.values():
        outlier |= panel.any_of(gate.aside | gate.flagged)[:, first:]
    breach = np.rint(disagreement.value[:, first:] * 1e6) >= 1e6
    agreement = _agreement(panel, dispersion, rule) * np.where(breach, rule.agreement_breach, 1.0)
    return Ground(coverage, agreement, _venues(panel), outlier)


def confidence(base: Ground, freshness: Floats, history: Floats, warming: Bools, stale: Bools, rule: ConfidenceRule) -> Confidence:
    """Confidence of one number from its own freshness and history."""
    powers = (rule.coverage_power, rule.freshness_power, rule.agreement_power, rule.history_power)
    return Confidence(combined(base.coverage, freshness, base.agreement, history, powers), freshness, history, warming, stale)


def of_scores(base: Ground, scored: Sequence[Scored], weights: Sequence[float], panel: Panel) -> Confidence:
    """Confidence of S. freshness: sum of weights times stale factors; history: weighted mean of min(1, effective history / warm_d)."""
    first = panel.window_first
    shape = base.coverage.shape
    freshness, history = np.zeros(shape), np.zeros(shape)
    warming, stale = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for one, weight in zip(scored, weights, strict=True):
        freshness = freshness + weight * one.factor[:, first:]
        history = history + weight * np.minimum(1.0, one.history_d[:, first:] / panel.spec.score.warm_d)
        warming = warming | (one.state[:, first:] == State.WARMING)
        stale = stale | (one.state[:, first:] >= State.STALE)
    return confidence(base, np.minimum(freshness, 1.0), np.minimum(history, 1.0), warming, stale, panel.spec.confidence)


def _agreement(panel: Panel, dispersion: Measured, rule: ConfidenceRule) -> Floats:
    first, score = panel.window_first, panel.spec.score
    least = round(score.min_history_d * 24 / panel.rule.reference_step_h)
    values = np.ascontiguousarray(dispersion.value)
    window = round(score.window_d * DAY_US)
    long, when, reference = panel.sampled("dispersion", values, window)
    usual = panel.own_bars(
        trailing_quantile(long, when, reference, len(when) - panel.bars + first, window, rule.dispersion_quantile, least)
    )
    now, usual = values[:, first:], usual[:, first:]
    ratio = np.where(usual > 0, now / np.where(usual > 0, usual, 1.0), np.where(now > 0, 1.0, 0.0))
    agree = rule.agreement_unmeasured + (1.0 - rule.agreement_unmeasured) * (1.0 - np.minimum(1.0, ratio))
    found: Floats = np.where(np.isfinite(now) & np.isfinite(usual), agree, rule.agreement_unmeasured)
    return found


def _coverage(panel: Panel, steps: int) -> Floats:
    """Fresh share of reference open interest; 0 where the asset had none for the whole reference span."""
    first = panel.window_first
    usd = panel.past_of_instruments("usd", panel.usd, steps)
    share = panel.own_bars(rolling.median_shares(usd, panel.starts, steps, usd.shape[1] - panel.bars + first))[:, first:]
    live = np.isfinite(panel.usd[:, first:])
    found = np.zeros((len(panel.assets), panel.bars - first))
    for a in range(len(panel.assets)):
        fresh, whole = np.zeros(found.shape[1]), np.zeros(found.shape[1])
        for i in range(panel.starts[a], panel.starts[a + 1]):
            fresh = fresh + np.where(live[i], share[i], 0.0)
            whole = whole + share[i]
        found[a] = fresh / np.where(whole > 0, whole, 1.0)
    return found


def _venues(panel: Panel) -> Ints:
    """Distinct venues with open interest at the bar, per asset."""
    live = np.isfinite(panel.usd[:, panel.window_first :])
    found = np.zeros((len(panel.assets), live.shape[1]), dtype=np.int64)
    for a in range(len(panel.assets)):
        own = range(panel.starts[a], panel.starts[a + 1])
        for venue in sorted({panel.instruments[i][1] for i in own}):
            found[a] += np.any([live[i] for i in own if panel.instruments[i][1] == venue], axis=0)
    return found

"""How far S can be trusted at a bar: coverage, freshness, agreement and history, each in [0, 1] (METHODOLOGY 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transforms import estimators
from transforms.estimators import Bools, Floats, Ints, kernel
from transforms.features.panel import Panel
from transforms.signals.contract import Scored, State
from transforms.spec import ConfidenceRule


@dataclass(frozen=True, slots=True)
class Confidence:
    """Confidence and its four parts, (assets, bars of the window), and what stands beside them in words."""

    value: Floats
    coverage: Floats
    freshness: Floats
    agreement: Floats
    history: Floats
    #: venues with open interest at the bar
    venues: Ints
    #: does a constituent lack history; is one without fresh input
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


def confidence(panel: Panel, scored: Sequence[Scored], weights: Sequence[float]) -> Confidence:
    """Confidence for the bars of the window.

    coverage: share of reference open interest (median share over 30 d) whose instruments show a value within the carry limit;
    freshness: sum of weights times stale factors; history: weighted mean of min(1, effective history / warm_d);
    agreement: the spec's constant, since no asset of this version is held from more than one venue.
    """
    rule: ConfidenceRule = panel.spec.confidence
    first = panel.window_first
    shape = (len(panel.assets), panel.bars - first)
    freshness, history = np.zeros(shape), np.zeros(shape)
    warming, stale = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for one, weight in zip(scored, weights, strict=True):
        freshness = freshness + weight * one.factor[:, first:]
        history = history + weight * np.minimum(1.0, one.history_d[:, first:] / panel.spec.score.warm_d)
        warming = warming | (one.state[:, first:] == State.WARMING)
        stale = stale | (one.state[:, first:] >= State.STALE)
    coverage = _coverage(panel, panel.steps(rule.reference_oi_d * 24))
    agreement = np.full(shape, rule.agreement_unmeasured)
    freshness, history = np.minimum(freshness, 1.0), np.minimum(history, 1.0)
    powers = (rule.coverage_power, rule.freshness_power, rule.agreement_power, rule.history_power)
    value = combined(coverage, freshness, agreement, history, powers)
    return Confidence(value, coverage, freshness, agreement, history, _venues(panel), warming, stale)


def _coverage(panel: Panel, steps: int) -> Floats:
    """Fresh share of reference open interest; 0 where the asset had none for the whole reference span."""
    first = panel.window_first
    share = estimators.median_shares(panel.usd, panel.starts, steps, first)[:, first:]
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

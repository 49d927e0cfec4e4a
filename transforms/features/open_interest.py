"""Open interest (OI.*): the quantity index and what is read from it.

USD open interest falls with price; coin open interest of inverse contracts rises when price falls. The quantity index follows native
contracts, chain-linked over the instruments present at both ends of a step (METHODOLOGY 2.1, 3.3, 3.4).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np

from transforms import estimators
from transforms.features.contract import Feature, Measured, Why, measured, named
from transforms.features.panel import Panel
from transforms.spec import CadenceRule

_READS: Final = frozenset({"open_interest", "candles"})


def _span(hours: float, rule: CadenceRule) -> timedelta:
    """Look-back of a window of links: the window, the step its first link starts at, and the carry limit."""
    return timedelta(hours=hours + rule.carry_h) + rule.step


def _link(panel: Panel) -> Measured:
    return measured(panel.links, panel.oi_age_h)


def _usd(panel: Panel) -> Measured:
    age = np.where(np.isfinite(panel.usd), panel.open_interest.age_h, np.nan)
    return measured(panel.totals(panel.usd), panel.youngest(age), {Why.IMPLIED: panel.price_implied})


def _change(panel: Panel, hours: float) -> Measured:
    steps = panel.steps(hours)
    value = estimators.rolling_sums(panel.links, steps, panel.least(steps))
    return measured(value, panel.oi_age_h, {Why.TOO_FEW: np.isfinite(panel.oi_age_h)})


def _change_24h(panel: Panel) -> Measured:
    return panel.once("oi_change_24h", lambda: _change(panel, panel.spec.features.oi_change_h[0]))


def _change_168h(panel: Panel) -> Measured:
    return _change(panel, panel.spec.features.oi_change_h[1])


def _drawdown(panel: Panel) -> Measured:
    steps = panel.steps(panel.spec.features.oi_drawdown_d * 24)
    value = estimators.drawdowns(panel.links, steps, panel.least(steps), panel.window_first)
    return measured(value, panel.oi_age_h, {Why.TOO_FEW: np.isfinite(panel.oi_age_h)})


def _conviction(panel: Panel) -> Measured:
    change = _change_24h(panel)
    move = panel.returns(panel.spec.features.conviction_h)
    value = np.sign(move) * np.maximum(change.value, 0.0)
    why = {Why.TOO_FEW: np.isnan(change.value) & np.isfinite(change.age_h), Why.NO_BASE: np.isnan(move) & np.isfinite(panel.price_age_h)}
    return measured(value, np.fmax(panel.oi_age_h, panel.price_age_h), {**why, Why.IMPLIED: panel.price_implied})


FEATURES: Final = named(
    Feature(
        "oi_link",
        "OI.3",
        "log",
        "ln q_t, q_t = sum U_{t-1} (N_t / N_{t-1}) / sum U_{t-1}; the quantity index is exp of its running sum",
        _READS,
        lambda _, rule: _span(rule.step_h, rule),
        _link,
    ),
    Feature(
        "oi_usd",
        "OI.2",
        "USD",
        "sum of one-sided USD open interest; jumps when instruments come or go",
        _READS,
        lambda _, rule: _span(0, rule),
        _usd,
    ),
    Feature(
        "oi_change_24h",
        "OI.5",
        "log",
        "sum of ln q over (t-24h, t]",
        _READS,
        lambda spec, rule: _span(spec.features.oi_change_h[0], rule),
        _change_24h,
    ),
    Feature(
        "oi_change_168h",
        "OI.5",
        "log",
        "sum of ln q over (t-168h, t]",
        _READS,
        lambda spec, rule: _span(spec.features.oi_change_h[1], rule),
        _change_168h,
    ),
    Feature(
        "oi_drawdown_90d",
        "OI.7",
        "share 0..1",
        "1 - Q_t / max Q over [t-90d, t]",
        _READS,
        lambda spec, rule: _span(spec.features.oi_drawdown_d * 24, rule),
        _drawdown,
    ),
    Feature(
        "conviction",
        "OI.14",
        "log",
        "sign(log return 24h) * max(oi_change_24h, 0): positions opened in the direction of the move",
        _READS,
        lambda spec, rule: _span(max(spec.features.conviction_h, spec.features.oi_change_h[0]), rule),
        _conviction,
    ),
)

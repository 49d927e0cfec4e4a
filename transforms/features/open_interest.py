"""Open interest (OI.*): the quantity index and what is read from it.

USD open interest falls with price; coin open interest of inverse contracts rises when price falls. The quantity index follows native
contracts, chain-linked over the instruments present at both ends of a step (METHODOLOGY 2.1, 3.3, 3.4).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np

from transforms import estimators, rolling
from transforms.estimators import Floats
from transforms.features.contract import Feature, Measured, Why, measured, named
from transforms.features.panel import Panel
from transforms.rules import CadenceRule

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
    value = panel.own_bars(rolling.window_sums(*panel.log_quantity, steps, panel.least(steps), rolling.LOG_SCALE))
    return measured(value, panel.oi_age_h, {Why.TOO_FEW: np.isfinite(panel.oi_age_h)})


def _change_24h(panel: Panel) -> Measured:
    return panel.once("oi_change_24h", lambda: _change(panel, panel.spec.features.oi_change_h[1]))


def _drawdown(panel: Panel) -> Measured:
    steps = panel.steps(panel.spec.features.oi_drawdown_d * 24)
    level, known = panel.log_quantity
    value = panel.own_bars(rolling.falls_from_high(level, known, steps, panel.least(steps), level.shape[1] - 1 - panel.bars))
    return measured(value, panel.oi_age_h, {Why.TOO_FEW: np.isfinite(panel.oi_age_h)})


def _level(panel: Panel) -> Measured:
    steps = panel.steps(panel.spec.features.oi_level_d * 24)
    value = panel.own_bars(rolling.above_mean(*panel.log_quantity, steps, panel.least(panel.steps(panel.spec.score.min_history_d * 24))))
    return measured(value, panel.oi_age_h, {Why.TOO_FEW: np.isfinite(panel.oi_age_h)})


def _logs(values: Floats) -> Floats:
    return estimators.logs(values.ravel()).reshape(values.shape)


def _thinness(panel: Panel) -> Measured:
    """Volume of instruments that state it, over open interest of the same instruments."""
    steps = panel.steps(24)
    traded = panel.past_of_instruments("traded usd", panel.volume * panel.price.usd, steps)
    traded = panel.own_bars(estimators.rolling_sums(traded, steps, panel.least(steps)))
    usd = panel.totals(np.where(np.isfinite(traded), panel.usd, np.nan))
    volume = panel.totals(np.where(np.isfinite(panel.usd), traded, np.nan))
    value = _logs(usd / np.where(volume > 0, volume, np.nan))
    return measured(value, panel.oi_age_h, {Why.FLAT: volume == 0, Why.TOO_FEW: np.isfinite(panel.oi_age_h)})


def _venue_concentration(panel: Panel) -> Measured:
    """Sum of squared shares of the venues in open interest; 1 where one venue is held: the number says so, and how many there are."""
    total = panel.totals(panel.usd)
    value = np.zeros(total.shape)
    for venue in range(len(panel.venues)):
        own = panel.totals(np.where((panel.venue == venue)[:, None], panel.usd, np.nan))
        value = value + np.nan_to_num(own / total, nan=0.0) ** 2
    return measured(np.where(np.isfinite(total), value, np.nan), panel.oi_age_h)


def _quality(panel: Panel) -> Measured:
    """By open interest alone: weighed by itself, the number would hide what it is for."""
    usd = panel.usd
    return measured(panel.totals(usd * panel.quality) / panel.totals(usd), panel.oi_age_h)


def _decomposed(panel: Panel) -> tuple[Floats, Floats, Floats]:
    """OI.12 over 24 h: (change of ln USD open interest, price, composition); quantity is oi_change_24h."""
    steps = panel.steps(24)
    usd = panel.past("oi log usd", _logs(panel.totals(panel.usd)), steps)
    change = np.full(usd.shape, np.nan)
    change[:, steps:] = usd[:, steps:] - usd[:, :-steps]
    change, price = panel.own_bars(change), panel.returns(24)
    return change, price, change - _change_24h(panel).value - price


def _usd_change(panel: Panel) -> Measured:
    return measured(_decomposed(panel)[0], panel.oi_age_h, {Why.NO_BASE: np.isfinite(panel.oi_age_h)})


def _composition(panel: Panel) -> Measured:
    return measured(_decomposed(panel)[2], panel.oi_age_h, {Why.NO_BASE: np.isfinite(panel.oi_age_h)})


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
        lambda spec, rule: _span(spec.features.oi_change_h[1], rule),
        _change_24h,
    ),
    Feature(
        "oi_change_168h",
        "OI.5",
        "log",
        "sum of ln q over (t-168h, t]",
        _READS,
        lambda spec, rule: _span(spec.features.oi_change_h[2], rule),
        lambda panel: _change(panel, panel.spec.features.oi_change_h[2]),
    ),
    Feature(
        "oi_change_720h",
        "OI.5",
        "log",
        "sum of ln q over (t-720h, t]",
        _READS,
        lambda spec, rule: _span(spec.features.oi_change_h[3], rule),
        lambda panel: _change(panel, panel.spec.features.oi_change_h[3]),
    ),
    Feature(
        "oi_level_180d",
        "OI.3",
        "log",
        "ln Q_t minus its mean over 180 d: how much leverage is on against the last half year",
        _READS,
        lambda spec, rule: _span(spec.features.oi_level_d * 24, rule),
        _level,
    ),
    Feature(
        "oi_usd_change_24h",
        "OI.12",
        "log",
        "ln(U_t / U_{t-24h}) = quantity (oi_change_24h) + price (log return 24 h) + composition",
        _READS,
        lambda _, rule: _span(24, rule),
        _usd_change,
    ),
    Feature(
        "oi_composition_24h",
        "OI.12",
        "log",
        "what is left of oi_usd_change_24h after quantity and price: instruments and venues that came, went or shifted",
        _READS,
        lambda _, rule: _span(24, rule),
        _composition,
    ),
    Feature(
        "oi_thinness",
        "OI.9",
        "log days",
        "ln(USD open interest / USD volume of 24 h), instruments that state both: days of trading the open interest is worth",
        _READS,
        lambda _, rule: _span(24, rule),
        _thinness,
    ),
    Feature(
        "oi_venue_concentration",
        "OI.11",
        "share 0..1",
        "sum over venues of (U_v / U)^2; 1 where one venue is held",
        _READS,
        lambda _, rule: _span(0, rule),
        _venue_concentration,
    ),
    Feature(
        "oi_quality",
        "OI.13",
        "share 0..1",
        "mean over instruments of max(0, 1 - rate / 0.05), rate: share of bars over 30 d whose change of open interest exceeds the volume",
        _READS,
        lambda spec, rule: _span(spec.features.oi_violation_d * 24, rule),
        _quality,
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
        lambda spec, rule: _span(max(spec.features.conviction_h, spec.features.oi_change_h[1]), rule),
        _conviction,
    ),
)

"""Liquidations (LQ.*), by the side of the position that was liquidated. A missing interval is missing, never calm (PITFALLS D12)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np

from transforms import asof, estimators, rolling
from transforms.estimators import HOUR_US, Floats
from transforms.features.contract import Feature, Measured, Why, measured, named
from transforms.features.panel import Panel
from transforms.rules import CadenceRule
from transforms.spec import Spec

_READS: Final = frozenset({"liquidations", "open_interest", "candles"})


def _liquidated(panel: Panel) -> tuple[Floats, Floats]:
    """LQ.1: (longs, shorts) liquidated in USD per instrument and bar, at the bar's price; NaN where the bar is not covered."""
    table = panel.own("liquidations")
    long, short = asof.floats(table.column("long_liquidated_base")), asof.floats(table.column("short_liquidated_base"))
    hours = asof.floats(table.column("interval_h"))
    usable = np.isfinite(long) & np.isfinite(short) & (long >= 0) & (short >= 0) & (hours > 0) & (hours <= panel.rule.step_h)
    rows = panel.tracks("liquidations", table, {"long": long, "short": short, "hours": hours}, usable)
    amounts = np.stack([rows.values["long"], rows.values["short"]])
    sums, covered = asof.bar_sums(
        rows.starts, rows.as_of, rows.known_at, rows.values["hours"], amounts, panel.when, panel.cutoff, round(panel.rule.step_h * HOUR_US)
    )
    whole = covered >= panel.spec.features.min_coverage * panel.rule.step_h
    return np.where(whole, sums[0] * panel.price.usd, np.nan), np.where(whole, sums[1] * panel.price.usd, np.nan)


def liquidated(panel: Panel) -> tuple[Floats, Floats]:
    """Liquidated USD of the panel, read once."""
    return panel.once("liquidated", lambda: _liquidated(panel))


def _age(panel: Panel, known: Floats) -> Floats:
    """0 where the bar itself is known."""
    return np.where(np.isfinite(known), 0.0, panel.unknown())


def _intensity(panel: Panel) -> Measured:
    long, short = liquidated(panel)
    usd = np.where(np.isfinite(long), panel.usd, np.nan)
    value = panel.totals(np.where(np.isfinite(usd), long + short, np.nan)) / panel.totals(usd) / panel.rule.step_h
    return measured(value, _age(panel, value), {Why.IMPLIED: panel.price_implied})


def _imbalance(panel: Panel) -> Measured:
    rules = panel.spec.features
    steps = panel.steps(rules.liquidation_window_h)
    sides = zip(("liquidated longs", "liquidated shorts"), liquidated(panel), strict=True)
    past = (panel.past(name, panel.totals(one), steps) for name, one in sides)
    long, short = (panel.own_bars(estimators.rolling_sums(one, steps, panel.least(steps))) for one in past)
    volume = long + short
    enough = volume >= rules.liquidation_gate_usd
    value = (long - short) / np.where(enough, volume, np.nan)
    return measured(value, _age(panel, value), {Why.GATE: np.isfinite(volume) & ~enough})


def _smooth_intensity(panel: Panel) -> Measured:
    one, rules = _intensity(panel), panel.spec.features
    weights = estimators.kernel_weights(panel.rule.step_h, rules.intensity_half_life_h, rules.ema_cut_half_lives)
    long = panel.past("liquidation intensity", one.value, len(weights))
    return measured(panel.own_bars(estimators.emas(long, weights, rules.ema_min_weight)), one.age_h, {Why.TOO_FEW: np.isfinite(one.value)})


def _forced_share(panel: Panel) -> Measured:
    """Of the same instruments: what was liquidated in 24 h over what open interest lost. Above 1 where positions were opened meanwhile."""
    rules = panel.spec.features
    steps = panel.steps(rules.liquidation_window_h)
    long, short = liquidated(panel)
    both = panel.past("liquidated both", panel.totals(long + short), steps)
    both = panel.own_bars(estimators.rolling_sums(both, steps, panel.least(steps)))
    usd = panel.past("usd with liquidations", panel.totals(np.where(np.isfinite(long), panel.usd, np.nan)), steps)
    before = np.full(usd.shape, np.nan)
    before[:, steps:] = usd[:, :-steps]
    before = panel.own_bars(before)
    quantity = panel.own_bars(rolling.window_sums(*panel.log_quantity, steps, panel.least(steps), rolling.LOG_SCALE))
    lost = before * (1.0 - estimators.exps(quantity))
    value = both / np.where(lost > 0, lost, np.nan)
    return measured(value, _age(panel, value), {Why.FLAT: lost <= 0})


def _span(spec: Spec, rule: CadenceRule) -> timedelta:
    return timedelta(hours=spec.features.liquidation_window_h + rule.carry_h) + 2 * rule.step


FEATURES: Final = named(
    Feature(
        "liquidation_intensity_h",
        "LQ.2",
        "share per h",
        "(longs + shorts liquidated in USD) / USD open interest of the same instruments / hours of the bar",
        _READS,
        _span,
        _intensity,
    ),
    Feature(
        "liquidation_intensity_3h",
        "LQ.2",
        "share per h",
        "exponential mean of liquidation_intensity_h, half-life 3 h",
        _READS,
        _span,
        _smooth_intensity,
    ),
    Feature(
        "forced_share_24h",
        "LQ.4",
        "share",
        "USD liquidated in 24 h / (USD open interest 24 h ago * (1 - Q_t / Q_{t-24h})); a lower bound; none where quantity did not fall",
        _READS,
        _span,
        _forced_share,
    ),
    Feature(
        "liquidation_imbalance_24h",
        "LQ.3",
        "[-1, 1]",
        "(longs - shorts) / (longs + shorts) liquidated in (t-24h, t] in USD, from 10,000 USD on; positive = longs were liquidated",
        _READS,
        _span,
        _imbalance,
    ),
)

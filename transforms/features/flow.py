"""Taker flow (FL.*): who crosses the spread. Positive = takers buy."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np

from transforms import asof, estimators
from transforms.estimators import HOUR_US, Floats
from transforms.features.contract import Feature, Measured, Why, measured, named
from transforms.features.panel import Panel
from transforms.rules import CadenceRule
from transforms.spec import Spec

_READS: Final = frozenset({"candles", "taker_flow", "open_interest"})


def _traded(panel: Panel, name: str, interval_h: float) -> tuple[Floats, Floats]:
    """(taker buys, taker sells) in base units per instrument and bar from the table's rows of one interval; NaN where a bar lacks rows."""
    table = panel.own(name)
    buy = asof.floats(table.column("taker_buy_base"))
    sell = asof.floats(table.column("volume_base")) - buy if name == "candles" else asof.floats(table.column("taker_sell_base"))
    hours = asof.floats(table.column("interval_h"))
    usable = np.isfinite(buy) & np.isfinite(sell) & (buy >= 0) & (sell >= 0) & (hours == interval_h)
    rows = panel.tracks(name, table, {"buy": buy, "sell": sell, "hours": hours}, usable)
    amounts = np.stack([rows.values["buy"], rows.values["sell"]])
    sums, covered = asof.bar_sums(
        rows.starts, rows.as_of, rows.known_at, rows.values["hours"], amounts, panel.when, panel.cutoff, round(panel.rule.step_h * HOUR_US)
    )
    whole = covered >= panel.spec.features.min_coverage * panel.rule.step_h
    return np.where(whole, sums[0], np.nan), np.where(whole, sums[1], np.nan)


def _taker_imbalance(panel: Panel) -> Measured:
    """Candles of the grid's step first; where they do not say who took, the flow table, longest interval first."""
    rule, rules = panel.rule, panel.spec.features
    buy, sell = _traded(panel, "candles", rule.step_h)
    intervals = np.unique(asof.floats(panel.own("taker_flow").column("interval_h")))
    for interval_h in sorted((float(i) for i in intervals if 0 < i <= rule.step_h), reverse=True):
        other_buy, other_sell = _traded(panel, "taker_flow", interval_h)
        lacking = np.isnan(buy)
        buy, sell = np.where(lacking, other_buy, buy), np.where(lacking, other_sell, sell)
    buy, sell = panel.totals(buy * panel.price.usd), panel.totals(sell * panel.price.usd)
    both = buy + sell
    imbalance = (buy - sell) / np.where(both > 0, both, np.nan)
    weights = estimators.kernel_weights(rule.step_h, rules.taker_half_life_h, rules.ema_cut_half_lives)
    long = panel.past("taker imbalance", imbalance, len(weights))
    value, age = panel.own_bars(estimators.emas(long, weights, rules.ema_min_weight)), panel.own_bars(_age(long, rule.step_h, len(weights)))
    return measured(value, age, {Why.FLAT: both == 0, Why.TOO_FEW: np.isfinite(imbalance)})


def _age(known: Floats, step_h: float, count: int) -> Floats:
    """Hours since the last known bar, if it lies among the last `count`."""
    bars = np.arange(known.shape[1])
    last = np.maximum.accumulate(np.where(np.isfinite(known), bars, -count), axis=1)
    return np.where(bars - last < count, (bars - last) * step_h, np.nan)


def _span(spec: Spec, rule: CadenceRule) -> timedelta:
    return timedelta(hours=spec.features.taker_half_life_h * spec.features.ema_cut_half_lives + rule.carry_h) + 2 * rule.step


FEATURES: Final = named(
    Feature(
        "taker_imbalance_8h",
        "FL.1",
        "[-1, 1]",
        "(taker buys - taker sells) / (buys + sells) in USD per bar, exponential mean with half-life 8 h, cut at 64 h",
        _READS,
        _span,
        _taker_imbalance,
    ),
)

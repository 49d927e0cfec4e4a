"""Stablecoins (ST.*): growth of the money that can buy. The same for every asset.

The source rewrites its history as a whole, so both ends of a growth rate are read as known at the bar, not as sampled back then.
Its own total (coin ALL) is used where both ends have one; else the sum over the listed coins that have both ends. The two are never
mixed within one rate.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np

from transforms import asof, estimators
from transforms.estimators import DAY_US, HOUR_US, Floats
from transforms.features.contract import Feature, Measured, Why, measured, named
from transforms.features.panel import Panel, at_rows
from transforms.rules import CadenceRule
from transforms.spec import Spec

_TOTAL: Final = "ALL"


def _growth(panel: Panel, days: float) -> Measured:
    rules = panel.spec.features
    table = panel.rows("stablecoin_supply", panel.rule.supply_source)
    supply = asof.floats(table.column("circulating_usd"))
    tracks = asof.tracks_of(table, ("stablecoin",))[1]
    usable = np.isfinite(supply) & (supply > 0)
    nothing = np.full(panel.bars, np.nan)
    total, listed_now, listed_before = nothing, np.zeros(panel.bars), np.zeros(panel.bars)
    age, total_age, seen = nothing, nothing, np.zeros(panel.bars, dtype=bool)
    for track in tracks:
        rows = asof.in_tracks("stablecoin_supply", table, keys=("stablecoin",), tracks=[track], columns={"supply": supply}, usable=usable)
        now, before, now_age = _ends(panel, rows, round(days * DAY_US), round(rules.supply_base_tolerance_h * HOUR_US))
        seen |= np.isfinite(now)
        both = np.isfinite(now) & np.isfinite(before)
        if track == (_TOTAL,):
            total, total_age = np.where(both, now / before, np.nan), now_age
        else:
            listed_now, listed_before = listed_now + np.where(both, now, 0.0), listed_before + np.where(both, before, 0.0)
            age = np.fmin(age, np.where(both, now_age, np.nan))
    listed = listed_now / np.where(listed_before > 0, listed_before, np.nan)
    by_total = np.isfinite(total)
    value = estimators.logs(np.where(by_total, total, listed))
    return measured(value[None, :], np.where(by_total, total_age, age)[None, :], {Why.NO_BASE: seen[None, :]})


def _issuance(panel: Panel) -> Measured:
    """ST.1: change of the newest day against the day before, USD. Circulating supply leaves out what is authorised but not issued."""
    table = panel.rows("stablecoin_supply", panel.rule.supply_source)
    supply = asof.floats(table.column("circulating_usd"))
    usable = np.isfinite(supply) & (supply > 0)
    total, listed = (np.full(panel.bars, np.nan) for _ in range(2))
    age, total_age = np.full(panel.bars, np.nan), np.full(panel.bars, np.nan)
    for track in asof.tracks_of(table, ("stablecoin",))[1]:
        rows = asof.in_tracks("stablecoin_supply", table, keys=("stablecoin",), tracks=[track], columns={"supply": supply}, usable=usable)
        now, before, now_age = _ends(panel, rows, DAY_US, round(panel.spec.features.supply_base_tolerance_h * HOUR_US) - 1)
        change = now - before
        if track == (_TOTAL,):
            total, total_age = change, now_age
        else:
            both = np.isfinite(change)
            listed = np.where(both, np.where(np.isfinite(listed), listed, 0.0) + np.where(both, change, 0.0), listed)
            age = np.fmin(age, np.where(both, now_age, np.nan))
    by_total = np.isfinite(total)
    return measured(np.where(by_total, total, listed)[None, :], np.where(by_total, total_age, age)[None, :])


def _ends(panel: Panel, rows: asof.Rows, span: int, tolerance: int) -> tuple[Floats, Floats, Floats]:
    """Of one coin: (supply shown at the bar, supply of the day `span` earlier as known at the bar, age of the first in h)."""
    shown = panel.sample(rows, panel.spec.features.supply_age_h)
    target = np.where(shown >= 0, rows.as_of[shown] - span, -1) if len(rows.as_of) else np.full(shown.shape, -1)
    base = asof.newest_before(rows.starts, rows.as_of, rows.known_at, target, panel.cutoff, tolerance)
    supply = rows.values["supply"]
    return at_rows(supply, shown)[0], at_rows(supply, base)[0], panel.age(rows, shown)[0]


def _span(days: float, spec: Spec, rule: CadenceRule) -> timedelta:
    return timedelta(days=days, hours=spec.features.supply_age_h + spec.features.supply_base_tolerance_h) + rule.step


FEATURES: Final = named(
    Feature(
        "stablecoin_issuance_usd_24h",
        "ST.1",
        "USD per day",
        "change of circulating supply over the newest known day; inventory authorised but not issued is not in circulation",
        frozenset({"stablecoin_supply"}),
        lambda spec, rule: _span(1, spec, rule),
        _issuance,
    ),
    Feature(
        "stablecoin_growth_7d",
        "ST.2",
        "log",
        "ln(C_t / C_{t-7d}), total circulating supply",
        frozenset({"stablecoin_supply"}),
        lambda spec, rule: _span(spec.features.supply_growth_d[0], spec, rule),
        lambda panel: _growth(panel, panel.spec.features.supply_growth_d[0]),
    ),
    Feature(
        "stablecoin_growth_30d",
        "ST.2",
        "log",
        "ln(C_t / C_{t-30d}), total circulating supply",
        frozenset({"stablecoin_supply"}),
        lambda spec, rule: _span(spec.features.supply_growth_d[1], spec, rule),
        lambda panel: _growth(panel, panel.spec.features.supply_growth_d[1]),
    ),
)

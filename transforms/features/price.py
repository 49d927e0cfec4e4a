"""Price: trend and volatility, from candle closes, or from the price that open interest implies where no candle ends at the bar."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np

from transforms import estimators, rolling
from transforms.estimators import HOURS_A_YEAR, Floats
from transforms.features.contract import Feature, Measured, Why, measured, named
from transforms.features.panel import Panel
from transforms.rules import CadenceRule
from transforms.spec import Spec

_READS: Final = frozenset({"candles", "open_interest"})


def _momentum(panel: Panel, days: float) -> Measured:
    """Return over the span in units of its own expected size: trailing sigma per hour times the root of the hours."""
    move, sigma = panel.returns(days * 24), panel.sigma_h
    value = move / (np.where(sigma > 0, sigma, np.nan) * np.sqrt(days * 24))
    priced = np.isfinite(panel.price_age_h)
    why = {Why.NO_BASE: priced & np.isnan(move), Why.TOO_FEW: priced & np.isnan(sigma), Why.FLAT: sigma == 0}
    return measured(value, panel.price_age_h, {**why, Why.IMPLIED: panel.price_implied})


def _mean_momentum(panel: Panel) -> Measured:
    """All spans or nothing: a mean over fewer of them would be another quantity."""
    parts = [_momentum(panel, days) for days in panel.spec.features.momentum_d]
    total = parts[0].value
    for part in parts[1:]:
        total = total + part.value
    why = {reason: np.any([part.why == reason for part in parts], axis=0) for reason in (Why.NO_BASE, Why.TOO_FEW, Why.FLAT)}
    return measured(total / len(parts), panel.price_age_h, {**why, Why.IMPLIED: panel.price_implied})


def _volatility(panel: Panel, root: Floats) -> Measured:
    why = {Why.TOO_FEW: np.isfinite(panel.price_age_h), Why.IMPLIED: panel.price_implied}
    return measured(root, panel.price_age_h, why)


def _volatility_24h(panel: Panel) -> Measured:
    return _volatility(panel, panel.volatility(24) * np.sqrt(HOURS_A_YEAR))


def _surprise(panel: Panel) -> Measured:
    short, long = panel.volatility(24), panel.sigma_h
    ratio = short / np.where(long > 0, long, np.nan)
    value = estimators.logs(ratio.ravel()).reshape(ratio.shape)
    why = {Why.FLAT: (short == 0) | (long == 0), Why.TOO_FEW: np.isfinite(panel.price_age_h), Why.IMPLIED: panel.price_implied}
    return measured(value, panel.price_age_h, why)


def _distance(panel: Panel) -> Measured:
    steps = panel.steps(panel.spec.features.distance_d * 24)
    level, known = panel.running("price", panel.returns(panel.rule.step_h), rolling.LOG_SCALE, steps)
    value = panel.own_bars(rolling.above_mean(level, known, steps, panel.least(steps)))
    return measured(value, panel.price_age_h, {Why.TOO_FEW: np.isfinite(panel.price_age_h), Why.IMPLIED: panel.price_implied})


def _return_24h(panel: Panel) -> Measured:
    return measured(panel.returns(24), panel.price_age_h, {Why.NO_BASE: np.isfinite(panel.price_age_h), Why.IMPLIED: panel.price_implied})


def _back(days: float, rule: CadenceRule) -> timedelta:
    return timedelta(days=days, hours=rule.carry_h) + 2 * rule.step


def _trend_span(spec: Spec, rule: CadenceRule) -> timedelta:
    return _back(max(*spec.features.momentum_d, spec.features.sigma_d), rule)


def _sigma_span(spec: Spec, rule: CadenceRule) -> timedelta:
    return _back(spec.features.sigma_d, rule)


FEATURES: Final = named(
    Feature(
        "sigma_h",
        "2.7",
        "log per root hour",
        "root of the mean squared log return per bar over 30 d, per root hour",
        _READS,
        _sigma_span,
        lambda panel: _volatility(panel, panel.sigma_h),
    ),
    Feature(
        "realised_volatility_24h",
        "2.7",
        "p.a.",
        "root of the mean squared hourly log return over 24 h, annualised",
        _READS,
        lambda _, rule: _back(1, rule),
        _volatility_24h,
    ),
    Feature(
        "realised_volatility_30d",
        "2.7",
        "p.a.",
        "sigma_h * sqrt(8760)",
        _READS,
        _sigma_span,
        lambda panel: _volatility(panel, panel.sigma_h * np.sqrt(HOURS_A_YEAR)),
    ),
    Feature(
        "volatility_surprise",
        "2.7",
        "log",
        "ln(RV_24h / RV_30d), both roots of mean squared log returns of the grid's bars",
        _READS,
        _sigma_span,
        _surprise,
    ),
    Feature(
        "return_24h",
        "2.7",
        "log",
        "log price return over 24 h, weighted by open interest",
        _READS,
        lambda _, rule: _back(1, rule),
        _return_24h,
    ),
    Feature(
        "price_distance_200d",
        "2.7",
        "log",
        "ln P_t minus the mean of ln P over 200 d (report only)",
        _READS,
        lambda spec, rule: _back(spec.features.distance_d, rule),
        _distance,
    ),
    Feature(
        "momentum_7d",
        "2.7",
        "sigmas",
        "log return 7 d / (sigma_h * sqrt(168))",
        _READS,
        _trend_span,
        lambda panel: _momentum(panel, panel.spec.features.momentum_d[0]),
    ),
    Feature(
        "momentum_30d",
        "2.7",
        "sigmas",
        "log return 30 d / (sigma_h * sqrt(720))",
        _READS,
        _trend_span,
        lambda panel: _momentum(panel, panel.spec.features.momentum_d[1]),
    ),
    Feature(
        "momentum_90d",
        "2.7",
        "sigmas",
        "log return 90 d / (sigma_h * sqrt(2160))",
        _READS,
        _trend_span,
        lambda panel: _momentum(panel, panel.spec.features.momentum_d[2]),
    ),
    Feature(
        "momentum",
        "2.7",
        "sigmas",
        "mean of momentum_7d, momentum_30d, momentum_90d",
        _READS,
        _trend_span,
        _mean_momentum,
    ),
)

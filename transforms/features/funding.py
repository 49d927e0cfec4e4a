"""Funding (FU.*): what longs pay shorts, per year, with the interval each settlement really covers.

Intervals differ between contracts and change over time; `x 1095 for all` gives wrong signs (METHODOLOGY 2.2, PITFALLS C1).
Positive = longs pay shorts = more bullish positioning. The anchor is the contract's own interest component.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import asof, estimators
from transforms.estimators import HOUR_US, HOURS_A_YEAR, Floats
from transforms.features.contract import Feature, Measured, Why, measured, named
from transforms.features.panel import Panel, instant_us
from transforms.rules import CadenceRule
from transforms.spec import Spec

_READS: Final = frozenset({"funding", "funding_terms", "open_interest", "candles"})
#: Venues stamp a settlement some milliseconds after the full second.
_SECOND_US: Final = 1_000_000
#: a premium is what an 8-hour interval would cost
_INTERVALS_A_YEAR: Final = HOURS_A_YEAR / 8


@dataclass(frozen=True, slots=True)
class _Paid:
    """Settlements as each instrument shows them at each bar, (instruments, bars)."""

    sums: Floats
    covered_h: Floats
    last: Floats
    interval_h: Floats
    age_h: Floats


def _paid(panel: Panel) -> _Paid:
    """Paid settlements only: a quoted rate is not money (PITFALLS C3, C7). Rates that are not finite count as not received."""
    rules = panel.spec.features
    table = panel.own("funding")
    whole = (asof.micros(table.column("as_of")) + _SECOND_US // 2) // _SECOND_US * _SECOND_US
    table = table.set_column(table.column_names.index("as_of"), "as_of", pa.array(whole).cast(table.schema.field("as_of").type))
    rate, hours = asof.floats(table.column("funding_rate")), asof.floats(table.column("funding_interval_h"))
    hours = np.where(np.isfinite(hours) & (hours > 0), hours, np.nan)  # an interval that cannot be is not known
    settled = pc.equal(table.column("funding_kind"), "settlement").to_numpy()
    rows = panel.tracks("funding", table, {"rate": rate, "hours": hours}, np.isfinite(rate) & settled)
    found = asof.settlements(
        rows.starts,
        rows.as_of,
        rows.known_at,
        rows.values["rate"],
        rows.values["hours"],
        np.array(rules.funding_intervals_h, dtype=np.float64),
        _terms(panel),
        panel.when,
        panel.cutoff,
        round(rules.funding_window_h * HOUR_US),
        panel.rule.infer_interval,
    )
    return _Paid(*found)


def _terms(panel: Panel) -> Floats:
    """Interval in the newest terms seen, (instruments, bars)."""
    table = panel.own("funding_terms")
    hours = asof.floats(table.column("funding_interval_h"))
    rows = panel.tracks("funding_terms", table, {"hours": hours}, np.isfinite(hours) & (hours > 0))
    return panel.level(rows, "hours", panel.sample(rows, panel.spec.features.terms_age_d * 24))


def _annual(panel: Panel) -> Floats:
    """FU.1 per instrument: the last settlement p.a.; NaN where its interval is unknown or the outlier gate sets it aside."""
    got = paid(panel)
    annual = got.last * (HOURS_A_YEAR / got.interval_h)
    gate = panel.once("funding gate", lambda: panel.gate("funding", annual, np.isfinite(annual), panel.spec.outliers.funding_tick))
    return np.where(gate.aside, np.nan, annual)


def paid(panel: Panel) -> _Paid:
    """Settlements of the panel, read once."""
    return panel.once("settlements", lambda: _paid(panel))


def _last(panel: Panel) -> Measured:
    got = paid(panel)
    value = panel.means(_annual(panel))
    return measured(value, panel.youngest(got.age_h), {Why.INTERVAL: panel.any_of(np.isnan(got.interval_h) & np.isfinite(got.age_h))})


def _realised(panel: Panel) -> Measured:
    got, window_h = paid(panel), panel.spec.features.funding_window_h
    whole = got.covered_h >= panel.spec.features.min_coverage * window_h
    whole &= np.isfinite(_annual(panel))
    value = panel.means(np.where(whole, got.sums * (HOURS_A_YEAR / window_h), np.nan))
    unknown = panel.any_of(np.isnan(got.covered_h))
    return measured(value, panel.youngest(got.age_h), {Why.INTERVAL: unknown, Why.TOO_FEW: np.isfinite(panel.youngest(got.age_h))})


def _dispersion(panel: Panel) -> Measured:
    """Weighted deviation across instruments; with one venue there is nothing to compare."""
    value, age = _annual(panel), panel.youngest(paid(panel).age_h)
    weights, held = panel.weighed(value)
    used = weights > 0
    mean = panel.totals(np.where(used, weights * held, np.nan))
    wide = np.repeat(mean, np.diff(panel.starts), axis=0)
    variance = panel.totals(np.where(used, weights * (held - wide) ** 2, np.nan))
    several = np.zeros(mean.shape, dtype=np.int64)
    for venue in range(len(panel.venues)):
        several += panel.any_of(used & (panel.venue == venue)[:, None])
    return measured(np.where(several > 1, np.sqrt(np.maximum(variance, 0.0)), np.nan), age, {Why.ONE_VENUE: several == 1})


def _premium(panel: Panel) -> Measured:
    """FU.7: exponential mean of the premium per instrument, annualised over 8-hour intervals, before anchoring."""
    rules, rule = panel.spec.features, panel.rule
    table = panel.own("premiums")
    premium, hours = asof.floats(table.column("premium_share")), asof.floats(table.column("interval_h"))
    rows = panel.tracks("premiums", table, {"premium": premium}, np.isfinite(premium) & (hours <= rule.step_h))
    shown = panel.sample(rows, rule.carry_h)
    one = panel.level(rows, "premium", shown) * _INTERVALS_A_YEAR
    gate = panel.gate("premium", one, panel.age(rows, shown) < rule.step_h, panel.spec.outliers.funding_tick)
    weights = estimators.kernel_weights(rule.step_h, rules.premium_half_life_h, rules.ema_cut_half_lives)
    good = panel.past_of_instruments("premium", np.where(gate.aside, np.nan, one), len(weights))
    smooth = panel.own_bars(estimators.emas(good, weights, rules.ema_min_weight))
    age = panel.age(rows, shown)
    return measured(panel.means(np.where(np.isfinite(age), smooth, np.nan)), panel.youngest(age))


def _premium_excess(panel: Panel) -> Measured:
    base = _premium(panel)
    return Measured(np.round(base.value - anchor(panel), 12), base.age_h, base.why)


def anchor(panel: Panel) -> Floats:
    """Interest component in force at each bar, p.a."""
    found = np.full(panel.bars, np.nan)
    for day, rate in panel.spec.features.funding_anchors:
        found[panel.when > instant_us(datetime(day.year, day.month, day.day, tzinfo=UTC))] = rate
    return found


def _excess(panel: Panel) -> Measured:
    base = FEATURES[panel.rule.funding_feature].compute(panel)
    # Rounded, so that funding pinned at the anchor is exactly 0 and ties, whatever its sum of settlements rounds to.
    return Measured(np.round(base.value - anchor(panel), 12), base.age_h, base.why)


def _span(spec: Spec, rule: CadenceRule) -> timedelta:
    """The window, once more to infer the interval of its first settlement; the weights; terms may be older."""
    kernel_h = spec.features.premium_half_life_h * spec.features.ema_cut_half_lives
    hours = max(2 * spec.features.funding_window_h, rule.carry_h + rule.step_h + kernel_h, 24 * spec.features.terms_age_d)
    return timedelta(hours=hours) + rule.step


FEATURES: Final = named(
    Feature("funding_last_annual", "FU.1", "p.a.", "last settlement * 8760 / interval_h, weighted by open interest", _READS, _span, _last),
    Feature(
        "funding_realised_annual",
        "FU.2",
        "p.a.",
        "365 * sum of settlements in (t-24h, t], weighted by open interest of the bar before",
        _READS,
        _span,
        _realised,
    ),
    Feature(
        "funding_excess_annual",
        "FU.6",
        "p.a.",
        "funding (FU.2 hourly, FU.1 daily) - anchor, the contract's interest component (0.01 % per 8 h = 0.1095)",
        _READS,
        _span,
        _excess,
    ),
    Feature(
        "funding_dispersion_annual",
        "FU.5",
        "p.a.",
        "weighted standard deviation of FU.1 across venues; none with a single venue",
        _READS,
        _span,
        _dispersion,
    ),
    Feature(
        "premium_excess_annual",
        "FU.7",
        "p.a.",
        "1095 * exponential mean of (mark - index) / index with half-life 8 h, minus the anchor: speaks where funding is clamped",
        _READS | {"premiums"},
        _span,
        _premium_excess,
    ),
)

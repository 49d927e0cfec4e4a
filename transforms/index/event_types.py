"""What each type of event says: when it is raised, on which side, how severe it is, and what would prove it right (METHODOLOGY 4.8).

`EVENT_TYPES` is the table: one entry a type. A condition looks at one bar of one asset; what it needs of earlier bars is prepared by
transforms/index/events.py (`funding_held`, `regime_before`). Values are rounded to 1e-6 before they meet a threshold.

A track record needs an outcome: a stream of onsets (a move began; it was known later) that exists whether or not the event was raised.
Types that describe the data have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from transforms.estimators import Bools, Floats
from transforms.index.regimes import REGIMES
from transforms.rules import EventRule

#: codes of the input `regime`; the first two are an exit of leverage
DELEVERAGING: Final = (REGIMES.index("capitulation"), REGIMES.index("deleveraging"))
RECOVERY: Final = REGIMES.index("recovery")

#: an input by name, (assets, bars); NaN everywhere where it was not handed over
Read = Callable[[str], Floats]


class Counts(IntEnum):
    """Which onsets of the outcome count as a hit, by their side and the event's."""

    SAME = 0
    AGAINST = 1
    UP = 2
    ANY = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """A condition at every bar. value NaN = the type cannot be judged there; side -1, 0, +1; severity in [0, 1] where raised."""

    value: Floats
    threshold: float
    raised: Bools
    side: Floats
    severity: Floats


@dataclass(frozen=True, slots=True)
class Outcome:
    """What counts as a hit: onsets, and within how many hours of its beginning an onset is known (0: a bar)."""

    says: str
    reads: tuple[str, ...]
    window_h: Callable[[EventRule, float], float]


@dataclass(frozen=True, slots=True)
class EventType:
    """A type. `says`: words of the reason; `outcome`: name in OUTCOMES, "" = a statement about the data, which nothing can prove wrong;
    `detects`: raised when the move has begun, so that a beginning within the label's window before it counts as found.
    """

    name: str
    says: str
    side: str
    reads: tuple[str, ...]
    condition: Callable[[Read, EventRule], Reading]
    outcome: str = ""
    counts: Counts = Counts.ANY
    detects: bool = False


OUTCOMES: Final[Mapping[str, Outcome]] = {
    "cascade": Outcome("a cascade begins (label, 4.6)", ("cascade_known", "cascade_age_h"), lambda _rule, cascade_h: cascade_h),
    "jump": Outcome("the price begins to move by jump_sigmas within jump_h", ("return_1bar", "sigma_d"), lambda rule, _: rule.jump_h),
    "swing": Outcome("the price begins to move by swing_sigmas within swing_h", ("return_1bar", "sigma_d"), lambda rule, _: rule.swing_h),
    "deleveraging": Outcome("the regime becomes deleveraging or capitulation", ("regime",), lambda _rule, _cascade_h: 0.0),
    "pin": Outcome("an expiry within pin_em of the strike", ("strike_distance_em", "option_expiry_h"), lambda _rule, _cascade_h: 0.0),
}


# --- comparing --------------------------------------------------------------------------------------------------------------------


def _micro(x: Floats) -> Floats:
    """In steps of 1e-6."""
    found: Floats = np.rint(x * 1e6)
    return found


def _at_least(x: Floats, limit: float) -> Bools:
    found: Bools = _micro(x) >= round(limit * 1e6)
    return found


def _at_most(x: Floats, limit: float) -> Bools:
    found: Bools = _micro(x) <= round(limit * 1e6)
    return found


def _below(x: Floats, limit: float) -> Bools:
    found: Bools = _micro(x) < round(limit * 1e6)
    return found


def _ramp(x: Floats, low: float, high: float) -> Floats:
    """0 at low, 1 at high, straight between, NaN where x is."""
    found: Floats = np.minimum(np.maximum((x - low) / (high - low), 0.0), 1.0)
    return found


def _known(*inputs: Floats) -> Bools:
    found = np.isfinite(inputs[0])
    for one in inputs[1:]:
        found = found & np.isfinite(one)
    return found


def _sized(x: Floats, low: float, high: float) -> Reading:
    """|x| at least `low`; the side is that of x."""
    return Reading(x, low, _at_least(np.abs(x), low), np.sign(x), _ramp(np.abs(x), low, high))


def _plain(x: Floats, low: float, high: float) -> Reading:
    """Raised where x is at least `low`; no side."""
    return Reading(x, low, _at_least(x, low), np.zeros_like(x), _ramp(x, low, high))


# --- conditions -------------------------------------------------------------------------------------------------------------------


def _crowded(read: Read, rule: EventRule) -> Reading:
    score, level = read("carry_score"), read("level_p")
    size = np.abs(score)
    raised = _at_least(level, rule.crowded_level_p) & _at_least(size, rule.extreme_score)
    severity = (_ramp(level, rule.crowded_level_p, 1.0) + _ramp(size, rule.extreme_score, 1.0)) / 2.0
    return Reading(np.where(np.isfinite(level), score, np.nan), rule.extreme_score, raised, np.sign(score), severity)


def _funding_extreme(read: Read, rule: EventRule) -> Reading:
    return _sized(read("funding_held"), rule.extreme_score, 1.0)


def _divergence(read: Read, rule: EventRule) -> Reading:
    sigma = read("sigma_d")
    move, change = read("return_24h") / np.where(sigma > 0.0, sigma, np.nan), read("oi_change_24h")
    apart = -np.sign(move) * change
    raised = _at_least(np.abs(move), rule.divergence_sigmas) & _at_least(apart, rule.divergence_oi_log)
    severity = _ramp(np.abs(move), rule.divergence_sigmas, rule.divergence_sigmas_full)
    return Reading(np.where(_known(change), move, np.nan), rule.divergence_sigmas, raised, np.sign(move), severity)


def _buildup(read: Read, rule: EventRule) -> Reading:
    growth, level, change = read("buildup_p"), read("level_p"), read("oi_change_168h")
    raised = _at_least(growth, rule.buildup_p) & _at_least(level, rule.buildup_level_p) & (_micro(change) > 0.0)
    return Reading(
        np.where(_known(level, change), growth, np.nan), rule.buildup_p, raised, np.zeros_like(growth), _ramp(growth, rule.buildup_p, 1.0)
    )


def _cluster(read: Read, rule: EventRule) -> Reading:
    away = read("liquidation_distance_sigma")
    size = np.abs(away)
    return Reading(away, rule.cluster_sigmas, _below(size, rule.cluster_sigmas), np.sign(away), 1.0 - _ramp(size, 0.0, rule.cluster_sigmas))


def _magnet(read: Read, rule: EventRule) -> Reading:
    away, left_h = read("strike_distance_em"), read("option_expiry_h")
    size = np.abs(away)
    raised = _below(size, rule.strike_em) & _below(left_h, rule.strike_expiry_h) & (_micro(left_h) > 0.0)
    return Reading(np.where(_known(left_h), away, np.nan), rule.strike_em, raised, np.sign(away), 1.0 - _ramp(size, 0.0, rule.strike_em))


def _short_gamma(read: Read, rule: EventRule) -> Reading:
    flow = read("gamma_flow_usd")
    found = _plain(-flow, rule.short_gamma_usd, rule.short_gamma_full_usd)
    return Reading(flow, -rule.short_gamma_usd, found.raised, found.side, found.severity)


def _ongoing(read: Read, _rule: EventRule) -> Reading:
    state, stress = read("cascade_state"), read("x")
    severity = np.where(np.isfinite(stress), _ramp(stress, 0.0, 100.0), 1.0)
    return Reading(state, 1.0, _at_least(np.abs(state), 1.0), np.sign(state), severity)


def _complete(read: Read, _rule: EventRule) -> Reading:
    now, before = read("regime"), read("regime_before")
    raised = (now == RECOVERY) & np.isin(before, DELEVERAGING)
    severity = np.where(before == DELEVERAGING[0], 1.0, 0.5)
    return Reading(np.where(_known(before), now, np.nan), float(RECOVERY), raised, np.zeros_like(now), severity)


def _depeg(read: Read, rule: EventRule) -> Reading:
    return _sized(read("peg_log"), rule.depeg_log, rule.depeg_full_log)


def _redemption(read: Read, rule: EventRule) -> Reading:
    growth = read("supply_growth_7d")
    found = _plain(-growth, rule.redemption_log, rule.redemption_full_log)
    return Reading(growth, -rule.redemption_log, found.raised, np.full_like(growth, -1.0), found.severity)


def _venues(read: Read, rule: EventRule) -> Reading:
    return _plain(read("funding_dispersion_p"), rule.venue_dispersion_p, 1.0)


def _conflict(read: Read, rule: EventRule) -> Reading:
    total, off = read("contributions_abs"), np.abs(read("s") - 50.0)
    raised = _at_least(total, rule.conflict_sum) & _at_most(off, rule.conflict_band)
    severity = _ramp(total, rule.conflict_sum, rule.conflict_sum_full)
    return Reading(np.where(_known(off), total, np.nan), rule.conflict_sum, raised, np.zeros_like(total), severity)


def _disagreement(read: Read, rule: EventRule) -> Reading:
    return _plain(read("source_disagreement"), rule.disagreement, rule.disagreement_full)


def _degraded(read: Read, rule: EventRule) -> Reading:
    worst: Floats = np.fmin(read("coverage") / rule.coverage_below, read("confidence") / rule.confidence_below)
    return Reading(worst, 1.0, _below(worst, 1.0), np.zeros_like(worst), 1.0 - _ramp(worst, 0.0, 1.0))


def _methodology(read: Read, _rule: EventRule) -> Reading:
    change = read("epoch_change")
    return Reading(change, 0.0, np.isfinite(change) & (change != 0.0), np.zeros_like(change), np.ones_like(change))


# --- the table --------------------------------------------------------------------------------------------------------------------

_CARRY: Final = "the crowd's: +1 longs pay, -1 shorts pay"

EVENT_TYPES: Final = (
    EventType(
        "CROWDED_LEVERAGE",
        "leverage is high against its own past and one side pays for it",
        _CARRY,
        ("level_p", "carry_score"),
        _crowded,
        "cascade",
        Counts.AGAINST,
    ),
    EventType(
        "FUNDING_EXTREME",
        "funding was extreme on one side in most of the last settlements",
        _CARRY,
        ("carry_score", "settled"),
        _funding_extreme,
        "jump",
        Counts.AGAINST,
    ),
    EventType(
        "OI_PRICE_DIVERGENCE",
        "price moved while open interest went the other way",
        "the price's",
        ("return_24h", "sigma_d", "oi_change_24h"),
        _divergence,
        "jump",
        Counts.AGAINST,
    ),
    EventType(
        "LEVERAGE_BUILDUP",
        "open interest grows faster than it mostly did, from a high level",
        "none",
        ("buildup_p", "level_p", "oi_change_168h"),
        _buildup,
        "deleveraging",
    ),
    EventType(
        "LIQ_CLUSTER_NEAR",
        "a cluster of modelled liquidation levels is near",
        "where it lies: +1 above (shorts), -1 below (longs)",
        ("liquidation_distance_sigma",),
        _cluster,
        "cascade",
        Counts.SAME,
    ),
    EventType(
        "STRIKE_MAGNET",
        "the strike with most open interest is near and expires soon",
        "where it lies: +1 above, -1 below",
        ("strike_distance_em", "option_expiry_h"),
        _magnet,
        "pin",
    ),
    EventType(
        "SHORT_GAMMA",
        "dealers are short gamma under sign assumption A3: their hedging amplifies moves",
        "none",
        ("gamma_flow_usd",),
        _short_gamma,
        "jump",
    ),
    EventType(
        "CASCADE_ONGOING",
        "a cascade is going on: liquidations, price and open interest all say so",
        "the move's: -1 down-cascade, +1 squeeze",
        ("cascade_state", "x"),
        _ongoing,
        "cascade",
        Counts.SAME,
        detects=True,
    ),
    EventType("DELEVERAGING_COMPLETE", "an exit of leverage is over", "none", ("regime",), _complete, "swing", Counts.UP),
    EventType(
        "STABLE_DEPEG", "the stablecoin behind the contracts left its peg", "+1 above a dollar, -1 below", ("peg_log",), _depeg, "jump"
    ),
    EventType("STABLE_REDEMPTION", "stablecoins are being redeemed", "-1: out of stablecoins", ("supply_growth_7d",), _redemption, "swing"),
    EventType(
        "VENUE_DIVERGENCE", "venues disagree about funding more than they mostly do", "none", ("funding_dispersion_p",), _venues, "jump"
    ),
    EventType("SIGNAL_CONFLICT", "families pull hard and against each other", "none", ("contributions_abs", "s"), _conflict, "jump"),
    EventType("SOURCE_DISAGREEMENT", "sources differ by more than their tolerance", "none", ("source_disagreement",), _disagreement),
    EventType("DATA_DEGRADED", "coverage or confidence is below what a full status needs", "none", ("coverage", "confidence"), _degraded),
    EventType(
        "METHODOLOGY", "the method changed: values before and after are not the same series", "none", ("epoch_change",), _methodology
    ),
)

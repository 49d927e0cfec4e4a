"""The numbers of the method, in one place: every constant, weight, sign, window, anchor, floor and date that a published value depends on.

`Spec.sha256` stands on every published row. A change here is a methodology event: it needs a new `index_version`.
Source of the values: METHODOLOGY 2-4 unless a line says otherwise; values marked [C] there are starting values, not calibrated.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from fractions import Fraction
from functools import cached_property
from typing import Final, Literal

from transforms.windows import CADENCES

Norm = Literal["centred", "anchored"]

#: First day the version covers: one epoch, one set of constituents. A bar before it has no defined weights.
EPOCH_START: Final = date(2017, 1, 1)
#: Weights are multiples of one part in this.
_QUANTA: Final = 2**40


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """Strictly-past, exponentially weighted mid-rank ECDF (METHODOLOGY 3.1)."""

    window_d: float = 730.0
    half_life_d: float = 180.0
    #: below this much reference history (samples x their step) there is no score
    min_history_d: float = 30.0
    #: below this effective history ((sum w)^2 / sum w^2) a score is flagged as warming
    warm_d: float = 90.0


@dataclass(frozen=True, slots=True)
class StaleRule:
    """A feature without fresh input: its last score is held, then halved, then forgotten (METHODOLOGY 3.3)."""

    grace_h: float
    half_life_h: float
    #: factor 0 after this many half-lives, so that look-back is finite
    cut_half_lives: float = 8.0

    @property
    def horizon_h(self) -> float:
        """Hours after which a held score counts for nothing."""
        return self.grace_h + self.cut_half_lives * self.half_life_h


@dataclass(frozen=True, slots=True)
class Use:
    """A feature at one cadence. It is fresh while its newest input is younger than `fresh_h` at as_of."""

    feature: str
    fresh_h: float


@dataclass(frozen=True, slots=True)
class CadenceRule:
    """What differs between the hourly and the daily index: sources, tolerated ages, features. Never a formula."""

    name: str
    source: str
    supply_source: str
    #: a level (open interest, price, ratio) is carried forward up to this age; older: the instrument has left
    carry_h: float
    #: every how many hours a past value enters the reference sample
    reference_step_h: float
    stale: StaleRule
    #: does a missing funding interval follow from the distance to the settlement before? Not where a row is one of several settlements
    infer_interval: bool
    #: feature behind FU.6: the realised sum where all settlements are held, else the last settlement annualised
    funding_feature: str
    uses: tuple[Use, ...]

    @property
    def step(self) -> timedelta:
        """Step of the grid."""
        return CADENCES[self.name]

    @property
    def step_h(self) -> float:
        """Step of the grid in hours."""
        return self.step / timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class FeatureRule:
    """Windows and gates of the features (METHODOLOGY 2); spans of time, never row counts."""

    #: share of the steps in a window that must be known, for sums over the window
    min_coverage: float = 0.9
    oi_change_h: tuple[float, ...] = (24.0, 168.0)
    oi_drawdown_d: float = 90.0
    funding_window_h: float = 24.0
    #: hours between settlements that Binance declares; any other distance means that a settlement is missing
    funding_intervals_h: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    terms_age_d: float = 30.0
    #: (effective from, rate p.a.): contractual interest component, 0.01 % per 8 h (FU.6)
    funding_anchors: tuple[tuple[date, float], ...] = ((EPOCH_START, 0.1095),)
    taker_half_life_h: float = 8.0
    ema_cut_half_lives: float = 8.0
    #: share of the kernel's weight that must be known
    ema_min_weight: float = 0.5
    liquidation_window_h: float = 24.0
    #: below this volume an imbalance says nothing [C]
    liquidation_gate_usd: float = 10_000.0
    supply_growth_d: tuple[float, ...] = (7.0, 30.0)
    #: oldest supply still read, and how far before the asked day the base of a growth rate may lie
    supply_age_h: float = 96.0
    supply_base_tolerance_h: float = 24.0
    momentum_d: tuple[float, ...] = (7.0, 30.0, 90.0)
    sigma_d: float = 30.0
    conviction_h: float = 24.0
    #: an asset takes part in a bar when any of its rows is younger than this (used where no assets are named)
    presence_d: float = 30.0


@dataclass(frozen=True, slots=True)
class Family:
    """A family of the sentiment index and its share."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class Constituent:
    """One input of S: the scored feature, its orientation and its share within the family.

    `floor` is the economic tick of an anchored score: a smaller distance from the anchor is scaled down (0: no floor).
    `effective_from` by cadence; None = declared but structurally absent in this epoch.
    """

    feature: str
    family: str
    within: float
    sign: Literal[1, -1]
    norm: Norm
    floor: float
    effective_from: tuple[tuple[str, date | None], ...]


@dataclass(frozen=True, slots=True)
class ConfidenceRule:
    """conf = cov^a fresh^b agree^c hist^d and what follows from it (METHODOLOGY 3.5, 4.5)."""

    coverage_power: float = 0.35
    freshness_power: float = 0.25
    agreement_power: float = 0.25
    history_power: float = 0.15
    #: one venue: agreement cannot be measured
    agreement_unmeasured: float = 0.5
    reference_oi_d: float = 30.0
    indicative_below: float = 0.5
    withheld_below: float = 0.3
    coverage_indicative_below: float = 0.6
    coverage_withheld_below: float = 0.3
    min_venues: int = 2


@dataclass(frozen=True)
class Spec:
    """One version of the method."""

    index_version: str
    publication_delay_min: float
    score: ScoreRule
    features: FeatureRule
    cadences: tuple[CadenceRule, ...]
    families: tuple[Family, ...]
    constituents: tuple[Constituent, ...]
    confidence: ConfidenceRule
    #: families left out of the price-free index s_ex
    priced_families: tuple[str, ...] = ("trend", "conviction")
    #: upper edges of extreme fear and fear, lower edges of greed and extreme greed
    band_edges: tuple[float, float, float, float] = (25.0, 45.0, 55.0, 75.0)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the canonical JSON of all of it."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), default=date.isoformat)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def publication_delay(self) -> timedelta:
        """A bar is published this long after its end and may use what is known by then."""
        return timedelta(minutes=self.publication_delay_min)

    def cadence(self, name: str) -> CadenceRule:
        """Rules of one cadence; an unknown name raises KeyError."""
        for rule in self.cadences:
            if rule.name == name:
                return rule
        raise KeyError(f"found cadence {name!r}; the spec has {', '.join(rule.name for rule in self.cadences)}")

    def active(self, cadence: str) -> tuple[Constituent, ...]:
        """Constituents present in this epoch at that cadence, by feature name."""
        found = [c for c in self.constituents if dict(c.effective_from).get(cadence) is not None]
        return tuple(sorted(found, key=lambda c: c.feature))

    def weights(self, cadence: str) -> dict[str, float]:
        """Weight in S by feature: family share x share within, both renormalised once over what this epoch has.

        Multiples of 2^-40 that add up to 1 exactly (largest remainder), so that rounding can never carry S out of [0, 100].
        They never depend on which inputs happen to be missing.
        """
        active = self.active(cadence)
        within: dict[str, Fraction] = {}
        for one in active:
            within[one.family] = within.get(one.family, Fraction(0)) + Fraction(str(one.within))
        family = {f.name: Fraction(str(f.weight)) for f in self.families if f.name in within}
        total = sum(family.values(), Fraction(0))
        exact = {c.feature: family[c.family] / total * Fraction(str(c.within)) / within[c.family] * _QUANTA for c in active}
        quanta = {feature: int(share) for feature, share in exact.items()}
        for feature in sorted(exact, key=lambda name: (quanta[name] - exact[name], name))[: _QUANTA - sum(quanta.values())]:
            quanta[feature] += 1
        return {feature: count / _QUANTA for feature, count in quanta.items()}


_BOTH: Final = (("1h", EPOCH_START), ("1d", EPOCH_START))
_HOURLY: Final = (("1h", EPOCH_START), ("1d", None))
_DAILY: Final = (("1h", None), ("1d", EPOCH_START))
_ABSENT: Final = (("1h", None), ("1d", None))


def _uses(fresh_h: float, *features: str) -> tuple[Use, ...]:
    return tuple(Use(feature, fresh_h) for feature in features)


_MARKET: Final = (
    "conviction",
    "long_short_accounts_log",
    "momentum",
    "momentum_7d",
    "momentum_30d",
    "momentum_90d",
    "oi_change_24h",
    "oi_change_168h",
    "oi_drawdown_90d",
    "oi_link",
    "oi_usd",
    "realised_volatility_30d",
    "sigma_h",
    "taker_imbalance_8h",
)
#: A day's supply is known a day later, so on the daily grid it is 24 h old, on the hourly one 24-47 h.
_SUPPLY: Final = _uses(48.0, "stablecoin_growth_7d", "stablecoin_growth_30d")

SPEC: Final = Spec(
    index_version="0.1.0",
    publication_delay_min=10.0,
    score=ScoreRule(),
    features=FeatureRule(),
    cadences=(
        CadenceRule(
            name="1h",
            source="binance",
            supply_source="defillama",
            carry_h=6.0,
            reference_step_h=4.0,
            stale=StaleRule(grace_h=3.0, half_life_h=12.0),
            infer_interval=True,
            funding_feature="funding_realised_annual",
            uses=(
                *_uses(1.0, *_MARKET, "long_short_top_positions_log", "realised_volatility_24h"),
                *_uses(8.0, "funding_last_annual", "funding_realised_annual", "funding_excess_annual"),
                *_SUPPLY,
            ),
        ),
        # Daily constants: one missing day is carried (and its whole change booked on return), two mean exit and re-entry without a
        # link; a score is held for one bar, then halved every bar.
        CadenceRule(
            name="1d",
            source="coinalyze",
            supply_source="defillama",
            carry_h=24.0,
            reference_step_h=24.0,
            stale=StaleRule(grace_h=24.0, half_life_h=24.0),
            infer_interval=False,
            funding_feature="funding_last_annual",
            uses=(
                *_uses(24.0, *_MARKET, "liquidation_intensity_h", "liquidation_imbalance_24h"),
                *_uses(24.0, "funding_last_annual", "funding_excess_annual"),
                *_SUPPLY,
            ),
        ),
    ),
    families=(
        Family("carry", 0.25),
        Family("trend", 0.15),
        Family("options", 0.15),
        Family("flow", 0.15),
        Family("positioning", 0.10),
        Family("stablecoin", 0.10),
        Family("conviction", 0.10),
    ),
    constituents=(
        Constituent("premium_excess_annual", "carry", 0.5, 1, "anchored", 0.02, _ABSENT),
        Constituent("funding_excess_annual", "carry", 0.3, 1, "anchored", 0.02, _BOTH),
        Constituent("basis_excess_annual", "carry", 0.2, 1, "anchored", 0.01, _ABSENT),
        Constituent("momentum", "trend", 1.0, 1, "anchored", 0.0, _BOTH),
        Constituent("risk_reversal_25d", "options", 0.6, 1, "centred", 0.0, _ABSENT),
        Constituent("volatility_term_slope", "options", 0.2, 1, "centred", 0.0, _ABSENT),
        Constituent("call_put_volume_log", "options", 0.2, 1, "centred", 0.0, _ABSENT),
        Constituent("taker_imbalance_8h", "flow", 0.7, 1, "anchored", 0.005, _BOTH),
        Constituent("liquidation_imbalance_24h", "flow", 0.3, -1, "anchored", 0.0, _DAILY),
        Constituent("long_short_accounts_log", "positioning", 0.5, 1, "centred", 0.0, _BOTH),
        Constituent("long_short_top_positions_log", "positioning", 0.5, 1, "centred", 0.0, _HOURLY),
        Constituent("stablecoin_growth_30d", "stablecoin", 0.6, 1, "centred", 0.0, _BOTH),
        Constituent("stablecoin_netflow_share", "stablecoin", 0.2, 1, "anchored", 0.0, _ABSENT),
        Constituent("stablecoin_peg_discount_log", "stablecoin", 0.2, -1, "anchored", 0.0, _ABSENT),
        Constituent("conviction", "conviction", 1.0, 1, "anchored", 0.0, _BOTH),
    ),
    confidence=ConfidenceRule(),
)

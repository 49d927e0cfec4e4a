"""The shapes of the specification: one frozen dataclass per part of the method, with METHODOLOGY's starting values as defaults.

Values live in transforms/spec.py. `[C]` marks constants that are calibrated (docs/calibration.md says how); every field is in the hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

from transforms.rules_index import (
    CascadeRule,
    CohortRule,
    EventRule,
    MarketRule,
    OptionRule,
    ProbabilityRule,
    RegimeRule,
    RiskRule,
    SchemeRule,
)
from transforms.windows import CADENCES

__all__ = [
    "EPOCH_START",
    "CadenceRule",
    "CascadeRule",
    "CohortRule",
    "Component",
    "ConfidenceRule",
    "Constituent",
    "EventRule",
    "Family",
    "FeatureRule",
    "MarketRule",
    "Norm",
    "OptionRule",
    "OutlierRule",
    "Part",
    "ProbabilityRule",
    "RegimeRule",
    "RiskRule",
    "SchemeRule",
    "ScoreRule",
    "StaleRule",
    "Use",
]

Norm = Literal["centred", "anchored"]

#: First day the version covers: one epoch, one set of constituents. A bar before it has no defined weights.
EPOCH_START: Final = date(2017, 1, 1)


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """Against its own strictly past history (METHODOLOGY 3.1): a weighted mid-rank ECDF, or the robust z as the alternative."""

    method: Literal["ecdf", "robust_z"] = "ecdf"
    window_d: float = 730.0
    half_life_d: float = 180.0
    #: below this much reference history (samples x their step) there is no score
    min_history_d: float = 30.0
    #: below this effective history ((sum w)^2 / sum w^2) a score is flagged as warming
    warm_d: float = 90.0
    #: robust z: limit of z before it becomes a score
    z_limit: float = 5.0


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
    """A feature at one cadence. It is fresh while its newest input is younger than `fresh_h` at as_of.

    `sparse`: its source keeps no history, so it is published only where there is a value.
    """

    feature: str
    fresh_h: float
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class CadenceRule:
    """What differs between the hourly and the daily index: sources, tolerated ages, features. Never a formula."""

    name: str
    #: official voices only, the leading one first: the index exists from its first day on. An aggregator never stands beside a venue
    sources: tuple[str, ...]
    #: a second path to what the sources say: compared with them (transforms/agreement.py), in no value
    checks: tuple[str, ...]
    supply_source: str
    option_source: str
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
    #: publish the cohort book's ladder at day ends
    ladder: bool = False

    @property
    def voices(self) -> tuple[str, ...]:
        """All sources the cadence reads."""
        return tuple(dict.fromkeys((*self.sources, *self.checks, self.supply_source, self.option_source)))

    @property
    def step(self) -> timedelta:
        """Step of the grid."""
        return CADENCES[self.name]

    @property
    def step_h(self) -> float:
        """Step of the grid in hours."""
        return self.step / timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AgreementRule:
    """Tolerances of the comparison between sources (METHODOLOGY 3.5)."""

    open_interest: float = 0.02
    #: absolute; settlements are exact
    funding: float = 1e-8
    price: float = 0.001
    #: a contract's price against the median of the asset's contracts; venues quote in USD, USDT and USDC [C]
    venue_price: float = 0.02
    #: a comparison counts this long
    max_age_h: float = 36.0
    #: an aggregator's daily funding is the venue's last settlement before the day's end, at most so long before
    settlement_reach_h: float = 9.0

    def tolerance(self, quantity: str) -> float:
        """Tolerance of a quantity of transforms/agreement.py."""
        return {"open_interest": self.open_interest, "funding": self.funding, "price": self.price, "venue_price": self.venue_price}[
            quantity
        ]


@dataclass(frozen=True, slots=True)
class FeatureRule:
    """Windows and gates of the features (METHODOLOGY 2); spans of time, never row counts."""

    #: share of the steps in a window that must be known, for sums over the window
    min_coverage: float = 0.9
    oi_change_h: tuple[float, ...] = (1.0, 24.0, 168.0, 720.0)
    oi_drawdown_d: float = 90.0
    #: window of the level of open interest: ECDF(ln Q, 180 d)
    oi_level_d: float = 180.0
    funding_window_h: float = 24.0
    premium_half_life_h: float = 8.0
    #: averages over venues (3.4): no venue weighs more than this (where there are enough of them), and one that comes or goes does so over 7 d
    venue_cap: float = 0.4
    venue_ramp_d: float = 7.0
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
    intensity_half_life_h: float = 3.0
    #: contracts traded in a bar must cover the change of open interest in it (OI.13): share of bars over 30 d that may break it
    oi_violation_d: float = 30.0
    oi_violation_limit: float = 0.05
    supply_growth_d: tuple[float, ...] = (7.0, 30.0)
    #: oldest supply still read, and how far before the asked day the base of a growth rate may lie
    supply_age_h: float = 96.0
    supply_base_tolerance_h: float = 24.0
    momentum_d: tuple[float, ...] = (7.0, 30.0, 90.0)
    sigma_d: float = 30.0
    distance_d: float = 200.0
    conviction_h: float = 24.0
    #: an asset takes part in a bar when any of its rows is younger than this (used where no assets are named)
    presence_d: float = 30.0


@dataclass(frozen=True, slots=True)
class OutlierRule:
    """Causal gate before any feature (METHODOLOGY 3.2): |x - median_24h| > 12 MAD_30d without support is set aside.

    Support: another instrument of the asset leaves its own band on the same side within `support_h`. An asset told by one instrument has no
    witness: its value is used and flagged. `ticks`: smallest MAD by input, in its unit (log for open interest and price).
    """

    median_h: float = 24.0
    mad_d: float = 30.0
    limit: float = 12.0
    support_h: float = 2.0
    #: share of the 30 days that must be known
    min_coverage: float = 0.5
    open_interest_tick: float = 0.01
    price_tick: float = 0.005
    funding_tick: float = 0.02


@dataclass(frozen=True, slots=True)
class Part:
    """One input of a component of F or X: the percentile of a feature in its own strictly past history, in [0, 1].

    `centred`: rank of the value, of its negative where `sign` is -1. `magnitude`: rank of the size of what is signed. `score`: the size of
    the carry family's score. `window_d`: reference window where it is not the spec's own.
    """

    feature: str
    component: str
    within: float
    sign: Literal[1, -1]
    norm: Literal["centred", "magnitude", "score"]
    effective_from: tuple[tuple[str, date | None], ...]
    window_d: float | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """A component of F or X: the mean of its parts, the largest of them, or the product of two other components (4.3, 4.4)."""

    name: str
    weight: float
    combine: Literal["mean", "max", "product"] = "mean"
    factors: tuple[str, ...] = ()


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
    #: agreement is multiplied by this where sources differ by more than their tolerance [C]
    agreement_breach: float = 0.8
    #: dispersion at or above this quantile of its past is no agreement
    dispersion_quantile: float = 0.95
    reference_oi_d: float = 30.0
    indicative_below: float = 0.5
    withheld_below: float = 0.3
    coverage_indicative_below: float = 0.6
    coverage_withheld_below: float = 0.3
    min_venues: int = 2

"""The numbers of the method, in one place: every constant, weight, sign, window, anchor, floor and date that a published value depends on.

`Spec.sha256` stands on every published row. A change here is a methodology event: it needs a new `index_version`.
Source of the values: METHODOLOGY 2-4 unless a line says otherwise; values marked [C] there are starting values, not calibrated.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from functools import cached_property
from typing import Final

from transforms.rules import (
    EPOCH_START,
    AgreementRule,
    CadenceRule,
    CascadeRule,
    CohortRule,
    Component,
    ConfidenceRule,
    Constituent,
    EventRule,
    Family,
    FeatureRule,
    MarketRule,
    OptionRule,
    OutlierRule,
    Part,
    ProbabilityRule,
    RegimeRule,
    RiskRule,
    SchemeRule,
    ScoreRule,
    StaleRule,
    Use,
)

__all__ = ["EPOCH_START", "SPEC", "Spec"]

#: Weights are multiples of one part in this.
_QUANTA: Final = 2**40


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
    fragility: tuple[Component, ...]
    fragility_parts: tuple[Part, ...]
    stress: tuple[Component, ...]
    stress_parts: tuple[Part, ...]
    confidence: ConfidenceRule
    outliers: OutlierRule = field(default_factory=OutlierRule)
    agreement: AgreementRule = field(default_factory=AgreementRule)
    cohorts: CohortRule = field(default_factory=CohortRule)
    options: OptionRule = field(default_factory=OptionRule)
    regimes: RegimeRule = field(default_factory=RegimeRule)
    risk: RiskRule = field(default_factory=RiskRule)
    events: EventRule = field(default_factory=EventRule)
    cascades: CascadeRule = field(default_factory=CascadeRule)
    probability: ProbabilityRule = field(default_factory=ProbabilityRule)
    schemes: SchemeRule = field(default_factory=SchemeRule)
    market: MarketRule = field(default_factory=MarketRule)
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
        return _exactly({c.feature: family[c.family] * Fraction(str(c.within)) / within[c.family] for c in active})

    def family_weights(self, cadence: str) -> dict[str, float]:
        """Weight of each family present at that cadence, adding up to 1 exactly, in the order of `families`."""
        present = {c.family for c in self.active(cadence)}
        return _exactly({f.name: Fraction(str(f.weight)) for f in self.families if f.name in present})

    def parts(self, index: str, cadence: str) -> tuple[Part, ...]:
        """Parts of `F` or `X` present in this epoch at that cadence, in declared order."""
        parts = self.fragility_parts if index == "F" else self.stress_parts
        return tuple(part for part in parts if dict(part.effective_from).get(cadence) is not None)

    def components(self, index: str, cadence: str) -> dict[Component, float]:
        """Components of `F` or `X` that have a part at that cadence (a product: both factors), with weights that add up to 1 exactly."""
        held = {part.component for part in self.parts(index, cadence)}
        found = [
            one
            for one in (self.fragility if index == "F" else self.stress)
            if one.name in held or (one.factors and held >= set(one.factors))
        ]
        weights = _exactly({one.name: Fraction(str(one.weight)) for one in found})
        return {one: weights[one.name] for one in found}


def _exactly(shares: dict[str, Fraction]) -> dict[str, float]:
    """Shares scaled to multiples of 2^-40 that add up to 1 exactly: largest remainder, ties by name."""
    total = sum(shares.values(), Fraction(0))
    exact = {name: share / total * _QUANTA for name, share in shares.items()}
    quanta = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: (quanta[name] - exact[name], name))[: _QUANTA - sum(quanta.values())]:
        quanta[name] += 1
    return {name: count / _QUANTA for name, count in quanta.items()}


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
    "oi_change_720h",
    "oi_composition_24h",
    "oi_drawdown_90d",
    "oi_level_180d",
    "oi_link",
    "oi_quality",
    "oi_thinness",
    "oi_usd",
    "oi_usd_change_24h",
    "oi_venue_concentration",
    "price_distance_200d",
    "realised_volatility_30d",
    "return_24h",
    "sigma_h",
    "source_disagreement",
    "taker_imbalance_8h",
    "volatility_surprise",
)
#: A day's supply is known a day later, so on the daily grid it is 24 h old, on the hourly one 24-47 h.
_SUPPLY: Final = _uses(48.0, "stablecoin_growth_7d", "stablecoin_growth_30d", "stablecoin_issuance_usd_24h")

#: Chains are told only as of now; DVOL has a history. In no index of this version: their constituents have no effective date yet.
_OPTIONS: Final = tuple(
    Use(feature, 6.0, sparse=True)
    for feature in (
        "butterfly_25d",
        "call_put_oi_log",
        "call_put_volume_log",
        "dvol",
        "dvol_gap",
        "effective_strikes",
        "expected_move_usd",
        "gamma_1pct_equity_usd",
        "gamma_1pct_flow_usd",
        "gamma_1pct_short_usd",
        "gamma_concentration",
        "implied_volatility_7d",
        "implied_volatility_30d",
        "implied_volatility_90d",
        "max_pain_coin_usd",
        "max_pain_usd",
        "option_expiry_h",
        "risk_reversal_25d",
        "strike_concentration_7d",
        "strike_distance_em",
        "strike_hhi",
        "variance_premium_30d",
        "vix_style_volatility_30d",
        "volatility_term_slope",
    )
)

SPEC: Final = Spec(
    index_version="0.3.0",
    publication_delay_min=10.0,
    score=ScoreRule(),
    features=FeatureRule(),
    cadences=(
        CadenceRule(
            name="1h",
            # the others on the roster are in shadow (3.4): asked, stored, compared, not yet in the numbers
            sources=("binance", "bybit", "okx", "hyperliquid"),
            checks=("coinalyze",),
            supply_source="defillama",
            option_source="deribit",
            carry_h=6.0,
            reference_step_h=4.0,
            stale=StaleRule(grace_h=3.0, half_life_h=12.0),
            infer_interval=True,
            funding_feature="funding_realised_annual",
            uses=(
                *_uses(
                    1.0,
                    *_MARKET,
                    "large_against_crowd_log",
                    "long_short_top_accounts_log",
                    "long_short_top_positions_log",
                    "premium_excess_annual",
                    "realised_volatility_24h",
                ),
                *_uses(8.0, "funding_last_annual", "funding_realised_annual", "funding_excess_annual", "funding_dispersion_annual"),
                *_SUPPLY,
                *_OPTIONS,
            ),
            ladder=True,
        ),
        # Daily constants: one missing day is carried (and its whole change booked on return), two mean exit and re-entry without a
        # link; a score is held for one bar, then halved every bar.
        CadenceRule(
            name="1d",
            sources=("coinalyze",),
            checks=("binance",),
            supply_source="defillama",
            option_source="deribit",
            carry_h=24.0,
            reference_step_h=24.0,
            stale=StaleRule(grace_h=24.0, half_life_h=24.0),
            infer_interval=False,
            funding_feature="funding_last_annual",
            uses=(
                *_uses(
                    24.0,
                    *_MARKET,
                    "forced_share_24h",
                    "liquidation_imbalance_24h",
                    "liquidation_intensity_3h",
                    "liquidation_intensity_h",
                ),
                *_uses(24.0, "funding_last_annual", "funding_excess_annual", "funding_dispersion_annual"),
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
        Constituent("premium_excess_annual", "carry", 0.5, 1, "anchored", 0.02, _HOURLY),
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
    # METHODOLOGY 4.3. `latent_near_share` comes out of the cohort book, `carry_score` out of the carry family of S.
    fragility=(
        Component("leverage_level", 0.20),
        Component("build_up", 0.15),
        Component("crowding", 0.15),
        Component("latent_liquidation", 0.15),
        Component("thinness", 0.10),
        Component("options_convexity", 0.10),
        Component("concentration", 0.05, "max"),
        Component("interaction", 0.10, "product", ("leverage_level", "crowding")),
    ),
    fragility_parts=(
        Part("oi_leverage", "leverage_level", 0.5, 1, "centred", _ABSENT),
        Part("oi_level_180d", "leverage_level", 0.5, 1, "centred", _BOTH, window_d=180.0),
        Part("oi_change_168h", "build_up", 0.5, 1, "centred", _BOTH),
        Part("oi_change_720h", "build_up", 0.5, 1, "centred", _BOTH),
        Part("carry_score", "crowding", 1.0, 1, "score", _BOTH),
        Part("latent_near_share", "latent_liquidation", 1.0, 1, "centred", _BOTH),
        Part("oi_thinness", "thinness", 1.0, 1, "centred", _BOTH),
        Part("strike_concentration_7d", "options_convexity", 0.5, 1, "centred", _ABSENT),
        Part("variance_premium_30d", "options_convexity", 0.5, -1, "centred", _ABSENT),
        Part("oi_venue_concentration", "concentration", 1.0, 1, "centred", _BOTH),
        Part("stablecoin_peg_log", "concentration", 1.0, 1, "magnitude", _ABSENT),
    ),
    # METHODOLOGY 4.4
    stress=(
        Component("liquidation", 0.35),
        Component("deleveraging", 0.25),
        Component("volatility", 0.20),
        Component("term_structure", 0.10),
        Component("dispersion", 0.10),
    ),
    stress_parts=(
        Part("liquidation_intensity_3h", "liquidation", 1.0, 1, "centred", _DAILY),
        Part("oi_change_24h", "deleveraging", 1.0, -1, "centred", _BOTH),
        Part("volatility_surprise", "volatility", 1.0, 1, "centred", _BOTH),
        Part("volatility_term_slope", "term_structure", 1.0, -1, "centred", _ABSENT),
        Part("funding_dispersion_annual", "dispersion", 1.0, 1, "centred", _ABSENT),
    ),
    confidence=ConfidenceRule(),
    # Calibrated on 2022 (docs/calibration.md), beside the method's absolute thresholds.
    regimes=RegimeRule(deleveraging_oi_change_168h_p=0.05, buildup_oi_change_168h_p=0.95),
)

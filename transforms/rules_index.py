"""Rules of what stands on the scores: cohort book, regimes, events, cascades, estimated weights, market, options. `[C]`: see docs/calibration.md."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CohortRule:
    """Latent liquidation levels (LQ.8): a book of positions by liquidation price, and the test of its worth.

    Turnover and tier shares were fitted by transforms/index/cohort_fit.py on 66 Binance perpetuals, daily bars of 2022, pooled, and rounded.
    """

    leverages: tuple[float, ...] = (2.0, 3.0, 5.0, 10.0, 25.0, 50.0, 100.0)
    #: share of new positions per tier [C], fitted: effective leverage, lower than what traders choose. BitMEX reported a mean of 22 (longs)
    #: and 30 (shorts) for its perpetual in April 2019 (BitMEX blog, Leverage Statistics); daily bars miss what opens and dies within a day
    tier_shares: tuple[float, ...] = (0.12, 0.33, 0.31, 0.16, 0.07, 0.01, 0.0)
    #: of notional [C]; assumption: venues start between 0.4 and 1 % and raise it with the size of the position
    maintenance_share: float = 0.005
    #: share of new positions in inverse contracts [C]; assumption: the sources held are linear
    inverse_share: float = 0.0
    #: share of new positions that is never liquidated: hedged, or at 1x [C]; assumption: liquidations that never happen and liquidations
    #: that are not reported look alike, so no fit can tell it
    safe_share: float = 0.3
    #: part of the book that closes in an hour and is opened again at the new price [C], fitted
    turnover_per_h: float = 0.02
    #: width of a bin in log price
    bin_log: float = 0.0025
    #: bins per side that can be followed: 3 in log, a factor of 20
    window_bins: int = 1200
    #: k of LQ.9
    near_sigma: float = 1.0
    #: a bin is dense when its mass is at least this quantile of the bins within reach [C], set once per UTC day
    dense_quantile: float = 0.95
    #: how far from the price a dense bin is looked for, in daily sigmas [C]
    dense_reach_sigma: float = 10.0
    #: nothing is said while more than this share of the quantity has an unknown entry price [C]
    warm_share: float = 0.5
    #: what enters after standing still for longer has an unknown entry price [C]: one missing day is carried (3.3)
    gap_h: float = 48.0
    #: what is published of the ladder: levels this near the price, with at least this share of open interest
    ladder_reach_share: float = 0.25
    ladder_least_share: float = 0.0005
    #: candidates for the turnover, tried on data before the out-of-sample start
    fit_turnovers_per_h: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04, 0.08)
    #: refits at multiples of this many days since 1970
    fit_refit_d: float = 30.0
    #: bars x sides needed before the first fit [C]
    fit_least_bars: int = 200
    #: one-sided 5 %: below this t of its gain over the best naive map, the book has no measured skill
    fit_least_t: float = 1.645
    #: of the volume-at-price map [C]
    fit_profile_half_life_d: float = 30.0


@dataclass(frozen=True, slots=True)
class RegimeRule:
    """Regimes with hysteresis (METHODOLOGY 4.7). Which field meets which input: transforms/index/regimes.py, ENTER and LEAVE.

    A limit on open interest is a pair: the absolute value, and a percentile (`_p`, 0..1) of that value in its own trailing past. Both must
    be passed to enter; failing either is enough to leave. A percentile that everything passes (0 as a lower, 1 as an upper limit) is not
    asked at all, so it needs no history; an absolute 0 still asks for the sign. Every limit to leave is looser than the one to enter.
    """

    capitulation_x: float = 85.0  # [C]
    #: in daily standard deviations
    capitulation_return_sigmas: float = -2.0  # [C]
    #: changes of open interest are logs of quantity, here and below
    capitulation_oi_change_24h_log: float = -0.05  # [C]
    capitulation_flush_p: float = 0.0  # [C]
    capitulation_leave_x: float = 60.0  # [C]

    deleveraging_drawdown_share: float = 0.15  # [C]
    deleveraging_drawdown_p: float = 0.0  # [C]
    deleveraging_oi_change_168h_log: float = -0.08  # [C]
    #: upper limit: the fall is among the largest
    deleveraging_oi_change_168h_p: float = 1.0  # [C]
    deleveraging_leave_oi_change_168h_log: float = -0.02  # [C]
    deleveraging_leave_oi_change_168h_p: float = 1.0  # [C]

    euphoria_s: float = 75.0  # [C]
    euphoria_carry_score: float = 0.7  # [C]
    euphoria_level_p: float = 0.8  # [C]
    euphoria_leave_s: float = 65.0  # [C]
    euphoria_leave_carry_score: float = 0.4  # [C]

    buildup_oi_change_168h_log: float = 0.08  # [C]
    buildup_oi_change_168h_p: float = 0.0  # [C]
    buildup_level_p: float = 0.6  # [C]
    buildup_leave_oi_change_168h_log: float = 0.02  # [C]
    buildup_leave_oi_change_168h_p: float = 0.0  # [C]

    recovery_max_h: float = 168.0
    min_dwell_h: float = 12.0
    #: an asset of which nothing at all was known for longer has no regime; the next bar with any input starts it as neutral
    unknown_after_h: float = 72.0

    #: guard-rails of the calibration: shares of the bars that have a regime, and changes of one asset
    neutral_share: tuple[float, float] = (0.35, 0.65)
    capitulation_share: tuple[float, float] = (0.005, 0.03)
    euphoria_share: tuple[float, float] = (0.01, 0.08)
    other_max_share: float = 0.25
    max_changes_30d: float = 6.0


@dataclass(frozen=True, slots=True)
class RiskRule:
    """Risk state (METHODOLOGY 2.6, ST.7): weights add up to 1; entered at plus or minus `enter`, left inside plus or minus `leave`."""

    stablecoin_weight: float = 0.4
    trend_weight: float = 0.3
    calm_weight: float = 0.3
    enter: float = 0.2
    leave: float = 0.1
    #: a state is held this long without a value; then there is none
    unknown_after_h: float = 72.0


@dataclass(frozen=True, slots=True)
class EventRule:
    """Events and their track record (4.8). A threshold and the value at which severity reaches 1 (`..._full`) stand together.

    Cool-down and horizon are one span: a type speaks again for an asset and side only when its last word can be judged.
    """

    horizons_h: tuple[tuple[str, float], ...] = (
        ("CROWDED_LEVERAGE", 72.0),
        ("FUNDING_EXTREME", 72.0),
        ("OI_PRICE_DIVERGENCE", 72.0),
        ("LEVERAGE_BUILDUP", 336.0),
        ("LIQ_CLUSTER_NEAR", 24.0),
        ("STRIKE_MAGNET", 48.0),
        ("SHORT_GAMMA", 24.0),
        ("CASCADE_ONGOING", 24.0),
        ("DELEVERAGING_COMPLETE", 336.0),
        ("STABLE_DEPEG", 24.0),
        ("STABLE_REDEMPTION", 168.0),
        ("VENUE_DIVERGENCE", 24.0),
        ("SIGNAL_CONFLICT", 72.0),
        ("SOURCE_DISAGREEMENT", 24.0),
        ("DATA_DEGRADED", 24.0),
        ("METHODOLOGY", 1.0),
    )
    #: fewer judged events, onsets or control windows than this: no share is shown
    min_history: int = 10
    #: C34: level of leverage and size of the carry score
    crowded_level_p: float = 0.8
    extreme_score: float = 0.9
    #: FU.9: so many of the last `settlements` must be extreme
    settlements: int = 3
    extreme_settlements: int = 2
    #: OI.14: price moved by so many daily sigmas while open interest moved the other way by at least so much (log) [C]
    divergence_sigmas: float = 1.0
    divergence_sigmas_full: float = 4.0
    divergence_oi_log: float = 0.05
    #: 4.7's level, with growth beyond this percentile of itself [C]
    buildup_level_p: float = 0.6
    buildup_p: float = 0.9
    cluster_sigmas: float = 1.0
    strike_em: float = 0.5
    strike_expiry_h: float = 48.0
    #: pinned: in the last bar before expiry the strike lies within so many expected moves of the time left [C]
    pin_em: float = 1.0
    #: hedging flow per 1 % move under sign assumption A3 [C]
    short_gamma_usd: float = 50e6
    short_gamma_full_usd: float = 500e6
    #: |ln(price of the stablecoin in USD)| [C]
    depeg_log: float = 0.005
    depeg_full_log: float = 0.05
    #: supply shrank over 7 d by this much (log) [C]
    redemption_log: float = 0.01
    redemption_full_log: float = 0.05
    venue_dispersion_p: float = 0.95
    #: sum |c| and |S - 50|, index points [C]
    conflict_sum: float = 25.0
    conflict_sum_full: float = 45.0
    conflict_band: float = 5.0
    #: largest difference between sources in units of its own tolerance (3.5)
    disagreement: float = 1.0
    disagreement_full: float = 5.0
    #: 3.5 and 4.5: below either the status is indicative
    coverage_below: float = 0.6
    confidence_below: float = 0.5
    #: outcomes: |r| of so many daily sigmas within so many hours [C]
    jump_sigmas: float = 2.0
    jump_h: float = 24.0
    swing_sigmas: float = 4.0
    swing_h: float = 168.0

    def horizon_h(self, name: str) -> float:
        """Horizon of a type in hours; an unknown name raises KeyError."""
        return dict(self.horizons_h)[name]


@dataclass(frozen=True, slots=True)
class CascadeRule:
    """Cascade label (4.6) and the online detector (LQ.10).

    A bar longer than `window_h` (daily grid) stands for the window: its price threshold grows with the square root of time
    (1.2 -> 2.94 sigma_d for 24 h), the fall of open interest does not: an exit of leverage is no random walk.
    """

    window_h: float = 4.0
    #: price move in units of daily sigma [C]
    sigmas: float = 1.2
    #: fall of the quantity of open interest (log) [C]
    fall_log: float = 0.05
    #: starts of one asset, of either side, lie at least this far apart
    gap_h: float = 24.0
    #: detector: percentile of liquidation intensity in its epoch that opens a cascade, and the one it must stay below to end it
    detect_above_p: float = 0.99
    calm_below_p: float = 0.90
    detect_sigmas: float = 3.0
    #: fall of open interest in an hour [C]; on a bar longer than `window_h` the label's own
    detect_fall_log: float = 0.01
    #: so long below the lower percentile ends a cascade (at least one bar); so long without liquidation data forgets it
    calm_h: float = 3.0

    def window_bars(self, step_h: float) -> int:
        """Bars in the window of the label, at least one."""
        return max(1, round(self.window_h / step_h))

    def sigmas_at(self, step_h: float) -> float:
        """Price threshold of the label on a grid, in daily sigmas."""
        return self.sigmas * math.sqrt(max(1.0, step_h / self.window_h))

    def detect_fall_at(self, step_h: float) -> float:
        """Fall of open interest in one bar that the detector asks for, log."""
        return self.detect_fall_log if step_h <= self.window_h else self.fall_log


@dataclass(frozen=True, slots=True)
class ProbabilityRule:
    """Probability of a cascade within 24 h (4.3)."""

    horizon_h: float = 24.0
    #: a sample enters a fit at least this long after its forecast, and never before its label is known
    embargo_h: float = 24.0
    #: fits stand at multiples of this since 1970; spans below are whole multiples of it, rounded down (52 and 26)
    refit_d: float = 14.0
    window_d: float = 730.0
    #: span of past forecasts whose Brier skill decides whether the probability is shown
    validation_d: float = 365.0
    #: every how many hours a bar becomes a sample (at least one bar)
    sample_step_h: float = 4.0
    #: the regressor of the fit is F rounded to multiples of this, so that samples are counts
    f_step: float = 0.5
    #: cascades in the window for a fit; among the forecasts under validation for a skill
    min_events: int = 20
    min_validation_events: int = 10
    #: penalty ridge / 2 * slope^2, slope per 100 points of F: a normal prior with s.d. 10. Keeps the slope finite where samples separate
    ridge: float = 0.01

    @property
    def window_refits(self) -> int:
        """Whole refit spans in the window of a fit."""
        return int(self.window_d / self.refit_d)

    @property
    def validation_refits(self) -> int:
        """Whole refit spans under validation."""
        return int(self.validation_d / self.refit_d)

    @property
    def bins(self) -> int:
        """How many values the rounded F can take."""
        return round(100.0 / self.f_step) + 1


@dataclass(frozen=True, slots=True)
class SchemeRule:
    """Alternative weights of the families: erc, pca, ic (4.2), and the correlation behind the ciss alternative of F (4.3)."""

    #: every how many hours scores enter the correlations; a longer step of the grid takes its place
    reference_h: float = 4.0
    correlation_half_life_d: float = 180.0
    identity_shrink: float = 0.1
    #: below this much history (reference samples x their step, pairs of a day for ic) a scheme equals fixed [C]
    min_history_d: float = 180.0
    #: a family or component whose standard deviation is smaller does not vary: it has no correlation [C]
    min_deviation: float = 0.01
    lag_d: float = 1.0
    ramp_d: float = 7.0
    #: fixed, so that weights are the same bits everywhere; enough for 1e-12 where identity_shrink is 0.1
    erc_sweeps: int = 100
    pca_iterations: int = 1000
    pca_fixed_shrink: float = 0.5
    #: span of the return that ic asks about, and how long after its end a pair of score and return waits, in whole days
    ic_horizon_d: int = 7
    ic_embargo_d: int = 1
    #: lambda = T / (T + this)
    ic_shrink_d: float = 3000.0
    #: METHODOLOGY gives none; close to the decay of 0.93 a week of the CISS [C]
    ciss_half_life_d: float = 67.0
    #: below this much history of its own a component's correlations are unknown [C]
    ciss_min_history_d: float = 30.0


@dataclass(frozen=True, slots=True)
class MarketRule:
    """The market as a whole, MKT (4.1)."""

    #: METHODOLOGY 11.5: these first
    assets: tuple[str, ...] = ("BTC", "ETH")
    share_window_d: float = 30.0
    capped_asset: str = "BTC"
    cap_share: float = 0.6
    #: weight of the assets that have a value: below the first MKT is indicative, below the second it has no value (as 3.5 for open interest)
    indicative_below: float = 0.6
    min_known_weight: float = 0.3


@dataclass(frozen=True, slots=True)
class OptionRule:
    """Options features (2.5). A chain is read while it is no older than the cadence's `carry_h`."""

    #: whose chain is read: the first of these that shows one at the bar
    venues: tuple[str, ...] = ("deribit",)
    #: smiles and max pain are of one book, the first of these that is listed; open interest and volume are summed over all of them
    settlements: tuple[str, ...] = ("coin", "usd")
    #: closer to its expiry an option has open interest, but no smile, gamma or distance: they diverge
    min_left_h: float = 1.0
    #: the expiry that attracts: the largest open interest within this
    magnet_d: float = 35.0
    concentration_d: float = 7.0
    #: near the price: this many expected moves
    near_moves: float = 1.0
    short_d: float = 7.0
    middle_d: float = 30.0
    long_d: float = 90.0
    #: how far, as a share of the maturity, the outermost expiry may lie from a maturity outside the listed ones [C]
    maturity_tolerance: float = 0.1
    wing_delta: float = 0.25
    gamma_move: float = 0.01
    #: share of the open interest that must have a gamma, or a place on the smile, for sums over it [C]
    min_known: float = 0.9
    #: a strip of out-of-the-money prices needs so many strikes on each side, and must reach so many standard deviations [C]
    strip_strikes: int = 3
    strip_reach: float = 2.0
    #: options with a smaller delta do not enter the strip that is compared with DVOL [C]: over the 33 recorded BTC chains of April and May 2026
    #: DVOL lies 0.2 points below that strip on average and 2.9 below the whole one
    dvol_delta: float = 0.05

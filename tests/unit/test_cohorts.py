"""The cohort book by hand (METHODOLOGY 2.4, known answers 17-20 and 24) and the fit that tells what it is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import lsq_linear, nnls

from transforms.estimators import DAY_US, HOUR_US
from transforms.index import cohort_fit, cohorts
from transforms.rules import CohortRule

T0 = 19_500 * DAY_US
#: one tier, nothing safe, nothing turned over: every number can be worked out in the head
ONE = CohortRule(leverages=(10.0,), tier_shares=(1.0,), safe_share=0.0, turnover_per_h=0.0, warm_share=1.0)
BELOW, ABOVE = 0.9 / 0.995, 1.1 / 1.005


def run(close, quantity, *, rule=ONE, high=None, low=None, sigma=0.04, step_h=1.0, state=None, first=1):
    """One asset; None = unknown."""
    bars = len(close)

    def line(values):
        return np.array([[math.nan if value is None else value for value in (values or [None] * bars)]], dtype=float)

    when = T0 + np.arange(first, first + bars) * round(step_h * HOUR_US)
    state = cohorts.start(1, rule) if state is None else state
    return cohorts.run(line(close), line(high), line(low), line(quantity), np.full((1, bars), sigma), when, state, rule, step_h)


def mass(state, side):
    return float(state["book"][0, side].sum() * state["scale"][0, side])


# --- liquidation prices ---------------------------------------------------------------------------------------------------------


def test_17_linear_long():
    assert cohorts.liquidation_price(100_000, 10, 0.005, +1, inverse=False) == pytest.approx(90_452.26, abs=0.005)


def test_18_linear_short():
    assert cohorts.liquidation_price(100_000, 10, 0.005, -1, inverse=False) == pytest.approx(109_452.74, abs=0.005)


def test_19_inverse_long():
    assert cohorts.liquidation_price(100_000, 10, 0.005, +1, inverse=True) == pytest.approx(91_363.64, abs=0.005)


def test_20_inverse_short():
    assert cohorts.liquidation_price(100_000, 10, 0.005, -1, inverse=True) == pytest.approx(110_555.56, abs=0.005)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("side", [1, -1])
def test_17_to_20_margin_left_at_the_liquidation_price_is_the_maintenance(side, inverse):
    """From the contracts themselves: linear pays `side (P - entry)` per coin, inverse `side (1/entry - 1/P)` coins per dollar."""
    entry, leverage, maintenance = 31_000.0, 7.0, 0.004
    price = cohorts.liquidation_price(entry, leverage, maintenance, side, inverse)
    if inverse:
        margin, notional = 1 / entry / leverage + side * (1 / entry - 1 / price), 1 / price
    else:
        margin, notional = entry / leverage + side * (price - entry), price
    assert margin == pytest.approx(maintenance * notional, rel=1e-12)


@pytest.mark.parametrize(("leverage", "maintenance", "side"), [(1.0, 0.005, 1), (250.0, 0.005, 1), (10.0, 0.005, 0), (math.nan, 0.0, 1)])
def test_positions_without_a_liquidation_price_are_refused(leverage, maintenance, side):
    with pytest.raises(ValueError, match="found"):
        cohorts.liquidation_price(100.0, leverage, maintenance, side, inverse=False)


# --- the book -------------------------------------------------------------------------------------------------------------------


def test_24_oi_100_120_80_with_a_low_12_percent_down():
    rule = CohortRule(turnover_per_h=0.0, warm_share=1.0)
    price = 100_000.0
    _, before = run([price, price], [100, 120], rule=rule)
    levels, longs, _ = cohorts.ladder(before, 0, price, rule)
    at_risk = longs[levels > 0.88 * price].sum()
    assert at_risk == pytest.approx((1 - 0.3) * (0.16 + 0.07 + 0.01))  # 10x, 25x, 50x of what is not safe
    found, after = run([price], [80], low=[0.88 * price], rule=rule, state=before, first=3)
    for side in (0, 1):
        assert mass(after, side) + after["safe"][0, side] == pytest.approx(80, abs=1e-9)
    levels, longs, shorts = cohorts.ladder(after, 0, 0.88 * price, rule)
    assert not longs[levels > 0.88 * price].any()
    assert longs.sum() == pytest.approx(mass(after, 0) / 80)
    assert shorts.sum() == pytest.approx(mass(after, 1) / 80)
    assert found.triggered_long[0, 0] == pytest.approx(at_risk)
    assert found.triggered_short[0, 0] == 0


def test_what_is_triggered_counts_against_what_was_held_before():
    levels, _ = run([100, 100, 91, 89], [50, 100, 100, 100], low=[None, None, 90.6, 89])
    assert levels.triggered_long[0, 1:].tolist() == [0, 0, 1]
    assert math.isnan(levels.triggered_long[0, 0])


def test_a_fall_in_open_interest_leaves_the_shape_and_only_the_shortfall_enters():
    """100 at 100 USD; half leaves; then 30 enter at 120 USD."""
    _, state = run([100, 100, 120], [100, 50, 80])
    levels, longs, shorts = cohorts.ladder(state, 0, 120.0, ONE)
    at = {round(math.log(p / 100) / 0.0025): (a, b) for p, a, b in zip(levels, longs, shorts, strict=True)}
    assert len(at) == 3  # shorts of the first cohort died at 109.45
    old, new = (min(at, key=lambda n, p=p: abs(n - math.log(p) / 0.0025)) for p in (BELOW, 1.2 * BELOW))
    assert at[old][0] == pytest.approx(50 / 80)
    assert at[new][0] == pytest.approx(30 / 80)
    assert at[max(at)] == (0, pytest.approx(1.0))


def test_near_is_the_share_within_one_sigma_and_part_of_a_bin_counts_in_part():
    edge = math.floor(math.log(100 * BELOW) / 0.0025)  # the long level's bin
    sigma = math.log(100) - (edge + 0.25) * 0.0025
    levels, _ = run([100, 100], [10, 10], sigma=sigma)
    assert levels.near_long[0, 1] == pytest.approx(0.75)
    assert levels.near_short[0, 1] == 1.0
    assert levels.near[0, 1] == levels.near_long[0, 1] + levels.near_short[0, 1]
    assert levels.asymmetry[0, 1] == pytest.approx(math.log(1 / levels.near_long[0, 1]))
    levels, _ = run([100, 100], [10, 10], sigma=0.05)
    assert levels.near[0, 1] == 0
    assert math.isnan(levels.asymmetry[0, 1])


def test_distance_is_signed_and_in_sigmas_of_the_nearer_side():
    levels, state = run([100, 100], [10, 10], sigma=0.04)
    prices, _, shorts = cohorts.ladder(state, 0, 100.0, ONE)
    assert levels.distance_sigma[0, 1] == pytest.approx(math.log(prices[shorts > 0][0] / 100) / 0.04)
    assert levels.distance_sigma[0, 1] == pytest.approx(math.log(ABOVE) / 0.04, abs=0.0025 / 0.04)
    levels, _ = run([100, 100, 93], [10, 10, 10], sigma=0.04)
    assert levels.distance_sigma[0, 2] == pytest.approx(math.log(100 * BELOW / 93) / 0.04, abs=0.0025 / 0.04)
    assert levels.distance_sigma[0, 2] < 0
    far, _ = run([100, 100], [10, 10], sigma=0.005)  # 18 sigmas away, 10 are looked at
    assert math.isnan(far.distance_sigma[0, 1])
    assert far.near[0, 1] == 0


def test_a_cluster_is_among_the_densest_bins_not_the_nearest_dust():
    """20 bins of little mass near the price, one heavy cohort farther away; 10 sigmas reach over 200 bins a side, of which 5 % are dense."""
    rule = replace(ONE, dense_quantile=0.995)
    close = [100.0, *np.linspace(103.0, 101.5, 20)]
    quantity = [1000.0, *np.linspace(1001.0, 1020.0, 20)]
    levels, _ = run(close, quantity, sigma=0.05, rule=rule, step_h=24.0)
    assert levels.distance_sigma[0, -1] == pytest.approx(math.log(100 * ABOVE / 101.5) / 0.05, abs=0.0025 / 0.05)


def test_the_hour_of_the_day_does_not_make_a_cluster():
    """The threshold is set at midnight. Were it kept in masses that close and enter anew all day, clusters would come with the evening."""
    rng, hours = np.random.default_rng(3), 24 * 600
    close = list(100 * np.exp(np.cumsum(0.005 * rng.standard_normal(hours))))
    levels, _ = run(close, [10.0] * hours, rule=CohortRule(turnover_per_h=0.04), sigma=0.025)
    away = np.abs(levels.distance_sigma[0]).reshape(-1, 24)
    night, evening = (np.nanmedian(away[:, hours]) for hours in (slice(0, 6), slice(18, 24)))
    assert evening == pytest.approx(night, rel=0.15)


def test_daily_and_hourly_grids_share_the_turnover():
    rule = replace(ONE, turnover_per_h=0.013)
    hourly, _ = run([100] * 25, [7] * 25, rule=rule)
    daily, _ = run([100] * 2, [7] * 2, rule=rule, step_h=24.0)
    assert hourly.guessed[0, -1] == pytest.approx(daily.guessed[0, -1], rel=1e-12)
    assert daily.guessed[0, -1] == pytest.approx(0.987**24)


def test_nothing_is_said_until_half_of_the_book_has_a_known_entry():
    rule = replace(ONE, turnover_per_h=0.1, warm_share=0.5)
    levels, _ = run([100] * 12, [7] * 12, rule=rule)
    warm = levels.guessed[0] <= 0.5
    assert np.flatnonzero(warm)[0] == math.ceil(math.log(0.5) / math.log(0.9))
    for name in ("near", "near_long", "near_short", "distance_sigma", "triggered_long", "triggered_short"):
        assert (np.isfinite(getattr(levels, name)[0]) == warm).all(), name


def test_after_a_long_gap_it_warms_again_after_a_short_one_it_does_not():
    rule = replace(ONE, turnover_per_h=0.1, warm_share=0.5)
    for gap, warm in ((48, True), (49, False)):
        levels, _ = run([100.0] * 80, [7.0] * 20 + [None] * (gap - 1) + [7.0] * (61 - gap), rule=rule)
        back = 19 + gap
        assert np.isnan(levels.near[0, 20:back]).all()
        assert np.isfinite(levels.near[0, back]) == warm
        assert (levels.guessed[0, back] > 0.9) != warm


def test_it_stands_still_without_quantity_and_crosses_what_was_seen_when_it_moves_again():
    wick = [None, None, 90.0, None, None]
    gap, state = run([100, 100, 99, 100, 100], [10, 10, None, None, 10], low=wick)
    assert np.isnan(gap.near[0, 2:4]).all()
    assert np.isnan(gap.triggered_long[0, 2:4]).all()
    assert gap.triggered_long[0, 4] == 1.0
    assert cohorts.ladder(state, 0, 100.0, ONE)[1].sum() == pytest.approx(1.0)  # entered anew, at the close
    _, inside = run([100, 100, 99], [10, 10, None], low=wick[:3])
    assert mass(inside, 0) == 10
    assert cohorts.ladder(inside, 0, 100.0, ONE)[1].sum() == 0  # not moved, but nobody is shown a level the price has been at
    blind, _ = run([100, None, None, 100], [10] * 4)
    assert np.isnan(blind.near[0, 1:3]).all()
    assert blind.triggered_long[0, 3] == 0


def test_where_only_closes_are_known_the_close_is_the_extreme():
    closes, _ = run([100, 100, 90], [10, 10, 10])
    assert closes.triggered_long[0].tolist()[1:] == [0, 1]
    worse, _ = run([100, 100, 96], [10, 10, 10], low=[None, None, 97.0])  # a low above the close is no low
    assert worse.triggered_long[0, 2] == 0


def test_what_a_rise_leaves_behind_the_window_joins_the_safe_share():
    rule = replace(ONE, window_bins=300)
    _, state = run([100, 100 * math.e], [10, 10], rule=rule)
    assert state["safe"][0].tolist() == [pytest.approx(10), 0]  # longs far below; the shorts died
    assert mass(state, 0) == 0
    assert mass(state, 1) == pytest.approx(10)
    _, state = run([100, 100 / math.e], [10, 10], rule=rule)
    assert state["safe"][0].tolist() == [0, pytest.approx(10)]


def test_inverse_contracts_have_levels_of_their_own():
    _, state = run([100], [10], rule=replace(ONE, inverse_share=0.25))
    prices, longs, shorts = cohorts.ladder(state, 0, 100.0, ONE)
    found = sorted((p, part) for p, part in zip(prices, longs + shorts, strict=True))
    sides = [(s, inverse, part) for s in (1, -1) for inverse, part in ((False, 0.75), (True, 0.25))]
    expected = sorted((cohorts.liquidation_price(100.0, 10.0, 0.005, s, inverse), part) for s, inverse, part in sides)
    for (price, part), (level, share) in zip(found, expected, strict=True):
        assert price == pytest.approx(level, rel=0.0013)
        assert part == pytest.approx(share)


def test_an_empty_book_shows_nothing():
    state = cohorts.start(1, ONE)
    assert [len(part) for part in cohorts.ladder(state, 0, 100.0, ONE)] == [0, 0, 0]
    levels, state = run([100, 100], [None, None])
    assert np.isnan(levels.guessed).all()
    assert not state["book"].any()


def test_default_tiers_are_a_distribution_and_fit_the_window():
    assert sum(CohortRule().tier_shares) == pytest.approx(1.0)
    assert cohorts.start(2, CohortRule())["book"].shape == (2, 2, 1200)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tier_shares": (0.5,)}, "together 1"),
        ({"tier_shares": (0.5, 0.5)}, "one share >= 0 per tier"),
        ({"leverages": (1.02,), "maintenance_share": 0.0}, "at most window_bins - 2"),
        ({"leverages": (190.0,)}, "at least one bin"),
        ({"safe_share": 1.0}, r"safe_share.*\[0, 1\)"),
        ({"turnover_per_h": -0.1}, "turnover_per_h"),
    ],
)
def test_a_rule_that_cannot_be_run_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        cohorts.start(1, replace(ONE, **changed))


def test_other_shapes_an_irregular_grid_and_bars_gone_through_are_refused():
    line, when = np.ones((1, 3)), T0 + np.array([1, 2, 3]) * HOUR_US
    state = cohorts.start(1, ONE)
    with pytest.raises(ValueError, match=r"quantity.*\(1, 2\)"):
        cohorts.run(line, line, line, line[:, :2], line, when, state, ONE, 1.0)
    with pytest.raises(ValueError, match="regular grid"):
        cohorts.run(line, line, line, line, line, when + np.array([0, 0, 1]), state, ONE, 1.0)
    _, after = cohorts.run(line, line, line, line, line, when, state, ONE, 1.0)
    with pytest.raises(ValueError, match="has been through"):
        cohorts.run(line, line, line, line, line, when, after, ONE, 1.0)


# --- what it is worth -----------------------------------------------------------------------------------------------------------

FIT = CohortRule(leverages=(5.0, 10.0, 25.0), tier_shares=(0.5, 0.3, 0.2), fit_turnovers_per_h=(0.002, 0.02))
DAYS, START = 400, T0 + 200 * DAY_US


def a_market(reported=None, seed=0, assets=3):
    """Random walks; `reported` makes liquidations out of the market."""
    rng = np.random.default_rng(seed)
    shape = (assets, DAYS)
    close = 100 * np.exp(np.cumsum(0.03 * rng.standard_normal(shape), axis=1))
    high, low = (close * np.exp(sign * 0.02 * np.abs(rng.standard_normal(shape))) for sign in (1, -1))
    quantity = 1e4 * np.exp(np.cumsum(0.04 * rng.standard_normal(shape), axis=1))
    when, unknown = T0 + np.arange(1, DAYS + 1) * DAY_US, np.full(shape, np.nan)
    market = cohort_fit.Market(close, high, low, quantity, rng.uniform(1, 2, shape), unknown, unknown, when, 24.0)
    if reported is None:
        return market
    long, short = reported(market) * rng.lognormal(-0.02, 0.2, (2, *shape))
    return replace(market, liquidated_long=long, liquidated_short=short)


def of_the_book(market):
    weights = np.array([0.1, 0.06, 0.02])
    return 1e-3 + np.einsum("k,ksat->sat", weights, cohort_fit.tier_maps(market, FIT, 0.02))


def of_the_way(market):
    return 1e-3 + 0.05 * cohort_fit.naive_maps(market, FIT)["uniform"]


def test_a_market_that_is_the_model_is_recognised():
    found = cohort_fit.fit(a_market(of_the_book), FIT, START)
    assert found.skill.startswith("model, measured skill: out-of-sample R2")
    assert found.turnover_per_h == 0.02
    assert found.tier_weights[-1] == pytest.approx([0.1, 0.06, 0.02], rel=0.15)
    assert found.tier_shares == pytest.approx(found.tier_weights[0] / found.tier_weights[0].sum())
    assert found.unseen_share == pytest.approx(1 - found.tier_weights[0].sum())
    assert found.r2["fitted"] > 0.9 > max(found.r2[name] for name in cohort_fit.NAIVE)
    assert found.gain_t > 1.645


def test_a_market_that_is_not_the_model_is_told_so():
    found = cohort_fit.fit(a_market(of_the_way), FIT, START)
    assert found.skill.startswith(f"{cohort_fit.NO_SKILL}: out-of-sample R2")
    assert "uniform" in found.skill
    assert found.r2["uniform"] > 0.8
    assert found.gain_t < 0


def test_liquidations_that_nothing_explains_have_no_skill_either():
    found = cohort_fit.fit(a_market(lambda market: np.full((2, *market.close.shape), 0.01)), FIT, START)
    assert found.skill.startswith(cohort_fit.NO_SKILL)
    assert max(found.r2.values()) < 0.05


def test_predictions_know_nothing_of_what_comes_after_them():
    market = a_market(of_the_book)
    whole = cohort_fit.fit(market, FIT, START)
    assert (whole.refit_at % (30 * DAY_US) == 0)[1:].all()
    for cut in (260, 333):
        at = T0 + cut * DAY_US
        later = market.when > at
        names = ("close", "high", "low", "quantity", "volume", "liquidated_long", "liquidated_short")
        poisoned = replace(market, **{name: np.where(later, getattr(market, name) * 5.0, getattr(market, name)) for name in names})
        found = cohort_fit.fit(poisoned, FIT, START)
        for name, values in whole.predicted.items():
            assert np.array_equal(values[:, :, :cut], found.predicted[name][:, :, :cut], equal_nan=True), name
        assert np.array_equal(whole.tier_weights[whole.refit_at <= at], found.tier_weights[whole.refit_at <= at])
        assert not np.array_equal(whole.tier_weights[-1], found.tier_weights[-1])


def test_no_tier_is_more_than_the_whole_open_interest():
    """Nobody can report more than was open: without the bound a tier hardly triggered so far would get any weight."""
    found = cohort_fit.fit(a_market(lambda market: 20 * of_the_book(market)), FIT, START)
    assert found.tier_weights.max() == 1.0
    assert found.unseen_share == 0


def test_only_bars_after_the_start_are_judged():
    found = cohort_fit.fit(a_market(of_the_book), FIT, START)
    for values in found.predicted.values():
        assert np.isnan(values[:, :, :200]).all()
        assert np.isfinite(values[:, :, 200:]).all()
    assert found.observations == 2 * 3 * 200


def test_too_little_history_is_refused():
    with pytest.raises(ValueError, match="at least 200"):
        cohort_fit.fit(a_market(of_the_book, assets=1), FIT, T0 + 20 * DAY_US)
    with pytest.raises(ValueError, match="0 after it"):
        cohort_fit.fit(a_market(of_the_book), FIT, T0 + DAYS * DAY_US)


def test_naive_maps_by_hand():
    """From 10,400 down to 9,800 and up to 11,200; then from 10,000 up to 12,000 with half of the volume left in the profile."""
    line = np.array([[10_400.0, 10_000.0, 12_000.0]])
    high, low = np.array([[np.nan, 11_200.0, np.nan]]), np.array([[np.nan, 9_800.0, np.nan]])
    unknown = np.full((1, 3), np.nan)
    when = T0 + np.arange(1, 4) * DAY_US
    market = cohort_fit.Market(line, high, low, unknown, np.array([[0.0, 4.0, 4.0]]), unknown, unknown, when, 24.0)
    maps = cohort_fit.naive_maps(market, replace(FIT, bin_log=0.05))
    assert maps["uniform"][:, 0, 1] == pytest.approx([math.log(10_400 / 9_800), math.log(11_200 / 10_400)])
    assert maps["round_numbers"][:, 0, 1].tolist() == [1, 1]
    assert maps["round_numbers"][:, 0, 2].tolist() == [0, 2]
    first, last, at = (math.floor(math.log(price) / 0.05) for price in (9_800, 11_200, 10_000))
    assert maps["volume_at_price"][:, 0, 2] == pytest.approx([0, (last - at) / (last - first + 1)])
    assert all(np.isnan(values[:, 0, 0]).all() for values in maps.values())
    assert np.isnan(maps["volume_at_price"][:, 0, 1]).all()  # nothing has traded yet


@pytest.mark.parametrize("seed", range(10))
def test_least_squares_agree_with_scipy(seed):
    rng = np.random.default_rng(seed)
    matrix = np.abs(rng.standard_normal((60, 6))) @ np.abs(rng.standard_normal((6, 6)))
    matrix[:, 5] *= 1e-8
    target = matrix @ np.maximum(0, rng.standard_normal(6)) + rng.standard_normal(60)
    free = cohort_fit.least_squares(matrix.T @ matrix, matrix.T @ target, np.full(6, np.inf))
    assert matrix @ free == pytest.approx(matrix @ nnls(matrix, target)[0], abs=1e-6)
    cap = free[:5].max() / 2
    capped = cohort_fit.least_squares(matrix.T @ matrix, matrix.T @ target, np.full(6, cap))
    assert matrix @ capped == pytest.approx(matrix @ lsq_linear(matrix, target, (0, cap), tol=1e-14).x, abs=1e-5)
    assert ((capped >= 0) & (capped <= cap)).all()
    matrix[:, 2] = 0.0
    assert cohort_fit.least_squares(matrix.T @ matrix, matrix.T @ target, np.full(6, np.inf))[2] == 0

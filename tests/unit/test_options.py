"""Options: known answers 30 to 40 (METHODOLOGY 8), properties of the arithmetic, and every way in which a chain can be less than whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.option_chains import CALLS, FINE, NOW, PUTS, STRIKES, SURFACE, but, listed, skewed, together
from transforms import options
from transforms.estimators import DAY_US, HOUR_US
from transforms.option_book import MEASURES, Listed, measure
from transforms.rules import OptionRule

RULE = OptionRule()
WEEK, MONTH = 7 / 365, 30 / 365

prices = st.floats(1e-3, 1e6)
volatilities = st.floats(0.05, 3.0)
years = st.floats(1 / 365, 2.0)


def said(rows, rule=RULE):
    return dict(zip(MEASURES, measure(rows, rule).tolist(), strict=True))


def same(one, other):
    """Equal to the last bit, NaN equal to NaN."""
    return np.array_equal(measure(one, RULE).view(np.int64), measure(other, RULE).view(np.int64))


# --- known answers --------------------------------------------------------------------------------------------------------------


def test_30_max_pain_is_the_strike_that_pays_least():
    assert options.max_pain(STRIKES, CALLS, PUTS, False) == 100.0
    assert said(listed())["max_pain_usd"] == 100.0


def test_31_what_holders_get_at_each_price():
    assert [options.pay_out(at, STRIKES, CALLS, PUTS, False) for at in (90.0, 100.0, 110.0)] == [300.0, 150.0, 400.0]


def test_32_concentration_over_strikes():
    assert options.herfindahl(CALLS + PUTS) == pytest.approx(0.20842, abs=5e-6)
    found = said(listed())
    assert found["strike_hhi"] == pytest.approx(0.20842, abs=5e-6)
    assert found["effective_strikes"] == pytest.approx(1 / 0.20842, abs=2e-4)


def test_33_put_call_ratio():
    assert math.exp(-options.call_put_log(CALLS.sum(), PUTS.sum())) == pytest.approx(0.95, abs=1e-12)
    found = said(listed(volume=0.0))
    assert found["call_put_oi_log"] == pytest.approx(-math.log(0.95), abs=1e-12)
    assert math.isnan(found["call_put_volume_log"])


def test_35_coin_settlement_has_another_max_pain():
    strikes, calls, puts = np.array([90.0, 100, 110]), np.array([5.0, 0, 0]), np.array([0.0, 0, 4.8])
    assert [options.pay_out(at, strikes, calls, puts, False) for at in strikes] == pytest.approx([96, 98, 100])
    assert [options.pay_out(at, strikes, calls, puts, True) for at in strikes] == pytest.approx([1.067, 0.980, 0.909], abs=5e-4)
    found = said(listed(30, strikes, calls, puts))
    assert (found["max_pain_usd"], found["max_pain_coin_usd"]) == (90.0, 110.0)
    settled_in_usd = said(listed(30, strikes, calls, puts, settlement=1))
    assert settled_in_usd["max_pain_usd"] == 90.0
    assert math.isnan(settled_in_usd["max_pain_coin_usd"])


def test_36_gamma():
    assert options.black_gamma(100.0, 100.0, 0.5, 0.25) == pytest.approx(0.0158335, abs=5e-8)


def test_37_expected_move():
    assert options.expected_move(1e5, 0.5, WEEK) == pytest.approx(6924, abs=0.5)
    found = said(listed(7, [9e4, 1e5, 1.05e5], 1.0, [1.0, 1, 9], volatility=0.5, forward=1e5, spot=1e5))
    assert found["expected_move_usd"] == pytest.approx(6924, abs=0.5)


def test_38_distance_in_expected_moves():
    assert options.moves_away(1.05e5, 1e5, 0.5, WEEK) == pytest.approx(0.7046, abs=5e-5)
    found = said(listed(7, [9e4, 1e5, 1.05e5], 1.0, [1.0, 1, 9], volatility=0.5, forward=1e5, spot=1e5))
    assert found["strike_distance_em"] == pytest.approx(0.7046, abs=5e-5)


def test_39_constant_maturity_is_linear_in_total_variance():
    left = np.array([7, 35], dtype=np.int64) * DAY_US
    assert options.constant_maturity(left, np.array([0.6, 0.5]), 30 * DAY_US, 0.1) == pytest.approx(0.50456, abs=5e-6)
    found = said(together(listed(7, volatility=0.6), listed(35, volatility=0.5)))
    assert found["implied_volatility_30d"] == pytest.approx(0.50456, abs=5e-6)


def test_40_flat_smile_through_the_strip():
    strikes = np.arange(30.0, 301.0, 1.0)
    variance = options.strip_variance(strikes, np.full(len(strikes), 0.6), 100.4, MONTH, RULE.strip_strikes, RULE.strip_reach, 0.0)
    assert math.sqrt(variance) == pytest.approx(0.6, abs=0.002)
    found = said(together(*(listed(days, strikes, volatility=0.6, calls=1.0, puts=1.0, forward=100.4) for days in (23, 37))))
    assert found["vix_style_volatility_30d"] == pytest.approx(0.6, abs=0.002)
    assert found["dvol_style_volatility_30d"] == pytest.approx(0.59, abs=0.002)  # without the tails beyond a delta of 0.05


# --- properties of the arithmetic -----------------------------------------------------------------------------------------------


@given(prices, st.floats(-1.5, 1.5), volatilities, years)
def test_put_call_parity_and_bounds(forward, log_strike, volatility, left):
    strike = forward * math.exp(log_strike)
    call = options.black_price(forward, strike, volatility, left, True)
    put = options.black_price(forward, strike, volatility, left, False)
    assert call - put == pytest.approx(forward - strike, abs=1e-9 * forward)
    assert max(forward - strike, 0) - 1e-9 * forward <= call <= forward
    assert 0 <= options.call_delta(forward, strike, volatility, left) <= 1


@given(st.floats(-1.0, 1.0), st.floats(0.2, 2.0), st.floats(7 / 365, 1.0))
def test_delta_and_gamma_are_slopes_of_the_price(log_strike, volatility, left):
    strike, step = 100.0 * math.exp(log_strike), 0.01
    price = [options.black_price(100.0 + n * step, strike, volatility, left, True) for n in (-1, 1)]
    assert options.call_delta(100.0, strike, volatility, left) == pytest.approx((price[1] - price[0]) / (2 * step), abs=1e-5)
    delta = [options.call_delta(100.0 + n * step, strike, volatility, left) for n in (-1, 1)]
    assert options.black_gamma(100.0, strike, volatility, left) == pytest.approx((delta[1] - delta[0]) / (2 * step), abs=1e-6)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("place", range(4))
def test_black_is_unknown_unless_everything_is_finite_and_positive(bad, place):
    given_values = [100.0, 100.0, 0.5, 0.25]
    given_values[place] = bad
    assert math.isnan(options.black_d1(*given_values))
    assert math.isnan(options.call_delta(*given_values))
    assert math.isnan(options.black_gamma(*given_values))
    assert math.isnan(options.black_price(*given_values, False))


amounts = st.lists(st.integers(0, 50), min_size=3, max_size=12)


@given(amounts, amounts, st.sampled_from([0.25, 1.0, 1024.0]))
def test_max_pain_pays_least_in_any_unit_and_is_never_lower_in_coins(calls, puts, unit):
    count = min(len(calls), len(puts))
    strikes = 100.0 + 10.0 * np.arange(count)
    held, sold = np.array(calls[:count], dtype=float), np.array(puts[:count], dtype=float)
    found = [options.max_pain(strikes, held, sold, coin) for coin in (False, True)]
    if not (held + sold).any():
        assert np.isnan(found).all()
        return
    for coin, strike in zip((False, True), found, strict=True):
        paid = [options.pay_out(at, strikes, held, sold, coin) for at in strikes]
        assert options.pay_out(strike, strikes, held, sold, coin) <= min(paid) * (1 + 1e-9)
        assert options.max_pain(strikes * unit, held * unit, sold * unit, coin) == strike * unit
    assert found[1] >= found[0]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(lambda sizes: sum(sizes) > 1e-3))
def test_concentration_lies_between_equal_parts_and_one(sizes):
    held = np.array(sizes)
    assert 1 / len(held) - 1e-12 <= options.herfindahl(held) <= 1 + 1e-12
    assert options.herfindahl(np.full(len(held), 3.0)) == pytest.approx(1 / len(held))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8, unique=True), st.data())
def test_constant_maturity_stays_between_its_neighbours(days, data):
    left = np.array(sorted(days), dtype=np.int64) * DAY_US
    quoted = np.array(data.draw(st.lists(volatilities, min_size=len(left), max_size=len(left))))
    for n, own in enumerate(left):
        assert options.constant_maturity(left, quoted, int(own), 0.1) == quoted[n]
    target = data.draw(st.integers(1, 300)) * DAY_US
    found = options.constant_maturity(left, quoted, target, 0.1)
    total = quoted**2 * left
    if left[0] <= target <= left[-1]:
        near, far = np.searchsorted(left, target, "right") - 1, np.searchsorted(left, target)
        assert min(total[near], total[far]) * (1 - 1e-9) <= found**2 * target <= max(total[near], total[far]) * (1 + 1e-9)
    elif min(abs(left[0] - target), abs(left[-1] - target)) <= 0.1 * target:
        assert found == quoted[0 if target < left[0] else -1]
    else:
        assert math.isnan(found)


@given(volatilities, st.floats(7 / 365, 1.0), st.floats(0.1, 0.45))
def test_flat_smile_has_no_wings(volatility, left, delta):
    strikes = 100.0 * np.exp(np.linspace(-4, 4, 81) * volatility * math.sqrt(left))
    flat = np.full(81, volatility)
    for wing in (delta, 1 - delta):
        assert options.volatility_at_delta(strikes, flat, 100.0, left, wing) == pytest.approx(volatility, abs=1e-12)


@given(st.floats(0.2, 1.5), st.floats(7 / 365, 0.25), st.floats(0.5, 1.5), st.sampled_from([1e-3, 1.0, 1e5]))
@settings(max_examples=40)
def test_strip_returns_a_flat_smile_in_any_currency(volatility, left, forward, unit):
    deviation = volatility * math.sqrt(left)
    strikes = np.exp(np.arange(-4, 4.001, 0.1) * deviation)
    variance = options.strip_variance(strikes * unit, np.full(len(strikes), volatility), forward ** (deviation) * unit, left, 3, 2.0, 0.0)
    assert math.sqrt(variance) == pytest.approx(volatility, abs=0.005 * volatility)


def test_crossed_deltas_count_where_they_are_nearest_to_the_forward():
    """A wing so steep that deltas rise again: the crossing of 0.25 nearest to the forward is taken, whatever lies further out."""
    strikes, smile = np.array([90.0, 100, 110, 120, 130]), np.array([0.6, 0.6, 0.6, 0.6, 4.0])
    deltas = [options.call_delta(100.0, k, v, MONTH) for k, v in zip(strikes, smile, strict=True)]
    assert deltas[3] < 0.25 < deltas[4]
    whole = options.volatility_at_delta(strikes, smile, 100.0, MONTH, 0.25)
    assert whole == options.volatility_at_delta(strikes[:4], smile[:4], 100.0, MONTH, 0.25) == pytest.approx(0.6)


def test_a_smile_is_known_between_its_strikes_only():
    strikes, smile = np.array([90.0, 100, 110]), np.array([0.7, np.nan, 0.5])
    assert options.volatility_at(strikes, smile, 90.0) == 0.7
    assert 0.5 < options.volatility_at(strikes, smile, 100.0) < 0.7
    assert math.isnan(options.volatility_at(strikes, smile, 89.9))
    assert math.isnan(options.volatility_at(strikes, smile, 110.1))
    single = options.volatility_at(np.array([100.0]), np.array([0.6]), 100.0)
    assert single == 0.6


# --- a snapshot -----------------------------------------------------------------------------------------------------------------


def test_surface_of_a_known_smile():
    found = said(SURFACE)
    assert found["implied_volatility_30d"] == pytest.approx(0.6, abs=2e-3)
    assert found["volatility_term_slope"] == pytest.approx(math.log(found["implied_volatility_90d"] / found["implied_volatility_7d"]))
    assert found["risk_reversal_25d"] < -0.03
    assert found["butterfly_25d"] > 0
    assert found["vix_style_volatility_30d"] > found["dvol_style_volatility_30d"] > 0.55


def test_gamma_under_two_assumptions():
    """Per expiry: gamma of one option x open interest x F^2 x 1 %; calls plus, puts minus (A1); both minus (A2)."""
    rows = listed(30, [100.0], 3.0, 2.0, volatility=0.5)
    each = options.black_gamma(100.0, 100.0, 0.5, MONTH) * 100.0**2 * 0.01
    found = said(rows)
    assert found["gamma_1pct_equity_usd"] == pytest.approx(each)
    assert found["gamma_1pct_short_usd"] == pytest.approx(-5 * each)
    assert found["gamma_concentration"] == 1.0


def test_gamma_needs_nine_tenths_of_the_open_interest():
    rows = listed(30, [90.0, 100, 110], [1.0, 8.9, 0], 0.0)
    assert math.isfinite(said(rows)["gamma_1pct_short_usd"])
    without = but(rows, rows.strike == 90.0, volatility=np.nan)
    assert math.isnan(said(without)["gamma_1pct_short_usd"])
    assert said(but(without, without.strike == 100.0, interest=9.0))["gamma_1pct_short_usd"] < 0


def test_near_share_of_the_week():
    """One expected move of 50 % over 7 d is 6.9 %: 90 lies outside, 100 and 105 inside; what expires later does not count."""
    rows = together(listed(7, [90.0, 100, 105], [5.0, 1, 2], 1.0, volatility=0.5), listed(8, [100.0], 1000.0, 0.0, volatility=0.5))
    assert said(rows)["strike_concentration_7d"] == pytest.approx(5 / 11)


def test_the_attracting_expiry_has_the_largest_open_interest_within_35_days():
    near, month, far = (listed(*one, 0.0) for one in ((3, [100.0], 5.0), (20, [110.0], 5.0), (36, [120.0], 50.0)))
    assert said(together(far, month, near))["expiry_at"] == NOW + 3 * DAY_US  # of equal ones the earlier
    assert said(together(far, but(month, interest=5.5), near))["max_pain_usd"] == 110.0
    assert math.isnan(said(far)["max_pain_usd"])
    ties = listed(5, [80.0, 99, 102], 4.0, 4.0, volatility=0.5)
    assert said(ties)["strike_distance_em"] == pytest.approx(options.moves_away(99.0, 100.0, 0.5, 5 / 365))


@given(st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_the_order_of_rows_says_nothing(random):
    order = list(range(len(SURFACE.strike)))
    random.shuffle(order)
    assert same(SURFACE, SURFACE.take(np.array(order)))


@given(st.sampled_from([0.5, 8.0, 2.0**-20]))
def test_shares_and_volatilities_do_not_depend_on_the_unit_of_amounts(unit):
    one, other = said(SURFACE), said(but(SURFACE, interest=SURFACE.interest * unit, volume=SURFACE.volume * unit))
    for name, value in one.items():
        assert other[name] == (value * unit if name in ("gamma_1pct_equity_usd", "gamma_1pct_short_usd") else value), name


# --- less than a whole chain ----------------------------------------------------------------------------------------------------


def test_nothing_listed_says_nothing():
    assert np.isnan(measure(SURFACE.take(np.zeros(0, dtype=np.int64)), RULE)).all()


@pytest.mark.parametrize("bad", [0.0, -5.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", ["strike", "interest", "volume", "volatility", "forward", "spot"])
def test_a_cell_that_is_not_finite_and_positive_counts_as_not_received(column, bad):
    """The same as NaN in its place; one bad row of many leaves everything defined, a column of them never raises."""
    one = np.flatnonzero((SURFACE.strike == 130.0) & (SURFACE.call == 1))[:1]
    assert same(but(SURFACE, one, **{column: bad}), but(SURFACE, one, **{column: np.nan}))
    assert np.isfinite(measure(but(SURFACE, one, **{column: bad}), RULE)).all()
    everywhere = but(SURFACE, **{column: bad})
    assert same(everywhere, but(SURFACE, **{column: np.nan}))
    lost = {name for name, value in said(everywhere).items() if math.isnan(value)}
    amounts_only = {"call_put_volume_log", "call_put_oi_log", "strike_hhi", "effective_strikes"}
    assert lost >= {"strike": set(MEASURES), "interest": {"strike_hhi", "max_pain_usd", "gamma_1pct_short_usd"}}.get(column, set())
    if column in ("volatility", "forward"):
        assert not lost & (amounts_only | {"max_pain_usd", "max_pain_coin_usd", "expiry_at"})
        assert "implied_volatility_30d" in lost
    if column == "spot":
        assert lost == {"expected_move_usd", "strike_distance_em", "strike_concentration_7d", "gamma_concentration"}


def test_what_has_expired_counts_as_not_received():
    gone = listed(-1, FINE, 500.0, 1.0)
    assert same(together(SURFACE, gone), SURFACE)
    assert same(together(SURFACE, listed(0, FINE, 500.0, 1.0)), SURFACE)


def test_the_last_hour_has_open_interest_but_no_smile():
    last = listed(59 / 60 / 24, FINE, 50.0, 1.0, volatility=skewed)
    one, other = said(SURFACE), said(together(SURFACE, last))
    changed = {name for name in MEASURES if one[name] != other[name]}
    assert changed == {"call_put_oi_log"}  # strikes and volumes are alike here
    assert said(together(SURFACE, listed(1 / 24, FINE, 50.0, 1.0, volatility=skewed)))["expiry_at"] == NOW + HOUR_US


def test_one_strike_alone():
    at_forward = said(listed(30, [100.0], 2.0, 1.0))
    assert at_forward["implied_volatility_30d"] == 0.6
    assert at_forward["strike_hhi"] == 1.0
    assert math.isnan(at_forward["risk_reversal_25d"])
    assert math.isnan(at_forward["vix_style_volatility_30d"])
    beside = said(listed(30, [101.0], 2.0, 1.0))
    assert math.isnan(beside["implied_volatility_30d"])
    assert beside["max_pain_usd"] == 101.0


def test_strikes_listed_on_one_side_only():
    """Calls above, puts below: the smile is whole, for call and put of one strike quote the same volatility."""
    whole = said(SURFACE)
    one_sided = SURFACE.take(np.flatnonzero((SURFACE.call == 1) == (SURFACE.strike >= 100.0)))
    found = said(one_sided)
    for name in ("implied_volatility_30d", "risk_reversal_25d", "butterfly_25d", "vix_style_volatility_30d", "volatility_term_slope"):
        assert found[name] == pytest.approx(whole[name], abs=1e-12), name


def test_maturities_outside_the_listed_expiries_are_missing():
    found = said(listed(30, FINE, 1.0, 1.0))
    assert found["implied_volatility_30d"] == 0.6
    assert math.isnan(found["implied_volatility_7d"])
    assert math.isnan(found["volatility_term_slope"])
    assert said(listed(27, FINE, 1.0, 1.0))["implied_volatility_30d"] == 0.6  # a tenth of the maturity away: held flat
    assert math.isnan(said(listed(26.9, FINE, 1.0, 1.0))["implied_volatility_30d"])


def test_a_strip_that_ends_too_early_is_missing():
    narrow = np.arange(90.0, 112.0, 2.0)
    assert math.isnan(said(listed(30, narrow, 1.0, 1.0))["vix_style_volatility_30d"])
    coarse = np.array([60.0, 99.0, 160.0])
    assert math.isnan(said(listed(30, coarse, 1.0, 1.0))["vix_style_volatility_30d"])


def test_settlements_are_summed_in_coins_and_never_mixed_in_max_pain_or_smile():
    coin = SURFACE
    dollars = together(*(listed(days, FINE + 1.0, 7.0, 11.0, volatility=0.9, settlement=1) for days in (9, 23, 37)))
    one, other = said(coin), said(together(dollars, coin))
    book = ("max_pain_usd", "max_pain_coin_usd", "expiry_at", "expected_move_usd", "strike_distance_em", "implied_volatility_30d")
    for name in (*book, "risk_reversal_25d", "butterfly_25d", "vix_style_volatility_30d"):
        assert one[name] == other[name], name
    assert other["gamma_1pct_short_usd"] == pytest.approx(one["gamma_1pct_short_usd"] + said(dollars)["gamma_1pct_short_usd"])
    calls, puts = (sum(rows.interest[rows.call == side].sum() for rows in (coin, dollars)) for side in (1, 0))
    assert other["call_put_oi_log"] == pytest.approx(math.log(calls / puts))
    assert said(dollars)["implied_volatility_30d"] == pytest.approx(0.9)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_comes_nothing_raises_and_nothing_is_infinite(data):
    wild = st.one_of(st.sampled_from([0.0, -1.0, math.nan, math.inf, 1e300, 1e-300]), st.floats(0.1, 200))
    count = data.draw(st.integers(0, 12))
    column = {name: np.array(data.draw(st.lists(wild, min_size=count, max_size=count)), dtype=float) for name in Listed.__slots__[4:]}
    codes = {
        name: np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)), dtype=np.int64)
        for name in ("settlement", "call")
    }
    left = np.array(data.draw(st.lists(st.integers(-2, 60), min_size=count, max_size=count)), dtype=np.int64) * DAY_US
    found = measure(Listed(**codes, as_of=np.full(count, NOW), expiry=NOW + left, **column), RULE)
    assert not np.isinf(found).any()

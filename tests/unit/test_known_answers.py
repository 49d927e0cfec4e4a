"""METHODOLOGY section 8: numbers a person can work out by hand. The number of each case stands first in the test's name, here as in every
file of the tests; the last test counts them.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.property.laws import STAMP
from tests.property.synthetic import core_table
from tests.unit.panels import START, T0, WHO, candles, interest, panel_of, quantity, settled, stamps, together, value
from transforms import formulas, rolling
from transforms.estimators import DAY_US, HOUR_US
from transforms.features.contract import Why
from transforms.index.attribution import added, contribution, displayed
from transforms.index.build import derive
from transforms.index.composite import composite
from transforms.rules import Component, Part
from transforms.signals.contract import State
from transforms.signals.percentiles import Ranked
from transforms.signals.scores import ecdf_scores, held_scores
from transforms.spec import SPEC
from transforms.windows import HOUR, Window

BP = 1e-4
#: what the table of section 8 holds
NUMBERS = {*range(1, 8), *range(10, 25), *range(30, 34), *range(35, 48)}

# --- funding and basis ----------------------------------------------------------------------------------------------------------


def test_1_one_basis_point_per_8h():
    assert formulas.annualised(1 * BP, 8) == pytest.approx(0.1095, abs=1e-15)


def test_2_an_eighth_of_a_basis_point_per_hour():
    assert formulas.annualised(0.125 * BP, 1) == pytest.approx(0.1095, abs=1e-15)


def test_3_compounding_is_the_vendors_number_and_not_ours():
    assert pytest.approx(0.1157, abs=5e-5) == (1 + 0.125 * BP) ** 8760 - 1
    core = {"funding": settled(0.125 * BP, np.arange(1, 25), interval_h=1.0)}
    assert value(panel_of(core, 24), "funding_last_annual")[-1] == pytest.approx(0.1095, abs=1e-15)
    assert value(panel_of(core, 24), "funding_realised_annual")[-1] == pytest.approx(0.1095, abs=1e-15)


def test_4_a_yearly_rate_per_8h():
    assert formulas.per_interval(0.0026, 8) == pytest.approx(2.374e-6, rel=1e-3)


def test_5_a_rate_per_8h_per_year():
    assert formulas.annualised(0.0026, 8) == pytest.approx(2.847, abs=5e-4)
    core = {"funding": settled(0.0026, [8], interval_h=8.0)}
    assert value(panel_of(core, 8), "funding_last_annual")[-1] == pytest.approx(2.847, abs=1e-12)


@pytest.mark.parametrize(("premium", "rate"), [(2, 1), (10, 5), (-6, -1), (6, 1), (-4, 1)])
def test_6_funding_is_clamped(premium, rate):
    assert formulas.clamped_funding(premium * BP, 1 * BP, 5 * BP) == pytest.approx(rate * BP, abs=1e-16)


def test_6_within_the_dead_zone_funding_says_nothing():
    """Between -4 and +6 bp per 8 h, 110 % p.a. wide, the rate is the interest to the last bit."""
    inside = np.linspace(-3.99, 5.99, 400)
    assert {formulas.clamped_funding(one * BP, 1 * BP, 5 * BP) for one in inside.tolist()} == {1 * BP}
    assert formulas.annualised(10 * BP, 8) == pytest.approx(1.095)


def three_venues(spec):
    """10, 5 and 5 of open interest; 1 bp per 8 h, 0.125 bp per hour, -2 bp per 4 h: long enough for each to count in full."""
    cores = []
    for venue, weight, rate, interval in (("binance", 10.0, 1, 8), ("bybit", 5.0, 0.125, 1), ("okx", 5.0, -2, 4)):
        paid = settled(rate * BP, np.arange(interval, 241, interval), interval_h=float(interval), venue=venue)
        cores.append({"open_interest": interest([weight] * 240, venue=venue), "funding": paid})
    return panel_of(together(*cores), 240, spec=spec)


@pytest.mark.parametrize("feature", ["funding_last_annual", "funding_realised_annual"])
def test_7_open_interest_weighted_funding_with_three_intervals(feature):
    uncapped = replace(SPEC, features=replace(SPEC.features, venue_cap=1.0))
    assert value(three_venues(uncapped), feature)[-1] == pytest.approx(-0.027375, abs=1e-12)
    shortcut = (10 * 1 * BP + 5 * 0.125 * BP - 5 * 2 * BP) / 20 * 1095
    assert shortcut == pytest.approx(0.0034, abs=5e-5)  # the wrong sign


@pytest.mark.parametrize("feature", ["funding_last_annual", "funding_realised_annual"])
def test_7_no_venue_weighs_more_than_40_percent(feature):
    """Half of the open interest counts for 40 %, the two others for 30 % each: 0.7 * 10.95 % - 0.3 * 43.8 % (FU.4)."""
    assert SPEC.features.venue_cap == 0.4
    assert value(three_venues(SPEC), feature)[-1] == pytest.approx(0.7 * 0.1095 - 0.3 * 0.438, abs=1e-12)
    assert three_venues(SPEC).venue_shares[0, :, -1] == pytest.approx([0.4, 0.3, 0.3], abs=1e-12)


def test_16_dated_basis():
    assert formulas.dated_basis_annual(102, 100, 90) == pytest.approx(0.080311, abs=5e-7)
    assert formulas.dated_basis_annual(98, 100, 90) < 0
    for nonsense in ((0, 100, 90), (102, -1, 90), (102, 100, 0)):
        assert math.isnan(formulas.dated_basis_annual(*nonsense))


def test_16_constant_maturity_lies_between_its_expiries():
    near, far = math.log(1.01), math.log(1.03)
    assert formulas.constant_maturity_basis(near, 60, far, 120, 90) == pytest.approx((near + far) / 2 * 365 / 90)
    assert formulas.constant_maturity_basis(near, 60, far, 120, 60) == pytest.approx(formulas.dated_basis_annual(101, 100, 60))
    assert formulas.constant_maturity_basis(near, 60, far, 120, 120) == pytest.approx(formulas.dated_basis_annual(103, 100, 120))
    for days in (59, 121):
        assert math.isnan(formulas.constant_maturity_basis(near, 60, far, 120, days))


# --- open interest --------------------------------------------------------------------------------------------------------------


def linear_and_inverse():
    linear = interest([100, 90], usd=[100 * 100_000, 90 * 80_000], instrument="L")
    inverse = interest([5e6, 5e6], usd=[5e6, 5e6], unit="usd", instrument="I")
    return together({"open_interest": linear}, {"open_interest": inverse})


def test_10_linear_falls_inverse_stays_price_falls():
    panel = panel_of(linear_and_inverse(), 2)
    assert quantity(panel)[-1] == pytest.approx(14 / 15, abs=1e-12)
    usd = value(panel, "oi_usd")
    assert usd[1] / usd[0] == pytest.approx(0.8133, abs=5e-5)
    coins = (90 + 5e6 / 80_000) / (100 + 5e6 / 100_000)
    assert coins == pytest.approx(1.0167, abs=5e-5)


def test_10_as_it_is_published():
    found = derive(linear_and_inverse(), Window(START, START + 2 * HOUR), "1h", SPEC, assets=["BTC"], stamp=STAMP)
    rows = found["readings"].select(["asset", "oi_quantity_index"]).to_pylist()
    assert [row["oi_quantity_index"] for row in rows if row["asset"] == "BTC"] == pytest.approx([1, 14 / 15], abs=1e-11)


def test_11_a_venue_enters_without_a_jump():
    core = together({"open_interest": interest([100, 100], venue="a")}, {"open_interest": interest([None, 50], venue="c")})
    panel = panel_of(core, 2)
    assert quantity(panel)[-1] == 1.0
    usd = value(panel, "oi_usd")
    assert usd[1] / usd[0] == 1.5


@pytest.mark.parametrize(("gap", "expected"), [(1, 0.9), (6, 0.9), (7, 1.0)])
def test_11_the_whole_change_is_booked_when_a_gap_of_up_to_6h_ends(gap, expected):
    """A missing hour carries the value forward; after more than 6 h the instrument has left and comes back without a link."""
    steady = interest([100] * (gap + 2), venue="a")
    gapped = interest([100, *[None] * gap, 80], venue="b")
    panel = panel_of(together({"open_interest": steady}, {"open_interest": gapped}), gap + 2)
    assert quantity(panel)[-1] == pytest.approx(expected, abs=1e-12)


def test_12_usd_fall_decomposed():
    quantity_change, price_share = formulas.usd_change_decomposed(0.69, 95_131 / 124_752.53)
    assert quantity_change == pytest.approx(-0.0951, abs=1e-4)
    assert price_share == pytest.approx(0.731, abs=5e-4)
    assert math.isnan(formulas.usd_change_decomposed(1.0, 0.9)[1])


def test_12_as_the_features_decompose_it():
    """One instrument: nothing is left for composition."""
    price, amount = np.linspace(124_752.53, 95_131, 25), np.linspace(1, 0.69 * 124_752.53 / 95_131, 25)
    panel = panel_of({"open_interest": interest(amount, usd=amount * price), "candles": candles(price)}, 25)
    change = value(panel, "oi_usd_change_24h")[-1]
    assert change == pytest.approx(math.log(0.69))
    assert math.expm1(value(panel, "oi_change_24h")[-1]) == pytest.approx(-0.0951, abs=1e-4)
    assert value(panel, "return_24h")[-1] / change == pytest.approx(0.731, abs=5e-4)
    assert value(panel, "oi_composition_24h")[-1] == pytest.approx(0, abs=1e-9)


def test_13_price_implied_by_open_interest():
    panel = panel_of({"open_interest": interest([98_666.163], usd=[2_236_289_208.197])}, 1)
    assert panel.price.usd[0, 0] == pytest.approx(22_665.2, abs=0.05)
    assert panel.price.implied[0, 0]


def test_14_drawdown():
    links = np.array([[np.nan, math.log(1.2), math.log(90 / 120)]])
    level, known = rolling.cumulated(links, rolling.LOG_SCALE)
    assert rolling.falls_from_high(level, known, 3, 1, 0)[0, -1] == pytest.approx(0.25, abs=1e-12)


# --- flow, positioning, liquidation feeds, supply ---------------------------------------------------------------------------------


def test_15_taker_ratio():
    assert formulas.taker_imbalance_of_ratio(0.92530759) == pytest.approx(-0.03880, abs=5e-6)
    flows = core_table("taker_flow", stamps(79), interval_h=1.0, taker_buy_base=0.92530759, taker_sell_base=1.0, **WHO)
    panel = panel_of({"taker_flow": flows, "open_interest": interest([10.0] * 79)}, 79)
    assert value(panel, "taker_imbalance_8h")[-1] == pytest.approx(-0.03880, abs=5e-6)


def test_15_long_short_ratio():
    split = {"ratio_metric": "global_account", "long_share": 0.8376 / 1.8376, "short_share": 1 / 1.8376}
    panel = panel_of({"long_short": core_table("long_short", stamps(1), **split, **WHO)}, 1)
    assert value(panel, "long_short_accounts_log")[0] == pytest.approx(-0.17721, abs=1e-5)


def test_21_coverage_of_a_throttled_feed():
    """Bybit, 3 February 2025: 333 m shown, 2.1 bn liquidated (its chief executive, that day)."""
    assert formulas.coverage(333e6, 2.1e9) == pytest.approx(0.1586, abs=5e-5)
    assert 1 / formulas.coverage(333e6, 2.1e9) == pytest.approx(6.3, abs=0.01)
    assert math.isnan(formulas.coverage(0, 0))


@pytest.mark.parametrize(("seconds", "uplift"), [(30, 1.386), (55, 2.711)])
def test_22_occupancy_uplift(seconds, uplift):
    assert formulas.occupancy_uplift(seconds / 60) == pytest.approx(uplift, abs=5e-4)


def test_22_the_rate_is_a_lower_bound_where_events_come_together():
    """1 event a second in fours: a quarter of the bursts a second, so e^-0.25 of the seconds stay empty."""
    assert formulas.event_rate(1 - math.exp(-0.25)) == pytest.approx(0.25)
    assert formulas.occupancy_uplift(1e-9) == pytest.approx(1)
    for nonsense in (-0.1, 1.0, 1.5, math.nan):
        assert math.isnan(formulas.event_rate(nonsense))
    assert math.isnan(formulas.occupancy_uplift(0.0))


def test_23_branching_ratio():
    assert formulas.branching_ratio(25) == pytest.approx(0.8, abs=1e-15)
    assert [formulas.branching_ratio(one) for one in (1.0, 0.5)] == [0, 0]
    for nonsense in (0.0, -1.0, math.nan, math.inf):
        assert math.isnan(formulas.branching_ratio(nonsense))


def test_41_a_mint_into_the_treasury_is_no_issuance():
    assert formulas.net_issuance(1e9, 1e9) == 0
    assert formulas.net_issuance(0, -4e8) == 4e8  # what leaves the treasury is
    as_of = T0 + np.array([-2, -1]) * DAY_US
    for circulating, expected in ((0.0, 0), (1e9, 1e9)):
        supply = {"source": "defillama", "stablecoin": "ALL", "circulating_usd": [1e11, 1e11 + circulating]}
        core = {"stablecoin_supply": core_table("stablecoin_supply", as_of, as_of + DAY_US, **supply)}
        assert value(panel_of(core, 1, assets=["BTC"]), "stablecoin_issuance_usd_24h")[0] == expected


# --- scores ---------------------------------------------------------------------------------------------------------------------


def score(past, own, *, anchored=False, floor=0.0):
    """Score of `own` after `past`, all of equal weight."""
    values = np.array([[*past, own]], dtype=float)
    when = np.arange(values.shape[1], dtype=np.int64)  # microseconds: no decay
    everything = np.ones(values.shape[1], dtype=bool)
    scores, _ = ecdf_scores(values, np.ones_like(values, dtype=bool), when, everything, 0, DAY_US, 100 * DAY_US, 1.0, 1.0, anchored, floor)
    return scores[0, -1]


def test_42_ecdf():
    assert score([1, 2, 3, 4], 2) == -0.25


def test_43_anchored_score_of_pinned_funding():
    pinned = [0.0] * 200
    assert score(pinned, 0.0, anchored=True) == 0
    assert score(pinned, -0.001, anchored=True) == -1
    assert score(pinned, -0.001, anchored=True, floor=0.02) == pytest.approx(-0.05, abs=1e-12)


def test_43_pinned_settlements_are_exactly_at_the_anchor():
    """Three settlements of 0.0001 do not add up to 0.0003 in floating point; the excess is exactly 0 all the same."""
    hourly = {"funding": settled(1 * BP, np.arange(8, 49, 8))}
    assert value(panel_of(hourly, 48), "funding_excess_annual")[-1] == 0.0
    daily = {"funding": settled(1 * BP, [24], interval_h=8.0, source="coinalyze")}
    assert value(panel_of(daily, 1, "1d"), "funding_excess_annual")[-1] == 0.0


def test_44_weights_and_scores():
    one = np.ones(1)
    parts = [contribution(w, 1, np.array([s]), one) for w, s in ((0.4, 0.8), (0.35, -0.2), (0.25, 0.5))]
    assert added(parts, (1,))[0] == pytest.approx(68.75, abs=1e-12)
    assert displayed([float(part[0]) for part in parts], 0) == [16.0, -3.0, 6.0]


def test_46_stale_score():
    assert 0.8 * formulas.stale_factor(15, 3, 12) == pytest.approx(0.4)
    scores, fresh = np.full((1, 24), np.nan), np.zeros((1, 24), dtype=bool)
    scores[0, 0], fresh[0, 0] = 0.8, True
    held, factor = held_scores(scores, fresh, np.arange(24, dtype=np.int64) * HOUR_US, 0, 3.0, 12.0, 99.0)
    assert (held * factor)[0, 15] == pytest.approx(0.4)
    assert (held * factor)[0, 3] == 0.8
    assert factor[0].tolist() == [formulas.stale_factor(age, 3, 12) for age in range(24)]


# --- F and X (4.3, 4.4) -----------------------------------------------------------------------------------------------------------

FRAGILE = {
    "oi_leverage": 0.9,
    "oi_level_180d": 0.7,
    "oi_change_168h": 0.6,
    "oi_change_720h": 0.8,
    "carry_score": 0.6,
    "latent_near_share": 0.4,
    "oi_thinness": 0.3,
    "strike_concentration_7d": 0.2,
    "variance_premium_30d": 0.6,
    "oi_venue_concentration": 0.3,
    "stablecoin_peg_log": 0.9,
}
STRESSED = {
    "liquidation_intensity_3h": 0.9,
    "oi_change_24h": 0.8,
    "volatility_surprise": 0.7,
    "volatility_term_slope": 0.6,
    "funding_dispersion_annual": 0.5,
}
#: every part declared is there
WHOLE = replace(
    SPEC,
    fragility_parts=tuple(replace(part, effective_from=(("1h", START.date()),)) for part in SPEC.fragility_parts),
    stress_parts=tuple(replace(part, effective_from=(("1h", START.date()),)) for part in SPEC.stress_parts),
)


def ranked(p, factor=1.0, days=900.0):
    one = np.ones((1, 1))
    state = State.FINE if factor == 1 else State.STALE if np.isfinite(p) else State.MISSING
    return Ranked(p * one, factor * one, days * one, np.full((1, 1), state), np.full((1, 1), Why.FINE))


def made(index, values, **changed):
    held = {name: ranked(p) for name, p in values.items()} | changed
    return composite(WHOLE.parts(index, "1h"), WHOLE.components(index, "1h"), held, SPEC.score.warm_d)


def test_fragility_by_hand():
    """100 (.2 * .8 + .15 * .7 + .15 * .6 + .15 * .4 + .1 * .3 + .1 * .4 + .05 * max(.3, .9) + .1 * .8 * .6) = 57.8."""
    found = made("F", FRAGILE)
    assert found.value[0, 0] == pytest.approx(57.8, abs=1e-9)
    points = {share.feature: float(share.points[0, 0]) for share in found.shares}
    assert sum(points.values()) == pytest.approx(57.8, abs=1e-9)
    assert points["oi_leverage"] == pytest.approx(100 * 0.1 * 0.9, abs=1e-9)
    assert points["interaction"] == pytest.approx(4.8, abs=1e-9)
    assert (points["oi_venue_concentration"], points["stablecoin_peg_log"]) == (0, pytest.approx(4.5, abs=1e-9))
    other = made("F", FRAGILE | {"oi_venue_concentration": 0.9, "stablecoin_peg_log": 0.3})
    assert other.value[0, 0] == found.value[0, 0]
    assert [float(one.points[0, 0]) for one in other.shares if one.component == "concentration"] == [pytest.approx(4.5, abs=1e-9), 0]
    assert (found.freshness[0, 0], found.history[0, 0]) == (pytest.approx(1), pytest.approx(1))
    assert not found.stale.any()


def test_a_missing_part_of_fragility_is_one_half_and_costs_freshness():
    missing = ranked(math.nan, 0.0, 0.0)
    found = made("F", FRAGILE, oi_thinness=missing)
    assert found.value[0, 0] == pytest.approx(57.8 + 100 * 0.1 * (0.5 - 0.3), abs=1e-9)
    assert (found.freshness[0, 0], found.history[0, 0]) == (pytest.approx(0.9), pytest.approx(0.9))
    assert found.stale.all()
    found = made("F", FRAGILE, carry_score=missing)  # twice: as crowding, and as a factor of the interaction
    assert found.value[0, 0] == pytest.approx(57.8 - 100 * (0.15 * 0.1 + 0.1 * 0.8 * 0.1), abs=1e-9)
    assert found.freshness[0, 0] == pytest.approx(0.75)
    nothing = made("F", {}, **dict.fromkeys(FRAGILE, missing))
    assert nothing.value[0, 0] == pytest.approx(100 * (0.9 * 0.5 + 0.1 * 0.25), abs=1e-9)
    assert (nothing.freshness[0, 0], nothing.history[0, 0]) == (0, 0)


def test_a_stale_part_is_pulled_half_way_to_one_half():
    found = made("F", FRAGILE, stablecoin_peg_log=ranked(0.9, 0.5))
    assert found.value[0, 0] == pytest.approx(57.8 - 100 * 0.05 * 0.2, abs=1e-9)
    assert found.freshness[0, 0] == pytest.approx(1 - 0.05 * 0.25)


def test_stress_by_hand():
    """100 (.35 * .9 + .25 * .8 + .2 * .7 + .1 * .6 + .1 * .5) = 76.5."""
    found = made("X", STRESSED)
    assert found.value[0, 0] == pytest.approx(76.5, abs=1e-9)
    assert [float(share.points[0, 0]) for share in found.shares] == pytest.approx([31.5, 20, 14, 6, 5], abs=1e-9)
    assert made("X", STRESSED, oi_change_24h=ranked(math.nan, 0.0)).value[0, 0] == pytest.approx(76.5 - 7.5, abs=1e-9)


def test_what_an_epoch_lacks_gives_its_weight_to_the_rest_once():
    """Weights are parts of 2^40 and add up to 1 exactly, so that all at their limit is 100 and none is 0."""
    for index, cadence in ((i, rule.name) for i in "FX" for rule in SPEC.cadences):
        parts, components = SPEC.parts(index, cadence), SPEC.components(index, cadence)
        assert sum(components.values()) == 1
        whole = {one.name: one.weight for one in (SPEC.fragility if index == "F" else SPEC.stress)}
        kept = sum(whole[one.name] for one in components)
        assert list(components.values()) == pytest.approx([whole[one.name] / kept for one in components])
        for p, value_ in ((1.0, 100.0), (0.0, 0.0)):
            found = composite(parts, components, {part.feature: ranked(p) for part in parts}, 90.0)
            assert found.value[0, 0] == pytest.approx(value_, abs=1e-9)
    one = (Part("a", "only", 0.3, 1, "centred", (("1h", START.date()),)),)
    assert composite(one, {Component("only", 0.2): 1.0}, {"a": ranked(0.7)}, 90.0).value[0, 0] == pytest.approx(70)


# --- all of them ------------------------------------------------------------------------------------------------------------------


def test_every_number_of_the_table_has_a_test_that_names_it():
    """`test_24_...`, or `test_17_to_20_...` for a range; no other test begins with a number."""
    found = set()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for first, last in re.findall(r"^def test_(\d+)(?:_to_(\d+))?_", path.read_text(), re.MULTILINE):
            found |= set(range(int(first), int(last or first) + 1))
    assert sorted(NUMBERS - found) == []
    assert sorted(found - NUMBERS) == []

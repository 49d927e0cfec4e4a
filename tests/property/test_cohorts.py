"""Laws of the cohort book on random markets: nothing lost, cuts and futures invisible, and the same as a slow book written plainly."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.estimators import DAY_US, HOUR_US
from transforms.index import cohorts
from transforms.rules import CohortRule

SETTINGS = settings(max_examples=40, deadline=None)
T0 = 19_500 * DAY_US
RULES = st.builds(
    lambda turnover, safe, inverse, width, warm: CohortRule(
        turnover_per_h=turnover, safe_share=safe, inverse_share=inverse, window_bins=width, warm_share=warm, gap_h=30.0
    ),
    turnover=st.sampled_from([0.0, 0.001, 0.02, 0.3]),
    safe=st.sampled_from([0.0, 0.3]),
    inverse=st.sampled_from([0.0, 0.4, 1.0]),
    width=st.sampled_from([282, 1200]),
    warm=st.sampled_from([0.5, 1.0]),
)


@st.composite
def markets(draw):
    """(close, high, low, quantity, sigma_d, when, step_h): 2 assets with gaps; moves up to a factor of several per bar."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bars, step_h = draw(st.integers(2, 60)), draw(st.sampled_from([1.0, 24.0]))
    size = draw(st.sampled_from([0.002, 0.02, 0.6]))
    shape = (2, bars)
    close = np.exp(rng.uniform(-12, 12, (2, 1)) + np.cumsum(size * rng.standard_normal(shape), axis=1))
    high, low = (close * np.exp(sign * size * np.abs(rng.standard_normal(shape))) for sign in (1, -1))
    quantity = np.exp(np.cumsum(rng.choice([0.0, 0.05, 1.0], (2, 1)) * rng.standard_normal(shape), axis=1))
    sigma_d = np.full(shape, size * math.sqrt(24.0 / step_h)) * rng.uniform(0.5, 2.0, shape)
    missing = draw(st.sampled_from([0.0, 0.3]))
    holes = [np.where(rng.random(shape) < missing, np.nan, values) for values in (close, high, low, quantity, sigma_d)]
    return *holes, T0 + np.arange(1, bars + 1) * round(step_h * HOUR_US), step_h


def run(market, rule, state=None, bars=slice(None)):
    *inputs, when, step_h = market
    state = cohorts.start(2, rule) if state is None else state
    return cohorts.run(*(values[:, bars] for values in inputs), when[bars], state, rule, step_h)


def bits(levels):
    return np.stack([getattr(levels, field.name) for field in fields(levels)]).view(np.int64)


def sides(state):
    """(assets, sides) what each side of the book adds up to, bin by bin."""
    return state["book"].sum(axis=2) * state["scale"] + state["safe"]


@SETTINGS
@given(markets(), RULES)
def test_book_and_safe_equal_the_quantity_on_both_sides_after_every_bar(market, rule):
    state, last = cohorts.start(2, rule), np.full(2, np.nan)
    for t in range(len(market[5])):
        _, state = run(market, rule, state, slice(t, t + 1))
        moved = np.isfinite(market[0][:, t]) & np.isfinite(market[3][:, t])
        last = np.where(moved, market[3][:, t], last)
        held = np.isfinite(last)
        assert np.abs(sides(state)[held] / last[held, None] - 1).max(initial=0) < 1e-9
        assert not sides(state)[~held].any()
        assert state["book"].min() >= 0
        assert state["safe"].min() >= 0


@SETTINGS
@given(markets(), RULES, st.data())
def test_split_equals_whole_through_the_state(market, rule, data):
    whole, end = run(market, rule)
    cut = data.draw(st.integers(0, len(market[5])))
    first, between = run(market, rule, bars=slice(0, cut))
    second, after = run(market, rule, between, slice(cut, None))
    assert np.array_equal(np.concatenate([bits(first), bits(second)], axis=2), bits(whole))
    assert all(np.array_equal(after[name].view(np.int64), end[name].view(np.int64)) for name in end)


@SETTINGS
@given(markets(), RULES, st.data())
def test_the_future_changes_nothing_and_inputs_stay_as_they_are(market, rule, data):
    cut = data.draw(st.integers(1, len(market[5])))
    poisoned = tuple(np.concatenate([values[:, :cut], values[:, cut:] * 7.3], axis=1) for values in market[:5]) + market[5:]
    before = [values.copy() for values in poisoned[:5]]
    state = cohorts.start(2, rule)
    kept = {name: array.copy() for name, array in state.items()}
    after = run(poisoned, rule, state)[0]
    assert np.array_equal(bits(run(market, rule)[0])[:, :, :cut], bits(after)[:, :, :cut])
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(before, poisoned, strict=False))
    assert all(np.array_equal(state[name], kept[name], equal_nan=True) for name in kept)


@SETTINGS
@given(markets(), RULES, st.sampled_from([1e-9, 0.3, 1e9]))
def test_the_scale_of_quantity_does_not_matter(market, rule, factor):
    scaled = (*market[:3], market[3] * factor, *market[4:])
    one, other = run(market, rule)[0], run(scaled, rule)[0]
    for name in ("near", "triggered_long", "triggered_short", "guessed"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6, abs=1e-9, nan_ok=True)


@SETTINGS
@given(markets(), RULES)
def test_assets_do_not_know_of_each_other(market, rule):
    both = bits(run(market, rule)[0])
    for a in range(2):
        alone = tuple(values[a : a + 1] for values in market[:5])
        assert np.array_equal(bits(cohorts.run(*alone, market[5], cohorts.start(1, rule), rule, market[6])[0]), both[:, a : a + 1])


@SETTINGS
@given(markets(), RULES)
def test_no_level_lies_where_the_price_has_been(market, rule):
    _, state = run(market, rule)
    for a in range(2):
        moves = np.flatnonzero(np.isfinite(market[0][a]) & np.isfinite(market[3][a]))
        if not len(moves):
            continue
        since = slice(moves[-1], None)
        seen = np.concatenate([market[0][a, since], market[1][a, since][1:], market[2][a, since][1:]])
        price, longs, shorts = cohorts.ladder(state, a, float(market[0][a, moves[-1]]), rule)
        edge = math.exp(rule.bin_log)
        assert (np.diff(price) > 0).all()
        assert (price[longs > 0] < np.nanmin(seen) * edge).all()
        assert (price[shorts > 0] > np.nanmax(seen) / edge).all()
        assert longs.sum() <= 1 + 1e-9
        assert shorts.sum() <= 1 + 1e-9


class SlowBook:
    """METHODOLOGY 2.4 word by word, one dictionary of bins per side. Never loses sight of a bin; for one asset without gaps."""

    def __init__(self, rule):
        self.rule, self.bins, self.safe, self.before = rule, ({}, {}), [0.0, 0.0], 0.0

    def held(self, side):
        return sum(self.bins[side].values()) + self.safe[side]

    def move(self, close, high, low, quantity, hours):
        rule, crossed = self.rule, [0.0, 0.0]
        for side, sign in enumerate((1, -1)):
            edge = math.floor(math.log(min(low, close) if side == 0 else max(high, close)) / rule.bin_log)
            gone = [b for b in self.bins[side] if (b >= edge if side == 0 else b <= edge)]
            crossed[side] = sum(self.bins[side].pop(b) for b in gone)
            total = self.held(side)
            factor = min(1.0, quantity / total if total else 1.0) * (1 - rule.turnover_per_h) ** hours
            self.bins[side].update({b: mass * factor for b, mass in self.bins[side].items()})
            self.safe[side] *= factor
            shortfall = quantity - self.held(side)
            if shortfall < 1e-12 * quantity:
                continue
            self.safe[side] += rule.safe_share * shortfall
            for leverage, share in zip(rule.leverages, rule.tier_shares, strict=True):
                for inverse, part in ((False, 1 - rule.inverse_share), (True, rule.inverse_share)):
                    level = cohorts.liquidation_price(close, leverage, rule.maintenance_share, sign, inverse)
                    b = math.floor(math.log(level) / rule.bin_log)
                    self.bins[side][b] = self.bins[side].get(b, 0.0) + (1 - rule.safe_share) * share * part * shortfall
        shares = [mass / self.before if self.before else math.nan for mass in crossed]
        self.before = quantity
        return shares

    def near(self, close, sigma, side):
        at, width = math.log(close), self.rule.bin_log
        span = (at - sigma, at) if side == 0 else (at, at + sigma)
        inside = {b: max(0.0, min(span[1], (b + 1) * width) - max(span[0], b * width)) / width for b in self.bins[side]}
        return sum(mass * inside[b] for b, mass in self.bins[side].items()) / self.before

    def in_reach(self, close, sigma):
        """(bin, side, share of the quantity) of all bins within reach, the price's own included, empty ones too."""
        at, count = math.floor(math.log(close) / self.rule.bin_log), math.ceil(self.rule.dense_reach_sigma * sigma / self.rule.bin_log)
        places = [(at + sign * n, side) for side, sign in ((0, -1), (1, 1)) for n in range(count)]
        return [(b, side, self.bins[side].get(b, 0.0) / self.before) for b, side in places]

    def dense(self, close, sigma):
        """The share that makes a bin dense."""
        shares = sorted(share for *_, share in self.in_reach(close, sigma))
        return shares[math.ceil(self.rule.dense_quantile * len(shares)) - 1] * (1 - 1e-9)

    def distance(self, close, sigma, dense):
        """To the nearest dense bin, in sigmas, + above."""
        found = [
            (b + 0.5) * self.rule.bin_log - math.log(close) for b, _, share in self.in_reach(close, sigma) if share > 0 and share >= dense
        ]
        return min(found, key=abs, default=math.nan) / sigma


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.1]), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.4]))
def test_it_is_the_book_of_the_specification(seed, turnover, safe, inverse):
    rule = CohortRule(turnover_per_h=turnover, safe_share=safe, inverse_share=inverse, warm_share=1.0)
    rng = np.random.default_rng(seed)
    bars = 80
    close = 20_000 * np.exp(np.cumsum(0.02 * rng.standard_normal((1, bars)), axis=1))
    high, low = (close * np.exp(sign * 0.02 * np.abs(rng.standard_normal((1, bars)))) for sign in (1, -1))
    quantity = 5e4 * np.exp(np.cumsum(0.05 * rng.standard_normal((1, bars)), axis=1))
    sigma = np.full((1, bars), 0.07)
    when = T0 + np.arange(1, bars + 1) * HOUR_US
    levels, state = cohorts.run(close, high, low, quantity, sigma, when, cohorts.start(1, rule), rule, 1.0)
    slow, dense = SlowBook(rule), math.inf
    for t in range(bars):
        shares = slow.move(close[0, t], high[0, t], low[0, t], quantity[0, t], 1.0)
        assert [levels.triggered_long[0, t], levels.triggered_short[0, t]] == pytest.approx(shares, abs=1e-9, nan_ok=True)
        near = [slow.near(close[0, t], 0.07, side) for side in (0, 1)]
        assert [levels.near_long[0, t], levels.near_short[0, t]] == pytest.approx(near, abs=1e-9)
        assert levels.near[0, t] == levels.near_long[0, t] + levels.near_short[0, t]
        if t == 0 or when[t] % DAY_US == 0:
            dense = slow.dense(close[0, t], 0.07)
        assert levels.distance_sigma[0, t] == pytest.approx(slow.distance(close[0, t], 0.07, dense), abs=1e-9, nan_ok=True)
    price, longs, shorts = cohorts.ladder(state, 0, float(close[0, -1]), rule)
    for side, shares in ((0, longs), (1, shorts)):
        found = {math.floor(math.log(p) / rule.bin_log): share for p, share in zip(price, shares, strict=True) if share > 1e-12}
        expected = {b: mass / quantity[0, -1] for b, mass in slow.bins[side].items() if mass / quantity[0, -1] > 1e-12}
        assert found == pytest.approx(expected, rel=1e-7)


def test_a_leak_would_be_seen():
    """The positive control: a book that is told the next close breaks the law of the future."""
    rule = CohortRule(warm_share=1.0)
    close = np.exp(np.cumsum(0.03 * np.random.default_rng(1).standard_normal((2, 40)), axis=1))
    when, flat = T0 + np.arange(1, 41) * HOUR_US, np.ones((2, 40))

    def leaky(prices):
        return bits(run((np.roll(prices, -1, axis=1), prices * np.nan, prices * np.nan, flat, flat * 0.05, when, 1.0), rule)[0])

    poisoned = np.concatenate([close[:, :20], close[:, 20:] * 1.5], axis=1)
    assert not np.array_equal(leaky(close)[:, :, :20], leaky(poisoned)[:, :, :20])


def test_forty_thousand_bars_do_not_wear_the_invariant_out():
    """Without turnover nothing old ever fades: the sum that is carried along must still be the sum of the bins."""
    rng = np.random.default_rng(5)
    shape = (1, 40_000)
    close = np.exp(np.cumsum(0.01 * rng.standard_normal(shape), axis=1))
    quantity = np.exp(0.2 * np.sin(np.arange(shape[1]) / 50.0))[None] * np.exp(0.02 * rng.standard_normal(shape))
    when, unknown = T0 + np.arange(1, shape[1] + 1) * HOUR_US, np.full(shape, np.nan)
    for turnover in (0.0, 0.02):
        rule = replace(CohortRule(), turnover_per_h=turnover)
        _, state = cohorts.run(close, unknown, unknown, quantity, unknown, when, cohorts.start(1, rule), rule, 1.0)
        assert np.abs(sides(state)[0] / quantity[0, -1] - 1).max() < 1e-9
        assert np.abs(state["book"].sum(axis=2) / state["held"] - 1).max() < 1e-9

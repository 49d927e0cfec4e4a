"""Laws of the estimated weights, of the ciss alternative and of the market: same bits whatever the cut, sums that hold, nothing below zero.

The market's few cases by hand stand here, too.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transforms.estimators import DAY_US, HOUR_US
from transforms.index import ciss, market, schemes
from transforms.rules import MarketRule, SchemeRule
from transforms.vocabulary import STATUSES

RULE = SchemeRule(min_history_d=20.0, ciss_min_history_d=10.0)
FIXED = np.array([0.35, 0.2, 0.2, 0.15, 0.1])
PRICED = np.array([False, True, False, False, True])
COMPONENTS = np.array([0.4, 0.3, 0.2, 0.1])
MARKET = MarketRule(assets=("BTC", "ETH", "SOL"))
PAIR = MarketRule()
ASSETS = ["AVAX", "BTC", "ETH", "SOL"]
#: not the first of a month
START = int(np.datetime64("2023-01-17", "us").astype(np.int64)) // DAY_US * DAY_US
#: three months: two ramps and the beginning of a third
BARS = {24: 110, 6: 4 * 80}

seeds = st.integers(0, 2**32 - 1)
steps = st.sampled_from(sorted(BARS))
quick = settings(max_examples=25, deadline=None)


def grid(step_h):
    return START + np.arange(1, BARS[step_h] + 1) * step_h * HOUR_US


def scores_of(seed, step_h, assets=2):
    """Family scores with common moves, gaps, a constant family, an asset that comes late; and returns with gaps."""
    random = np.random.default_rng(seed)
    shape = (len(FIXED), assets, BARS[step_h])
    own, common = random.normal(size=shape), random.normal(size=shape[1:])
    mixed = random.uniform(-1, 1, size=(len(FIXED), 1, 1))
    scores = np.clip(random.choice([0.2, 0.6, 5.0]) * (own * (1 - np.abs(mixed)) + common * mixed), -1, 1)
    scores[random.uniform(size=shape) < 0.1] = 0.0
    scores[random.integers(len(FIXED)), random.integers(assets)] = random.choice([0.0, 0.4, np.nan])
    scores[:, random.integers(assets), : random.integers(BARS[step_h])] = 0.0
    returns = random.normal(scale=0.1, size=shape[1:])
    returns[random.uniform(size=returns.shape) < 0.1] = np.nan
    return scores, returns


def percentiles_of(seed, step_h, assets=2):
    random = np.random.default_rng(seed)
    shape = (len(COMPONENTS), assets, BARS[step_h])
    mixed = random.uniform(-1, 1, size=(len(COMPONENTS), 1, 1))
    p = np.clip(0.5 + 0.5 * (random.uniform(-1, 1, size=shape) * (1 - np.abs(mixed)) + mixed * random.uniform(-1, 1, size=shape[1:])), 0, 1)
    known = random.uniform(size=shape) > random.choice([0.0, 0.1, 0.9])
    known[random.integers(len(COMPONENTS)), random.integers(assets), : random.integers(BARS[step_h])] = False
    known[:, random.integers(assets), : random.integers(BARS[step_h] // 2)] = False
    return np.where(known, p, 0.5), known


def interest_of(seed, step_h):
    random = np.random.default_rng(seed)
    usd = np.exp(random.normal(scale=0.2, size=(4, BARS[step_h])) + np.array([[1.0], [random.choice([1.0, 4.0])], [1.5], [0.1]]))
    usd[random.uniform(size=usd.shape) < 0.2] = np.nan
    usd[random.integers(4), : random.integers(BARS[step_h])] = np.nan
    usd[:, : random.integers(30)] = np.nan
    return usd


def weighted(scores, returns, when, state, step_h):
    found, after = schemes.run(scores, FIXED, returns, when, state, RULE, step_h, priced=PRICED)
    rows = {f"{name}:{scheme}": getattr(found, name)[scheme] for name in ("values", "weights", "basis") for scheme in schemes.SCHEMES}
    return rows, after


def fragile(p, known, when, state, step_h):
    found, after = ciss.run(p, known, COMPONENTS, when, state, RULE, step_h)
    return {"value": found.value, "contributions": found.contributions, "linear": found.linear}, after


#: what is run: inputs, its state before the first bar, the run
RUNS = {
    "schemes": (scores_of, lambda assets: schemes.start(assets, len(FIXED), RULE), weighted),
    "ciss": (percentiles_of, lambda assets: ciss.start(assets, len(COMPONENTS), RULE), fragile),
}


def bits(values):
    values = np.ascontiguousarray(values)
    return values.view(np.int64) if values.dtype == np.float64 else values


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(bits(one[name]), bits(other[name])) for name in one)


@pytest.mark.parametrize("what", RUNS)
@quick
@given(seed=seeds, step_h=steps, cuts=st.lists(st.floats(0, 1), max_size=4))
@example(seed=1, step_h=24, cuts=[0.16, 0.18])  # between an estimate and its ramp, and within the ramp
@example(seed=2, step_h=6, cuts=[0.0, 1.0])
def test_split_equals_whole_at_any_cut(what, seed, step_h, cuts):
    make, begin, run = RUNS[what]
    inputs, when = make(seed, step_h), grid(step_h)
    whole, last = run(*inputs, when, begin(2), step_h)
    ends = [0, *sorted(round(cut * len(when)) for cut in cuts), len(when)]
    state, pieces = begin(2), []
    for low, high in pairwise(ends):
        piece, state = run(*(one[..., low:high] for one in inputs), when[low:high], state, step_h)
        pieces.append(piece)
    assert same({name: np.concatenate([piece[name] for piece in pieces], axis=-1) for name in whole}, whole)
    assert same(state, last)


@pytest.mark.parametrize("what", RUNS)
@quick
@given(seed=seeds, step_h=steps, share=st.floats(0, 1))
def test_what_comes_later_changes_nothing(what, seed, step_h, share):
    """Truncated after a bar, or poisoned after it: the same bits up to it."""
    make, begin, run = RUNS[what]
    inputs, when = make(seed, step_h), grid(step_h)
    whole, _ = run(*inputs, when, begin(2), step_h)
    cut = round(share * len(when))
    short, _ = run(*(one[..., :cut] for one in inputs), when[:cut], begin(2), step_h)
    other = make(seed + 1, step_h)
    poisoned, _ = run(
        *(np.concatenate([a[..., :cut], b[..., cut:]], axis=-1) for a, b in zip(inputs, other, strict=True)), when, begin(2), step_h
    )
    upto = {name: values[..., :cut] for name, values in whole.items()}
    assert same(short, upto)
    assert same({name: values[..., :cut] for name, values in poisoned.items()}, upto)


@pytest.mark.parametrize("what", RUNS)
@quick
@given(seed=seeds, step_h=steps)
def test_an_asset_has_the_same_numbers_in_any_company(what, seed, step_h):
    """Also from a state put together from several, and nothing handed over is changed."""
    make, begin, run = RUNS[what]
    inputs, when = make(seed, step_h, 3), grid(step_h)
    half = len(when) // 2
    kept = [one.copy() for one in inputs]
    first, state = run(*(one[..., :half] for one in inputs), when[:half], begin(3), step_h)
    frozen = {name: values.copy() for name, values in state.items()}
    second, _ = run(*(one[..., half:] for one in inputs), when[half:], state, step_h)
    assert same(state, frozen)
    assert all(np.array_equal(bits(a), bits(b)) for a, b in zip(inputs, kept, strict=True))
    order = [2, 0]
    picked, state = run(*(one[..., order, :half] for one in inputs), when[:half], begin(2), step_h)
    assert same(picked, {name: values[..., order, :] for name, values in first.items()})
    alone, _ = run(*(one[..., [2], half:] for one in inputs), when[half:], {name: values[:1] for name, values in state.items()}, step_h)
    assert same(alone, {name: values[..., [2], :] for name, values in second.items()})


# --- schemes --------------------------------------------------------------------------------------------------------------------


@quick
@given(seed=seeds, step_h=steps)
def test_weights_are_never_negative_and_add_up_to_one(seed, step_h):
    scores, returns = scores_of(seed, step_h)
    found, _ = weighted(scores, returns, grid(step_h), schemes.start(2, len(FIXED), RULE), step_h)
    for scheme in schemes.SCHEMES:
        weights = found[f"weights:{scheme}"]
        assert (weights >= 0.0).all()
        assert (weights.sum(axis=0) == 1.0).all()
        values = found[f"values:{scheme}"]
        assert ((values >= 0.0) & (values <= 100.0)).all()
        assert np.abs(values - 50 - 50 * (weights * np.nan_to_num(scores)).sum(axis=0)).max() < 1e-9
        assert (found[f"basis:{scheme}"][:, : 15 * 24 // step_h] == schemes.Basis.WARMING).all()


@quick
@given(seed=seeds, step_h=steps, side=st.sampled_from([-1.0, 1.0]))
def test_s_reaches_its_ends_and_does_not_leave_them(seed, step_h, side):
    """Weights estimated on anything; then every family at its limit."""
    scores, returns = scores_of(seed, step_h)
    scores[:, :, -1] = side
    found, _ = weighted(scores, returns, grid(step_h), schemes.start(2, len(FIXED), RULE), step_h)
    for scheme in schemes.SCHEMES:
        assert (found[f"values:{scheme}"][:, -1] == 50 + 50 * side).all()


@settings(deadline=None)
@given(
    columns=st.lists(st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1e12)), min_size=4, max_size=4), min_size=1, max_size=5),
)
def test_exact_shares_are_shares_and_keep_what_is_exact(columns):
    weights = np.array(columns).T
    found = market.exact_shares(weights)
    empty = weights.sum(axis=0) == 0.0
    assert np.isnan(found[:, empty]).all()
    known = found[:, ~empty]
    assert (known >= 0.0).all()
    assert (known.sum(axis=0) == 1.0).all()
    assert known == pytest.approx(weights[:, ~empty] / weights[:, ~empty].sum(axis=0), abs=1e-14)
    assert np.array_equal(market.exact_shares(known), known)


# --- ciss -----------------------------------------------------------------------------------------------------------------------


@quick
@given(seed=seeds, step_h=steps)
def test_ciss_adds_up_and_lies_between_nothing_and_the_weighted_mean(seed, step_h):
    p, known = percentiles_of(seed, step_h)
    found, _ = fragile(p, known, grid(step_h), ciss.start(2, len(COMPONENTS), RULE), step_h)
    value = found["value"]
    some = known.any(axis=0)
    assert np.array_equal(np.isfinite(value), some)
    assert np.isnan(found["contributions"][:, ~some]).all()
    assert np.abs(found["contributions"].sum(axis=0) - value)[some].max() < 1e-9
    mean = 100 * (COMPONENTS[:, None, None] * p).sum(axis=0)
    assert ((value >= 0.0) & (value <= mean + 1e-9))[some].all()
    linear = found["linear"] == len(COMPONENTS)
    assert value[some & linear] == pytest.approx(mean[some & linear], abs=1e-9)


# --- market ---------------------------------------------------------------------------------------------------------------------


def shares(interest, assets, rule=PAIR, first=0, step_h=24):
    return market.weights(np.array(interest, dtype=float), assets, rule, step_h, first)


def test_bitcoin_is_capped_and_the_others_share_the_rest_pro_rata():
    rule = MarketRule(assets=("BTC", "ETH", "SOL"))
    found = shares([[80.0] * 5, [15.0] * 5, [5.0] * 5], ["BTC", "ETH", "SOL"], rule)
    assert found[:, -1] == pytest.approx([0.6, 0.3, 0.1], abs=1e-12)
    below = shares([[50.0] * 5, [30.0] * 5, [20.0] * 5], ["BTC", "ETH", "SOL"], rule)
    assert below[:, -1] == pytest.approx([0.5, 0.3, 0.2], abs=1e-12)


def test_only_bitcoin_is_capped():
    assert shares([[10.0], [90.0]], ["BTC", "ETH"])[:, 0] == pytest.approx([0.1, 0.9], abs=1e-12)


def test_a_market_of_one_has_all_of_the_weight():
    assert shares([[80.0] * 3], ["BTC"])[0].tolist() == [1.0] * 3
    assert shares([[80.0] * 3, [9.0] * 3], ["BTC", "DOGE"]).tolist() == [[1.0] * 3, [0.0] * 3]  # DOGE is in no rule
    assert np.isnan(shares([[9.0] * 3], ["DOGE"])).all()


def test_market_weights_are_medians_of_thirty_days():
    btc, eth = np.full(60, 50.0), np.full(60, 50.0)
    btc[40:50] = 5.0  # ten odd days of thirty do not move a median
    assert shares([btc, eth], ["BTC", "ETH"])[0] == pytest.approx(np.full(60, 0.5), abs=1e-12)
    eth[20:] = 150.0
    found = shares([np.full(60, 50.0), eth], ["BTC", "ETH"])[0]
    assert found[33] == pytest.approx(0.5)  # 14 of 30
    assert found[35] == pytest.approx(0.25)  # 16 of 30
    hourly = shares([np.repeat(np.full(60, 50.0), 24), np.repeat(eth, 24)], ["BTC", "ETH"], step_h=1)[0]
    assert hourly[23::24] == pytest.approx(found)


def test_market_without_open_interest_has_no_weights():
    unknown = np.full((2, 4), np.nan)
    found = shares(unknown, ["BTC", "ETH"])
    assert np.isnan(found).all()
    index = market.aggregate(np.full((2, 4), 60.0), found, PAIR, 50.0)
    assert np.isnan(index.value).all()
    assert (index.known_weight == 0.0).all()
    assert [STATUSES[code] for code in index.status] == ["withheld"] * 4


def test_market_of_two_adds_up_by_hand():
    index = market.aggregate(np.array([[70.0], [40.0]]), np.array([[0.6], [0.4]]), PAIR, 50.0)
    assert index.value[0] == pytest.approx(58.0)
    assert index.contributions[:, 0] == pytest.approx([12.0, -4.0])
    stress = market.aggregate(np.array([[70.0], [40.0]]), np.array([[0.6], [0.4]]), PAIR, 0.0)
    assert stress.value[0] == pytest.approx(58.0)
    assert stress.contributions[:, 0] == pytest.approx([42.0, 16.0])


def test_a_withheld_asset_contributes_nothing_and_lowers_the_known_weight():
    values = np.array([[70.0, np.nan, np.nan], [40.0, 40.0, np.nan]])
    weights = np.repeat([[0.6], [0.4]], 3, axis=1)
    index = market.aggregate(values, weights, PAIR, 50.0)
    assert index.known_weight.tolist() == [1.0, 0.4, 0.0]
    assert [STATUSES[code] for code in index.status] == ["ok", "indicative", "withheld"]
    assert index.value[1] == pytest.approx(46.0)
    assert index.contributions[0, 1] == 0.0
    assert np.isnan(index.value[2])
    strict = market.aggregate(values, weights, replace(PAIR, min_known_weight=0.5), 50.0)
    assert np.isnan(strict.value[1:]).all()
    assert np.isnan(strict.contributions[:, 1:]).all()


def test_market_rules_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="once"):
        shares([[1.0]], ["BTC"], MarketRule(assets=("BTC", "BTC")))
    with pytest.raises(ValueError, match="once"):
        shares([[1.0], [1.0]], ["BTC", "BTC"])
    with pytest.raises(ValueError, match="cap_share"):
        shares([[1.0]], ["BTC"], MarketRule(cap_share=0.0))


@quick
@given(seed=seeds, step_h=steps)
def test_market_weights_are_shares_under_the_cap(seed, step_h):
    usd = interest_of(seed, step_h)
    found = market.weights(usd, ASSETS, MARKET, step_h, 0)
    known = np.isfinite(found)
    assert (known == known[0]).all()
    some = known[0]
    window = 30 * 24 // step_h
    seen = np.isfinite(usd[1:]).any(axis=0)
    assert np.array_equal(some, [seen[max(0, t - window + 1) : t + 1].any() for t in range(len(seen))])
    assert (found[:, some] >= 0.0).all()
    assert (found[:, some].sum(axis=0) == 1.0).all()
    assert (found[0, some] == 0.0).all()
    assert (found[1, some & (found[1] < 1.0)] <= 0.6 + 1e-12).all()


@quick
@given(seed=seeds, step_h=steps, share=st.floats(0, 1))
def test_market_weights_see_thirty_days_and_nothing_later(seed, step_h, share):
    usd = interest_of(seed, step_h)
    whole = market.weights(usd, ASSETS, MARKET, step_h, 0)
    cut = round(share * (BARS[step_h] - 1))
    begin = max(0, cut - 30 * 24 // step_h + 1)
    part = market.weights(usd[:, begin : cut + 1], ASSETS, MARKET, step_h, cut - begin)
    assert np.array_equal(bits(part[:, -1]), bits(whole[:, cut]))
    assert np.isnan(part[:, :-1]).all()
    order = [3, 1, 0, 2]
    other = market.weights(usd[order], [ASSETS[n] for n in order], MARKET, step_h, 0)
    assert np.array_equal(bits(other), bits(whole[order]))


@quick
@given(seed=seeds, step_h=steps, neutral=st.sampled_from([0.0, 50.0]), least=st.sampled_from([0.0, 0.3, 1.0]))
def test_market_adds_up_through_its_assets(seed, step_h, neutral, least):
    random = np.random.default_rng(seed)
    weights = market.weights(interest_of(seed, step_h), ASSETS, MARKET, step_h, 0)
    values = random.uniform(0, 100, size=weights.shape)
    values[random.uniform(size=values.shape) < 0.3] = np.nan
    found = market.aggregate(values, weights, replace(MARKET, min_known_weight=least), neutral)
    has = np.isfinite(found.value)
    assert np.array_equal(has, (np.round(found.known_weight, 6) >= least) & (np.round(found.known_weight, 6) > 0))
    assert np.abs(found.contributions[:, has].sum(axis=0) - (found.value[has] - neutral)).max(initial=0.0) < 1e-9
    assert ((found.value[has] >= 0.0) & (found.value[has] <= 100.0)).all()
    withheld = np.isnan(values)
    assert (found.contributions[withheld & has] == 0.0).all()
    given_ = np.where(np.isfinite(values) & np.isfinite(weights), weights, 0.0).sum(axis=0)
    assert found.known_weight == pytest.approx(given_, abs=1e-12)
    assert np.isnan(found.contributions[:, ~has]).all()

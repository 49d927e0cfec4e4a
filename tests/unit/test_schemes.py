"""Estimated family weights and the ciss alternative of F, on cases that can be worked out by hand or in another way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from transforms.estimators import DAY_US, HOUR_US
from transforms.index import ciss, market, schemes
from transforms.index.schemes import Basis
from transforms.rules import SchemeRule

RULE = SchemeRule(min_history_d=60.0)
#: the end of 2022: the first bar of a daily grid from here is 2023-01-01, the first of a month
START = int(np.datetime64("2022-12-31", "us").astype(np.int64))
FIXED = np.array([0.4, 0.3, 0.2, 0.1])
PRICED = np.array([False, True, False, False])


def days(count, step_h=24):
    return START + np.arange(1, count * 24 // step_h + 1) * step_h * HOUR_US


def bar(day):
    """Place of a date on the daily grid."""
    return (int(np.datetime64(day, "us").astype(np.int64)) - START) // DAY_US - 1


def noise(seed, *shape, scale=0.3):
    return np.clip(np.random.default_rng(seed).normal(scale=scale, size=shape), -1, 1)


def run(scores, returns=None, rule=RULE, fixed=FIXED, priced=PRICED, step_h=24, state=None, when=None):
    """Scores of one asset, (families, bars)."""
    families, bars = scores.shape
    when = days(bars * step_h // 24, step_h) if when is None else when
    returns = np.full(bars, np.nan) if returns is None else returns
    state = schemes.start(1, families, rule) if state is None else state
    return schemes.run(scores[:, None], fixed, returns[None], when, state, rule, step_h, priced=priced)


# --- equal risk contribution ----------------------------------------------------------------------------------------------------


def test_erc_of_two_and_of_three_by_hand():
    """Two: a half each, whatever their correlation. Three of which two correlate: x (1 + .44) x = z z, so 1 : 1 : 1.2."""
    for r in (-0.9, 0.0, 0.5, 0.9):
        assert schemes.equal_risk(np.array([[1.0, r], [r, 1.0]]), RULE.erc_sweeps) == pytest.approx([0.5, 0.5], abs=1e-12)
    correlation = np.array([[1.0, 0.44, 0.0], [0.44, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert schemes.equal_risk(correlation, RULE.erc_sweeps) == pytest.approx([0.3125, 0.3125, 0.375], abs=1e-12)


@pytest.mark.parametrize("families", [3, 5, 7])
def test_erc_contributes_equal_risk_on_any_shrunk_correlation(families):
    for seed in range(40):
        factors = noise(seed, families, families + 1 - seed % 2, scale=1.0)
        correlation = 0.9 * np.corrcoef(factors) + 0.1 * np.eye(families)
        weights = schemes.equal_risk(correlation, RULE.erc_sweeps)
        risks = weights * (correlation @ weights)
        assert risks / risks.sum() == pytest.approx(np.full(families, 1 / families), abs=1e-12)
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)


# --- principal component --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("families", [2, 4, 7])
def test_pca_is_the_first_eigenvector_turned_towards_the_fixed_weights(families):
    fixed = np.arange(1.0, families + 1)
    found = 0
    for seed in range(40):
        correlation = 0.9 * np.corrcoef(noise(seed, families, 2 * families, scale=1.0)) + 0.1 * np.eye(families)
        values, vectors = np.linalg.eigh(correlation)
        first = vectors[:, -1] * np.sign(vectors[:, -1] @ fixed)
        if values[-1] / values[-2] < 1.03 or abs(first @ fixed) < 0.01:
            continue  # two components of about one size: neither is the first
        found += 1
        assert schemes.first_component(correlation, fixed, RULE.pca_iterations) == pytest.approx(first, abs=1e-9)
    assert found > 20
    alone = schemes.first_component(np.eye(families), fixed, RULE.pca_iterations)
    assert alone / alone.sum() == pytest.approx(fixed / fixed.sum(), abs=1e-12)


def test_pca_of_opposed_families_drops_the_one_against_the_fixed_weights():
    common = noise(1, 400)
    scores = np.stack([common, common + noise(2, 400) * 0.1, -common + noise(3, 400) * 0.1, np.zeros(400)]) * 0.5
    found, _ = run(scores)
    weights = found.weights["pca"][:, 0, -1]
    assert weights[2] == pytest.approx(0.2 / 2, abs=1e-12)  # what half of the fixed weight leaves
    assert weights[3] == pytest.approx(0.1, abs=1e-12)
    assert weights[0] + weights[1] == pytest.approx(0.9 - 0.1, abs=1e-12)


# --- what the estimates see -----------------------------------------------------------------------------------------------------


def by_hand(scores, rule):
    """Correlation of the scores, weighted 2^(-age / half-life), shrunk, with numpy's own means."""
    age_d = np.arange(scores.shape[1])[::-1]
    weight = 2.0 ** (-age_d / rule.correlation_half_life_d)
    covariance = np.cov(scores, aweights=weight, ddof=0)
    deviation = np.sqrt(np.diag(covariance))
    return (1 - rule.identity_shrink) * covariance / np.outer(deviation, deviation) + rule.identity_shrink * np.eye(len(scores))


def test_weights_rest_on_the_weighted_correlation_known_at_the_first_of_the_month():
    mixed = np.array([[1, 0, 0, 0], [0.8, 0.6, 0, 0], [0.3, 0, 0.9, 0], [0, -0.5, 0.2, 0.8]]) @ noise(5, 4, 200)
    scores = np.clip(mixed, -1, 1)
    found, _ = run(scores)
    seen = scores[:, : bar("2023-06-01") + 1]
    correlation = by_hand(seen, RULE)
    weights = found.weights["erc"][:, 0, bar("2023-06-20")]
    risks = weights * (correlation @ weights)
    assert risks / risks.sum() == pytest.approx(np.full(4, 0.25), abs=1e-9)
    first = np.linalg.eigh(correlation)[1][:, -1]
    first = np.maximum(first * np.sign(first @ FIXED), 0.0)
    assert found.weights["pca"][:, 0, bar("2023-06-20")] == pytest.approx(0.5 * first / first.sum() + 0.5 * FIXED, abs=1e-9)


def test_a_new_estimate_waits_a_day_and_takes_seven():
    found, _ = run(noise(6, 4, 200))
    weights = found.weights["erc"][:, 0]
    at = bar("2023-06-01")
    before, after = weights[:, at], weights[:, bar("2023-06-30")]
    assert not np.allclose(before, after)
    assert np.array_equal(weights[:, at + 1], before)
    for day in range(8):
        assert weights[:, at + 1 + day] == pytest.approx(before + (after - before) * day / 7, abs=1e-15)
    assert np.array_equal(weights[:, at + 8], after)


def test_hourly_scores_enter_every_four_hours():
    scores = noise(7, 4, 24 * 100)
    changed = scores.copy()
    changed[:, np.arange(1, scores.shape[1] + 1) % 4 != 0] = 0.9
    one, other = (run(each, step_h=1)[0].weights["erc"] for each in (scores, changed))
    assert np.array_equal(one, other)
    assert not np.array_equal(one[:, 0, -1], FIXED)


def test_a_family_that_does_not_vary_keeps_its_fixed_weight():
    scores = noise(8, 4, 150)
    scores[1] = 0.7
    found, _ = run(scores)
    for scheme in schemes.SCHEMES[:2]:
        weights = found.weights[scheme][:, 0, -1]
        assert weights[1] == pytest.approx(0.3, abs=1e-15)
        assert weights[[0, 2, 3]].sum() == pytest.approx(0.7, abs=1e-15)
        assert found.basis[scheme][0, -1] == Basis.ESTIMATED


def test_without_variance_or_input_every_scheme_is_fixed_and_says_so():
    exact = market.exact_shares(FIXED[:, None])
    for scores, basis in (
        (np.full((4, 150), 0.5), Basis.FLAT),
        (np.zeros((4, 150)), Basis.WARMING),
        (np.full((4, 150), np.nan), Basis.WARMING),
    ):
        found, _ = run(scores, returns=noise(9, 150))
        for scheme in schemes.SCHEMES:
            assert np.array_equal(found.weights[scheme][:, 0], np.broadcast_to(exact, (4, 150)))
            assert found.basis[scheme][0, -1] == basis
            assert found.values[scheme][0] == pytest.approx(50 + 50 * (FIXED[:, None] * np.nan_to_num(scores)).sum(axis=0), abs=1e-12)
    assert set(schemes.WORDS) == set(Basis)
    assert all(schemes.WORDS[basis].startswith("fixed weights: ") for basis in Basis if basis is not Basis.ESTIMATED)


def test_too_little_history_is_fixed_weights():
    found, _ = run(noise(10, 4, 200), rule=replace(RULE, min_history_d=120.0))
    start = bar("2023-05-01")  # the first 1st with 120 d behind it
    for scheme in schemes.SCHEMES[:2]:
        assert (found.weights[scheme][:, 0, : start + 2] == market.exact_shares(FIXED[:, None])).all()
        assert (found.basis[scheme][0, : start + 2] == Basis.WARMING).all()
        assert (found.basis[scheme][0, start + 2 :] == Basis.ESTIMATED).all()


# --- information coefficient ----------------------------------------------------------------------------------------------------


def world(bars, link, seed=12):
    """Scores and 7-day returns; family 2 says `link` of the return of the seven days that begin a bar after it."""
    scores = noise(seed, 4, bars)
    daily = noise(seed + 1, bars + 8, scale=0.02)
    for t in range(bars):
        daily[t + 2 : t + 9] += link * scores[2, t] / 7
    summed = np.array([daily[max(0, t - 6) : t + 1].sum() if t >= 6 else np.nan for t in range(bars)])
    return scores, summed


def test_ic_is_the_correlation_of_past_pairs_shrunk_by_their_days():
    scores, returns = world(600, 0.15)
    found, _ = run(scores, returns)
    at = bar("2024-07-01")
    # The return that ends at day e pairs with the score of day e - 8 (published by e - 7) and is used from e + 1 on.
    ends = np.arange(8, at)
    ic = np.array([np.corrcoef(scores[f, ends - 8], returns[ends])[0, 1] for f in range(4)])
    part = np.where(PRICED, 0.0, np.maximum(ic, 0.0))
    trust = len(ends) / (len(ends) + 3000)
    expected = trust * part / part.sum() + (1 - trust) * FIXED
    assert ic[2] > 0.3
    assert found.weights["ic"][:, 0, at + 10] == pytest.approx(expected, abs=2e-6)
    assert found.basis["ic"][0, at + 10] == Basis.ESTIMATED


def test_ic_moves_towards_the_family_that_says_something_but_no_further_than_its_days_allow():
    scores, returns = world(2000, 0.15)
    weights = run(scores, returns)[0].weights["ic"][:, 0]
    told = [weights[2, bar(f"{year}-03-20")] for year in (2024, 2026, 2028)]
    assert told[0] < told[1] < told[2]
    trust = 2000 / (2000 + 3000)
    assert 0.2 + 0.5 * trust * 0.8 < told[2] <= 0.2 * (1 - trust) + trust
    assert weights[1, -1] == pytest.approx(0.3 * (1 - (bar("2028-06-01") - 8) / (bar("2028-06-01") - 8 + 3000)), abs=1e-9)


def test_ic_without_positive_evidence_is_fixed_weights():
    scores, returns = world(300, 0.15)
    priced = np.array([True, True, False, True])
    found, _ = run(scores, -returns, priced=priced)
    assert found.basis["ic"][0, -1] == Basis.NO_EVIDENCE
    assert np.array_equal(found.weights["ic"][:, 0, -1], market.exact_shares(FIXED[:, None])[:, 0])


def test_ic_keeps_its_embargo():
    """What happened on the last day before the estimate, or later, is not in it."""
    scores, returns = world(200, 0.15)
    at = bar("2023-06-01")
    poisoned = returns.copy()
    poisoned[at:] = 9.0
    late = scores.copy()
    late[:, at - 8 :] = 0.9
    weights = run(scores, returns)[0].weights["ic"][:, 0]
    assert np.array_equal(run(scores, poisoned)[0].weights["ic"][:, 0, : at + 30], weights[:, : at + 30])
    assert np.array_equal(run(late, returns)[0].weights["ic"][:, 0, : at + 30], weights[:, : at + 30])
    poisoned[at - 1] = 9.0
    assert not np.array_equal(run(scores, poisoned)[0].weights["ic"][:, 0, : at + 30], weights[:, : at + 30])


# --- refusals -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ic_embargo_d": 0}, "ic_embargo_d"),
        ({"lag_d": 25.0}, "28 days"),
        ({"ramp_d": 0.0}, "28 days"),
        ({"identity_shrink": 0.0}, "identity_shrink"),
        ({"pca_fixed_shrink": 1.5}, "pca_fixed_shrink"),
        ({"ciss_half_life_d": 0.0}, "ciss_half_life_d"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(change, word):
    begin = ciss.start if word.startswith("ciss") else schemes.start
    with pytest.raises(ValueError, match=word):
        begin(1, 4, replace(RULE, **change))


def test_inputs_that_do_not_fit_are_refused():
    scores = noise(13, 4, 30)
    with pytest.raises(ValueError, match="add up to 1"):
        run(scores, fixed=FIXED * 2)
    with pytest.raises(ValueError, match=r"score of 2\.0"):
        run(np.full((4, 30), 2.0))
    with pytest.raises(ValueError, match="hand over"):
        run(scores, priced=PRICED[:2])
    with pytest.raises(ValueError, match="every bar of the grid"):
        run(scores, when=days(31)[np.arange(31) != 7])
    with pytest.raises(ValueError, match="multiples"):
        run(scores, when=START + np.arange(1, 31) * 5 * HOUR_US, step_h=5)
    _, state = run(scores)
    with pytest.raises(ValueError, match="after the state"):
        run(scores, state=state)


# --- ciss -----------------------------------------------------------------------------------------------------------------------

#: .5 x .8 + .3 x .6 + .2 x .7 = .4 + .18 + .14 = .72 (METHODOLOGY 8 gives the answer, not the case)
W, P = np.array([0.5, 0.3, 0.2]), np.array([0.8, 0.6, 0.7])


def aggregate(p, known=None, rule=RULE, weights=W, step_h=24):
    """p: (components, bars) of one asset."""
    known = np.ones(p.shape, dtype=bool) if known is None else known
    bars = p.shape[1]
    return ciss.run(
        p[:, None], known[:, None], weights, days(bars * step_h // 24, step_h), ciss.start(1, len(weights), rule), rule, step_h
    )[0]


def test_45_ciss_with_correlation_one_is_the_weighted_mean_and_euler_terms_add_up():
    total, terms = ciss.euler(W * P, np.ones((3, 3)), np.ones(3, dtype=bool))
    assert total == pytest.approx(0.72, abs=1e-15)
    assert terms == pytest.approx([0.4, 0.18, 0.14], abs=1e-15)
    assert sum(terms) == pytest.approx(total, abs=1e-15)


def test_45_ciss_of_components_that_always_moved_together_is_the_weighted_mean():
    p = np.repeat(noise(14, 1, 90) / 2 + 0.5, 3, axis=0)
    found = aggregate(np.hstack([p, P[:, None]]))
    assert found.linear[0, -1] == 0
    assert found.value[0, -1] == pytest.approx(72.0, abs=1e-9)
    assert found.contributions[:, 0, -1] == pytest.approx([40.0, 18.0, 14.0], abs=1e-9)


def test_ciss_weighs_components_that_are_high_together():
    """The same percentiles, in step or not: today's p are equal, F is not."""
    one = np.random.default_rng(15).uniform(size=(1, 200))
    together = np.repeat(one, 3, axis=0)
    apart = np.random.default_rng(16).uniform(size=(3, 200))
    together[:, -1] = apart[:, -1] = 0.9
    assert aggregate(together).value[0, -1] == pytest.approx(90.0, abs=1e-9)
    assert aggregate(apart).value[0, -1] < 70.0


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_ciss_uses_the_correlation_before_the_bar(missing):
    """C by hand: products about one half, weighted 2^(-age / half-life), of the bars before; a gap is no deviation."""
    random = np.random.default_rng(17)
    p, known = random.uniform(size=(3, 121)), random.uniform(size=(3, 121)) >= missing
    known[:, -1] = True
    p[~known] = 0.5
    weight = 2.0 ** (-np.arange(120)[::-1] / RULE.ciss_half_life_d)
    moments = ((p[:, :-1] - 0.5) * weight) @ (p[:, :-1] - 0.5).T
    c = moments / np.sqrt(np.outer(np.diag(moments), np.diag(moments)))
    a = W * p[:, -1]
    found = aggregate(p, known)
    assert found.linear[0, -1] == 0
    assert found.value[0, -1] == pytest.approx(100 * math.sqrt(a @ c @ a), abs=1e-9)
    assert found.contributions[:, 0, -1] == pytest.approx(100 * a * (c @ a) / math.sqrt(a @ c @ a), abs=1e-9)


def test_ciss_of_hours_looks_every_four():
    p = np.random.default_rng(23).uniform(size=(3, 24 * 40))
    changed = p.copy()
    changed[:, np.arange(1, p.shape[1] + 1) % 4 != 0] = 0.9
    changed[:, -1] = p[:, -1]
    one, other = aggregate(p, step_h=1), aggregate(changed, step_h=1)
    assert one.linear[0, -1] == 0
    assert one.value[0, -1] == other.value[0, -1]


def test_ciss_before_any_history_is_the_weighted_mean_and_says_so():
    p = np.random.default_rng(18).uniform(size=(3, 60))
    found = aggregate(p)
    assert (found.linear[0, :30] == 3).all()
    assert (found.linear[0, 30:] == 0).all()
    assert found.value[0, :30] == pytest.approx(100 * (W[:, None] * p[:, :30]).sum(axis=0), abs=1e-9)


def test_ciss_counts_a_component_it_never_saw_as_in_the_weighted_mean():
    p = np.random.default_rng(19).uniform(size=(3, 90))
    known = np.ones(p.shape, dtype=bool)
    p[1], known[1] = 0.5, False
    found = aggregate(p, known)
    assert found.linear[0, -1] == 1
    assert found.contributions[1, 0, -1] == pytest.approx(100 * 0.3 * 0.5, abs=1e-12)
    rest = aggregate(p[[0, 2]], weights=np.array([5 / 7, 2 / 7]))
    assert found.value[0, -1] == pytest.approx(0.7 * rest.value[0, -1] + 15.0, abs=1e-9)


def test_ciss_joins_what_varies_while_it_is_known():
    """A component far from the middle for 40 days, then exactly on it: it counts until its weighted deviation is below 0.01."""
    p = np.random.default_rng(22).uniform(size=(3, 900))
    p[0] = np.where(np.arange(900) < 40, 0.8, 0.5)
    known = np.ones(p.shape, dtype=bool)
    known[0, 1::2] = False
    p[0, 1::2] = 0.5
    found = aggregate(p, known)
    for day in range(100, 900, 25):
        weight = 2.0 ** (-np.arange(day)[::-1] / RULE.ciss_half_life_d) * known[0, :day]
        deviation = math.sqrt((weight * (p[0, :day] - 0.5) ** 2).sum() / weight.sum())
        assert found.linear[0, day] == (deviation < 0.01)
    assert set(found.linear[0, 100:].tolist()) == {0, 1}


def test_ciss_of_constant_inputs_is_where_they_are():
    flat = np.repeat(P[:, None], 90, axis=1)
    assert aggregate(flat).value[0] == pytest.approx(np.full(90, 72.0), abs=1e-9)  # all above the middle all the time: C is 1


def test_ciss_of_opposed_components_cancels_and_stays_a_number():
    u = np.random.default_rng(20).uniform(size=91)
    u[-1] = 0.5
    found = aggregate(np.stack([u, 1 - u]), weights=np.array([0.5, 0.5]))
    assert found.value[0, 60:] == pytest.approx(100 * np.abs(u[60:] - 0.5), abs=1e-5)
    assert found.value[0, -1] == pytest.approx(0.0, abs=1e-5)
    assert found.contributions[:, 0].sum(axis=0) == pytest.approx(found.value[0], abs=1e-9)


@pytest.mark.parametrize(("p", "total", "match"), [(1.5, 1, "outside"), (np.nan, 1, "outside"), (0.5, 0.9, "add up to 1")])
def test_ciss_refuses_what_does_not_fit(p, total, match):
    with pytest.raises(ValueError, match=match):
        aggregate(np.full((3, 5), p), weights=W * total)
    with pytest.raises(ValueError, match="hand over"):
        aggregate(np.full((3, 5), 0.5), known=np.ones((2, 5), dtype=bool))

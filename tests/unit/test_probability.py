"""The probability of a cascade (METHODOLOGY 4.3): the fit, what it may see, and whether it may be shown."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from transforms.estimators import DAY_US, HOUR_US
from transforms.index.cascades import NEVER, Starts
from transforms.index.probability import WORDS, Why, fitted, label_lag_h, logistic, run, start
from transforms.rules import CascadeRule, ProbabilityRule

CASCADE = CascadeRule()
RULE = ProbabilityRule()
#: short spans, so that a test is quick: refit every day, fit on 40, validate 10
SHORT = replace(RULE, refit_d=1.0, window_d=40.0, validation_d=10.0, min_events=5, min_validation_events=3)
T0 = 20_000 * DAY_US
NAN = float("nan")
RESULTS = ("p", "base_rate", "skill", "forecast")


def grid(bars, step_h=1.0):
    """Bars from midnight on; T0 is no multiple of 14 d after 1970 (it is of 1 d)."""
    return T0 + np.arange(bars) * round(step_h) * HOUR_US


def told(shape, when, *cells):
    """A label's stream with starts (asset, bar known, bars since the beginning)."""
    side, began = np.zeros(shape, np.int8), np.full(shape, NEVER)
    for asset, bar, age in cells:
        side[asset, bar], began[asset, bar] = -1, when[bar] - age * (when[1] - when[0])
    return Starts(side, began, np.ones(shape, bool))


def probability(f, starts, when, rule=SHORT, step_h=1.0):
    return run(f, starts, when, rule, CASCADE, step_h, start(len(f), rule, CASCADE, step_h))[0]


def market(seed, *, assets=3, days=160, slope=8.0, level=-7.0):
    """F that wanders and cascades whose chance per hour depends on it; told two hours after they began, declustered."""
    rng = np.random.default_rng(seed)
    bars = days * 24
    f, z = np.empty((assets, bars)), np.zeros(assets)
    for t in range(bars):
        z = 0.98 * z + 0.2 * rng.standard_normal(assets)
        f[:, t] = 100 / (1 + np.exp(-1.5 * z))
    chance = 1 / (1 + np.exp(-(level - 3 + slope * f / 100)))
    cells = []
    for a in range(assets):
        last = -24
        for t in np.flatnonzero(rng.random(bars) < chance[a]):
            if t >= last + 24 and t + 2 < bars:
                cells.append((a, int(t) + 2, 2))
                last = t
    when = grid(bars)
    return f, told(f.shape, when, *cells), when


# --- the fit ----------------------------------------------------------------------------------------------------------------------


def test_two_groups_are_fitted_by_their_shares():
    """With as many coefficients as groups the fit is exact: 10 of 100 at F 20, 60 of 100 at F 80."""
    a, b = fitted(np.array([100, 100]), np.array([10, 60]), np.array([0.2, 0.8]), 0.0)
    assert logistic(a + b * 0.2) == pytest.approx(0.1, abs=1e-9)
    assert logistic(a + b * 0.8) == pytest.approx(0.6, abs=1e-9)


def test_the_fit_is_where_the_penalised_likelihood_is_flat():
    rng = np.random.default_rng(3)
    x = np.arange(RULE.bins) * RULE.f_step / 100
    samples = rng.integers(0, 60, len(x))
    hits = rng.binomial(samples, 1 / (1 + np.exp(5 - 6 * x)))
    a, b = fitted(samples, hits, x, RULE.ridge)
    p = 1 / (1 + np.exp(-(a + b * x)))
    assert np.sum(hits - samples * p) == pytest.approx(0, abs=1e-6)
    assert np.sum((hits - samples * p) * x) - RULE.ridge * b == pytest.approx(0, abs=1e-6)
    assert (a, b) == (pytest.approx(-5, abs=0.6), pytest.approx(6, abs=0.8))


def test_separated_samples_give_a_large_finite_slope():
    samples, hits = np.array([50, 50]), np.array([0, 50])
    a, b = fitted(samples, hits, np.array([0.4, 0.6]), RULE.ridge)
    assert 20 < b < 1000
    assert logistic(a + b * 0.4) < 0.05
    assert logistic(a + b * 0.6) > 0.95


def test_without_spread_the_slope_is_zero_and_the_level_the_share():
    a, b = fitted(np.array([0, 40]), np.array([0, 10]), np.array([0.4, 0.6]), RULE.ridge)
    assert b == pytest.approx(0, abs=1e-9)
    assert logistic(a + b * 0.6) == pytest.approx(0.25)


@pytest.mark.parametrize("hits", [(0, 0), (50, 50)])
def test_without_both_outcomes_there_is_no_fit(hits):
    assert all(math.isnan(x) for x in fitted(np.array([50, 50]), np.array(hits), np.array([0.4, 0.6]), RULE.ridge))


def test_logistic_at_its_ends():
    assert logistic(0.0) == 0.5
    assert logistic(800.0) == 1.0
    assert logistic(-800.0) == 0.0


# --- labels and base rate ---------------------------------------------------------------------------------------------------------


def test_a_label_waits_until_the_last_cascade_it_may_contain_could_be_told():
    assert label_lag_h(RULE, CASCADE, 1.0) == 27.0
    assert label_lag_h(RULE, CASCADE, 24.0) == 24.0


@pytest.mark.parametrize(("began", "positive"), [(3, 0), (4, 1), (27, 1), (28, 0)])
def test_a_sample_counts_cascades_that_begin_from_it_on_for_24_hours(began, positive):
    """The only sample stands at bar 4. One that began at bar 4 came after the forecast: its move lies in bar 5."""
    when = grid(40)
    f = np.full((1, 40), NAN)
    f[0, 4] = 50.0
    found = probability(f, told(f.shape, when, (0, began + 1, 1)), when)
    assert np.isnan(found.base_rate[0, : 4 + 27]).all()
    assert (found.base_rate[0, 4 + 27 :] == positive).all()


def test_a_cascade_told_late_still_counts():
    when = grid(40)
    f = np.full((1, 40), NAN)
    f[0, 4] = 50.0
    assert probability(f, told(f.shape, when, (0, 31, 4)), when).base_rate[0, 31] == 1


def test_a_window_with_a_gap_counts_only_if_a_cascade_was_seen_in_it():
    when = grid(40)
    f = np.full((2, 40), NAN)
    f[:, 4] = 50.0
    starts = told(f.shape, when, (1, 10, 1))
    starts.seen[:, 20] = False
    assert (probability(f, starts, when).base_rate[:, 31] == 1).all()
    starts.seen[:, 20], starts.seen[:, 4] = True, False
    assert (probability(f, starts, when).base_rate[:, 31] == 0.5).all()


def test_the_base_rate_is_that_of_all_assets_so_far():
    f, starts, when = market(1, days=30)
    base = probability(f, starts, when).base_rate
    samples = [(a, t) for a in range(len(f)) for t in range(0, f.shape[1], 4)]
    beginnings = [{int((starts.began[a, t] - T0) // HOUR_US) for t in np.flatnonzero(starts.side[a])} for a in range(len(f))]
    for bar in (100, 311, 719):
        known = [any(b in beginnings[a] for b in range(t, t + 24)) for a, t in samples if t + 27 <= bar]
        assert (base[:, bar] == sum(known) / len(known)).all()


# --- refits and skill -------------------------------------------------------------------------------------------------------------


def test_a_fit_changes_at_calendar_instants_only():
    f, starts, when = market(2)
    f[0, :] = 50.0  # the forecast of this asset moves only with the fit
    forecast = probability(f, starts, when, replace(SHORT, refit_d=2.0)).forecast[0]
    known = np.isfinite(forecast)
    moved = np.flatnonzero(np.diff(forecast[known]) != 0) + np.flatnonzero(known)[0] + 1
    assert len(moved) > 30
    assert (when[moved] % (2 * DAY_US) == 0).all()
    assert when[np.flatnonzero(known)[0]] % (2 * DAY_US) == 0


def test_a_fit_knows_no_label_of_the_last_27_hours():
    f, starts, when = market(2)
    refit = 100 * 24
    other = f.copy()
    other[:, refit - 26 : refit] = 100.0
    one, two = (probability(values, starts, when).forecast for values in (f, other))
    assert np.array_equal(one[:, refit], two[:, refit])
    assert not np.array_equal(one[:, refit + 24], two[:, refit + 24])


def test_skill_is_that_of_the_forecasts_of_the_validation_span():
    """Recomputed from the published forecasts, base rates and labels: sums of squared errors over ten whole days, labels known."""
    f, starts, when = market(4)
    found = probability(f, starts, when, replace(SHORT, min_validation_events=1))
    beginnings = [{int((starts.began[a, t] - T0) // HOUR_US) for t in np.flatnonzero(starts.side[a])} for a in range(len(f))]
    for refit in (110 * 24, 140 * 24):
        ours = theirs = 0.0
        for a in range(len(f)):
            for t in range(refit - 240, refit, 4):
                if t + 27 <= refit:
                    y = any(b in beginnings[a] for b in range(t, t + 24))
                    ours += (found.forecast[a, t] - y) ** 2
                    theirs += (found.base_rate[a, t] - y) ** 2
        assert found.skill[0, refit] == pytest.approx(1 - ours / theirs, abs=1e-9)
        assert (found.skill[:, refit : refit + 24] == found.skill[0, refit]).all()


def test_fragility_that_says_something_is_shown_and_noise_is_not():
    f, starts, when = market(5, days=220, slope=10.0)
    rule = replace(SHORT, validation_d=40.0)
    good = probability(f, starts, when, rule)
    late = np.s_[:, 120 * 24 :]
    assert np.isfinite(good.p[late]).mean() > 0.95
    assert good.skill[0, -1] > 0.05
    noise = probability(np.random.default_rng(6).uniform(0, 100, f.shape), starts, when, rule)
    hidden = noise.why[late] == Why.NO_SKILL
    assert hidden.mean() > 0.5
    assert np.isnan(noise.p[late][hidden]).all()
    assert (noise.skill[late][hidden] <= 5e-7).all()
    assert np.isfinite(noise.forecast[late]).all()


def test_what_is_shown_is_calibrated_where_it_should_be():
    f, starts, when = market(7, assets=6, days=260, slope=10.0)
    found = probability(f, starts, when, replace(SHORT, window_d=200.0, validation_d=60.0))
    samples = [(a, t) for a in range(len(f)) for t in range(100 * 24, f.shape[1] - 27, 4)]
    beginnings = [{int((starts.began[a, t] - T0) // HOUR_US) for t in np.flatnonzero(starts.side[a])} for a in range(len(f))]
    y = np.array([any(b in beginnings[a] for b in range(t, t + 24)) for a, t in samples])
    p = np.array([found.forecast[a, t] for a, t in samples])
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0)):
        inside = (p >= low) & (p < high)
        assert inside.sum() > 200
        assert y[inside].mean() == pytest.approx(p[inside].mean(), abs=0.08)


def test_every_gap_has_its_reason():
    f, starts, when = market(8)
    f[0, 3000:3100] = NAN
    found = probability(f, starts, when)
    assert ((found.why == Why.FINE) == np.isfinite(found.p)).all()
    assert (found.why[0, 3000:3100] == Why.NO_FRAGILITY).all()
    assert (found.why[:, : 5 * 24] == Why.TOO_FEW).all()
    assert np.array_equal(found.p[np.isfinite(found.p)], found.forecast[np.isfinite(found.p)])
    assert [WORDS[why] for why in Why] == ["", "no measured skill", "too few cascades", "no fragility"]


def test_too_few_cascades_in_the_window_end_a_fit():
    """Cascades stop; 40 days later none is left to fit, and the old fit is not kept."""
    f, starts, when = market(9, days=200)
    starts.side[:, 90 * 24 :] = 0
    found = probability(f, starts, when)
    assert np.isfinite(found.forecast[:, 90 * 24 : 120 * 24]).all()
    assert (found.why[:, 135 * 24 :] == Why.TOO_FEW).all()
    assert np.isnan(found.forecast[:, 135 * 24 :]).all()
    assert np.isnan(found.skill[:, 110 * 24 :]).all()


def test_a_fit_forgets_what_is_older_than_its_window():
    """Labels are the same, so are the base rates: only the F of the first ten days differs, and the window is 40 days."""
    f, starts, when = market(11)
    other = f.copy()
    other[:, : 10 * 24] = 100 - f[:, : 10 * 24]
    one, two = (probability(values, starts, when).forecast for values in (f, other))
    assert not np.array_equal(one[:, 45 * 24], two[:, 45 * 24])
    assert np.array_equal(one[:, 51 * 24 :], two[:, 51 * 24 :])


def test_a_cascade_of_an_asset_without_fragility_counts_for_nothing():
    when = grid(20 * 24)
    f = np.random.default_rng(1).uniform(0, 100, (2, len(when)))
    f[1] = NAN
    starts = told(f.shape, when, (0, 55, 1), *((1, day * 24 + 7, 1) for day in (2, 5, 8, 11)))
    found = probability(f, starts, when, replace(SHORT, min_events=2))
    assert np.isnan(found.forecast).all()


@pytest.mark.parametrize(("least", "fits"), [(4, True), (5, False)])
def test_a_cascade_counts_once_however_many_samples_it_hits(least, fits):
    """Four cascades are four, not 24 positive samples."""
    when = grid(20 * 24)
    f = np.random.default_rng(1).uniform(0, 100, (1, len(when)))
    starts = told(f.shape, when, *((0, day * 24 + 7, 1) for day in (2, 5, 8, 11)))
    found = probability(f, starts, when, replace(SHORT, min_events=least))
    assert np.isfinite(found.forecast[0, -1]) == fits


def test_assets_in_another_order_are_the_same_assets():
    """Counts and errors are integers: pooling knows no order."""
    f, starts, when = market(10)
    order = [2, 0, 1]
    turned = Starts(*(getattr(starts, name)[order] for name in ("side", "began", "seen")))
    one, two = probability(f, starts, when), probability(f[order], turned, when)
    for name in RESULTS:
        assert np.array_equal(getattr(one, name)[order], getattr(two, name), equal_nan=True), name


def test_the_daily_grid_samples_every_bar():
    when = grid(900, 24.0)
    rng = np.random.default_rng(12)
    f = rng.uniform(0, 100, (4, 900))
    side = np.where(rng.random(f.shape) < f / 100 * 0.2, -1, 0).astype(np.int8)
    side = np.concatenate([np.zeros((4, 1), np.int8), side[:, :-1]], axis=1)
    starts = Starts(side, np.where(side != 0, when - DAY_US, NEVER), np.ones(f.shape, bool))
    found = probability(f, starts, when, RULE, 24.0)
    assert found.base_rate[0, -1] == np.mean(side[:, 1:] != 0)
    assert found.skill[0, -1] > 0
    assert np.isfinite(found.p[:, -100:]).all()


# --- state and mistakes -----------------------------------------------------------------------------------------------------------


def test_the_state_is_small_and_says_what_is_pooled():
    state = start(5, RULE, CASCADE, 1.0)
    assert {len(values) for name, values in state.items() if name.startswith("pending")} == {5}
    assert {len(values) for name, values in state.items() if not name.startswith("pending")} == {1}
    assert sum(values.nbytes for values in state.values()) < 100_000
    f, starts, when = market(3, assets=5)
    _, after = run(f, starts, when, RULE, CASCADE, 1.0, state)
    assert {name: (values.shape, values.dtype) for name, values in after.items()} == {n: (v.shape, v.dtype) for n, v in state.items()}
    assert (state["span"] == NEVER).all()


def test_a_waiting_sample_is_never_overwritten():
    f, starts, when = market(3, days=3)
    state = start(3, RULE, CASCADE, 1.0)
    short = {name: values[:, :3] if name.startswith("pending") else values for name, values in state.items()}
    with pytest.raises(RuntimeError, match="still waits"):
        run(f, starts, when, RULE, CASCADE, 1.0, short)


def test_mistakes_are_told():
    when = grid(5)
    f = np.full((1, 5), 101.0)
    with pytest.raises(ValueError, match=r"F from 101 to 101.*points, 0 to 100"):
        probability(f, told(f.shape, when), when)
    with pytest.raises(ValueError, match="multiple of the step"):
        start(1, replace(RULE, sample_step_h=1.5), CASCADE, 1.0)
    with pytest.raises(ValueError, match="validation_d"):
        start(1, replace(RULE, validation_d=800.0), CASCADE, 1.0)

"""From a feature to its place in its own strictly past history: percentiles of F and X, the robust alternative, S against itself."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.panels import START, interest, panel_of, settled, value
from transforms.estimators import HOUR_US
from transforms.features import FEATURES
from transforms.features.contract import Why
from transforms.index import trail
from transforms.rules import Part, ScoreRule
from transforms.signals import SIGNALS
from transforms.signals.contract import State
from transforms.signals.percentiles import percentile, rank
from transforms.signals.scores import robust_scores, trailing_quantile
from transforms.spec import SPEC

NAN = math.nan
QUICK = settings(max_examples=40, deadline=None)
#: percentiles every bar from the second on, all past bars of equal weight
SHORT = replace(
    SPEC,
    score=ScoreRule(window_d=20.0, half_life_d=1e6, min_history_d=1 / 24, warm_d=2.0),
    cadences=tuple(replace(rule, reference_step_h=rule.step_h) for rule in SPEC.cadences),
)
EVER = (("1h", START.date()),)
PART = Part("oi_thinness", "thinness", 1.0, 1, "centred", EVER)


def ranked(values, part=PART, *, fresh=None, spec=SHORT, why=None):
    """Percentile of plain values of one asset at hours 1, 2, ..."""
    values = np.array([values], dtype=float)
    fresh = np.isfinite(values) if fresh is None else np.array([fresh])
    panel = panel_of({}, values.shape[1], spec=spec, assets=["BTC"])
    codes = np.where(fresh, np.int8(Why.FINE), np.int8(Why.NO_INPUT)) if why is None else np.full(values.shape, np.int8(why))
    return rank(values, fresh, codes.astype(np.int8), panel, part)


# --- rank -------------------------------------------------------------------------------------------------------------------------


@QUICK
@given(values=st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(NAN)), min_size=2, max_size=40))
def test_a_percentile_is_the_mid_rank_in_the_strict_past(values):
    found = ranked(values)
    for t, x in enumerate(values):
        past = np.array([one for one in values[:t] if not math.isnan(one)])
        if math.isnan(x) or not len(past):
            continue
        assert found.p[0, t] == pytest.approx(((past < x).mean() + (past <= x).mean()) / 2, abs=1e-6)
        assert found.used()[0, t] == found.p[0, t]
        assert found.factor[0, t] == 1


@QUICK
@given(values=st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=40))
def test_a_magnitude_is_ranked_by_size_and_a_negative_sign_turns_a_percentile_over(values):
    size = replace(PART, norm="magnitude")
    sizes = ranked(values, size).p
    again = ranked([-x for x in values], size).p
    np.testing.assert_array_equal(sizes, again)
    plain = ranked(values).p[0, 1:]
    turned = ranked([-x for x in values]).p[0, 1:]
    np.testing.assert_allclose(plain + turned, 1.0, atol=1e-9)
    for t in range(1, len(values)):
        past, x = np.abs(values[:t]), abs(values[t])
        expected = ((past < x).mean() + (past <= x).mean()) / 2 if x else 0.0  # no size at all is the least there is
        assert sizes[0, t] == pytest.approx(expected, abs=1e-6)


def test_a_window_of_its_own_forgets_sooner():
    """ECDF(ln Q, 180 d): the part's window, and a warming time that fits into it."""
    values = [9.0, *range(1, 5), 3.5]
    found, short = ranked(values), ranked(values, replace(PART, window_d=5 / 24))
    assert found.p[0, -1] == pytest.approx(3 / 5, abs=1e-6)
    assert short.p[0, -1] == pytest.approx(3 / 4, abs=1e-6)  # the 9 of five hours ago is forgotten
    assert found.state[0, -1] == State.WARMING
    assert short.state[0, -1] == State.FINE  # 4 h behind it, of the 2.5 h asked for


def test_a_stale_percentile_is_held_and_pulled_back_to_one_half():
    """Hour 11 was higher than all before; then nothing: 3 h held, halved every 12 h, forgotten after eight halvings."""
    values = [*range(10), 99.0, *[NAN] * 110]
    found = ranked(values)
    used = found.used()[0]
    assert used[10:14] == pytest.approx(1.0, abs=1e-6)
    assert used[10 + 15] == pytest.approx(0.75, abs=1e-6)
    assert used[10 + 27] == pytest.approx(0.625, abs=1e-6)
    assert (np.diff(used[13:108]) < 0).all()
    assert (used[10 + 99 :] == 0.5).all()
    assert (found.factor[0, 10 + 99 :] == 0).all()
    assert np.isnan(found.p[0, 10 + 99 :]).all()
    assert set(found.state[0, 11:109].tolist()) == {State.STALE}
    assert set(found.state[0, 109:].tolist()) == {State.MISSING}
    low = ranked([*range(10), -99.0, *[NAN] * 30]).used()[0]
    assert low[10 + 15] == pytest.approx(0.25, abs=1e-6)  # from below as from above


def test_what_was_never_known_is_one_half_with_factor_0_and_a_reason():
    found = ranked([NAN] * 5)
    assert found.used().tolist() == [[0.5] * 5]
    assert np.isnan(found.p).all()
    assert set(found.factor[0].tolist()) == {0}
    assert set(found.state[0].tolist()) == {State.MISSING}
    assert set(found.why[0].tolist()) == {Why.NO_INPUT}


def test_a_known_value_that_is_too_old_says_that_it_is_stale():
    found = ranked([1.0, 2.0, 3.0], fresh=[True, True, False], why=Why.FINE)
    assert (found.state[0, 2], found.why[0, 2]) == (State.STALE, Why.STALE)
    assert found.p[0, 2] == found.p[0, 1]


def test_too_little_history_has_no_percentile_and_says_so():
    found = ranked([1.0, 2.0, 3.0], spec=replace(SHORT, score=replace(SHORT.score, min_history_d=2 / 24)))
    assert np.isnan(found.p[0, :2]).all()
    assert (found.factor[0, :2] == 0).all()
    assert set(found.state[0].tolist()) == {State.WARMING}
    assert found.p[0, 2] == pytest.approx(1)


def test_the_level_of_open_interest_is_ranked_on_ln_q_itself():
    """A rise that ends 40 h ago: still at the top of its 180 days, although the last hours stand still."""
    amount = np.concatenate([np.linspace(100, 200, 60), np.full(40, 200.0)])
    panel = panel_of({"open_interest": interest(amount)}, 100, spec=replace(SHORT, features=replace(SPEC.features, min_coverage=0.01)))
    part = replace(PART, feature="oi_level_180d", window_d=180.0)
    feature = FEATURES["oi_level_180d"].compute(panel)
    found = percentile(feature, part, panel)
    known = np.isfinite(found.p[0])
    assert known[60:].all()
    assert (found.p[0, 60:] > 0.7).all()
    assert found.p[0, 59] == pytest.approx(1, abs=1e-6)
    plain = rank(feature.value, np.isfinite(feature.value), feature.why, panel, part).p[0]
    assert plain[-1] < found.p[0, -1] + 1e-9  # against its own mean, the level falls back while it stands


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.0), (-1, 1.0)])
def test_a_falling_quantity_is_stress_where_its_sign_is_negative(sign, expected):
    """X reads `-dlnQ`: the largest fall so far stands at the top."""
    amount = np.concatenate([100 * 1.01 ** np.arange(60), 100 * 1.01**59 * 0.9 ** np.arange(1, 10)])
    panel = panel_of({"open_interest": interest(amount)}, len(amount), spec=SHORT)
    part = replace(PART, feature="oi_change_24h", sign=sign)
    found = percentile(FEATURES["oi_change_24h"].compute(panel), part, panel)
    assert found.p[0, -1] == pytest.approx(expected, abs=1e-6)
    assert next(one.sign for one in SPEC.stress_parts if one.feature == "oi_change_24h") == -1


# --- robust z -----------------------------------------------------------------------------------------------------------------------


def robust(values, *, anchored=False, floor=0.0, window_h=10**6, least_days=1 / 24, limit=5.0, first=0):
    values = np.atleast_2d(np.array(values, dtype=float))
    when = np.arange(values.shape[1], dtype=np.int64) * HOUR_US
    every = np.ones(values.shape[1], dtype=bool)
    return robust_scores(values, np.isfinite(values), when, every, first, window_h * HOUR_US, 1 / 24, least_days, anchored, floor, limit)


def phi_score(z):
    """`2 Phi(z) - 1`."""
    return math.erf(z / math.sqrt(2))


def test_pinned_funding_has_no_deviation_and_the_floor_is_part_of_the_formula():
    """200 settlements at the anchor: MAD is exactly 0. 0.1 pp below is 1/20 of the floor of 2 pp, not an extreme."""
    pinned = [0.0] * 200
    assert robust([*pinned, -0.001], anchored=True, floor=0.02)[0][0, -1] == pytest.approx(phi_score(-0.05))
    assert robust([*pinned, -0.001], floor=0.02)[0][0, -1] == pytest.approx(phi_score(-0.05))
    assert robust([*pinned, 0.0], anchored=True, floor=0.02)[0][0, -1] == 0
    assert np.isnan(robust([*pinned, -0.001])[0][0, -1])  # nothing to measure it by


@QUICK
@given(
    values=st.lists(st.one_of(st.integers(-9, 9).map(float), st.just(NAN)), min_size=2, max_size=30),
    anchored=st.booleans(),
    floor=st.sampled_from([0.0, 2.5]),
    window_h=st.integers(1, 12),
)
def test_robust_score_in_plain_words(values, anchored, floor, window_h):
    scores, history = robust(values, anchored=anchored, floor=floor, window_h=window_h)
    for t, x in enumerate(values):
        past = np.array([one for one in values[max(0, t - window_h + 1) : t] if not math.isnan(one)])
        assert history[0, t] == pytest.approx(len(past) / 24)
        centre = 0.0 if anchored else np.median(past) if len(past) else NAN
        width = max(1.4826 * np.median(np.abs(past - centre)), floor) if len(past) else 0.0
        if math.isnan(x) or not width > 0:
            assert np.isnan(scores[0, t])
        else:
            assert scores[0, t] == pytest.approx(phi_score(np.clip((x - centre) / width, -5, 5)), abs=1e-12)


@QUICK
@given(values=st.lists(st.one_of(st.floats(-9, 9), st.just(NAN)), min_size=20, max_size=40), begin=st.integers(0, 10))
def test_robust_score_does_not_depend_on_where_a_run_began(values, begin):
    whole, part = robust(values, window_h=8, first=begin + 8), robust(values[begin:], window_h=8, first=8)
    for one, other in zip(whole, part, strict=True):
        assert one[0, begin + 8 :].tobytes() == other[0, 8:].tobytes()


def test_an_extreme_is_limited():
    past = np.tile([-1.0, 1.0], 20).tolist()
    assert robust([*past, 1e9])[0][0, -1] == pytest.approx(phi_score(5))
    assert robust([*past, -1e9], limit=2.0)[0][0, -1] == pytest.approx(phi_score(-2))


def test_the_method_of_the_spec_reaches_signals():
    """Funding pinned for 40 days, then 0.1 pp less: the rank with its floor says -0.05, the robust score -0.04."""
    hours = np.arange(8, 24 * 40 + 1, 8)
    rates = np.where(hours == hours[-1], 1e-4 - 0.001 / 1095 * 3, 1e-4)  # a third of the day's sum
    for method, expected in (("ecdf", -0.05), ("robust_z", phi_score(-0.05))):
        spec = replace(SPEC, score=replace(SPEC.score, method=method))
        panel = panel_of({"funding": settled(rates, hours, interval_h=8.0)}, 24 * 40, spec=spec)
        assert value(panel, "funding_excess_annual")[-1] == pytest.approx(-0.001)
        one = next(c for c in spec.active("1h") if c.feature == "funding_excess_annual")
        scored = SIGNALS[one.feature].score(FEATURES[one.feature].compute(panel), one, panel)
        assert scored.score[0, -1] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("usual", [0.0, 1.0])
def test_a_robust_percentile_without_spread_says_why_it_is_missing(usual):
    spec = replace(SHORT, score=replace(SHORT.score, method="robust_z", warm_d=1 / 24))
    found = ranked([usual] * 30, spec=spec)
    assert np.isnan(found.p[0, -1])
    assert found.factor[0, -1] == 0
    assert (found.state[0, -1], found.why[0, -1]) != (State.FINE, Why.FINE)


# --- the trailing quantile behind agreement -----------------------------------------------------------------------------------------


@QUICK
@given(
    values=st.lists(st.one_of(st.integers(-9, 9).map(float), st.just(NAN)), min_size=1, max_size=30),
    window_h=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    every=st.integers(1, 3),
    least=st.integers(1, 4),
)
def test_trailing_quantile_in_plain_words(values, window_h, share, every, least):
    row = np.array([values])
    when = np.arange(len(values), dtype=np.int64) * HOUR_US
    grid = np.arange(len(values)) % every == 0
    found = trailing_quantile(row, when, grid, 0, window_h * HOUR_US, share, least)[0]
    for t in range(len(values)):
        past = sorted(x for n, x in enumerate(values[:t]) if grid[n] and n > t - window_h and not math.isnan(x))
        if len(past) >= least:
            assert found[t] == past[min(len(past) - 1, math.floor(share * len(past)))]
        else:
            assert np.isnan(found[t])


# --- a number against itself --------------------------------------------------------------------------------------------------------

RULE = replace(SPEC.cadence("1h"), reference_step_h=1.0)
ALIKE = ScoreRule(window_d=5.0, half_life_d=1e6, min_history_d=1 / 24)
HOURS = int(np.datetime64("2023-05-01", "us").astype(np.int64)) + np.arange(1, 2001, dtype=np.int64) * HOUR_US


def test_s_against_its_own_past():
    """2 after 1, 2, 3, 4: below half of them by a rank and a half."""
    p, days, _ = trail.run(np.array([[1.0, 2, 3, 4, 2]]), HOURS[:5], trail.start(1, ALIKE, RULE), ALIKE, RULE)
    assert np.isnan(p[0, 0])
    assert p[0, 1:] == pytest.approx([1, 1, 1, 0.375], abs=1e-6)
    assert days[0] * 24 == pytest.approx([0, 1, 2, 3, 4], rel=1e-6)


def test_a_withheld_s_has_no_percentile_and_is_no_past():
    p, days, _ = trail.run(np.array([[1.0, NAN, 3.0, NAN, 2.0]]), HOURS[:5], trail.start(1, ALIKE, RULE), ALIKE, RULE)
    assert np.isnan(p[0, [0, 1, 3]]).all()
    assert p[0, [2, 4]] == pytest.approx([1, 0.5], abs=1e-6)
    assert days[0, -1] * 24 == pytest.approx(2, rel=1e-6)


@QUICK
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 300), max_size=4),
    step=st.sampled_from([1.0, 4.0]),
    half_life_d=st.sampled_from([0.5, 3.0]),
)
def test_a_past_that_was_stored_says_the_same_as_one_that_was_not(seed, cuts, step, half_life_d):
    """Cut anywhere, on or off the reference grid, also within the window; the ring never holds more than the window."""
    rng = np.random.default_rng(seed)
    rule, score = replace(RULE, reference_step_h=step), replace(ALIKE, half_life_d=half_life_d, min_history_d=0.5)
    values = np.round(rng.normal(size=(2, 300)), 1)
    values[rng.random(values.shape) < 0.2] = NAN
    state = trail.start(2, score, rule)
    assert state["values"].shape == (2, round(5 * 24 / step))
    whole = trail.run(values, HOURS[:300], state, score, rule)
    parts = []
    edges = [0, *sorted(cuts), 300]
    for low, high in pairwise(edges):
        if low == high:
            continue
        frozen = {name: array.copy() for name, array in state.items()}
        p, days, after = trail.run(values[:, low:high], HOURS[low:high], state, score, rule)
        assert all(np.array_equal(frozen[name], state[name], equal_nan=frozen[name].dtype.kind == "f") for name in frozen)
        assert {name: (array.shape, array.dtype) for name, array in after.items()} == {n: (a.shape, a.dtype) for n, a in state.items()}
        parts.append((p, days))
        state = after
    for n in range(2):
        assert np.concatenate([part[n] for part in parts], axis=1).tobytes() == whole[n].tobytes()
    for name, array in state.items():
        assert array.tobytes() == whole[2][name].tobytes()


def test_a_past_older_than_the_window_is_forgotten():
    values = np.zeros((1, 400))
    values[0, 0], values[0, -1] = -9.0, -1.0
    p, _, _ = trail.run(values, HOURS[:400], trail.start(1, ALIKE, RULE), ALIKE, RULE)
    assert p[0, 1] == 1
    assert p[0, -1] == 0

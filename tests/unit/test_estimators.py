"""The kernels against plain statements of what they compute."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transforms import asof, estimators, formulas
from transforms.estimators import DAY_US, HOUR_US
from transforms.signals.scores import ecdf_scores, held_scores

STEP_H, WINDOW_D, HALF_LIFE_D, FLOOR = 4, 10, 3.0, 1.5


@st.composite
def series(draw):
    """One row of values with ties, gaps and both signs on an hourly grid, at any place in time."""
    count = draw(st.integers(1, 400))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(draw(st.sampled_from([0.0, 2.0])), 1, count), draw(st.integers(0, 2)))
    values[rng.random(count) < draw(st.sampled_from([0.0, 0.2, 0.9]))] = np.nan
    start = draw(st.integers(400_000, 480_000))
    return values[None, :], (start + np.arange(count, dtype=np.int64)) * HOUR_US


def scored(values, when, first=0, *, anchored=False, floor=0.0, min_days=1.0):
    reference = when % (STEP_H * HOUR_US) == 0
    return ecdf_scores(
        values,
        np.isfinite(values),
        when,
        reference,
        first,
        WINDOW_D * DAY_US,
        round(HALF_LIFE_D * DAY_US),
        STEP_H / 24,
        min_days,
        anchored,
        floor,
    )


def plainly(values, when, *, anchored, floor, min_days=1.0):
    """METHODOLOGY 3.1 word for word, with real-valued weights."""
    found, history = [], []
    row = values[0]
    for t in range(len(when)):
        past = [u for u in range(t) if np.isfinite(row[u]) and when[u] % (STEP_H * HOUR_US) == 0 and when[u] > when[t] - WINDOW_D * DAY_US]
        weight = np.array([2.0 ** (-(when[t] - when[u]) / (HALF_LIFE_D * DAY_US)) for u in past])
        history.append(weight.sum() ** 2 / (weight**2).sum() * STEP_H / 24 if past else 0.0)
        x = row[t]
        if not np.isfinite(x) or not past or len(past) * STEP_H / 24 < min_days:
            found.append(math.nan)
            continue
        sample = np.abs(row[past]) if anchored else row[past]
        size = abs(x) if anchored else x
        p = (weight[sample < size].sum() + weight[sample == size].sum() / 2) / weight.sum()
        found.append(np.sign(x) * p * (min(1, size / floor) if floor else 1) if anchored else 2 * p - 1)
    return np.array(found), np.array(history)


@pytest.mark.parametrize(("anchored", "floor"), [(False, 0.0), (True, 0.0), (True, FLOOR)])
@settings(max_examples=30, deadline=None)
@given(one=series())
def test_score_is_the_weighted_mid_rank_of_the_strict_past(anchored, floor, one):
    values, when = one
    scores, history = scored(values, when, anchored=anchored, floor=floor)
    expected, expected_history = plainly(values, when, anchored=anchored, floor=floor)
    np.testing.assert_allclose(scores[0], expected, atol=1e-7, equal_nan=True)
    np.testing.assert_allclose(history[0], expected_history, rtol=1e-7)
    known = scores[np.isfinite(scores)]
    assert (np.abs(known) <= 1).all()


@settings(max_examples=40, deadline=None)
@given(one=series(), data=st.data())
def test_score_does_not_depend_on_where_the_run_begins_or_ends(one, data):
    """Bit for bit: any start of the output, the end cut anywhere, and the input cut to the window."""
    values, when = one
    whole, history = scored(values, when)
    first = data.draw(st.integers(0, len(when) - 1))
    end = data.draw(st.integers(first + 1, len(when)))
    back = int(np.searchsorted(when, when[first] - WINDOW_D * DAY_US))
    part, part_history = scored(values[:, back:end], when[back:end], first - back)
    assert part[0, first - back :].tobytes() == whole[0, first:end].tobytes()
    assert part_history[0, first - back :].tobytes() == history[0, first:end].tobytes()


@settings(max_examples=40, deadline=None)
@given(one=series())
def test_a_centred_score_does_not_change_under_a_rising_map_and_turns_under_negation(one):
    values, when = one
    scores, _ = scored(values, when)
    again, _ = scored(values * 4.0 + 1.0, when)
    mirrored, _ = scored(-values, when)
    np.testing.assert_array_equal(scores, again)
    np.testing.assert_array_equal(scores, -mirrored)


@settings(max_examples=40, deadline=None)
@given(one=series(), floor=st.sampled_from([0.0, FLOOR]))
def test_an_anchored_score_keeps_the_sign_of_its_distance(one, floor):
    values, when = one
    scores, _ = scored(values, when, anchored=True, floor=floor)
    known = np.isfinite(scores)
    assert (scores[known] * np.sign(values[known]) >= 0).all()
    assert (scores[known & (values == 0)] == 0).all()


def test_too_little_history_has_no_score():
    values, when = np.zeros((1, 200)), np.arange(200, dtype=np.int64) * HOUR_US
    scores, history = scored(values, when, min_days=2.0)
    enough = 12 * STEP_H - STEP_H + 1  # the twelfth reference sample lies at hour 44; it is past one hour later
    assert np.isnan(scores[0, :enough]).all()
    assert np.isfinite(scores[0, enough:]).all()
    assert history[0, 0] == 0


def test_a_reference_sample_older_than_the_window_is_forgotten():
    values = np.zeros((1, 24 * 12))
    values[0, 0] = -5.0
    values[0, -1] = -1.0
    when = np.arange(values.shape[1], dtype=np.int64) * HOUR_US
    with_it, _ = scored(values[:, : 24 * 10], when[: 24 * 10])
    assert with_it[0, -1] > 0  # the low value of hour 0 is still in the sample
    assert scored(values, when)[0][0, -1] == -1


FINITE = st.floats(-10, 10, allow_subnormal=False)
ROWS = hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.one_of(FINITE, st.just(math.nan)))


@settings(deadline=None)
@given(values=ROWS, count=st.integers(1, 12), data=st.data())
def test_rolling_sum_counts_what_is_known(values, count, data):
    least = data.draw(st.integers(1, count))
    sums = estimators.rolling_sums(values, count, least)
    for r, t in np.ndindex(values.shape):
        own = values[r, max(0, t - count + 1) : t + 1]
        own = own[np.isfinite(own)]
        assert np.isfinite(sums[r, t]) == (len(own) >= least)
        if len(own) >= least:
            assert sums[r, t] == pytest.approx(own.sum(), abs=1e-9)


@settings(deadline=None)
@given(values=ROWS)
def test_logarithms_and_exponentials(values):
    """One value at a time, so that a value has the same bits alone and in any company."""
    logs = estimators.logs(values.ravel())
    for x, found in zip(values.ravel().tolist(), logs.tolist(), strict=True):
        assert found == pytest.approx(math.log(x), rel=1e-15) if x > 0 else math.isnan(found)
    exps = estimators.exps(values)
    assert (np.isnan(exps) == np.isnan(values)).all()
    assert exps[np.isfinite(values)] == pytest.approx(np.exp(values[np.isfinite(values)]))
    for place in np.ndindex(values.shape):
        assert estimators.exps(values[place].reshape(1, 1)).tobytes() == exps[place].tobytes()
        assert estimators.logs(values[place].reshape(1)).tobytes() == logs.reshape(values.shape)[place].tobytes()


@st.composite
def instruments(draw):
    """Amounts, units and USD weights of the instruments of two assets, with gaps."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 12)))
    known = st.one_of(st.integers(1, 9).map(float), st.just(math.nan))
    amount, usd = (draw(hnp.arrays(np.float64, shape, elements=known)) for _ in range(2))
    unit = draw(hnp.arrays(np.int64, shape, elements=st.sampled_from([0, 0, 0, 1])))
    return amount, unit, usd, np.array([0, draw(st.integers(0, shape[0])), shape[0]])


@settings(deadline=None)
@given(one=instruments())
def test_chain_links_in_plain_words(one):
    """OI.3 over the instruments usable at both ends of a step, in the same unit; a lone one needs no weight."""
    amount, unit, usd, starts = one
    links = estimators.chain_links(amount, unit, usd, starts)
    assert np.isnan(links[:, 0]).all()
    for a, t in np.ndindex(links.shape[0], links.shape[1] - 1):
        own = [i for i in range(starts[a], starts[a + 1]) if unit[i, t] == unit[i, t + 1] and amount[i, t] > 0 and amount[i, t + 1] > 0]
        weights = [usd[i, t] if usd[i, t] > 0 else 0.0 for i in own]
        if len(own) == 1:
            expected = math.log(amount[own[0], t + 1] / amount[own[0], t])
        elif sum(weights) > 0:
            expected = math.log(sum(w * amount[i, t + 1] / amount[i, t] for w, i in zip(weights, own, strict=True)) / sum(weights))
        else:
            expected = math.nan
        assert links[a, t + 1] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(deadline=None)
@given(one=instruments(), lag=st.integers(1, 4))
def test_log_returns_in_plain_words(one, lag):
    """Mean over instruments priced at both ends, weighted by open interest of the bar before; equal where none is known."""
    price, _, usd, starts = one
    returns = estimators.log_returns(price, usd, starts, lag)
    assert np.isnan(returns[:, :lag]).all()
    for a, t in np.ndindex(returns.shape[0], max(0, returns.shape[1] - lag)):
        own = [i for i in range(starts[a], starts[a + 1]) if price[i, t] > 0 and price[i, t + lag] > 0]
        moves = [math.log(price[i, t + lag] / price[i, t]) for i in own]
        weights = [usd[i, t + lag - 1] if usd[i, t + lag - 1] > 0 else 0.0 for i in own]
        if len(own) < 2 or not sum(weights) > 0:
            weights = [1.0] * len(own)
        expected = sum(w * move for w, move in zip(weights, moves, strict=True)) / sum(weights) if own else math.nan
        assert returns[a, t + lag] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(deadline=None)
@given(values=ROWS, share=st.sampled_from([0.1, 0.5, 1.0]))
def test_ema_is_a_weighted_mean_of_a_finite_past(values, share):
    weights = estimators.kernel_weights(1.0, 2.0, 3.0)
    assert weights.tolist() == [2 ** (-k / 2) for k in range(6)]
    means = estimators.emas(values, weights, share)
    for r, t in np.ndindex(values.shape):
        own = [(weights[k], values[r, t - k]) for k in range(6) if t - k >= 0 and np.isfinite(values[r, t - k])]
        held = sum(w for w, _ in own)
        if own and held >= share * weights.sum():
            assert means[r, t] == pytest.approx(sum(w * x for w, x in own) / held, abs=1e-9)
        else:
            assert np.isnan(means[r, t])


def test_a_held_score_decays_and_is_forgotten():
    scores, fresh = np.full((2, 30), np.nan), np.zeros((2, 30), dtype=bool)
    scores[:, 2], fresh[:, 2] = -0.6, True
    scores[1, 20], fresh[1, 20] = math.nan, True  # fresh, but without a score of its own: nothing is held over it
    held, factor = held_scores(scores, fresh, np.arange(30, dtype=np.int64) * HOUR_US, 0, 3.0, 2.0, 3.0 + 16.0)
    assert (factor[0, :2] == 0).all()
    assert (factor[0, 2:6] == 1).all()
    assert factor[0, 7] == 0.5
    assert factor[0, 20] == 2.0**-7.5
    assert (factor[:, 21:] == 0).all()
    assert np.isnan(held[:, 21:]).all()
    assert held[0, 20] == -0.6
    assert np.isnan(held[1, 20])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_newest_is_the_latest_known_row_and_its_highest_known_revision(data):
    count = data.draw(st.integers(0, 25))
    as_of = np.sort(np.array(data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count)), dtype=np.int64))
    known_at = as_of + np.array(data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count)), dtype=np.int64)
    at = np.arange(16, dtype=np.int64)
    cutoff, max_age = at + data.draw(st.integers(0, 2)), data.draw(st.integers(0, 8))
    starts = np.array([0, count], dtype=np.int64)
    found = asof.newest(starts, as_of, known_at, at, cutoff, max_age)[0]
    own = asof.newest_before(starts, as_of, known_at, at[None, :], cutoff, max_age)[0]
    for t in range(16):
        seen = [k for k in range(count) if at[t] - max_age <= as_of[k] <= at[t] and known_at[k] <= cutoff[t]]
        assert found[t] == own[t] == (max(seen, key=lambda k: (as_of[k], k)) if seen else -1)


@pytest.mark.parametrize("interval", [1.0, 8.0])
def test_annualising_and_back(interval):
    assert formulas.per_interval(formulas.annualised(0.0003, interval), interval) == pytest.approx(0.0003)


def test_sums_of_a_bar_take_the_highest_known_revision_once():
    """Two quarters of an hour; the second was restated, known 2 h later."""
    starts = np.array([0, 3])
    as_of = np.array([30, 60, 60], dtype=np.int64)
    known_at = np.array([31, 61, 180], dtype=np.int64)
    amounts, hours = np.array([[1.0, 2.0, 5.0]]), np.array([0.5, 0.5, 0.5])
    at = np.array([60, 60], dtype=np.int64)
    sums, covered = asof.bar_sums(starts, as_of, known_at, hours, amounts, at, np.array([70, 200]), 60)
    assert sums.tolist() == [[[3.0, 6.0]]]
    assert covered.tolist() == [[1.0, 1.0]]


def test_settlements_state_infer_or_look_up_their_interval():
    hour = HOUR_US
    as_of = np.array([8, 16, 20, 24], dtype=np.int64) * hour
    starts, rate = np.array([0, 4]), np.array([1e-4, 2e-4, 3e-4, 4e-4])
    at = np.array([24], dtype=np.int64) * hour
    allowed = np.array([4.0, 8.0])

    def read(own, terms, *, infer):
        found = asof.settlements(starts, as_of, as_of, rate, np.array(own), allowed, np.full((1, 1), terms), at, at, 24 * hour, infer)
        return [float(part[0, 0]) for part in found]

    nan = math.nan
    assert read([8.0, 8.0, 4.0, 4.0], nan, infer=True) == [pytest.approx(1e-3), 24.0, 4e-4, 4.0, 0.0]
    assert read([nan] * 4, 8.0, infer=True)[1:4] == [24.0, 4e-4, 4.0]  # the first falls back on the terms
    assert math.isnan(read([nan] * 4, nan, infer=True)[1])
    assert math.isnan(read([nan] * 4, nan, infer=False)[3])
    assert read([nan] * 4, 8.0, infer=False)[3] == 8.0

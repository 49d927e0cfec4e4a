"""Trailing windows against plain statements of what they compute, and the promise they exist for: the same bits from any starting point."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transforms import rolling
from transforms.rolling import LOG_SCALE, SQUARE_SCALE

NAN = math.nan
QUICK = settings(max_examples=60, deadline=None)
#: few decimals: ties are common
TIED = st.integers(-30, 30).map(lambda n: n / 10)
ROUGH = st.floats(-5, 5, allow_subnormal=False)
UNKNOWN = st.sampled_from([NAN, math.inf, -math.inf])
ROWS = hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.one_of(TIED, ROUGH, UNKNOWN))
COUNTS = st.integers(1, 12)
WRAPS = [2**63 - 1, -(2**63), 2**62, 12_345]


def bits(values):
    return np.ascontiguousarray(values).view(np.int64)


def window(row, t, count):
    """What is known of the last `count` bars."""
    own = row[max(0, t - count + 1) : t + 1]
    return own[np.isfinite(own)]


def strictly_before(row, t, count):
    own = row[max(0, t - count) : t]
    return own[np.isfinite(own)]


# --- running integers ---------------------------------------------------------------------------------------------------------------


@QUICK
@given(values=ROWS)
def test_running_sums_and_counts_of_what_is_known(values):
    sums, known = rolling.cumulated(values, LOG_SCALE)
    assert sums.shape == known.shape == (values.shape[0], values.shape[1] + 1)
    assert (sums[:, 0] == 0).all()
    held = np.where(np.isfinite(values), values, 0.0)
    assert np.diff(known, axis=1).tolist() == np.isfinite(values).astype(int).tolist()
    assert np.diff(sums, axis=1).tolist() == np.floor(held * LOG_SCALE + 0.5).astype(np.int64).tolist()


@QUICK
@given(values=ROWS, count=COUNTS, data=st.data())
def test_window_sums_and_roots(values, count, data):
    least = data.draw(st.integers(0, count))
    sums = rolling.window_sums(*rolling.cumulated(values, LOG_SCALE), count, least, LOG_SCALE)
    roots = rolling.window_roots(*rolling.cumulated(values**2, SQUARE_SCALE), count, least)
    for r, t in np.ndindex(values.shape):
        own = window(values[r], t, count)
        assert np.isfinite(sums[r, t]) == (len(own) >= least)
        assert np.isfinite(roots[r, t]) == (len(own) >= max(least, 1))  # a mean of nothing is unknown
        if len(own) >= least:
            assert sums[r, t] == pytest.approx(own.sum(), abs=1e-9)
        if len(own) >= max(least, 1):
            assert roots[r, t] == pytest.approx(math.sqrt((own**2).mean()), abs=1e-7)


@QUICK
@given(values=ROWS, count=COUNTS)
def test_the_fall_from_the_highest_level_of_the_window(values, count):
    """The level before the window's first step belongs to it: OI.7 compares with Q_{t-W}, too."""
    links = values / 20
    falls = rolling.falls_from_high(*rolling.cumulated(links, LOG_SCALE), count, 1, 0)
    held = np.where(np.isfinite(links), links, 0.0)
    level = np.exp(np.concatenate([np.zeros((len(held), 1)), np.cumsum(held, axis=1)], axis=1))
    for r, t in np.ndindex(values.shape):
        if len(window(links[r], t, count)):
            highest = level[r, max(0, t + 1 - count) : t + 2].max()
            assert falls[r, t] == pytest.approx(1 - level[r, t + 1] / highest, abs=1e-9)
            assert 0 <= falls[r, t] < 1
        else:
            assert np.isnan(falls[r, t])


@QUICK
@given(values=ROWS, count=COUNTS)
def test_the_level_above_its_mean(values, count):
    """Where the window begins with a known step; what counts before the first one is another matter (tests/unit/test_panel.py)."""
    links = values / 20
    found = rolling.above_mean(*rolling.cumulated(links, LOG_SCALE), count, 1)
    level = np.cumsum(np.where(np.isfinite(links), links, 0.0), axis=1)
    for r, t in np.ndindex(values.shape):
        start = max(0, t + 1 - count)
        if not len(window(links[r], t, count)):
            assert np.isnan(found[r, t])
        elif np.isfinite(links[r, start]):
            assert found[r, t] == pytest.approx(level[r, t] - level[r, start : t + 1].mean(), abs=1e-9)


def windowed(values, count):
    """Every windowed kernel over running integers, at once."""
    logs, squares = rolling.cumulated(values / 20, LOG_SCALE), rolling.cumulated((values / 20) ** 2, SQUARE_SCALE)
    return {
        "window_sums": rolling.window_sums(*logs, count, 1, LOG_SCALE),
        "window_roots": rolling.window_roots(*squares, count, 1),
        "falls_from_high": rolling.falls_from_high(*logs, count, 1, 0),
        "above_mean": rolling.above_mean(*logs, count, 1),
    }


@pytest.mark.parametrize("name", ["window_sums", "window_roots", "falls_from_high", "above_mean"])
@QUICK
@given(values=ROWS, count=COUNTS, begin=st.integers(0, 39), end=st.integers(1, 40))
@example(values=np.full((1, 30), 0.1), count=5, begin=7, end=30)
def test_the_same_bits_from_wherever_a_run_began_and_ended(name, values, count, begin, end):
    """Bars whose window lies within both runs. A float running sum of 0.1 fails this at the example."""
    part = values[:, begin:end]
    whole, own = windowed(values, count)[name][:, begin:end], windowed(part, count)[name] if part.shape[1] else part
    assert (bits(whole[:, count:]) == bits(own[:, count:])).all()


@pytest.mark.parametrize("offset", WRAPS)
@QUICK
@given(values=ROWS, count=COUNTS)
def test_running_integers_may_wrap_around(offset, values, count):
    """Differences of 64-bit sums are exact even when the sums themselves have passed the end of the range."""
    links = values / 20
    logs, known = rolling.cumulated(links, LOG_SCALE)
    squares, _ = rolling.cumulated(links**2, SQUARE_SCALE)
    for sums, compute in (
        (logs, lambda s: rolling.window_sums(s, known, count, 1, LOG_SCALE)),
        (squares, lambda s: rolling.window_roots(s, known, count, 1)),
        (logs, lambda s: rolling.above_mean(s, known, count, 1)),
    ):
        assert (bits(compute(sums)) == bits(compute(sums + np.int64(offset)))).all()


def test_bars_before_the_first_asked_for_are_left_out():
    links = np.full((1, 30), -0.01)
    whole = rolling.falls_from_high(*rolling.cumulated(links, LOG_SCALE), 5, 1, 0)
    late = rolling.falls_from_high(*rolling.cumulated(links, LOG_SCALE), 5, 1, 20)
    assert np.isnan(late[0, :20]).all()
    assert (bits(late[0, 20:]) == bits(whole[0, 20:])).all()


def test_a_sum_of_many_links_loses_nothing():
    """70,000 hourly links of 0.1 and back: exactly 0, which float sums in that order miss."""
    links = np.tile([0.1, 0.2, -0.3], 23_334)[None, :]
    assert float(np.cumsum(links[0])[-1]) != 0.0
    found = rolling.window_sums(*rolling.cumulated(links, LOG_SCALE), links.shape[1], 1, LOG_SCALE)
    assert abs(found[0, -1]) <= links.shape[1] / LOG_SCALE


@QUICK
@given(values=ROWS, place=st.integers(0, 3))
def test_totals_of_what_is_known(values, place):
    starts = np.array([0, min(place, len(values)), len(values)])
    found = rolling.totals(values, starts)
    for a, t in np.ndindex(2, values.shape[1]):
        own = values[starts[a] : starts[a + 1], t]
        own = own[np.isfinite(own)]
        assert found[a, t] == pytest.approx(sum(own) if len(own) else NAN, abs=1e-12, nan_ok=True)


# --- sorted windows -----------------------------------------------------------------------------------------------------------------


@QUICK
@given(values=st.lists(TIED, min_size=1, max_size=30), data=st.data())
def test_a_sorted_window_takes_values_in_and_out(values, data):
    ordered, size = np.full(len(values) + 1, NAN), 0
    for value in values:
        size = rolling.sorted_in(ordered, size, value)
    assert ordered[:size].tolist() == sorted(values)
    gone = data.draw(st.lists(st.sampled_from(range(len(values))), unique=True))
    for n in gone:
        size = rolling.sorted_out(ordered, size, values[n])
    assert ordered[:size].tolist() == sorted(value for n, value in enumerate(values) if n not in gone)


@QUICK
@given(values=st.lists(st.one_of(TIED, ROUGH), min_size=1, max_size=30), centre=st.one_of(TIED, st.floats(-9, 9)))
def test_median_and_median_deviation(values, centre):
    ordered = np.array([*sorted(values), NAN])
    assert rolling.middle(ordered, len(values)) == np.median(values)
    assert rolling.spread(ordered, len(values), centre) == pytest.approx(np.median(np.abs(np.array(values) - centre)), abs=1e-12)


@QUICK
@given(values=ROWS, near=st.integers(1, 6), far=st.integers(1, 15), every=st.integers(1, 3), least=st.integers(1, 4))
def test_bands_are_median_and_mad_of_the_strict_past(values, near, far, every, least):
    grid = np.arange(values.shape[1]) % every == 0
    off, mads = rolling.bands(values, grid, near, far, least, 0.25)
    for r, t in np.ndindex(values.shape):
        recent = strictly_before(values[r], t, near)
        if len(recent) and np.isfinite(values[r, t]):
            assert off[r, t] == values[r, t] - np.median(recent)
        else:
            assert np.isnan(off[r, t])
        past = strictly_before(np.where(grid, values[r], NAN), t, far)
        if len(past) >= least:
            assert mads[r, t] == pytest.approx(max(0.25, np.median(np.abs(past - np.median(past)))), abs=1e-12)
        else:
            assert np.isnan(mads[r, t])


@QUICK
@given(values=ROWS, begin=st.integers(0, 39))
def test_bands_do_not_depend_on_where_a_run_began(values, begin):
    grid = np.arange(values.shape[1]) % 2 == 0
    whole = rolling.bands(values, grid, 4, 9, 2, 0.25)
    part = rolling.bands(values[:, begin:], grid[begin:], 4, 9, 2, 0.25)
    for one, other in zip(whole, part, strict=True):
        assert (bits(one[:, begin + 9 :]) == bits(other[:, 9:])).all()


@QUICK
@given(values=ROWS, first=st.integers(0, 39))
def test_bands_may_begin_late(values, first):
    grid = np.arange(values.shape[1]) % 2 == 0
    whole, late = rolling.bands(values, grid, 4, 9, 2, 0.25), rolling.bands(values, grid, 4, 9, 2, 0.25, first)
    for one, other in zip(whole, late, strict=True):
        assert (bits(one[:, first:]) == bits(other[:, first:])).all()
        assert np.isnan(other[:, :first]).all()


@QUICK
@given(values=ROWS, tail=ROWS)
def test_bands_do_not_see_what_comes_later(values, tail):
    rows = min(len(values), len(tail))
    longer = np.concatenate([values[:rows], tail[:rows]], axis=1)
    grid = np.ones(longer.shape[1], dtype=bool)
    whole = rolling.bands(longer, grid, 4, 9, 2, 0.25)
    part = rolling.bands(values[:rows], grid[: values.shape[1]], 4, 9, 2, 0.25)
    for one, other in zip(whole, part, strict=True):
        assert (bits(one[:, : values.shape[1]]) == bits(other)).all()


@QUICK
@given(
    off=hnp.arrays(np.float64, (4, 12), elements=st.one_of(st.integers(-4, 4).map(float), st.just(NAN))),
    mads=hnp.arrays(np.float64, (4, 12), elements=st.sampled_from([0.5, 1.0])),
    venue=hnp.arrays(np.int64, 4, elements=st.integers(0, 2)),
    support=st.integers(0, 3),
)
def test_the_gate_in_plain_words(off, mads, venue, support):
    """Beyond the limit: confirmed by another venue beyond its own on the same side, contradicted by one that has values, else flagged."""
    aside, flagged = rolling.set_aside(off, mads, np.ones(off.shape, dtype=bool), venue, np.array([0, 4]), 2.0, support)
    beyond = np.abs(off) > 2.0 * mads
    for i, t in np.ndindex(off.shape):
        near = slice(max(0, t - support), t + 1)
        others = [n for n in range(4) if venue[n] != venue[i]]
        confirmed = any((beyond[n, near] & (np.sign(off[n, near]) == np.sign(off[i, t]))).any() for n in others)
        told = any(np.isfinite(off[n, near]).any() for n in others)
        assert aside[i, t] == (beyond[i, t] and told and not confirmed)
        assert flagged[i, t] == (beyond[i, t] and not told)


KEPT = hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 25)))


@QUICK
@given(kept=KEPT, limit=st.integers(0, 6))
def test_the_last_kept_bar(kept, limit):
    found = rolling.last_kept(kept, limit)
    for r, t in np.ndindex(kept.shape):
        near = np.flatnonzero(kept[r, max(0, t - limit) : t + 1])
        assert found[r, t] == (max(0, t - limit) + near[-1] if len(near) else -1)


USD = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 5), st.integers(1, 20)), elements=st.one_of(st.integers(0, 9).map(float), st.just(NAN))
)


@QUICK
@given(usd=USD, count=st.integers(1, 8), begin=st.integers(0, 19), split=st.integers(1, 4))
def test_median_shares(usd, count, begin, split):
    """Against the plain median; two assets; from any first bar on the same bits."""
    starts = np.array([0, min(split, len(usd)), len(usd)])
    medians = rolling.median_shares(usd, starts, count, 0)
    known = np.where(usd > 0, usd, NAN)
    shares = np.full(usd.shape, NAN)
    for low, high in pairwise(starts):
        for t in range(usd.shape[1]):
            total = math.fsum(x for x in known[low:high, t] if x > 0)
            shares[low:high, t] = known[low:high, t] / (total or NAN)
    for r, t in np.ndindex(usd.shape):
        own = window(shares[r], t, count)
        assert medians[r, t] == (pytest.approx(np.median(own), abs=1e-12) if len(own) else 0)
    late = rolling.median_shares(usd, starts, count, begin)
    assert (bits(late[:, begin:]) == bits(medians[:, begin:])).all()
    assert (late[:, :begin] == 0).all()


@QUICK
@given(share=st.lists(st.floats(0.1, 10), min_size=2, max_size=5), bars=st.integers(1, 6))
def test_median_shares_add_up_where_shares_are_constant(share, bars):
    usd = np.repeat(np.array(share)[:, None], bars, axis=1)
    assert rolling.median_shares(usd, np.array([0, len(share)]), 3, 0).sum(axis=0) == pytest.approx(np.ones(bars))
    assert (rolling.median_shares(usd[:1], np.array([0, 1]), 3, 0) == 1).all()

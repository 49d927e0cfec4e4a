"""Averages over venues (METHODOLOGY FU.4, 3.4) and the outlier gate (3.2): no venue's coming, going or misprint moves a number in a jump."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.unit.panels import candles, interest, panel_of, quantity, settled, together, value
from transforms import rolling
from transforms.spec import SPEC

NAN = math.nan
QUICK = settings(max_examples=60, deadline=None)


def weighed(values, usd=None, *, quality=None, venue=None, starts=None, ramp=7, cap=1.0):
    """(weights, values averaged) of instruments given as rows; each its own venue, all of one asset."""
    values = np.array(values, dtype=float)
    usd = np.ones(values.shape) if usd is None else np.array(usd, dtype=float)
    quality = np.ones(values.shape) if quality is None else np.array(quality, dtype=float)
    venue = np.arange(len(values)) if venue is None else np.array(venue)
    starts = np.array([0, len(values)]) if starts is None else np.array(starts)
    return rolling.average_weights(values, usd, quality, venue, starts, ramp, cap)


def mean(*args, **kwargs):
    weights, held = weighed(*args, **kwargs)
    return np.where(weights > 0, weights * held, 0.0).sum(axis=0)


def capped(shares, cap):
    """The one set of `min(cap, scale * share)` that adds up to 1."""
    shares = np.array(shares)
    fixed = np.zeros(len(shares), dtype=bool)
    while True:
        scale = (1 - cap * fixed.sum()) / shares[~fixed].sum()
        over = ~fixed & (scale * shares > cap + 1e-12)
        if not over.any():
            return np.where(fixed, cap, scale * shares)
        fixed |= over


def plainly(values, usd, quality, venue, ramp, cap):
    """METHODOLOGY FU.4 and 3.4 for one asset, word for word."""
    rows, bars = values.shape
    found = np.zeros((rows, bars))
    for t in range(bars):
        if not np.isfinite(values[:, t]).any():
            continue
        presence = np.isfinite(values[:, max(0, t - ramp + 1) : t + 1]).sum(axis=1)
        size = np.zeros(rows)
        for i in range(rows):
            told = [x for x in usd[i, max(0, t - 1 - ramp) : t] if x > 0]
            size[i] = told[-1] if told and presence[i] else 0.0
        base = (size if (size > 0).any() else np.ones(rows)) * presence
        share = base * quality[:, t]
        share = share if share.sum() > 0 else base
        share = share / share.sum()
        venues = [v for v in set(venue.tolist()) if share[venue == v].sum() > 0]
        if len(venues) * cap > 1:
            whole = {v: share[venue == v].sum() for v in venues}
            for v, allowed in zip(venues, capped(list(whole.values()), cap), strict=True):
                share[venue == v] *= allowed / whole[v]
        found[:, t] = share
    return found


@st.composite
def instruments(draw):
    """Values with gaps, sizes with gaps, qualities with zeros; several instruments on a venue."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 25)))
    numbers = st.one_of(st.integers(-9, 9).map(float), st.just(NAN))
    values = draw(hnp.arrays(np.float64, shape, elements=numbers))
    usd = draw(hnp.arrays(np.float64, shape, elements=st.one_of(st.sampled_from([1.0, 2.0, 5.0, 30.0]), st.just(NAN))))
    quality = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.5, 1.0, 1.0])))
    venue = draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, 3)))
    return values, usd, quality, venue


@settings(max_examples=150, deadline=None)
@given(one=instruments(), ramp=st.integers(1, 6), cap=st.sampled_from([0.3, 0.4, 1.0]))
def test_weights_are_lagged_open_interest_times_quality_times_presence_under_the_cap(one, ramp, cap):
    """Under a cap only where nobody is coming or going: how a cap comes into force is another matter."""
    values, usd, quality, venue = one
    weights, held = weighed(values, usd, quality=quality, venue=venue, ramp=ramp, cap=cap)
    known = np.isfinite(values)
    presence = np.stack([known[:, max(0, t - ramp + 1) : t + 1].sum(axis=1) for t in range(values.shape[1])], axis=1)
    settled_in = ((presence == ramp) | (presence == 0)).all(axis=0) | (cap == 1.0)
    expected = plainly(values, usd, quality, venue, ramp, cap)
    np.testing.assert_allclose(weights[:, settled_in], expected[:, settled_in], atol=1e-9)
    some = known.any(axis=0)
    assert (weights[:, some] >= 0).all()
    assert weights[:, some].sum(axis=0) == pytest.approx(1, abs=1e-12)
    assert (weights[:, ~some] == 0).all()
    assert np.isfinite(held[weights > 0]).all()
    own = np.stack([weights[venue == v].sum(axis=0) for v in set(venue.tolist())])
    binds = settled_in & ((own > 0).sum(axis=0) * cap > 1)
    assert (own[:, binds] <= cap + 1e-9).all()


@QUICK
@given(one=instruments(), ramp=st.integers(1, 5), begin=st.integers(0, 24))
def test_weights_do_not_depend_on_where_a_run_began(one, ramp, begin):
    values, usd, quality, venue = one
    whole = weighed(values, usd, quality=quality, venue=venue, ramp=ramp, cap=0.4)
    part = weighed(values[:, begin:], usd[:, begin:], quality=quality[:, begin:], venue=venue, ramp=ramp, cap=0.4)
    for own, other in zip(whole, part, strict=True):
        assert own[:, begin + ramp + 1 :].tobytes() == other[:, ramp + 1 :].tobytes()


@QUICK
@given(one=instruments(), first=st.integers(0, 24))
def test_weights_may_begin_late(one, first):
    values, usd, quality, venue = one
    plain = (values, usd, quality, venue, np.array([0, len(values)]), 4, 0.4)
    (weights, held), (late, also) = rolling.average_weights(*plain), rolling.average_weights(*plain, first)
    assert late[:, first:].tobytes() == weights[:, first:].tobytes()
    assert also[:, first:].tobytes() == held[:, first:].tobytes()
    assert (late[:, :first] == 0).all()


@QUICK
@given(one=instruments(), other=instruments())
def test_weights_of_an_asset_are_its_own_business(one, other):
    bars = min(one[0].shape[1], other[0].shape[1])
    values, usd, quality = (np.concatenate([a[:, :bars], b[:, :bars]]) for a, b in zip(one[:3], other[:3], strict=True))
    count = len(one[0])
    both = weighed(values, usd, quality=quality, venue=np.concatenate([one[3], other[3]]), starts=[0, count, len(values)], ramp=3, cap=0.4)
    alone = weighed(*(a[:, :bars] for a in one[:2]), quality=one[2][:, :bars], venue=one[3], ramp=3, cap=0.4)
    for whole, own in zip(both, alone, strict=True):
        assert whole[:count].tobytes() == own.tobytes()


@QUICK
@given(
    values=hnp.arrays(np.float64, st.tuples(st.just(1), st.integers(1, 20)), elements=st.one_of(st.floats(-9, 9), st.just(NAN))),
    data=st.data(),
)
def test_the_mean_of_a_lone_instrument_is_its_value(values, data):
    """Whatever its size, quality or history."""
    usd = data.draw(hnp.arrays(np.float64, values.shape, elements=st.sampled_from([NAN, 0.0, 3.0])))
    quality = data.draw(hnp.arrays(np.float64, values.shape, elements=st.sampled_from([0.0, 0.3, 1.0])))
    weights, held = weighed(values, usd, quality=quality, ramp=4, cap=0.4)
    known = np.isfinite(values)
    assert (held[known] == values[known]).all()
    assert (weights[known] == 1).all()


# --- who comes and goes -------------------------------------------------------------------------------------------------------------

RAMP = 24 * 7


def test_entry_ramps_in_a_line():
    """A venue of equal size: after n of 168 hours it counts n to 168."""
    values = np.zeros((2, 3 * RAMP))
    values[1] = 1.0
    values[1, :RAMP] = NAN
    weights, _ = weighed(values, ramp=RAMP)
    n = np.arange(1, RAMP + 1)
    assert weights[1, RAMP : 2 * RAMP] == pytest.approx(n / (RAMP + n))
    assert weights[1, 2 * RAMP :] == pytest.approx(0.5)
    assert np.abs(np.diff(mean(values, ramp=RAMP))).max() <= 1 / RAMP


def test_exit_ramps_in_a_line_with_its_last_value():
    values = np.zeros((2, 3 * RAMP))
    values[1] = 1.0
    values[1, RAMP:] = NAN
    weights, held = weighed(values, ramp=RAMP)
    n = np.arange(1, RAMP + 1)
    assert weights[1, RAMP : 2 * RAMP] == pytest.approx((RAMP - n) / (2 * RAMP - n))
    assert (held[1, RAMP : 2 * RAMP - 1] == 1).all()
    assert (weights[1, 2 * RAMP :] == 0).all()
    assert np.abs(np.diff(mean(values, ramp=RAMP)[RAMP:])).max() <= 1 / RAMP


@pytest.mark.parametrize("hours", [1, 40, 100])
def test_an_outage_of_the_biggest_of_two_venues_moves_the_mean_by_no_jump(hours):
    values = np.zeros((2, 4 * RAMP))
    values[1] = 1.0
    usd = np.array([[30.0], [70.0]]) * np.ones(values.shape)
    values[1, 2 * RAMP : 2 * RAMP + hours] = NAN
    usd[1, 2 * RAMP : 2 * RAMP + hours] = NAN
    found = mean(values, usd, ramp=RAMP)[RAMP:]
    assert found[0] == pytest.approx(0.7)
    assert np.abs(np.diff(found)).max() <= 1 / RAMP
    assert found.min() == pytest.approx(70 * (RAMP - hours) / (30 * RAMP + 70 * (RAMP - hours)))
    assert found[-1] == pytest.approx(0.7)


def last_venue(shares, leaves):
    """The last venue says 1, the others 0; it comes, or goes, in the middle."""
    values = np.zeros((len(shares), 4 * RAMP))
    values[-1] = 1.0
    values[-1, slice(2 * RAMP, None) if leaves else slice(0, 2 * RAMP)] = NAN
    return mean(values, np.array(shares)[:, None] * np.ones(values.shape), ramp=RAMP, cap=0.4)[RAMP:]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_venue_comes_and_goes_by_no_jump_where_no_cap_binds(leaves):
    found = last_venue([35, 33, 22, 10], leaves)
    assert np.abs(np.diff(found)).max() <= 1 / RAMP
    assert {round(found[0], 6), round(found[-1], 6)} == {0.0, 0.1}


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize(("shares", "share"), [([36, 34, 30], 0.3), ([80, 15, 5], 0.2)])
def test_a_third_venue_comes_and_goes_by_no_jump(leaves, shares, share):
    """Of two venues one always has more than 40 %, so the third one is always the one that makes the cap possible."""
    found = last_venue(shares, leaves)
    assert {round(found[0], 6), round(found[-1], 6)} == {0.0, share}
    assert np.abs(np.diff(found)).max() <= 2 / RAMP


@pytest.mark.parametrize(("cap", "expected"), [(0.4, [0.4, 0.4, 0.2]), (0.3, [80 / 100, 15 / 100, 5 / 100]), (1.0, [0.8, 0.15, 0.05])])
def test_the_cap_holds_where_there_are_enough_venues(cap, expected):
    """Three venues cannot each stay below 30 %: then there is no cap."""
    weights, _ = weighed(np.ones((3, 20)), np.array([[80.0], [15.0], [5.0]]) * np.ones((3, 20)), cap=cap)
    assert weights[:, -1] == pytest.approx(expected)


def test_the_cap_is_a_venues_and_not_an_instruments():
    weights, _ = weighed(np.ones((4, 20)), np.array([[40.0], [40.0], [15.0], [5.0]]) * np.ones((4, 20)), venue=[0, 0, 1, 2], cap=0.4)
    assert weights[:, -1] == pytest.approx([0.2, 0.2, 0.4, 0.2])


def test_quality_0_drops_a_voice_unless_there_is_no_other():
    values, bad = np.array([[1.0] * 9, [5.0] * 9]), np.array([[1.0] * 9, [0.0] * 9])
    assert mean(values, quality=bad).tolist() == [1.0] * 9
    assert mean(values, quality=bad * 0).tolist() == [3.0] * 9
    values[0, 4:] = NAN  # the good one falls silent: its last value for 7 bars, nothing of the other
    assert mean(values, quality=bad)[4:].tolist() == [1.0] * 5


def test_weights_are_of_the_bar_before():
    """What happens to open interest at t cannot change the average at t."""
    usd = np.ones((2, 12))
    other = usd.copy()
    other[1, -1] = 1e9
    for one in (usd, other):
        assert mean([[0.0] * 12, [1.0] * 12], one)[-1] == 0.5


# --- the outlier gate -----------------------------------------------------------------------------------------------------------------


DAYS = 20
CALM = np.where(np.arange(24 * DAYS) % 2, 100.0, 100.2)


def prices(*rows, cadence="1h", spec=SPEC):
    """A panel of one asset whose venues have these closes; NaN = no candle."""
    cores = []
    for n, row in enumerate(rows):
        table = candles(np.where(np.isfinite(row), row, 1.0), cadence=cadence, venue=f"v{n}")
        cores.append({"candles": table.filter(np.isfinite(row))})
    panel = panel_of(together(*cores), len(rows[0]), cadence, spec)
    return panel, panel.price.usd, panel.gates["price"]


def spiked(size, at=-1, rows=CALM):
    found = rows.copy()
    found[at] *= size
    return found


@pytest.mark.parametrize("size", [0.5, 0.93, 1.07, 1000.0])
def test_a_lone_spike_is_set_aside(size):
    """MAD is at its floor of 0.5 %, so 6 % is the limit; the last good value stands in, an hour old."""
    panel, used, gate = prices(spiked(size), CALM)
    assert gate.aside[:, -1].tolist() == [True, False]
    assert not gate.flagged.any()
    assert used[0, -1] == CALM[-2]
    assert panel.price.age_h[0, -1] == 1
    assert gate.mad[0, -1] == SPEC.outliers.price_tick
    assert gate.off[0, -1] == pytest.approx(math.log(size), abs=0.002)


@pytest.mark.parametrize("size", [0.945, 1.055])
def test_within_the_limit_nothing_is_set_aside(size):
    _, used, gate = prices(spiked(size), CALM)
    assert not (gate.aside | gate.flagged).any()
    assert used[0, -1] == spiked(size)[-1]


@pytest.mark.parametrize(("earlier", "supported"), [(0, True), (1, True), (2, True), (3, False)])
def test_what_a_second_venue_saw_within_2_bars_is_used_however_large(earlier, supported):
    _, used, gate = prices(spiked(0.1), spiked(0.2, at=-1 - earlier))
    assert gate.aside[0, -1] == (not supported)
    assert used[0, -1] == pytest.approx(CALM[-1] * 0.1 if supported else CALM[-2])


def test_a_spike_to_the_other_side_supports_nothing():
    _, _, gate = prices(spiked(0.1), spiked(10.0))
    assert gate.aside[:, -1].all()


def test_two_instruments_of_one_venue_are_one_voice():
    cores = [{"candles": candles(row, instrument=name)} for row, name in ((spiked(0.1), "X"), (spiked(0.1), "Y"))]
    panel = panel_of(together(*cores), len(CALM))
    assert np.isfinite(panel.price.usd).all()
    assert panel.gates["price"].flagged[:, -1].all()


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_a_lone_venue_is_used_and_flagged(size):
    _, used, gate = prices(spiked(size))
    assert (gate.flagged[0, -1], gate.aside[0, -1]) == (True, False)
    assert used[0, -1] == spiked(size)[-1]


@pytest.mark.parametrize("witness", ["young", "silent"])
def test_a_venue_that_cannot_contradict_is_no_witness(witness):
    """A crash by half. Of the second venue there are 10 days, with the same crash; or it has been silent for 4 h and sees nothing."""
    other = spiked(0.5)
    if witness == "young":
        other[: 24 * 10] = NAN
    else:
        other[-4:] = NAN
    _, used, gate = prices(spiked(0.5), other)
    assert not gate.aside[0, -1]
    assert used[0, -1] == CALM[-1] / 2


@pytest.mark.parametrize(("cadence", "bars"), [("1h", 24), ("1d", 1)])
def test_a_level_shift_is_accepted_after_at_most_24_h(cadence, bars):
    calm = np.where(np.arange(120) % 2, 100.0, 100.2) if cadence == "1d" else np.concatenate([CALM, CALM[:60]])
    shifted = calm.copy()
    shifted[-40:] *= 2
    _, used, gate = prices(shifted, calm, cadence=cadence)
    away = np.flatnonzero(gate.aside[0])
    assert away[0] == len(calm) - 40
    assert len(away) <= bars
    assert used[0, -40 + bars :] == pytest.approx(shifted[-40 + bars :])
    assert not gate.aside[1].any()


def test_a_change_that_was_set_aside_for_longer_than_the_carry_limit_is_not_booked():
    """Open interest of one venue doubles: aside for half a day, so it left and came back without a link (3.3)."""
    bars = 24 * DAYS + 60
    calm = np.where(np.arange(bars) % 2, 100.0, 100.1)
    shifted = calm.copy()
    shifted[-40:] *= 2
    panel = panel_of(together(*({"open_interest": interest(row, venue=v)} for row, v in ((shifted, "a"), (calm, "b")))), bars)
    assert np.abs(np.log(quantity(panel))).max() < 0.01
    assert 6 < panel.gates["open_interest"].aside.sum() <= 24


def test_the_floor_of_mad_is_each_inputs_own():
    """Pinned for 20 days, MAD is 0: 12 ticks are the limit. Funding p.a.: 24 points; open interest: 12 % log."""
    hours = np.arange(8, 24 * DAYS + 1, 8)
    for tick, limit in ((0.02, 0.24), (0.01, 0.12)):
        for size, beyond in ((limit * 0.99, False), (limit * 1.01, True)):
            if tick == SPEC.outliers.funding_tick:
                rates = [np.where(hours == hours[-1], 1e-4 + own / 1095, 1e-4) for own in (size, 0.0)]
                cores = [{"funding": settled(row, hours, interval_h=8.0, venue=f"v{n}")} for n, row in enumerate(rates)]
                panel = panel_of(together(*cores), 24 * DAYS)
                value(panel, "funding_last_annual")
                assert panel.gates["funding"].aside[0, -1] == beyond
            else:
                rows = [spiked(math.exp(own), rows=np.full(24 * DAYS, 100.0)) for own in (size, 0.0)]
                panel = panel_of(together(*({"open_interest": interest(row, venue=f"v{n}")} for n, row in enumerate(rows))), 24 * DAYS)
                value(panel, "oi_usd")
                assert panel.gates["open_interest"].aside[0, -1] == beyond


def test_without_half_of_30_days_there_is_no_gate():
    """15 days less a sample: nobody can say what is usual."""
    short = CALM[: 24 * 15 - 4]
    _, used, gate = prices(spiked(0.1, rows=short), short)
    assert not (gate.aside | gate.flagged).any()
    assert used[0, -1] == short[-1] * 0.1
    longer = CALM[: 24 * 15 + 5]
    assert prices(spiked(0.1, rows=longer), longer)[2].aside[0, -1]


def test_what_was_set_aside_never_reaches_an_average():
    """The misprint of one venue would be the funding of the asset; the other's rate stands."""
    hours = np.arange(8, 24 * DAYS + 1, 8)
    rates = np.where(hours == hours[-1], 0.5, 1e-4)
    core = together(
        {"funding": settled(rates, hours, interval_h=8.0, venue="v0")}, {"funding": settled(1e-4, hours, interval_h=8.0, venue="v1")}
    )
    for feature in ("funding_last_annual", "funding_realised_annual"):
        assert value(panel_of(core, 24 * DAYS), feature)[-1] == pytest.approx(0.1095)
    loose = replace(SPEC, outliers=replace(SPEC.outliers, limit=1e9))
    assert value(panel_of(core, 24 * DAYS, spec=loose), "funding_last_annual")[-1] > 200

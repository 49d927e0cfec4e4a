"""The cascade label (METHODOLOGY 4.6) and the online detector (LQ.10) on paths a person can follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.property.synthetic import micros
from transforms.estimators import HOUR_US
from transforms.index.cascades import NEVER, detect, detector_start, label, label_start
from transforms.rules import CascadeRule

RULE = CascadeRule()
T0 = micros("2023-05-01")
SIGMA = 0.04
NAN = float("nan")
SERIES = Path(__file__).parents[3] / "shared" / "recordings" / "series"


def told(returns, links, *, sigma=SIGMA, step_h=1.0, rule=RULE):
    """(bar, side, bars since the beginning) of each start of one asset."""
    returns, links = (np.atleast_2d(np.array(values, dtype=float)) for values in (returns, links))
    when = T0 + np.arange(returns.shape[1]) * round(step_h) * HOUR_US
    levels = np.broadcast_to(np.array(sigma, dtype=float), returns.shape)
    starts, _ = label(returns, links, levels, when, rule, step_h, label_start(len(returns), rule, step_h))
    age = starts.age_h(when) / step_h
    return [(int(t), int(starts.side[0, t]), round(age[0, t])) for t in np.flatnonzero(starts.side[0])]


def path(bars, **moves):
    """Zeros with values put at bars: path(6, r={2: -0.05}, q={2: -0.06})."""
    found = []
    for name in ("r", "q"):
        values = np.zeros(bars)
        for bar, value in moves.get(name, {}).items():
            values[bar] = value
        found.append(values)
    return found


# --- the label --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigmas", "fall", "expected"),
    [
        (-1.2, -0.05, [(3, -1, 1)]),
        (-1.199999, -0.05, []),
        (-1.2, -0.049999, []),
        (1.2, -0.05, [(3, 1, 1)]),
        (1.199999, -0.05, []),
        (-5.0, 0.05, []),
        (5.0, 0.05, []),
    ],
)
def test_thresholds_of_a_move_in_one_bar(sigmas, fall, expected):
    """A down-cascade and a squeeze both lose open interest; exactly at the threshold counts."""
    assert told(*path(6, r={3: sigmas * SIGMA}, q={3: fall})) == expected


def test_a_value_that_rounding_carries_to_the_threshold_counts():
    assert told(*path(6, r={3: -1.2 * SIGMA + 1e-9}, q={3: -0.05 + 1e-10})) == [(3, -1, 1)]


def test_the_move_is_known_when_both_held_and_began_before_its_first_bar():
    """Price falls at bars 2 and 3, open interest leaves at bar 5: known at 5, begun after bar 2 (bar 2 is not needed)."""
    assert told(*path(8, r={2: -0.02, 3: -0.05}, q={5: -0.06})) == [(5, -1, 3)]
    assert told(*path(8, r={2: -0.03, 3: -0.03}, q={5: -0.06})) == [(5, -1, 4)]


@pytest.mark.parametrize(("last", "expected"), [(4, [(4, -1, 4)]), (5, [])])
def test_the_window_is_four_hours(last, expected):
    assert told(*path(8, r={1: -0.06}, q={last: -0.06})) == expected


def test_a_move_that_came_back_within_the_window_is_none():
    assert told(*path(8, r={2: -0.06, 3: 0.03}, q={3: -0.06})) == []


@pytest.mark.parametrize(("second", "count"), [(2 + 23, 1), (2 + 24, 2)])
def test_starts_lie_24_hours_apart_whatever_their_side(second, count):
    assert len(told(*path(40, r={2: -0.06, second: 0.06}, q={2: -0.06, second: -0.06}))) == count


def test_assets_are_declustered_each_for_itself():
    down, leaving = path(12, r={2: -0.06}, q={2: -0.06})
    later, also = path(12, r={5: -0.06}, q={5: -0.06})
    when = T0 + np.arange(12) * HOUR_US
    starts, _ = label(
        np.stack([down, later]), np.stack([leaving, also]), np.full((2, 12), SIGMA), when, RULE, 1.0, label_start(2, RULE, 1.0)
    )
    assert [tuple(cell) for cell in np.argwhere(starts.side)] == [(0, 2), (1, 5)]


def test_sigma_is_the_one_before_the_move():
    """The move itself raises sigma; that must not hide it."""
    sigma = np.where(np.arange(8) >= 3, 1.0, SIGMA)
    assert told(*path(8, r={3: -0.06}, q={3: -0.06}), sigma=sigma) == [(3, -1, 1)]


def test_an_unknown_bar_breaks_windows_and_is_not_calm():
    returns, links = path(8, r={2: -0.06}, q={4: -0.06})
    links[3] = NAN
    assert told(returns, links) == []
    when = T0 + np.arange(8) * HOUR_US
    sigma = np.full((1, 8), SIGMA)
    sigma[0, 5] = NAN
    starts, _ = label(returns[None], links[None], sigma, when, RULE, 1.0, label_start(1, RULE, 1.0))
    assert starts.seen[0].tolist() == [False, True, True, False, True, True, False, True]
    assert np.isnan(starts.signed()[0]).tolist() == (~starts.seen[0]).tolist()
    assert (starts.began == NEVER).all()


def test_on_the_daily_grid_one_bar_stands_for_the_window():
    """1.2 sigma in 4 h is 1.2 sqrt(24 / 4) = 2.94 sigma in 24 h; two falling days are not one window."""
    assert RULE.window_bars(24.0) == 1
    assert RULE.sigmas_at(24.0) == pytest.approx(2.9393877)
    assert RULE.sigmas_at(1.0) == 1.2
    assert told(*path(6, r={2: -2.94 * SIGMA}, q={2: -0.05}), step_h=24.0) == [(2, -1, 1)]
    assert told(*path(6, r={2: -2.93 * SIGMA}, q={2: -0.05}), step_h=24.0) == []
    assert told(*path(6, r={2: -1.5 * SIGMA, 3: -1.5 * SIGMA}, q={2: -0.05, 3: -0.05}), step_h=24.0) == []
    twice = path(6, r={2: -0.2, 3: -0.2}, q={2: -0.05, 3: -0.05})
    assert told(*twice, step_h=24.0) == [(2, -1, 1), (3, -1, 1)]
    assert told(*twice, step_h=24.0, rule=replace(RULE, gap_h=48.0)) == [(2, -1, 1)]


def test_the_label_against_a_plain_reading_of_its_definition():
    """All windows of all bars in plain Python; no shared code."""
    rng = np.random.default_rng(11)
    bars = 1200
    returns, links = rng.standard_t(3, (2, bars)) * 0.012, rng.standard_t(3, (2, bars)) * 0.01 - 0.004
    returns[0, 50], links[1, 90] = NAN, NAN
    sigma = np.exp(rng.normal(np.log(SIGMA), 0.1, (2, bars)))
    when = T0 + np.arange(bars) * HOUR_US
    starts, _ = label(returns, links, sigma, when, RULE, 1.0, label_start(2, RULE, 1.0))
    expected = []
    for a in range(2):
        last = -(10**6)
        for u in range(bars):
            for t in range(u - 1, max(-1, u - 5), -1):
                move, change = returns[a, t + 1 : u + 1].sum() / sigma[a, t], links[a, t + 1 : u + 1].sum()
                if abs(move) >= 1.2 and change <= -0.05:
                    if t - last >= 24:
                        expected.append((a, u, int(np.sign(move)), t))
                        last = t
                    break
    found = [(a, u, int(starts.side[a, u]), int((starts.began[a, u] - T0) // HOUR_US)) for a, u in np.argwhere(starts.side)]
    assert found == expected
    assert len(found) > 10
    assert {side for _, _, side, _ in found} == {-1, 1}


def test_a_run_must_follow_its_state():
    when = T0 + np.arange(4) * HOUR_US
    zeros = np.zeros((1, 4))
    _, state = label(zeros, zeros, zeros + SIGMA, when, RULE, 1.0, label_start(1, RULE, 1.0))
    with pytest.raises(ValueError, match="hand over the state of the bar 1 h before"):
        label(zeros, zeros, zeros + SIGMA, when + 5 * HOUR_US, RULE, 1.0, state)
    with pytest.raises(ValueError, match="every bar of the grid"):
        label(zeros[:, :2], zeros[:, :2], zeros[:, :2], when[[0, 2]], RULE, 1.0, label_start(1, RULE, 1.0))
    again, unchanged = label(zeros[:, :0], zeros[:, :0], zeros[:, :0], when[:0], RULE, 1.0, state)
    assert again.side.shape == (1, 0)
    assert all(np.array_equal(unchanged[name], state[name], equal_nan=True) for name in state)


@pytest.mark.recordings
@pytest.mark.skipif(not SERIES.is_dir(), reason="the recordings are not beside this checkout (../shared/recordings)")
def test_the_days_btc_lost_its_leverage_in_2022_and_2023():
    """Coinalyze's daily bars of Binance: FTX and the fall of August 2023 are starts; LUNA is not, because open interest rose into it."""
    bars = pd.read_parquet(SERIES / "coinalyze_daily.parquet")
    btc = bars[bars.symbol == "BTCUSDT_PERP.A"].set_index("date").sort_index()
    returns, links = np.log(btc.close_usd).diff(), np.log(btc.open_interest_base).diff()
    sigma = np.sqrt((returns**2).rolling(30, min_periods=27).mean())
    when = T0 + np.arange(len(btc)) * 24 * HOUR_US
    arrays = (series.to_numpy()[None] for series in (returns, links, sigma))
    starts, _ = label(*arrays, when, RULE, 24.0, label_start(1, RULE, 24.0))
    days = {str(btc.index[t])[:10]: int(starts.side[0, t]) for t in np.flatnonzero(starts.side[0])}
    assert {"2022-11-08": -1, "2023-08-17": -1}.items() <= days.items()
    assert not any(day.startswith("2022-05") for day in days)
    assert len(days) < 10


# --- the detector -----------------------------------------------------------------------------------------------------------------

SIGMA_H = 0.01
BURST = {"p": 0.999, "r": -0.04, "q": -0.02}


def detected(*cells, step_h=1.0, rule=RULE):
    """The detector over bars given as dicts; what a bar does not say is calm."""
    rows = [{"p": 0.5, "r": 0.0, "q": 0.0} | cell for cell in cells]
    p, r, q = (np.array([[row[name] for row in rows]], dtype=float) for name in ("p", "r", "q"))
    when = T0 + np.arange(len(rows)) * round(step_h) * HOUR_US
    state, _ = detect(p, r, np.full(p.shape, SIGMA_H), q, when, rule, step_h, detector_start(1))
    return [None if np.isnan(x) else int(x) for x in state[0]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, -1),
        ({"r": 0.04}, 1),
        ({"p": 0.99}, 0),
        ({"p": 0.990002}, -1),
        ({"r": -0.03}, 0),
        ({"r": -0.0300001}, -1),
        ({"q": -0.01}, 0),
        ({"q": -0.010002}, -1),
        ({"q": 0.02}, 0),
    ],
)
def test_a_cascade_opens_strictly_beyond_all_three_thresholds(change, expected):
    assert detected({}, BURST | change) == [0, expected]


def test_it_ends_at_the_third_bar_in_a_row_below_the_lower_percentile():
    below, at = {"p": 0.899}, {"p": 0.9}
    assert detected(BURST, below, below, below, {}) == [-1, -1, -1, 0, 0]
    assert detected(BURST, below, below, at, below, below, below) == [-1] * 6 + [0]
    assert detected(BURST, below, below, BURST | {"r": 0.04}, below, below, below) == [-1, -1, -1, 1, 1, 1, 0]


def test_without_liquidations_there_is_no_value_and_a_cascade_is_soon_forgotten():
    unknown = {"p": NAN}
    assert detected(unknown, {}, BURST | unknown) == [None, 0, None]
    assert detected(BURST, unknown, unknown, {}, {}, {}) == [-1, None, None, -1, -1, 0]
    assert detected(BURST, unknown, unknown, {"p": 0.95}, unknown, unknown, {"p": 0.95}) == [-1, None, None, -1, None, None, -1]
    assert detected(BURST, unknown, unknown, unknown, {}) == [-1, None, None, None, 0]


def test_an_unknown_price_leaves_open_only_what_it_decides():
    assert detected({"r": NAN}) == [0]
    assert detected(BURST | {"r": NAN}) == [None]
    assert detected(BURST | {"r": NAN, "q": 0.0}) == [0]
    assert detected(BURST | {"q": NAN}) == [None]
    assert detected(BURST, BURST | {"q": NAN}) == [-1, -1]


def test_on_the_daily_grid_a_bar_is_measured_with_its_own_scale():
    """3 sigma of a day is 3 sqrt(24) sigma_h; open interest must fall as much as the label asks; one calm bar ends it."""
    day = SIGMA_H * np.sqrt(24)
    assert detected({"p": 0.999, "r": -3.01 * day, "q": -0.051}, {}, step_h=24.0) == [-1, 0]
    assert detected({"p": 0.999, "r": -2.99 * day, "q": -0.051}, step_h=24.0) == [0]
    assert detected({"p": 0.999, "r": -3.01 * day, "q": -0.05}, step_h=24.0) == [0]

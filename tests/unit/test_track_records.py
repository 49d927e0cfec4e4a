"""The track record of events (METHODOLOGY 4.8, 9.1 trap 7), counted by hand on small paths."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from tests.unit.event_paths import CODE, NAMES, NAN, RULE, ran
from transforms.index.event_types import Counts
from transforms.index.track_records import counts, noise_to_signal

#: judged from one on, so that a person can count
OPEN = replace(RULE, min_history=1)


def cluster_story(bars, *, events_at, cascades, seen=(), rule=OPEN, step_h=1.0):
    """LIQ_CLUSTER_NEAR below the price at some bars; cascades {bar known: (side, hours since it began)}. Rows of that type."""
    away, known, age = np.full(bars, 5.0), np.zeros(bars), np.full(bars, NAN)
    away[list(events_at)] = -0.5
    for bar, (side, hours) in cascades.items():
        known[bar], age[bar] = side, hours
    known[list(seen)] = NAN
    rows = ran({"liquidation_distance_sigma": away, "cascade_known": known, "cascade_age_h": age}, rule=rule, step_h=step_h)
    assert (rows["type"] == NAMES.index("LIQ_CLUSTER_NEAR")).all()
    return [{name: values[n].item() for name, values in rows.items()} for n in range(len(rows["bar"]))]


def test_a_track_record_counted_by_hand():
    """Events at 5, 35, 65, 101. Cascades down: begun 10 (hit of the first), begun 70 (hit of the third), begun 95 (nobody warned). One up.

    Control windows of 24 h open at 0, 24, 48, 72; those at 0 (10), 48 (70) and 72 (95) hold a fall. At 101 the first three events and the
    windows of 0, 24, 48, 72 are over, two of three events were hits, two of four onsets were announced.
    """
    rows = cluster_story(120, events_at=(5, 35, 65, 101), cascades={12: (-1, 2), 44: (1, 1), 71: (-1, 1), 97: (-1, 2)})
    assert [row["bar"] for row in rows] == [5, 35, 65, 101]
    assert [row["n_hist"] for row in rows] == [0, 1, 2, 3]
    assert [row["hist_precision"] for row in rows[1:]] == [1.0, 1 / 2, 2 / 3]
    assert np.isnan(rows[0]["hist_precision"])
    assert rows[3]["hist_recall"] == 2 / 4
    assert rows[2]["hist_recall"] == 1 / 2
    assert rows[3]["base_rate"] == 3 / 4
    assert rows[2]["base_rate"] == 1 / 2


@pytest.mark.parametrize(("began", "hit"), [(4, 0), (5, 1), (28, 1), (29, 0)])
def test_a_hit_begins_at_the_event_or_later_and_within_the_horizon(began, hit):
    """Trap 7: a move that had begun before the event is no warning."""
    rows = cluster_story(60, events_at=(5, 50), cascades={began + 2: (-1, 2)})
    assert (rows[1]["n_hist"], rows[1]["hist_precision"]) == (1, hit)


def test_the_wrong_side_is_no_hit():
    assert cluster_story(60, events_at=(5, 50), cascades={10: (1, 1)})[1]["hist_precision"] == 0
    assert cluster_story(60, events_at=(5, 50), cascades={10: (-1, 1)})[1]["hist_precision"] == 1


def test_an_event_counts_when_its_horizon_is_over_also_if_it_was_right_early():
    """Horizon 24 h; a cascade that began in its last hour may be told 4 h later: judged 27 h after the event, at bar 32."""
    for bar, judged in ((31, 0), (32, 1)):
        assert cluster_story(60, events_at=(5, bar), cascades={8: (-1, 1)})[1]["n_hist"] == judged


def test_without_knowing_the_age_a_start_counts_as_early_as_it_can_have_been():
    for known, hit in ((8, 0), (9, 1)):
        assert cluster_story(60, events_at=(5, 50), cascades={known: (-1, NAN)})[1]["hist_precision"] == hit


def test_an_event_whose_horizon_was_not_all_seen_counts_only_as_a_hit():
    assert cluster_story(60, events_at=(5, 50), cascades={}, seen=(20,))[1]["n_hist"] == 0
    assert cluster_story(60, events_at=(5, 50), cascades={}, seen=(5, 33))[1]["n_hist"] == 1
    row = cluster_story(60, events_at=(5, 50), cascades={9: (-1, 1)}, seen=(20,))[1]
    assert (row["n_hist"], row["hist_precision"]) == (1, 1.0)


def test_an_onset_nobody_could_have_announced_does_not_count_for_recall():
    bars = 120
    away, known = np.full(bars, NAN), np.zeros(bars)
    away[60:] = 5.0
    away[[70, 110]] = -0.5
    known[[20, 62, 86, 100]] = -1
    age = np.where(np.arange(bars) == 62, 3.0, 1.0)
    rows = ran({"liquidation_distance_sigma": away, "cascade_known": known, "cascade_age_h": age}, rule=OPEN)
    assert rows["hist_recall"].tolist()[-1] == 1 / 2  # begun at 85 (announced) and 99 (missed); at 19 and 59 the type slept


def test_a_type_that_fell_asleep_missed_nothing():
    """Its input ends at bar 30; falls begun at 53 and at 79: only the first came while its last word could still have held."""
    bars = 140
    away, known = np.full(bars, 5.0), np.zeros(bars)
    away[[5, 120]], away[31:120] = -0.5, NAN
    known[[54, 80]] = -1
    rows = ran({"liquidation_distance_sigma": away, "cascade_known": known, "cascade_age_h": np.ones(bars)}, rule=OPEN)
    assert rows["bar"].tolist() == [5, 120]
    assert rows["hist_recall"][-1] == 0
    known[54] = 0
    rows = ran({"liquidation_distance_sigma": away, "cascade_known": known, "cascade_age_h": np.ones(bars)}, rule=OPEN)
    assert np.isnan(rows["hist_recall"][-1])


def test_fewer_than_ten_is_no_track_record():
    bars = 26 * 28
    starts = [28 * n for n in range(26)]
    rows = cluster_story(bars, events_at=starts, cascades={bar + 5: (-1, 1) for bar in starts[::2]}, rule=RULE)
    assert [row["n_hist"] for row in rows] == list(range(26))
    for row, n in zip(rows, count()):
        assert np.isnan(row["hist_precision"]) == (n < 10)
    assert rows[20]["hist_precision"] == 0.5


def test_a_detection_may_follow_the_beginning_but_not_the_knowledge():
    """CASCADE_ONGOING at the bar where the label is told finds a move that began two hours before; for recall, later is too late."""
    for at, found in ((10, 1), (11, 0), (30, 0)):
        bars = 80
        state, known, age = np.zeros(bars), np.zeros(bars), np.full(bars, 2.0)
        state[[at, 70]], known[10] = -1, -1
        rows = ran({"cascade_state": state, "cascade_known": known, "cascade_age_h": age}, rule=OPEN)
        assert rows["hist_precision"][-1] == (at <= 12)
        assert rows["hist_recall"][-1] == found


def test_no_record_for_what_nothing_can_prove_wrong():
    rows = ran({"coverage": np.full(24 * 20, 0.1)}, rule=OPEN)
    assert len(rows["bar"]) == 20
    assert (rows["n_hist"] == 0).all()
    assert np.isnan(rows["hist_precision"]).all()
    assert np.isnan(rows["base_rate"]).all()


def test_records_belong_to_one_asset():
    bars = 80
    away = np.full((2, bars), 5.0)
    away[0, [5, 50]], away[1, 50] = -0.5, -0.5
    rows = ran({"liquidation_distance_sigma": away, "cascade_known": np.zeros((2, bars))}, assets=2, rule=OPEN)
    assert dict(zip(zip(rows["asset"].tolist(), rows["bar"].tolist(), strict=True), rows["n_hist"].tolist(), strict=True)) == {
        (0, 5): 0,
        (0, 50): 1,
        (1, 50): 0,
    }


# --- outcomes ---------------------------------------------------------------------------------------------------------------------


def record_of(name, inputs, step_h=1.0):
    """(n, precision) known at the last event of a type."""
    rows = ran(inputs, rule=OPEN, step_h=step_h)
    own = np.flatnonzero(rows["type"] == NAMES.index(name))
    return rows["n_hist"][own[-1]].item(), rows["hist_precision"][own[-1]].item()


@pytest.mark.parametrize(("sigmas", "hit"), [(-2.0, 1), (-1.99, 0), (2.0, 0)])
def test_a_jump_against_the_crowd(sigmas, hit):
    """OI_PRICE_DIVERGENCE while the price rose; 30 h later it moves over four hours. Judged after 72 + 23 h."""
    bars = 120
    move, change, returns = np.zeros(bars), np.zeros(bars), np.zeros(bars)
    move[[5, 110]], change[[5, 110]], returns[35:39] = 0.05, -0.1, sigmas * 0.03 / 4
    inputs = {"return_24h": move, "oi_change_24h": change, "return_1bar": returns, "sigma_d": np.full(bars, 0.03)}
    assert record_of("OI_PRICE_DIVERGENCE", inputs) == (1, hit)


@pytest.mark.parametrize(("sigmas", "hit"), [(4.0, 1), (3.9, 0), (-4.0, 0)])
def test_a_swing_up_after_a_deleveraging(sigmas, hit):
    bars = 24 * 30
    regime, returns = np.full(bars, CODE["neutral"]), np.zeros(bars)
    for bar in (5, 24 * 25):
        regime[bar : bar + 2] = CODE["deleveraging"], CODE["recovery"]
    returns[100:250:10] = sigmas * 0.03 / 15
    inputs = {"regime": regime, "return_1bar": returns, "sigma_d": np.full(bars, 0.03)}
    assert record_of("DELEVERAGING_COMPLETE", inputs) == (1, hit)


@pytest.mark.parametrize(("enters", "hit"), [(40, 1), (5, 0), (6, 1), (5 + 336, 1), (5 + 337, 0)])
def test_a_build_up_ends_in_a_deleveraging(enters, hit):
    """The regime that changes at the very bar of the event was no surprise to it."""
    bars = 24 * 30
    growth, regime = np.full(bars, 0.5), np.full(bars, CODE["neutral"])
    growth[[5, -1]], regime[enters:] = 0.95, CODE["deleveraging"]
    inputs = {"buildup_p": growth, "level_p": np.full(bars, 0.7), "oi_change_168h": np.full(bars, 0.1), "regime": regime}
    assert record_of("LEVERAGE_BUILDUP", inputs) == (1, hit)


def test_the_first_regime_ever_known_is_no_change():
    bars = 24 * 30
    growth, regime = np.full(bars, 0.5), np.full(bars, -1)
    growth[[5, -1]], regime[40:] = 0.95, CODE["deleveraging"]
    inputs = {"buildup_p": growth, "level_p": np.full(bars, 0.7), "oi_change_168h": np.full(bars, 0.1), "regime": regime}
    assert record_of("LEVERAGE_BUILDUP", inputs)[0] == 0


@pytest.mark.parametrize(("last", "hit"), [(1.0, 1), (-1.0, 1), (1.1, 0)])
def test_an_expiry_at_the_strike(last, hit):
    """24 h before expiry the strike is near; in the last hour it lies within one expected move of that hour, or not."""
    bars = 120
    left_h = np.concatenate([np.arange(24.0, 0.0, -1.0), np.arange(96.0, 0.0, -1.0)])
    away = np.full(bars, 3.0)
    away[[0, -10]], away[23] = 0.2, last
    assert record_of("STRIKE_MAGNET", {"strike_distance_em": away, "option_expiry_h": left_h}) == (1, hit)


def test_outcomes_on_the_daily_grid():
    """A cascade is told one bar after it began; a jump is one day."""
    rows = cluster_story(10, events_at=(1, 5), cascades={2: (-1, 24)}, step_h=24.0)
    assert (rows[1]["n_hist"], rows[1]["hist_precision"]) == (1, 1.0)
    rows = cluster_story(10, events_at=(1, 5), cascades={3: (-1, 24)}, step_h=24.0)
    assert (rows[1]["n_hist"], rows[1]["hist_precision"]) == (1, 0.0)
    returns = np.zeros(10)
    returns[3] = -0.07
    inputs = {"funding_dispersion_p": [0, 0, 1, 0, 0, 0, 1, 0, 0, 0], "return_1bar": returns, "sigma_d": np.full(10, 0.03)}
    assert record_of("VENUE_DIVERGENCE", inputs, step_h=24.0) == (1, 1.0)


# --- the signals approach ---------------------------------------------------------------------------------------------------------


def test_47_noise_to_signal():
    assert noise_to_signal(6, 20, 4, 470) == pytest.approx(0.0680, abs=5e-5)
    assert np.isnan(noise_to_signal(0, 20, 4, 470))
    assert np.isnan(noise_to_signal(6, 0, 4, 0))
    assert noise_to_signal(6, 0, 4, 100) == 0


def test_how_onsets_count():
    table = {Counts.SAME: [(-1, -1), (1, 1)], Counts.AGAINST: [(-1, 1), (1, -1)], Counts.UP: [(-1, 1), (0, 1), (1, 1)]}
    table[Counts.ANY] = [(side, onset) for side in (-1, 0, 1) for onset in (-1, 1)]
    for how, hits in table.items():
        found = [(side, onset) for side in (-1, 0, 1) for onset in (-1, 1) if counts(side, onset, int(how))]
        assert found == hits

"""METHODOLOGY section 8: numbers a person can work out by hand. The number of each case stands in the test's name."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.property.synthetic import core_table, micros
from transforms import estimators
from transforms.estimators import DAY_US, HOUR_US
from transforms.features import FEATURES
from transforms.features.panel import Panel
from transforms.index.attribution import added, contribution, displayed
from transforms.signals.scores import ecdf_scores, held_scores
from transforms.spec import SPEC
from transforms.windows import DAY, HOUR, utc

T0 = micros("2023-05-01")
WHO = {"asset": "BTC", "instrument": "BTCUSDT"}


def panel_of(core, bars, cadence="1h"):
    """A panel whose window is the given number of bars after T0."""
    rule = SPEC.cadence(cadence)
    start = utc("2023-05-01")
    return Panel(core, start=start, window_start=start, end=start + bars * rule.step, rule=rule, spec=SPEC)


def interest(values, *, usd=None, unit="base", hours=None, cadence_h=1, **who):
    """Open interest at hours 1, 2, ...; None = no row."""
    stamps = hours or range(1, len(values) + 1)
    rows = [(T0 + hour * cadence_h * HOUR_US, value) for hour, value in zip(stamps, values, strict=True) if value is not None]
    as_of, native = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    stated = np.array([u for u, value in zip(usd, values, strict=True) if value is not None], dtype=float) if usd else native * 1.0
    return core_table(
        "open_interest",
        as_of,
        open_interest_native=native,
        native_unit=unit,
        oi_sides=1,
        open_interest_base=native,
        open_interest_usd=stated,
        **{**WHO, **who},
    )


def quantity(panel):
    """Q at each bar, from 1 at the first."""
    return np.exp(np.nancumsum(panel.links[0]))


# --- funding --------------------------------------------------------------------------------------------------------------------


def test_1_one_basis_point_per_8h():
    assert estimators.annualised(0.0001, 8) == pytest.approx(0.1095, abs=1e-15)


def test_2_an_eighth_of_a_basis_point_per_hour():
    assert estimators.annualised(0.0000125, 1) == pytest.approx(0.1095, abs=1e-15)


def test_3_compounding_is_the_vendors_number_and_not_ours():
    assert pytest.approx(0.1157, abs=5e-5) == (1 + 0.0000125) ** 8760 - 1
    assert estimators.annualised(0.0000125, 1) == pytest.approx(0.1095, abs=1e-15)


def test_4_a_yearly_rate_per_8h():
    assert estimators.per_interval(0.0026, 8) == pytest.approx(2.374e-6, rel=1e-3)


def test_5_a_rate_per_8h_per_year():
    assert estimators.annualised(0.0026, 8) == pytest.approx(2.847, abs=5e-4)


def test_7_open_interest_weighted_funding_with_three_intervals():
    core = {"open_interest": [], "funding": []}
    for name, weight, rate, interval in (("A", 10, 1e-4, 8), ("B", 5, 0.125e-4, 1), ("C", 5, -2e-4, 4)):
        core["open_interest"].append(interest([weight] * 24, usd=[weight] * 24, instrument=name))
        stamps = T0 + np.arange(interval, 25, interval) * HOUR_US
        core["funding"].append(
            core_table(
                "funding",
                stamps,
                funding_rate=rate,
                funding_kind="settlement",
                funding_interval_h=float(interval),
                **WHO | {"instrument": name},
            )
        )
    panel = panel_of({name: pa.concat_tables(tables) for name, tables in core.items()}, 24)
    for feature in ("funding_last_annual", "funding_realised_annual"):
        assert FEATURES[feature].compute(panel).value[0, -1] == pytest.approx(-0.027375, abs=1e-12)
    shortcut = (10 * 1e-4 + 5 * 0.125e-4 - 5 * 2e-4) / 20 * 1095
    assert shortcut == pytest.approx(0.0034, abs=5e-5)


def test_2_2_interval_is_inferred_per_settlement_when_it_changes_mid_window():
    """FU.2 needs no interval; FU.1 after the change from 8 h to 4 h annualises with 4 h."""
    stamps = T0 + np.array([8, 16, 24, 28, 32]) * HOUR_US + 5_000
    core = {
        "funding": core_table("funding", stamps, funding_rate=1e-4, funding_kind="settlement", funding_interval_h=None, **WHO),
    }
    panel = panel_of(core, 33)
    last = FEATURES["funding_last_annual"].compute(panel).value[0]
    assert np.isnan(last[7])  # hour 8: nothing before it to infer from
    assert last[23] == pytest.approx(0.1095)
    assert last[27] == last[31] == pytest.approx(0.219)
    realised = FEATURES["funding_realised_annual"].compute(panel)
    assert realised.value[0, 31] == pytest.approx(365 * 4e-4)  # 16, 24, 28, 32
    excess = FEATURES["funding_excess_annual"].compute(panel).value[0, 31]
    assert excess == pytest.approx(365 * 4e-4 - 0.1095)


# --- open interest --------------------------------------------------------------------------------------------------------------


def test_10_linear_falls_inverse_stays_price_falls():
    linear = interest([100, 90], usd=[100 * 100_000, 90 * 80_000], instrument="L")
    inverse = interest([5e6, 5e6], usd=[5e6, 5e6], unit="usd", instrument="I")
    panel = panel_of({"open_interest": pa.concat_tables([linear, inverse])}, 2)
    assert quantity(panel)[-1] == pytest.approx(14 / 15, abs=1e-12)
    usd = FEATURES["oi_usd"].compute(panel).value[0]
    assert usd[1] / usd[0] == pytest.approx(0.8133, abs=5e-5)
    coins = (90 + 5e6 / 80_000) / (100 + 5e6 / 100_000)
    assert coins == pytest.approx(1.0167, abs=5e-5)


def test_11_a_venue_enters_without_a_jump():
    old = interest([100, 100], usd=[100, 100], venue="a")
    new = interest([None, 50], usd=[0, 50], venue="c")
    panel = panel_of({"open_interest": pa.concat_tables([old, new])}, 2)
    assert quantity(panel)[-1] == 1.0
    usd = FEATURES["oi_usd"].compute(panel).value[0]
    assert usd[1] / usd[0] == 1.5


@pytest.mark.parametrize(("gap", "expected"), [(1, 0.9), (6, 0.9), (7, 1.0)])
def test_11_the_whole_change_is_booked_when_a_gap_of_up_to_6h_ends(gap, expected):
    """A missing hour carries the value forward; after more than 6 h the instrument has left and comes back without a link."""
    steady = interest([100] * (gap + 2), usd=[100] * (gap + 2), venue="a")
    gapped = interest([100, *[None] * gap, 80], usd=[100, *[0] * gap, 80], venue="b")
    panel = panel_of({"open_interest": pa.concat_tables([steady, gapped])}, gap + 2)
    assert quantity(panel)[-1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("gap", "expected"), [(1, 0.8), (2, 1.0)])
def test_3_3_daily_rule_one_missing_day_is_carried_two_are_an_exit(gap, expected):
    values = [100, *[None] * gap, 80]
    table = interest(values, usd=[100, *[0] * gap, 80], cadence_h=24, source="coinalyze")
    assert quantity(panel_of({"open_interest": table}, gap + 2, "1d"))[-1] == pytest.approx(expected, abs=1e-12)


def test_9_2_a_change_of_unit_breaks_the_link():
    coins, contracts = interest([100], hours=[1]), interest([100_000], unit="contracts", hours=[2])
    panel = panel_of({"open_interest": pa.concat_tables([coins, contracts])}, 2)
    assert np.isnan(panel.links[0, 1])


def test_12_usd_fall_decomposed():
    quantity_change, price_share = estimators.usd_change_decomposed(0.69, 95_131 / 124_752.53)
    assert quantity_change == pytest.approx(-0.0951, abs=1e-4)
    assert price_share == pytest.approx(0.731, abs=5e-4)
    assert math.isnan(estimators.usd_change_decomposed(1.0, 0.9)[1])


def test_13_price_implied_by_open_interest():
    table = interest([98_666.163], usd=[2_236_289_208.197])
    panel = panel_of({"open_interest": table}, 1)
    assert panel.price.usd[0, 0] == pytest.approx(22_665.2, abs=0.05)
    assert panel.price.implied[0, 0]


def test_14_drawdown():
    links = np.array([[np.nan, math.log(1.2), math.log(90 / 120)]])
    assert estimators.drawdowns(links, 3, 1, 0)[0, -1] == pytest.approx(0.25, abs=1e-12)


# --- flow and positioning -------------------------------------------------------------------------------------------------------


def test_15_taker_ratio_and_long_short_ratio():
    assert estimators.taker_imbalance_of_ratio(0.92530759) == pytest.approx(-0.03880, abs=5e-6)
    table = core_table(
        "long_short", np.array([T0 + HOUR_US]), ratio_metric="global_account", long_share=0.8376 / 1.8376, short_share=1 / 1.8376, **WHO
    )
    value = FEATURES["long_short_accounts_log"].compute(panel_of({"long_short": table}, 1)).value[0, 0]
    assert value == pytest.approx(-0.17721, abs=1e-5)


def test_15_taker_imbalance_from_the_flow_table():
    buy = 0.92530759
    flows = core_table("taker_flow", T0 + np.arange(1, 80) * HOUR_US, interval_h=1.0, taker_buy_base=buy, taker_sell_base=1.0, **WHO)
    panel = panel_of({"taker_flow": flows, "open_interest": interest([10.0] * 79)}, 79)
    assert FEATURES["taker_imbalance_8h"].compute(panel).value[0, -1] == pytest.approx(-0.03880, abs=5e-6)


# --- scores ---------------------------------------------------------------------------------------------------------------------


def score(past, value, *, anchored=False, floor=0.0):
    """Score of `value` after `past`, all of equal weight."""
    values = np.array([[*past, value]], dtype=float)
    when = np.arange(values.shape[1], dtype=np.int64)  # microseconds: no decay
    everything = np.ones(values.shape[1], dtype=bool)
    scores, _ = ecdf_scores(values, np.ones_like(values, dtype=bool), when, everything, 0, DAY_US, 100 * DAY_US, 1.0, 1.0, anchored, floor)
    return scores[0, -1]


def test_42_ecdf():
    assert score([1, 2, 3, 4], 2) == -0.25


def test_43_anchored_score_of_pinned_funding():
    pinned = [0.0] * 200
    assert score(pinned, 0.0, anchored=True) == 0
    assert score(pinned, -0.001, anchored=True) == -1
    assert score(pinned, -0.001, anchored=True, floor=0.02) == pytest.approx(-0.05, abs=1e-12)


def test_43_pinned_settlements_are_exactly_at_the_anchor():
    """Three settlements of 0.0001 do not add up to 0.0003 in floating point; the excess is exactly 0 all the same."""
    stamps = T0 + np.arange(8, 49, 8) * HOUR_US
    core = {"funding": core_table("funding", stamps, funding_rate=1e-4, funding_kind="settlement", funding_interval_h=None, **WHO)}
    assert FEATURES["funding_excess_annual"].compute(panel_of(core, 48)).value[0, -1] == 0.0
    daily = {
        "funding": core_table(
            "funding",
            np.array([T0 + DAY_US]),
            funding_rate=1e-4,
            funding_kind="settlement",
            funding_interval_h=8.0,
            source="coinalyze",
            **WHO,
        )
    }
    assert FEATURES["funding_excess_annual"].compute(panel_of(daily, 1, "1d")).value[0, -1] == 0.0


def test_44_weights_and_scores():
    one = np.ones(1)
    parts = [contribution(w, 1, np.array([s]), one) for w, s in ((0.4, 0.8), (0.35, -0.2), (0.25, 0.5))]
    assert added(parts, (1,))[0] == pytest.approx(68.75, abs=1e-12)
    assert displayed([float(part[0]) for part in parts], 0) == [16.0, -3.0, 6.0]


def test_46_stale_score():
    assert 0.8 * estimators.stale_factor(15, 3, 12) == pytest.approx(0.4)
    scores, fresh = np.full((1, 24), np.nan), np.zeros((1, 24), dtype=bool)
    scores[0, 0], fresh[0, 0] = 0.8, True
    held, factor = held_scores(scores, fresh, np.arange(24, dtype=np.int64) * HOUR_US, 0, 3.0, 12.0, 99.0)
    assert (held * factor)[0, 15] == pytest.approx(0.4)
    assert (held * factor)[0, 3] == 0.8


# --- the weights of the epoch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cadence", ["1h", "1d"])
def test_4_1_weights_of_the_epoch_add_up_and_keep_s_within_its_range(cadence):
    weights = SPEC.weights(cadence)
    assert sum(weights.values()) == 1
    for sign in (1, -1):
        extreme = added([contribution(w, 1, np.array([float(sign)]), np.ones(1)) for w in weights.values()], (1,))[0]
        assert 0 <= extreme <= 100
    kept = sum(f.weight for f in SPEC.families if f.name != "options")
    assert weights["momentum"] == pytest.approx(0.15 / kept)
    assert weights["funding_excess_annual"] == pytest.approx(0.25 / kept)


def test_4_1_hourly_has_no_liquidations_and_daily_no_top_positions():
    hourly, daily = SPEC.weights("1h"), SPEC.weights("1d")
    assert hourly["taker_imbalance_8h"] == pytest.approx(0.15 / 0.85)
    assert daily["taker_imbalance_8h"] == pytest.approx(0.7 * 0.15 / 0.85)
    assert daily["liquidation_imbalance_24h"] == pytest.approx(0.3 * 0.15 / 0.85)
    assert hourly["long_short_accounts_log"] * 2 == pytest.approx(daily["long_short_accounts_log"])
    assert "long_short_top_positions_log" not in daily


def test_4_9_every_constant_is_in_the_hash():
    for changed in (
        replace(SPEC, publication_delay_min=11.0),
        replace(SPEC, score=replace(SPEC.score, half_life_d=181.0)),
        replace(SPEC, constituents=tuple(replace(c, sign=-c.sign) for c in SPEC.constituents)),
    ):
        assert changed.sha256 != SPEC.sha256
    assert replace(SPEC).sha256 == SPEC.sha256
    assert len(SPEC.sha256) == 64


def test_2_7_momentum_is_return_over_its_expected_size():
    """Price rising by 1 % every day: sigma per day is 1 %, so a return over k days is k / sqrt(k) of it."""
    days = 100
    price = 100 * 1.01 ** np.arange(days)
    bars = {
        "open_usd": None,
        "high_usd": None,
        "low_usd": None,
        "trades": None,
        "interval_h": 24.0,
        "volume_base": 1.0,
        "taker_buy_base": None,
    }
    candles = core_table("candles", T0 + np.arange(1, days + 1) * DAY_US, close_usd=price, source="coinalyze", **bars, **WHO)
    panel = panel_of({"candles": candles}, days, "1d")
    parts = [FEATURES[f"momentum_{k}d"].compute(panel).value[0, -1] for k in (7, 30, 90)]
    assert parts == pytest.approx([math.sqrt(7), math.sqrt(30), math.sqrt(90)])
    assert FEATURES["momentum"].compute(panel).value[0, -1] == pytest.approx(sum(parts) / 3)
    assert FEATURES["sigma_h"].compute(panel).value[0, -1] == pytest.approx(math.log(1.01) / math.sqrt(24))


def test_2_6_growth_of_supply_is_a_day_late():
    day = np.arange(40)
    as_of = T0 + (day - 39) * DAY_US
    supply = core_table("stablecoin_supply", as_of, as_of + DAY_US, source="defillama", stablecoin="ALL", circulating_usd=1e11 * 1.001**day)
    panel = panel_of({"stablecoin_supply": supply}, 24)
    growth = FEATURES["stablecoin_growth_30d"].compute(panel)
    assert growth.value[0, 0] == pytest.approx(30 * math.log(1.001))
    assert growth.age_h[0, 0] == 25.0
    assert growth.age_h[0, 23] == 24.0


def test_2_5_conviction_is_signed_by_the_move():
    rise = 1.01 ** np.arange(30)
    for price, sign in ((100 * rise, 1), (100 / rise, -1)):
        core = {"open_interest": interest(list(1000 * rise), usd=list(1000 * rise * price))}
        value = FEATURES["conviction"].compute(panel_of(core, 30)).value[0, -1]
        assert value == pytest.approx(sign * 24 * math.log(1.01))


def test_2_4_liquidation_intensity_and_imbalance():
    as_of = np.array([T0 + DAY_US])
    bars = {
        "open_usd": None,
        "high_usd": None,
        "low_usd": None,
        "trades": None,
        "interval_h": 24.0,
        "volume_base": 1.0,
        "taker_buy_base": None,
    }
    who = {**WHO, "source": "coinalyze"}

    def panel(long, short):
        core = {
            "candles": core_table("candles", as_of, close_usd=20_000.0, **bars, **who),
            "open_interest": interest([1000.0], usd=[math.nan], cadence_h=24, source="coinalyze"),
            "liquidations": core_table(
                "liquidations", as_of, interval_h=24.0, long_liquidated_base=long, short_liquidated_base=short, completeness="floor", **who
            ),
        }
        return panel_of(core, 1, "1d")

    fall = panel(9.0, 3.0)
    assert FEATURES["liquidation_intensity_h"].compute(fall).value[0, 0] == pytest.approx(12 / 1000 / 24)
    assert FEATURES["liquidation_imbalance_24h"].compute(fall).value[0, 0] == pytest.approx(0.5)
    quiet = FEATURES["liquidation_imbalance_24h"].compute(panel(0.1, 0.1))
    assert np.isnan(quiet.value[0, 0])
    assert DAY / HOUR == 24

"""Features of small panels, each worked out by hand; and who takes part in a panel at all. Section numbers are METHODOLOGY's."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from tests.property.synthetic import SHORT, core_table, micros
from tests.unit.panels import START, T0, WHO, candles, interest, panel_of, quantity, settled, stamps, together, value
from transforms.estimators import DAY_US
from transforms.features import FEATURES
from transforms.features.contract import Why
from transforms.features.panel import Panel
from transforms.index.attribution import added, contribution
from transforms.index.build import Stamp, derive, lookback, reads
from transforms.index.measure import DERIVED
from transforms.signals import SIGNALS
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.windows import DAY, Window, utc

STAMP = Stamp(market="simulated", vintage="reconstructed", code_sha="")
BARS = Window(utc("2024-01-01T10:00"), utc("2024-01-01T12:00"))
SUPPLY = {"source": "defillama", "stablecoin": "ALL"}


def test_the_terms_of_a_contract_do_not_make_an_asset():
    """Binance's fundingInfo speaks of hundreds of contracts, asked about or not."""
    listed = np.full(3, micros("2024-01-01T09:06"))
    terms = {"funding_interval_h": 4.0, "funding_cap_rate": 0.02, "funding_floor_rate": -0.02}
    names = {"instrument": ["AAAUSDT", "BBBUSDT", "CCCUSDT"], "asset": ["AAA", "BBB", "CCC"]}
    split = {"ratio_metric": "global_account", "long_share": 0.6, "short_share": 0.4}
    told = core_table("long_short", np.array([micros("2024-01-01T10:00")]), instrument="AAAUSDT", asset="AAA", **split)
    core = {"funding_terms": core_table("funding_terms", listed, **terms, **names), "long_short": told}
    found = derive(core, BARS, "1h", SHORT["1h"], stamp=STAMP)
    for table in ("readings", "features", "contributions"):
        assert set(found[table].column("asset").to_pylist()) - {"MKT"} == {"AAA"}


# --- funding ----------------------------------------------------------------------------------------------------------------------


def test_the_interval_is_inferred_per_settlement_when_it_changes_mid_window():
    """FU.2 needs no interval; FU.1 after the change from 8 h to 4 h annualises with 4 h."""
    hours = np.array([8, 16, 24, 28, 32]) + 5e-3 / 3600  # venues stamp some milliseconds late
    panel = panel_of({"funding": settled(1e-4, hours)}, 33)
    last = value(panel, "funding_last_annual")
    assert np.isnan(last[7])  # hour 8: nothing before it to infer from
    assert last[23] == pytest.approx(0.1095)
    assert last[27] == last[31] == pytest.approx(0.219)
    assert value(panel, "funding_realised_annual")[31] == pytest.approx(365 * 4e-4)  # 16, 24, 28, 32
    assert value(panel, "funding_excess_annual")[31] == pytest.approx(365 * 4e-4 - 0.1095)


def test_an_interval_that_cannot_be_known_is_said():
    """16 h between two settlements: one is missing, and nobody can say what the last one covers."""
    panel = panel_of({"funding": settled(1e-4, [8, 24])}, 24)
    found = FEATURES["funding_last_annual"].compute(panel)
    assert np.isnan(found.value[0, -1])
    assert (found.why[0, -1], found.age_h[0, -1]) == (Why.INTERVAL, 0)


def test_dispersion_is_the_weighted_deviation_between_venues():
    cores = [
        {"open_interest": interest([usd] * 200, venue=venue), "funding": settled(rate, np.arange(8, 201, 8), interval_h=8.0, venue=venue)}
        for venue, usd, rate in (("binance", 60.0, 3e-4), ("bybit", 40.0, 1e-4))
    ]
    spread = math.sqrt(0.6 * 0.4) * 2e-4 * 1095
    assert value(panel_of(together(*cores), 200), "funding_dispersion_annual")[-1] == pytest.approx(spread)
    alone = FEATURES["funding_dispersion_annual"].compute(panel_of(cores[0], 200))
    assert np.isnan(alone.value).all()
    assert alone.why[0, -1] == Why.ONE_VENUE


def test_the_premium_speaks_where_funding_is_clamped():
    """Premium at 4 bp: funding is pinned at 1 bp, FU.6 is 0, FU.7 is 3 bp per 8 h."""
    core = {
        "premiums": core_table("premiums", stamps(80), interval_h=1.0, premium_share=4e-4, **WHO),
        "funding": settled(1e-4, np.arange(8, 81, 8)),
    }
    panel = panel_of(core, 80)
    assert value(panel, "funding_excess_annual")[-1] == 0
    assert value(panel, "premium_excess_annual")[-1] == pytest.approx(3e-4 * 1095)


# --- open interest ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "expected"), [(1, 0.8), (2, 1.0)])
def test_one_missing_day_is_carried_two_are_an_exit(gap, expected):
    table = interest([100, *[None] * gap, 80], cadence="1d")
    assert quantity(panel_of({"open_interest": table}, gap + 2, "1d"))[-1] == pytest.approx(expected, abs=1e-12)


def test_a_change_of_unit_breaks_the_link():
    core = together({"open_interest": interest([100], hours=[1])}, {"open_interest": interest([100_000], unit="contracts", hours=[2])})
    assert np.isnan(panel_of(core, 2).links[0, 1])


def test_composition_is_what_neither_quantity_nor_price_explains():
    """A venue that enters: USD open interest grows by half, quantity and price stand still."""
    core = together(
        {"open_interest": interest([100] * 30, venue="a"), "candles": candles([1.0] * 30, venue="a")},
        {"open_interest": interest([None] * 20 + [50] * 10, venue="b"), "candles": candles([1.0] * 30, venue="b")},
    )
    panel = panel_of(core, 30)
    assert value(panel, "oi_usd_change_24h")[-1] == value(panel, "oi_composition_24h")[-1] == pytest.approx(math.log(1.5))
    assert value(panel, "oi_change_24h")[-1] == value(panel, "return_24h")[-1] == 0


def test_thinness_compares_the_same_instruments():
    """48 USD of open interest, 2 USD traded an hour: a day's trading; a venue that states no volume does not count."""
    told = {"open_interest": interest([48] * 30, venue="a"), "candles": candles([1.0] * 30, volume=2.0, venue="a")}
    untold = {"open_interest": interest([1000] * 30, venue="b")}
    assert value(panel_of(together(told, untold), 30), "oi_thinness")[-1] == pytest.approx(0, abs=1e-12)


def test_venue_concentration():
    core = together(*({"open_interest": interest([usd], venue=venue)} for venue, usd in (("a", 50), ("b", 30), ("c", 20))))
    assert value(panel_of(core, 1), "oi_venue_concentration")[0] == pytest.approx(0.38)
    assert value(panel_of({"open_interest": interest([50])}, 1), "oi_venue_concentration")[0] == 1
    one_venue = together(*({"open_interest": interest([50], instrument=name)} for name in ("X", "Y")))
    assert value(panel_of(one_venue, 1), "oi_venue_concentration")[0] == 1


def misreported(bars, *, every, venue="binance"):
    """Open interest that jumps by 10 with 1 traded, every so many bars."""
    amount = 100 + 10.0 * (np.arange(bars) // every % 2)
    return {"open_interest": interest(amount, venue=venue), "candles": candles([1.0] * bars, volume=1.0, venue=venue)}


@pytest.mark.parametrize(("every", "expected"), [(10**6, 1.0), (40, 0.5), (2, 0.0)])
def test_quality_falls_with_changes_that_trading_cannot_explain(every, expected):
    """OI.13: `max(0, 1 - rate / 0.05)`: 1 bar in 40 is 2.5 %, half of what is tolerated."""
    bars = 24 * 30 + 1
    panel = panel_of(misreported(bars, every=every), bars)
    assert panel.quality[0, -1] == pytest.approx(expected, abs=0.02)
    assert value(panel, "oi_quality")[-1] == pytest.approx(expected, abs=0.02)


def test_a_venue_that_misreports_has_no_voice():
    bars = 24 * 30 + 1
    paid = [settled(rate, np.arange(8, bars, 8), interval_h=8.0, venue=venue) for venue, rate in (("honest", 1e-4), ("wild", 9e-4))]
    core = together(
        misreported(bars, every=10**6, venue="honest"), misreported(bars, every=2, venue="wild"), {"funding": pa.concat_tables(paid)}
    )
    panel = panel_of(core, bars)
    assert panel.quality[:, -1].tolist() == [1, 0]
    assert value(panel, "funding_last_annual")[-1] == pytest.approx(0.1095)
    alone = together(misreported(bars, every=2, venue="wild"), {"funding": paid[1]})
    assert value(panel_of(alone, bars), "funding_last_annual")[-1] == pytest.approx(0.9855)


def test_quality_of_an_asset_tells_of_the_venue_that_misreports():
    bars = 24 * 30 + 1
    core = together(misreported(bars, every=10**6, venue="honest"), misreported(bars, every=2, venue="wild"))
    assert value(panel_of(core, bars), "oi_quality")[-1] == pytest.approx(0.5, abs=0.05)


def test_the_level_of_a_young_asset_does_not_depend_on_where_the_run_began():
    """Rows from day 10 on; a run over days 0 to 20 and one over days 12 to 20 agree on every feature of the panel."""
    amount = [None] * 240 + np.linspace(100, 150, 240).tolist()
    core = {"open_interest": interest(amount), "candles": candles(np.linspace(100, 120, 480)).slice(240)}
    late, end = START + 12 * DAY, START + 20 * DAY
    one, other = (
        derive(core, Window(since, end), "1h", SHORT["1h"], stamp=STAMP)["features"]
        .to_pandas()
        .set_index(["as_of", "feature"])
        .feature_value
        for since in (START, late)
    )
    one = one[one.index.get_level_values("as_of") > late]
    own = one.index.get_level_values("feature").isin(FEATURES)  # the cohort book has a memory, and here no checkpoint
    differing = (one[own] != other[own]) & ~(one[own].isna() & other[own].isna())
    assert sorted(set(differing[differing].index.get_level_values("feature"))) == []


def four_venues(bars):
    """Shares 44, 26, 20 and 10 %, a common path of 0.3 % an hour and 0.1 % of each venue's own."""
    rng = np.random.default_rng(34)
    common = np.exp(np.cumsum(rng.normal(0, 0.003, bars)))
    return np.array([[44.0], [26.0], [20.0], [10.0]]) * common * np.exp(np.cumsum(rng.normal(0, 0.001, (4, bars)), axis=1))


def chained(amounts, missing):
    """(naive sum, chained quantity) of a panel whose venues lack some bars."""
    cores = [
        {"open_interest": interest([None if t in missing.get(v, ()) else x for t, x in enumerate(row)], venue=f"v{v}")}
        for v, row in enumerate(amounts.tolist())
    ]
    panel = panel_of(together(*cores), amounts.shape[1])
    return value(panel, "oi_usd"), quantity(panel)


def test_the_entry_of_a_10_percent_venue():
    amounts = four_venues(101)
    naive, index = chained(amounts, {3: range(50)})
    true = amounts.sum(axis=0)
    assert naive[50] / naive[49] - 1 == pytest.approx(0.11, abs=0.02)
    assert abs(index[50] / index[49] - true[50] / true[49]) < 0.002
    assert abs(index[-1] / index[0] - true[-1] / true[0]) < 0.01


def test_40_hours_without_the_biggest_venue():
    amounts = four_venues(101)
    naive, index = chained(amounts, {0: range(40, 80)})
    true = amounts.sum(axis=0)
    steps = np.diff(np.log(naive))
    assert np.expm1(steps.min()) == pytest.approx(-0.44, abs=0.03)  # 6 h after it falls silent
    assert np.expm1(steps.max()) > 0.7  # and back
    assert np.abs(np.diff(np.log(index))).max() < 0.015
    assert abs(index[-1] / index[0] - true[-1] / true[0]) < 0.02


def test_conviction_is_signed_by_the_move():
    rise = 1.01 ** np.arange(30)
    for price, sign in ((100 * rise, 1), (100 / rise, -1)):
        core = {"open_interest": interest(1000 * rise, usd=1000 * rise * price)}
        assert value(panel_of(core, 30), "conviction")[-1] == pytest.approx(sign * 24 * math.log(1.01))
    falling = {"open_interest": interest(1000 / rise, usd=1000 / rise * 100 * rise)}
    assert value(panel_of(falling, 30), "conviction")[-1] == 0


# --- liquidations, supply, price ----------------------------------------------------------------------------------------------------


def liquidated(long, short, *, days=1, amount=1000.0):
    who = {**WHO, "source": "coinalyze"}
    amounts = {"interval_h": 24.0, "long_liquidated_base": long, "short_liquidated_base": short, "completeness": "floor"}
    core = {
        "candles": candles([20_000.0] * days, cadence="1d"),
        "open_interest": interest(np.broadcast_to(amount, (days,)), usd=[math.nan] * days, cadence="1d"),
        "liquidations": core_table("liquidations", stamps(days, "1d"), **amounts, **who),
    }
    return panel_of(core, days, "1d")


def test_liquidation_intensity_and_imbalance():
    fall = liquidated(9.0, 3.0)
    assert value(fall, "liquidation_intensity_h")[0] == pytest.approx(12 / 1000 / 24)
    assert value(fall, "liquidation_imbalance_24h")[0] == pytest.approx(0.5)
    quiet = FEATURES["liquidation_imbalance_24h"].compute(liquidated(0.1, 0.1))  # 4,000 USD: below the gate
    assert np.isnan(quiet.value[0, 0])
    assert quiet.why[0, 0] == Why.GATE


def test_forced_share_is_what_was_liquidated_of_what_was_lost():
    """LQ.4: 1,000 coins become 900; 30 of the 100 were forced. None where open interest grew."""
    amount = np.array([1000.0, 900.0])
    assert value(liquidated([0.0, 20.0], [0.0, 10.0], days=2, amount=amount), "forced_share_24h")[1] == pytest.approx(0.3)
    assert np.isnan(value(liquidated([0.0, 20.0], [0.0, 10.0], days=2, amount=amount[::-1]), "forced_share_24h")[1])


def test_growth_of_supply_is_a_day_late():
    day = np.arange(40)
    as_of = T0 + (day - 39) * DAY_US
    supply = core_table("stablecoin_supply", as_of, as_of + DAY_US, circulating_usd=1e11 * 1.001**day, **SUPPLY)
    growth = FEATURES["stablecoin_growth_30d"].compute(panel_of({"stablecoin_supply": supply}, 24, assets=["BTC"]))
    assert growth.value[0, 0] == pytest.approx(30 * math.log(1.001))
    assert (growth.age_h[0, 0], growth.age_h[0, 23]) == (25.0, 24.0)


def test_momentum_is_return_over_its_expected_size():
    """Price rising by 1 % every day: sigma per day is 1 %, so a return over k days is k / sqrt(k) of it."""
    days = 100
    panel = panel_of({"candles": candles(100 * 1.01 ** np.arange(days), cadence="1d")}, days, "1d")
    parts = [value(panel, f"momentum_{k}d")[-1] for k in (7, 30, 90)]
    assert parts == pytest.approx([math.sqrt(7), math.sqrt(30), math.sqrt(90)])
    assert value(panel, "momentum")[-1] == pytest.approx(sum(parts) / 3)
    assert value(panel, "sigma_h")[-1] == pytest.approx(math.log(1.01) / math.sqrt(24))


def test_volatility_surprise():
    """A month of 1 % an hour, then a day of 2 %: ln(2 / root of the mean square of both)."""
    moves = np.concatenate([np.full(24 * 29, 0.01), np.full(24, 0.02)]) * np.where(np.arange(24 * 30) % 2, 1, -1)
    panel = panel_of({"candles": candles(100 * np.exp(np.concatenate([[0], np.cumsum(moves)])))}, 24 * 30 + 1)
    whole = math.sqrt((29 * 0.01**2 + 0.02**2) / 30)
    assert value(panel, "volatility_surprise")[-1] == pytest.approx(math.log(0.02 / whole))
    assert value(panel, "realised_volatility_24h")[-1] == pytest.approx(0.02 * math.sqrt(8760))
    assert value(panel, "realised_volatility_30d")[-1] == pytest.approx(whole * math.sqrt(8760))


# --- the weights of the epoch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cadence", ["1h", "1d"])
def test_weights_of_the_epoch_add_up_and_keep_s_within_its_range(cadence):
    """4.1: weights of families and within them, renormalised once over what the epoch has."""
    weights = SPEC.weights(cadence)
    assert sum(weights.values()) == 1
    for sign in (1, -1):
        extreme = added([contribution(w, 1, np.array([float(sign)]), np.ones(1)) for w in weights.values()], (1,))[0]
        assert extreme in {0, 100}
    active = SPEC.active(cadence)
    kept = sum(f.weight for f in SPEC.families if f.name in {c.family for c in active})
    for one in active:
        within = one.within / sum(c.within for c in active if c.family == one.family)
        family = next(f.weight for f in SPEC.families if f.name == one.family)
        assert weights[one.feature] == pytest.approx(family / kept * within)
    assert sum(SPEC.family_weights(cadence).values()) == 1


def test_weights_of_the_table():
    """METHODOLOGY 4.1, when nothing is absent."""
    day = (("1h", utc("2017-01-01").date()),)
    whole = replace(SPEC, constituents=tuple(replace(c, effective_from=day) for c in SPEC.constituents)).weights("1h")
    assert {name: round(weight, 9) for name, weight in whole.items()} == {
        "premium_excess_annual": 0.125,
        "funding_excess_annual": 0.075,
        "basis_excess_annual": 0.05,
        "momentum": 0.15,
        "risk_reversal_25d": 0.09,
        "volatility_term_slope": 0.03,
        "call_put_volume_log": 0.03,
        "taker_imbalance_8h": 0.105,
        "liquidation_imbalance_24h": 0.045,
        "long_short_accounts_log": 0.05,
        "long_short_top_positions_log": 0.05,
        "stablecoin_growth_30d": 0.06,
        "stablecoin_netflow_share": 0.02,
        "stablecoin_peg_discount_log": 0.02,
        "conviction": 0.1,
    }


def test_every_constant_is_in_the_hash():
    for changed in (
        replace(SPEC, publication_delay_min=11.0),
        replace(SPEC, score=replace(SPEC.score, half_life_d=181.0)),
        replace(SPEC, constituents=tuple(replace(c, sign=-c.sign) for c in SPEC.constituents)),
        replace(SPEC, features=replace(SPEC.features, venue_cap=0.41)),
        replace(SPEC, outliers=replace(SPEC.outliers, limit=11.0)),
        replace(SPEC, fragility=tuple(replace(c, weight=c.weight / 2) for c in SPEC.fragility)),
    ):
        assert changed.sha256 != SPEC.sha256
    assert replace(SPEC).sha256 == SPEC.sha256
    assert len(SPEC.sha256) == 64


# --- the rosters --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cadence", ["1h", "1d"])
def test_lookback_is_finite_and_reads_names_core_tables(cadence):
    assert timedelta(days=730) < lookback(SPEC, cadence) < 4 * 366 * DAY
    assert reads(SPEC, cadence) <= {name for name, table in TABLES.items() if table.layer == "core"}
    assert ("liquidations" in reads(SPEC, cadence)) == (cadence == "1d")


@pytest.mark.parametrize("cadence", ["1h", "1d"])
def test_spec_and_rosters_agree(cadence):
    used = {use.feature for use in SPEC.cadence(cadence).uses}
    assert used <= set(FEATURES)
    assert {c.feature for c in SPEC.active(cadence)} <= used & set(SIGNALS)
    assert {part.feature for index in "FX" for part in SPEC.parts(index, cadence)} - {*DERIVED} <= used
    assert {c.family for c in SPEC.constituents} == {f.name for f in SPEC.families}
    for index, components in (("F", SPEC.fragility), ("X", SPEC.stress)):
        held = {part.component for part in (SPEC.fragility_parts if index == "F" else SPEC.stress_parts)}
        assert held | {one.name for one in components if one.factors} == {one.name for one in components}


def test_contracts_counted_in_usd_count_without_an_amount_in_coins():
    """A venue of inverse contracts states USD and no price: its open interest has weight, and its quantity is in contracts."""
    when = np.arange(1, 31) * 3_600_000_000 + micros("2026-03-01")
    who = {"source": "binance", "venue": "binance", "instrument": "BTCUSD_PERP", "asset": "BTC"}
    usd = 1e6 + np.arange(30) * 1e4
    core = {
        "open_interest": core_table(
            "open_interest",
            when,
            open_interest_native=usd,
            native_unit="usd",
            oi_sides=1,
            open_interest_base=None,
            open_interest_usd=usd,
            **who,
        )
    }
    window = Window(utc("2026-03-01"), utc("2026-03-02T06:00"))
    panel = Panel(core, start=window.start, window_start=window.start, end=window.end, rule=SPEC.cadence("1h"), spec=SPEC)
    assert panel.usd[0].tolist() == usd.tolist()
    assert panel.links[0, 1:] == pytest.approx(np.diff(np.log(usd)))

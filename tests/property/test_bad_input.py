"""Bad input has a defined result or a named error: never a crash with a stray exception, never a silent 50."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.property.laws import STAMP
from tests.property.soundness import (
    SCENARIOS,
    START,
    WHO,
    WINDOW,
    contributions,
    derived,
    floating,
    hourly,
    hourly_index,
    readings,
    small_market,
    sound,
    spoiled,
    values,
    with_,
)
from tests.property.synthetic import SHORT, core_table, market, micros
from transforms.asof import UnusableInput
from transforms.index.build import OUTPUT, derive
from transforms.spec import SPEC
from transforms.windows import HOUR, Window, utc

CADENCES = ("1h", "1d")
UNKNOWN = [math.nan, math.inf, -math.inf]


# --- what holds for any input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whatever_comes_in_what_goes_out_is_sound(cadence, scenario):
    core = SCENARIOS[scenario](small_market(cadence))
    sound(derived(cadence, core, ["AAA", "ZZZ"]))


@pytest.mark.parametrize("cadence", CADENCES)
def test_any_column_of_any_table_may_be_unknown_or_infinite(cadence):
    """Every seventh row, by turns NaN and infinite; the first column of every table, then the second, ..."""
    core = small_market(cadence)
    for n in range(max(len(floating(table)) for table in core.values())):
        bad = {}
        for name, table in core.items():
            rows = np.flatnonzero(np.arange(table.num_rows) % 7 == 3)
            columns = floating(table)
            bad[name] = spoiled(table, columns[n % len(columns)], np.resize(UNKNOWN, len(rows)), rows)
        sound(derived(cadence, bad))


def changed(found, table, column, rows, value):
    """Published tables with one column of some rows overwritten."""
    own = found[table]
    held = own.column(column).to_pylist()
    mask = rows(own.to_pandas())
    held = [value if hit else one for one, hit in zip(held, mask, strict=True)]
    assert mask.any()
    return found | {
        table: own.set_column(own.column_names.index(column), own.schema.field(column), pa.array(held, own.schema.field(column).type))
    }


PLANTED = {
    "a withheld number that is 50": ("readings", "s", lambda rows: rows.status == "withheld", 50.0),
    "no number and no reason": ("readings", "reason", lambda rows: rows.s.isna(), ""),
    "a number without end": ("features", "feature_value", lambda rows: rows.feature == "oi_usd", math.inf),
    "a share above 1": ("readings", "f_confidence", lambda rows: rows.f_confidence > 0, 1.1),
    "a sum that does not hold": ("contributions", "contribution", lambda rows: rows.feature == "conviction", 1.0),
    "a missing input without a reason": ("contributions", "reason", lambda rows: rows.score.isna(), ""),
    "a missing feature without a reason": ("features", "reason", lambda rows: rows.feature_value.isna(), ""),
    "a number of which nobody said anything": ("contributions", "stale_factor", lambda rows: rows.index_name == "X", 0.0),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_seen(fault):
    found = sound(derived("1d", small_market("1d")))
    with pytest.raises(AssertionError):
        sound(changed(found, *PLANTED[fault]))


# --- nothing, or hardly anything ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.parametrize("scenario", ["no tables", "empty tables", "known too late"])
def test_nothing_at_all(cadence, scenario):
    core = SCENARIOS[scenario](small_market(cadence))
    found = derived(cadence, core)
    assert [found[name].num_rows for name in OUTPUT if name != "checkpoints"] == [0] * (len(OUTPUT) - 1)
    named = derived(cadence, core, ["BTC"])
    said, parts = readings(named), contributions(named)
    assert len(said) == len(WINDOW[cadence].grid(SPEC.cadence(cadence).step))
    assert set(said.status) == {"withheld"}
    assert said.reason.str.contains("no venue").all()
    assert said[["s", "s_ex", "s_pct", "band", "f", "crowded_side", "x", "regime", "risk_state", "price_usd"]].isna().all().all()
    assert (said[["confidence", "f_confidence", "x_confidence", "conf_coverage", "conf_freshness"]] == 0).all().all()
    inputs = parts[parts.component != "interaction"]  # a product of two halves is known to be a quarter
    assert set(inputs.stale_factor) == {0.0}
    assert inputs.score.isna().all()
    assert (inputs.reason != "").all()
    assert set(parts.contribution[parts.index_name == "S"]) == {0.0}
    assert "" not in named["features"].column("reason").to_pylist()


def test_what_is_not_yet_known_long_enough_is_warming_and_withheld():
    """Twenty hours of a market of which a day is asked for: there is no score, so there is no number; and the reason is no other."""
    core = {name: table.slice(0, 20) for name, table in hourly(price=100 + np.arange(300) % 7.0).items()}
    found = sound(hourly_index(core, 20))
    said, parts = readings(found), contributions(found)
    assert said[["s", "f", "x"]].isna().all().all()
    assert all("warming" in reason for reason in said.reason)
    reason = parts[(parts.feature == "conviction") & (parts.as_of == said.as_of.iloc[-1])].reason.iloc[0]
    assert reason


@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.parametrize("missing", ["funding", "open_interest", "long_short", "stablecoin_supply", "candles"])
def test_a_missing_table_lowers_confidence_and_moves_no_weight(cadence, missing):
    core = small_market(cadence)
    full = derived(cadence, core, ["AAA"])
    less = sound(derived(cadence, {name: table for name, table in core.items() if name != missing}, ["AAA"]))
    keys = ["index_name", "feature", "as_of"]
    weights = [contributions(one).set_index(keys).weight.sort_index() for one in (full, less)]
    assert np.abs(weights[0] - weights[1]).max() < 1e-12
    if (cadence, missing) != ("1h", "candles"):  # hourly open interest states USD: it implies a price, also in hours without a candle
        confidence = [readings(one)[["confidence", "f_confidence", "x_confidence"]].to_numpy() for one in (full, less)]
        assert (confidence[1] <= confidence[0] + 1e-12).all()
        assert (confidence[1] < confidence[0]).any()


def test_without_candles_the_price_is_implied_and_says_so():
    core = {name: table for name, table in small_market("1h").items() if name != "candles"}
    found = derived("1h", core, ["AAA"])
    assert "price implied by open interest" in values(found, "momentum")[1]
    assert readings(found).price_usd.notna().any()


# --- F and X: a missing part is one half, costs confidence, and says so -----------------------------------------------------------------


def without(*tables):
    return lambda core: {name: table for name, table in core.items() if name not in tables}


@pytest.mark.parametrize(
    ("cadence", "lose", "part", "index"),
    [
        ("1h", lambda core: with_(core, "candles", "volume_base", math.nan), "oi_thinness", "F"),
        ("1h", without("funding", "premiums"), "carry_score", "F"),
        ("1d", without("funding"), "carry_score", "F"),
        ("1d", without("liquidations"), "liquidation_intensity_3h", "X"),
    ],
)
def test_a_missing_part_is_one_half_and_lowers_confidence_and_says_so(cadence, lose, part, index):
    core = small_market(cadence)
    before, less = readings(derived(cadence, core, ["AAA"])), sound(derived(cadence, lose(core), ["AAA"]))
    after, rows = readings(less), contributions(less)
    own = rows[(rows.feature == part) & (rows.index_name == index)]
    assert len(own)
    assert own.score.isna().all()
    assert (own.stale_factor == 0).all()
    assert own.contribution.to_numpy() == pytest.approx(50 * own.weight.to_numpy(), abs=1e-9)
    assert own.reason.str.contains("missing").all()
    name = index.lower()
    shown = before[name].notna() & after[name].notna()
    assert shown.any()
    assert (after[f"{name}_confidence"][shown] < before[f"{name}_confidence"][shown]).all()


# --- values that cannot be ------------------------------------------------------------------------------------------------------------


def test_constant_series():
    found = sound(hourly_index(hourly()))
    assert set(values(found, "oi_link")[0][1:]) == {0.0}
    assert set(values(found, "oi_drawdown_90d")[0][-50:]) == {0.0}
    assert set(values(found, "oi_level_180d")[0][-50:]) == {0.0}
    assert set(values(found, "momentum")[0]) == {None}
    assert "nothing traded or moved in the window" in values(found, "momentum")[1]
    parts = contributions(found)
    conviction = parts[(parts.feature == "conviction") & (parts.as_of > START + 240 * HOUR)]
    assert set(conviction.contribution) == set(conviction.score) == {0.0}
    level = parts[(parts.feature == "oi_level_180d") & (parts.as_of > START + 240 * HOUR)]
    assert level.score.to_numpy() == pytest.approx(0.5)  # a tie with all of its past: known, and in the middle
    assert (level.stale_factor == 1).all()


def test_zero_volume_is_not_a_balance():
    found = sound(hourly_index(hourly(volume=(0.0, 0.0))))
    for feature in ("taker_imbalance_8h", "oi_thinness"):
        said, reasons = values(found, feature)
        assert set(said) == {None}
        assert "nothing traded or moved in the window" in reasons
    assert set(values(found, "taker_imbalance_8h")[1]) == {"nothing traded or moved in the window"}


def test_open_interest_below_zero_is_none():
    found = sound(hourly_index(hourly(quantity=-1000.0)))
    assert set(values(found, "oi_usd")[0]) == {None}
    assert set(readings(found).status) == {"withheld"}


#: column -> tables whose row is worth nothing without it
WHOLE_ROWS = [
    ("1h", "open_interest", ("open_interest_native", "open_interest_base"), True),
    ("1h", "funding", ("funding_rate",), False),
    ("1h", "premiums", ("premium_share",), False),
    ("1h", "long_short", ("long_share", "short_share"), True),
    ("1h", "taker_flow", ("taker_buy_base",), False),
    ("1h", "stablecoin_supply", ("circulating_usd",), True),
    ("1d", "open_interest", ("open_interest_native",), True),
    ("1d", "liquidations", ("short_liquidated_base",), False),
    ("1d", "long_short", ("long_share",), True),
]


@pytest.mark.parametrize(("cadence", "table", "columns", "positive"), WHOLE_ROWS)
def test_a_value_that_cannot_be_counts_as_not_received(cadence, table, columns, positive):
    """A row with it equals no row, whatever the kind of nonsense."""
    core = small_market(cadence)
    chosen = np.arange(core[table].num_rows) % 7 == 3
    if table == "open_interest":  # counted in USD, an amount in coins may be missing
        chosen &= np.array(core[table].column("native_unit").to_pylist()) == "base"
    rows = np.flatnonzero(chosen)
    missing = derived(cadence, {**core, table: core[table].filter(pa.array(~chosen))}, ["AAA", "DDD"])
    for column in columns:
        nonsense = np.resize([*UNKNOWN, 0.0, -5.0] if positive else UNKNOWN, len(rows))
        found = derived(cadence, {**core, table: spoiled(core[table], column, nonsense, rows)}, ["AAA", "DDD"])
        assert [name for name in OUTPUT if not found[name].equals(missing[name])] == []
    assert not missing["features"].equals(derived(cadence, core, ["AAA", "DDD"])["features"])


def test_a_hole_is_carried_and_its_change_is_booked_on_return():
    quantity = np.linspace(1000, 1300, 300)
    core = hourly(quantity=quantity)
    for bad in (math.nan, math.inf, -5.0, 0.0):
        found = hourly_index({**core, "open_interest": spoiled(core["open_interest"], "open_interest_native", bad, [150])})
        links, reasons = values(found, "oi_link")
        assert (links[150], reasons[150]) == (0.0, "stale input")
        assert links[151] == pytest.approx(math.log(quantity[151] / quantity[149]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
def test_an_unusable_price_counts_as_not_received(bad):
    core = hourly(price=100 + np.arange(300) % 7.0)
    hole = core["candles"].filter(pa.array(np.arange(300) != 150))
    one, other = (hourly_index({**core, "candles": t}) for t in (spoiled(core["candles"], "close_usd", bad, [150]), hole))
    for feature in ("momentum", "sigma_h", "oi_usd", "conviction"):
        assert values(one, feature) == values(other, feature)


@pytest.mark.parametrize(("long", "short"), [(1.0, 0.0), (0.0, 1.0), (math.nan, 0.5), (math.inf, 0.5), (-0.5, 0.5)])
def test_a_split_with_an_empty_side_has_no_logarithm(long, short):
    as_of = micros("2023-12-15") + np.arange(1, 11) * 3_600_000_000
    splits = core_table("long_short", as_of, ratio_metric="global_account", long_share=0.5, short_share=short, **WHO)
    found = hourly_index({"long_short": spoiled(splits, "long_share", long, slice(None))}, 10)
    assert set(values(found, "long_short_accounts_log")[0]) == {None}


def funded(interval_h):
    as_of = micros("2023-12-15") + np.arange(8, 49, 8) * 3_600_000_000
    paid = core_table("funding", as_of, funding_rate=1e-4, funding_kind="settlement", funding_interval_h=8.0, **WHO)
    return hourly_index({"funding": spoiled(paid, "funding_interval_h", interval_h, [4, 5])}, 48)


def test_an_interval_that_changes_mid_window():
    """8 h, then twice 4 h although settlements lie 8 h apart: what the row states counts, and the day is not covered."""
    found = sound(funded(4.0))
    assert values(found, "funding_last_annual")[0][-1] == pytest.approx(0.219)
    assert (values(found, "funding_realised_annual")[0][-1], values(found, "funding_realised_annual")[1][-1]) == (
        None,
        "too few inputs in the window",
    )


@pytest.mark.parametrize("interval_h", [0.0, -8.0, math.inf])
def test_an_interval_that_cannot_be_is_unknown(interval_h):
    """As one in the terms of a contract is: then the distance to the settlement before counts, 8 h."""
    assert values(funded(interval_h), "funding_last_annual")[0][-1] == pytest.approx(0.1095)


# --- rows -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cadence", CADENCES)
def test_order_and_exact_duplicates_change_nothing(cadence):
    core = small_market(cadence)
    whole = derived(cadence, core)
    for scenario in ("twice", "shuffled"):
        found = derived(cadence, SCENARIOS[scenario](core))
        assert [name for name in OUTPUT if not found[name].equals(whole[name])] == []


def test_two_values_for_one_key_and_revision_are_a_named_error():
    core = hourly()
    other = hourly(quantity=1001.0)["open_interest"].slice(10, 1)
    core["open_interest"] = pa.concat_tables([core["open_interest"], other])
    with pytest.raises(UnusableInput, match=r"open_interest: BTC binance BTCUSDT has two rows of revision 0 at 2023-12-15T11:00"):
        hourly_index(core)


def test_a_restatement_counts_from_when_it_was_known():
    """Two rows of one instant and different revisions are no error: the later one counts once it is known."""
    core = hourly(quantity=np.linspace(1000, 1300, 300))
    again = spoiled(core["open_interest"].slice(100, 1), "open_interest_base", 5000.0, [0])
    again = again.set_column(again.column_names.index("revision"), "revision", pa.array([1]))
    whole = pa.concat_tables([core["open_interest"], again.cast(core["open_interest"].schema)])
    one = values(hourly_index({**core, "open_interest": whole}), "oi_usd")[0]
    other = values(hourly_index(core), "oi_usd")[0]
    assert one[100] == pytest.approx(5000 * 100)
    assert one[:100] == other[:100]


def test_missing_columns_null_names_and_unknown_units_are_named_errors():
    core = hourly()
    with pytest.raises(UnusableInput, match="core table candles comes without close_usd"):
        hourly_index({**core, "candles": core["candles"].drop_columns(["close_usd"])})
    place = core["candles"].column_names.index("asset")
    nameless = core["candles"].set_column(place, "asset", pa.array([None] * 300, type=pa.string()))
    with pytest.raises(UnusableInput, match="300 rows without asset"):
        hourly_index({**core, "candles": nameless})
    place = core["open_interest"].column_names.index("native_unit")
    strange = core["open_interest"].set_column(place, "native_unit", pa.array(["lots"] * 300))
    with pytest.raises(UnusableInput, match="native_unit outside base, contracts, usd"):
        hourly_index({**core, "open_interest": strange})


def test_unknown_cadence_and_a_window_before_the_epoch_are_named_errors():
    window = Window(utc("2024-01-01"), utc("2024-01-02"))
    with pytest.raises(KeyError, match="found cadence '5m'"):
        derive({}, window, "5m", SPEC, stamp=STAMP)
    with pytest.raises(UnusableInput, match="begins before 2017-01-01"):
        derive({}, Window(utc("2016-12-31"), utc("2024-01-01")), "1d", SPEC, stamp=STAMP)


def test_a_window_without_a_bar_has_no_rows():
    window = Window(utc("2023-12-20T00:10"), utc("2023-12-20T00:50"))
    found = derive(hourly(), window, "1h", SHORT["1h"], assets=["BTC"], stamp=STAMP)
    assert [table.num_rows for table in sound(found).values()] == [0] * len(OUTPUT)


def test_rows_of_other_sources_and_displayed_rates_change_nothing():
    core = small_market("1h")
    other = dict(core)
    for name, table in market("1h", seed=99).items():
        if name != "stablecoin_supply":
            place = table.column_names.index("source")
            foreign = table.set_column(place, table.schema.field("source"), pa.array(["alternative_me"] * table.num_rows))
            other[name] = pa.concat_tables([core[name], foreign])
    paid = pc.equal(other["funding"].column("funding_kind"), "settlement")
    assert not pc.all(paid).as_py()
    other["funding"] = other["funding"].filter(paid)
    one, two = derived("1h", core), derived("1h", other)
    assert [name for name in OUTPUT if not one[name].equals(two[name])] == []


# --- venues and outages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cadence", CADENCES)
def test_a_single_venue_is_indicative_and_says_so(cadence):
    found = sound(derived(cadence, SCENARIOS["one venue"](small_market(cadence)), ["AAA"]))
    said = readings(found)
    kept = said[said.s.notna()]
    assert len(kept)
    assert set(kept.status) == {"indicative"}
    assert kept.reason.str.contains("single venue").all()
    assert set(kept.conf_agreement) == {SPEC.confidence.agreement_unmeasured}
    dispersion, reasons = values(found, "funding_dispersion_annual")
    assert set(dispersion) == {None}
    assert "one venue: nothing to compare" in reasons


def test_a_long_outage_withholds_the_index_and_never_says_50():
    """Hours 200..300 without any row: within the carry limit coverage holds, then there is no value at all."""
    core = {name: table.filter(pa.array(np.arange(300) < 200)) for name, table in hourly(price=100 + np.arange(300) % 7.0).items()}
    found = readings(sound(hourly_index(core)))
    assert (found.conf_coverage[1:206] == 1).all()
    assert (found.conf_coverage[206:] == 0).all()
    assert (found.status[206:] == "withheld").all()
    assert found[206:][["s", "f", "x"]].isna().all().all()
    assert found.reason[206:].str.contains("no venue").all()

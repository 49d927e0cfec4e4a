"""Bad input has a defined result or a named error: never a crash with a stray exception, never a silent 50."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.property import laws
from tests.property.laws import STAMP
from tests.property.synthetic import SHORT, core_table, market, micros
from transforms.asof import UnusableInput
from transforms.features import FEATURES
from transforms.index.build import derive, lookback, reads
from transforms.signals import SIGNALS
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.windows import DAY, HOUR, Window, utc

CADENCES = ("1h", "1d")
WHO = {"asset": "BTC", "instrument": "BTCUSDT"}
BARS = {"open_usd": None, "high_usd": None, "low_usd": None, "trades": None}


def derived(cadence, core, assets=None):
    case = laws.case(cadence, SHORT[cadence], core)
    return derive(core, case.window, cadence, case.spec, assets=assets, stamp=STAMP), case


def hourly(count=300, price=100.0, quantity=1000.0, volume=(10.0, 5.0)):
    as_of = micros("2023-12-15") + np.arange(1, count + 1) * 3_600_000_000
    return {
        "candles": core_table(
            "candles", as_of, interval_h=1.0, close_usd=price, volume_base=volume[0], taker_buy_base=volume[1], **BARS, **WHO
        ),
        "open_interest": core_table(
            "open_interest",
            as_of,
            open_interest_native=quantity,
            native_unit="base",
            oi_sides=1,
            open_interest_base=quantity,
            open_interest_usd=None,
            **WHO,
        ),
    }


def hourly_index(core, count=300):
    start = utc("2023-12-15")
    return derive(core, Window(start, start + count * HOUR), "1h", SHORT["1h"], assets=["BTC"], stamp=STAMP)


def values(found, feature):
    own = found.features.filter(pc.equal(found.features.column("feature"), feature))
    return own.column("feature_value").to_pylist(), own.column("reason").to_pylist()


@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.parametrize("core", [{}, {name: table.slice(0, 0) for name, table in market("1d").items()}], ids=["no tables", "empty"])
def test_nothing_at_all(cadence, core):
    found, case = derived(cadence, core)
    assert [table.num_rows for table in (found.features, found.contributions, found.sentiment)] == [0, 0, 0]
    named, _ = derived(cadence, core, ["BTC"])
    bars = len(case.window.grid(SPEC.cadence(cadence).step))
    assert named.sentiment.num_rows == bars
    assert set(named.sentiment.column("status").to_pylist()) == {"withheld"}
    assert named.sentiment.column("s").null_count == named.sentiment.column("band").null_count == bars
    assert all("no venue" in reason for reason in named.sentiment.column("reason").to_pylist())
    assert set(named.contributions.column("contribution").to_pylist()) == {0.0}
    assert set(named.features.column("reason").to_pylist()) == {"no input"}
    assert "" not in named.contributions.column("reason").to_pylist()


@pytest.mark.parametrize("cadence", CADENCES)
@pytest.mark.parametrize("missing", ["funding", "open_interest", "long_short", "stablecoin_supply", "candles"])
def test_a_missing_table_lowers_confidence_and_moves_no_weight(cadence, missing):
    full, _ = derived(cadence, market(cadence), ["AAA"])
    less, _ = derived(cadence, {name: table for name, table in market(cadence).items() if name != missing}, ["AAA"])
    assert less.contributions.column("weight").equals(full.contributions.column("weight"))
    confidence = [np.array(one.sentiment.column("confidence").to_pylist()) for one in (full, less)]
    assert (confidence[1] <= confidence[0] + 1e-12).all()
    if (cadence, missing) != ("1h", "candles"):  # hourly open interest states USD: it implies a price, the flow table says who took
        assert (confidence[1] < confidence[0]).any()


def test_without_candles_the_price_is_implied_and_says_so():
    core = market("1h")
    del core["candles"]
    found, _ = derived("1h", core, ["AAA"])
    _, reasons = values(found, "momentum")
    assert "price implied by open interest" in reasons
    assert found.sentiment.column("price_usd").null_count < found.sentiment.num_rows


def test_constant_series():
    found = hourly_index(hourly())
    assert set(values(found, "oi_link")[0][1:]) == {0.0}
    assert set(values(found, "oi_drawdown_90d")[0][-50:]) == {0.0}
    assert set(values(found, "momentum")[0]) == {None}
    assert "nothing traded or moved in the window" in values(found, "momentum")[1]
    conviction = found.contributions.filter(pc.equal(found.contributions.column("feature"), "conviction"))
    assert set(conviction.column("contribution").to_pylist()) == {0.0}
    assert set(conviction.column("score").to_pylist()[-50:]) == {0.0}


def test_zero_volume_is_not_a_balance():
    values_, reasons = values(hourly_index(hourly(volume=(0.0, 0.0))), "taker_imbalance_8h")
    assert set(values_) == {None}
    assert set(reasons) == {"nothing traded or moved in the window"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -5.0, 0.0])
def test_an_unusable_open_interest_counts_as_not_received(bad):
    """A bar with a bad value equals a bar without a row: carried forward, with its age; the change is booked when it returns."""
    quantity = np.linspace(1000, 1300, 300)
    good = hourly(quantity=quantity)
    hole = good["open_interest"].filter(pa.array(np.arange(300) != 150))
    for column in ("open_interest_native", "open_interest_base"):
        spoiled = good["open_interest"].column(column).to_numpy().copy()
        spoiled[150] = bad
        good["open_interest"] = good["open_interest"].set_column(
            good["open_interest"].column_names.index(column), pa.field(column, pa.float64(), nullable=False), pa.array(spoiled)
        )
    one, other = hourly_index(good), hourly_index({**good, "open_interest": hole})
    assert one.features.equals(other.features)
    assert one.sentiment.equals(other.sentiment)
    links, reasons = values(one, "oi_link")
    assert links[150] == 0.0
    assert reasons[150] == "stale input"
    assert links[151] == pytest.approx(math.log(quantity[151] / quantity[149]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
def test_an_unusable_price_counts_as_not_received(bad):
    prices = 100 + np.arange(300) % 7.0
    core = hourly(price=prices)
    hole = core["candles"].filter(pa.array(np.arange(300) != 150))
    spoiled = core["candles"].column("close_usd").to_numpy().copy()
    spoiled[150] = bad
    place = core["candles"].column_names.index("close_usd")
    spoilt = core["candles"].set_column(place, pa.field("close_usd", pa.float64(), nullable=False), pa.array(spoiled))
    one, other = hourly_index({**core, "candles": spoilt}), hourly_index({**core, "candles": hole})
    for feature in ("momentum", "sigma_h", "oi_usd", "conviction"):
        assert values(one, feature) == values(other, feature)


@pytest.mark.parametrize(("long", "short"), [(1.0, 0.0), (0.0, 1.0), (math.nan, 0.5), (math.inf, 0.5), (-0.5, 0.5)])
def test_a_split_with_an_empty_side_has_no_logarithm(long, short):
    as_of = micros("2023-12-15") + np.arange(1, 11) * 3_600_000_000
    splits = core_table("long_short", as_of, ratio_metric="global_account", long_share=0.5, short_share=short, **WHO)
    field = pa.field("long_share", pa.float64(), nullable=False)
    splits = splits.set_column(splits.column_names.index("long_share"), field, pa.array(np.full(10, long)))
    assert set(values(hourly_index({"long_short": splits}, 10), "long_short_accounts_log")[0]) == {None}


def test_exact_duplicates_count_once():
    core = market("1h")
    case = laws.case("1h", SHORT["1h"], core)
    twice = {name: pa.concat_tables([table, table]) for name, table in core.items()}
    assert laws.hashes(laws.tables(case, twice, case.window)) == laws.hashes(laws.tables(case, core, case.window))


def test_two_values_for_one_key_and_revision_are_a_named_error():
    core = hourly()
    other = hourly(quantity=1001.0)["open_interest"].slice(10, 1)
    core["open_interest"] = pa.concat_tables([core["open_interest"], other])
    with pytest.raises(UnusableInput, match=r"open_interest: BTC binance BTCUSDT has two rows of revision 0 at 2023-12-15T11:00"):
        hourly_index(core)


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
    core = hourly()
    window = Window(utc("2023-12-20T00:10"), utc("2023-12-20T00:50"))
    found = derive(core, window, "1h", SHORT["1h"], assets=["BTC"], stamp=STAMP)
    assert found.features.num_rows == found.contributions.num_rows == found.sentiment.num_rows == 0


def test_rows_of_other_sources_and_displayed_rates_change_nothing():
    core = market("1h")
    other = dict(core)
    for name, table in market("1h", seed=99).items():
        if name != "stablecoin_supply":
            place = table.column_names.index("source")
            foreign = table.set_column(place, table.schema.field("source"), pa.array(["alternative_me"] * table.num_rows))
            other[name] = pa.concat_tables([core[name], foreign])
    paid = pc.equal(other["funding"].column("funding_kind"), "settlement")
    assert not pc.all(paid).as_py()
    other["funding"] = other["funding"].filter(paid)
    case = laws.case("1h", SHORT["1h"], core)
    assert laws.hashes(laws.tables(case, other, case.window)) == laws.hashes(laws.tables(case, core, case.window))


def test_a_long_outage_withholds_the_index_and_never_says_50():
    """Hours 200..300 without any row: within the carry limit coverage holds, then there is no value at all."""
    core = {name: table.filter(pa.array(np.arange(300) < 200)) for name, table in hourly(price=100 + np.arange(300) % 7.0).items()}
    found = hourly_index(core).sentiment.to_pandas()
    assert (found.conf_coverage[1:206] == 1).all()
    assert (found.conf_coverage[206:] == 0).all()
    assert (found.status[206:] == "withheld").all()
    assert found.s[206:].isna().all()


@pytest.mark.parametrize("cadence", CADENCES)
def test_lookback_is_finite_and_reads_names_core_tables(cadence):
    assert timedelta(days=730) < lookback(SPEC, cadence) < 3 * 366 * DAY
    assert reads(SPEC, cadence) <= {name for name, table in TABLES.items() if table.layer == "core"}
    assert ("liquidations" in reads(SPEC, cadence)) == (cadence == "1d")


@pytest.mark.parametrize("cadence", CADENCES)
def test_spec_and_rosters_agree(cadence):
    used = {use.feature for use in SPEC.cadence(cadence).uses}
    assert used <= set(FEATURES)
    assert {c.feature for c in SPEC.active(cadence)} <= used & set(SIGNALS)
    assert set(SIGNALS) <= {c.feature for c in SPEC.constituents if any(day for _, day in c.effective_from)}
    assert {c.family for c in SPEC.constituents} == {f.name for f in SPEC.families}

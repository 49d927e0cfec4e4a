"""What holds for anything `derive` makes, whatever came in; and how its tables are read by tests of bad input."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.property import laws
from tests.property.laws import STAMP
from tests.property.synthetic import CHECK, SHORT, SPAN, core_table, market, micros
from transforms.index.build import OUTPUT, derive
from transforms.schema import arrow_schema
from transforms.tables import TABLES
from transforms.vocabulary import VOCABULARY
from transforms.windows import DAY, HOUR, Window, utc

#: number of readings by index, and the value without any contribution
INDICES = (("S", "s", 50.0), ("F", "f", 0.0), ("X", "x", 0.0))
#: the end of the made-up market, where all that has a window has filled it
WINDOW = {"1h": Window(SPAN["1h"].end - 4 * DAY, SPAN["1h"].end), "1d": Window(SPAN["1d"].end - 40 * DAY, SPAN["1d"].end)}
WHO = {"asset": "BTC", "instrument": "BTCUSDT"}
BARS = {"open_usd": None, "high_usd": None, "low_usd": None, "trades": None}
START = utc("2023-12-15")


@cache
def small_market(cadence):
    """Rows of three assets (two venues; one that fell silent; one that came late) that the window can see, in one voice each."""
    case = laws.case(cadence, SHORT[cadence], market(cadence))
    core = laws.within_lookback(case, WINDOW[cadence])
    core = {n: t.filter(pc.not_equal(t.column("source"), CHECK[cadence])) for n, t in core.items()}
    return {n: t.filter(pc.not_equal(t.column("asset"), "BBB")) if "asset" in t.column_names else t for n, t in core.items()}


def derived(cadence, core, assets=None):
    return derive(core, WINDOW[cadence], cadence, SHORT[cadence], assets=assets, stamp=STAMP)


def values(found, feature, asset=None):
    """(values, reasons) of a feature."""
    rows = found["features"].filter(pc.equal(found["features"].column("feature"), feature))
    rows = rows if asset is None else rows.filter(pc.equal(rows.column("asset"), asset))
    return rows.column("feature_value").to_pylist(), rows.column("reason").to_pylist()


def readings(found):
    """Rows of assets, without the market's own."""
    rows = found["readings"].to_pandas()
    return rows[rows.asset != "MKT"].reset_index(drop=True)


def contributions(found):
    """One row per input, its venues taken together."""
    rows = found["contributions"].to_pandas()
    keys = ["asset", "as_of", "index_name", "component", "feature"]
    shared = dict.fromkeys(("score", "stale_factor", "history_days", "reason"), "first")
    own = rows[rows.asset != "MKT"]
    return own.groupby(keys, as_index=False, dropna=False, observed=True).agg({"weight": "sum", "contribution": "sum", **shared})


def spoiled(table, column, bad, rows=slice(None)):
    """The table with values that its schema would not let through: one for all rows, or one for each."""
    held = table.column(column).to_numpy(zero_copy_only=False).astype(float).copy()
    held[rows] = bad
    return table.set_column(table.column_names.index(column), pa.field(column, pa.float64()), pa.array(held))


def floating(table):
    """Columns that hold numbers with a fraction."""
    return [field.name for field in table.schema if pa.types.is_floating(field.type)]


def sound(found):
    """Declared tables, finite numbers within their limits, sums that hold, and no number without an input or a reason."""
    assert tuple(found) == OUTPUT
    for name, table in found.items():
        _declared(name, table)
    features = found["features"]
    unsaid = features.filter(pc.and_(pc.is_null(features.column("feature_value")), pc.equal(features.column("reason"), "")))
    assert set(unsaid.column("feature").to_pylist()) == set()
    said, parts = readings(found), contributions(found)
    assert set(parts.feature[parts.score.isna() & (parts.reason == "")]) == set()
    assert (said.s.isna() == (said.status == "withheld")).all()
    assert (said.s.isna() == said.band.isna()).all()
    assert (said.s.isna() == said.s_ex.isna()).all()
    own = said.set_index(["asset", "as_of"])
    voiced = parts[parts.score.notna() & (parts.stale_factor > 0) & (parts.component != "interaction")]
    for index, name, neutral in INDICES:
        assert (own.reason[own[name].isna()] != "").all()
        kept = own[name].dropna()
        total = parts[parts.index_name == index].groupby(["asset", "as_of"]).contribution.sum().reindex(kept.index)
        assert not len(kept) or np.abs(total - (kept - neutral)).max() < 1e-9
        heard = set(voiced[voiced.index_name == index].set_index(["asset", "as_of"]).index)
        assert set(kept.index) <= heard  # never a number of which nobody said anything
    silent = parts[parts.score.isna()]
    assert (silent.contribution[silent.index_name == "S"] == 0).all()
    halves = silent[(silent.index_name != "S") & (silent.component != "concentration")]  # of a largest one part carries all
    assert not len(halves) or np.abs(halves.contribution - 50 * halves.weight).max() < 1e-9
    return found


def _declared(name, table):
    assert table.schema == arrow_schema(TABLES[name])
    assert table.select(TABLES[name].key).group_by(TABLES[name].key).aggregate([]).num_rows == table.num_rows
    for column in (VOCABULARY[field.name] for field in table.schema):
        held = table.column(column.name)
        assert column.nullable or held.null_count == 0, column.name
        if column.kind == "float":
            known = held.drop_null().to_numpy()
            assert np.isfinite(known).all(), column.name
            assert (known >= (-math.inf if column.minimum is None else column.minimum) - 1e-12).all(), column.name
            assert (known <= (math.inf if column.maximum is None else column.maximum) + 1e-12).all(), column.name


# --- markets with something wrong ------------------------------------------------------------------------------------------------------


def constant(core):
    """Every number the same at all times."""
    found = {}
    for name, table in core.items():
        for column in set(floating(table)) - {"interval_h", "funding_interval_h"}:
            field = table.schema.field(column)
            same = pa.array([pc.min(table.column(column)).as_py()] * table.num_rows, type=field.type)
            table = table.set_column(table.column_names.index(column), field, same)  # noqa: PLW2901
        found[name] = table
    return found


def only(core, column, allowed):
    """Rows whose column says this."""
    return {n: t.filter(pc.equal(t.column(column), allowed)) if column in t.column_names else t for n, t in core.items()}


def with_(core, table, column, bad):
    return {**core, table: spoiled(core[table], column, bad)}


def known_late(core):
    """Everything was only learnt a year later."""
    late = {}
    for name, table in core.items():
        field = table.schema.field("known_at")
        stamps = pa.array(table.column("known_at").cast(pa.int64()).to_numpy() + 365 * 86_400_000_000).cast(field.type)
        late[name] = table.set_column(table.column_names.index("known_at"), field, stamps)
    return late


SCENARIOS = {
    "no tables": lambda core: {},
    "empty tables": lambda core: {name: table.slice(0, 0) for name, table in core.items()},
    "one row each": lambda core: {name: table.slice(0, 1) for name, table in core.items()},
    "constant": constant,
    "one venue": lambda core: only(core, "venue", "binance"),
    "one asset that fell silent": lambda core: only(core, "asset", "CCC"),
    "only open interest": lambda core: {"open_interest": core["open_interest"]},
    "only prices": lambda core: {"candles": core["candles"]},
    "only supply": lambda core: {"stablecoin_supply": core["stablecoin_supply"]},
    "known too late": known_late,
    "shuffled": lambda core: {n: t.take(np.random.default_rng(2).permutation(t.num_rows)) for n, t in core.items()},
    "twice": lambda core: {name: pa.concat_tables([table, table]) for name, table in core.items()},
    "zero volume": lambda core: with_(with_(core, "candles", "volume_base", 0.0), "candles", "taker_buy_base", 0.0),
    "takers bought more than was traded": lambda core: with_(core, "candles", "volume_base", 0.0),
    "negative open interest": lambda core: with_(core, "open_interest", "open_interest_native", -1.0),
    "no open interest": lambda core: with_(core, "open_interest", "open_interest_base", 0.0),
    "nobody is short": lambda core: with_(core, "long_short", "short_share", 0.0),
    "prices of zero": lambda core: with_(core, "candles", "close_usd", 0.0),
    "a high without end": lambda core: with_(core, "candles", "high_usd", math.inf),
    "a low below zero": lambda core: with_(core, "candles", "low_usd", -5.0),
    "a high below the low": lambda core: with_(core, "candles", "high_usd", 1e-9),
    "intervals of no length": lambda core: with_(core, "candles", "interval_h", 0.0),
    "no supply": lambda core: with_(core, "stablecoin_supply", "circulating_usd", 0.0),
}


# --- one instrument, made by hand ------------------------------------------------------------------------------------------------------


def hourly(count=300, price=100.0, quantity=1000.0, volume=(10.0, 5.0)):
    as_of = micros("2023-12-15") + np.arange(1, count + 1) * 3_600_000_000
    traded = {"volume_base": volume[0], "taker_buy_base": volume[1]}
    amount = {"open_interest_native": quantity, "native_unit": "base", "oi_sides": 1, "open_interest_base": quantity}
    return {
        "candles": core_table("candles", as_of, interval_h=1.0, close_usd=price, **traded, **BARS, **WHO),
        "open_interest": core_table("open_interest", as_of, open_interest_usd=None, **amount, **WHO),
    }


def hourly_index(core, count=300):
    return derive(core, Window(START, START + count * HOUR), "1h", SHORT["1h"], assets=["BTC"], stamp=STAMP)

"""Facts that must hold on recorded history: Coinalyze's daily bars of Binance, 2022-01-02..2023-12-05, with LUNA and FTX inside."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from transforms.features.panel import Panel
from transforms.index.build import Stamp, derive, lookback, stored
from transforms.schema import arrow_schema, content_sha256
from transforms.spec import SPEC
from transforms.tables import TABLES
from transforms.windows import DAY, HOUR, Window, to_ms, utc

SERIES = Path(__file__).parents[3] / "shared" / "recordings" / "series"
pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(not SERIES.is_dir(), reason="the recordings are not beside this checkout (../shared/recordings)"),
]
SPAN = Window(utc("2022-01-02"), utc("2023-12-06"))
STAMP = Stamp("recorded", "reconstructed", "0" * 64)
#: LUNA itself is not among the 119 symbols; these fell with it
SHOWN = ("BTC", "ETH", "AVAX", "RUNE")


def _table(name: str, frame: pd.DataFrame, **columns: object) -> pa.Table:
    """A core table: as_of is the day's end, five minutes until it is known."""
    as_of = pd.to_datetime(frame["date"], utc=True) + DAY
    filled = {"source": "coinalyze", "venue": "binance", "flags": "", "revision": 0, "fetched_at": as_of, "raw_sha256": "0" * 64}
    filled |= {"as_of": as_of, "known_at": as_of + HOUR / 12, "date": as_of.dt.date - DAY, **columns}
    if "symbol" in frame:
        symbol = frame["symbol"].str.removesuffix("_PERP.A")
        filled |= {"instrument": symbol, "asset": symbol.str.removesuffix("USDT").str.removeprefix("1000")}
    rows = pd.DataFrame({column: filled[column] for column in TABLES[name].columns}, index=frame.index)
    return pa.Table.from_pandas(rows, schema=arrow_schema(TABLES[name]), preserve_index=False)


@cache
def core() -> dict[str, pa.Table]:
    """Funding in percent per 8 h; amounts in base units; the long/short ratio of all accounts; supply known a day late."""
    bars = pd.read_parquet(SERIES / "coinalyze_daily.parquet")
    split, forced = bars[bars.long_short_ratio.notna()], bars[bars.long_liquidations_base.notna()]
    unknown = {"open_usd": None, "high_usd": None, "low_usd": None, "taker_buy_base": None, "trades": None}
    supply = pd.read_parquet(SERIES / "stablecoin_total_supply_daily.parquet").rename(columns={"as_of": "date"})
    return {
        "candles": _table("candles", bars, interval_h=24.0, close_usd=bars.close_usd, volume_base=bars.volume_base, **unknown),
        "open_interest": _table(
            "open_interest",
            bars,
            open_interest_native=bars.open_interest_base,
            native_unit="base",
            oi_sides=1,
            open_interest_base=bars.open_interest_base,
            open_interest_usd=None,
        ),
        "funding": _table("funding", bars, funding_rate=bars.funding_rate_pct_8h / 100, funding_kind="settlement", funding_interval_h=8.0),
        "long_short": _table(
            "long_short",
            split,
            ratio_metric="global_account",
            long_share=split.long_short_ratio / (1 + split.long_short_ratio),
            short_share=1 / (1 + split.long_short_ratio),
        ),
        "liquidations": _table(
            "liquidations",
            forced,
            interval_h=24.0,
            long_liquidated_base=forced.long_liquidations_base,
            short_liquidated_base=forced.short_liquidations_base,
            completeness="floor",
        ),
        "stablecoin_supply": _table(
            "stablecoin_supply",
            supply,
            source="defillama",
            stablecoin="ALL",
            circulating_usd=supply.value,
            known_at=pd.to_datetime(supply["date"], utc=True) + 2 * DAY,
        ),
    }


def published(window: Window, rows: dict[str, pa.Table]) -> dict[str, pa.Table]:
    return derive(rows, window, "1d", SPEC, assets=SHOWN, stamp=STAMP)


@cache
def whole() -> dict[str, pa.Table]:
    return published(SPAN, core())


def series(asset: str) -> pd.DataFrame:
    index = whole()["readings"].to_pandas().query("asset != 'MKT'")
    return index[index.asset == asset].set_index("as_of")


def features(asset: str) -> pd.DataFrame:
    rows = whole()["features"].to_pandas()
    return rows[rows.asset == asset].pivot(index="as_of", columns="feature", values="feature_value")  # noqa: PD010


@pytest.mark.parametrize(("first", "last"), [("2022-05-09", "2022-05-12"), ("2022-06-13", "2022-06-18"), ("2022-11-08", "2022-11-10")])
def test_sentiment_of_btc_is_below_neutral_in_the_falls(first, last):
    """LUNA, the June deleveraging, FTX. Days are described days: as_of is the day's end."""
    during = series("BTC").loc[pd.Timestamp(first, tz="UTC") + DAY : pd.Timestamp(last, tz="UTC") + DAY]
    assert len(during) == (pd.Timestamp(last) - pd.Timestamp(first)).days + 1
    assert (during.s < 50).all()
    assert during.s.min() < 30
    assert (during.status == "indicative").all()
    assert during.reason.str.contains("single venue").all()


def test_sentiment_says_what_its_contributions_say():
    rows = whole()["contributions"].to_pandas().query("index_name == 'S' and asset != 'MKT'")
    parts = rows.groupby(["asset", "as_of"]).contribution.sum()
    index = whole()["readings"].to_pandas().query("asset != 'MKT'").set_index(["asset", "as_of"])
    assert len(index) == len(SHOWN) * 703
    kept = index.s.notna()
    assert np.abs(parts[kept] - (index.s[kept] - 50)).max() < 1e-9
    assert index.s[kept].between(0, 100).all()


def test_the_leverage_that_left_in_november_2022_is_quantity_not_price():
    """BTC lost a quarter of its price in FTX week; the quantity of open interest rose first, then fell."""
    measured = features("BTC")
    usd = measured.oi_usd
    price = series("BTC").price_usd
    first, last = pd.Timestamp("2022-11-06", tz="UTC"), pd.Timestamp("2022-11-13", tz="UTC")
    change = measured.oi_link.loc[first + DAY : last].sum()
    assert change == pytest.approx(math.log(usd[last] / usd[first]) - math.log(price[last] / price[first]), abs=1e-9)
    assert price[last] / price[first] - 1 < -0.2


@pytest.mark.parametrize("asset", SHOWN)
def test_usd_change_is_quantity_plus_price(asset):
    """OI.12 with one instrument: nothing is left over for composition, on any day."""
    measured = features(asset)
    usd, price = np.log(measured.oi_usd).diff(), np.log(series(asset).price_usd).diff()
    assert np.abs(usd - price - measured.oi_link).max() < 1e-9


def test_drawdown_and_changes_are_those_of_the_quantity_itself():
    amount = core()["open_interest"].to_pandas().query("asset == 'BTC'").set_index("as_of").open_interest_native.sort_index()
    measured = features("BTC")
    week = np.log(amount).diff(7)
    assert np.abs(measured.oi_change_168h - week).max() < 1e-9
    fall = 1 - amount / amount.rolling(91).max()
    both = pd.concat([measured.oi_drawdown_90d, fall], axis=1).dropna()
    assert len(both) > 600
    assert np.abs(both.iloc[:, 0] - both.iloc[:, 1]).max() < 1e-9
    assert fall.max() > 0.3


def test_part_of_all_settlements_is_pinned_at_the_baseline():
    """A positive mass at exactly 0.0001 per 8 h; those days score exactly 0 and contribute nothing."""
    rates = core()["funding"].column("funding_rate").to_numpy()
    assert 0.2 < (rates == 0.0001).mean() < 0.6
    own = core()["funding"].to_pandas().query("asset == 'BTC'").set_index("as_of").funding_rate
    excess = features("BTC").funding_excess_annual
    assert ((own == 0.0001) == (excess == 0.0)).all()
    parts = whole()["contributions"].to_pandas()
    pinned = parts[(parts.asset == "BTC") & (parts.feature == "funding_excess_annual")].set_index("as_of").loc[own.index[own == 0.0001]]
    assert len(pinned) > 100
    assert (pinned.contribution == 0).all()


def test_what_the_recording_lacks_is_missing_not_neutral():
    """The recording does not say who took: taker flow contributes 0, with a reason, and confidence pays for it."""
    parts = whole()["contributions"].to_pandas()
    flow = parts[parts.feature == "taker_imbalance_8h"]
    assert (flow.reason == "missing: no input").all()
    assert (flow.contribution == 0).all()
    assert series("BTC").conf_freshness.max() == pytest.approx(1 - flow.weight.iloc[0])


def test_stress_and_regimes_name_the_falls_of_2022():
    """LUNA and FTX: X in its highest tenth; FTX is capitulation by the rule, with its reasons stored."""
    btc = series("BTC")
    assert btc.x.loc["2022-05-10":"2022-05-12"].max() > 90
    assert btc.x.loc["2022-11-09":"2022-11-11"].max() > 95
    assert (btc.regime.loc["2022-11-09":"2022-11-11"] == "capitulation").all()
    changes = whole()["regime_changes"].to_pandas().query("asset == 'BTC' and regime == 'capitulation'").set_index("as_of")
    compared = json.loads(changes.loc[pd.Timestamp("2022-11-09", tz="UTC")].explanation_json)
    assert {row["input"] for row in compared} >= {"x", "return_24h", "oi_change_24h"}
    assert all(row["met"] for row in compared if row["rule"] == "enter_capitulation")


def test_fragility_and_stress_say_what_their_contributions_say():
    rows = whole()["contributions"].to_pandas()
    index = whole()["readings"].to_pandas().set_index(["asset", "as_of"])
    for name, column in (("F", "f"), ("X", "x")):
        total = rows[rows.index_name == name].groupby(["asset", "as_of"]).contribution.sum()
        kept = index[column].notna()
        assert kept.mean() > 0.9
        assert np.abs(total[kept] - index[column][kept]).max() < 1e-9
        assert index[column][kept].between(0, 100).all()


def test_a_probability_without_skill_is_not_shown():
    shown = whole()["readings"].to_pandas()
    assert shown.p_cascade_24h.isna().all()
    assert set(shown.cascade_reason) <= {"no measured skill", "too few cascades", "no fragility", "not estimated for the market"}


def test_the_quantity_index_is_free_of_price():
    """FTX week: BTC lost a quarter of its price; quantity moved by its own amount, as the recorded coins say."""
    amount = core()["open_interest"].to_pandas().query("asset == 'BTC'").set_index("as_of").open_interest_native.sort_index()
    quantity = series("BTC").oi_quantity_index
    assert np.abs(quantity / quantity.iloc[0] / (amount / amount.iloc[0]) - 1).max() < 1e-9


# --- point in time, at full strength ------------------------------------------------------------------------------------------------


def at(table: pa.Table, low: pd.Timestamp, high: pd.Timestamp) -> pa.Table:
    """Rows with as_of in (low, high]."""
    edges = [pa.scalar(to_ms(edge) * 1000).cast(pa.timestamp("us", tz="UTC")) for edge in (low, high)]
    return table.filter(pc.and_(pc.greater(table.column("as_of"), edges[0]), pc.less_equal(table.column("as_of"), edges[1])))


def same(one: dict[str, pa.Table], low, high) -> list[str]:
    """Tables that differ from the whole between two instants."""
    return [
        name
        for name, table in whole().items()
        if content_sha256(TABLES[name], at(one[name], low, high)) != content_sha256(TABLES[name], at(table, low, high))
    ]


def known_at(as_of) -> pa.Scalar:
    return pa.scalar(to_ms(as_of + SPEC.publication_delay) * 1000).cast(pa.timestamp("us", tz="UTC"))


def instants(count: int, seed: int) -> list:
    return [SPAN.start + (int(day) + 1) * DAY for day in sorted(np.random.default_rng(seed).choice(700, count, replace=False))]


def test_truncation():
    """The whole computation without the rows that were not known at a random instant: everything up to it, all tables, bit for bit."""
    for as_of in instants(6, 2022):
        known = {name: table.filter(pc.less_equal(table.column("known_at"), known_at(as_of))) for name, table in core().items()}
        assert same(published(Window(SPAN.start, as_of), known), SPAN.start, as_of) == []


def test_poisoning():
    """Every number that was not known at a random instant multiplied by something random: everything up to it stays."""
    rng = np.random.default_rng(7)
    for as_of in instants(4, 5):
        ruined = {}
        for name, table in core().items():
            later = pc.greater(table.column("known_at"), known_at(as_of)).to_numpy(zero_copy_only=False)
            for place, field in enumerate(table.schema):
                if pa.types.is_floating(field.type) and field.name not in {"interval_h", "funding_interval_h"}:
                    values = table.column(place).to_numpy()
                    spoiled = pa.array(np.where(later, values * rng.uniform(0.2, 3, len(values)), values), from_pandas=True)
                    table = table.set_column(place, field, spoiled)  # noqa: PLW2901
            ruined[name] = table
        assert same(published(SPAN, ruined), SPAN.start, as_of) == []


def test_late_rows():
    """Restatements of the month before an instant that arrive after it change nothing up to it, and something later."""
    as_of = instants(1, 11)[0]
    late = {}
    for name, table in core().items():
        recent = at(table, as_of - 30 * DAY, as_of).slice(0, 200)
        moved = pa.array(np.full(recent.num_rows, to_ms(as_of + HOUR) * 1000)).cast(pa.timestamp("us", tz="UTC"))
        recent = recent.set_column(recent.column_names.index("known_at"), "known_at", moved)
        recent = recent.set_column(recent.column_names.index("revision"), "revision", pa.array(np.ones(recent.num_rows, dtype=np.int64)))
        for place, field in enumerate(recent.schema):
            if field.name in {"circulating_usd", "open_interest_native", "open_interest_base", "close_usd"}:
                recent = recent.set_column(place, field, pa.array(recent.column(place).to_numpy() * 0.9))
        late[name] = pa.concat_tables([table, recent.cast(table.schema)])
    found = published(SPAN, late)
    assert same(found, SPAN.start, as_of) == []
    assert same(found, as_of, SPAN.end) != []


def test_replay_from_every_checkpoint_equals_replay_from_genesis():
    """Each stored month, continued for two months from its look-back alone."""
    points = whole()["checkpoints"]
    for as_of in sorted(set(points.column("as_of").to_pylist()))[::3]:
        end = min(as_of + 60 * DAY, SPAN.end)
        before = stored(points.filter(pc.equal(points.column("as_of"), pa.scalar(as_of, points.schema.field("as_of").type))))
        oldest = pa.scalar(to_ms(as_of - lookback(SPEC, "1d")) * 1000).cast(pa.timestamp("us", tz="UTC"))
        rows = {name: table.filter(pc.greater_equal(table.column("as_of"), oldest)) for name, table in core().items()}
        found = derive(rows, Window(as_of, end), "1d", SPEC, assets=SHOWN, stamp=STAMP, before=before)
        assert same(found, as_of, end) == []


def test_the_panel_holds_every_recorded_symbol():
    rule = SPEC.cadence("1d")
    panel = Panel(core(), start=SPAN.start, window_start=SPAN.start, end=SPAN.end, rule=rule, spec=SPEC)
    assert len(panel.assets) == len(panel.instruments) == 119
    assert panel.bars == 703
    assert np.isfinite(panel.usd).mean() > 0.999

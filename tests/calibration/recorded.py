"""Recorded series and recorded defects as core tables, for the detectors: ../shared/recordings, read in place."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from transforms.detectors import Inputs
from transforms.schema import arrow_schema
from transforms.tables import TABLES

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
SERIES, DEFECTS = RECORDINGS / "series", RECORDINGS / "defects"
LAG = pd.Timedelta(minutes=5)
DAY = pd.Timedelta(days=1)


class Clean(NamedTuple):
    """Data without known defects, and how many instrument-years it holds."""

    inputs: Inputs
    years: float


def rows(name: str, frame: pd.DataFrame, **columns: object) -> pa.Table:
    """A core table; `as_of` and the columns of the table in the frame or given; the rest is filled in."""
    as_of = pd.to_datetime(frame["as_of"], utc=True)
    given: dict[str, object] = {"source": "binance", "venue": "binance", "flags": "", "revision": 0, "raw_sha256": "0" * 64}
    given |= {"known_at": as_of + LAG, "fetched_at": as_of + LAG, "date": (as_of - pd.Timedelta(1, "us")).dt.date}
    given |= {name: frame[name] for name in frame.columns} | {"as_of": as_of} | columns
    for column, declared in TABLES[name].fields.items():
        if declared.nullable:
            given.setdefault(column, None)
    built = pd.DataFrame({column: given[column] for column in TABLES[name].columns}, index=frame.index)
    return pa.Table.from_pandas(built, schema=arrow_schema(TABLES[name]), preserve_index=False)


def interest(frame: pd.DataFrame, **columns: object) -> pa.Table:
    """Open interest with open_interest_base, and open_interest_usd where the frame has it."""
    return rows("open_interest", frame, open_interest_native=frame.open_interest_base, native_unit="base", oi_sides=1, **columns)


def _years(*tables: pa.Table) -> float:
    found = 0.0
    for table in tables:
        frame = table.select(["source", "venue", "instrument", "as_of"]).to_pandas()
        span = frame.groupby(["source", "venue", "instrument"]).as_of.agg(["min", "max"])
        found += float(((span["max"] - span["min"]) / pd.Timedelta(days=365.25)).sum())
    return found


@cache
def coinalyze() -> Clean:
    """Daily bars of 119 contracts, LUNA and FTX inside; two years, without what two tables cannot share."""
    from tests.golden.test_real_history import core

    tables = core()
    return Clean(Inputs(tables, {}), _years(tables["open_interest"]))


@cache
def settlements() -> Clean:
    """Funding as venues tell it (six venues 2019-2026), and a second telling of the same settlements under another source."""
    frame = pd.read_parquet(SERIES / "funding_settlements.parquet")
    frame = frame[~((frame.venue == "hyperliquid") & (frame.recording == "ZuShen168") & (frame.settled_at < "2026-01-01"))]
    first = {"mrezende0", "yuchengzhang966"}
    mine = (frame.recording.isin(first)) | frame.venue.isin(["gate", "htx", "kucoin", "mexc", "dydx"])
    mine |= (frame.recording == "supervik") & (frame.venue == "bybit")
    mine |= (frame.recording == "ZuShen168") & (frame.venue == "hyperliquid")
    frame = frame.assign(
        as_of=frame.settled_at,
        source=np.where(mine, frame.venue, "coinalyze"),
        instrument=frame.symbol.where(frame.symbol.str.endswith("USDT"), frame.symbol + "USDT"),
        funding_interval_h=frame.interval_hours,
    )
    frame = frame.assign(asset=frame.instrument.str.removesuffix("USDT")).drop_duplicates(["source", "venue", "instrument", "as_of"])
    table = rows("funding", frame, funding_kind="settlement")
    return Clean(Inputs({"funding": table}, {}), _years(table))


def _split(frame: pd.DataFrame, column: str, metric: str, **columns: object) -> pa.Table:
    part = frame[frame[column].notna()]
    return rows("long_short", part, ratio_metric=metric, long_share=part[column], short_share=1 - part[column], **columns)


@cache
def positioning() -> Clean:
    """Quarter-hours of BTC and ETH at Binance and Bybit; the gaps are the recorder's own, at the ends of its columns."""
    one = pd.read_parquet(SERIES / "binance_positioning_15m.parquet")
    one = one.assign(as_of=one.timestamp, instrument=one.symbol, asset=one.symbol.str.removesuffix("USDT"))
    two = pd.read_parquet(SERIES / "bybit_positioning_15m.parquet")
    two = two.assign(as_of=two.timestamp, instrument=two.symbol, asset=two.symbol.str.removesuffix("USDT"), source="bybit", venue="bybit")
    oi = one[one.oi.notna()].assign(open_interest_base=one.oi, open_interest_usd=one.oi_value_usd)
    flow = one[one.taker_buy_vol.notna()].assign(taker_buy_base=one.taker_buy_vol, taker_sell_base=one.taker_sell_vol)
    bars = two[two.perp_close.notna()].assign(close_usd=two.perp_close, volume_base=two.perp_volume, interval_h=0.25)
    bars["as_of"] += pd.Timedelta(minutes=15)
    tables = {
        "open_interest": pa.concat_tables([interest(oi), interest(two[two.oi.notna()].assign(open_interest_base=two.oi))]),
        "long_short": pa.concat_tables(
            [
                _split(one, "top_ls_acc_long", "top_account"),
                _split(one, "top_ls_pos_long", "top_position"),
                _split(one, "global_ls_long", "global_account"),
                _split(two, "ls_buy_ratio", "global_account"),
            ]
        ),
        "taker_flow": rows("taker_flow", flow, interval_h=0.25),
        "candles": rows("candles", bars),
    }
    return Clean(Inputs(tables, {}), _years(tables["open_interest"]))


@cache
def multivenue() -> Clean:
    """Hourly candles of five coins at seven venues, and the open interest of Hyperliquid and Lighter (one-off snapshots left out)."""
    bars = pd.read_parquet(SERIES / "multivenue_1h_candles.parquet")
    stamp = pd.to_datetime(bars.timestamp, utc=True, format="mixed") + pd.Timedelta(hours=1)
    bars = bars.assign(as_of=stamp, source=bars.venue, instrument=bars.coin, asset=bars.coin, close_usd=bars.c, volume_base=bars.v)
    bars = bars.drop_duplicates(["venue", "coin", "as_of"])
    oi = pd.read_parquet(SERIES / "multivenue_1h_open_interest.parquet")
    oi = oi.assign(as_of=pd.to_datetime(oi.timestamp, utc=True, format="mixed"), source=oi.venue, instrument=oi.coin, asset=oi.coin)
    oi = oi[(oi.as_of == oi.as_of.dt.floor("h")) & (oi.oi_usd > 0)].drop_duplicates(["venue", "coin", "as_of"])
    stated = oi.assign(open_interest_usd=oi.oi_usd, open_interest_native=oi.oi_usd)
    tables = {
        "candles": rows("candles", bars, interval_h=1.0),
        "open_interest": rows("open_interest", stated, native_unit="usd", oi_sides=1),
    }
    return Clean(Inputs(tables, {}), _years(tables["candles"]))


@cache
def slow() -> Clean:
    """Supply of stablecoins with its total, the fear and greed index, DVOL: daily; and vintages of the total."""
    coins = pd.read_parquet(SERIES / "stablecoin_supply_daily.parquet")
    coins = coins.assign(as_of=coins.date, stablecoin=coins.coin.str.upper(), circulating_usd=coins.supply)
    total = pd.read_parquet(SERIES / "stablecoin_total_supply_daily.parquet")
    total = total.assign(stablecoin="ALL", circulating_usd=total.value)
    columns = ["as_of", "stablecoin", "circulating_usd"]
    both = pd.concat([frame.assign(as_of=pd.to_datetime(frame.as_of, utc=True))[columns] for frame in (coins, total)], ignore_index=True)
    fear = pd.read_parquet(SERIES / "fear_greed_daily.parquet")
    fear = fear.assign(as_of=fear.date, reference="fear_greed", reference_value=fear.value, reference_label=fear.classification)
    dvol = pd.read_parquet(SERIES / "deribit_dvol_btc_daily.parquet")
    dvol = dvol.assign(as_of=dvol.timestamp + DAY, implied_volatility=dvol.dvol / 100, instrument="BTC-DVOL", asset="BTC")
    tables = {
        "stablecoin_supply": rows("stablecoin_supply", both[both.as_of >= "2019-01-01"].reset_index(drop=True), source="defillama"),
        "reference_index": rows("reference_index", fear, source="alternative_me"),
        "volatility_index": rows("volatility_index", dvol, source="deribit", venue="deribit", interval_h=24.0),
    }
    years = sum((max(c) - min(c)).days / 365.25 for c in (t.column("as_of").to_pylist() for t in tables.values()))
    return Clean(Inputs(tables, {}), years)


@cache
def vintages() -> Clean:
    """What successive answers said of the total of stablecoins: restated all the time, never another story."""
    told = pd.read_parquet(SERIES / "stablecoin_total_supply_vintages.parquet")
    told = told.assign(as_of=pd.to_datetime(told.as_of, utc=True), fetched_at=pd.to_datetime(told.captured_at, utc=True))
    told = told.sort_values(["as_of", "fetched_at"]).reset_index(drop=True)
    told = told[(told.as_of != told.as_of.shift()) | (told.total_usd != told.total_usd.shift())]
    told = told.assign(
        revision=told.groupby("as_of").cumcount(), stablecoin="ALL", circulating_usd=told.total_usd, raw_sha256=told.vintage_commit
    )
    table = rows("stablecoin_supply", told, source="defillama", known_at=told.fetched_at, fetched_at=told.fetched_at)
    return Clean(Inputs({"stablecoin_supply": table}, {}), (told.as_of.max() - told.as_of.min()).days / 365.25)


CLEAN = {
    "coinalyze daily, 119 contracts": coinalyze,
    "funding settlements": settlements,
    "binance and bybit quarter-hours": positioning,
    "seven venues, hourly": multivenue,
    "supply, fear and greed, DVOL": slow,
    "vintages of the supply total": vintages,
}


# -- defects


def unit_break() -> Inputs:
    """Coinglass 2026-01-13: funding of five contracts in percent from one day on."""
    frame = pd.read_parquet(DEFECTS / "coinglass_funding_unit_break_2026-01-13.parquet")
    frame = frame.assign(as_of=pd.to_datetime(frame.date, utc=True) + DAY, instrument=frame.asset_id + "USDT", asset=frame.asset_id)
    frame = frame[frame.funding_rate.notna()].drop(columns=["source"])
    return Inputs({"funding": rows("funding", frame, source="coinalyze", funding_kind="settlement")}, {})


def local_clock() -> Inputs:
    """Binance settlements stamped UTC+3, beside the same settlements in UTC."""
    frame = pd.read_csv(DEFECTS / "binance_btc_funding_in_utc_plus_3.csv")
    frame = frame.assign(as_of=pd.to_datetime(frame.Date, utc=True), instrument="BTCUSDT", asset="BTC", funding_rate=frame["Funding Rate"])
    told = rows("funding", frame, source="coinalyze", funding_kind="settlement")
    whole = settlements().inputs.tables["funding"].to_pandas()
    native = whole[
        (whole.source == "binance") & (whole.instrument == "BTCUSDT") & (whole.as_of >= "2019-12-20") & (whole.as_of < "2020-04-20")
    ]
    return Inputs({"funding": pa.concat_tables([told, rows("funding", native.reset_index(drop=True))])}, {})


def local_clock_alone() -> Inputs:
    """The same file without a witness."""
    table = local_clock().tables["funding"]
    return Inputs({"funding": table.filter(pa.compute.equal(table.column("source"), "coinalyze"))}, {})


def missing_in_crash() -> Inputs:
    """Binance metrics of 2021-05-19: rows missing where open interest fell by 12 %, and where price did by 9 %."""
    frame = pd.read_csv(DEFECTS / "binance_metrics_5m_BTCUSDT_2021-05-19_missing_in_crash.csv")
    frame = frame.assign(as_of=pd.to_datetime(frame.t, utc=True), instrument="BTCUSDT", asset="BTC")
    return Inputs({"open_interest": interest(frame.assign(open_interest_base=frame.oi, open_interest_usd=frame.oi_usd))}, {})


def partial_total() -> Inputs:
    """DefiLlama 2026-07-15."""
    frame = pd.read_csv(DEFECTS / "defillama_total_partial_2026-07-15.csv")
    names = {"total_usd": "ALL", "usdt_usd": "USDT", "usdc_usd": "USDC", "usde_usd": "USDE", "usds_usd": "USDS", "dai_usd": "DAI"}
    long = frame.rename(columns=names).melt("date", list(names.values()), "stablecoin", "circulating_usd").dropna()
    long = long.assign(as_of=pd.to_datetime(long.date, utc=True)).drop(columns="date").reset_index(drop=True)
    return Inputs({"stablecoin_supply": rows("stablecoin_supply", long, source="defillama")}, {})


def bad_vintage() -> Inputs:
    """DVOL as two vintages told it, then the one of 2026-02-15; only what changed is a revision."""
    bad = json.loads((DEFECTS / "dvol_2026-02-15_bad_vintage.json").read_text(encoding="utf-8"))
    good = pd.read_parquet(SERIES / "dvol_btc_daily_captures.parquet").dropna(subset="dvol_kalyar197")
    told = [
        pd.DataFrame({"as_of": good.date, "value": good.dvol_kalyar197, "raw_sha256": "1" * 64, "fetched_at": "2026-02-01"}),
        pd.DataFrame({"as_of": bad["dates"], "value": bad["dvol"], "raw_sha256": "2" * 64, "fetched_at": "2026-02-15"}),
    ]
    frame = pd.concat(told).dropna().assign(as_of=lambda f: pd.to_datetime(f.as_of, utc=True) + DAY)
    frame = frame.assign(fetched_at=pd.to_datetime(frame.fetched_at, utc=True)).sort_values(["as_of", "fetched_at"]).reset_index(drop=True)
    frame = frame[(frame.as_of != frame.as_of.shift()) | (frame.value != frame.value.shift())]
    frame = frame.assign(revision=frame.groupby("as_of").cumcount(), implied_volatility=frame.value / 100)
    who = {"source": "deribit", "venue": "deribit", "instrument": "BTC-DVOL", "asset": "BTC", "interval_h": 24.0}
    return Inputs({"volatility_index": rows("volatility_index", frame, known_at=frame.fetched_at, fetched_at=frame.fetched_at, **who)}, {})


def dead_feed() -> Inputs:
    """OKX open interest that is "0" for 24 days."""
    told = json.loads((DEFECTS / "okx_dead_feed_open_interest.json").read_text(encoding="utf-8"))
    flat = [(pd.Timestamp(one["unix"], unit="s", tz="UTC"), name, float(value)) for one in told for name, value in one["oi"].items()]
    frame = pd.DataFrame(flat, columns=["as_of", "instrument", "open_interest_base"]).sort_values("as_of").reset_index(drop=True)
    return Inputs({"open_interest": interest(frame, asset=frame.instrument.str.removesuffix("USDT"), source="okx", venue="okx")}, {})


def shifted_hour() -> Inputs:
    """Hyperliquid funding of a second collector, an hour before the native stamp, 2026-01..03."""
    frame = pd.read_parquet(SERIES / "multivenue_1h_funding_rates.parquet")
    frame = frame[frame.venue == "hyperliquid"]
    frame = frame.assign(as_of=pd.to_datetime(frame.timestamp, utc=True, format="mixed"), instrument=frame.coin + "USDT", asset=frame.coin)
    frame = frame[(frame.as_of >= "2026-01-01") & frame.coin.isin(["BTC", "ETH", "SOL"])].reset_index(drop=True)
    told = rows("funding", frame, source="coinalyze", funding_kind="settlement")
    whole = settlements().inputs.tables["funding"].to_pandas()
    native = whole[(whole.source == "hyperliquid") & (whole.as_of >= "2026-01-01") & (whole.as_of < "2026-03-20")]
    return Inputs({"funding": pa.concat_tables([told, rows("funding", native.reset_index(drop=True))])}, {})


def cut_at_a_page() -> Inputs:
    """Hyperliquid's candles: a year was asked for, 1,000 rows came."""
    table = multivenue().inputs.tables["candles"]
    table = table.filter(pa.compute.equal(table.column("source"), "hyperliquid"))
    hour, end = pd.Timedelta(hours=1), pd.Timestamp("2026-03-05T12:00Z")
    first = table.to_pandas().groupby("instrument").as_of.min() - hour
    asked = [
        {
            "source": "hyperliquid",
            "endpoint": "candles",
            "instrument": coin,
            "target": "candles",
            "window_start": start,
            "window_end": end,
            "expected": int((end - start) / hour),
            "received": 1000,
            "missing": int((end - start) / hour) - 1000,
            "refused": 0,
            "missing_stamps": "[]",
            "complete": False,
            "answers": 1,
            "run_id": "recorded",
            "recorded_at": end,
            "date": end.date(),
        }
        for coin, start in first.items()
    ]
    return Inputs({"candles": table}, {}, pa.Table.from_pylist(asked, schema=arrow_schema(TABLES["coverage"])))


def sides_beside_total() -> Inputs:
    """A vendor's liquidations: long + short is 1.7 % below its own total on average."""
    frame = pd.read_parquet(SERIES / "multivenue_1h_liquidation_volume.parquet")
    frame = frame.assign(as_of=pd.to_datetime(frame.timestamp, utc=True) + pd.Timedelta(hours=1), instrument=frame.coin, asset=frame.coin)
    frame = frame.assign(long_liquidated_base=frame.long_usd, short_liquidated_base=frame.short_usd)
    table = rows("liquidations", frame, interval_h=1.0, completeness="floor")
    totals = table.select(["source", "venue", "instrument", "asset", "as_of", "known_at", "interval_h"])
    return Inputs(
        {"liquidations": table, "liquidation_totals": totals.append_column("total_liquidated_base", pa.array(frame.total_usd))}, {}
    )

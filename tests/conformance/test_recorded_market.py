"""The recorded market over the wire: every recorded value comes out as it was recorded, and nothing else does."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sandbox.market import frozen
from sandbox.recordings import FILES, RecordedMarket
from sandbox.server import venues
from sandbox.wire.reply import Query
from transforms.windows import to_ms, utc

#: tests/conftest.py skips this file where the folder is not there
RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
pytestmark = pytest.mark.recordings
NOW = utc("2026-05-28")
NOW_MS = to_ms(NOW)
DAY = 86_400_000


@pytest.fixture(scope="module")
def hosts():
    return venues(RecordedMarket(RECORDINGS, frozen(NOW)), lambda: 0.0, 1e9)


def ask(hosts, host, path, **params):
    reply = hosts[host].answer(Query(path, {name: str(value) for name, value in params.items()}))
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def series(name):
    return pd.read_parquet(RECORDINGS / "series" / f"{name}.parquet")


def every_page(hosts, path, symbol, period):
    """Walks back by endTime, as the venue's pages of the newest rows ask for."""
    rows, end = [], NOW_MS
    while page := ask(hosts, "binance.fapi", path, symbol=symbol, period=period, endTime=end, limit=500):
        rows = page + rows
        end = page[0]["timestamp"] - 1
    return rows


def stamps(times):
    return pd.DatetimeIndex(times).as_unit("ms").asi8.tolist()


COLUMNS = {
    "/futures/data/openInterestHist": {"sumOpenInterest": "oi", "sumOpenInterestValue": "oi_value_usd"},
    "/futures/data/globalLongShortAccountRatio": {
        "longAccount": "global_ls_long",
        "shortAccount": "global_ls_short",
        "longShortRatio": "global_ls_ratio",
    },
    "/futures/data/topLongShortAccountRatio": {
        "longAccount": "top_ls_acc_long",
        "shortAccount": "top_ls_acc_short",
        "longShortRatio": "top_ls_acc_ratio",
    },
    "/futures/data/topLongShortPositionRatio": {
        "longAccount": "top_ls_pos_long",
        "shortAccount": "top_ls_pos_short",
        "longShortRatio": "top_ls_pos_ratio",
    },
    "/futures/data/takerlongshortRatio": {"buyVol": "taker_buy_vol", "sellVol": "taker_sell_vol", "buySellRatio": "taker_buy_sell_ratio"},
}


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
@pytest.mark.parametrize("path", COLUMNS)
def test_every_recorded_quarter_hour_is_served_and_no_other(hosts, path, symbol):
    held = series("binance_positioning_15m")
    held = held[held["symbol"] == symbol].dropna(subset=list(COLUMNS[path].values())).sort_values("timestamp")
    rows = every_page(hosts, path, symbol, "15m")
    assert [row["timestamp"] for row in rows] == stamps(held["timestamp"])
    for field, column in COLUMNS[path].items():
        assert np.allclose([float(row[field]) for row in rows], held[column], rtol=0, atol=5e-5 if "Ratio" in field else 1e-8)


def test_hours_are_snapshots_at_the_hour_and_sums_of_four_buckets(hosts):
    held = series("binance_positioning_15m")
    held = held[held["symbol"] == "ETHUSDT"].set_index("timestamp")
    at_hours = held["oi"].dropna()
    at_hours = at_hours[at_hours.index.minute == 0]
    rows = every_page(hosts, "/futures/data/openInterestHist", "ETHUSDT", "1h")
    assert [row["timestamp"] for row in rows] == stamps(at_hours.index)
    summed = held["taker_buy_vol"].resample("1h").agg(lambda quarter: quarter.sum() if quarter.count() == 4 else np.nan).dropna()
    flow = every_page(hosts, "/futures/data/takerlongshortRatio", "ETHUSDT", "1h")
    assert [row["timestamp"] for row in flow] == stamps(summed.index)
    assert np.allclose([float(row["buyVol"]) for row in flow], summed, atol=1e-4)
    assert ask(hosts, "binance.fapi", "/futures/data/openInterestHist", symbol="ETHUSDT", period="5m", limit=500) == []


def test_the_default_clock_keeps_the_whole_set_inside_the_thirty_days(hosts):
    start = to_ms(utc("2026-04-28"))
    page = ask(
        hosts,
        "binance.fapi",
        "/futures/data/openInterestHist",
        symbol="BTCUSDT",
        period="15m",
        startTime=start,
        endTime=start + DAY,
        limit=500,
    )
    assert len(page) == 12
    assert ask(hosts, "binance.fapi", "/fapi/v1/time") == {"serverTime": NOW_MS}


def test_funding_is_one_row_an_instant_with_the_recorded_rate(hosts):
    held = series("funding_settlements")
    held = held[(held["venue"] == "binance") & (held["symbol"] == "BTCUSDT") & (held["settled_at"] <= NOW)]
    wanted = held.assign(hour=held["settled_at"].dt.round("h")).groupby("hour")["funding_rate"].first()
    rows, start = [], 0
    while page := ask(hosts, "binance.fapi", "/fapi/v1/fundingRate", symbol="BTCUSDT", startTime=start, limit=1000):
        rows += page
        start = page[-1]["fundingTime"] + 1
    assert len(rows) == len(wanted) < len(held)
    assert np.allclose([float(row["fundingRate"]) for row in rows], wanted, rtol=0, atol=5e-9)
    assert set(rows[0]) == {"symbol", "fundingTime", "fundingRate"}, "a mark price was not recorded"


def test_klines_exist_only_where_prices_and_all_four_volumes_were_recorded(hosts):
    rows = ask(hosts, "binance.fapi", "/fapi/v1/klines", symbol="BTCUSDT", interval="1h", limit=1500)
    prices = series("binance_btcusdt_ohlc_1h").set_index("timestamp")
    flow = series("binance_positioning_15m")
    flow = flow[flow["symbol"] == "BTCUSDT"].set_index("timestamp")[["taker_buy_vol", "taker_sell_vol"]].dropna()
    hours = flow.resample("1h").agg(["sum", "count"])
    whole = hours[hours[("taker_buy_vol", "count")] == 4].index.intersection(prices.index)
    assert [row[0] for row in rows] == stamps(whole)
    assert [[float(value) for value in row[1:5]] for row in rows] == prices.loc[whole, ["open", "high", "low", "close"]].round(
        2
    ).to_numpy().tolist()
    bought, sold = (hours.loc[whole, (f"taker_{side}_vol", "sum")] for side in ("buy", "sell"))
    assert np.allclose([float(row[9]) for row in rows], bought, atol=6e-4)
    assert np.allclose([float(row[5]) for row in rows], bought + sold, atol=6e-4)
    assert {(row[7], row[8], row[10]) for row in rows} == {(None, None, None)}, "quote volume and trades were not recorded"
    assert ask(hosts, "binance.fapi", "/fapi/v1/klines", symbol="ETHUSDT", interval="1h") == []
    assert ask(hosts, "binance.fapi", "/fapi/v1/klines", symbol="BTCUSDT", interval="4h") == []


def test_what_the_recordings_do_not_hold_is_empty_null_or_missing(hosts):
    assert ask(hosts, "binance.fapi", "/fapi/v1/fundingInfo") == []
    assert ask(hosts, "binance.fapi", "/fapi/v1/premiumIndex") == []
    premium = ask(hosts, "binance.fapi", "/fapi/v1/premiumIndex", symbol="BTCUSDT")
    assert {name for name, value in premium.items() if value is not None} == {"symbol", "time"}
    assert [one["symbol"] for one in ask(hosts, "binance.fapi", "/fapi/v1/exchangeInfo")["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    assert hosts["binance.fapi"].answer(Query("/fapi/v1/fundingRate", {"symbol": "SOLUSDT"})).status == 400
    archived = "/data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-05-01.zip"
    assert hosts["binance.archive"].answer(Query(archived)).status == 404


def test_open_interest_now_is_the_newest_recorded(hosts):
    newest = series("binance_positioning_15m").query("symbol == 'BTCUSDT'").dropna(subset=["oi"]).iloc[-1]
    now = ask(hosts, "binance.fapi", "/fapi/v1/openInterest", symbol="BTCUSDT")
    assert float(now["openInterest"]) == newest["oi"]
    assert now["time"] == stamps([newest["timestamp"]])[0]


COINALYZE = {
    "open-interest": ("c", "open_interest_base", ("o", "h", "l")),
    "funding-rate": ("c", "funding_rate_pct_8h", ("o", "h", "l")),
    "long-short-ratio": ("r", "long_short_ratio", ("l", "s")),
    "ohlcv": ("v", "volume_base", ("o", "h", "l", "bv", "tx", "btx")),
    "liquidation": ("s", "short_liquidations_base", ()),
}


@pytest.mark.parametrize("name", COINALYZE)
def test_all_of_the_coinalyze_set_comes_out_once_and_as_it_was(hosts, name):
    field, column, unknown = COINALYZE[name]
    held = series("coinalyze_daily").dropna(subset=[column])
    symbols = [market["symbol"] for market in ask(hosts, "coinalyze.api", "/v1/future-markets", api_key="k")]
    assert len(symbols) == 119
    span = {"interval": "daily", "from": to_ms(utc("2022-01-01")) // 1000, "to": to_ms(utc("2023-12-31")) // 1000, "api_key": "k"}
    rows = {}
    for n in range(0, 119, 20):
        for one in ask(hosts, "coinalyze.api", f"/v1/{name}-history", symbols=",".join(symbols[n : n + 20]), **span):
            for row in one["history"]:
                rows[one["symbol"], pd.Timestamp(row["t"], unit="s").strftime("%Y-%m-%d")] = row
    assert len(rows) == len(held)
    wanted = dict(zip(zip(held["symbol"], held["date"], strict=True), held[column], strict=True))
    assert rows.keys() == wanted.keys()
    assert np.allclose([rows[key][field] for key in wanted], list(wanted.values()), rtol=1e-9)
    assert all(row[key] is None for row in rows.values() for key in unknown)


def test_the_newest_captured_chain_comes_out_as_it_was(hosts):
    held = series("deribit_option_chain_daily")
    newest = held["timestamp"][held["timestamp"] <= NOW].max()
    for coin in ("BTC", "ETH"):
        wanted = held[(held["timestamp"] == newest) & (held["currency"] == coin)].set_index("instrument_name")
        said = ask(hosts, "deribit.api", "/public/get_book_summary_by_currency", currency=coin, kind="option")
        assert said["usOut"] == newest.value // 1000, "a replayed chain keeps the instant of its capture"
        rows = {row["instrument_name"]: row for row in said["result"]}
        assert rows.keys() == set(wanted.index)
        assert len(rows) == len(said["result"])
        for field, column, scale in (
            ("mark_iv", "implied_volatility", 100.0),
            ("open_interest", "open_interest", 1.0),
            ("volume", "volume", 1.0),
            ("underlying_price", "underlying", 1.0),
            ("estimated_delivery_price", "index_price", 1.0),
            ("mark_price", "mark_price", 1.0),
        ):
            assert np.allclose([rows[name][field] for name in wanted.index], wanted[column] * scale, rtol=1e-7, atol=1e-9), field
        unquoted = wanted.index[wanted["bid_price"].isna()]
        assert len(unquoted)
        assert {rows[name]["bid_price"] for name in unquoted} == {None}
    early = venues(RecordedMarket(RECORDINGS, frozen(utc("2026-04-27"))), lambda: 0.0, 1e9)
    before = ask(early, "deribit.api", "/public/get_book_summary_by_currency", currency="BTC", kind="option")
    assert before["result"] == [], "no chain had been captured by then"


def test_recorded_dvol_is_daily_and_nothing_else_is_made_of_it(hosts):
    span = {"start_timestamp": 0, "end_timestamp": NOW_MS}
    path = "/public/get_volatility_index_data"
    held = series("deribit_dvol_btc_daily")
    page = ask(hosts, "deribit.api", path, currency="BTC", resolution="1D", **span)["result"]
    assert page["continuation"] is None
    assert [row[0] for row in page["data"]] == stamps(held["timestamp"])
    assert np.allclose([row[1:] for row in page["data"]], held[["dvol_open", "dvol_high", "dvol_low", "dvol"]])
    for currency, resolution in (("BTC", "3600"), ("ETH", "1D"), ("USDC", "1D")):
        empty = ask(hosts, "deribit.api", path, currency=currency, resolution=resolution, **span)["result"]
        assert empty == {"data": [], "continuation": None}


def test_premium_bars_were_not_recorded(hosts):
    assert ask(hosts, "binance.fapi", "/fapi/v1/premiumIndexKlines", symbol="BTCUSDT", interval="1h") == []


def test_supply_and_reference_stop_at_the_clock(hosts):
    total = series("stablecoin_total_supply_daily")
    chart = ask(hosts, "defillama.stablecoins", "/stablecoincharts/all")
    wanted = total[total["as_of"] < "2026-05-28"]
    assert [row["date"] for row in chart] == [str(to_ms(utc(day)) // 1000) for day in wanted["as_of"]]
    assert np.allclose([row["totalCirculating"]["peggedUSD"] for row in chart], wanted["value"], rtol=1e-12, atol=0.01)
    coins = series("stablecoin_supply_daily")
    for coin_id, coin in (("1", "usdt"), ("2", "usdc"), ("5", "dai")):
        one = ask(hosts, "defillama.stablecoins", "/stablecoincharts/all", stablecoin=coin_id)
        assert len(one) == len(coins[(coins["coin"] == coin) & (coins["date"] < "2026-05-28")])
    fng = series("fear_greed_daily")
    fng = fng[fng["timestamp"] <= NOW_MS // 1000].sort_values("timestamp", ascending=False)
    served = ask(hosts, "alternative_me.api", "/fng/", limit=0)["data"]
    assert [(row["timestamp"], float(row["value"]), row["value_classification"]) for row in served[:2000]] == list(
        zip(fng["timestamp"].astype(str), fng["value"], fng["classification"], strict=True)
    )[:2000]


def test_recordings_that_disagree_are_not_chosen_between(tmp_path):
    for name in FILES[:1] + FILES[2:]:
        (tmp_path / f"{name}.parquet").symlink_to(RECORDINGS.resolve() / "series" / f"{name}.parquet")
    frame = series("funding_settlements")
    twin = frame[(frame["venue"] == "binance") & (frame["symbol"] == "BTCUSDT")].iloc[[0]]
    both = pd.concat([frame, twin.assign(funding_rate=0.5, recording="other")])
    both.to_parquet(tmp_path / "funding_settlements.parquet")
    market = RecordedMarket(tmp_path, frozen(NOW))
    with pytest.raises(ValueError, match="disagree"):
        market.settlements("BTCUSDT", 0, NOW_MS)


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="binance_positioning_15m"):
        RecordedMarket(tmp_path, frozen(NOW))

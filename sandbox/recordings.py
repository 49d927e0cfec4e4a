"""Replays recorded series behind the same interface. What was not recorded is NaN or no row at all: nothing is filled in.

| series | becomes |
|---|---|
| binance_positioning_15m | openInterestHist, ratios, takerlongshortRatio at 15m; at 1h: the full hours, and flow of four buckets added |
| funding_settlements (binance) | fundingRate of BTCUSDT and ETHUSDT, one row an instant; two recordings that disagree raise |
| binance_btcusdt_ohlc_1h | klines 1h of BTCUSDT, only where the four taker buckets of the hour give a volume |
| coinalyze_daily | the Coinalyze daily histories |
| stablecoin_supply_daily, stablecoin_total_supply_daily | DefiLlama charts, days that are over |
| fear_greed_daily | alternative.me |
| deribit_option_chain_daily | the newest chain that was captured by now; its rows were asked one by one, so their index moves a little |
| coinmetrics_btc_daily, coinmetrics_usdt_eth_daily | chain metrics of BTC and of USDT on Ethereum, from the instant each day was complete |
| deribit_dvol_btc_daily | DVOL of BTC at 1D; at other resolutions and for ETH nothing |

The stamps of taker flow are the bucket's START and those of open interest are the snapshot's instant: measured on this set against
Bybit's klines (volume correlates .91 at lag 0, price implied by OI value over OI .998 at one bar).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from sandbox.market import COINS, DAY_MS, HOUR_MS, RATIOS, Aggregate, Chain, Contract, Market, Rows, Stamps
from sandbox.recorded_venues import RecordedVenue
from sandbox.venues import PLACES
from transforms.windows import from_ms

QUARTER_MS: Final = 900_000
#: independent recordings of one settlement agree to this
SAME_RATE: Final = 1e-8
FILES: Final = (
    "binance_positioning_15m",
    "funding_settlements",
    "binance_btcusdt_ohlc_1h",
    "coinalyze_daily",
    "stablecoin_supply_daily",
    "stablecoin_total_supply_daily",
    "fear_greed_daily",
    "deribit_option_chain_daily",
    "deribit_dvol_btc_daily",
    "coinmetrics_btc_daily",
    "coinmetrics_usdt_eth_daily",
)
#: our column -> the recording's
_CHAIN: Final = {
    "strike": "strike",
    "forward": "underlying",
    "index": "index_price",
    "iv": "implied_volatility",
    "open_interest": "open_interest",
    "volume": "volume",
    "volume_usd": "volume_usd",
    "mark": "mark_price",
    "bid": "bid_price",
    "ask": "ask_price",
}
_BAR: Final = ("open", "high", "low", "close")
#: our column -> the recording's; in the venue's order long, short, ratio
_RATIO_COLUMNS: Final = {"global_account": "global_ls", "top_account": "top_ls_acc", "top_position": "top_ls_pos"}
_AGGREGATES: Final[dict[Aggregate, dict[str, str]]] = {
    "open-interest": {"o": "", "h": "", "l": "", "c": "open_interest_base"},
    "funding-rate": {"o": "", "h": "", "l": "", "c": "funding_rate_pct_8h"},
    "long-short-ratio": {"r": "long_short_ratio", "l": "", "s": ""},
    "liquidation": {"l": "long_liquidations_base", "s": "short_liquidations_base"},
    "ohlcv": {"o": "", "h": "", "l": "", "c": "close_usd", "v": "volume_base", "bv": "", "tx": "", "btx": ""},
}


def _stamps(times: pd.Series | pd.DatetimeIndex) -> Stamps:
    """Unix milliseconds of a UTC time column."""
    return pd.DatetimeIndex(times).as_unit("ms").asi8.astype(np.int64)


def _days(texts: pd.Series) -> Stamps:
    return texts.to_numpy(dtype="datetime64[ms]").astype(np.int64)


class RecordedMarket(Market):
    """Recorded venues and vendors under a clock that stands still unless told otherwise."""

    kind = "recorded"
    #: listing dates as the venue's exchangeInfo states them
    contracts = (
        Contract("BTCUSDT", "BTC", 1_569_398_400_000, 2, 3, 0.1, "PoW"),
        Contract("ETHUSDT", "ETH", 1_569_398_400_000),
    )

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.folder = folder / "series" if (folder / "series").is_dir() else folder
        missing = [name for name in FILES if not (self.folder / f"{name}.parquet").is_file()]
        if missing:
            raise FileNotFoundError(f"no {', '.join(missing)} (.parquet) in {self.folder}; give the folder of recorded series")

    def at(self, venue: str) -> Market:
        return RecordedVenue(self, venue) if venue in PLACES else self

    def stamps(self, times: pd.Series[pd.Timestamp]) -> Stamps:
        """Unix milliseconds of a recorded column."""
        return _stamps(times)

    def read(self, name: str) -> pd.DataFrame:
        """A recorded series."""
        return pd.read_parquet(self.folder / f"{name}.parquet")

    def describe(self) -> dict[str, object]:
        spans = {f"binance.positioning.{symbol}": rows.at for symbol, rows in self._positions.items()}
        spans |= {f"binance.fundingRate.{symbol}": rows.at for symbol, rows in self._funding.items()}
        spans["binance.klines.1h.BTCUSDT"] = self._hours.at
        spans["coinalyze.daily"] = next(iter(self._aggregates.values())).at
        spans["defillama.total"] = self._supplies[None].at
        spans["alternative_me.fng"] = self._fear_greed.at
        spans["deribit.dvol.1D.BTC"] = self._dvol.at
        spans |= {f"deribit.options.{coin}": np.array([chain.at_us // 1000 for chain in held]) for coin, held in self._chains.items()}
        spans |= {f"coinmetrics.{asset}": rows.at for asset, rows in self._metrics.items()}
        shown = {name: [from_ms(int(at[0])).isoformat(), from_ms(int(at[-1])).isoformat()] for name, at in spans.items()}
        return {"market": self.kind, "recording": str(self.folder), "spans": shown}

    def has_archive(self) -> bool:
        return False

    # loaded once, on first use

    @cached_property
    def _positions(self) -> dict[str, Rows]:
        out = {}
        for symbol, part in self.read("binance_positioning_15m").groupby("symbol"):
            held = part.sort_values("timestamp")
            columns = {"oi_base": held["oi"], "oi_usd": held["oi_value_usd"]}
            for name in RATIOS:
                columns |= {f"{name}_{end}": held[f"{_RATIO_COLUMNS[name]}_{end}"] for end in ("long", "short", "ratio")}
            columns |= {"buy": held["taker_buy_vol"], "sell": held["taker_sell_vol"], "ratio": held["taker_buy_sell_ratio"]}
            arrays = {name: column.to_numpy(dtype=np.float64) for name, column in columns.items()}
            out[str(symbol)] = Rows(_stamps(held["timestamp"]), arrays)
        return out

    @cached_property
    def _funding(self) -> dict[str, Rows]:
        return self.settled("binance", {contract.symbol: contract.symbol for contract in self.contracts})

    def settled(self, venue: str, spelled: Mapping[str, str]) -> dict[str, Rows]:
        """`rate` and an unknown `mark` by symbol; `spelled`: symbol -> its name in the recording."""
        held = self.read("funding_settlements")
        held = held[held["venue"] == venue]
        out = {}
        for symbol, name in spelled.items():
            part = held[held["symbol"] == name]
            hour = part["settled_at"].dt.round("h")
            said = part.groupby(hour)["funding_rate"].agg(["min", "max"])
            if (said["max"] - said["min"] > SAME_RATE).any():
                raise ValueError(
                    f"two recordings of {venue} {symbol} funding disagree in {self.folder}; a replay cannot choose between them"
                )
            # the recording with the venue's own millisecond jitter is the fuller one
            one = part.assign(hour=hour).sort_values("settled_at").drop_duplicates("hour", keep="last")
            rate = one["funding_rate"].to_numpy(dtype=np.float64)
            out[symbol] = Rows(_stamps(one["settled_at"]), {"rate": rate, "mark": np.full(len(rate), np.nan)})
        return out

    @cached_property
    def _hours(self) -> Rows:
        held = self.read("binance_btcusdt_ohlc_1h").sort_values("timestamp")
        flow = self._hourly_flow("BTCUSDT")
        at = _stamps(held["timestamp"])
        both, here, there = np.intersect1d(at, flow.at, assume_unique=True, return_indices=True)
        columns = {name: held[name].to_numpy(dtype=np.float64)[here] for name in ("open", "high", "low", "close")}
        columns["volume"] = np.round(flow["buy"][there] + flow["sell"][there], 3)
        columns["taker_buy"] = flow["buy"][there]
        unknown = np.full(len(both), np.nan)
        return Rows(both, columns | {"quote_volume": unknown, "trades": unknown, "taker_buy_quote": unknown})

    def _hourly_flow(self, symbol: str) -> Rows:
        """Hours whose four buckets are all there."""
        rows = self._positions[symbol]
        whole = rows.take(~np.isnan(rows["buy"]) & ~np.isnan(rows["sell"]))
        hours, begins, counts = np.unique(whole.at // HOUR_MS, return_index=True, return_counts=True)
        if not len(hours):
            return Rows(np.empty(0, np.int64), {"buy": np.empty(0), "sell": np.empty(0), "ratio": np.empty(0)})
        buy, sell = (np.add.reduceat(whole[name], begins).round(4) for name in ("buy", "sell"))
        summed = Rows(hours * HOUR_MS, {"buy": buy, "sell": sell, "ratio": buy / sell})
        return summed.take(counts == HOUR_MS // QUARTER_MS)

    @cached_property
    def _aggregates(self) -> dict[str, Rows]:
        out = {}
        for symbol, part in self.read("coinalyze_daily").groupby("symbol"):
            held = part.sort_values("date")
            names = [name for name in held.columns if name not in ("date", "symbol")]
            out[str(symbol)] = Rows(_days(held["date"]), {name: held[name].to_numpy(dtype=np.float64) for name in names})
        return out

    @cached_property
    def _supplies(self) -> dict[str | None, Rows]:
        total = self.read("stablecoin_total_supply_daily").sort_values("as_of")
        total = total[total["status"] == "ok"]
        out: dict[str | None, Rows] = {None: Rows(_days(total["as_of"]), {"circulating": total["value"].to_numpy(dtype=np.float64)})}
        held = self.read("stablecoin_supply_daily").sort_values("date")
        for coin in COINS:
            part = held[held["coin"] == coin.symbol.lower()]
            out[coin.id] = Rows(_days(part["date"]), {"circulating": part["supply"].to_numpy(dtype=np.float64)})
        return out

    @cached_property
    def _fear_greed(self) -> Rows:
        held = self.read("fear_greed_daily").sort_values("timestamp")
        return Rows(held["timestamp"].to_numpy(dtype=np.int64) * 1000, {"value": held["value"].to_numpy(dtype=np.float64)})

    @cached_property
    def _chains(self) -> dict[str, list[Chain]]:
        """Chains of each coin, in order of time."""
        held = self.read("deribit_option_chain_daily")
        out: dict[str, list[Chain]] = {}
        for (coin, taken), part in held.groupby(["currency", "timestamp"]):
            expiry = _stamps(pd.to_datetime(part["expiry_datetime"]))
            call = (part["option_type"] == "call").to_numpy()
            columns = {name: part[column].to_numpy(dtype=np.float64) for name, column in _CHAIN.items()}
            at_us = pd.Timestamp(taken).value // 1000
            out.setdefault(str(coin), []).append(Chain(at_us, expiry, call, part["underlying_name"].tolist(), columns))
        return out

    @cached_property
    def _dvol(self) -> Rows:
        held = self.read("deribit_dvol_btc_daily").sort_values("timestamp")
        names = {"open": "dvol_open", "high": "dvol_high", "low": "dvol_low", "close": "dvol"}
        return Rows(_stamps(held["timestamp"]), {name: held[column].to_numpy(dtype=np.float64) for name, column in names.items()})

    @cached_property
    def _metrics(self) -> dict[str, Rows]:
        out = {}
        for asset, name in (("BTC", "coinmetrics_btc_daily"), ("USDT_ETH", "coinmetrics_usdt_eth_daily")):
            held = self.read(name).sort_values("time")
            unknown = np.full(len(held), np.nan)
            columns = {
                ours: held[theirs].to_numpy(dtype=np.float64) if theirs in held else unknown
                for ours, theirs in (
                    ("inflow", "FlowInExUSD"),
                    ("outflow", "FlowOutExUSD"),
                    ("supply", "SplyCur"),
                    ("price", "PriceUSD"),
                    ("completed", "AssetEODCompletionTime"),
                )
            }
            out[asset] = Rows(_days(held["time"]), columns)
        return out

    # the interface

    def positioning(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        if step_ms not in (QUARTER_MS, HOUR_MS):
            return self._positions[symbol].take(slice(0, 0))
        rows = self._positions[symbol].between(start_ms, min(end_ms, self.now_ms()))
        return rows.take((rows.at % step_ms == 0) & ~np.isnan(rows["oi_base"]))

    def taker(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        if step_ms == HOUR_MS:
            return self._hourly_flow(symbol).between(start_ms, min(end_ms, self.now_ms() - step_ms))
        rows = self._positions[symbol]
        if step_ms != QUARTER_MS:
            return rows.take(slice(0, 0))
        rows = rows.between(start_ms, min(end_ms, self.now_ms() - step_ms))
        return rows.take(~np.isnan(rows["buy"]))

    def bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        if symbol != "BTCUSDT" or step_ms != HOUR_MS:
            return self._hours.take(slice(0, 0))
        return self._hours.between(start_ms, min(end_ms, self.now_ms() - step_ms))

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> Rows:
        return self._funding[symbol].between(start_ms, min(end_ms, self.now_ms()))

    def premium(self, symbol: str) -> Mapping[str, float]:
        return dict.fromkeys(("mark", "index", "rate", "next_ms"), float("nan"))

    def premium_bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        return Rows(np.empty(0, np.int64), {name: np.empty(0) for name in _BAR})

    def liquidations(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        return Rows(np.empty(0, np.int64), {"long": np.empty(0), "short": np.empty(0)})

    def option_chain(self, coin: str) -> Chain | None:
        now_us = self.now_ms() * 1000
        return next((chain for chain in reversed(self._chains.get(coin, [])) if chain.at_us <= now_us), None)

    def volatility_index(self, coin: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        if coin != "BTC" or step_ms != DAY_MS:
            return self._dvol.take(slice(0, 0))
        return self._dvol.between(start_ms, min(end_ms, self.now_ms() - step_ms))

    def aggregate_symbols(self) -> Mapping[str, str]:
        return {symbol: symbol.removesuffix("_PERP.A").removesuffix("USDT") for symbol in self._aggregates}

    def aggregate(self, what: Aggregate, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        wanted = _AGGREGATES[what]
        held = self._aggregates[symbol].between(start_ms, min(end_ms, self.now_ms() - DAY_MS))
        if step_ms != DAY_MS:
            held = held.take(slice(0, 0))
        unknown = np.full(len(held), np.nan)
        rows = Rows(held.at, {key: held[name] if name else unknown for key, name in wanted.items()})
        known = np.logical_and.reduce([~np.isnan(rows[key]) for key, name in wanted.items() if name])
        return rows.take(known)

    def supply(self, coin_id: str | None) -> Rows | None:
        rows = self._supplies.get(coin_id)
        return None if rows is None else rows.between(0, self.now_ms() - DAY_MS)

    def chain_metrics(self, asset: str) -> Rows | None:
        rows = self._metrics.get(asset)
        return None if rows is None else rows.take(rows["completed"] * 1000.0 <= self.now_ms())

    def fear_greed(self) -> Rows:
        return self._fear_greed.between(0, self.now_ms())

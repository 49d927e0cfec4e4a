"""Binance COIN-M futures REST (dapi) in its own format: inverse perpetuals counted in contracts of a fixed size in USD.

Document: https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from sandbox.limits import Limit
from sandbox.market import DAY_MS, Contract, Floats, Market
from sandbox.wire.binance_fapi import (
    MINUTE_MS,
    PERPETUAL_DELIVERY_MS,
    RATIO_PATHS,
    Fapi,
    Refused,
    limit_of,
    missing,
    page_of,
    range_of,
)
from sandbox.wire.reply import Query, Reply, as_json, json_rows

#: USD a contract; all that are not named: 10
SIZES: Final = {"BTC": 100.0}
SIZE: Final = 10.0
TYPES: Final = ("ALL", "CURRENT_QUARTER", "NEXT_QUARTER", "PERPETUAL")
#: klines: -4088 beyond
LONGEST_MS: Final = 200 * DAY_MS


class Dapi(Fapi):
    """dapi.binance.com: the market that stands beside USD-M. Of a recorded market, which holds none, nothing is listed."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        super().__init__(market.at("binance_coin"), clock, scale)
        self.listed: Mapping[str, Contract] = (
            {} if market.kind == "recorded" else {f"{one.asset}USD_PERP": one for one in self.market.contracts}
        )
        self.routes = {
            "/dapi/v1/time": lambda _: as_json({"serverTime": self.market.now_ms()}),
            "/dapi/v1/exchangeInfo": self.exchange_info,
            "/dapi/v1/fundingRate": self.funding_rate,
            "/dapi/v1/openInterest": self.open_interest,
            "/dapi/v1/klines": self.klines,
            "/dapi/v1/premiumIndexKlines": self.premium_klines,
            "/dapi/v1/premiumIndex": self.premium_index,
            "/futures/data/openInterestHist": self.open_interest_history,
            "/futures/data/takerBuySellVol": self.taker,
            **{path: partial(self.ratio, name) for path, name in RATIO_PATHS.items()},
        }

    def _price(self, query: Query) -> tuple[Limit, float]:
        """As USD-M, but that funding draws on the weight of the minute."""
        path = query.path.replace("/dapi/", "/fapi/")
        return (self.minute, 1) if path == "/fapi/v1/fundingRate" else super()._price(Query(path, query.params))

    def _symbol(self, params: Mapping[str, str]) -> Contract:
        symbol = params.get("symbol", "")
        if not symbol:
            raise missing("symbol")
        if symbol not in self.listed:
            raise Refused(-1121, "Invalid symbol.")
        return self.listed[symbol]

    def _pair(self, params: Mapping[str, str]) -> Contract:
        pair = params.get("pair", "")
        if not pair:
            raise missing("pair")
        if f"{pair}_PERP" not in self.listed:
            raise Refused(-1130, "parameter 'pair' is invalid.")
        return self.listed[f"{pair}_PERP"]

    def _type(self, params: Mapping[str, str]) -> str:
        found = params.get("contractType", "")
        if not found:
            raise missing("contractType")
        if found not in TYPES:
            raise Refused(-1130, "parameter 'contractType' is invalid.")
        return found

    # endpoints

    def exchange_info(self, params: Mapping[str, str]) -> Reply:
        limits = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": int(self.minute.weight)},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
        ]
        return as_json(
            {
                "timezone": "UTC",
                "serverTime": self.market.now_ms(),
                "rateLimits": limits,
                "exchangeFilters": [],
                "symbols": [_listing(symbol, contract) for symbol, contract in self.listed.items()],
            }
        )

    def funding_rate(self, params: Mapping[str, str]) -> Reply:
        limit = limit_of(params, 100, 1000)
        contract = self._symbol(params)
        rows = page_of(self.market.settlements(contract.symbol, *range_of(params)), params, limit)
        pieces = [
            (f'{{"symbol":"{params["symbol"]}","fundingTime":', "%d", rows.at),
            (',"fundingRate":', '"%.8f"', rows["rate"]),
            (',"markPrice":', '"%.8f"', rows["mark"]),
        ]
        return Reply(200, json_rows(pieces, "}"))

    def open_interest(self, params: Mapping[str, str]) -> Reply:
        contract = self._symbol(params)
        now = self.market.now_ms()
        rows = self.market.positioning(contract.symbol, 5 * MINUTE_MS, now - DAY_MS, now)
        amount = f"{contracts(contract, rows['oi_usd'])[-1]:.0f}"
        symbol = params["symbol"]
        return as_json(
            {
                "symbol": symbol,
                "pair": symbol.removesuffix("_PERP"),
                "openInterest": amount,
                "contractType": "PERPETUAL",
                "time": int(rows.at[-1]),
            }
        )

    def klines(self, params: Mapping[str, str]) -> Reply:
        contract, step, limit = self._bar_question(params)
        start, end = range_of(params)
        if "startTime" in params and min(end, self.market.now_ms()) - start > LONGEST_MS:
            raise Refused(-4088, "Maximum time interval is 200 days.")
        rows = page_of(self.market.bars(contract.symbol, step, start, end), params, limit)
        price = f'"%.{contract.price_decimals}f"'
        volume, bought = (contracts(contract, rows[name]) for name in ("quote_volume", "taker_buy_quote"))
        average = rows["quote_volume"] / np.maximum(rows["volume"], 1e-12)
        size = size_of(contract)
        pieces = [
            ("[", "%d", rows.at),
            *((",", price, rows[name]) for name in ("open", "high", "low", "close")),
            (",", '"%.0f"', volume),
            (",", "%d", rows.at + (step - 1)),
            (",", '"%.8f"', volume * size / average),
            (",", "%d", rows["trades"]),
            (",", '"%.0f"', bought),
            (",", '"%.8f"', bought * size / average),
        ]
        return Reply(200, json_rows(pieces, ',"0"]'))

    def premium_index(self, params: Mapping[str, str]) -> Reply:
        """A list, also for one symbol."""
        if "symbol" in params:
            self._symbol(params)
        wanted = {
            symbol: contract
            for symbol, contract in self.listed.items()
            if params.get("symbol", symbol) == symbol and params.get("pair", symbol.removesuffix("_PERP")) == symbol.removesuffix("_PERP")
        }
        return as_json(
            [{**self._premium(contract), "symbol": symbol, "pair": symbol.removesuffix("_PERP")} for symbol, contract in wanted.items()]
        )

    def open_interest_history(self, params: Mapping[str, str]) -> Reply:
        """Contracts beside coins. The market holds perpetuals only: of another contract type there is nothing."""
        contract, kind = self._pair(params), self._type(params)
        step, start, end, limit = self._data_range(params)
        rows = self.market.positioning(contract.symbol, step, start, end).take(slice(-limit, None) if kind == "PERPETUAL" else slice(0, 0))
        count = contracts(contract, rows["oi_usd"])
        price = rows["oi_usd"] / np.maximum(rows["oi_base"], 1e-12)
        pieces = [
            (f'{{"pair":"{params["pair"]}","contractType":"{kind}","sumOpenInterest":', '"%.8f"', count),
            (',"sumOpenInterestValue":', '"%.8f"', count * size_of(contract) / price),
            (',"timestamp":', "%d", rows.at),
        ]
        return Reply(200, json_rows(pieces, "}"))

    def ratio(self, name: str, params: Mapping[str, str]) -> Reply:
        contract = self._pair(params)
        step, start, end, limit = self._data_range(params)
        rows = self.market.positioning(contract.symbol, step, start, end).take(slice(-limit, None))
        what = "Position" if name == "top_position" else "Account"
        pieces = [
            (f'{{"long{what}":', '"%.4f"', rows[f"{name}_long"]),
            (',"longShortRatio":', '"%.4f"', rows[f"{name}_ratio"]),
            (f',"pair":"{params["pair"]}","short{what}":', '"%.4f"', rows[f"{name}_short"]),
            (',"timestamp":', "%d", rows.at),
        ]
        return Reply(200, json_rows(pieces, "}"))

    def taker(self, params: Mapping[str, str]) -> Reply:
        """Stamped at the START of the bucket, as its USD-M sibling; contracts beside coins."""
        contract, kind = self._pair(params), self._type(params)
        step, start, end, limit = self._data_range(params)
        rows = self.market.taker(contract.symbol, step, start, end)
        rows = rows.take(slice(-limit, None) if kind in ("ALL", "PERPETUAL") else slice(0, 0))
        closes = self.market.bars(contract.symbol, step, int(rows.at[0]), int(rows.at[-1]))["close"] if len(rows) else rows["buy"]
        bought, sold = contracts(contract, rows["buy"] * closes), contracts(contract, rows["sell"] * closes)
        size = size_of(contract)
        pieces = [
            (f'{{"pair":"{params["pair"]}","contractType":"{kind}","takerBuyVol":', '"%.0f"', bought),
            (',"takerSellVol":', '"%.0f"', sold),
            (',"takerBuyVolValue":', '"%.4f"', bought * size / closes),
            (',"takerSellVolValue":', '"%.4f"', sold * size / closes),
            (',"timestamp":', "%d", rows.at),
        ]
        return Reply(200, json_rows(pieces, "}"))


def size_of(contract: Contract) -> float:
    """USD a contract."""
    return SIZES.get(contract.asset, SIZE)


def contracts(contract: Contract, usd: Floats) -> Floats:
    """Whole contracts that so many USD are."""
    return np.asarray(np.floor(usd / size_of(contract)), dtype=np.float64)


def _listing(symbol: str, contract: Contract) -> dict[str, Any]:
    tick = f"{contract.tick:.{contract.price_decimals}f}"
    return {
        "symbol": symbol,
        "pair": symbol.removesuffix("_PERP"),
        "contractType": "PERPETUAL",
        "deliveryDate": PERPETUAL_DELIVERY_MS,
        "onboardDate": contract.listed_ms,
        "contractStatus": "TRADING",
        "contractSize": int(size_of(contract)),
        "marginAsset": contract.asset,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": contract.asset,
        "quoteAsset": "USD",
        "pricePrecision": contract.price_decimals,
        "quantityPrecision": 0,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "equalQtyPrecision": 4,
        "maxMoveOrderLimit": 10000,
        "triggerProtect": "0.0500",
        "underlyingType": "COIN",
        "underlyingSubType": ["Layer-1"],
        "filters": [
            {"minPrice": tick, "maxPrice": "4520958", "filterType": "PRICE_FILTER", "tickSize": tick},
            {"stepSize": "1", "filterType": "LOT_SIZE", "maxQty": "1000000", "minQty": "1"},
            {"stepSize": "1", "filterType": "MARKET_LOT_SIZE", "maxQty": "60000", "minQty": "1"},
            {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
            {"limit": 20, "filterType": "MAX_NUM_ALGO_ORDERS"},
            {"multiplierDown": "0.9500", "multiplierUp": "1.0500", "multiplierDecimal": "4", "filterType": "PERCENT_PRICE"},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        "liquidationFee": "0.015000",
        "marketTakeBound": "0.05",
    }

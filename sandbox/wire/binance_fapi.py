"""Binance USD-M futures REST (fapi) in its own format: paging, limits, weights, error bodies.

Documents: https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api and .../general-info
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from sandbox.limits import Limit
from sandbox.market import DAY_MS, HOUR_MS, Contract, Market, Rows
from sandbox.wire.reply import Query, Reply, as_json, json_rows, seconds

MINUTE_MS: Final = 60_000
SAMPLE_MS: Final = 5_000
#: klines also know 1m and 3m, which lie below the grid of either market: refused here as an invalid interval
INTERVALS: Final = {"5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480, "12h": 720, "1d": 1440}
PERIODS: Final = {name: minutes for name, minutes in INTERVALS.items() if name != "8h"}
RATIO_PATHS: Final = {
    "/futures/data/globalLongShortAccountRatio": "global_account",
    "/futures/data/topLongShortAccountRatio": "top_account",
    "/futures/data/topLongShortPositionRatio": "top_position",
}
#: A start 30 days back is accepted and one 35 days back refused (public measurements); an hour of slack lies well between.
KEPT_MS: Final = 30 * DAY_MS + HOUR_MS
PERPETUAL_DELIVERY_MS: Final = 4_133_404_800_000
FOREVER: Final = 2**62


class Refused(Exception):
    """An error body of the venue."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reply = as_json({"code": code, "msg": message}, status)


class Fapi:
    """fapi.binance.com. Each path group has the budget the venue documents, times `scale`."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.minute = Limit(2400 * scale, 60, clock, patience=5)
        self.funding = Limit(500 * scale, 300, clock, patience=5)
        self.data = Limit(1000 * scale, 300, clock, patience=5)
        self.clock = clock
        self.routes: dict[str, Callable[[Mapping[str, str]], Reply]] = {
            "/fapi/v1/time": lambda _: as_json({"serverTime": market.now_ms()}),
            "/fapi/v1/exchangeInfo": self.exchange_info,
            "/fapi/v1/fundingRate": self.funding_rate,
            "/fapi/v1/fundingInfo": self.funding_info,
            "/fapi/v1/openInterest": self.open_interest,
            "/fapi/v1/klines": self.klines,
            "/fapi/v1/premiumIndexKlines": self.premium_klines,
            "/fapi/v1/premiumIndex": self.premium_index,
            "/futures/data/openInterestHist": self.open_interest_history,
            "/futures/data/takerlongshortRatio": self.taker,
            **{path: partial(self.ratio, name) for path, name in RATIO_PATHS.items()},
        }

    def answer(self, query: Query) -> Reply:
        """Weight first, as the venue does: a refused request says nothing about its parameters."""
        limit, weight = self._price(query)
        wait = limit.take(weight)
        used = {"X-MBX-USED-WEIGHT-1M": f"{self.minute.used:.0f}"}
        if wait is not None:
            return self._too_many(limit, wait, used)
        route = self.routes.get(query.path)
        try:
            reply = route(query.params) if route else _no_such_path(query.path)
        except Refused as refused:
            reply = refused.reply
        return Reply(reply.status, reply.body, reply.content_type, used)

    def _price(self, query: Query) -> tuple[Limit, float]:
        """Budget and weight of a request (klines by page size; others as documented)."""
        if query.path in ("/fapi/v1/fundingRate", "/fapi/v1/fundingInfo"):
            return self.funding, 1
        if query.path.startswith("/futures/data/"):
            return self.data, 1
        if query.path in ("/fapi/v1/klines", "/fapi/v1/premiumIndexKlines"):
            limit = query.params.get("limit", "500")
            size = int(limit) if limit.isdecimal() and len(limit) < 6 else 500
            return self.minute, 1 if size < 100 else 2 if size < 500 else 5 if size <= 1000 else 10
        if query.path == "/fapi/v1/premiumIndex":
            return self.minute, 1 if "symbol" in query.params else 10
        return self.minute, 1

    def _too_many(self, limit: Limit, wait: float, headers: Mapping[str, str]) -> Reply:
        retry = {**headers, "Retry-After": seconds(wait)}
        if limit.banned:
            until = int(limit.banned_until * 1000)
            text = f"Way too many requests; IP(127.0.0.1) banned until {until}. Please use the websocket for live updates to avoid bans."
            return as_json({"code": -1003, "msg": text}, 418, retry)
        text = (
            f"Too many requests; current limit of IP(127.0.0.1) is {limit.weight:.0f} requests per {limit.per / 60:.0f} minute. "
            "Please use the websocket for live updates to avoid polling the API."
        )
        return as_json({"code": -1003, "msg": text}, 429, retry)

    # parameters

    def _symbol(self, params: Mapping[str, str]) -> Contract:
        symbol = params.get("symbol", "")
        if not symbol:
            raise missing("symbol")
        contract = self.market.contract(symbol)
        if contract is None:
            raise Refused(-1121, "Invalid symbol.")
        return contract

    def _data_range(self, params: Mapping[str, str]) -> tuple[int, int, int, int]:
        """Step, start, end, limit of a /futures/data question: the last 30 days only, pages of at most 500."""
        period = params.get("period", "")
        if not period:
            raise missing("period")
        if period not in PERIODS:
            raise Refused(-1130, "parameter 'period' is invalid.")
        limit = _whole(params, "limit", 30)
        if not 1 <= limit <= 500:
            raise Refused(-1130, "parameter 'limit' is invalid.")
        oldest = self.market.now_ms() - KEPT_MS
        start, end = _whole(params, "startTime", oldest), _whole(params, "endTime", FOREVER)
        if start < oldest:
            raise Refused(-1130, "parameter 'startTime' is invalid.")
        if end < start:
            raise Refused(-1130, "parameter 'endTime' is invalid.")
        return PERIODS[period] * MINUTE_MS, start, end, limit

    # endpoints

    def exchange_info(self, params: Mapping[str, str]) -> Reply:
        assets = [
            {"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"},
            *({"asset": c.asset, "marginAvailable": True, "autoAssetExchange": "0"} for c in self.market.contracts),
        ]
        limits = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": int(self.minute.weight)},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ]
        return as_json(
            {
                "timezone": "UTC",
                "serverTime": self.market.now_ms(),
                "futuresType": "U_MARGINED",
                "rateLimits": limits,
                "exchangeFilters": [],
                "assets": assets,
                "symbols": [_listing(contract) for contract in self.market.contracts],
            }
        )

    def funding_rate(self, params: Mapping[str, str]) -> Reply:
        """From startTime on, ascending; without a range the most recent."""
        limit = limit_of(params, 100, 1000)
        contract = self._symbol(params)
        rows = page_of(self.market.settlements(contract.symbol, *range_of(params)), params, limit)
        pieces = [
            (f'{{"symbol":"{contract.symbol}","fundingTime":', "%d", rows.at),
            (',"fundingRate":', '"%.8f"', rows["rate"]),
        ]
        if not np.isnan(rows["mark"]).all():  # recordings of before the venue added the field do not have it
            pieces.append((',"markPrice":', '"%.8f"', rows["mark"]))
        return Reply(200, json_rows(pieces, "}"))

    def funding_info(self, params: Mapping[str, str]) -> Reply:
        """Contracts whose cap, floor or interval was adjusted. The recordings hold none."""
        if self.market.kind == "recorded":
            return as_json([])
        listed = [
            {
                "symbol": contract.symbol,
                "adjustedFundingRateCap": f"{contract.cap:.8f}",
                "adjustedFundingRateFloor": f"{-contract.cap:.8f}",
                "fundingIntervalHours": 8,
                "disclaimer": False,
                "updateTime": contract.listed_ms,
            }
            for contract in self.market.contracts
        ]
        return as_json(listed)

    def open_interest(self, params: Mapping[str, str]) -> Reply:
        contract = self._symbol(params)
        now = self.market.now_ms()
        finest = 15 if self.market.kind == "recorded" else 5
        rows = self.market.positioning(contract.symbol, finest * MINUTE_MS, now - DAY_MS, now)
        if not len(rows):
            raise Refused(-1000, "An unknown error occurred while processing the request.", 500)
        amount = f"{rows['oi_base'][-1]:.{contract.quantity_decimals}f}"
        return as_json({"symbol": contract.symbol, "openInterest": amount, "time": int(rows.at[-1])})

    def _bar_question(self, params: Mapping[str, str]) -> tuple[Contract, int, int]:
        """Contract, step and limit of a question for bars."""
        contract = self._symbol(params)
        interval = params.get("interval", "")
        if not interval:
            raise missing("interval")
        if interval not in INTERVALS:
            raise Refused(-1120, "Invalid interval.")
        return contract, INTERVALS[interval] * MINUTE_MS, limit_of(params, 500, 1500)

    def premium_klines(self, params: Mapping[str, str]) -> Reply:
        """Bars of the premium index; of what is to be ignored, element 8 counts the samples, one every five seconds."""
        contract, step, limit = self._bar_question(params)
        rows = page_of(self.market.premium_bars(contract.symbol, step, *range_of(params)), params, limit)
        pieces = [
            ("[", "%d", rows.at),
            *((",", '"%.8f"', rows[name]) for name in ("open", "high", "low", "close")),
            (',"0",', "%d", rows.at + (step - 1)),
        ]
        return Reply(200, json_rows(pieces, f',"0",{step // SAMPLE_MS},"0","0","0"]'))

    def klines(self, params: Mapping[str, str]) -> Reply:
        contract, step, limit = self._bar_question(params)
        rows = page_of(self.market.bars(contract.symbol, step, *range_of(params)), params, limit)
        price, amount = f'"%.{contract.price_decimals}f"', f'"%.{contract.quantity_decimals}f"'
        pieces = [
            ("[", "%d", rows.at),
            (",", price, rows["open"]),
            (",", price, rows["high"]),
            (",", price, rows["low"]),
            (",", price, rows["close"]),
            (",", amount, rows["volume"]),
            (",", "%d", rows.at + (step - 1)),
            (",", '"%.5f"', rows["quote_volume"]),
            (",", "%d", rows["trades"]),
            (",", amount, rows["taker_buy"]),
            (",", '"%.5f"', rows["taker_buy_quote"]),
        ]
        return Reply(200, json_rows(pieces, ',"0"]'))

    def premium_index(self, params: Mapping[str, str]) -> Reply:
        if "symbol" in params:
            return as_json(self._premium(self._symbol(params)))
        known = [] if self.market.kind == "recorded" else self.market.contracts
        return as_json([self._premium(contract) for contract in known])

    def _premium(self, contract: Contract) -> dict[str, Any]:
        now = self.market.premium(contract.symbol)
        text = {name: None if np.isnan(value) else f"{value:.8f}" for name, value in now.items()}
        return {
            "symbol": contract.symbol,
            "markPrice": text["mark"],
            "indexPrice": text["index"],
            "estimatedSettlePrice": text["index"],
            "lastFundingRate": text["rate"],
            "interestRate": None if text["rate"] is None else "0.00010000",
            "nextFundingTime": None if text["next_ms"] is None else int(now["next_ms"]),
            "time": self.market.now_ms(),
        }

    def open_interest_history(self, params: Mapping[str, str]) -> Reply:
        """Stamped at the snapshot. The newest `limit` rows of the range: pages are walked by endTime."""
        contract = self._symbol(params)
        step, start, end, limit = self._data_range(params)
        rows = self.market.positioning(contract.symbol, step, start, end).take(slice(-limit, None))
        pieces = [
            (f'{{"symbol":"{contract.symbol}","sumOpenInterest":', '"%.8f"', rows["oi_base"]),
            (',"sumOpenInterestValue":', '"%.8f"', rows["oi_usd"]),
            (',"timestamp":', "%d", rows.at),
        ]
        return Reply(200, json_rows(pieces, "}"))

    def ratio(self, name: str, params: Mapping[str, str]) -> Reply:
        """Stamped at the snapshot; long + short = 1."""
        contract = self._symbol(params)
        step, start, end, limit = self._data_range(params)
        rows = self.market.positioning(contract.symbol, step, start, end).take(slice(-limit, None))
        pieces = [
            (f'{{"symbol":"{contract.symbol}","longAccount":', '"%.4f"', rows[f"{name}_long"]),
            (',"longShortRatio":', '"%.4f"', rows[f"{name}_ratio"]),
            (',"shortAccount":', '"%.4f"', rows[f"{name}_short"]),
            (',"timestamp":', "%d", rows.at),
        ]
        return Reply(200, json_rows(pieces, "}"))

    def taker(self, params: Mapping[str, str]) -> Reply:
        """Stamped at the START of the bucket, unlike its neighbours (recordings.py says how that was measured)."""
        contract = self._symbol(params)
        step, start, end, limit = self._data_range(params)
        rows = self.market.taker(contract.symbol, step, start, end).take(slice(-limit, None))
        pieces = [
            ('{"buySellRatio":', '"%.4f"', rows["ratio"]),
            (',"sellVol":', '"%.4f"', rows["sell"]),
            (',"buyVol":', '"%.4f"', rows["buy"]),
            (',"timestamp":', "%d", rows.at),
        ]
        return Reply(200, json_rows(pieces, "}"))


def _no_such_path(path: str) -> Reply:
    return as_json({"code": -5000, "msg": f"Path {path}, Method GET is invalid"}, 404)


def missing(name: str) -> Refused:
    return Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise missing(name)
    return int(text)


def limit_of(params: Mapping[str, str], default: int, most: int) -> int:
    limit = _whole(params, "limit", default)
    if not 1 <= limit <= most:
        raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def range_of(params: Mapping[str, str]) -> tuple[int, int]:
    return _whole(params, "startTime", 0), _whole(params, "endTime", FOREVER)


def page_of(rows: Rows, params: Mapping[str, str], limit: int) -> Rows:
    """With a start the page begins there; without one it is the newest before the end."""
    return rows.take(slice(None, limit) if "startTime" in params else slice(-limit, None))


def _listing(contract: Contract) -> dict[str, Any]:
    """One entry of exchangeInfo; filters as the venue lists them, limits of the trading engine being nobody's business here."""
    tick, lot = f"{contract.tick:.{contract.price_decimals}f}", f"{10.0**-contract.quantity_decimals:g}"
    return {
        "symbol": contract.symbol,
        "pair": contract.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": PERPETUAL_DELIVERY_MS,
        "onboardDate": contract.listed_ms,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": contract.asset,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": contract.price_decimals,
        "quantityPrecision": contract.quantity_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [contract.kind],
        "permissionSets": ["GRID", "COPY"],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "4529764", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "1000", "stepSize": lot},
            {"filterType": "MARKET_LOT_SIZE", "minQty": lot, "maxQty": "120", "stepSize": lot},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
            {"filterType": "MIN_NOTIONAL", "notional": "100"},
            {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
            {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }

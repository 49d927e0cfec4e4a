"""Bybit v5 public REST in its own format: envelopes, newest rows first, cursors, limits, errors with HTTP 200.

Documents: https://bybit-exchange.github.io/docs/v5/market/open-interest and its siblings, .../docs/v5/rate-limit, .../docs/v5/error
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from sandbox.limits import Limit
from sandbox.market import DAY_MS, HOUR_MS, Contract, Market, Rows
from sandbox.wire.reply import JSON, Column, Query, Reply, Venue, as_json, json_rows
from transforms.windows import to_ms, utc

MINUTE_MS: Final = 60_000
#: the finer ones the venue has (1m, 3m) lie below the grid of the simulated market: refused here as invalid
INTERVALS: Final = {"5": 5, "15": 15, "30": 30, "60": 60, "120": 120, "240": 240, "360": 360, "720": 720, "D": 1440}
PERIODS: Final = {"5min": 5, "15min": 15, "30min": 30, "1h": 60, "4h": 240, "1d": 1440}
STATUSES: Final = ("Trading", "PreLaunch", "Delivering", "Closed")
#: rows from this stamp on carry a one-sided figure beside the sum of both sides
SINGLE_SINCE_MS: Final = to_ms(utc("2026-06-11"))
#: coins with an inverse perpetual, and what is held and traded there beside the linear one
INVERSE: Final = ("BTC", "ETH")
INVERSE_SHARE: Final = 0.12
FOREVER: Final = 2**62
#: the document has 600 requests in 5 s per IP, then a ban of ten minutes; that the first warning comes at a fifth of it a second is ours
IP_LIMIT: Final = 600
BAN_S: Final = 600.0


class Refused(Exception):
    """An error of the venue, with HTTP 200."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Listed(NamedTuple):
    """A contract as this venue spells it; `share` of the linear contract's amounts are held in it."""

    symbol: str
    category: str
    contract: Contract
    share: float


class Bybit:
    """api.bybit.com. Of inverse contracts nothing was recorded: a replay lists none."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.clock = clock
        self.second = Limit(IP_LIMIT / 5 * scale, 1, clock)
        self.address = Limit(IP_LIMIT * scale, 5, clock, patience=0, ban=BAN_S)
        contracts: Sequence[Contract] = market.contracts
        inverse = () if market.kind == "recorded" else INVERSE
        self.listed = [
            *(Listed(one.symbol, "linear", one, 1.0) for one in contracts),
            *(Listed(f"{one.asset}USD", "inverse", one, INVERSE_SHARE) for one in contracts if one.asset in inverse),
        ]
        self.routes: dict[str, Callable[[Mapping[str, str]], tuple[bytes, Mapping[str, str]]]] = {
            "/v5/market/instruments-info": self.instruments,
            "/v5/market/open-interest": self.open_interest,
            "/v5/market/account-ratio": self.account_ratio,
            "/v5/market/kline": self.kline,
            "/v5/market/premium-index-price-kline": self.premium_kline,
            "/v5/market/funding/history": self.funding_history,
            "/v5/market/tickers": self.tickers,
        }

    def answer(self, query: Query) -> Reply:
        if self.address.take(1) is not None:
            return Reply(403, b"403, access too frequent", "text/plain")
        wait = self.second.take(1)
        if wait is not None:
            reset = {"X-Bapi-Limit-Reset-Timestamp": str(int((self.clock() + wait) * 1000) + 1)}
            return self._refused(10006, "Too many visits. Exceeded the API Rate Limit.", reset)
        if query.path == "/v5/market/time":
            now = self.market.now_ms()
            said = {"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)}
            return as_json({"retCode": 0, "retMsg": "OK", "result": said, "retExtInfo": {}, "time": now})
        route = self.routes.get(query.path)
        if route is None:
            return Reply(404, b"404 page not found", "text/plain")
        try:
            rows, head = route(query.params)
        except Refused as refused:
            return self._refused(refused.code, str(refused))
        words = "".join(f'"{name}":"{value}",' for name, value in head.items())
        envelope = f'{{"retCode":0,"retMsg":"OK","result":{{{words}"list":'.encode()
        return Reply(200, envelope + rows + f'}},"retExtInfo":{{}},"time":{self.market.now_ms()}}}'.encode(), JSON)

    def _refused(self, code: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        return as_json({"retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}, "time": self.market.now_ms()}, 200, headers)

    # parameters

    def _category(self, params: Mapping[str, str], allowed: tuple[str, ...] = ("linear", "inverse")) -> str:
        found = params.get("category", "")
        if found not in allowed:
            raise Refused(10001, "params error: Category is invalid")
        return found

    def _one(self, params: Mapping[str, str], allowed: tuple[str, ...] = ("linear", "inverse")) -> Listed:
        category = self._category(params, allowed)
        symbol = params.get("symbol", "")
        one = next((one for one in self.listed if (one.symbol, one.category) == (symbol, category)), None)
        if one is None:
            raise Refused(10001, "params error: Symbol Invalid" if symbol else "params error: symbol is required")
        return one

    # endpoints

    def instruments(self, params: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        """In pages by cursor; what is not asked for by its status is trading."""
        category = self._category(params)
        status = params.get("status", "Trading")
        if status not in STATUSES:
            raise Refused(10001, "params error: status invalid")
        limit = _limit(params, 500, 1000)
        found = [one for one in self.listed if one.category == category and status == "Trading"]
        cursor = params.get("cursor", "")
        names = [f"last%3D{one.symbol}" for one in found]
        if cursor and cursor not in names:
            raise Refused(10001, "params error: cursor invalid")
        begin = names.index(cursor) + 1 if cursor else 0
        page = found[begin : begin + limit]
        onward = f"last%3D{page[-1].symbol}" if begin + limit < len(found) else ""
        return as_json([_listing(one) for one in page]).body, {"category": category, "nextPageCursor": onward}

    def open_interest(self, params: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        """Snapshots at their stamps, the sum of both sides: coins of linear, USD of inverse contracts."""
        one = self._one(params)
        step = PERIODS.get(params.get("intervalTime", ""))
        if step is None:
            raise Refused(10001, "params error: intervalTime invalid")
        rows, onward = _cursored(
            lambda start, end: self.market.positioning(one.contract.symbol, step * MINUTE_MS, start, end), params, _limit(params, 50, 200)
        )
        both, decimals = self._interest(one, rows)
        halves = np.where(rows.at >= SINGLE_SINCE_MS, both / 2, np.nan)
        head = {"symbol": one.symbol, "category": one.category, "nextPageCursor": onward}
        told = [
            json_rows([('{"openInterest":', '"%.8f"', both[chosen]), *single, (',"timestamp":', '"%d"', rows.at[chosen])], "}")[1:-1]
            for chosen, single in (
                (rows.at >= SINGLE_SINCE_MS, [(',"singleOpenInterest":', f'"%.{decimals + 1}f"', halves[rows.at >= SINGLE_SINCE_MS])]),
                (rows.at < SINGLE_SINCE_MS, list[tuple[str, str, Column]]()),
            )
            if chosen.any()
        ]
        return b"[" + b",".join(told) + b"]", head

    def _interest(self, one: Listed, rows: Rows) -> tuple[Any, int]:
        """Both sides, rounded as the venue counts, and the decimals of that."""
        if one.category == "inverse":
            return np.round(2.0 * one.share * rows["oi_usd"]), 0
        decimals = one.contract.quantity_decimals
        return np.round(2.0 * rows["oi_base"], decimals), decimals

    def account_ratio(self, params: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        one = self._one(params)
        step = PERIODS.get(params.get("period", ""))
        if step is None:
            raise Refused(10001, "params error: period invalid")
        rows, onward = _cursored(
            lambda start, end: self.market.positioning(one.contract.symbol, step * MINUTE_MS, start, end), params, _limit(params, 50, 500)
        )
        pieces = [
            (f'{{"symbol":"{one.symbol}","buyRatio":', '"%.4f"', rows["global_account_long"]),
            (',"sellRatio":', '"%.4f"', rows["global_account_short"]),
            (',"timestamp":', '"%d"', rows.at),
        ]
        return json_rows(pieces, "}"), {"nextPageCursor": onward}

    def kline(self, params: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        """Linear: volume in coins, turnover in USDT. Inverse: volume in USD, turnover in coins."""
        one = self._one(params)
        rows = self._bars(params, lambda step, start, end: self.market.bars(one.contract.symbol, step, start, end))
        price, amount = f'"%.{one.contract.price_decimals}f"', f'"%.{one.contract.quantity_decimals}f"'
        coins, worth = rows["volume"] * one.share, rows["quote_volume"] * one.share
        amounts = (
            [(",", amount, coins), (",", '"%.4f"', worth)] if one.category == "linear" else [(",", '"%.0f"', worth), (",", '"%.8f"', coins)]
        )
        pieces = [("[", '"%d"', rows.at), *((",", price, rows[name]) for name in ("open", "high", "low", "close")), *amounts]
        return json_rows(pieces, "]"), {"symbol": one.symbol, "category": one.category}

    def premium_kline(self, params: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        one = self._one(params, ("linear",))
        rows = self._bars(params, lambda step, start, end: self.market.premium_bars(one.contract.symbol, step, start, end))
        pieces = [("[", '"%d"', rows.at), *((",", '"%.8f"', rows[name]) for name in ("open", "high", "low", "close"))]
        return json_rows(pieces, "]"), {"symbol": one.symbol, "category": one.category}

    def _bars(self, params: Mapping[str, str], found: Callable[[int, int, int], Rows]) -> Rows:
        step = INTERVALS.get(params.get("interval", ""))
        if step is None:
            raise Refused(10001, "params error: interval invalid")
        limit = _limit(params, 200, 1000)
        return _newest(found(step * MINUTE_MS, _stamp(params, "start", 0), _stamp(params, "end", FOREVER)), limit)

    def funding_history(self, params: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        """The newest settlements before endTime; a startTime without it is an error."""
        one = self._one(params)
        if "startTime" in params and "endTime" not in params:
            raise Refused(10001, "params error: endTime is required when startTime is given")
        rows = self.market.settlements(one.contract.symbol, _stamp(params, "startTime", 0), _stamp(params, "endTime", FOREVER))
        rows = _newest(rows, _limit(params, 200, 200))
        pieces = [
            (f'{{"symbol":"{one.symbol}","fundingRate":', '"%.8f"', rows["rate"]),
            (',"fundingRateTimestamp":', '"%d"', rows.at),
        ]
        return json_rows(pieces, "}"), {"category": one.category}

    def tickers(self, params: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        category = self._category(params)
        chosen = [self._one(params)] if "symbol" in params else [one for one in self.listed if one.category == category]
        known = [one for one in chosen if not math.isnan(self.market.premium(one.contract.symbol)["mark"])]  # nobody recorded marks
        return as_json([self._ticker(one) for one in known]).body, {"category": category}

    def _ticker(self, one: Listed) -> dict[str, str]:
        now = self.market.now_ms()
        said = self.market.premium(one.contract.symbol)
        held = self.market.positioning(one.contract.symbol, 5 * MINUTE_MS, now - DAY_MS, now)
        both, decimals = self._interest(one, held.take(slice(-1, None)))
        worth = both / said["mark"] if one.category == "inverse" else both * said["mark"]
        price = one.contract.price_decimals
        single = {"singleOpenInterest": f"{both[-1] / 2:.{decimals + 1}f}", "singleOpenInterestValue": f"{worth[-1] / 2:.4f}"}
        return {
            "symbol": one.symbol,
            "indexPrice": f"{said['index']:.{price}f}",
            "markPrice": f"{said['mark']:.{price}f}",
            "openInterest": f"{both[-1]:.{decimals}f}",
            "openInterestValue": f"{worth[-1]:.4f}",
            **(single if now >= SINGLE_SINCE_MS else {}),
            "fundingRate": f"{said['rate']:.8f}",
            "nextFundingTime": f"{said['next_ms']:.0f}",
            "fundingIntervalHour": f"{self._interval_h(one):.0f}",
            "fundingCap": f"{one.contract.cap:.6f}",
            "predictedDeliveryPrice": "",
            "basisRate": "",
            "deliveryFeeRate": "",
            "deliveryTime": "0",
            "preOpenPrice": "",
            "preQty": "",
            "curPreListingPhase": "",
        }

    def _interval_h(self, one: Listed) -> float:
        """Hours between the last two settlements."""
        now = self.market.now_ms()
        at = self.market.settlements(one.contract.symbol, now - 3 * DAY_MS, now).at
        return float(at[-1] - at[-2]) / HOUR_MS if len(at) > 1 else 8.0


def _listing(one: Listed) -> dict[str, Any]:
    """One entry of instruments-info; limits of the trading engine being nobody's business here."""
    inverse = one.category == "inverse"
    tick = f"{one.contract.tick:.{one.contract.price_decimals}f}"
    step = "1" if inverse else f"{10.0**-one.contract.quantity_decimals:g}"
    return {
        "symbol": one.symbol,
        "contractType": "InversePerpetual" if inverse else "LinearPerpetual",
        "status": "Trading",
        "baseCoin": one.contract.asset,
        "quoteCoin": "USD" if inverse else "USDT",
        "launchTime": str(one.contract.listed_ms),
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(one.contract.price_decimals),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": tick, "maxPrice": "1999999.80", "tickSize": tick},
        "lotSizeFilter": {"maxOrderQty": "1190", "minOrderQty": step, "qtyStep": step, "postOnlyMaxOrderQty": "1190"},
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": one.contract.asset if inverse else "USDT",
        "copyTrading": "none" if inverse else "both",
        "upperFundingRate": f"{one.contract.cap:g}",
        "lowerFundingRate": f"{-one.contract.cap:g}",
        "isPreListing": False,
        "preListingInfo": None,
    }


def _limit(params: Mapping[str, str], default: int, most: int) -> int:
    limit = _stamp(params, "limit", default)
    if not 1 <= limit <= most:
        raise Refused(10001, "params error: limit invalid")
    return limit


def _stamp(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 15:
        raise Refused(10001, f"params error: {name} invalid")
    return int(text)


def _newest(rows: Rows, limit: int) -> Rows:
    """The newest rows of a range, newest first."""
    page = rows.take(slice(-limit, None))
    return page.take(slice(None, None, -1))


def _cursored(found: Callable[[int, int], Rows], params: Mapping[str, str], limit: int) -> tuple[Rows, str]:
    """The newest rows of a range, newest first, and the cursor to the older ones: given with every full page."""
    start, end = _stamp(params, "startTime", 0), _stamp(params, "endTime", FOREVER)
    if cursor := params.get("cursor", ""):
        end = min(end, _stamp({"cursor": cursor.removeprefix("lasttime%3D")}, "cursor", 0) - 1)
    rows = _newest(found(start, end), limit)
    return rows, f"lasttime%3D{int(rows.at[-1])}" if len(rows) == limit else ""


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Bybit(market, clock, scale)}

"""OKX's public REST (v5) in its own format: envelopes, contracts, newest first, open ranges, errors under HTTP 200.

The market's symbol is the linear swap; the inverse one is the same crowd, a fifth of it. Documents: https://www.okx.com/docs-v5/en/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from sandbox.limits import Limit
from sandbox.market import DAY_MS, HOUR_MS, Contract, Floats, Market, Rows
from sandbox.venues import PLACES
from sandbox.wire.reply import JSON, Query, Reply, Venue, as_json, json_rows

MINUTE_MS: Final = 60_000
#: ctVal of a linear swap in coins (others: 1), and of an inverse one in USD (others: 10)
COINS: Final = {"BTC": 0.01, "ETH": 0.1}
DOLLARS: Final = {"BTC": 100.0}
INVERSE_SHARE: Final = 0.2
#: the venue knows more; these are what the simulated market can say
PERIODS: Final = {"5m": 5, "15m": 15, "30m": 30, "1H": 60, "2H": 120, "4H": 240}
RATIO_PATHS: Final = {
    "long-short-account-ratio-contract": "global_account",
    "long-short-account-ratio-contract-top-trader": "top_account",
    "long-short-position-ratio-contract-top-trader": "top_position",
}
PAGE: Final = 100
RUBIK_ROWS: Final = 1440
FUNDING_MS: Final = 90 * DAY_MS
#: a liquidated position is bankrupt half a percent beyond the price
BANKRUPT: Final = 0.005
FOREVER: Final = 2**62


class Refused(Exception):
    """An error body of the venue."""

    def __init__(self, code: str, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.reply = as_json({"code": code, "data": [], "msg": message}, status)


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap over one of the market's contracts. `size`: coins where linear, USD where inverse; `share`: of the market's amounts."""

    contract: Contract
    quote: str
    size: float
    share: float

    @property
    def family(self) -> str:
        return f"{self.contract.asset}-{self.quote}"

    @property
    def name(self) -> str:
        return f"{self.family}-SWAP"

    @property
    def linear(self) -> bool:
        return self.quote == "USDT"


class Okx:
    """www.okx.com. Each endpoint has the requests per two seconds that the venue documents, times `scale`."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        # a recording is of another venue: shown as this one's, it would confirm itself
        contracts_here = market.contracts if market.kind == "simulated" else ()
        self.swaps = {one.name: one for contract in contracts_here for one in _swaps(contract)}
        stat, contracts = "/api/v5/rubik/stat", "/api/v5/rubik/stat/contracts"
        per_two_seconds: dict[str, tuple[int, Callable[[Mapping[str, str]], Reply]]] = {
            "/api/v5/public/time": (10, lambda _: _wrapped(b'[{"ts":"%d"}]' % market.now_ms())),
            "/api/v5/public/instruments": (20, self.instruments),
            "/api/v5/public/open-interest": (20, self.open_interest),
            "/api/v5/public/mark-price": (10, self.mark_price),
            "/api/v5/public/funding-rate": (10, self.funding_rate),
            "/api/v5/public/funding-rate-history": (10, self.funding_rate_history),
            "/api/v5/public/liquidation-orders": (40, self.liquidation_orders),
            "/api/v5/market/history-candles": (20, self.history_candles),
            f"{contracts}/open-interest-history": (5, self.open_interest_history),
            f"{stat}/taker-volume-contract": (5, self.taker_volume),
            **{f"{contracts}/{path}": (5, partial(self.ratio, name)) for path, name in RATIO_PATHS.items()},
        }
        self.routes = {path: route for path, (_, route) in per_two_seconds.items()}
        self.limits = {path: Limit(most * scale, 2, clock) for path, (most, _) in per_two_seconds.items()}

    def answer(self, query: Query) -> Reply:
        route = self.routes.get(query.path)
        if route is None:
            return Refused("404", "Not Found", 404).reply
        if self.limits[query.path].take(1) is not None:
            return Refused("50011", "Rate limit reached. Please refer to API documentation and throttle requests accordingly").reply
        try:
            return route(query.params)
        except Refused as refused:
            return refused.reply

    # parameters

    def _swap(self, params: Mapping[str, str]) -> Swap:
        name = params.get("instId", "")
        if not name:
            raise _empty("instId")
        if name not in self.swaps:
            raise Refused("51001", "Instrument ID or Spread ID doesn't exist.")
        return self.swaps[name]

    def _rubik(self, params: Mapping[str, str]) -> tuple[Swap, int, int, int, int]:
        """Swap, step, oldest and newest label (inclusive), and limit: the last 1,440 of each period."""
        swap = self._swap(params)
        period = params.get("period", "5m")
        if period not in PERIODS:
            raise Refused("51000", "Parameter period error")
        step = PERIODS[period] * MINUTE_MS
        running = self.market.now_ms() // step * step
        first, last = max(_whole(params, "begin", 0) + 1, running - (RUBIK_ROWS - 1) * step), _whole(params, "end", FOREVER) - 1
        return swap, step, first, min(last, running), _limit(params)

    # endpoints

    def instruments(self, params: Mapping[str, str]) -> Reply:
        _swaps_only(params)
        return as_json({"code": "0", "data": [_listing(swap) for swap in self.swaps.values()], "msg": ""})

    def _levels(self, swap: Swap, step: int, first: int, last: int, limit: int) -> Rows:
        """Positioning at the end of each period, labelled by its start, newest first; the row of the running period shows the level now."""
        rows = self.market.positioning(swap.contract.symbol, step, first + step, last + step)
        rows = Rows(rows.at - step, rows.columns)
        running = self.market.now_ms() // step * step
        now = self._now(swap)
        if len(now) and first <= running <= last and running not in rows.at:
            rows = Rows(np.append(rows.at, running), {name: np.append(column, now[name][-1]) for name, column in rows.columns.items()})
        return rows.take(slice(None, None, -1)).take(slice(None, limit))

    def _now(self, swap: Swap) -> Rows:
        finest = 5 * MINUTE_MS
        return self.market.positioning(swap.contract.symbol, finest, self.market.now_ms() - DAY_MS, self.market.now_ms()).take(
            slice(-1, None)
        )

    def open_interest_history(self, params: Mapping[str, str]) -> Reply:
        swap, *asked = self._rubik(params)
        rows = self._levels(swap, *asked)
        pieces = [
            ('["', "%d", rows.at),
            ('",', '"%.4f"', _contracts(swap, rows["oi_base"], rows["oi_usd"])),
            (",", '"%.6f"', rows["oi_base"] * swap.share),
            (",", '"%.2f"', rows["oi_usd"] * swap.share),
        ]
        return _wrapped(json_rows(pieces, "]"))

    def ratio(self, name: str, params: Mapping[str, str]) -> Reply:
        swap, *asked = self._rubik(params)
        rows = self._levels(swap, *asked)
        return _wrapped(json_rows([('["', "%d", rows.at), ('",', '"%.6f"', rows[f"{name}_ratio"])], "]"))

    def taker_volume(self, params: Mapping[str, str]) -> Reply:
        """Sells before buys; unit 0 is coins, 1 contracts (the default), 2 USD."""
        swap, step, first, last, limit = self._rubik(params)
        unit = params.get("unit", "1")
        if unit not in ("0", "1", "2"):
            raise Refused("51000", "Parameter unit error")
        rows = self.market.taker(swap.contract.symbol, step, first, last).take(slice(None, None, -1)).take(slice(None, limit))
        bars = self.market.bars(swap.contract.symbol, step, first, last)
        close = dict(zip(bars.at.tolist(), bars["close"].tolist(), strict=True))
        prices = np.array([close.get(at, np.nan) for at in rows.at.tolist()], dtype=np.float64)
        pieces: list[tuple[str, str, Any]] = [('["', "%d", rows.at)]
        for literal, side in (('",', "sell"), (",", "buy")):
            coins = rows[side]
            amount = coins * swap.share if unit == "0" else _contracts(swap, coins, coins * prices)
            pieces.append((literal, '"%.6f"', coins * swap.share * prices if unit == "2" else amount))
        return _wrapped(json_rows(pieces, "]"))

    def history_candles(self, params: Mapping[str, str]) -> Reply:
        """Amounts in contracts, in the base currency and in the quote currency; the last element says whether the bar is over."""
        swap, limit = self._swap(params), _limit(params)
        bar = params.get("bar", "5m")
        if bar not in PERIODS:
            raise Refused("51000", "Parameter bar error")
        step = PERIODS[bar] * MINUTE_MS
        rows = _newest(self.market.bars(swap.contract.symbol, step, *_open_range(params)), limit)
        price = f'"%.{swap.contract.price_decimals}f"'
        pieces = [
            ('["', "%d", rows.at),
            ('",', price, rows["open"]),
            *((",", price, rows[name]) for name in ("high", "low", "close")),
            (",", '"%.4f"', _contracts(swap, rows["volume"], rows["quote_volume"])),
            (",", '"%.6f"', rows["volume"] * swap.share),
            (",", '"%.4f"', rows["quote_volume"] * swap.share),
            (",", '"%d"', (rows.at + step <= self.market.now_ms()).astype(np.int64)),
        ]
        return _wrapped(json_rows(pieces, "]"))

    def funding_rate_history(self, params: Mapping[str, str]) -> Reply:
        """The rate that was paid, and the one predicted last before it."""
        swap, limit = self._swap(params), _limit(params)
        newer, older = _open_range(params)
        rows = _newest(self.market.settlements(swap.contract.symbol, max(newer, self.market.now_ms() - FUNDING_MS), older), limit)
        pieces = [
            (f'{{"instType":"SWAP","instId":"{swap.name}","fundingRate":', '"%.10f"', rows["rate"] * 1.01 + 1e-6),
            (',"realizedRate":', '"%.10f"', rows["rate"]),
            (',"fundingTime":"', "%d", rows.at),
        ]
        return _wrapped(json_rows(pieces, '","method":"current_period","formulaType":"withRate"}'))

    def funding_rate(self, params: Mapping[str, str]) -> Reply:
        swap = self._swap(params)
        now = self.market.premium(swap.contract.symbol)
        if np.isnan(now["rate"]) or np.isnan(now["next_ms"]):
            return _wrapped(b"[]")
        due, width = int(now["next_ms"]), PLACES["okx"].funding_h * HOUR_MS
        row = {
            "formulaType": "withRate",
            "fundingRate": f"{now['rate']:.10f}",
            "fundingTime": str(due),
            "impactValue": "20000.0000000000000000",
            "instId": swap.name,
            "instType": "SWAP",
            "interestRate": "0.0001000000000000",
            "maxFundingRate": f"{swap.contract.cap:.5f}",
            "method": "current_period",
            "minFundingRate": f"{-swap.contract.cap:.5f}",
            "nextFundingRate": "",
            "nextFundingTime": str(due + width),
            "premium": f"{now['mark'] / now['index'] - 1.0:.10f}",
            "prevFundingTime": str(due - width),
            "settFundingRate": "",
            "settState": "settled",
            "ts": str(self.market.now_ms()),
        }
        return as_json({"code": "0", "data": [row], "msg": ""})

    def mark_price(self, params: Mapping[str, str]) -> Reply:
        _swaps_only(params)
        asked = [self._swap(params)] if "instId" in params else list(self.swaps.values())
        marks = [(swap, self.market.premium(swap.contract.symbol)["mark"]) for swap in asked]
        now = str(self.market.now_ms())
        data = [
            {"instId": swap.name, "instType": "SWAP", "markPx": f"{price:.{swap.contract.price_decimals}f}", "ts": now}
            for swap, price in marks
            if not np.isnan(price)
        ]
        return as_json({"code": "0", "data": data, "msg": ""})

    def open_interest(self, params: Mapping[str, str]) -> Reply:
        _swaps_only(params)
        asked = [self._swap(params)] if "instId" in params else list(self.swaps.values())
        return as_json({"code": "0", "data": [row for swap in asked for row in self._level(swap)], "msg": ""})

    def _level(self, swap: Swap) -> list[dict[str, str]]:
        rows = self._now(swap)
        return [
            {
                "instId": swap.name,
                "instType": "SWAP",
                "oi": f"{contracts:.4f}",
                "oiCcy": f"{coins * swap.share:.6f}",
                "oiUsd": f"{usd * swap.share:.2f}",
                "ts": str(at),
            }
            for at, coins, usd, contracts in zip(
                rows.at.tolist(), rows["oi_base"], rows["oi_usd"], _contracts(swap, rows["oi_base"], rows["oi_usd"]), strict=True
            )
        ]

    def liquidation_orders(self, params: Mapping[str, str]) -> Reply:
        """Orders of the last day, newest first, all of a contract in one group. A page counts orders."""
        _swaps_only(params)
        family = params.get("instFamily", params.get("uly", ""))
        if not family:
            raise _empty("instFamily")
        if params.get("state", "filled") not in ("filled", "unfilled"):
            raise Refused("51000", "Parameter state error")
        swap = self.swaps.get(f"{family}-SWAP")
        if swap is None:
            raise Refused("51001", "Instrument ID or Spread ID doesn't exist.")
        first, last = _open_range(params)
        orders = [] if params.get("state") == "unfilled" else self._orders(swap)
        page = [order for order in orders if first <= int(order["ts"]) <= last][: _limit(params)]
        group = {"details": page, "instFamily": family, "instId": swap.name, "instType": "SWAP", "totalLoss": "0", "uly": family}
        return as_json({"code": "0", "data": [group] if page else [], "msg": ""})

    def _orders(self, swap: Swap) -> list[dict[str, str]]:
        """What the market liquidated in each closed bucket of the last day, in up to three orders a side, of which some are alike to the letter."""
        now, step = self.market.now_ms(), 5 * MINUTE_MS
        rows = self.market.liquidations(swap.contract.symbol, step, now - DAY_MS, now - step)
        bars = self.market.bars(swap.contract.symbol, step, now - DAY_MS, now)
        close = dict(zip(bars.at.tolist(), bars["close"].tolist(), strict=True))
        found: list[tuple[int, dict[str, str]]] = []
        for n, at in enumerate(rows.at.tolist()):
            for name, side, beyond in (("long", "sell", -BANKRUPT), ("short", "buy", BANKRUPT)):
                coins, price = float(rows[name][n]), close.get(at, float("nan")) * (1.0 + beyond)
                if not coins > 0.0 or np.isnan(price):
                    continue
                parts = 1 + at // step % 3
                amount = coins * swap.share / parts
                lots = amount / swap.size if swap.linear else amount * price / swap.size
                for part in range(parts):
                    ts = at + (7_001 if name == "long" else 11_003) + (0 if at // step % 2 else part * 1_007)
                    order = {
                        "bkLoss": "0",
                        "bkPx": f"{price:.{swap.contract.price_decimals}f}",
                        "ccy": "",
                        "posSide": name,
                        "side": side,
                        "sz": f"{lots:.4f}",
                        "time": str(ts),
                        "ts": str(ts),
                    }
                    found.append((ts, order))
        return [order for _, order in sorted(found, key=lambda one: -one[0])]


def _swaps(contract: Contract) -> tuple[Swap, Swap]:
    return (
        Swap(contract, "USDT", COINS.get(contract.asset, 1.0), 1.0),
        Swap(contract, "USD", DOLLARS.get(contract.asset, 10.0), INVERSE_SHARE),
    )


def _contracts(swap: Swap, coins: Floats, usd: Floats) -> Floats:
    return np.asarray((coins if swap.linear else usd) * swap.share / swap.size)


def _wrapped(data: bytes) -> Reply:
    return Reply(200, b'{"code":"0","data":' + data + b',"msg":""}', JSON)


def _newest(rows: Rows, limit: int) -> Rows:
    return rows.take(slice(None, None, -1)).take(slice(None, limit))


def _empty(name: str) -> Refused:
    return Refused("50014", f"Parameter {name} can not be empty.")


def _swaps_only(params: Mapping[str, str]) -> None:
    if "instType" not in params:
        raise _empty("instType")
    if params["instType"] != "SWAP":
        raise Refused("51000", "Parameter instType error")


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 15:
        raise Refused("51000", f"Parameter {name} error")
    return int(text)


def _limit(params: Mapping[str, str]) -> int:
    limit = _whole(params, "limit", PAGE)
    if limit < 1:
        raise Refused("51000", "Parameter limit error")
    return min(limit, PAGE)


def _open_range(params: Mapping[str, str]) -> tuple[int, int]:
    """The inclusive range between `before` (newer than) and `after` (older than)."""
    return _whole(params, "before", 0) + 1, _whole(params, "after", FOREVER) - 1


def _listing(swap: Swap) -> dict[str, Any]:
    """One entry of the listing, without most limits of the trading engine."""
    asset = swap.contract.asset
    return {
        "alias": "",
        "baseCcy": "",
        "ctMult": "1",
        "ctType": "linear" if swap.linear else "inverse",
        "ctVal": f"{swap.size:g}",
        "ctValCcy": asset if swap.linear else "USD",
        "expTime": "",
        "instFamily": swap.family,
        "instId": swap.name,
        "instType": "SWAP",
        "listTime": str(swap.contract.listed_ms),
        "lotSz": "0.01",
        "quoteCcy": "",
        "settleCcy": "USDT" if swap.linear else asset,
        "state": "live",
        "tickSz": f"{swap.contract.tick:g}",
        "uly": swap.family,
    }


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Okx(market, clock, scale)}

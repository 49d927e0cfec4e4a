"""Gate's USDT futures by REST in its own format: contracts, two-sided statistics, page limits, refusals, error bodies.

Documents: https://www.gate.com/docs/developers/apiv4/en/#futures
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from sandbox.limits import Limit
from sandbox.market import DAY_MS, HOUR_MS, Contract, Floats, Market, Rows
from sandbox.wire.reply import JSON, Query, Reply, Venue, as_json, json_rows

#: minutes of an interval; those below the market's grid are refused as unknown
STATS_INTERVALS: Final = {"5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}
BAR_INTERVALS: Final = {**STATS_INTERVALS, "8h": 480}
MINUTE_MS: Final = 60_000
STATS_ROWS: Final = 100
BARS_ROWS: Final = 2000
PREMIUM_ROWS: Final = 1000
FUNDING_ROWS: Final = 1000
#: bars of the past that are served, counted from now
POINTS: Final = 10_000
KEPT_MS: Final = 180 * DAY_MS
#: a settlement is stamped when it was booked
BOOKED_MS: Final = 3_000
FOREVER: Final = 2**40
#: base units per contract
SIZES: Final = {"BTC": 0.0001, "ETH": 0.01, "SOL": 1.0}


class Refused(Exception):
    """An error body of the venue."""

    def __init__(self, label: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reply = as_json({"label": label, "message": message}, status)


class Gate:
    """api.gateio.ws/api/v4: 200 requests in 10 s for each public endpoint, times `scale`. A replayed recording holds nothing of this venue."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.clock = clock
        self.scale = scale
        self.limits: dict[str, Limit] = {}
        self.contracts: dict[str, Contract] = (
            {} if market.kind == "recorded" else {spelled(contract.symbol): contract for contract in market.contracts}
        )
        self.routes: dict[str, Callable[[Mapping[str, str]], Reply]] = {
            "/futures/usdt/contracts": self.listing,
            "/futures/usdt/contract_stats": self.stats,
            "/futures/usdt/candlesticks": self.candles,
            "/futures/usdt/premium_index": self.premiums,
            "/futures/usdt/funding_rate": self.funding,
        }

    def answer(self, query: Query) -> Reply:
        try:
            return self._asked(query)
        except Refused as refused:
            return refused.reply

    def _asked(self, query: Query) -> Reply:
        path, _, name = query.path.partition("/contracts/")
        route = self.routes.get(query.path)
        limit = self.limits.setdefault("contract" if name else query.path if route else "", Limit(200 * self.scale, 10, self.clock))
        wait = limit.take(1)
        if wait is not None:
            anew = {"X-Gate-RateLimit-Requests-Remain": "0", "X-Gate-RateLimit-Reset-Timestamp": str(int(self.clock() + wait) + 1)}
            return as_json({"label": "TOO_MANY_REQUESTS", "message": "Request Rate limit Exceeded"}, 429, anew)
        if name and path == "/futures/usdt":
            return as_json(self._state(name, self._named(name)))
        if route is None:
            raise Refused("NOT_FOUND", "Invalid URL", 404)
        return route(query.params)

    # parameters

    def _named(self, name: str) -> Contract:
        contract = self.contracts.get(name)
        if contract is None:
            raise Refused("CONTRACT_NOT_FOUND", f"contract {name} not found")
        return contract

    def _contract(self, params: Mapping[str, str]) -> Contract:
        if not params.get("contract"):
            raise Refused("MISSING_REQUIRED_PARAM", "Missing required parameter: contract")
        return self._named(params["contract"])

    # endpoints

    def listing(self, params: Mapping[str, str]) -> Reply:
        return as_json([self._state(name, contract) for name, contract in self.contracts.items()])

    def _state(self, name: str, contract: Contract) -> dict[str, Any]:
        """One contract; `position_size` holds the longs, so half of what contract_stats counts."""
        now_ms = self.market.now_ms()
        now = self.market.premium(contract.symbol)
        held = self.market.positioning(contract.symbol, 5 * MINUTE_MS, now_ms - DAY_MS, now_ms)
        size = size_of(contract)
        price = f"%.{contract.price_decimals}f"
        return {
            "name": name,
            "type": "direct",
            "quanto_multiplier": f"{size:.10g}",
            "mark_type": "index",
            "last_price": price % now["mark"],
            "mark_price": f"{now['mark']:.8f}",
            "index_price": f"{now['index']:.8f}",
            "funding_rate": f"{now['rate']:.8f}",
            "funding_rate_indicative": f"{now['rate']:.8f}",
            "funding_interval": 28_800,
            "funding_next_apply": int(now["next_ms"]) // 1000,
            "funding_offset": 0,
            "funding_rate_limit": f"{contract.cap:.8g}",
            "interest_rate": "0.0003",
            "in_delisting": False,
            "status": "trading",
            "create_time": contract.listed_ms // 1000,
            "launch_time": contract.listed_ms // 1000,
            "position_size": round(float(held["oi_base"][-1]) / size) if len(held) else 0,
            "order_price_round": f"{contract.tick:.{contract.price_decimals}f}",
            "order_size_min": 1,
            "leverage_min": "1",
            "leverage_max": "125",
            "enable_decimal": False,
            "contract_type": "",
        }

    def stats(self, params: Mapping[str, str]) -> Reply:
        """Ascending from `from` on, without it the newest; labelled at the bucket's start, stocks as at its end, the running one left out."""
        contract = self._contract(params)
        step = _step(params, STATS_INTERVALS, "5m")
        limit = _whole(params, "limit", 30)
        if not 1 <= limit <= STATS_ROWS:
            raise Refused("INVALID_PARAM_VALUE", "Invalid request parameter `limit` value")
        now = self.market.now_ms()
        start = _whole(params, "from", (now - KEPT_MS) // 1000) * 1000
        if start < now - KEPT_MS:
            raise Refused("INVALID_PARAM_VALUE", "from time exceeds 180-day limit")
        part = slice(None, limit) if "from" in params else slice(-limit, None)
        held = self.market.positioning(contract.symbol, step, start + step, now)
        flow, lost = (found(contract.symbol, step, start, now) for found in (self.market.taker, self.market.liquidations))
        at = np.intersect1d(held.at - step, np.intersect1d(flow.at, lost.at))[part]
        held, flow, lost = _at(held, at + step), _at(flow, at), _at(lost, at)
        size = size_of(contract)
        interest = np.round(2.0 * held["oi_base"] / size)
        with np.errstate(divide="ignore", invalid="ignore"):
            mark = np.where(held["oi_base"] > 0.0, held["oi_usd"] / held["oi_base"], 0.0)
        sizes = {name: np.round(rows[name] / size) for name, rows in (("buy", flow), ("sell", flow), ("long", lost), ("short", lost))}
        pieces: list[tuple[str, str, Floats | Any]] = [
            ('{"time":', "%d", at // 1000),
            (',"lsr_taker":', "%.4f", flow["ratio"]),
            (',"lsr_account":', "%.6f", held["global_account_ratio"]),
            (',"open_interest":', "%.0f", interest),
            (',"open_interest_usd":', "%.2f", interest * size * mark),
            (',"top_lsr_account":', "%.6f", held["top_account_ratio"]),
            (',"top_lsr_size":', "%.6f", held["top_position_ratio"]),
            (',"mark_price":', "%.8f", mark),
            (',"long_taker_size":', "%.0f", sizes["buy"]),
            (',"short_taker_size":', "%.0f", sizes["sell"]),
        ]
        for side in ("long", "short"):
            pieces.append((f',"{side}_liq_size":', "%.0f", sizes[side]))
            pieces.append((f',"{side}_liq_amount":', "%.6f", sizes[side] * size))
            pieces.append((f',"{side}_liq_usd":', "%.2f", sizes[side] * size * mark))
        return Reply(200, json_rows(pieces, "}"), JSON)

    def _bars(self, params: Mapping[str, str], most: int) -> tuple[Contract, int, int, int]:
        """Contract, step, first and last stamp of a question for bars (milliseconds)."""
        contract = self._contract(params)
        step = _step(params, BAR_INTERVALS, "5m")
        if "limit" in params and ("from" in params or "to" in params):
            raise Refused("INVALID_PARAM_VALUE", "limit conflicts with from and to")
        now = self.market.now_ms()
        count = _whole(params, "limit", 100)
        end = min(_whole(params, "to", FOREVER) * 1000, now)
        start = _whole(params, "from", max(0, end - (count - 1) * step) // 1000) * 1000
        if count > most or (end - start) // step + 1 > most:
            raise Refused("INVALID_PARAM_VALUE", f"Candlestick range too broad. Maximum {most} data points are allowed per request")
        if start < now - POINTS * step:
            raise Refused("INVALID_PARAM_VALUE", f"Candlestick too long ago. Maximum {POINTS} points ago are allowed")
        return contract, step, start, end

    def candles(self, params: Mapping[str, str]) -> Reply:
        contract, step, start, end = self._bars(params, BARS_ROWS)
        rows = self.market.bars(contract.symbol, step, start, end)
        price = f'"%.{contract.price_decimals}f"'
        pieces = [
            ('{"t":', "%d", rows.at // 1000),
            (',"v":', "%.0f", np.round(rows["volume"] / size_of(contract))),
            *((f',"{name[0]}":', price, rows[name]) for name in ("close", "high", "low", "open")),
            (',"sum":', '"%.5f"', rows["quote_volume"]),
        ]
        return Reply(200, json_rows(pieces, "}"), JSON)

    def premiums(self, params: Mapping[str, str]) -> Reply:
        contract, step, start, end = self._bars(params, PREMIUM_ROWS)
        rows = self.market.premium_bars(contract.symbol, step, start, end)
        pieces = [
            ('{"t":', "%d", rows.at // 1000),
            *((f',"{name[0]}":', '"%.8f"', rows[name]) for name in ("close", "high", "low", "open")),
        ]
        return Reply(200, json_rows(pieces, "}"), JSON)

    def funding(self, params: Mapping[str, str]) -> Reply:
        """Newest first; without a range about a month, whatever the limit."""
        contract = self._contract(params)
        now = self.market.now_ms()
        limit = _whole(params, "limit", 100)
        if not 1 <= limit <= FUNDING_ROWS:
            raise Refused("INVALID_PARAM_VALUE", "Invalid request parameter `limit` value")
        end = min(_whole(params, "to", FOREVER) * 1000, now)
        start = _whole(params, "from", (end - 30 * DAY_MS) // 1000) * 1000
        if start < now - KEPT_MS:
            raise Refused("INVALID_PARAM_VALUE", "from time exceeds 180-day limit")
        rows = self.market.settlements(contract.symbol, start - HOUR_MS, end)
        booked = rows.at + BOOKED_MS
        chosen = np.flatnonzero((booked >= start) & (booked <= end))[::-1][:limit]
        pieces = [('{"r":', '"%.10f"', rows["rate"][chosen]), (',"t":', "%d", booked[chosen] // 1000)]
        return Reply(200, json_rows(pieces, "}"), JSON)


def spelled(symbol: str) -> str:
    """The venue's name of a contract: BTCUSDT is BTC_USDT."""
    return f"{symbol.removesuffix('USDT')}_USDT"


def size_of(contract: Contract) -> float:
    """Base units per contract."""
    return SIZES.get(contract.asset, 10.0)


def _at(rows: Rows, at: Any) -> Rows:
    return rows.take(np.isin(rows.at, at))


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 11:
        raise Refused("INVALID_PARAM_VALUE", f"Invalid request parameter `{name}` value: {text[:20]}")
    return int(text)


def _step(params: Mapping[str, str], known: Mapping[str, int], default: str) -> int:
    """Milliseconds of the interval asked for."""
    name = params.get("interval", default)
    if name not in known:
        raise Refused("INVALID_PARAM_VALUE", f"Invalid request parameter `interval` value: {name[:20]}")
    return known[name] * MINUTE_MS


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Gate(market, clock, scale)}

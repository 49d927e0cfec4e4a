"""Hyperliquid's info endpoint: POST with JSON, weights, pages of settlements, the last 5000 bars, refusals.

Documents: https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint and .../rate-limits-and-user-limits
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from sandbox.limits import Limit
from sandbox.market import HOUR_MS, Contract, Market, Rows
from sandbox.wire.reply import Query, Reply, Venue, as_json, json_rows
from transforms.instruments import coin

#: the venue also knows 1m..5m and 3d..1M, which the markets' grid does not hold: refused here as unreadable
INTERVALS: Final = {"15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "8h": 480, "12h": 720, "1d": 1440}
MINUTE_MS: Final = 60_000
KEPT: Final = 5000
FUNDING_ROWS: Final = 500
#: a settlement is stamped when its block was made, some milliseconds after the hour
JITTER_MS: Final = 97
WEIGHTS: Final = {"allMids": 2.0, "l2Book": 2.0, "exchangeStatus": 2.0}
LISTED_BUT_GONE: Final = "LOOM"


class Unreadable(Exception):
    """A body that the venue's reader does not take."""


class Info:
    """api.hyperliquid.xyz: 1200 of weight a minute, times `scale`; 20 a call, and more by the rows that are served."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.minute = Limit(1200 * scale, 60, clock)
        self.routes: dict[str, Callable[[Mapping[str, Any]], tuple[Reply, float]]] = {
            "meta": lambda _: (as_json(self._meta()), 0.0),
            "metaAndAssetCtxs": lambda _: (as_json([self._meta(), self._contexts()]), 0.0),
            "fundingHistory": self.funding,
            "candleSnapshot": self.candles,
        }

    def answer(self, query: Query) -> Reply:
        if query.path != "/info":
            return Reply(404, b"", "text/plain; charset=utf-8")
        try:
            asked = json.loads(query.body)
        except (ValueError, RecursionError):
            return Reply(400, b"Failed to parse the request body as JSON", "text/plain; charset=utf-8")
        kind = asked.get("type") if isinstance(asked, dict) else None
        if self.minute.take(WEIGHTS.get(kind, 20.0) if isinstance(kind, str) else 20.0) is not None:
            return Reply(429, b"null")
        try:
            reply, weight = self.routes.get(kind if isinstance(kind, str) else "", _unknown)(asked)
        except Unreadable:
            return Reply(422, b"Failed to deserialize the JSON body into the target type", "text/plain; charset=utf-8")
        self.minute.take(weight)  # what was served is paid for afterwards
        return reply

    # what is listed

    def _contract(self, name: Any) -> Contract | None:
        return next((contract for contract in self.market.contracts if spelled(contract) == name), None)

    def _meta(self) -> dict[str, Any]:
        """The universe; one coin in it is delisted."""
        listed: list[dict[str, Any]] = [
            {"szDecimals": contract.quantity_decimals, "name": spelled(contract), "maxLeverage": 40, "marginTableId": 56}
            for contract in self.market.contracts
        ]
        gone = {"szDecimals": 1, "name": LISTED_BUT_GONE, "maxLeverage": 3, "marginTableId": 3, "onlyIsolated": True, "isDelisted": True}
        return {"universe": [listed[0], gone, *listed[1:]], "marginTables": [], "collateralToken": 0}

    def _contexts(self) -> list[dict[str, Any]]:
        contexts = [self._context(contract) for contract in self.market.contracts]
        return [contexts[0], self._gone(), *contexts[1:]]

    def _context(self, contract: Contract) -> dict[str, Any]:
        """Open interest in base units, longs counted once, as declared in transforms/conventions/hyperliquid.py."""
        now = self.market.now_ms()
        finest = 15 if self.market.kind == "recorded" else 5
        held = self.market.positioning(contract.symbol, finest * MINUTE_MS, now - 24 * HOUR_MS, now)
        day = self.market.bars(contract.symbol, HOUR_MS, now - 25 * HOUR_MS, now)
        state = self.market.premium(contract.symbol)
        mark, oracle = state["mark"], state["index"]
        impact = _text(mark, ".10g")
        return {
            "funding": _text(state["rate"], ".10f"),
            "openInterest": _text(float(held["oi_base"][-1]) if len(held) else math.nan, ".5f"),
            "prevDayPx": _text(float(day["open"][0]) if len(day) else math.nan, ".8g"),
            "dayNtlVlm": _text(float(day["quote_volume"][-24:].sum()) if len(day) else math.nan, ".4f"),
            "premium": _text((mark - oracle) / oracle, ".10f"),
            "oraclePx": _text(oracle, ".10g"),
            "markPx": impact,
            "midPx": impact,
            "impactPxs": None if impact is None else [impact, impact],
            "dayBaseVlm": _text(float(day["volume"][-24:].sum()) if len(day) else math.nan, ".5f"),
        }

    @staticmethod
    def _gone() -> dict[str, Any]:
        nothing: dict[str, Any] = {"funding": "0.0", "openInterest": "0.0", "prevDayPx": "0.0512", "dayNtlVlm": "0.0", "premium": None}
        return {**nothing, "oraclePx": "0.0511", "markPx": "0.0512", "midPx": None, "impactPxs": None, "dayBaseVlm": "0.0"}

    # histories

    def funding(self, asked: Mapping[str, Any]) -> tuple[Reply, float]:
        """The oldest 500 settlements of the range. Recorded Binance markets settle at their own hours."""
        start, end = _range(asked)
        if not isinstance(asked.get("coin"), str):
            raise Unreadable
        contract = self._contract(asked["coin"])
        if contract is None:
            return Reply(500, b"null"), 0.0
        rows = self.market.settlements(contract.symbol, start - JITTER_MS, end - JITTER_MS)
        rows = rows.take(slice(None, FUNDING_ROWS))
        pieces = [
            (f'{{"coin":"{spelled(contract)}","fundingRate":', '"%.10f"', rows["rate"]),
            (',"premium":', '"%.8f"', self._average_premiums(contract, rows)),
            (',"time":', "%d", rows.at + JITTER_MS),
        ]
        return Reply(200, json_rows(pieces, "}")), len(rows) / 20.0

    def _average_premiums(self, contract: Contract, rows: Rows) -> Any:
        """Premium of the hour that was paid for; of a recording, nothing is known but the rate."""
        if self.market.kind == "recorded" or not len(rows):
            return rows["rate"] * float("nan")
        return self.market.premium_bars(contract.symbol, HOUR_MS, int(rows.at[0]) - HOUR_MS, int(rows.at[-1]) - 1)["close"]

    def candles(self, asked: Mapping[str, Any]) -> tuple[Reply, float]:
        """Bars whose open lies in the range, the newest 5000 of all bars only; the running one too, as far as it came."""
        request = asked.get("req")
        if not isinstance(request, dict) or request.get("interval") not in INTERVALS or not isinstance(request.get("coin"), str):
            raise Unreadable
        start, end = _range(request)
        contract = self._contract(request["coin"])
        if contract is None:
            return Reply(500, b"null"), 0.0
        step = INTERVALS[request["interval"]] * MINUTE_MS
        oldest = (self.market.now_ms() // step - KEPT + 1) * step
        rows = self.market.bars(contract.symbol, step, max(start, oldest), end)
        price = f'"%.{contract.price_decimals}f"'
        pieces = [
            ('{"t":', "%d", rows.at),
            (',"T":', "%d", rows.at + (step - 1)),
            (f',"s":"{spelled(contract)}","i":"{request["interval"]}","o":', price, rows["open"]),
            (',"c":', price, rows["close"]),
            (',"h":', price, rows["high"]),
            (',"l":', price, rows["low"]),
            (',"v":', f'"%.{contract.quantity_decimals}f"', rows["volume"]),
            (',"n":', "%d", rows["trades"]),
        ]
        return Reply(200, json_rows(pieces, "}")), len(rows) / 60.0


def _unknown(_asked: Mapping[str, Any]) -> tuple[Reply, float]:
    raise Unreadable


def spelled(contract: Contract) -> str:
    """The venue's name: k for a thousand coins."""
    asset, multiplier = coin(contract.symbol.removesuffix("USDT"))
    return f"k{asset}" if multiplier == 1000.0 else asset


def _text(value: float, code: str) -> str | None:
    """A number in the venue's dress; null where the market does not hold it."""
    return None if math.isnan(value) else format(value, code)


def _range(asked: Mapping[str, Any]) -> tuple[int, int]:
    """The range asked for, both ends in it; only `endTime` may be left out."""
    found = [asked.get("startTime"), asked.get("endTime", 2**53)]
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 2**53 for one in found):
        raise Unreadable
    return found[0], found[1]  # type: ignore[return-value]


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Info(market, clock, scale)}

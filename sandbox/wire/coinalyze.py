"""Coinalyze v1: https://api.coinalyze.net/v1/doc/ . Needs a key (any will do here); each symbol of a request counts as one call.

Rates are in percent, amounts in base coin, `t` is the start of the bar. A field that the market does not hold is JSON null; a bar
of which nothing is held is not sent; an unknown symbol is left out of the answer, as the service does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sandbox.limits import Limit
from sandbox.market import DAY_MS, HOUR_MS, Aggregate, Market
from sandbox.wire.reply import Column, Query, Reply, Venue, as_json, json_rows, seconds

HISTORIES: Final[dict[str, Aggregate]] = {
    "/v1/open-interest-history": "open-interest",
    "/v1/funding-rate-history": "funding-rate",
    "/v1/long-short-ratio-history": "long-short-ratio",
    "/v1/liquidation-history": "liquidation",
    "/v1/ohlcv-history": "ohlcv",
}
#: Intraday bars are kept for 1,500 to 2,000 points (vendor's document); daily bars for ever.
STEPS: Final = {"1hour": HOUR_MS, "4hour": 4 * HOUR_MS, "12hour": 12 * HOUR_MS, "daily": DAY_MS}
INTRADAY_POINTS: Final = 2000
_COUNTS: Final = ("tx", "btx")


class Api:
    """api.coinalyze.net."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.limit = Limit(40 * scale, 60, clock)

    def answer(self, query: Query) -> Reply:
        if not (query.headers.get("api_key") or query.params.get("api_key")):
            return _message(401, "Invalid/Missing API key")
        symbols = [symbol for symbol in query.params.get("symbols", "").split(",") if symbol]
        wait = self.limit.take(max(1, len(symbols)))
        if wait is not None:
            return as_json({"message": "Too many requests"}, 429, {"Retry-After": seconds(wait)})
        if query.path == "/v1/exchanges":
            return as_json([{"name": "Binance", "code": "A"}])
        if query.path == "/v1/future-markets":
            return self._markets()
        if query.path in HISTORIES:
            return self._history(HISTORIES[query.path], symbols, query.params)
        return _message(404, "Not found")

    def _markets(self) -> Reply:
        whole = self.market.kind == "simulated"
        return as_json(
            [
                {
                    "symbol": symbol,
                    "exchange": "A",
                    "symbol_on_exchange": symbol.removesuffix("_PERP.A"),
                    "base_asset": base,
                    "quote_asset": "USDT",
                    "is_perpetual": True,
                    "margined": "STABLE",
                    "expire_at": None,
                    "oi_lq_vol_denominated_in": "BASE_ASSET",
                    "has_long_short_ratio_data": True,
                    "has_ohlcv_data": True,
                    "has_buy_sell_data": whole,
                }
                for symbol, base in self.market.aggregate_symbols().items()
            ]
        )

    def _history(self, what: Aggregate, symbols: list[str], params: Mapping[str, str]) -> Reply:
        if not symbols:
            return _message(400, "symbols: required parameter")
        if len(symbols) > 20:
            return _message(400, "symbols: at most 20 symbols in a request")
        step = STEPS.get(params.get("interval", ""))
        if step is None:
            return _message(400, f"interval: this sandbox serves {', '.join(STEPS)}")
        begin, end = params.get("from", ""), params.get("to", "")
        if not (begin.isdecimal() and end.isdecimal() and len(begin) < 12 and len(end) < 12):
            return _message(400, "from, to: required parameters, in seconds")
        start_ms, end_ms = int(begin) * 1000, int(end) * 1000
        if step < DAY_MS:
            start_ms = max(start_ms, self.market.now_ms() - INTRADAY_POINTS * step)
        known = self.market.aggregate_symbols()
        parts = []
        for symbol in symbols:
            if symbol not in known:
                continue
            rows = self.market.aggregate(what, symbol, step, start_ms, end_ms)
            pieces: list[tuple[str, str, Column]] = [('{"t":', "%d", rows.at // 1000)]
            pieces += [(f',"{key}":', "%d" if key in _COUNTS else "%.10g", column) for key, column in rows.columns.items()]
            parts.append(b'{"symbol":"' + symbol.encode() + b'","history":' + json_rows(pieces, "}") + b"}")
        return Reply(200, b"[" + b",".join(parts) + b"]")


def _message(status: int, text: str) -> Reply:
    return as_json({"message": text}, status)


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Api(market, clock, scale)}

"""Kraken Futures by REST in its own formats: trading API, candles, analytics in columns, and errors that may come with HTTP 200.

Documents: https://docs.kraken.com/api/docs/futures-api/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from sandbox.limits import Limit
from sandbox.market import HOUR_MS, Contract, Market, Rows
from sandbox.wire.reply import JSON, Column, Query, Reply, Venue, as_json, json_rows
from transforms.windows import from_ms

#: resolutions of candles, and what analytics call the same; those below the market's grid are refused
RESOLUTIONS: Final = {"5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14_400, "12h": 43_200, "1d": 86_400}
PAGE: Final = 2000
#: the venue's own names of coins
SPELLINGS: Final = {"BTC": "XBT"}
#: inverse contracts beside the linear ones: they hold this share of the venue's open interest besides
INVERSE: Final = ("BTC", "ETH")
INVERSE_SHARE: Final = 0.15
#: heads that hold a position; a fifth of them is large
HOLDERS: Final = 20_000
ANALYTICS_TYPES: Final = ("open-interest", "long-short-info", "top-traders", "cvd")


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body)
        self.reply = reply


class KrakenFutures:
    """futures.kraken.com: 200 public requests a minute (a number of ours, none is published), times `scale`.

    A replayed recording holds nothing of this venue.
    """

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.limit = Limit(200 * scale, 60, clock)
        self.contracts: dict[str, Contract] = {}
        for contract in () if market.kind == "recorded" else market.contracts:
            base = SPELLINGS.get(contract.asset, contract.asset)
            for prefix in ("PF", "PI") if contract.asset in INVERSE else ("PF",):
                self.contracts[f"{prefix}_{base}USD"] = contract

    def answer(self, query: Query) -> Reply:
        try:
            return self._asked(query)
        except Refused as refused:
            return refused.reply

    def _asked(self, query: Query) -> Reply:
        if self.limit.take(1) is not None:
            return self._said({"result": "error", "error": "apiLimitExceeded"})
        match query.path.strip("/").split("/"):
            case ["derivatives", "api", "v3", "instruments"]:
                return self._said({"result": "success", "instruments": self.listing()})
            case ["derivatives", "api", "v3", "tickers"]:
                return self._said({"result": "success", "tickers": self.tickers()})
            case ["derivatives", "api", "v4", "historicalfundingrates"]:
                return self.funding(query.params)
            case ["api", "charts", "v1", "trade", symbol, resolution]:
                return self.candles(symbol, resolution, query.params)
            case ["api", "charts", "v1", "analytics", symbol, kind]:
                return self.analytics(symbol, kind, query.params)
        return self._said({"result": "error", "error": "notFound"}, 404)

    def _said(self, what: Mapping[str, Any], status: int = 200) -> Reply:
        return as_json({**what, "serverTime": _iso(self.market.now_ms())}, status)

    # trading API

    def listing(self) -> list[dict[str, Any]]:
        """Contracts, and the indices among them, which are none."""
        found: list[dict[str, Any]] = []
        for symbol, contract in self.contracts.items():
            linear = symbol.startswith("PF_")
            found.append(
                {
                    "symbol": symbol,
                    "type": "flexible_futures" if linear else "futures_inverse",
                    **({} if linear else {"underlying": f"rr_{symbol[3:].lower()}"}),
                    "tickSize": contract.tick,
                    "contractSize": 1,
                    "tradeable": True,
                    "openingDate": _iso(contract.listed_ms),
                    "fundingRateCoefficient": 24,
                    "contractValueTradePrecision": contract.quantity_decimals if linear else 0,
                    "postOnly": False,
                    "base": contract.asset,
                    "quote": "USD",
                    "pair": f"{contract.asset}:USD",
                }
            )
            found.append({"symbol": f"in_{symbol[3:].lower()}", "type": "spot index", "tradeable": False})
        return found

    def tickers(self) -> list[dict[str, Any]]:
        """State of everything listed; `fundingRate` is absolute: USD per coin and hour, or coins per USD."""
        now_ms, found = self.market.now_ms(), []
        for symbol, contract in self.contracts.items():
            now = self.market.premium(contract.symbol)
            rows = self._interest(symbol, 300_000, now_ms - HOUR_MS, now_ms)
            found.append(
                {
                    "symbol": symbol,
                    "last": round(now["mark"], contract.price_decimals),
                    "lastTime": _iso(now_ms),
                    "tag": "perpetual",
                    "pair": f"{contract.asset}:USD",
                    "markPrice": round(now["mark"], 8),
                    "indexPrice": round(now["index"], 8),
                    "openInterest": round(float(rows[-1]), 4) if len(rows) else 0.0,
                    "fundingRate": now["rate"] * now["mark"] if symbol.startswith("PF_") else now["rate"] / now["mark"],
                    "fundingRatePrediction": 0.0,
                    "suspended": False,
                    "postOnly": False,
                }
            )
            found.append({"symbol": f"in_{symbol[3:].lower()}", "last": round(now["index"], 8), "lastTime": _iso(now_ms)})
        return found

    def _interest(self, symbol: str, step: int, start: int, end: int) -> Any:
        """Base units of a linear contract; USD of an inverse one."""
        rows = self.market.positioning(self.contracts[symbol].symbol, step, start, end)
        return rows["oi_base"] if symbol.startswith("PF_") else np.round(rows["oi_usd"] * INVERSE_SHARE)

    def funding(self, params: Mapping[str, str]) -> Reply:
        """Everything since the first trade, ascending, labelled by the hour it applies to."""
        contract = self.contracts.get(params.get("symbol", ""))
        if contract is None:
            problem = [{"code": 11, "message": "Argument invalid: symbol"}]
            return self._said({"status": "BAD_REQUEST", "result": "error", "errors": problem})
        rows = self.market.settlements(contract.symbol, contract.listed_ms, self.market.now_ms())
        money = rows["rate"] * rows["mark"] if params["symbol"].startswith("PF_") else rows["rate"] / rows["mark"]
        pieces = [
            ('{"timestamp":', '"%s"', np.array([_iso(at) for at in (rows.at - HOUR_MS).tolist()])),
            (',"fundingRate":', "%.15g", money),
            (',"relativeFundingRate":', "%.15g", rows["rate"]),
        ]
        head = f'{{"result":"success","serverTime":"{_iso(self.market.now_ms())}","rates":'.encode()
        return Reply(200, head + json_rows(pieces, "}") + b"}", JSON)

    # charts

    def _charted(self, symbol: str) -> Contract:
        contract = self.contracts.get(symbol)
        if contract is None:
            raise Refused(_problem(404, "Unknown symbol", "symbol", symbol))
        return contract

    def candles(self, symbol: str, resolution: str, params: Mapping[str, str]) -> Reply:
        """Ascending from `from` on, at most a page; `more_candles` when the range holds more. Volume is in contracts."""
        contract = self._charted(symbol)
        if resolution not in RESOLUTIONS:
            raise Refused(_problem(400, "Invalid arguments", "resolution", resolution))
        step = RESOLUTIONS[resolution] * 1000
        end = _seconds(params, "to", self.market.now_ms() // 1000) * 1000
        start = _seconds(params, "from", max(0, end - PAGE * step) // 1000) * 1000
        rows = self.market.bars(contract.symbol, step, start, end)
        page = rows.take(slice(None, PAGE))
        volume = page["volume"] if symbol.startswith("PF_") else np.round(page["quote_volume"] * INVERSE_SHARE)
        price = f'"%.{contract.price_decimals}f"'
        pieces: list[tuple[str, str, Column]] = [
            ('{"time":', "%d", page.at),
            *((f',"{name}":', price, page[name]) for name in ("open", "high", "low", "close")),
            (',"volume":', '"%.10g"', volume),
        ]
        more = str(len(rows) > PAGE).lower()
        return Reply(200, b'{"candles":' + json_rows(pieces, "}") + f',"more_candles":{more}}}'.encode(), JSON)

    def analytics(self, symbol: str, kind: str, params: Mapping[str, str]) -> Reply:
        """Columns side by side, ascending from `since` on, labelled by the bucket's start; the running bucket is left out."""
        contract = self._charted(symbol)
        if kind not in ANALYTICS_TYPES:
            raise Refused(_problem(400, "Invalid arguments", "analytics_type", kind))
        if "since" not in params:
            raise Refused(_problem(400, "Missing argument", "since", ""))
        interval = _seconds(params, "interval", 0)
        if interval not in RESOLUTIONS.values():
            raise Refused(_problem(400, "Invalid arguments", "interval", str(interval)))
        step, now = interval * 1000, self.market.now_ms()
        first = -(-_seconds(params, "since", 0) * 1000 // step) * step
        end = min(_seconds(params, "to", now // 1000) * 1000, now)
        flow = self.market.taker(contract.symbol, step, first, end)
        held = self.market.positioning(contract.symbol, step, first, end + step)
        at = np.intersect1d(flow.at, np.intersect1d(held.at, held.at - step))
        more, at = len(at) > PAGE, at[:PAGE]
        opened, closed, flow = (_at(rows, stamps) for rows, stamps in ((held, at), (held, at + step), (flow, at)))
        return as_json(
            {"result": {"timestamp": (at // 1000).tolist(), "data": _data(symbol, kind, opened, closed, flow), "more": more}, "errors": []}
        )


def _data(symbol: str, kind: str, opened: Rows, closed: Rows, flow: Rows) -> Any:
    """The columns of one kind of analytics."""
    if kind == "open-interest":
        linear = symbol.startswith("PF_")
        first, last = (rows["oi_base"] if linear else np.round(rows["oi_usd"] * INVERSE_SHARE) for rows in (opened, closed))
        form = "%.4f" if linear else "%.0f"
        quotes = zip(first, np.maximum(first, last), np.minimum(first, last), last, strict=True)
        return [[form % value for value in quote] for quote in quotes]
    if kind == "cvd":
        buy, sell = (np.round(flow[name], 4) for name in ("buy", "sell"))
        return {"buy_volume": buy.tolist(), "sell_volume": sell.tolist(), "cvd": np.round(np.cumsum(buy - sell), 4).tolist()}
    share, holders = (closed["global_account_long"], HOLDERS) if kind == "long-short-info" else (closed["top_account_long"], HOLDERS // 5)
    long = np.round(share * holders)
    heads = {
        "longCount": long.astype(int).tolist(),
        "shortCount": (holders - long).astype(int).tolist(),
        "longPercent": np.round(100 * long / holders, 2).tolist(),
        "shortPercent": np.round(100 - 100 * long / holders, 2).tolist(),
        "ratio": np.round(long / holders, 2).tolist(),
    }
    return heads if kind == "long-short-info" else {"top20Percent": heads}


def _at(rows: Rows, at: Any) -> Rows:
    return rows.take(np.isin(rows.at, at))


def _iso(stamp_ms: int) -> str:
    return f"{from_ms(int(stamp_ms)):%Y-%m-%dT%H:%M:%S}.{int(stamp_ms) % 1000:03d}Z"


def _problem(status: int, kind: str, field: str, value: str) -> Reply:
    what = {"severity": "E", "error_class": "General", "type": kind, "msg": None, "value": value[:40], "field": field}
    return as_json({"result": None, "errors": [what]}, status)


def _seconds(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 11:
        raise Refused(_problem(400, "Invalid arguments", name, text))
    return int(text)


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": KrakenFutures(market, clock, scale)}

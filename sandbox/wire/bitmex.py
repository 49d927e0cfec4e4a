"""www.bitmex.com/api/v1: the active instruments, funding, bars of trades; pages, a token bucket, error bodies.

The market's contracts are spelled as the venue does. What the venue holds of bitcoin is split between its inverse XBTUSD, counted in dollars,
and its linear XBTUSDT, counted in millionths. Settlements lie at the market's hours (00, 08, 16 UTC; the venue's own are 04, 12, 20).
Recordings hold nothing of this venue: it lists no contract there.

Documents: https://www.bitmex.com/api/explorer/ , https://www.bitmex.com/app/restAPI
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from sandbox.limits import Credits
from sandbox.market import DAY_MS, HOUR_MS, Market, Rows, Stamps
from sandbox.wire.reply import JSON, Query, Reply, Venue, as_json, json_rows
from transforms.windows import to_ms

BINS: Final = {"5m": 300_000, "1h": HOUR_MS, "1d": DAY_MS}
STEP_MS: Final = 300_000
PAGE: Final = 100
SATOSHI: Final = 100_000_000
MICRO: Final = 1_000_000
#: contracts a coin of the linear perpetuals
POSITION: Final = {"BTC": 1_000_000, "ETH": 100_000, "SOL": 10_000}
#: part of the venue's bitcoin that is in the inverse contract
INVERSE_PART: Final = 0.7
FOREVER: Final = 2**62


class Refused(Exception):
    """An error body of the venue."""

    def __init__(self, message: str, status: int = 400, name: str = "HTTPError") -> None:
        super().__init__(message)
        self.reply = as_json({"error": {"message": message, "name": name}}, status)


@dataclass(frozen=True, slots=True)
class Perpetual:
    """A listed perpetual: the market's contract behind it, and the part of the venue's amounts that is its own."""

    symbol: str
    contract: str
    coin: str
    inverse: bool
    part: float
    listed_ms: int
    tick: float


class Api:
    """www.bitmex.com/api/v1: a bucket of 30 tokens, one more every two seconds, times `scale`."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.tokens = Credits(30.0 * scale, 0.5 * scale, clock)
        self.clock = clock
        self.perpetuals = {one.symbol: one for one in _listed(market)}
        self.routes: dict[str, Callable[[Mapping[str, str]], Reply]] = {
            "/instrument/active": lambda _: as_json([self._instrument(one) for one in self.perpetuals.values()]),
            "/funding": self.funding,
            "/trade/bucketed": self.bucketed,
        }

    def answer(self, query: Query) -> Reply:
        passed = self.tokens.take(1.0)
        wait = 0 if passed else max(1, int(-(-(1.0 - self.tokens.held) // self.tokens.refill)))
        headers = {
            "x-ratelimit-limit": f"{self.tokens.most:.0f}",
            "x-ratelimit-remaining": f"{int(self.tokens.held)}",
            "x-ratelimit-reset": f"{int(self.clock()) + wait + 1}",
        }
        if not passed:
            refused = Refused(f"Rate limit exceeded, retry in {wait} seconds.", 429, "RateLimitError").reply
            return Reply(429, refused.body, JSON, headers | {"Retry-After": str(wait)})
        route = self.routes.get(query.path)
        try:
            reply = route(query.params) if route else Refused("Not Found", 404).reply
        except Refused as refusal:
            reply = refusal.reply
        return Reply(reply.status, reply.body, reply.content_type, headers)

    # parameters

    def _symbol(self, params: Mapping[str, str]) -> Perpetual | None:
        """None where the question names nobody the venue lists: it answers with an empty list."""
        return self.perpetuals.get(params.get("symbol", "XBTUSD"))

    def _page(self, rows: Rows, params: Mapping[str, str], most: int) -> Rows:
        count, start = _whole(params, "count", PAGE), _whole(params, "start", 0)
        if not 1 <= count <= most:
            raise Refused(f"'count' must be between 1 and {most}.")
        held = rows.between(_instant(params, "startTime", 0), _instant(params, "endTime", FOREVER))
        if params.get("reverse", "false") == "true":
            held = Rows(held.at[::-1], {name: column[::-1] for name, column in held.columns.items()})
        return held.take(slice(start, start + count))

    # endpoints

    def funding(self, params: Mapping[str, str]) -> Reply:
        one = self._symbol(params)
        if one is None:
            return as_json([])
        rows = self._page(self.market.settlements(one.contract, 0, self.market.now_ms()), params, 500)
        pieces = [
            ('{"timestamp":', '"%s"', _iso(rows.at)),
            (f',"symbol":"{one.symbol}","fundingInterval":"2000-01-01T08:00:00.000Z","fundingRate":', "%.12g", rows["rate"]),
            (',"fundingRateDaily":', "%.12g", 3.0 * rows["rate"]),
        ]
        return Reply(200, json_rows(pieces, "}"))

    def bucketed(self, params: Mapping[str, str]) -> Reply:
        """Stamped at the END; the open is the close of the bar before; with `partial=true` also the running bar."""
        one = self._symbol(params)
        step = BINS.get(params.get("binSize", "1h"))
        if step is None:
            raise Refused("binSize must be one of 1m, 5m, 1h, 1d.")
        if one is None:
            return as_json([])
        bars = self.market.bars(one.contract, step, 0, self.market.now_ms())
        ends = Rows(bars.at + step, bars.columns | {"open": np.concatenate((bars["open"][:1], bars["close"][:-1]))})
        if params.get("partial", "false") != "true":
            ends = ends.take(ends.at <= self.market.now_ms())
        rows = self._page(ends, params, 1000)
        coins, usd = (np.round(rows[name] * one.part, 8) for name in ("volume", "quote_volume"))
        contracts = np.round(usd if one.inverse else coins * POSITION[one.coin])
        turnover = np.round(coins * SATOSHI if one.inverse else usd * MICRO)
        pieces: list[tuple[str, str, Any]] = [
            ('{"timestamp":', '"%s"', _iso(rows.at)),
            *(
                (f',"symbol":"{one.symbol}","{name}":' if name == "open" else f',"{name}":', "%.10g", rows[name])
                for name in ("open", "high", "low", "close")
            ),
            (',"trades":', "%d", rows["trades"]),
            (',"volume":', "%.0f", contracts),
            (',"vwap":', "%.10g", np.where(coins > 0.0, np.round(usd / np.maximum(coins, 1e-12), 4), np.nan)),
            (',"lastSize":', "%.0f", np.where(contracts > 0.0, 100.0, np.nan)),
            (',"turnover":', "%.0f", turnover),
            (',"homeNotional":', "%.12g", coins),
            (',"foreignNotional":', "%.12g", usd),
        ]
        return Reply(200, json_rows(pieces, "}"))

    def _instrument(self, one: Perpetual) -> dict[str, Any]:
        """How a perpetual stands now; a market without premium or open interest gives null."""
        now = self.market.now_ms()
        held = self.market.positioning(one.contract, STEP_MS, now - DAY_MS, now)
        state = self.market.premium(one.contract)
        mark, index, rate = (
            None if np.isnan(state[name]) else round(state[name], digits) for name, digits in (("mark", 4), ("index", 4), ("rate", 10))
        )
        contracts, value = None, None
        if len(held) and mark is not None:
            own = float(held["oi_base"][-1]) * one.part
            contracts = round(own * mark / 100.0) * 100 if one.inverse else round(own * POSITION[one.coin] / 100.0) * 100
            value = round(contracts / mark * SATOSHI if one.inverse else contracts / POSITION[one.coin] * mark * MICRO)
        name = "XBT" if one.coin == "BTC" else one.coin
        quote = "USD" if one.inverse else "USDT"
        size = (
            {
                "multiplier": -SATOSHI,
                "settlCurrency": "XBt",
                "underlyingToPositionMultiplier": None,
                "underlyingToSettleMultiplier": -SATOSHI,
            }
            if one.inverse
            else {
                "multiplier": MICRO // POSITION[one.coin],
                "settlCurrency": "USDt",
                "underlyingToPositionMultiplier": POSITION[one.coin],
            }
        )
        return {
            "symbol": one.symbol,
            "rootSymbol": name,
            "state": "Open",
            "typ": "FFWCSX",
            "listing": _text(one.listed_ms),
            "front": _text(one.listed_ms),
            "expiry": None,
            "settle": None,
            "positionCurrency": quote if one.inverse else name,
            "underlying": name,
            "quoteCurrency": quote,
            "underlyingSymbol": f"{name}=" if one.inverse else f"{name}T=",
            "reference": "BMEX",
            "referenceSymbol": f".B{name}" if one.inverse else f".B{name}T",
            "maxOrderQty": 10_000_000,
            "maxPrice": 1_000_000,
            "lotSize": 100,
            "tickSize": one.tick,
            **size,
            "quoteToSettleMultiplier": None if one.inverse else MICRO,
            "isQuanto": False,
            "isInverse": one.inverse,
            "initMargin": 0.01,
            "maintMargin": 0.005,
            "fundingTimestamp": None if np.isnan(state["next_ms"]) else _text(int(state["next_ms"])),
            "fundingInterval": "2000-01-01T08:00:00.000Z",
            "fundingRate": rate,
            "indicativeFundingRate": rate,
            "lastPrice": mark,
            "openInterest": contracts,
            "openValue": value,
            "fairPrice": mark,
            "markMethod": "FairPrice",
            "markPrice": mark,
            "indicativeSettlePrice": index,
            "timestamp": _text(now),
        }


def _listed(market: Market) -> list[Perpetual]:
    if market.kind == "recorded":
        return []
    found = []
    for contract in market.contracts:
        name = "XBT" if contract.asset == "BTC" else contract.asset
        both = contract.asset == "BTC"
        if both:
            found.append(Perpetual(f"{name}USD", contract.symbol, contract.asset, True, INVERSE_PART, contract.listed_ms, contract.tick))
        part = 1.0 - INVERSE_PART if both else 1.0
        found.append(Perpetual(f"{name}USDT", contract.symbol, contract.asset, False, part, contract.listed_ms, contract.tick))
    return found


def _text(stamp_ms: int) -> str:
    return f"{datetime.fromtimestamp(stamp_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{stamp_ms % 1000:03d}Z"


def _iso(at: Stamps) -> np.ndarray:
    return np.array([_text(stamp) for stamp in at.tolist()], dtype=object)


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, str(default))
    if not text.isdecimal() or len(text) > 12:
        raise Refused(f"'{name}' must be a number.")
    return int(text)


def _instant(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    try:
        found = datetime.fromisoformat(text)
        return to_ms(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise Refused(f"'{name}' must be a date-time.") from None


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Api(market, clock, scale)}

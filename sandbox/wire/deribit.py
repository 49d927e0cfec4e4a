"""Deribit's public methods by HTTP GET: JSON-RPC envelopes, credits, pages of the volatility index, error bodies.

Documents: https://docs.deribit.com/ ; limits: https://support.deribit.com/hc/en-us/articles/25944617523357-Rate-Limits
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from sandbox.limits import Credits
from sandbox.market import DAY_MS, HOUR_MS, Chain, Market
from sandbox.options import date_word
from sandbox.wire.deribit_futures import CURRENCIES, KINDS, Perpetuals, Refused, one_of, stamp_of
from sandbox.wire.reply import JSON, Query, Reply, Venue, json_rows

#: the venue also knows 1 and 60 (seconds), which lie below the grid of either market: refused here as an invalid resolution
RESOLUTIONS: Final = {"3600": HOUR_MS, "43200": 12 * HOUR_MS, "1D": DAY_MS}
PAGE: Final = 1000
COST: Final = 500.0
WORKING_US: Final = 1_500


class Deribit:
    """www.deribit.com/api/v2: 50,000 credits, 500 a request, 10,000 back every second, times `scale`."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.credits = Credits(50_000.0 * scale, 10_000.0 * scale, clock)
        self.routes: dict[str, Callable[[Mapping[str, str]], Reply]] = {
            "/public/get_time": lambda _: self._answer(str(self.market.now_ms()).encode()),
            "/public/get_book_summary_by_currency": self.book_summary,
            "/public/get_volatility_index_data": self.volatility_index,
        }
        self.perpetuals = Perpetuals(market)
        for method in ("get_instruments", "get_funding_rate_history", "get_last_trades_by_instrument_and_time"):
            self.routes[f"/public/{method}"] = lambda params, method=method: self._answer(getattr(self.perpetuals, method)(params))  # type: ignore[misc]

    def answer(self, query: Query) -> Reply:
        try:
            return self._asked(query)
        except Refused as refused:
            return self._wrapped(
                "error", json.dumps(refused.error, separators=(",", ":")).encode(), self.market.now_ms() * 1000, refused.status
            )

    def _asked(self, query: Query) -> Reply:
        if not self.credits.take(COST):
            raise Refused(10028, "too_many_requests", status=429)
        route = self.routes.get(query.path)
        if route is None:
            raise Refused(-32601, "Method not found", status=404)
        return route(query.params)

    def _answer(self, result: bytes) -> Reply:
        return self._wrapped("result", result, self.market.now_ms() * 1000)

    @staticmethod
    def _wrapped(name: str, what: bytes, sent_us: int, status: int = 200) -> Reply:
        head = f'{{"jsonrpc":"2.0","{name}":'.encode()
        tail = f',"usIn":{sent_us - WORKING_US},"usOut":{sent_us},"usDiff":{WORKING_US},"testnet":false}}'.encode()
        return Reply(status, head + what + tail, JSON)

    # methods

    def book_summary(self, params: Mapping[str, str]) -> Reply:
        """Options, or futures of a simulated market; a replayed chain carries the instants at which it was captured.

        Unknown of a trade is null, as without a trade.
        """
        currency = one_of(params, "currency", CURRENCIES)
        kind = one_of(params, "kind", KINDS) if "kind" in params else "option"
        if kind == "future":
            return self._answer(self.perpetuals.summaries(currency))
        chain = self.market.option_chain(currency) if kind == "option" else None
        if chain is None:
            return self._answer(b"[]")
        return self._wrapped("result", summaries(currency, chain), chain.at_us)

    def volatility_index(self, params: Mapping[str, str]) -> Reply:
        """The newest thousand bars of the range, ascending; `continuation` is the stamp of the newest one that found no place."""
        currency = one_of(params, "currency", CURRENCIES)
        start, end = stamp_of(params, "start_timestamp"), stamp_of(params, "end_timestamp")
        step = RESOLUTIONS[one_of(params, "resolution", tuple(RESOLUTIONS))]
        rows = self.market.volatility_index(currency, step, start, end)
        page = rows.take(slice(-PAGE, None))
        onward = str(int(rows.at[-PAGE - 1])) if len(rows) > PAGE else "null"
        pieces = [("[", "%d", page.at), *((",", "%.12g", page[name]) for name in ("open", "high", "low", "close"))]
        return self._answer(b'{"data":' + json_rows(pieces, "]") + f',"continuation":{onward}}}'.encode())


def summaries(currency: str, chain: Chain) -> bytes:
    """The rows of a chain, fields in the recorded order."""
    count = len(chain)
    names = [
        spelled(currency, expiry, strike, call=call)
        for expiry, strike, call in zip(chain.expiry_ms.tolist(), chain["strike"].tolist(), chain.call.tolist(), strict=True)
    ]
    made = np.full(count, chain.at_us // 1000, dtype=np.int64)
    unknown = np.full(count, np.nan)
    pieces: list[tuple[str, str, Any]] = [
        (f'{{"base_currency":"{currency}","quote_currency":"{currency}","instrument_name":', '"%s"', np.array(names)),
        (',"creation_timestamp":', "%d", made),
        (',"underlying_index":', '"%s"', np.array(list(chain.underlying))),
        (',"underlying_price":', "%.12g", chain["forward"]),
        (',"estimated_delivery_price":', "%.12g", chain["index"]),
        (',"interest_rate":0,"mark_iv":', "%.12g", np.round(100.0 * chain["iv"], 2)),
        (',"mark_price":', "%.8g", chain["mark"]),
        (',"bid_price":', "%.8g", chain["bid"]),
        (',"ask_price":', "%.8g", chain["ask"]),
        (',"mid_price":', "%.8g", (chain["bid"] + chain["ask"]) / 2.0),
        (',"open_interest":', "%.12g", chain["open_interest"]),
        (',"volume":', "%.12g", chain["volume"]),
        (',"volume_usd":', "%.12g", chain["volume_usd"]),
        *((f',"{name}":', "%g", unknown) for name in ("last", "high", "low", "price_change")),
    ]
    return json_rows(pieces, "}")


def spelled(coin: str, expiry_ms: int, strike: float, *, call: bool) -> str:
    """An option's name; `d` stands for the point of a strike that has one.

    >>> spelled("BTC", 1777795200000, 77500.0, call=False), spelled("XRP_USDC", 1777795200000, 0.55, call=True)
    ('BTC-3MAY26-77500-P', 'XRP_USDC-3MAY26-0d55-C')
    """
    return f"{coin}-{date_word(expiry_ms)}-{f'{strike:.10g}'.replace('.', 'd')}-{'C' if call else 'P'}"


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Deribit(market, clock, scale)}

"""Other venues of the recorded market: what was recorded of them, and nothing else.

| series | becomes |
|---|---|
| bybit_positioning_15m | open interest (recorded as both sides added: halved here, doubled again by the wire), global account ratio, klines |
| funding_settlements (bybit, hyperliquid) | settlements of BTC and ETH, one row an instant; two recordings that disagree raise |

A venue nobody recorded lists no contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from sandbox.market import HOUR_MS, RATIOS, Rows
from sandbox.view import View

if TYPE_CHECKING:
    from sandbox.recordings import RecordedMarket

QUARTER_MS: Final = 900_000
#: venue -> how its recordings of settlements spell a Binance symbol
SPELLED: Final[Mapping[str, Mapping[str, str]]] = {
    "bybit": {"BTCUSDT": "BTCUSDT", "ETHUSDT": "ETHUSDT"},
    "hyperliquid": {"BTCUSDT": "BTC", "ETHUSDT": "ETH"},
}
_BAR: Final = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy", "taker_buy_quote")


def _nothing(*names: str) -> Rows:
    return Rows(np.empty(0, np.int64), {name: np.empty(0) for name in names})


class RecordedVenue(View):
    """One venue's part of the recordings. Symbols are Binance's, as in sandbox/venues.py."""

    kind = "recorded"

    def __init__(self, base: RecordedMarket, venue: str) -> None:
        super().__init__(base)
        self.base = base
        self.venue = venue
        self.spelled = SPELLED.get(venue, {})
        self.contracts = [replace(contract, kind="") for contract in base.contracts if contract.symbol in self.spelled]

    @cached_property
    def _positions(self) -> dict[str, Rows]:
        if self.venue != "bybit":
            return {}
        out = {}
        for symbol, part in self.base.read("bybit_positioning_15m").groupby("symbol"):
            held = part.sort_values("timestamp")
            names = {"oi": "oi", "long": "ls_buy_ratio", "short": "ls_sell_ratio", "ratio": "ls_ratio"}
            names |= {name: f"perp_{name}" for name in ("open", "high", "low", "close", "volume", "quote_volume")}
            columns = {name: held[column].to_numpy(dtype=np.float64) for name, column in names.items()}
            out[str(symbol)] = Rows(self.base.stamps(held["timestamp"]), columns)
        return out

    def positioning(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        names = [f"{name}_{end}" for name in RATIOS for end in ("long", "short", "ratio")]
        rows = self._positions.get(symbol)
        if rows is None or step_ms not in (QUARTER_MS, HOUR_MS):
            return _nothing("oi_base", "oi_usd", *names)
        rows = rows.between(start_ms, min(end_ms, self.now_ms()))
        rows = rows.take((rows.at % step_ms == 0) & ~np.isnan(rows["oi"]))
        coins = rows["oi"] / 2.0
        found = dict.fromkeys(names, np.full(len(rows), np.nan)) | {"oi_base": coins, "oi_usd": coins * rows["open"]}
        return Rows(rows.at, found | {f"global_account_{end}": rows[end] for end in ("long", "short", "ratio")})

    def bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """Hours whose four quarters were recorded; who took, and how often it was traded, was not."""
        rows = self._positions.get(symbol)
        if rows is None or step_ms != HOUR_MS:
            return _nothing(*_BAR)
        rows = rows.take(~np.isnan(rows["close"]))
        hours, begins, counts = np.unique(rows.at // HOUR_MS, return_index=True, return_counts=True)
        unknown = np.full(len(hours), np.nan)
        found = Rows(
            hours * HOUR_MS,
            {
                "open": rows["open"][begins],
                "high": np.maximum.reduceat(rows["high"], begins),
                "low": np.minimum.reduceat(rows["low"], begins),
                "close": rows["close"][np.append(begins[1:], len(rows)) - 1],
                "volume": np.add.reduceat(rows["volume"], begins),
                "quote_volume": np.add.reduceat(rows["quote_volume"], begins),
                "trades": unknown,
                "taker_buy": unknown,
                "taker_buy_quote": unknown,
            },
        )
        return found.take(counts == HOUR_MS // QUARTER_MS).between(start_ms, min(end_ms, self.now_ms() - step_ms))

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> Rows:
        found = self.base.settled(self.venue, self.spelled).get(symbol)
        return _nothing("rate", "mark") if found is None else found.between(start_ms, min(end_ms, self.now_ms()))

    def taker(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        return _nothing("buy", "sell", "ratio")

    def premium(self, symbol: str) -> Mapping[str, float]:
        return dict.fromkeys(("mark", "index", "rate", "next_ms"), float("nan"))

    def premium_bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        return _nothing("open", "high", "low", "close")

    def liquidations(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        return _nothing("long", "short")

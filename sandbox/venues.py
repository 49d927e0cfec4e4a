"""Other venues of the simulated market: the same prices and crowds as Binance's contracts, seen in another place.

Every venue's numbers are Binance's times a share that swings slowly, plus a tilt of its own; a crash is one everywhere, a flow is not.
Outages of Binance's data feed are Binance's alone. Funding is settled every `funding_h` hours out of the venue's own premium. All of it
is a function of the instant, so nothing depends on who asks, when, and in which order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from sandbox.market import DAY_MS, HOUR_MS, RATIOS, Floats, Rows, Stamps
from sandbox.simulation import funding_rate, premium_average
from sandbox.view import View

if TYPE_CHECKING:
    from sandbox.simulated import SimulatedMarket

_BASIS_POINT: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Place:
    """`share`: of Binance's amounts. `crowd`: added to shares of longs. `premium`: fraction added to the premium. `phase`: days."""

    share: float
    funding_h: int
    crowd: float
    premium: float
    phase: float


PLACES: Final[Mapping[str, Place]] = {
    "bybit": Place(0.55, 8, -0.02, 0.4 * _BASIS_POINT, 3.0),
    "okx": Place(0.33, 8, 0.03, -0.3 * _BASIS_POINT, 11.0),
    "deribit": Place(0.09, 1, 0.0, -0.6 * _BASIS_POINT, 17.0),
    "hyperliquid": Place(0.30, 1, 0.01, 1.1 * _BASIS_POINT, 23.0),
    "gate": Place(0.28, 8, 0.05, 0.2 * _BASIS_POINT, 31.0),
    "kraken_futures": Place(0.03, 1, -0.01, -0.2 * _BASIS_POINT, 37.0),
    "bitmex": Place(0.04, 8, 0.0, 0.1 * _BASIS_POINT, 41.0),
    "bitget": Place(0.31, 8, 0.04, 0.3 * _BASIS_POINT, 47.0),
    "binance_coin": Place(0.17, 8, 0.03, -0.2 * _BASIS_POINT, 53.0),  # COIN-M beside USD-M
}


class VenueMarket(View):
    """One venue's view. Symbols are Binance's (`BTCUSDT`): how the venue spells them, and what it counts in, is its wire's business."""

    kind = "simulated"

    def __init__(self, base: SimulatedMarket, place: Place) -> None:
        super().__init__(base)
        self.base = base
        self.place = place
        self.contracts = [replace(contract, kind="") for contract in base.contracts]

    def _swing(self, at: Stamps, width: float) -> Floats:
        """A slow wave around 0 of the given width: weeks and days, no two venues in step."""
        days = at / DAY_MS + self.place.phase * 7.3
        return np.asarray(width * (0.6 * np.sin(2 * np.pi * days / 41.0) + 0.3 * np.sin(2 * np.pi * days / 9.0) + 0.1 * np.sin(days * 7.0)))

    def _amounts(self, at: Stamps) -> Floats:
        return self.place.share * (1.0 + self._swing(at, 0.15))

    def _prices(self, at: Stamps) -> Floats:
        """Half a basis point beside Binance, more when the premium tilts."""
        return 1.0 + self.place.premium + self._swing(at, 0.5 * _BASIS_POINT)

    def positioning(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        rows = self.base.positioning(symbol, step_ms, start_ms, end_ms, dark=False)
        amounts, prices = self._amounts(rows.at), self._prices(rows.at)
        columns = {"oi_base": rows["oi_base"] * amounts, "oi_usd": rows["oi_usd"] * amounts * prices}
        tilt = self.place.crowd + self._swing(rows.at, 0.03)
        for name in RATIOS:
            long = np.round(np.clip(rows[f"{name}_long"] + tilt, 0.02, 0.98), 4)
            columns |= {f"{name}_long": long, f"{name}_short": np.round(1.0 - long, 4), f"{name}_ratio": long / (1.0 - long)}
        return Rows(rows.at, columns)

    def taker(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        rows = self.base.taker(symbol, step_ms, start_ms, end_ms, dark=False)
        both = (rows["buy"] + rows["sell"]) * self._amounts(rows.at)
        share = np.clip(rows["buy"] / np.maximum(rows["buy"] + rows["sell"], 1e-12) + self._swing(rows.at, 0.02), 0.0, 1.0)
        return Rows(rows.at, {"buy": both * share, "sell": both * (1.0 - share), "ratio": share / np.maximum(1.0 - share, 1e-12)})

    def bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        rows = self.base.bars(symbol, step_ms, start_ms, end_ms)
        prices, amounts = self._prices(rows.at), self._amounts(rows.at)
        contract = self.contract(symbol)
        tick = contract.tick if contract else 0.01
        found = {name: np.round(np.round(rows[name] * prices / tick) * tick, 8) for name in ("open", "high", "low", "close")}
        for name in ("volume", "trades", "taker_buy"):
            found[name] = np.floor(rows[name] * amounts * 1000.0) / 1000.0
        found["trades"] = np.floor(found["trades"])
        for name in ("quote_volume", "taker_buy_quote"):
            found[name] = rows[name] * amounts * prices
        return Rows(rows.at, found)

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> Rows:
        """Settled at full intervals, without jitter: rate from the mean premium of the interval, `mark` at the settlement."""
        width = self.place.funding_h * HOUR_MS
        contract = self.contract(symbol)
        first = max(-(-start_ms // width), (contract.listed_ms if contract else 0) // width + 1)
        at = np.arange(first, min(end_ms, self.now_ms()) // width + 1, dtype=np.int64) * width
        if not len(at):
            return Rows(at, {"rate": np.empty(0), "mark": np.empty(0)})
        bars = self.premium_bars(symbol, HOUR_MS, int(at[0]) - width, int(at[-1]) - 1)
        hours = bars["close"].reshape(-1, self.place.funding_h)
        average = premium_average(hours)
        rate = funding_rate(average, contract.cap if contract else 0.003) * (self.place.funding_h / 8.0)
        marks = self.base.bars(symbol, HOUR_MS, int(at[0]) - HOUR_MS, int(at[-1]) - 1)["close"]
        return Rows(at, {"rate": np.round(rate, 10), "mark": marks[:: self.place.funding_h] * self._prices(at)})

    def premium(self, symbol: str) -> Mapping[str, float]:
        base = self.base.premium(symbol)
        at = np.array([self.now_ms()], dtype=np.int64)
        own = float(self.place.premium + self._swing(at, 2.0 * _BASIS_POINT)[0])
        width = self.place.funding_h * HOUR_MS
        mark = base["index"] * (1.0 + base["mark"] / base["index"] - 1.0 + own)
        next_ms = float((self.now_ms() // width + 1) * width)
        return {"mark": mark, "index": base["index"], "rate": base["rate"] * (self.place.funding_h / 8.0) + own / 24.0, "next_ms": next_ms}

    def premium_bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        rows = self.base.premium_bars(symbol, step_ms, start_ms, end_ms)
        own = self.place.premium + self._swing(rows.at, 2.0 * _BASIS_POINT)
        return Rows(rows.at, {name: np.round(rows[name] + own, 8) for name in ("open", "high", "low", "close")})

    def liquidations(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        rows = self.base.liquidations(symbol, step_ms, start_ms, end_ms)
        amounts = self._amounts(rows.at)
        return Rows(rows.at, {name: np.floor(rows[name] * amounts * 1000.0) / 1000.0 for name in ("long", "short")})

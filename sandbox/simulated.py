"""The simulated market: a pure function of (seed, instant), built on the equations in simulation.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from sandbox import onchain, options
from sandbox.market import COINS, DAY_MS, HOUR_MS, RATIOS, Aggregate, Chain, Contract, Floats, Market, Rows, Stamps
from sandbox.simulation import (
    ASSET,
    FUNDING_STEPS,
    INTEREST_RATE,
    MARKET,
    PARAMETERS,
    STEP_MS,
    STEPS_A_DAY,
    asset_path,
    funding_rate,
    market_path,
    normal,
    premium_average,
    uniform,
)
from sandbox.venues import PLACES, VenueMarket
from transforms.windows import to_ms, utc


@dataclass
class _Path:
    """Served columns of one asset, rounded as the venue rounds; index i is the step that ends at genesis + (i + 1) steps."""

    columns: dict[str, Floats]
    funding_at: Stamps
    funding: Floats
    funding_mark: Floats
    shares: dict[str, Floats]


#: price, daily sigma, rho to the market, OI in coins, volume in coins a day, coins a trade, crowd tilt, premium scale
_PARAMETERS: Final[dict[str, tuple[float, ...]]] = {
    "BTC": (93_500.0, 0.019, 0.92, 90_000.0, 160_000.0, 0.045, 0.45, 1.0),
    "ETH": (3_350.0, 0.029, 0.86, 2.0e6, 4.5e6, 0.9, 0.85, 1.1),
    "SOL": (190.0, 0.037, 0.78, 9.0e6, 28e6, 18.0, 1.1, 1.5),
}
GENESIS: Final = utc("2025-01-01")
GENESIS_MS: Final = to_ms(GENESIS)


class SimulatedMarket(Market):
    """A pure function of (seed, instant): who asks, when, and in which order changes nothing."""

    kind = "simulated"
    contracts = (
        Contract("BTCUSDT", "BTC", GENESIS_MS, 2, 3, 0.1, "PoW"),
        Contract("ETHUSDT", "ETH", GENESIS_MS),
        Contract("SOLUSDT", "SOL", GENESIS_MS, 4, 0, 0.01, "Layer-1", 0.0075),
    )

    def __init__(self, seed: int, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.seed = seed
        self._steps = 0
        self._paths: dict[str, _Path] = {}
        self._smiles: dict[str, Floats] = {}
        self._supplied = lru_cache(maxsize=8)(self._supply)
        self._mood = lru_cache(maxsize=2)(self._moods)
        self._now_steps()
        self._views = {venue: VenueMarket(self, place) for venue, place in PLACES.items()}

    def at(self, venue: str) -> Market:
        return self._views.get(venue, self)

    def describe(self) -> dict[str, object]:
        return {
            "market": self.kind,
            "seed": self.seed,
            "spans": {contract.symbol: [GENESIS.isoformat(), "now"] for contract in self.contracts},
        }

    def has_archive(self) -> bool:
        return True

    # the path

    def _now_steps(self) -> int:
        """Closed steps by the clock; computes the path to the end of tomorrow when the clock has passed what is there."""
        steps = (self.now_ms() - GENESIS_MS) // STEP_MS
        if steps < STEPS_A_DAY:
            raise ValueError(f"the simulated market begins at {GENESIS.isoformat()}; its clock must be at least one day later")
        if steps > self._steps:
            self._compute((steps // STEPS_A_DAY + 2) * STEPS_A_DAY)
        return steps

    def _compute(self, steps: int) -> None:
        state = market_path(self.seed, steps)
        self._lit = state[MARKET.index("outage")] == 0.0
        self._heat = state[MARKET.index("heat")]
        for number, contract in enumerate(self.contracts):
            raw = asset_path(self.seed, number, state, np.array(_PARAMETERS[contract.asset]))
            path = self._paths[contract.symbol] = self._served(number, contract, dict(zip(ASSET, raw, strict=True)))
            if contract.asset in options.BOOKS:
                self._smiles[contract.asset] = options.surface(self.seed, number, state, path.columns["close"])
        self._steps = steps

    def _served(self, number: int, contract: Contract, raw: dict[str, Floats]) -> _Path:
        """Rounded to the venue's decimals here, once, so that REST, archive and aggregates agree to the last digit."""
        tick, lot = contract.tick, 10.0**-contract.quantity_decimals
        begin = _PARAMETERS[contract.asset][PARAMETERS.index("price")]
        columns = {name: np.round(np.round(raw[name] / tick) * tick, 8) for name in ("close", "high", "low")}
        columns["open"] = np.concatenate(([begin], columns["close"][:-1]))
        columns["high"] = np.maximum(columns["high"], np.maximum(columns["open"], columns["close"]))
        columns["low"] = np.minimum(columns["low"], np.minimum(columns["open"], columns["close"]))
        for name in ("volume", "taker_buy", "open_interest", "long_liquidated", "short_liquidated"):
            columns[name] = np.round(np.floor(raw[name] / lot) * lot, contract.quantity_decimals)
        columns["trades"] = np.floor(raw["trades"])
        middle = (columns["high"] + columns["low"] + columns["close"]) / 3.0
        columns["quote_volume"] = np.round(columns["volume"] * middle, 5)
        columns["taker_buy_quote"] = np.round(columns["taker_buy"] * middle, 5)
        columns["premium"] = raw["premium"]
        periods = len(middle) // FUNDING_STEPS
        average = premium_average(raw["premium"][: periods * FUNDING_STEPS].reshape(periods, FUNDING_STEPS))
        jitter = [max(0, int(22 * uniform(self.seed, 60 + number, n)) - 8) for n in range(periods)]
        stamps = GENESIS_MS + (np.arange(periods, dtype=np.int64) + 1) * FUNDING_STEPS * STEP_MS
        marks = columns["close"][FUNDING_STEPS - 1 :: FUNDING_STEPS][:periods]
        return _Path(columns, stamps + np.array(jitter), funding_rate(average, contract.cap), marks, {name: raw[name] for name in RATIOS})

    def _span(self, step_ms: int, start_ms: int, end_ms: int) -> tuple[int, int]:
        """First and last + 1 multiple of `step_ms` inside [start, end] and the market's life; stamps 0 < n <= now."""
        first = max(-(-start_ms // step_ms), GENESIS_MS // step_ms)
        return first, max(first, end_ms // step_ms + 1)

    # Binance

    def positioning(self, symbol: str, step_ms: int, start_ms: int, end_ms: int, *, dark: bool = True) -> Rows:
        now = GENESIS_MS + self._now_steps() * STEP_MS
        first, after = self._span(step_ms, max(start_ms, GENESIS_MS + STEP_MS), min(end_ms, now))
        at = np.arange(first, after, dtype=np.int64) * step_ms
        index = (at - GENESIS_MS) // STEP_MS - 1
        if dark:
            at, index = at[self._lit[index]], index[self._lit[index]]
        path = self._paths[symbol]
        coins = path.columns["open_interest"][index]
        columns = {"oi_base": coins, "oi_usd": coins * path.columns["close"][index]}
        for name in RATIOS:
            share = path.shares[name][index]
            columns[f"{name}_long"] = np.round(share, 4)
            columns[f"{name}_short"] = np.round(1.0 - np.round(share, 4), 4)
            columns[f"{name}_ratio"] = share / (1.0 - share)
        return Rows(at, columns)

    def taker(self, symbol: str, step_ms: int, start_ms: int, end_ms: int, *, dark: bool = True) -> Rows:
        now = GENESIS_MS + self._now_steps() * STEP_MS
        first, after = self._span(step_ms, start_ms, min(end_ms, now - step_ms))
        at = np.arange(first, after, dtype=np.int64) * step_ms
        width = step_ms // STEP_MS
        cut = slice(int(first * width - GENESIS_MS // STEP_MS), int(after * width - GENESIS_MS // STEP_MS))
        path = self._paths[symbol].columns
        buy = path["taker_buy"][cut].reshape(-1, width).sum(axis=1)
        sell = path["volume"][cut].reshape(-1, width).sum(axis=1) - buy
        rows = Rows(at, {"buy": buy, "sell": sell, "ratio": buy / np.maximum(sell, 1e-12)})
        return rows.take(self._lit[cut].reshape(-1, width).all(axis=1)) if dark else rows

    def bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """The running bar is included with the five-minute steps that have closed."""
        at, begins, cut = self._cut(step_ms, start_ms, end_ms)
        path = self._paths[symbol].columns
        columns = {
            "open": path["open"][cut][begins],
            "high": np.maximum.reduceat(path["high"][cut], begins),
            "low": np.minimum.reduceat(path["low"][cut], begins),
            "close": path["close"][cut][self._last(begins, cut)],
        }
        for name in ("volume", "quote_volume", "trades", "taker_buy", "taker_buy_quote"):
            columns[name] = np.add.reduceat(path[name][cut], begins)
        return Rows(at, columns)

    def _cut(self, step_ms: int, start_ms: int, end_ms: int) -> tuple[Stamps, Stamps, slice]:
        """Bars opening in [start, end] with at least one closed step: stamps, offset of each bar's first step, steps of all."""
        now = self._now_steps()
        first, after = self._span(step_ms, start_ms, min(end_ms, GENESIS_MS + (now - 1) * STEP_MS))
        if first == after:
            return np.empty(0, np.int64), np.empty(0, np.int64), slice(0, 0)
        at = np.arange(first, after, dtype=np.int64) * step_ms
        width = step_ms // STEP_MS
        begin = int(first * width - GENESIS_MS // STEP_MS)
        end = min(int(after * width - GENESIS_MS // STEP_MS), now)
        return at, np.arange(len(at), dtype=np.int64) * width, slice(begin, end)

    @staticmethod
    def _last(begins: Stamps, cut: slice) -> Stamps:
        return np.append(begins[1:], cut.stop - cut.start) - 1 if len(begins) else begins

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> Rows:
        self._now_steps()
        path = self._paths[symbol]
        rows = Rows(path.funding_at, {"rate": path.funding, "mark": path.funding_mark})
        return rows.between(start_ms, min(end_ms, self.now_ms()))

    def premium(self, symbol: str) -> Mapping[str, float]:
        now, contract = self._now_steps(), self.contract(symbol)
        path = self._paths[symbol].columns
        begun = now // FUNDING_STEPS * FUNDING_STEPS
        begun -= FUNDING_STEPS if begun == now else 0
        cap = contract.cap if contract else 0.0
        rate = float(funding_rate(premium_average(path["premium"][None, begun:now]), cap)[0])
        mark = float(path["close"][now - 1])
        interval_ms = FUNDING_STEPS * STEP_MS
        return {
            "mark": mark,
            "index": mark / (1.0 + float(path["premium"][now - 1])),
            "rate": rate,
            "next_ms": float((self.now_ms() // interval_ms + 1) * interval_ms),
        }

    def premium_bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        return self._bars_of(np.round(self._paths[symbol].columns["premium"], 8), 0.0, step_ms, start_ms, end_ms)

    def _bars_of(self, values: Floats, begin: float, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """Bars over a quantity that is `begin` at genesis and `values` at the ends of the steps; the running bar with its closed steps."""
        at, begins, cut = self._cut(step_ms, start_ms, end_ms)
        if not len(at):
            return Rows(at, {name: np.empty(0) for name in ("open", "high", "low", "close")})
        before = np.concatenate(([begin], values[:-1]))[cut]
        inside = values[cut]
        return Rows(
            at,
            {
                "open": before[begins],
                "high": np.maximum.reduceat(np.maximum(before, inside), begins),
                "low": np.minimum.reduceat(np.minimum(before, inside), begins),
                "close": inside[self._last(begins, cut)],
            },
        )

    def liquidations(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        at, begins, cut = self._cut(step_ms, start_ms, end_ms)
        path = self._paths[symbol].columns
        if not len(at):
            return Rows(at, {"long": np.empty(0), "short": np.empty(0)})
        return Rows(at, {name: np.add.reduceat(path[f"{name}_liquidated"][cut], begins) for name in ("long", "short")})

    # Deribit

    def option_chain(self, coin: str) -> Chain | None:
        if coin not in self._smiles:
            return None
        now, sigma = self._now_steps(), _PARAMETERS[coin][PARAMETERS.index("daily_sigma")]
        close = self._paths[f"{coin}USDT"].columns["close"][:now]
        return options.chain(self.seed, coin, options.Path(GENESIS_MS, self.now_ms(), close, sigma), self._smiles[coin][:, now - 1])

    def volatility_index(self, coin: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        if coin not in self._smiles:
            return Rows(np.empty(0, np.int64), {name: np.empty(0) for name in ("open", "high", "low", "close")})
        self._now_steps()
        values = options.dvol(_PARAMETERS[coin][PARAMETERS.index("daily_sigma")], self._smiles[coin])
        return self._bars_of(values, float(values[0]), step_ms, start_ms, end_ms)

    # Coinalyze

    def aggregate_symbols(self) -> Mapping[str, str]:
        return {f"{contract.symbol}_PERP.A": contract.asset for contract in self.contracts}

    def aggregate(self, what: Aggregate, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        native = symbol.removesuffix("_PERP.A")
        path = self._paths[native]
        at, begins, cut = self._cut(step_ms, start_ms, end_ms)
        last = self._last(begins, cut)
        if what == "ohlcv":
            bars = self.bars(native, step_ms, start_ms, end_ms)
            bought = np.floor(bars["trades"] * bars["taker_buy"] / np.maximum(bars["volume"], 1e-12))
            named = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "bv": "taker_buy", "tx": "trades"}
            return Rows(at, {key: bars[name] for key, name in named.items()} | {"btx": bought})
        if what == "liquidation":
            sums = {"l": "long_liquidated", "s": "short_liquidated"}
            return Rows(at, {key: np.add.reduceat(path.columns[name][cut], begins) for key, name in sums.items()})
        if what == "long-short-ratio":
            share = path.shares["global_account"][cut][last]
            long = np.round(100.0 * share, 2)
            return Rows(at, {"r": np.round(share / (1.0 - share), 4), "l": long, "s": np.round(100.0 - long, 2)})
        values = (path.columns["open_interest"] if what == "open-interest" else self._standing_rate(path))[cut]
        if not len(at):
            return Rows(at, {key: np.empty(0) for key in "ohlc"})
        extremes = {"h": np.maximum.reduceat(values, begins), "l": np.minimum.reduceat(values, begins)}
        return Rows(at, {"o": values[begins], **extremes, "c": values[last]})

    @staticmethod
    def _standing_rate(path: _Path) -> Floats:
        """Rate in force during each step, in percent; before the first settlement the interest rate.

        A settlement counts to the bar that begins with it, so the day closes with the rate of 16:00: so does the recorded
        Coinalyze set (703 of 703 days for BTC and ETH against the venue's own settlements).
        """
        settled = np.arange(len(path.columns["close"])) // FUNDING_STEPS
        return np.concatenate(([INTEREST_RATE], path.funding))[settled] * 100.0

    # not exchanges

    def supply(self, coin_id: str | None) -> Rows | None:
        if coin_id is None:
            every = [rows for coin in COINS if (rows := self.supply(coin.id)) is not None]
            return Rows(every[0].at, {"circulating": np.round(sum(rows["circulating"] for rows in every) + 12e9, 2)})
        number = next((n for n, coin in enumerate(COINS) if coin.id == coin_id), None)
        if number is None:
            return None
        day = (self.now_ms() - GENESIS_MS) // DAY_MS
        settled = self._supplied(number, day + 1)
        shown = np.array([self._shown(number, d, settled) if d >= day - 1 else settled[d + 1] for d in range(day + 1)])
        at = GENESIS_MS + np.arange(day + 1, dtype=np.int64) * DAY_MS
        return Rows(at, {"circulating": np.round(shown, 2)})

    def _supply(self, number: int, days: int) -> Floats:
        """Final supply at the end of each day, preceded by the opening value. Growth of day d looks at prices up to its start."""
        begin, growth, flight = ((137e9, 6e-4, 0.2), (44e9, 9e-4, 0.6), (5.3e9, 1e-4, 0.9))[number]
        closes = self._paths["BTCUSDT"].columns["close"][STEPS_A_DAY - 1 :: STEPS_A_DAY]
        known = np.log(np.concatenate(([_PARAMETERS["BTC"][0]], closes)))[:days]
        out = [begin]
        for d in range(days):
            month = known[d] - known[max(0, d - 30)]
            week_low = min(0.0, float(np.diff(known[max(0, d - 4) : d + 1]).min(initial=0.0)) + 0.06)
            change = growth + 1.2e-3 * math.tanh(month / 0.1) + 0.03 * flight * week_low + 6e-4 * normal(self.seed, 70 + number, d)
            out.append(out[-1] * math.exp(change))
        return np.array(out)

    def _shown(self, number: int, d: int, settled: Floats) -> float:
        """Day d as the source shows it now: moves hour by hour, off by up to some tenths of a percent, final two hours after its end."""
        hours = (self.now_ms() - GENESIS_MS - d * DAY_MS) // HOUR_MS
        if hours >= 26:
            return float(settled[d + 1])
        part = min(1.0, hours / 24.0)
        error = 0.0025 * normal(self.seed, 80 + number, d) * (1.0 - hours / 26.0)
        return float(settled[d] ** (1.0 - part) * settled[d + 1] ** part * (1.0 + error))

    def chain_metrics(self, asset: str) -> Rows | None:
        days = self._now_steps() // STEPS_A_DAY
        if asset == onchain.TETHER:
            supply = onchain.SHARE * self._supplied(0, days)[1:]
            return onchain.shown(self.seed, asset, GENESIS_MS, self.now_ms(), onchain.Days(supply=supply))
        if asset not in onchain.COINS:
            return None
        path, steps = self._paths[f"{asset}USDT"].columns, days * STEPS_A_DAY
        close, heat, volume = (values[:steps].reshape(days, -1) for values in (path["close"], self._heat, path["volume"]))
        moved = volume.sum(axis=1) / _PARAMETERS[asset][PARAMETERS.index("volume")]
        held = onchain.Days(price=close[:, -1], heat=heat.mean(axis=1), activity=moved)
        return onchain.shown(self.seed, asset, GENESIS_MS, self.now_ms(), held)

    def fear_greed(self) -> Rows:
        """From past BTC returns and volatility; the value of day D uses prices up to D 00:00. First value 31 days after genesis."""
        return self._mood(int((self.now_ms() - GENESIS_MS) // DAY_MS))

    def _moods(self, day: int) -> Rows:
        closes = np.log(self._paths["BTCUSDT"].columns["close"][STEPS_A_DAY - 1 :: STEPS_A_DAY])
        returns = np.diff(closes)
        days = range(31, day + 1)
        values = []
        for d in days:  # closes[d - 1] is the price at the start of day d
            month, week = closes[d - 1] - closes[d - 31], closes[d - 1] - closes[d - 8]
            unrest = returns[d - 8 : d - 1].std() / returns[d - 31 : d - 1].std() - 1.0
            points = 50 + 22 * math.tanh(month / 0.15) + 14 * math.tanh(week / 0.07) - 10 * math.tanh(unrest / 0.4)
            values.append(float(round(min(95.0, max(5.0, points + 3.0 * normal(self.seed, 90, d))))))
        return Rows(GENESIS_MS + np.array(days, dtype=np.int64) * DAY_MS, {"value": np.array(values)})

"""A large made-up market, hour by hour: many assets on many venues, for measuring what an hour and a history cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.schema import arrow_schema
from transforms.tables import TABLES
from transforms.vocabulary import NATIVE_UNITS, VENUES
from transforms.windows import to_ms

HOUR_US: Final = 3_600_000_000
MINUTE_US: Final = 60_000_000
#: hours between settlements, by venue
INTERVALS_H: Final = {"binance": 8, "bybit": 8, "okx": 8, "deribit": 4, "hyperliquid": 1}
#: middle of the share that is long, by metric
RATIOS: Final = {"global_account": 0.6, "top_account": 0.55, "top_position": 0.5}
#: share of rows that never come, and outages of some hours a year in which nothing comes from an instrument
LOST: Final = 0.02
OUTAGES_A_YEAR: Final = 6

Grid = NDArray[Any]


def names(assets: int) -> list[str]:
    """Names of so many assets."""
    return [f"A{n:02d}" for n in range(assets)]


def core(assets: int, venues: int, start: datetime, end: datetime, seed: int) -> dict[str, pa.Table]:
    """Core tables with rows for as_of in (start, end], sorted by instrument and instant, with the columns that derivation reads.

    One perpetual per asset and venue (the first `venues` of VENUES); the later ones of each asset were listed in the first tenth of the span.
    Everything is told by `binance`, as if it spoke for all: the hourly cadence reads that voice. Raises ValueError for more venues than there are.
    """
    if not 0 < venues <= len(VENUES):
        raise ValueError(f"found {venues} venues; there are {len(VENUES)}: {', '.join(VENUES)}")
    rng = np.random.default_rng(seed)
    when = np.arange(to_ms(start) * 1000 // HOUR_US + 1, to_ms(end) * 1000 // HOUR_US + 1, dtype=np.int64) * HOUR_US
    market = _Market(names(assets), VENUES[:venues], when, rng)
    return {
        "candles": market.candles(),
        "open_interest": market.open_interest(),
        "premiums": market.premiums(),
        "long_short": market.long_short(),
        "taker_flow": market.taker_flow(),
        "funding": market.funding(),
        "funding_terms": market.funding_terms(),
        "stablecoin_supply": _supply(when, rng),
    }


class _Market:
    """Prices and amounts of (instruments, hours), instruments of an asset together, and the rows that tell them."""

    def __init__(self, assets: Sequence[str], venues: Sequence[str], when: Grid, rng: np.random.Generator) -> None:
        self.when, self.rng = when, rng
        self.asset = np.repeat(np.arange(len(assets)), len(venues))
        self.venue = np.tile(np.arange(len(venues)), len(assets))
        self.words = {
            "asset": (list(assets), self.asset),
            "venue": (list(venues), self.venue),
            "instrument": ([f"{assets[a]}-{venues[v]}" for a, v in zip(self.asset, self.venue, strict=True)], np.arange(len(self.asset))),
        }
        shape = (len(self.asset), len(when))
        own = self._walk(len(assets), 0.006)
        self.price = 100.0 * np.exp(own[self.asset] + rng.normal(0, 0.0005, shape))
        self.base = np.exp(rng.normal(10, 1, len(self.asset)))[:, None] * np.exp(self._walk(shape[0], 0.004))
        listed = (self.venue * rng.integers(0, max(1, len(when) // 50), shape[0]))[:, None]
        self.alive = np.arange(len(when)) >= listed

    def _walk(self, rows: int, size: float) -> Grid:
        """Random walks that stay within reach: each step is pulled back by a little, block by block."""
        steps = self.rng.normal(0, size, (rows, len(self.when)))
        path = np.cumsum(steps, axis=1)
        trend = np.linspace(0.0, 1.0, len(self.when))[None, :] * path[:, -1:]
        found: Grid = path - trend
        return found

    def told(self, lost: float = LOST) -> tuple[Grid, Grid]:
        """(instrument, hour) of the rows that came."""
        keep = self.alive & (self.rng.random(self.alive.shape) >= lost)
        outages = max(1, round(OUTAGES_A_YEAR * len(self.when) / 8760))
        for row in keep:
            for begin in self.rng.integers(0, len(self.when), outages):
                row[begin : begin + int(self.rng.integers(2, 12))] = False
        instrument, hour = np.nonzero(keep)
        return instrument, hour

    def rows(self, name: str, instrument: Grid, hour: Grid, late_us: Grid | int = MINUTE_US, **columns: Any) -> pa.Table:
        """Rows of one table."""
        stamps = {"as_of": self.when[hour], "known_at": self.when[hour] + late_us}
        return _table(
            name, len(hour), {**stamps, **{word: (values, code[instrument]) for word, (values, code) in self.words.items()}, **columns}
        )

    def candles(self) -> pa.Table:
        """The first venue says who took; highs and lows lie around the close."""
        i, t = self.told()
        close = self.price[i, t]
        reach = np.exp(np.abs(self.rng.normal(0, 0.004, len(i))))
        volume = self.base[i, t] * self.rng.lognormal(-2.5, 0.5, len(i))
        taken = np.where(self.venue[i] == 0, volume * self.rng.uniform(0.3, 0.7, len(i)), np.nan)
        prices = {"open_usd": close, "high_usd": close * reach, "low_usd": close / reach, "close_usd": close}
        return self.rows("candles", i, t, interval_h=1.0, volume_base=volume, taker_buy_base=taken, trades=None, **prices)

    def open_interest(self) -> pa.Table:
        """Native units in turn by venue; one row in thirty comes 40 minutes late, when its bar has been published."""
        i, t = self.told()
        base, price = self.base[i, t], self.price[i, t]
        unit = self.venue[i] % len(NATIVE_UNITS)
        factor = {"base": np.ones(len(i)), "usd": price, "contracts": np.full(len(i), 1000.0)}
        native = base * np.select([unit == n for n in range(len(NATIVE_UNITS))], [factor[name] for name in NATIVE_UNITS])
        stated = np.where(self.venue[i] % 2 == 0, base * price, np.nan)
        late = np.where(self.rng.random(len(i)) < 1 / 30, 40, 5) * MINUTE_US
        amounts = {"open_interest_native": native, "open_interest_base": base, "open_interest_usd": stated}
        return self.rows("open_interest", i, t, late, native_unit=(list(NATIVE_UNITS), unit), oi_sides=1, **amounts)

    def premiums(self) -> pa.Table:
        i, t = self.told()
        return self.rows("premiums", i, t, interval_h=1.0, premium_share=np.round(self.rng.normal(1e-4, 3e-4, len(i)), 7))

    def long_short(self) -> pa.Table:
        found = []
        for metric, middle in RATIOS.items():
            i, t = self.told()
            share = np.clip(middle + self._walk(len(self.asset), 0.003)[i, t], 0.2, 0.8)
            found.append(
                self.rows(
                    "long_short", i, t, ratio_metric=([metric], np.zeros(len(i), dtype=np.int64)), long_share=share, short_share=1 - share
                )
            )
        return pa.concat_tables(found)

    def taker_flow(self) -> pa.Table:
        """What candles do not say: every venue but the first."""
        i, t = self.told()
        i, t = i[self.venue[i] > 0], t[self.venue[i] > 0]
        buy, sell = self.base[i, t] * self.rng.lognormal(-3, 0.5, (2, len(i)))
        return self.rows("taker_flow", i, t, interval_h=1.0, taker_buy_base=buy, taker_sell_base=sell)

    def funding(self) -> pa.Table:
        """Settlements at the venue's own interval, some milliseconds after the hour."""
        every = np.array([INTERVALS_H[venue] for venue in self.words["venue"][0]])[self.venue]
        i, t = self.told(0.002)
        due = self.when[t] // HOUR_US % every[i] == 0
        i, t = i[due], t[due]
        rate = np.round(np.where(self.rng.random(len(i)) < 0.3, 1e-4, self.rng.normal(1e-4, 2e-4, len(i))) * every[i] / 8, 8)
        table = self.rows(
            "funding", i, t, funding_rate=rate, funding_kind=(["settlement"], np.zeros(len(i), dtype=np.int64)), funding_interval_h=None
        )
        return table.set_column(
            table.column_names.index("as_of"), "as_of", _instants(self.when[t] + self.rng.integers(0, 40, len(t)) * 1000)
        )

    def funding_terms(self) -> pa.Table:
        """Once a day."""
        i, t = self.told()
        daily = self.when[t] // HOUR_US % 24 == 0
        i, t = i[daily], t[daily]
        every = np.array([INTERVALS_H[venue] for venue in self.words["venue"][0]])[self.venue]
        return self.rows("funding_terms", i, t, funding_interval_h=every[i].astype(float), funding_cap_rate=0.02, funding_floor_rate=-0.02)


def _supply(when: Grid, rng: np.random.Generator) -> pa.Table:
    """Total supply and three coins, daily, known a day later; from forty days before the first hour."""
    day = 24 * HOUR_US
    days = np.arange(when[0] // day - 40, when[-1] // day + 1) * day
    coins = ("ALL", "USDT", "USDC", "DAI")
    level = 1e11 * np.exp(np.cumsum(rng.normal(2e-4, 0.003, (len(coins), len(days))), axis=1))
    coin = np.repeat(np.arange(len(coins)), len(days))
    stamps = {"as_of": np.tile(days, len(coins)), "known_at": np.tile(days, len(coins)) + day}
    told = {
        "source": (["defillama"], np.zeros(len(coin), dtype=np.int64)),
        "stablecoin": (list(coins), coin),
        "circulating_usd": level.ravel(),
    }
    return _table("stablecoin_supply", len(coin), {**stamps, **told})


def _instants(micros: Grid) -> pa.Array:
    return pa.array(micros).cast(pa.timestamp("us", tz="UTC"))


def _table(name: str, count: int, columns: Mapping[str, Any]) -> pa.Table:
    """Decoded columns and the revision: instants in us; (words, codes) for strings; arrays, NaN = null; or one value for all."""
    given = {"source": (["binance"], np.zeros(count, dtype=np.int64)), "revision": 0, **columns}
    schema = arrow_schema(TABLES[name], (*TABLES[name].decoded, "revision"))
    built = []
    for field in schema:
        value = given[field.name]
        if pa.types.is_timestamp(field.type):
            built.append(_instants(value))
        elif isinstance(value, tuple):
            words, codes = value
            built.append(pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words)).cast(field.type))
        elif isinstance(value, np.ndarray):
            built.append(pa.array(value, type=field.type, from_pandas=True))
        else:
            built.append(pa.repeat(pa.scalar(value, type=field.type), count))
    return pa.table(built, schema=schema)

"""What stands behind the endpoints: one interface with two implementations, simulated.py and recordings.py.

A market answers with numbers and instants only; `wire/` puts them into a venue's format. It never shows anything later than its
clock. `NaN` means that the market does not hold the value; the wire sends JSON null, never an invented number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from transforms.windows import to_ms

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
RATIOS: Final = ("global_account", "top_account", "top_position")
Aggregate = Literal["open-interest", "funding-rate", "long-short-ratio", "liquidation", "ohlcv"]
Floats = NDArray[np.float64]
Stamps = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Values by name over Unix stamps in milliseconds, ascending."""

    at: Stamps
    columns: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    def take(self, chosen: slice | NDArray[np.bool_]) -> Rows:
        """The chosen rows."""
        return Rows(self.at[chosen], {name: column[chosen] for name, column in self.columns.items()})

    def between(self, start_ms: int, end_ms: int) -> Rows:
        """Rows stamped in [start, end], both inclusive as the venues have it."""
        return self.take(slice(int(np.searchsorted(self.at, start_ms)), int(np.searchsorted(self.at, end_ms, side="right"))))


@dataclass(frozen=True, slots=True)
class Contract:
    """A listed perpetual. `cap` limits the funding rate per 8 h, as a fraction."""

    symbol: str
    asset: str
    listed_ms: int
    price_decimals: int = 2
    quantity_decimals: int = 3
    tick: float = 0.01
    kind: str = "Layer-1"
    cap: float = 0.003


@dataclass(frozen=True, slots=True)
class Coin:
    """A stablecoin by DefiLlama's id."""

    id: str
    name: str
    symbol: str
    gecko_id: str
    mechanism: str


COINS: Final = (
    Coin("1", "Tether", "USDT", "tether", "fiat-backed"),
    Coin("2", "USD Coin", "USDC", "usd-coin", "fiat-backed"),
    Coin("5", "Dai", "DAI", "dai", "crypto-backed"),
)


@dataclass(frozen=True, slots=True)
class Chain:
    """The listed options of one coin at one instant, a row each. `at_us`, `expiry_ms`: Unix stamps in micro- and milliseconds.

    Columns: `forward`, `index`, `strike` in USD; `iv` a fraction p.a.; `mark`, `bid`, `ask` per coin; `open_interest` and `volume` (24 h) in
    coins, `volume_usd` in premium.
    """

    at_us: int
    expiry_ms: Stamps
    call: NDArray[np.bool_]
    #: what the forward is taken from: a dated future by its name, or the index itself
    underlying: Sequence[str]
    columns: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.expiry_ms)

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]


class Market(ABC):
    """Stamps are milliseconds UTC; ranges are inclusive on both ends, as the venues have them."""

    kind: Literal["simulated", "recorded"]
    contracts: Sequence[Contract]

    def __init__(self, clock: Callable[[], int]) -> None:
        self.now_ms = clock

    def at(self, _venue: str) -> Market:
        """The market as another venue shows it. Without one of its own, the market itself."""
        return self

    def contract(self, symbol: str) -> Contract | None:
        """The listed contract, or None."""
        return next((contract for contract in self.contracts if contract.symbol == symbol), None)

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """Seed or recording, and the spans served."""

    @abstractmethod
    def positioning(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """`oi_base`, `oi_usd`, and `<ratio>_long`, `_short` (shares), `_ratio`: snapshots taken AT the stamp."""

    @abstractmethod
    def taker(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """`buy`, `sell` in base coin, `ratio`: flow over [stamp, stamp + step), closed buckets only."""

    @abstractmethod
    def bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """`open high low close volume quote_volume trades taker_buy taker_buy_quote`, stamped at the OPEN."""

    @abstractmethod
    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> Rows:
        """`rate` (fraction per interval, positive: longs pay) and `mark` at settlement."""

    @abstractmethod
    def premium(self, symbol: str) -> Mapping[str, float]:
        """Now: `mark`, `index`, `rate` (running estimate), `next_ms`."""

    @abstractmethod
    def premium_bars(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """Premium over the index, a fraction: `open high low close`, stamped at the OPEN."""

    @abstractmethod
    def liquidations(self, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """`long`, `short`: positions liquidated over [stamp, stamp + step), in base coin; the running bucket with its closed steps."""

    @abstractmethod
    def option_chain(self, coin: str) -> Chain | None:
        """The chain of coin-settled options as it stands now; None when the market holds none."""

    @abstractmethod
    def volatility_index(self, coin: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """30-day implied volatility in percent p.a.: `open high low close`, stamped at the OPEN."""

    @abstractmethod
    def aggregate_symbols(self) -> Mapping[str, str]:
        """Coinalyze symbol -> base asset."""

    @abstractmethod
    def aggregate(self, what: Aggregate, symbol: str, step_ms: int, start_ms: int, end_ms: int) -> Rows:
        """Coinalyze bars stamped at their start; rates in percent, amounts in base coin, shares in percent."""

    @abstractmethod
    def supply(self, coin_id: str | None) -> Rows | None:
        """`circulating` in USD by day (stamp = day start) as shown NOW; None = total of all; unknown coin: None."""

    @abstractmethod
    def chain_metrics(self, asset: str) -> Rows | None:
        """`inflow`, `outflow` (exchanges', USD), `supply` (coins), `price` (USD), `completed` (Unix seconds) by day (stamp = day start).

        As shown NOW; `asset` is BTC, ETH or USDT_ETH (Tether on Ethereum), None for any other.
        """

    @abstractmethod
    def fear_greed(self) -> Rows:
        """`value` 0..100 by day."""

    @abstractmethod
    def has_archive(self) -> bool:
        """Whether the market holds enough to make the venue's archive files."""


def day_ms(day: date) -> int:
    """Stamp of the day's start."""
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))


def frozen(now: datetime) -> Callable[[], int]:
    """A clock that stands still."""
    stamp = to_ms(now)
    return lambda: stamp

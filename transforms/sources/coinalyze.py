"""Coinalyze: daily bars of Binance USDT perpetuals, kept for years: open interest, funding, long/short, liquidations, prices.

Answers are `[{"symbol": ..., "history": [{"t": ..., ...}]}]`; `t` is the bar's start in seconds. Every symbol of a request counts as
one call of 40 a minute. A request for several symbols is one Series whose `instrument` is comma-joined; symbols without data are
simply absent. Amounts come per contract unit (convert_to_usd=false): 1000SHIB is 1000 SHIB, so amounts are multiplied and prices
divided, and both refer to one coin. Fields beside the one a table needs may be null in a replayed recording; nothing is filled in.

Document: https://api.coinalyze.net/v1/doc/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np

from transforms import conventions
from transforms.instruments import COINALYZE_BINANCE, coinalyze_asset
from transforms.reading import Count, Floats, Mask, Nullable, Seconds, Shape, Sieve, Stamps, from_us, instants, message_error, stamp, to_us
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Reject, Series, Source, Unreadable
from transforms.sources.rows import counted_in
from transforms.windows import DAY, HOUR, Window

SYMBOLS: Final = 20  # in one request
#: days in one request: answers end after 1500 points of open interest, whatever was asked for
SPAN: Final = timedelta(days=1000)
SECOND: Final = 1_000_000  # microseconds
SHARES_AGREE: Final = 0.01  # l and s are rounded to two decimals of a percent, r to four


class _Bar(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    t: Seconds


class Stock(_Bar):
    """Open interest or funding: open, high, low, close of the day."""

    c: float
    o: float | None = None
    h: float | None = None
    l: float | None = None


class Split(_Bar):
    """Long/short: ratio, long and short in percent."""

    r: float | None = None
    l: float | None = None
    s: float | None = None


class Liquidated(_Bar):
    l: float
    s: float


class Candle(_Bar):
    c: float
    v: float
    o: float | None = None
    h: float | None = None
    l: float | None = None
    bv: float | None = None
    tx: Count | None = None
    btx: Count | None = None


class History(msgspec.Struct, forbid_unknown_fields=True):
    symbol: str
    history: msgspec.Raw


class Market(msgspec.Struct):
    """Part of a market's listing; further fields are not noted."""

    symbol: str
    exchange: str
    symbol_on_exchange: str
    base_asset: str
    quote_asset: str
    is_perpetual: bool
    margined: str
    oi_lq_vol_denominated_in: str


_HISTORY: Final = Shape(History, message_error)
_MARKET: Final = Shape(Market, message_error)
_STOCK: Final = Shape(Stock)
_SPLIT: Final = Shape(Split)
_LIQUIDATED: Final = Shape(Liquidated)
_CANDLE: Final = Shape(Candle)

#: endpoint -> shape of its bars
BARS: Final[Mapping[str, Shape[Any]]] = {
    "open-interest-history": _STOCK,
    "funding-rate-history": _STOCK,
    "long-short-ratio-history": _SPLIT,
    "liquidation-history": _LIQUIDATED,
    "ohlcv-history": _CANDLE,
}
CONVERTED: Final = frozenset({"open-interest-history", "liquidation-history"})  # take convert_to_usd


class Coinalyze(Source):
    """See the module's docstring."""

    name = "coinalyze"
    hosts: Mapping[str, str] = {"api": "https://api.coinalyze.net"}
    budgets: Mapping[str, Budget] = {"default": Budget(40, 60, heaviest=SYMBOLS)}
    endpoints: Mapping[str, str] = {
        "future-markets": "instruments",
        "open-interest-history": "open_interest",
        "funding-rate-history": "funding",
        "long-short-ratio-history": "long_short",
        "liquidation-history": "liquidations",
        "ohlcv-history": "candles",
    }
    key_variable = "COINALYZE_API_KEY"
    key_header = "api_key"

    def catalogue(self, now: datetime) -> Series:
        return Series(self.name, "future-markets", "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Every endpoint for batches of 20 instruments, days that are over by `now`, at most 1000 days a series."""
        if window.start >= now:
            return
        asked = Window(window.start, min(window.end, now))
        names = sorted({one.instrument for one in instruments})
        for endpoint in BARS:
            for first in range(0, len(names), SYMBOLS):
                for part in _spans(asked):
                    if part.grid(DAY):
                        yield Series(self.name, endpoint, ",".join(names[first : first + SYMBOLS]), part, DAY)

    def asks(self, series: Series) -> Iterator[Ask]:
        if series.endpoint == "future-markets":
            yield Ask(series, "api", "/v1/future-markets")
            return
        if series.endpoint not in BARS:
            raise ValueError(f"coinalyze has no endpoint {series.endpoint!r}; it has {', '.join(self.endpoints)}")
        shift = conventions.shift(self.name, series.endpoint, series.window.start)
        stamps = [int((as_of - shift).timestamp()) for as_of in series.expected() or []]
        if not stamps:
            return
        params = [("symbols", series.instrument), ("interval", "daily"), ("from", str(stamps[0])), ("to", str(stamps[-1]))]
        if series.endpoint in CONVERTED:
            params.append(("convert_to_usd", "false"))
        yield Ask(series, "api", f"/v1/{series.endpoint}", tuple(params), weight=float(len(series.instruments)))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        verdict = super().classify(ask, answer)
        if answer.status == 429:  # its Retry-After has decimals
            wait = answer.header("Retry-After")
            seconds = float(wait) if re.fullmatch(r"\d{1,6}(\.\d+)?", wait) else None
            return Disposition("retry", verdict.reason_code, verdict.detail, seconds)
        if answer.status == 401:
            return Disposition("reject", "HTTP_STATUS", f"HTTP 401 from {ask.path}: set {self.key_variable} to a key from coinalyze.net")
        if verdict.reason_code == "HTTP_STATUS" and (said := message_error(answer.body)):
            return Disposition("reject", "VENUE_ERROR", f"HTTP {answer.status} from {ask.target}: {said}")
        return verdict

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        endpoint = ask.series.endpoint
        if endpoint not in self.endpoints:
            raise ValueError(f"coinalyze has no endpoint {endpoint!r}; it has {', '.join(self.endpoints)}")
        target = self.endpoints[endpoint]
        try:
            if endpoint == "future-markets":
                return _markets(answer)
            return _histories(ask, answer, target)
        except LookupError as undeclared:
            raise Unreadable(Reject(target, "CONVENTION", str(undeclared), ask.target)) from undeclared


def _spans(window: Window) -> Iterator[Window]:
    """Pieces from the window's start on: a request costs the same for a day and for 1000, so they are not cut on a common grid."""
    start = window.start
    while start < window.end:
        yield Window(start, min(start + SPAN, window.end))
        start += SPAN


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of several symbols, side by side with whose they are."""

    series: Series
    rows: Sequence[Any]
    symbols: Sequence[str]
    as_of: Stamps
    multipliers: Floats

    def column(self, name: str) -> tuple[Floats, Mask]:
        """A numeric field (NaN where null), and where it is not null."""
        found = [getattr(row, name) for row in self.rows]
        valid = np.array([value is not None for value in found], dtype=np.bool_)
        return np.array([np.nan if value is None else value for value in found], dtype=np.float64), valid

    def said(self, what: conventions.What) -> str:
        return conventions.text("coinalyze", self.series.endpoint, what, self.series.window.start)

    def factor(self, what: conventions.What) -> float:
        return conventions.number("coinalyze", self.series.endpoint, what, self.series.window.start)


def _histories(ask: Ask, answer: Answer, target: str) -> Decoded:
    """Bars of several symbols as one table."""
    endpoint = ask.series.endpoint
    read = _HISTORY.many(answer.body, target)
    rejects, notes = list(read.rejects), list(read.notes)
    rows: list[Any] = []
    symbols: list[str] = []
    for number, one in enumerate(read.rows):
        if one.symbol not in ask.series.instruments:
            detail = f"found symbol {one.symbol!r}, asked for {ask.series.instrument}"
            rejects.append(Reject(target, "CONVENTION", detail, bytes(one.history)[:2000].decode("utf-8", "replace")))
            continue
        try:
            found = BARS[endpoint].many(one.history, target, f"$[{number}].history")
        except Unreadable as fault:
            rejects.append(fault.reject)
            continue
        rows += found.rows
        symbols += [one.symbol] * len(found.rows)
        rejects += found.rejects
        notes += found.notes
    sieve = Sieve(target, rows, rejects)
    shift = conventions.shift("coinalyze", endpoint, ask.series.window.start)
    as_of = np.array([row.t for row in rows], dtype=np.int64) * SECOND + shift // timedelta(microseconds=1)
    sieve.inside(as_of, ask.series.window, ask.series.step)
    coins = [coinalyze_asset(symbol) for symbol in symbols]
    bars = Bars(ask.series, rows, symbols, as_of, np.array([multiplier for _, multiplier in coins], dtype=np.float64))
    if endpoint in IN_COINS:
        counted_in(ask, "base")
    with np.errstate(over="ignore"):  # what is not finite is refused
        values = FILL[endpoint](sieve, bars)
    owners = np.array(symbols, dtype=object)
    sieve.single([owners, as_of], [_compared(value) for value in values.values() if isinstance(value, np.ndarray | Nullable)])
    lag = conventions.span("coinalyze", endpoint, "lag", ask.series.window.start)
    who_and_when = {
        "source": "coinalyze",
        "venue": "binance",
        "instrument": owners,
        "asset": np.array([asset for asset, _ in coins], dtype=object),
        "as_of": instants(as_of),
        "known_at": instants(as_of + lag // timedelta(microseconds=1)),
    }
    return Decoded({target: sieve.table({**who_and_when, **values})}, sieve.rejects, notes)


def _compared(value: Any) -> Any:
    return np.where(value.valid, value.values, -1) if isinstance(value, Nullable) else value


def _open_interest(sieve: Sieve, bars: Bars) -> dict[str, Any]:
    """Open interest at the end of the day: contract units as served, coins after the multiplier."""
    native = sieve.limits("open_interest_native", bars.column("c")[0])
    sieve.refuse(
        native == 0.0, "ZERO_OPEN_INTEREST", lambda i: f"open interest of exactly 0 of {bars.symbols[i]} at {stamp(bars.as_of[i])}"
    )
    sides = bars.factor("oi_sides")
    return {
        "open_interest_native": native,
        "native_unit": bars.said("native_unit"),
        "oi_sides": int(sides),
        "open_interest_base": sieve.limits("open_interest_base", native * bars.multipliers / sides),
        "open_interest_usd": None,
    }


def _funding(sieve: Sieve, bars: Bars) -> dict[str, Any]:
    """The last settlement of the day, from percent to a fraction; its interval only where a convention states it for that day."""
    stated = [
        conventions.number_or_none("coinalyze", bars.series.endpoint, "funding_interval_h", from_us(row.t * SECOND), symbol)
        for row, symbol in zip(bars.rows, bars.symbols, strict=True)
    ]
    hours = np.array([np.nan if hour is None else hour for hour in stated], dtype=np.float64)
    return {
        "funding_rate": sieve.limits("funding_rate", bars.column("c")[0], bars.factor("rate_scale")),
        "funding_kind": "settlement",
        "funding_interval_h": Nullable(hours, ~np.isnan(hours)),
    }


def _long_short(sieve: Sieve, bars: Bars) -> dict[str, Any]:
    """Shares from the ratio r = long / short; where only l and s are given, from them. Both given must agree (CONVENTION)."""
    ratio, has_ratio = bars.column("r")
    (long, has_long), (short, has_short) = bars.column("l"), bars.column("s")
    both = has_long & has_short
    sieve.refuse(~has_ratio & ~both, "VALUE", lambda _: "neither a ratio nor shares")
    sieve.refuse(has_ratio & ~(ratio >= 0.0), "VALUE", lambda i: f"ratio {ratio[i]:.12g}, expected 0 or more")
    scale = bars.factor("share_scale")
    with np.errstate(invalid="ignore", divide="ignore"):
        off = both & ~(np.abs((long + short) * scale - 1.0) <= SHARES_AGREE)
        sieve.refuse(off, "CONVENTION", lambda i: f"l + s = {long[i] + short[i]!r}, declared is {1 / scale:g}")
        stated, implied = long / (long + short), ratio / (1.0 + ratio)
        odd = both & has_ratio & ~(np.abs(stated - implied) <= SHARES_AGREE)
        sieve.refuse(odd, "CONVENTION", lambda i: f"r says {implied[i]:.4f} long, l and s say {stated[i]:.4f}")
        share = np.where(has_ratio, implied, stated)
    return {
        "ratio_metric": bars.said("ratio_metric"),
        "long_share": sieve.limits("long_share", share),
        "short_share": sieve.limits("short_share", 1.0 - share),
    }


def _liquidations(sieve: Sieve, bars: Bars) -> dict[str, Any]:
    """Liquidated longs and shorts (side of the position) in coins: a lower bound."""
    if (sides := bars.said("liquidation_sides")) != "position":
        raise LookupError(f"found liquidation_sides {sides!r} of coinalyze; this decoder reads sides of the position only")
    return {
        "interval_h": DAY / HOUR,
        "long_liquidated_base": sieve.limits("long_liquidated_base", bars.column("l")[0] * bars.multipliers),
        "short_liquidated_base": sieve.limits("short_liquidated_base", bars.column("s")[0] * bars.multipliers),
        "completeness": bars.said("completeness"),
    }


def _candles(sieve: Sieve, bars: Bars) -> dict[str, Any]:
    """Prices per coin, amounts in coins."""

    def optional(name: str, field: str, scale: Floats) -> Nullable:
        values, valid = bars.column(field)
        return Nullable(sieve.limits(name, values * scale, valid=valid), valid)

    counted, has_count = bars.column("tx")
    trades = sieve.limits("trades", counted, valid=has_count)
    per_coin = 1.0 / bars.multipliers
    return {
        "interval_h": DAY / HOUR,
        "open_usd": optional("open_usd", "o", per_coin),
        "high_usd": optional("high_usd", "h", per_coin),
        "low_usd": optional("low_usd", "l", per_coin),
        "close_usd": sieve.limits("close_usd", bars.column("c")[0] / bars.multipliers),
        "volume_base": sieve.limits("volume_base", bars.column("v")[0] * bars.multipliers),
        "taker_buy_base": optional("taker_buy_base", "bv", bars.multipliers),
        "trades": Nullable(np.where(has_count & np.isfinite(trades), trades, 0.0).astype(np.int64), has_count),
    }


FILL: Final[Mapping[str, Callable[[Sieve, Bars], dict[str, Any]]]] = {
    "open-interest-history": _open_interest,
    "funding-rate-history": _funding,
    "long-short-ratio-history": _long_short,
    "liquidation-history": _liquidations,
    "ohlcv-history": _candles,
}


#: endpoints whose amounts are declared in base units
IN_COINS: Final = ("open-interest-history", "liquidation-history", "ohlcv-history")


def _markets(answer: Answer) -> Decoded:
    """Binance USDT perpetuals of the catalogue (other exchanges, margins and dated contracts are no rows of ours).

    The catalogue states neither a status nor a listing date: the status is the declared one, the date null.
    """
    read = _MARKET.many(answer.body, "instruments")
    rows = [
        row
        for row in read.rows
        if row.exchange == COINALYZE_BINANCE and row.is_perpetual and row.quote_asset == "USDT" and row.margined == "STABLE"
    ]
    sieve = Sieve("instruments", rows, read.rejects)
    symbols = [row.symbol for row in rows]
    found = [_or_none(symbol) for symbol in symbols]
    unknown = np.array([one is None for one in found], dtype=np.bool_)
    sieve.refuse(unknown, "CONVENTION", lambda i: f"symbol {symbols[i]!r} is outside the declared spelling (transforms/instruments.py)")
    foreign = np.array([row.oi_lq_vol_denominated_in != "BASE_ASSET" for row in rows], dtype=np.bool_)
    sieve.refuse(
        foreign, "CONVENTION", lambda i: f"amounts of {symbols[i]} are in {rows[i].oi_lq_vol_denominated_in}, declared is BASE_ASSET"
    )
    at = answer.fetched_at
    as_of = np.full(len(rows), to_us(at), dtype=np.int64)
    lag = conventions.span("coinalyze", "future-markets", "lag", at)
    names = np.array(symbols, dtype=object)
    bases = np.array([row.symbol_on_exchange.removesuffix(row.quote_asset) for row in rows], dtype=object)
    sieve.single([names], [bases])
    columns = {
        "source": "coinalyze",
        "venue": "binance",
        "instrument": names,
        "asset": np.array([one[0] if one else "" for one in found], dtype=object),
        "as_of": instants(as_of),
        "known_at": instants(as_of + lag // timedelta(microseconds=1)),
        "base_asset": bases,
        "quote_asset": "USDT",
        "margin_asset": "USDT",
        "contract_type": "PERPETUAL",
        "instrument_status": conventions.text("coinalyze", "future-markets", "instrument_status", at),
        "base_multiplier": np.array([one[1] if one else 1.0 for one in found], dtype=np.float64),
        "payoff": "linear",
        "contract_size": 1.0,
        "contract_unit": "base",
        "funding_interval_h": None,
        "listed_at": None,
        "delivery_at": None,
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, read.notes)


def _or_none(symbol: str) -> tuple[str, float] | None:
    try:
        return coinalyze_asset(symbol)
    except LookupError:
        return None


SOURCE: Final = Coinalyze()

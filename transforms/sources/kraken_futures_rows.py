"""How Kraken Futures' answers become rows of core tables (helper of the source in kraken_futures.py).

Payload examples per endpoint: tests/payloads/kraken_futures; the shapes: kraken_futures_shapes.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np

from transforms import conventions
from transforms.instruments import coin
from transforms.reading import Floats, Mask, Nullable, Sieve, Stamps, instants, moments, stamp, to_us
from transforms.sources import kraken_futures_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Decoded
from transforms.sources.kraken_futures_shapes import figures

SOURCE: Final = "kraken_futures"
#: the venue's names of coins that others call otherwise (PITFALLS E5); its listing says base BTC of PF_XBTUSD
ALIASES: Final[Mapping[str, str]] = {"XBT": "BTC"}
#: `type` of a contract -> pay-out, and what one contract counts
TYPES: Final[Mapping[str, tuple[str, str]]] = {"flexible_futures": ("linear", "base"), "futures_inverse": ("inverse", "usd")}
#: what is listed beside contracts and is none
INDICES: Final = frozenset({"spot index", "spot_index"})
#: endpoint -> whose heads it counts
#: endpoint -> the group of traders that is read
COHORTS: Final[Mapping[str, str]] = {"top-traders": "top20Percent"}
PERPETUAL: Final = "perpetual"
HOUR_US: Final = 3_600_000_000
#: stamps of rates lie on their hour; hours between two of them may differ from the declared period by this
APART_H: Final = 0.01
#: perpetuals and dated contracts, linear and inverse: PF_XBTUSD, FI_XBTUSD_260626
_SYMBOL: Final = re.compile(r"(PF|PI|FF|FI)_([A-Za-z0-9.]+)USD(_[0-9]{6})?")


@lru_cache(maxsize=4096)
def kraken_asset(symbol: str) -> tuple[str, float]:
    """Asset and coins per base unit of a contract against USD; another spelling raises LookupError.

    >>> kraken_asset("PF_XBTUSD"), kraken_asset("PI_ETHUSD"), kraken_asset("FI_XBTUSD_260626")
    (('BTC', 1.0), ('ETH', 1.0), ('BTC', 1.0))
    """
    found = _SYMBOL.fullmatch(symbol)
    if found is None or (found[1] in ("FF", "FI")) is not bool(found[3]):
        raise LookupError(f"found symbol {symbol!r}; Kraken spells PF_ or PI_<BASE>USD, and FF_ or FI_<BASE>USD_<YYMMDD> with a date")
    return coin(ALIASES.get(found[2], found[2]))


def base_of(symbol: str) -> str:
    """The base in the venue's spelling."""
    found = _SYMBOL.fullmatch(symbol)
    return found[2] if found else ""


def who(ask: Ask, as_of: Stamps) -> dict[str, Any]:
    return common.who(ask, as_of, kraken_asset(ask.series.instrument)[0])


def hours(ask: Ask) -> float:
    """The declared length of the endpoint's buckets."""
    return conventions.span(SOURCE, ask.series.endpoint, "period", ask.series.window.start) / timedelta(hours=1)


# -- analytics: buckets labelled by their start


def open_interest(ask: Ask, answer: Answer) -> Decoded:
    """Open interest at the end of each bucket, its close: base units, or USD of an inverse contract."""
    found, notes = shapes.page(answer.body, "open_interest")
    read = shapes.INTEREST.many(shapes.side_by_side(found, "open_interest"), "open_interest", "$.result")
    rows = read.rows
    sieve = Sieve("open_interest", rows, read.rejects)
    as_of = common.stamped(sieve, [row.timestamp for row in rows], ask, common.SECOND)
    _, high, low, close = ([row.value[n] for row in rows] for n in range(4))
    native = sieve.texts("open_interest_native", close)
    common.within(sieve, high, low, close)
    sieve.single([as_of], [native])
    asset, multiplier = kraken_asset(ask.series.instrument)
    table = common.interest(sieve, ask, as_of, native, asset=asset, multiplier=multiplier)
    return Decoded({"open_interest": table}, sieve.rejects, [*notes, *read.notes])


def heads(ask: Ask, answer: Answer) -> Decoded:
    """Shares of holders: of all, or of the largest fifth."""
    endpoint = ask.series.endpoint
    found, notes = shapes.page(answer.body, "long_short")
    body = shapes.side_by_side(found, "long_short", COHORTS.get(endpoint, ""))
    read = shapes.HEADS.many(body, "long_short", "$.result")
    rows = read.rows
    sieve = Sieve("long_short", rows, read.rejects)
    as_of = common.stamped(sieve, [row.timestamp for row in rows], ask, common.SECOND)
    counts = [np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in ("long_count", "short_count")]
    both = counts[0] + counts[1]
    sieve.refuse(both == 0.0, "VALUE", lambda i: f"nobody holds a position at {stamp(as_of[i])}: there is no share")
    long, short = (sieve.limits(name, one / np.maximum(both, 1.0)) for name, one in zip(("long_share", "short_share"), counts, strict=True))
    sieve.single([as_of], counts)
    metric = conventions.text(SOURCE, endpoint, "ratio_metric", ask.series.window.start)
    table = sieve.table({**who(ask, as_of), "ratio_metric": metric, "long_share": long, "short_share": short})
    return Decoded({"long_short": table}, sieve.rejects, [*notes, *read.notes])


def flow(ask: Ask, answer: Answer) -> Decoded:
    """Taker volumes of linear contracts in coins."""
    found, notes = shapes.page(answer.body, "taker_flow")
    read = shapes.FLOW.many(shapes.side_by_side(found, "taker_flow"), "taker_flow", "$.result")
    rows = read.rows
    sieve = Sieve("taker_flow", rows, read.rejects)
    as_of = common.stamped(sieve, [row.timestamp for row in rows], ask, common.SECOND)
    common.counted_in(ask, "base")
    multiplier = kraken_asset(ask.series.instrument)[1]
    buy = sieve.limits("taker_buy_base", figures([row.buy_volume for row in rows]), multiplier)
    sell = sieve.limits("taker_sell_base", figures([row.sell_volume for row in rows]), multiplier)
    sieve.single([as_of], [buy, sell])
    table = sieve.table({**who(ask, as_of), "interval_h": hours(ask), "taker_buy_base": buy, "taker_sell_base": sell})
    return Decoded({"taker_flow": table}, sieve.rejects, [*notes, *read.notes])


# -- bars and funding


def candles(ask: Ask, answer: Answer) -> Decoded:
    """Bars of a linear contract, prices per coin and amounts in coins."""
    envelope, notes = shapes.CANDLES.one(answer.body, "candles")
    read = shapes.CANDLE.many(envelope.candles, "candles", "$.candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    as_of = common.stamped(sieve, [row.time for row in rows], ask)
    common.counted_in(ask, "base")
    multiplier = kraken_asset(ask.series.instrument)[1]
    names = ("open", "high", "low", "close")
    prices = {f"{name}_usd": sieve.texts(f"{name}_usd", [getattr(row, name) for row in rows], 1 / multiplier) for name in names}
    volume = sieve.texts("volume_base", [row.volume for row in rows], multiplier)
    sieve.single([as_of], [*prices.values(), volume])
    columns = {**who(ask, as_of), "interval_h": hours(ask), **prices, "volume_base": volume, "taker_buy_base": None, "trades": None}
    return Decoded({"candles": sieve.table(columns)}, sieve.rejects, [*notes, *read.notes])


def funding(ask: Ask, answer: Answer) -> Decoded:
    """Relative rates of the periods that end in the window (PITFALLS C6). The venue sends its whole history: the rest is nobody's question."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    envelope, notes = shapes.RATES.one(answer.body, "funding")
    read = shapes.RATE.many(envelope.rates, "funding", "$.rates")
    shift = conventions.shift(SOURCE, endpoint, at)
    every = np.array([to_us(row.timestamp) for row in read.rows], dtype=np.int64) + shift // common.MICROSECOND
    ours = np.flatnonzero((every > to_us(ask.series.window.start)) & (every <= to_us(ask.series.window.end)))
    rows, as_of = [read.rows[i] for i in ours], every[ours]
    sieve = Sieve("funding", rows, read.rejects)
    sieve.inside(as_of, ask.series.window, ask.series.step)
    scale = conventions.number(SOURCE, endpoint, "rate_scale", at)
    rate = sieve.limits("funding_rate", figures([row.relative_funding_rate for row in rows]), scale)
    sieve.single([as_of], [rate])
    interval = conventions.number(SOURCE, endpoint, "funding_interval_h", at)
    gap = _apart(every)[ours]
    sieve.refuse(
        (gap > 0.0) & (np.abs(gap - interval) > APART_H),
        "CONVENTION",
        lambda i: f"the rates nearest to {stamp(as_of[i])} lie {gap[i]:g} h from it: periods of {interval:g} h are declared (PITFALLS C1)",
    )
    columns = {**who(ask, as_of), "funding_rate": rate, "funding_kind": "settlement", "funding_interval_h": interval}
    return Decoded({"funding": sieve.table(columns)}, sieve.rejects, [*notes, *read.notes])


def _apart(stamps: Stamps) -> Floats:
    """Hours from each stamp to the nearest other one on its hour; 0 where there is none."""
    held = np.unique(stamps[stamps % HOUR_US == 0])
    if len(held) < 2:
        return np.zeros(len(stamps))
    steps = np.diff(held) / HOUR_US
    nearest = np.minimum(np.append(np.inf, steps), np.append(steps, np.inf))
    return np.asarray(nearest[np.minimum(np.searchsorted(held, stamps), len(held) - 1)], dtype=np.float64)


# -- snapshots: as_of is the server's clock, never later than the time we asked (PITFALLS A10)


def tickers(ask: Ask, answer: Answer) -> Decoded:
    """Open interest, mark and index price of the contracts asked for; the answer holds all others too."""
    at, wanted = answer.fetched_at, set(ask.series.instruments)
    envelope, notes = shapes.TICKERS.one(answer.body, "open_interest")
    read = shapes.TICKER.many(envelope.tickers, "open_interest", "$.tickers")
    rows = [row for row in read.rows if row.symbol in wanted]
    symbols = [row.symbol for row in rows]
    held, marks = Sieve("open_interest", rows, read.rejects), Sieve("marks", rows)
    for sieve in (held, marks):
        assets, multipliers = common.named(sieve, symbols, kraken_asset)
    as_of = np.full(len(rows), to_us(min(envelope.server_time, at)), dtype=np.int64)
    for sieve in (held, marks):
        common.fresh(sieve, as_of, ask)
    held.rejects += common.unheard(ask, symbols, "open_interest")
    keys = [np.array(symbols, dtype=object)]

    native = _given(held, rows, "open_interest", "open_interest_native")
    held.refuse(native == 0.0, "ZERO_OPEN_INTEREST", lambda i: f"open interest of exactly 0 of {symbols[i]} at {stamp(as_of[i])}")
    held.single(keys, [native])
    unit = conventions.text(SOURCE, ask.series.endpoint, "native_unit", at)
    sides = conventions.number(SOURCE, ask.series.endpoint, "oi_sides", at)
    if unit not in ("base", "usd"):
        raise LookupError(f"found unit {unit!r} of {SOURCE} {ask.series.endpoint}; known are base, usd")
    counted: Mask = np.full(len(rows), unit == "base", dtype=np.bool_)
    mark, index = (_given(marks, rows, f"{name}_price", f"{name}_usd", 1 / multipliers) for name in ("mark", "index"))
    marks.single(keys, [mark, index])
    found = common.whose(ask, answer, symbols, assets, as_of)
    tables = {
        "open_interest": held.table(
            {
                **found,
                "open_interest_native": native,
                "native_unit": unit,
                "oi_sides": int(sides),
                "open_interest_base": Nullable(native * multipliers / sides, counted),
                "open_interest_usd": Nullable(native / sides, ~counted),
            }
        ),
        "marks": marks.table({**found, "mark_usd": mark, "index_usd": index}),
    }
    return Decoded(tables, [*held.rejects, *marks.rejects], [*notes, *read.notes])


def _given(sieve: Sieve, rows: Sequence[shapes.Ticker], field: str, name: str, scale: Any = 1.0) -> Any:
    """A field that contracts have and indices lack (MISSING)."""
    values = [getattr(row, field) for row in rows]
    absent = np.array([value is None for value in values], dtype=np.bool_)
    sieve.refuse(absent, "MISSING", lambda i: f"{rows[i].symbol} has no {field}")
    return sieve.limits(name, np.where(absent, 0.0, figures(values)) * scale, valid=~absent)


def listing(ask: Ask, answer: Answer) -> Decoded:
    """Every listed contract, perpetual or dated, whether it trades or not; indices are none."""
    envelope, notes = shapes.INSTRUMENTS.one(answer.body, "instruments")
    read = shapes.INSTRUMENT.many(envelope.instruments, "instruments", "$.instruments")
    rows = [row for row in read.rows if row.type not in INDICES]
    sieve = Sieve("instruments", rows, read.rejects)
    symbols = [row.symbol for row in rows]
    strange = np.array([row.type not in TYPES for row in rows], dtype=np.bool_)
    sieve.refuse(strange, "CONVENTION", lambda i: f"{symbols[i]} is of type {rows[i].type!r}; declared are {', '.join(TYPES)}")
    assets, multipliers = common.named(sieve, symbols, kraken_asset)
    other = np.array(
        [row.base is not None and row.base not in (base_of(row.symbol), asset) for row, asset in zip(rows, assets, strict=True)]
    )
    sieve.refuse(other.astype(np.bool_), "CONVENTION", lambda i: f"{symbols[i]} has base {rows[i].base!r}, its name says {assets[i]!r}")
    unsized = np.array([row.contract_size is None for row in rows], dtype=np.bool_)
    sieve.refuse(unsized, "MISSING", lambda i: f"{symbols[i]} has no contractSize")
    size = sieve.limits("contract_size", np.array([row.contract_size or 0.0 for row in rows], dtype=np.float64))
    payoff, unit = (np.array([TYPES.get(row.type, ("", ""))[n] for row in rows], dtype=object) for n in (0, 1))
    words = np.array(["tradeable" if row.tradeable else "not tradeable" for row in rows], dtype=object)
    at = answer.fetched_at
    as_of = common.fresh(sieve, np.full(len(rows), to_us(min(envelope.server_time or at, at)), dtype=np.int64), ask)
    ends = _instants(sieve, "lastTradingTime", [row.last_trading_time for row in rows])
    born = _instants(sieve, "openingDate", [row.opening_date for row in rows])
    sieve.single([np.array(symbols, dtype=object)], [size, payoff, words, *born, *ends])
    endless = ~ends.valid
    hourly = conventions.number("kraken_futures", "instruments", "funding_interval_h", at)
    columns: Mapping[str, Any] = {
        **common.whose(ask, answer, symbols, assets, as_of),
        "base_asset": np.array([base_of(symbol) for symbol in symbols], dtype=object),
        "quote_asset": "USD",
        "margin_asset": np.array(["USD" if one == "linear" else asset for one, asset in zip(payoff, assets, strict=True)], dtype=object),
        "contract_type": np.array(
            [f"{row.type} {PERPETUAL if last else 'dated'}" for row, last in zip(rows, endless, strict=True)], dtype=object
        ),
        "instrument_status": words,
        "base_multiplier": multipliers,
        "payoff": payoff,
        "contract_size": size,
        "contract_unit": unit,
        "funding_interval_h": Nullable(np.full(len(rows), hourly), endless),
        "listed_at": born,
        "delivery_at": ends,
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, [*notes, *read.notes])


def _instants(sieve: Sieve, name: str, held: Sequence[datetime | None]) -> Nullable:
    """A column of instants, null where the venue gives none."""
    given = np.array([one is not None for one in held], dtype=np.bool_)
    stamps, readable = moments(held)
    sieve.refuse(given & ~readable, "VALUE", lambda i: f"found {name} {held[i]}, expected an instant from 1970 on")
    return Nullable(instants(stamps), given)

"""How Bybit's answers become rows of core tables, and how its symbols are spelled (helper of the source in bybit.py).

Payload examples per endpoint: tests/payloads/bybit; the shapes: bybit_shapes.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from transforms import conventions
from transforms.reading import Floats, Mask, Nullable, Read, Shape, Sieve, floats, instants, micros, stamp
from transforms.sources import bybit_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Decoded, Reject, Series, Unreadable
from transforms.sources.rows import MILLI, asked_for, named, optional, or_none, settled, stamped, taken, whose, within

SOURCE: Final = "bybit"
LINEAR: Final = "linear"
INVERSE: Final = "inverse"
#: endpoints whose numbers mean something else in the other category, or that know only one
CATEGORIES: Final[Mapping[str, str]] = {
    "open-interest": LINEAR,
    "inverse-open-interest": INVERSE,
    "kline": LINEAR,
    "inverse-kline": INVERSE,
    "premium-index-price-kline": LINEAR,
}
#: contract type -> what the contract pays in, and what it is counted in
PAYOFFS: Final[Mapping[str, tuple[str, str]]] = {
    "LinearPerpetual": ("linear", "base"),
    "LinearFutures": ("linear", "base"),
    "InversePerpetual": ("inverse", "usd"),
    "InverseFutures": ("inverse", "usd"),
}
PERPETUALS: Final = ("LinearPerpetual", "InversePerpetual")
R = TypeVar("R", bound=msgspec.Struct)


# -- spelling

#: coins per base unit where a number stands before the coin (1000PEPEUSDT, 10000SATSUSDT, 1000000MOGUSDT) ...
MULTIPLIERS: Final[Mapping[str, float]] = {"1000000": 1e6, "10000": 1e4, "1000": 1e3}
#: ... and the bases that have it behind: one by one, for a coin's own name may end in digits
SUFFIXED: Final[Mapping[str, tuple[str, float]]] = {"SHIB1000": ("SHIB", 1e3)}
#: how a perpetual's symbol ends: USDT linear, USDC linear, inverse
ENDINGS: Final = ("USDT", "PERP", "USD")
_PREFIXED: Final = re.compile(r"(1000000|10000|1000)([^0-9].*)")
_LOOKS_MULTIPLIED: Final = re.compile(r"10{2,}.*|.*[^0-9]10{2,}")


@lru_cache(maxsize=4096)
def bybit_coin(base: str) -> tuple[str, float]:
    """Asset and coins per base unit of a base coin; what looks like a multiplier and is not declared raises LookupError.

    >>> bybit_coin("SHIB1000"), bybit_coin("10000SATS"), bybit_coin("1INCH"), bybit_coin("C98")
    (('SHIB', 1000.0), ('SATS', 10000.0), ('1INCH', 1.0), ('C98', 1.0))
    """
    if base in SUFFIXED:
        return SUFFIXED[base]
    if found := _PREFIXED.fullmatch(base):
        return found[2], MULTIPLIERS[found[1]]
    if not base or _LOOKS_MULTIPLIED.fullmatch(base):
        raise LookupError(
            f"found base coin {base!r}; declared are the prefixes {', '.join(MULTIPLIERS)} and the names {', '.join(SUFFIXED)} "
            "(transforms/sources/bybit_rows.py)"
        )
    return base, 1.0


@lru_cache(maxsize=4096)
def bybit_asset(symbol: str) -> tuple[str, float]:
    """Asset and coins per base unit of a perpetual; a symbol with another ending raises LookupError.

    >>> bybit_asset("SHIB1000USDT"), bybit_asset("BTCUSD"), bybit_asset("ETHPERP")
    (('SHIB', 1000.0), ('BTC', 1.0), ('ETH', 1.0))
    """
    for ending in ENDINGS:
        if symbol.endswith(ending) and len(symbol) > len(ending):
            return bybit_coin(symbol.removesuffix(ending))
    raise LookupError(f"found symbol {symbol!r}; a perpetual's ends in {', '.join(ENDINGS)}")


# -- envelopes


class Opened(NamedTuple):
    """A good answer out of its envelope."""

    page: shapes.Page
    sent: int
    notes: list[str]

    def rows(self, shape: Shape[R], target: str) -> Read[R]:
        read = shape.many(bytes(self.page.list), target, "$.result.list")
        return Read(read.rows, read.rejects, [*self.notes, *read.notes])


def category(series: Series) -> str:
    """`linear` or `inverse`: said by the endpoint, or else by the series' options."""
    return CATEGORIES.get(series.endpoint) or dict(series.options)["category"]


def opened(ask: Ask, answer: Answer, target: str) -> Opened:
    """Raises Unreadable where the venue answers with an error, LookupError where it speaks of another category."""
    envelope, notes = shapes.ENVELOPE.one(answer.body, target)
    if envelope.ret_code != 0:
        raise Unreadable(
            Reject(target, "VENUE_ERROR", f"{envelope.ret_code} {envelope.ret_msg}", answer.body[:2000].decode("utf-8", "replace"))
        )
    page, more = shapes.PAGE.one(bytes(envelope.result), target)
    wanted = dict(ask.params)["category"]
    if page.category is not None and page.category != wanted:
        raise LookupError(f"found category {page.category!r}, asked for {wanted!r}")
    return Opened(page, envelope.time, [*notes, *more])


def of_symbol(sieve: Sieve, said: Opened, ask: Ask) -> None:
    """Rows that name no symbol are of the one that stands above them."""
    if said.page.symbol is None:
        raise Unreadable(Reject(sieve.target, "SHAPE", "Object missing required field `symbol` - at `$.result`", ask.target))
    asked_for(sieve, [said.page.symbol] * len(sieve.rows), ask)


# -- histories: one instrument, a window


def open_interest(ask: Ask, answer: Answer) -> Decoded:
    """Snapshots of open interest, both sides; where the venue also states one side, the two must agree (PITFALLS A1)."""
    series = ask.series
    said = opened(ask, answer, "open_interest")
    read = said.rows(shapes.OPEN_INTEREST, "open_interest")
    rows = read.rows
    sieve = Sieve("open_interest", rows, read.rejects)
    of_symbol(sieve, said, ask)
    as_of = stamped(sieve, [row.timestamp for row in rows], ask)
    native = sieve.texts("open_interest_native", [row.open_interest for row in rows])
    stated: Mask = np.array([bool(row.single_open_interest) for row in rows], dtype=np.bool_)
    single = floats([row.single_open_interest or "" for row in rows])
    _one_sided(sieve, ask, answer, native, single, stated)
    sieve.single([as_of], [native])
    asset, multiplier = bybit_asset(series.instrument)
    table = common.interest(sieve, ask, as_of, native, asset=asset, multiplier=multiplier)
    notes = list(read.notes)
    due = conventions.number_or_none(SOURCE, series.endpoint, "single_oi_tolerance", series.window.start) is not None
    if due and not stated.all():
        notes.append(
            "singleOpenInterest is missing: openInterest was divided by its declared sides without the venue's own figure beside it"
        )
    return Decoded({"open_interest": table}, sieve.rejects, notes)


def _one_sided(sieve: Sieve, ask: Ask, answer: Answer, native: Floats, single: Floats, stated: Mask) -> None:
    """The venue's own one-sided figure and openInterest over its declared sides are the same number (CONVENTION)."""
    series = ask.series
    sides = conventions.number(SOURCE, series.endpoint, "oi_sides", series.window.start)
    # the field is one of answers, not of stamps: an old stamp asked for today may carry it
    tolerance = conventions.number_or_none(SOURCE, series.endpoint, "single_oi_tolerance", answer.fetched_at)
    if tolerance is None:
        sieve.refuse(
            stated, "CONVENTION", lambda i: f"found singleOpenInterest {single[i]!r} on {answer.fetched_at:%Y-%m-%d}, before its date"
        )
        return
    apart = ~(np.abs(native / sides - single) <= tolerance * native / sides)
    sieve.refuse(
        stated & apart,
        "CONVENTION",
        lambda i: f"openInterest {native[i]!r} over {sides:g} sides is not singleOpenInterest {single[i]!r}, tolerance {tolerance:g}",
    )


def ratio(ask: Ask, answer: Answer) -> Decoded:
    """Shares of accounts that are net long and net short."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = opened(ask, answer, "long_short").rows(shapes.RATIO, "long_short")
    rows = read.rows
    sieve = Sieve("long_short", rows, read.rejects)
    asked_for(sieve, [row.symbol for row in rows], ask)
    as_of = stamped(sieve, [row.timestamp for row in rows], ask)
    scale = conventions.number(SOURCE, endpoint, "share_scale", at)
    long = sieve.texts("long_share", [row.buy_ratio for row in rows], scale)
    short = sieve.texts("short_share", [row.sell_ratio for row in rows], scale)
    sieve.single([as_of], [long, short])
    table = sieve.table(
        {
            **common.who(ask, as_of, bybit_asset(ask.series.instrument)[0]),
            "ratio_metric": conventions.text(SOURCE, endpoint, "ratio_metric", at),
            "long_share": long,
            "short_share": short,
        }
    )
    return Decoded({"long_short": table}, sieve.rejects, read.notes)


def klines(ask: Ask, answer: Answer) -> Decoded:
    """Bars, prices per coin and amounts in coins; the venue states neither taker volume nor number of trades."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    said = opened(ask, answer, "candles")
    read = said.rows(shapes.KLINE, "candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    of_symbol(sieve, said, ask)
    as_of = stamped(sieve, [row.start for row in rows], ask)
    asset, multiplier = bybit_asset(ask.series.instrument)
    prices = [sieve.texts(f"{name}_usd", [getattr(row, name) for row in rows], 1 / multiplier) for name in ("open", "high", "low", "close")]
    unit = conventions.text(SOURCE, endpoint, "native_unit", at)
    if unit not in ("base", "usd"):
        raise LookupError(f"found unit {unit!r} of {SOURCE} {endpoint}; known are base, usd")
    coins, worth = ([getattr(row, name) for row in rows] for name in (("volume", "turnover") if unit == "base" else ("turnover", "volume")))
    volume = sieve.texts("volume_base", coins, multiplier)
    common.priced(sieve, worth, coins, [row.high for row in rows], [row.low for row in rows])
    sieve.single([as_of], [*prices, volume])
    table = sieve.table(
        {
            **common.who(ask, as_of, asset),
            "interval_h": conventions.span(SOURCE, endpoint, "period", at) / timedelta(hours=1),
            **dict(zip(("open_usd", "high_usd", "low_usd", "close_usd"), prices, strict=True)),
            "volume_base": volume,
            "taker_buy_base": None,
            "trades": None,
        }
    )
    return Decoded({"candles": table}, sieve.rejects, read.notes)


def premium_klines(ask: Ask, answer: Answer) -> Decoded:
    """Premium over the index at the end of each bar, its close: a share, so coins per base unit do not matter."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    said = opened(ask, answer, "premiums")
    read = said.rows(shapes.PREMIUM_KLINE, "premiums")
    rows = read.rows
    sieve = Sieve("premiums", rows, read.rejects)
    of_symbol(sieve, said, ask)
    as_of = stamped(sieve, [row.start for row in rows], ask)
    premium = sieve.texts("premium_share", [row.close for row in rows], conventions.number(SOURCE, endpoint, "rate_scale", at))
    within(sieve, [row.high for row in rows], [row.low for row in rows], [row.close for row in rows])
    sieve.single([as_of], [premium])
    table = sieve.table(
        {
            **common.who(ask, as_of, bybit_asset(ask.series.instrument)[0]),
            "interval_h": conventions.span(SOURCE, endpoint, "period", at) / timedelta(hours=1),
            "premium_share": premium,
        }
    )
    return Decoded({"premiums": table}, sieve.rejects, read.notes)


def funding(ask: Ask, answer: Answer) -> Decoded:
    """Settled funding rates. The rows do not say which interval they pay for: null, to be inferred from the settlements."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = opened(ask, answer, "funding").rows(shapes.FUNDING, "funding")
    rows = read.rows
    sieve = Sieve("funding", rows, read.rejects)
    asked_for(sieve, [row.symbol for row in rows], ask)
    stamps, readable = micros([row.funding_rate_timestamp for row in rows], MILLI)
    sieve.refuse(~readable, "VALUE", lambda i: f"found stamp {rows[i].funding_rate_timestamp!r}, expected Unix milliseconds")
    as_of = settled(sieve, stamps, ask)
    rate = sieve.texts("funding_rate", [row.funding_rate for row in rows], conventions.number(SOURCE, endpoint, "rate_scale", at))
    sieve.single([as_of], [rate])
    table = sieve.table(
        {
            **common.who(ask, as_of, bybit_asset(ask.series.instrument)[0]),
            "funding_rate": rate,
            "funding_kind": conventions.text(SOURCE, endpoint, "funding_kind", at),
            "funding_interval_h": None,
        }
    )
    return Decoded({"funding": table}, sieve.rejects, read.notes)


# -- snapshots: as_of is the instant the venue sent the answer, never later than the time we asked (PITFALLS A10)


def tickers(ask: Ask, answer: Answer) -> Decoded:
    """Mark and index price per coin, and the rate displayed for the next settlement: a quote, not a payment (PITFALLS C7)."""
    endpoint, at = ask.series.endpoint, answer.fetched_at
    said = opened(ask, answer, "marks")
    read = said.rows(shapes.TICKER, "marks")
    rows = read.rows
    symbols = [row.symbol for row in rows]
    marks, quotes = Sieve("marks", rows, read.rejects), Sieve("funding", rows)
    for sieve in (marks, quotes):
        as_of = taken(sieve, [said.sent] * len(rows), ask, answer)
        asked_for(sieve, symbols, ask)
        assets, multipliers = named(sieve, symbols, bybit_asset)
    mark = marks.limits("mark_usd", floats([row.mark_price for row in rows]) / multipliers)
    index = marks.limits("index_usd", floats([row.index_price for row in rows]) / multipliers)
    due, readable = micros([row.next_funding_time for row in rows], MILLI)
    quotes.refuse(
        ~readable | (due <= as_of), "CONVENTION", lambda i: f"nextFundingTime {rows[i].next_funding_time} is not after {stamp(as_of[i])}"
    )
    rate = quotes.texts("funding_rate", [row.funding_rate for row in rows], conventions.number(SOURCE, endpoint, "rate_scale", at))
    hours = optional(quotes, "funding_interval_h", [row.funding_interval_hour for row in rows])
    keys = [np.array(symbols, dtype=object)]
    marks.single(keys, [mark, index])
    quotes.single(keys, [rate, hours.values])
    columns = whose(ask, answer, symbols, assets, as_of)
    kind = conventions.text(SOURCE, endpoint, "funding_kind", at)
    tables = {
        "marks": marks.table({**columns, "mark_usd": mark, "index_usd": index}),
        "funding": quotes.table({**columns, "funding_rate": rate, "funding_kind": kind, "funding_interval_h": hours}),
    }
    return Decoded(tables, [*marks.rejects, *quotes.rejects], read.notes)


def listing(ask: Ask, answer: Answer) -> Decoded:
    """Every contract of a category and status, whatever its type; a type that nobody declared is put aside."""
    said = opened(ask, answer, "instruments")
    read = said.rows(shapes.LISTED, "instruments")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    found = [or_none(bybit_coin, row.base_coin) for row in rows]
    sieve.refuse(
        np.array([one is None for one in found], dtype=np.bool_),
        "CONVENTION",
        lambda i: f"base coin {rows[i].base_coin!r} has an undeclared multiplier (transforms/sources/bybit_rows.py)",
    )
    pays = [PAYOFFS.get(row.contract_type) for row in rows]
    sieve.refuse(
        np.array([one is None for one in pays], dtype=np.bool_),
        "CONVENTION",
        lambda i: f"contract type {rows[i].contract_type!r} is none of {', '.join(PAYOFFS)}",
    )
    symbols = [row.symbol for row in rows]
    strange = [
        bool(one) and row.contract_type in PERPETUALS and or_none(bybit_asset, row.symbol) != one
        for row, one in zip(rows, found, strict=True)
    ]
    sieve.refuse(np.array(strange, dtype=np.bool_), "CONVENTION", lambda i: f"{symbols[i]!r} is no perpetual of {rows[i].base_coin}")
    due = [{"linear": row.quote_coin, "inverse": row.base_coin}.get(one[0] if one else "") for row, one in zip(rows, pays, strict=True)]
    third = np.array([row.settle_coin != coin for row, coin in zip(rows, due, strict=True)], dtype=np.bool_)
    sieve.refuse(
        third, "CONVENTION", lambda i: f"{symbols[i]} of type {rows[i].contract_type} is paid in {rows[i].settle_coin}, expected {due[i]}"
    )
    as_of = taken(sieve, [said.sent] * len(rows), ask, answer)
    listed = _moment(sieve, [row.launch_time for row in rows])
    ends = _moment(sieve, [row.delivery_time for row in rows])
    minutes = np.array([row.funding_interval or 0 for row in rows], dtype=np.float64)
    every = minutes > 0  # dated futures settle no funding and state 0
    hours = Nullable(sieve.limits("funding_interval_h", minutes, 1 / 60, valid=every), every)
    words = {
        "base_asset": [row.base_coin for row in rows],
        "quote_asset": [row.quote_coin for row in rows],
        "margin_asset": [row.settle_coin for row in rows],
        "contract_type": [row.contract_type for row in rows],
        "instrument_status": [row.status for row in rows],
    }
    texts = {name: np.array(column, dtype=object) for name, column in words.items()}
    sieve.single([np.array(symbols, dtype=object)], [*texts.values(), listed.values, ends.values, minutes])
    columns: dict[str, Any] = {
        **whose(ask, answer, symbols, _objects([one[0] if one else "" for one in found]), as_of),
        **texts,
        "base_multiplier": np.array([one[1] if one else 1.0 for one in found], dtype=np.float64),
        "payoff": _objects([one[0] if one else "" for one in pays]),
        "contract_size": conventions.number(SOURCE, ask.series.endpoint, "contract_size", answer.fetched_at),
        "contract_unit": _objects([one[1] if one else "" for one in pays]),
        "funding_interval_h": hours,
        "listed_at": listed,
        "delivery_at": ends,
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, read.notes)


def _objects(values: Sequence[str]) -> Any:
    return np.array(values, dtype=object)


def _moment(sieve: Sieve, texts: Sequence[str]) -> Nullable:
    """Instants from Unix milliseconds; "0" and nothing are none."""
    stamps, readable = micros([text or "0" for text in texts], MILLI)
    sieve.refuse(~readable, "VALUE", lambda i: f"found stamp {texts[i]!r}, expected Unix milliseconds")
    return Nullable(instants(stamps), stamps > 0)

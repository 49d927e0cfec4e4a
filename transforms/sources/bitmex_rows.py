"""How BitMEX's answers become rows of core tables (helper of the source in bitmex.py).

Payload examples per endpoint: tests/payloads/bitmex; the shapes: bitmex_shapes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from transforms import conventions
from transforms.instruments import coin
from transforms.reading import Floats, Mask, Nullable, Sieve, Stamps, instants, moments, stamp, to_us
from transforms.sources import bitmex_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Decoded, Reject
from transforms.sources.rows import MICROSECOND, asked_for, settled, whose

SOURCE: Final = "bitmex"
ACTIVE: Final = "instrument/active"
FUNDING: Final = "funding"
BUCKETED: Final = "trade/bucketed"
#: `typ` of contracts on coins: perpetual, and with an expiry
PERPETUAL: Final = "FFWCSX"
CONTRACTS: Final = (PERPETUAL, "FFCCSX")
#: what else is listed: perpetuals on currencies, spot, spreads of two contracts, and indices. No contract on a coin, so no row
OTHERS: Final = ("FFWCSF", "IFXXXP", "FFMCSX", "MRBXXX", "MRCXXX", "MRFXXX", "MRIXXX", "MRRXXX")
#: the venue's spelling of a coin -> ours (PITFALLS E5)
ALIASES: Final[Mapping[str, str]] = {"XBT": "BTC"}
QUOTES: Final = ("USDT", "USD")
#: linear perpetuals paid in tether, inverse ones paid in bitcoin
LISTING: Final[Sequence[Mapping[str, tuple[str, ...]]]] = tuple(
    {
        "contract_type": (PERPETUAL,),
        "instrument_status": ("Open",),
        "payoff": (payoff,),
        "quote_asset": (quote,),
        "margin_asset": (margin,),
    }
    for payoff, quote, margin in (("linear", "USDT", "USDt"), ("inverse", "USD", "XBt"))
)
#: how far the venue's own value may lie from contracts x size x mark: they are taken within seconds of each other
SAME: Final = 0.05


class Terms(NamedTuple):
    """What one contract is: `size` in `unit`. `settle` is how many of openValue's units make one dollar, or where inverse one coin."""

    payoff: str
    size: float
    unit: str
    settle: float | None


@lru_cache(maxsize=4096)
def underlying(base: str) -> tuple[str, float]:
    """Asset and coins per unit of an underlying; an undeclared multiplier prefix raises LookupError.

    >>> underlying("XBT"), underlying("ETH")
    (('BTC', 1.0), ('ETH', 1.0))
    """
    return coin(ALIASES.get(base, base))


@lru_cache(maxsize=4096)
def spelled(symbol: str) -> tuple[str, float]:
    """Asset and coins per unit of a perpetual; any other spelling raises LookupError.

    >>> spelled("XBTUSD"), spelled("SOLUSDT")
    (('BTC', 1.0), ('SOL', 1.0))
    """
    for quote in QUOTES:
        base = symbol.removesuffix(quote)
        if base not in ("", symbol) and base.isalnum():
            return underlying(base)
    raise LookupError(f"found symbol {symbol!r}; BitMEX spells a perpetual as <COIN>USD or <COIN>USDT")


def terms(row: shapes.Listed) -> Terms | str:
    """What the listing says of a contract's size, or why neither coins nor dollars can be said."""
    if row.is_quanto:
        return f"{row.symbol} is quanto: a contract is a fixed amount of {row.settl_currency} per {row.quote_currency}, not coins or USD"
    if row.is_inverse:
        scale = row.underlying_to_settle_multiplier
        size = row.multiplier / scale if scale else 0.0
        if row.quote_currency != "USD" or not 0.0 < size < np.inf:
            return f"{row.symbol} is inverse: multiplier {row.multiplier} / underlyingToSettleMultiplier {scale} gives no size in USD"
        return Terms("inverse", size, "usd", abs(scale) if scale else None)
    scale = row.underlying_to_position_multiplier
    if not scale or not 0.0 < scale < np.inf:
        return f"{row.symbol} is linear: underlyingToPositionMultiplier {scale} gives no size in coins"
    return Terms("linear", 1.0 / scale, "base", row.quote_to_settle_multiplier)


def _tracked(row: shapes.Listed, found: Terms | str) -> bool:
    if isinstance(found, str):
        return False
    words = {
        "contract_type": row.typ,
        "instrument_status": row.state,
        "payoff": found.payoff,
        "quote_asset": row.quote_currency,
        "margin_asset": row.settl_currency,
    }
    return any(all(words[name] in allowed for name, allowed in one.items()) for one in LISTING)


def active(ask: Ask, answer: Answer) -> Decoded:
    """The contracts as listed when we asked, and how the perpetuals that we follow stand at their own stamps."""
    read = shapes.LISTED.many(answer.body, "instruments")
    ours = [row for row in read.rows if row.typ not in OTHERS]
    contracts = Sieve("instruments", ours, read.rejects)
    contracts.refuse(
        np.array([row.typ not in CONTRACTS for row in ours], dtype=np.bool_),
        "CONVENTION",
        lambda i: (
            f"found typ {ours[i].typ!r} of {ours[i].symbol}; declared are {', '.join((*CONTRACTS, *OTHERS))} (transforms/sources/bitmex_rows.py)"
        ),
    )
    found = [terms(row) for row in ours]
    tables = {"instruments": _contracts(contracts, ask, answer, found)}
    pairs = [(row, one) for row, one in zip(ours, found, strict=True) if not isinstance(one, str) and _tracked(row, one)]
    rejects: list[Reject] = list(contracts.rejects)
    for target, fill in STANDING.items():
        sieve = Sieve(target, [row for row, _ in pairs])
        tables[target] = sieve.table(fill(sieve, ask, answer, [one for _, one in pairs]))
        rejects += sieve.rejects
    return Decoded(tables, rejects, read.notes)


def _contracts(sieve: Sieve, ask: Ask, answer: Answer, found: Sequence[Terms | str]) -> Any:
    """Rows of instruments: all of one instant, when we asked."""
    rows: Sequence[shapes.Listed] = sieve.rows
    sieve.refuse(np.array([isinstance(one, str) for one in found], dtype=np.bool_), "CONVENTION", lambda i: str(found[i]))
    known = [Terms("linear", 1.0, "base", None) if isinstance(one, str) else one for one in found]
    symbols = [row.symbol for row in rows]
    assets, multipliers = _assets(sieve)
    size = sieve.limits("contract_size", np.array([one.size for one in known], dtype=np.float64))
    interval = _hours(sieve)
    words = {
        "base_asset": [row.underlying for row in rows],
        "quote_asset": [row.quote_currency for row in rows],
        "margin_asset": [row.settl_currency or "" for row in rows],
        "contract_type": [row.typ for row in rows],
        "instrument_status": [row.state for row in rows],
    }
    sieve.refuse(
        np.array([not row.settl_currency for row in rows], dtype=np.bool_), "MISSING", lambda i: f"settlCurrency of {symbols[i]} is null"
    )
    born = _instants(sieve, "listing", [row.listing for row in rows])
    ends = _instants(sieve, "expiry", [row.expiry for row in rows])
    said = [size, interval.values, *born, *ends]
    sieve.single([_words(symbols)], [*(_words(column) for column in words.values()), *said])
    as_of = np.full(len(rows), to_us(answer.fetched_at), dtype=np.int64)
    return sieve.table(
        {
            **whose(ask, answer, symbols, assets, as_of),
            **{name: _words(column) for name, column in words.items()},
            "base_multiplier": multipliers,
            "payoff": _words([one.payoff for one in known]),
            "contract_size": size,
            "contract_unit": _words([one.unit for one in known]),
            "funding_interval_h": interval,
            "listed_at": born,
            "delivery_at": ends,
        }
    )


def _standing(sieve: Sieve, ask: Ask, answer: Answer) -> tuple[dict[str, Any], Floats, list[str]]:
    """Who and when of perpetuals as they stand, coins per unit, and their symbols."""
    rows: Sequence[shapes.Listed] = sieve.rows
    symbols = [row.symbol for row in rows]
    assets, multipliers = _assets(sieve)
    as_of = np.array([min(to_us(row.timestamp), to_us(answer.fetched_at)) for row in rows], dtype=np.int64)
    common.fresh(sieve, as_of, ask)
    return whose(ask, answer, symbols, assets, as_of), multipliers, symbols


def _interest(sieve: Sieve, ask: Ask, answer: Answer, found: Sequence[Terms]) -> Mapping[str, Any]:
    """Contracts as stated; coins and dollars by the contract's size and by the venue's own value, which must agree (PITFALLS A4)."""
    who, multipliers, symbols = _standing(sieve, ask, answer)
    rows: Sequence[shapes.Listed] = sieve.rows
    contracts = _given(sieve, "openInterest", [row.open_interest for row in rows])
    value = _given(sieve, "openValue", [row.open_value for row in rows])
    mark = _given(sieve, "markPrice", [row.mark_price for row in rows])
    native = sieve.limits("open_interest_native", contracts)
    sieve.refuse(native == 0.0, "ZERO_OPEN_INTEREST", lambda i: f"open interest of exactly 0 of {symbols[i]}")
    unit = conventions.text(SOURCE, ACTIVE, "native_unit", answer.fetched_at)
    if unit != "contracts":
        raise LookupError(f"found unit {unit!r} of {ACTIVE}; this decoder reads contracts only")
    sides = conventions.number(SOURCE, ACTIVE, "oi_sides", answer.fetched_at)
    settle = np.array([one.settle or np.nan for one in found], dtype=np.float64)
    sieve.refuse(np.isnan(settle), "CONVENTION", lambda i: f"{symbols[i]} does not say what its openValue counts (quoteToSettleMultiplier)")
    stated = native * np.array([one.size for one in found], dtype=np.float64)
    inverse = np.array([one.payoff == "inverse" for one in found], dtype=np.bool_)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        own = value / settle
        apart = ~(np.abs(own / np.where(inverse, stated / mark, stated * mark) - 1.0) <= SAME)
    sieve.refuse(
        apart,
        "CONVENTION",
        lambda i: f"openValue {value[i]:.12g} of {symbols[i]} does not agree with {contracts[i]:.12g} contracts at {mark[i]:.12g}",
    )
    coins = sieve.limits("open_interest_base", np.where(inverse, own, stated) * multipliers / sides)
    usd = sieve.limits("open_interest_usd", np.where(inverse, stated, own) / sides)
    sieve.single([_words(symbols), who["as_of"]], [who["asset"], native, coins, usd])
    return {
        **who,
        "open_interest_native": native,
        "native_unit": unit,
        "oi_sides": int(sides),
        "open_interest_base": coins,
        "open_interest_usd": usd,
    }


def _marks(sieve: Sieve, ask: Ask, answer: Answer, _found: Sequence[Terms]) -> Mapping[str, Any]:
    """Mark price, and the index it follows, which the venue calls the indicative settlement price."""
    who, multipliers, symbols = _standing(sieve, ask, answer)
    rows: Sequence[shapes.Listed] = sieve.rows
    mark = sieve.limits("mark_usd", _given(sieve, "markPrice", [row.mark_price for row in rows]) / multipliers)
    index = sieve.limits("index_usd", _given(sieve, "indicativeSettlePrice", [row.indicative_settle_price for row in rows]) / multipliers)
    sieve.single([_words(symbols), who["as_of"]], [who["asset"], mark, index])
    return {**who, "mark_usd": mark, "index_usd": index}


def _quotes(sieve: Sieve, ask: Ask, answer: Answer, _found: Sequence[Terms]) -> Mapping[str, Any]:
    """The running estimate: displayed, not paid (PITFALLS C3, C7)."""
    who, _, symbols = _standing(sieve, ask, answer)
    rows: Sequence[shapes.Listed] = sieve.rows
    scale = conventions.number(SOURCE, ACTIVE, "rate_scale", answer.fetched_at)
    rate = sieve.limits("funding_rate", _given(sieve, "indicativeFundingRate", [row.indicative_funding_rate for row in rows]), scale)
    interval = _hours(sieve)
    sieve.single([_words(symbols), who["as_of"]], [who["asset"], rate, interval.values])
    kind = conventions.text(SOURCE, ACTIVE, "funding_kind", answer.fetched_at)
    return {**who, "funding_rate": rate, "funding_kind": kind, "funding_interval_h": interval}


#: further tables of the listing, in the order of the source's `also`
STANDING: Final[Mapping[str, Callable[[Sieve, Ask, Answer, Sequence[Terms]], Mapping[str, Any]]]] = {
    "open_interest": _interest,
    "marks": _marks,
    "funding": _quotes,
}


def funding(ask: Ask, answer: Answer) -> Decoded:
    """Settled rates, each with the interval it paid for (PITFALLS C1)."""
    at = ask.series.window.start
    read = shapes.FUNDING.many(answer.body, "funding")
    rows = read.rows
    sieve = Sieve("funding", rows, read.rejects)
    asked_for(sieve, [row.symbol for row in rows], ask)
    as_of = settled(sieve, np.array([to_us(row.timestamp) for row in rows], dtype=np.int64), ask)
    scale = conventions.number(SOURCE, FUNDING, "rate_scale", at)
    rate = sieve.limits("funding_rate", np.array([row.funding_rate for row in rows], dtype=np.float64), scale)
    interval = sieve.limits("funding_interval_h", np.array([shapes.hours(row.funding_interval) for row in rows], dtype=np.float64))
    sieve.single([as_of], [rate, interval])
    table = sieve.table(
        {
            **common.who(ask, as_of, spelled(ask.series.instrument)[0]),
            "funding_rate": rate,
            "funding_kind": conventions.text(SOURCE, FUNDING, "funding_kind", at),
            "funding_interval_h": interval,
        }
    )
    return Decoded({"funding": table}, sieve.rejects, read.notes)


def bars(ask: Ask, answer: Answer) -> Decoded:
    """Bars of trades by their ends; volume in coins, which both kinds of contracts state. Takers' sides are not told."""
    series, at = ask.series, ask.series.window.start
    read = shapes.BUCKET.many(answer.body, "candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    asked_for(sieve, [row.symbol for row in rows], ask)
    as_of: Stamps = (
        np.array([to_us(row.timestamp) for row in rows], dtype=np.int64) + conventions.shift(SOURCE, BUCKETED, at) // MICROSECOND
    )
    sieve.inside(as_of, series.window, series.step)
    if (unit := conventions.text(SOURCE, BUCKETED, "native_unit", at)) != "base":
        raise LookupError(f"found unit {unit!r} of {BUCKETED}; this decoder reads coins only")
    asset, multiplier = spelled(series.instrument)
    opens = np.array([np.nan if row.open is None else row.open for row in rows], dtype=np.float64)
    given: Mask = np.array([row.open is not None for row in rows], dtype=np.bool_)
    first = Nullable(sieve.limits("open_usd", opens, 1 / multiplier, valid=given), given)
    high, low, close = (
        sieve.limits(f"{name}_usd", np.array([getattr(row, name) for row in rows], dtype=np.float64), 1 / multiplier)
        for name in ("high", "low", "close")
    )
    volume = sieve.limits("volume_base", np.array([row.home_notional for row in rows], dtype=np.float64), multiplier)
    trades = np.array([row.trades for row in rows], dtype=np.int64)
    sieve.single([as_of], [first.values, high, low, close, volume, trades])
    table = sieve.table(
        {
            **common.who(ask, as_of, asset),
            "interval_h": conventions.span(SOURCE, BUCKETED, "period", at) / timedelta(hours=1),
            "open_usd": first,
            "high_usd": high,
            "low_usd": low,
            "close_usd": close,
            "volume_base": volume,
            "taker_buy_base": None,
            "trades": trades,
        }
    )
    return Decoded({"candles": table}, sieve.rejects, read.notes)


# -- columns


def _assets(sieve: Sieve) -> tuple[Any, Floats]:
    """Asset and coins per unit of each contract. Histories know a perpetual by its symbol alone: it must say the same."""
    other = np.array([row.typ == PERPETUAL and row.symbol != row.underlying + row.quote_currency for row in sieve.rows], dtype=np.bool_)
    sieve.refuse(
        other,
        "CONVENTION",
        lambda i: f"{sieve.rows[i].symbol} is listed with underlying {sieve.rows[i].underlying} against {sieve.rows[i].quote_currency}",
    )
    assets, multipliers = common.named(sieve, [row.underlying for row in sieve.rows], underlying)
    return assets, multipliers


def _hours(sieve: Sieve) -> Nullable:
    """Funding intervals; null for what pays no funding."""
    held = [row.funding_interval for row in sieve.rows]
    valid = np.array([one is not None for one in held], dtype=np.bool_)
    values = np.array([0.0 if one is None else shapes.hours(one) for one in held], dtype=np.float64)
    return Nullable(sieve.limits("funding_interval_h", values, valid=valid), valid)


def _given(sieve: Sieve, name: str, values: Sequence[float | None]) -> Floats:
    """Numbers that a trading perpetual always has (MISSING)."""
    absent = np.array([value is None for value in values], dtype=np.bool_)
    sieve.refuse(absent, "MISSING", lambda i: f"{name} of {sieve.rows[i].symbol} at {stamp(to_us(sieve.rows[i].timestamp))} is null")
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _words(values: Sequence[str]) -> Any:
    return np.array(values, dtype=object)


def _instants(sieve: Sieve, name: str, held: Sequence[datetime | None]) -> Nullable:
    """A column of instants, null where the venue gives none."""
    given = np.array([one is not None for one in held], dtype=np.bool_)
    stamps, readable = moments(held)
    sieve.refuse(
        given & ~readable, "VALUE", lambda i: f"found {name} {held[i]} of {sieve.rows[i].symbol}, expected an instant from 1970 on"
    )
    return Nullable(instants(stamps), given)

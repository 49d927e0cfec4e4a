"""How Binance's REST answers become rows of core tables (helper of the source in binance.py).

Payload examples per endpoint: tests/payloads/binance; the shapes: binance_shapes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from transforms import conventions
from transforms.instruments import binance_asset, coin
from transforms.reading import Floats, Mask, Nullable, Read, Shape, Sieve, Stamps, floats, instants, micros, stamp, to_us
from transforms.sources import binance_shapes as shapes
from transforms.sources.contract import Answer, Ask, Decoded

SOURCE: Final = "binance"
RATIOS: Final = {
    "globalLongShortAccountRatio": "global_account",
    "topLongShortAccountRatio": "top_account",
    "topLongShortPositionRatio": "top_position",
}
#: settlements are stamped some milliseconds late: fundingTime 1602806400002 is 2020-10-16T00:00:00Z
JITTER: Final = timedelta(seconds=1)
PERPETUAL_DELIVERY: Final = 4_133_404_800_000  # deliveryDate of a contract without one, 2100-12-25T08:00Z
MILLI: Final = 1000  # microseconds
MINUTE_US: Final = 60_000_000
R = TypeVar("R", bound=msgspec.Struct)


# -- histories: one instrument, a window, a grid


def who(instrument: str, endpoint: str, as_of: Stamps, ask: Ask) -> dict[str, Any]:
    """The columns that say who and when, for one instrument."""
    lag = conventions.span(SOURCE, endpoint, "lag", ask.series.window.start)
    return {
        "source": SOURCE,
        "venue": SOURCE,
        "instrument": instrument,
        "asset": binance_asset(instrument)[0],
        "as_of": instants(as_of),
        "known_at": instants(as_of + lag // timedelta(microseconds=1)),
    }


def asked_for(sieve: Sieve, symbols: Sequence[str], ask: Ask) -> None:
    """Rows must speak of an instrument that was asked for (CONVENTION)."""
    wanted = ask.series.instruments
    if wanted and not (len(wanted) == 1 and symbols.count(wanted[0]) == len(symbols)):
        strange = np.array([symbol not in wanted for symbol in symbols], dtype=np.bool_)
        sieve.refuse(strange, "CONVENTION", lambda i: f"found symbol {symbols[i]!r}, asked for {ask.series.instrument}")


def stamped(sieve: Sieve, stamps: Sequence[int | str], ask: Ask) -> Stamps:
    """END instants (microseconds) of labelled rows, checked against window and grid."""
    raw, readable = micros(stamps, MILLI)
    sieve.refuse(~readable, "VALUE", lambda i: f"found stamp {stamps[i]!r}, expected Unix milliseconds")
    shift = conventions.shift(SOURCE, ask.series.endpoint, ask.series.window.start)
    as_of = raw + shift // timedelta(microseconds=1)
    sieve.inside(as_of, ask.series.window, ask.series.step)
    return as_of


def open_interest_hist(ask: Ask, answer: Answer) -> Decoded:
    """Snapshots of open interest: quantity in base units and value in USD, one side."""
    read = shapes.OPEN_INTEREST_HIST.many(answer.body, "open_interest")
    sieve = Sieve("open_interest", read.rows, read.rejects)
    asked_for(sieve, [row.symbol for row in read.rows], ask)
    as_of = stamped(sieve, [row.timestamp for row in read.rows], ask)
    native = sieve.texts("open_interest_native", [row.sum_open_interest for row in read.rows])
    usd = sieve.texts("open_interest_usd", [row.sum_open_interest_value for row in read.rows])
    sieve.single([as_of], [native, usd])
    table = interest(sieve, ask, as_of, native, Nullable(usd, np.ones(len(usd), dtype=np.bool_)))
    return Decoded({"open_interest": table}, sieve.rejects, read.notes)


def interest(sieve: Sieve, ask: Ask, as_of: Stamps, native: Floats, usd: Nullable | None) -> pa.Table:
    """Rows of open_interest; exactly zero on a trading contract is put aside (PITFALLS A11)."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    sieve.refuse(native == 0.0, "ZERO_OPEN_INTEREST", lambda i: f"open interest of exactly 0 at {stamp(as_of[i])}")
    unit = conventions.text(SOURCE, endpoint, "native_unit", at)
    sides = conventions.number(SOURCE, endpoint, "oi_sides", at)
    if unit != "base":
        raise LookupError(f"found unit {unit!r} of {endpoint}; this decoder converts base units only")
    multiplier = binance_asset(ask.series.instrument)[1]
    return sieve.table(
        {
            **who(ask.series.instrument, endpoint, as_of, ask),
            "open_interest_native": native,
            "native_unit": unit,
            "oi_sides": int(sides),
            "open_interest_base": native * multiplier / sides,
            "open_interest_usd": usd if usd is None else Nullable(usd.values / sides, usd.valid),
        }
    )


def ratio(ask: Ask, answer: Answer) -> Decoded:
    """Long and short shares of one of the three ratio endpoints."""
    read = shapes.RATIO.many(answer.body, "long_short")
    sieve = Sieve("long_short", read.rows, read.rejects)
    asked_for(sieve, [row.symbol for row in read.rows], ask)
    as_of = stamped(sieve, [row.timestamp for row in read.rows], ask)
    long = sieve.texts("long_share", [row.long_account for row in read.rows])
    short = sieve.texts("short_share", [row.short_account for row in read.rows])
    sieve.single([as_of], [long, short])
    table = sieve.table(
        {
            **who(ask.series.instrument, ask.series.endpoint, as_of, ask),
            "ratio_metric": RATIOS[ask.series.endpoint],
            "long_share": long,
            "short_share": short,
        }
    )
    return Decoded({"long_short": table}, sieve.rejects, read.notes)


def taker(ask: Ask, answer: Answer) -> Decoded:
    """Taker volumes in coins. The answer names no symbol: it is the one asked for."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = shapes.TAKER.many(answer.body, "taker_flow")
    sieve = Sieve("taker_flow", read.rows, read.rejects)
    as_of = stamped(sieve, [row.timestamp for row in read.rows], ask)
    multiplier = binance_asset(ask.series.instrument)[1]
    buy = sieve.texts("taker_buy_base", [row.buy_vol for row in read.rows], multiplier)
    sell = sieve.texts("taker_sell_base", [row.sell_vol for row in read.rows], multiplier)
    sieve.single([as_of], [buy, sell])
    table = sieve.table(
        {
            **who(ask.series.instrument, endpoint, as_of, ask),
            "interval_h": conventions.span(SOURCE, endpoint, "period", at) / timedelta(hours=1),
            "taker_buy_base": buy,
            "taker_sell_base": sell,
        }
    )
    return Decoded({"taker_flow": table}, sieve.rejects, read.notes)


def bar_ends(sieve: Sieve, rows: Sequence[shapes.Kline] | Sequence[shapes.PremiumKline], ask: Ask) -> tuple[Stamps, timedelta]:
    """END instants of bars (microseconds), close time + 1 ms, which must be one period after the open; and that period."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    opened = np.array([row.open_time for row in rows], dtype=np.int64) * MILLI
    as_of = np.array([row.close_time for row in rows], dtype=np.int64) * MILLI + MILLI
    period = conventions.span(SOURCE, endpoint, "period", at)
    long_enough = as_of - opened == conventions.shift(SOURCE, endpoint, at) // timedelta(microseconds=1)
    sieve.refuse(~long_enough, "STAMP", lambda i: f"bar from {stamp(opened[i])} to {stamp(as_of[i])} is not {period} long")
    sieve.inside(as_of, ask.series.window, ask.series.step)
    return as_of, period


def klines(ask: Ask, answer: Answer) -> Decoded:
    """Bars, prices per coin and amounts in coins."""
    endpoint = ask.series.endpoint
    read = shapes.KLINE.many(answer.body, "candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    as_of, period = bar_ends(sieve, rows, ask)
    multiplier = binance_asset(ask.series.instrument)[1]
    prices = [sieve.texts(f"{name}_usd", [getattr(row, name) for row in rows], 1 / multiplier) for name in ("open", "high", "low", "close")]
    volume = sieve.texts("volume_base", [row.volume for row in rows], multiplier)
    bought = optional(sieve, "taker_buy_base", [row.taker_buy for row in rows], multiplier)
    counted = np.array([row.trades is not None for row in rows], dtype=np.bool_)
    trades = np.array([row.trades or 0 for row in rows], dtype=np.int64)
    sieve.single([as_of], [*prices, volume, bought.values, trades])
    table = sieve.table(
        {
            **who(ask.series.instrument, endpoint, as_of, ask),
            "interval_h": period / timedelta(hours=1),
            **dict(zip(("open_usd", "high_usd", "low_usd", "close_usd"), prices, strict=True)),
            "volume_base": volume,
            "taker_buy_base": bought,
            "trades": Nullable(trades, counted),
        }
    )
    return Decoded({"candles": table}, sieve.rejects, read.notes)


def premium_klines(ask: Ask, answer: Answer) -> Decoded:
    """Premium over the index at the end of each bar, its close: a share, so coins per base unit do not matter."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = shapes.PREMIUM_KLINE.many(answer.body, "premiums")
    rows = read.rows
    sieve = Sieve("premiums", rows, read.rejects)
    as_of, period = bar_ends(sieve, rows, ask)
    scale = conventions.number(SOURCE, endpoint, "rate_scale", at)
    premium = sieve.texts("premium_share", [row.close for row in rows], scale)
    within(sieve, [row.high for row in rows], [row.low for row in rows], [row.close for row in rows])
    sieve.single([as_of], [premium])
    table = sieve.table(
        {
            **who(ask.series.instrument, endpoint, as_of, ask),
            "interval_h": period / timedelta(hours=1),
            "premium_share": premium,
        }
    )
    return Decoded({"premiums": table}, sieve.rejects, read.notes)


def within(sieve: Sieve, high: Sequence[str], low: Sequence[str], close: Sequence[str]) -> None:
    """Only the close of these bars is kept, so its place between the extremes is checked here (VALUE)."""
    last = floats(close)
    strange = ~((floats(low) <= last) & (last <= floats(high)))
    sieve.refuse(strange, "VALUE", lambda i: f"close {close[i]!r} is not between low {low[i]!r} and high {high[i]!r} of its bar")


def optional(sieve: Sieve, name: str, texts: Sequence[str | None], scale: float) -> Nullable:
    """A numeric column that a row may leave null."""
    valid = np.array([text is not None for text in texts], dtype=np.bool_)
    values = sieve.limits(name, floats([text or "" for text in texts]), scale, valid=valid)
    return Nullable(values, valid)


def whole_minutes(stamps: Stamps) -> Stamps:
    """The nearest whole minute, microseconds."""
    return np.asarray((stamps + MINUTE_US // 2) // MINUTE_US * MINUTE_US, dtype=np.int64)


def settled(sieve: Sieve, stamps: Stamps, ask: Ask) -> Stamps:
    """Settlement instants: the whole minute within a second of each stamp (microseconds), inside the window."""
    as_of = whole_minutes(stamps)
    far = np.abs(stamps - as_of) > JITTER // timedelta(microseconds=1)
    sieve.refuse(far, "STAMP", lambda i: f"settlement at {stamp(stamps[i])} is more than {JITTER} from a whole minute")
    sieve.inside(as_of, ask.series.window, None)
    return as_of


def funding(ask: Ask, answer: Answer) -> Decoded:
    """Settled funding rates. The rows do not say which interval they pay for: null, to be inferred from the settlements."""
    read = shapes.FUNDING.many(answer.body, "funding")
    rows = read.rows
    sieve = Sieve("funding", rows, read.rejects)
    asked_for(sieve, [row.symbol for row in rows], ask)
    as_of = settled(sieve, np.array([row.funding_time for row in rows], dtype=np.int64) * MILLI, ask)
    scale = conventions.number(SOURCE, "fundingRate", "rate_scale", ask.series.window.start)
    rate = sieve.texts("funding_rate", [row.funding_rate for row in rows], scale)
    sieve.single([as_of], [rate])
    table = sieve.table(
        {
            **who(ask.series.instrument, "fundingRate", as_of, ask),
            "funding_rate": rate,
            "funding_kind": "settlement",
            "funding_interval_h": None,
        }
    )
    return Decoded({"funding": table}, sieve.rejects, read.notes)


# -- snapshots: as_of is the venue's stamp, never later than the time we asked (PITFALLS A10)


def taken(stamps: Sequence[int], answer: Answer) -> Stamps:
    """min(venue stamp, fetched_at), microseconds."""
    return np.minimum(np.array(stamps, dtype=np.int64) * MILLI, to_us(answer.fetched_at))


def named(sieve: Sieve, symbols: Sequence[str]) -> tuple[Any, Any]:
    """Asset and multiplier of each symbol; a symbol outside the declared spelling is put aside (CONVENTION)."""
    found = [_or_none(binance_asset, symbol) for symbol in symbols]
    unknown = np.array([one is None for one in found], dtype=np.bool_)
    sieve.refuse(unknown, "CONVENTION", lambda i: f"symbol {symbols[i]!r} is outside the declared spelling (transforms/instruments.py)")
    assets = np.array([one[0] if one else "" for one in found], dtype=object)
    return assets, np.array([one[1] if one else 1.0 for one in found], dtype=np.float64)


def _or_none(name: Callable[[str], tuple[str, float]], text: str) -> tuple[str, float] | None:
    try:
        return name(text)
    except LookupError:
        return None


def whose(symbols: Sequence[str], assets: Any, as_of: Stamps, endpoint: str, answer: Answer) -> dict[str, Any]:
    """The columns that say who and when, for several instruments."""
    lag = conventions.span(SOURCE, endpoint, "lag", answer.fetched_at)
    return {
        "source": SOURCE,
        "venue": SOURCE,
        "instrument": np.array(symbols, dtype=object),
        "asset": assets,
        "as_of": instants(as_of),
        "known_at": instants(as_of + lag // timedelta(microseconds=1)),
    }


def open_interest(ask: Ask, answer: Answer) -> Decoded:
    """Open interest now, in base units; the answer gives no value in USD."""
    row, notes = shapes.OPEN_INTEREST.one(answer.body, "open_interest")
    sieve = Sieve("open_interest", [row])
    asked_for(sieve, [row.symbol], ask)
    as_of = taken([row.time], answer)
    native = sieve.texts("open_interest_native", [row.open_interest])
    return Decoded({"open_interest": interest(sieve, ask, as_of, native, None)}, sieve.rejects, notes)


def premium(ask: Ask, answer: Answer) -> Decoded:
    """Mark and index price per coin, and the rate displayed for the running interval: a quote, not a payment (PITFALLS C7)."""
    read = _several(shapes.PREMIUM, answer.body, "marks")
    rows = read.rows
    as_of = taken([row.time for row in rows], answer)
    symbols = [row.symbol for row in rows]
    marks, quotes = Sieve("marks", rows, read.rejects), Sieve("funding", rows)
    for sieve in (marks, quotes):
        asked_for(sieve, symbols, ask)
        assets, multipliers = named(sieve, symbols)
    mark = marks.limits("mark_usd", floats([row.mark_price for row in rows]) / multipliers)
    index = marks.limits("index_usd", floats([row.index_price for row in rows]) / multipliers)
    unpaid = np.array([row.next_funding_time * MILLI <= at for row, at in zip(rows, as_of, strict=True)], dtype=np.bool_)
    quotes.refuse(unpaid, "CONVENTION", lambda i: f"nextFundingTime {rows[i].next_funding_time} is not after {stamp(as_of[i])}")
    rate = quotes.texts("funding_rate", [row.last_funding_rate for row in rows])
    keys = [as_of, np.array(symbols, dtype=object)]
    marks.single(keys, [mark, index])
    quotes.single(keys, [rate])
    columns = whose(symbols, assets, as_of, "premiumIndex", answer)
    tables = {
        "marks": marks.table({**columns, "mark_usd": mark, "index_usd": index}),
        "funding": quotes.table({**columns, "funding_rate": rate, "funding_kind": "quote", "funding_interval_h": None}),
    }
    return Decoded(tables, [*marks.rejects, *quotes.rejects], read.notes)


def _several(shape: Shape[R], body: bytes, target: str) -> Read[R]:
    """One object (asked with a symbol) or a list of them (asked without)."""
    if body.lstrip()[:1] == b"[":
        return shape.many(body, target)
    row, notes = shape.one(body, target)
    return Read([row], notes=notes)


def terms(_ask: Ask, answer: Answer) -> Decoded:
    """Interval, cap and floor of the contracts whose terms were adjusted, as of our asking: the answer has no stamp of its own."""
    read = shapes.TERMS.many(answer.body, "funding_terms")
    rows = read.rows
    sieve = Sieve("funding_terms", rows, read.rejects)
    symbols = [row.symbol for row in rows]
    assets, _ = named(sieve, symbols)
    as_of = np.full(len(rows), to_us(answer.fetched_at), dtype=np.int64)
    scale = conventions.number(SOURCE, "fundingInfo", "rate_scale", answer.fetched_at)
    hours = sieve.limits("funding_interval_h", np.array([row.funding_interval_hours for row in rows], dtype=np.float64))
    cap = sieve.texts("funding_cap_rate", [row.adjusted_funding_rate_cap for row in rows], scale)
    floor = sieve.texts("funding_floor_rate", [row.adjusted_funding_rate_floor for row in rows], scale)
    sieve.single([np.array(symbols, dtype=object)], [hours, cap, floor])
    columns: Mapping[str, Any] = {
        **whose(symbols, assets, as_of, "fundingInfo", answer),
        "funding_interval_h": hours,
        "funding_cap_rate": cap,
        "funding_floor_rate": floor,
    }
    return Decoded({"funding_terms": sieve.table(columns)}, sieve.rejects, read.notes)


def listing(_ask: Ask, answer: Answer) -> Decoded:
    """Every contract of the exchange, whatever its type and status."""
    info, notes = shapes.INFO.one(answer.body, "instruments")
    read = shapes.SYMBOL.many(info.symbols, "instruments", "$.symbols")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    found = [_or_none(coin, row.base_asset) for row in rows]
    unknown: Mask = np.array([one is None for one in found], dtype=np.bool_)
    sieve.refuse(
        unknown, "CONVENTION", lambda i: f"base asset {rows[i].base_asset!r} has an undeclared multiplier (transforms/instruments.py)"
    )
    symbols = [row.symbol for row in rows]
    as_of = taken([info.server_time] * len(rows), answer)
    words = {
        "base_asset": [row.base_asset for row in rows],
        "quote_asset": [row.quote_asset for row in rows],
        "margin_asset": [row.margin_asset for row in rows],
        "contract_type": [row.contract_type for row in rows],
        "instrument_status": [row.status for row in rows],
    }
    listed = instants(np.array([row.onboard_date for row in rows], dtype=np.int64) * MILLI)
    ends = np.array([row.delivery_date for row in rows], dtype=np.int64)
    sieve.single([np.array(symbols, dtype=object)], [*(np.array(column, dtype=object) for column in words.values()), listed, ends])
    columns: Mapping[str, Any] = {
        **whose(symbols, np.array([one[0] if one else "" for one in found], dtype=object), as_of, "exchangeInfo", answer),
        **{name: np.array(column, dtype=object) for name, column in words.items()},
        "base_multiplier": np.array([one[1] if one else 1.0 for one in found], dtype=np.float64),
        "listed_at": listed,
        "delivery_at": Nullable(instants(ends * MILLI), ends != PERPETUAL_DELIVERY),
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, [*notes, *read.notes])

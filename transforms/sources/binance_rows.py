"""How Binance's REST answers become rows of core tables (helper of the source in binance.py).

Payload examples per endpoint: tests/payloads/binance; the shapes: binance_shapes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from transforms import conventions
from transforms.instruments import binance_asset, binance_coin_asset, coin
from transforms.reading import Floats, Mask, Nullable, Read, Sieve, Stamps, floats, instants, stamp, to_us
from transforms.sources import binance_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Decoded
from transforms.sources.rows import MILLI, asked_for, named, optional, or_none, priced, settled, several, stamped, taken, whose, within

SOURCE: Final = "binance"
RATIOS: Final = {
    "globalLongShortAccountRatio": "global_account",
    "topLongShortAccountRatio": "top_account",
    "topLongShortPositionRatio": "top_position",
}
PERPETUAL_DELIVERY: Final = 4_133_404_800_000  # deliveryDate of a contract without one, 2100-12-25T08:00Z


def spelling(ask: Ask) -> Callable[[str], tuple[str, float]]:
    """How symbols are spelled where the ask goes: USDT-margined, or by COIN-M, whose endpoints are called coin..."""
    return binance_coin_asset if ask.series.endpoint.startswith("coin") else binance_asset


def who(ask: Ask, as_of: Stamps) -> dict[str, Any]:
    """The columns that say who and when, for one contract."""
    return common.who(ask, as_of, spelling(ask)(ask.series.instrument)[0])


# -- histories: one instrument, a window, a grid


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
    """Rows of open_interest of one contract."""
    asset, multiplier = binance_asset(ask.series.instrument)
    return common.interest(sieve, ask, as_of, native, asset=asset, multiplier=multiplier, usd=usd)


def ratio(ask: Ask, answer: Answer) -> Decoded:
    """Long and short shares of one of the three ratio endpoints."""
    read = shapes.RATIO.many(answer.body, "long_short")
    sieve = Sieve("long_short", read.rows, read.rejects)
    asked_for(sieve, [row.symbol for row in read.rows], ask)
    as_of = stamped(sieve, [row.timestamp for row in read.rows], ask)
    long = sieve.texts("long_share", [row.long_account for row in read.rows])
    short = sieve.texts("short_share", [row.short_account for row in read.rows])
    common.agrees(sieve, long, short, [row.long_short_ratio for row in read.rows])
    sieve.single([as_of], [long, short])
    table = sieve.table(
        {
            **who(ask, as_of),
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
    common.counted_in(ask, "base")
    multiplier = binance_asset(ask.series.instrument)[1]
    buy = sieve.texts("taker_buy_base", [row.buy_vol for row in read.rows], multiplier)
    sell = sieve.texts("taker_sell_base", [row.sell_vol for row in read.rows], multiplier)
    common.agrees(sieve, buy, sell, [row.buy_sell_ratio for row in read.rows])
    sieve.single([as_of], [buy, sell])
    table = sieve.table(
        {
            **who(ask, as_of),
            "interval_h": conventions.span(SOURCE, endpoint, "period", at) / timedelta(hours=1),
            "taker_buy_base": buy,
            "taker_sell_base": sell,
        }
    )
    return Decoded({"taker_flow": table}, sieve.rejects, read.notes)


def bar_ends(
    sieve: Sieve, rows: Sequence[shapes.Kline] | Sequence[shapes.PremiumKline] | Sequence[shapes.CoinKline], ask: Ask
) -> tuple[Stamps, timedelta]:
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
    read = shapes.KLINE.many(answer.body, "candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    as_of, period = bar_ends(sieve, rows, ask)
    common.counted_in(ask, "base")
    multiplier = binance_asset(ask.series.instrument)[1]
    prices = [sieve.texts(f"{name}_usd", [getattr(row, name) for row in rows], 1 / multiplier) for name in ("open", "high", "low", "close")]
    volume = sieve.texts("volume_base", [row.volume for row in rows], multiplier)
    priced(sieve, [row.quote_volume for row in rows], [row.volume for row in rows], [row.high for row in rows], [row.low for row in rows])
    bought = optional(sieve, "taker_buy_base", [row.taker_buy for row in rows], multiplier)
    counted = np.array([row.trades is not None for row in rows], dtype=np.bool_)
    trades = np.array([row.trades or 0 for row in rows], dtype=np.int64)
    sieve.single([as_of], [*prices, volume, bought.values, trades])
    table = sieve.table(
        {
            **who(ask, as_of),
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
            **who(ask, as_of),
            "interval_h": period / timedelta(hours=1),
            "premium_share": premium,
        }
    )
    return Decoded({"premiums": table}, sieve.rejects, read.notes)


def funding(ask: Ask, answer: Answer) -> Decoded:
    """Settled funding rates. The rows do not say which interval they pay for: null, to be inferred from the settlements."""
    read = shapes.FUNDING.many(answer.body, "funding")
    rows = read.rows
    sieve = Sieve("funding", rows, read.rejects)
    asked_for(sieve, [row.symbol for row in rows], ask)
    as_of = settled(sieve, np.array([row.funding_time for row in rows], dtype=np.int64) * MILLI, ask)
    scale = conventions.number(SOURCE, ask.series.endpoint, "rate_scale", ask.series.window.start)
    rate = sieve.texts("funding_rate", [row.funding_rate for row in rows], scale)
    sieve.single([as_of], [rate])
    table = sieve.table(
        {
            **who(ask, as_of),
            "funding_rate": rate,
            "funding_kind": "settlement",
            "funding_interval_h": None,
        }
    )
    return Decoded({"funding": table}, sieve.rejects, read.notes)


# -- snapshots: as_of is the venue's stamp, never later than the time we asked (PITFALLS A10)


def open_interest(ask: Ask, answer: Answer) -> Decoded:
    """Open interest now, in base units; the answer gives no value in USD."""
    row, notes = shapes.OPEN_INTEREST.one(answer.body, "open_interest")
    sieve = Sieve("open_interest", [row])
    asked_for(sieve, [row.symbol], ask)
    as_of = taken(sieve, [row.time], ask, answer)
    native = sieve.texts("open_interest_native", [row.open_interest])
    return Decoded({"open_interest": interest(sieve, ask, as_of, native, None)}, sieve.rejects, notes)


def premium(ask: Ask, answer: Answer) -> Decoded:
    """Mark and index price per coin, and the rate displayed for the running interval: a quote, not a payment (PITFALLS C7)."""
    read: Read[Any] = several(shapes.COIN_PREMIUM if ask.series.endpoint == "coinPremiumIndex" else shapes.PREMIUM, answer.body, "marks")
    rows = read.rows
    symbols = [row.symbol for row in rows]
    marks, quotes = Sieve("marks", rows, read.rejects), Sieve("funding", rows)
    for sieve in (marks, quotes):
        as_of = taken(sieve, [row.time for row in rows], ask, answer)
        asked_for(sieve, symbols, ask)
        assets, multipliers = named(sieve, symbols, spelling(ask))
    mark = marks.limits("mark_usd", floats([row.mark_price for row in rows]) / multipliers)
    index = marks.limits("index_usd", floats([row.index_price for row in rows]) / multipliers)
    unpaid = np.array([row.next_funding_time * MILLI <= at for row, at in zip(rows, as_of, strict=True)], dtype=np.bool_)
    quotes.refuse(unpaid, "CONVENTION", lambda i: f"nextFundingTime {rows[i].next_funding_time} is not after {stamp(as_of[i])}")
    scale = conventions.number(SOURCE, ask.series.endpoint, "rate_scale", answer.fetched_at)
    rate = quotes.texts("funding_rate", [row.last_funding_rate for row in rows], scale)
    keys = [as_of, np.array(symbols, dtype=object)]
    marks.single(keys, [mark, index])
    quotes.single(keys, [rate])
    columns = whose(ask, answer, symbols, assets, as_of)
    tables = {
        "marks": marks.table({**columns, "mark_usd": mark, "index_usd": index}),
        "funding": quotes.table({**columns, "funding_rate": rate, "funding_kind": "quote", "funding_interval_h": None}),
    }
    return Decoded(tables, [*marks.rejects, *quotes.rejects], read.notes)


def terms(ask: Ask, answer: Answer) -> Decoded:
    """Interval, cap and floor of the contracts whose terms were adjusted, as of our asking: the answer has no stamp of its own."""
    read = shapes.TERMS.many(answer.body, "funding_terms")
    rows = read.rows
    sieve = Sieve("funding_terms", rows, read.rejects)
    symbols = [row.symbol for row in rows]
    assets, _ = named(sieve, symbols, binance_asset)
    as_of = np.full(len(rows), to_us(answer.fetched_at), dtype=np.int64)
    scale = conventions.number(SOURCE, "fundingInfo", "rate_scale", answer.fetched_at)
    hours = sieve.limits("funding_interval_h", np.array([row.funding_interval_hours for row in rows], dtype=np.float64))
    cap = sieve.texts("funding_cap_rate", [row.adjusted_funding_rate_cap for row in rows], scale)
    floor = sieve.texts("funding_floor_rate", [row.adjusted_funding_rate_floor for row in rows], scale)
    sieve.single([np.array(symbols, dtype=object)], [hours, cap, floor])
    columns: Mapping[str, Any] = {
        **whose(ask, answer, symbols, assets, as_of),
        "funding_interval_h": hours,
        "funding_cap_rate": cap,
        "funding_floor_rate": floor,
    }
    return Decoded({"funding_terms": sieve.table(columns)}, sieve.rejects, read.notes)


def listing(ask: Ask, answer: Answer) -> Decoded:
    """Every contract of the exchange, whatever its type and status."""
    info, notes = shapes.INFO.one(answer.body, "instruments")
    read = shapes.SYMBOL.many(info.symbols, "instruments", "$.symbols")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    found = [or_none(coin, row.base_asset) for row in rows]
    unknown: Mask = np.array([one is None for one in found], dtype=np.bool_)
    sieve.refuse(
        unknown, "CONVENTION", lambda i: f"base asset {rows[i].base_asset!r} has an undeclared multiplier (transforms/instruments.py)"
    )
    symbols = [row.symbol for row in rows]
    spelled = [row.base_asset + row.quote_asset for row in rows]
    other = [row.symbol.partition("_")[0] != name for row, name in zip(rows, spelled, strict=True)]
    sieve.refuse(np.array(other, dtype=np.bool_), "CONVENTION", lambda i: f"{symbols[i]!r} is not spelled {spelled[i]}[_YYMMDD]")
    third = np.array([row.margin_asset != row.quote_asset for row in rows], dtype=np.bool_)
    sieve.refuse(
        third, "CONVENTION", lambda i: f"{symbols[i]} is quoted in {rows[i].quote_asset} and paid in {rows[i].margin_asset}: not linear"
    )
    as_of = taken(sieve, [info.server_time] * len(rows), ask, answer)
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
        **whose(ask, answer, symbols, np.array([one[0] if one else "" for one in found], dtype=object), as_of),
        **{name: np.array(column, dtype=object) for name, column in words.items()},
        "base_multiplier": np.array([one[1] if one else 1.0 for one in found], dtype=np.float64),
        "payoff": "linear",
        "contract_size": 1.0,
        "contract_unit": "base",
        "funding_interval_h": None,
        "listed_at": listed,
        "delivery_at": Nullable(instants(ends * MILLI), ends != PERPETUAL_DELIVERY),
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, [*notes, *read.notes])

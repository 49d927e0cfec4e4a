"""How Gate's answers become rows of core tables (helper of the source in gate.py).

Payload examples per endpoint: tests/payloads/gate; the shapes: gate_shapes.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from transforms import conventions
from transforms.instruments import coin
from transforms.reading import Floats, Nullable, Sieve, Stamps, instants, stamp, to_us
from transforms.sources import gate_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Decoded
from transforms.sources.gate_shapes import Figure, figures

SOURCE: Final = "gate"
#: field of contract_stats -> what it counts (PITFALLS E1). `lsr_taker` is a ratio of flows and no split of holders
RATIOS: Final[Mapping[str, str]] = {"lsr_account": "global_account", "top_lsr_account": "top_account", "top_lsr_size": "top_position"}
#: the venue's own value in USD over ours out of contracts, size and mark price: outside of it the counting or the size has changed
SAME_COUNT: Final = (0.9, 1.1)
#: settlements land some seconds after their hour; a recorded one 3 s
LATE: Final = timedelta(minutes=1)
HOUR_US: Final = 3_600_000_000
_QUOTE: Final = "_USDT"


@lru_cache(maxsize=4096)
def gate_asset(name: str) -> tuple[str, float]:
    """Asset and coins per base unit of a USDT perpetual; another spelling raises LookupError.

    >>> gate_asset("BTC_USDT"), gate_asset("1000SATS_USDT")
    (('BTC', 1.0), ('SATS', 1000.0))
    """
    base = name.removesuffix(_QUOTE)
    if base == name or "_" in base:
        raise LookupError(f"found contract {name!r}; Gate spells a USDT perpetual as <BASE>{_QUOTE}")
    return coin(base)


def size_of(ask: Ask) -> float:
    """Base units per contract, which the question carries: histories do not state it. Missing raises LookupError."""
    text = dict(ask.series.options).get("contract_size")
    if text is None:
        raise LookupError(f"{ask.series.endpoint} of {ask.series.instrument} was asked without the contract's size: amounts have no unit")
    return float(text)


def who(ask: Ask, as_of: Stamps) -> dict[str, Any]:
    return common.who(ask, as_of, gate_asset(ask.series.instrument)[0])


def hours(ask: Ask) -> float:
    """The declared length of the endpoint's buckets."""
    return conventions.span(SOURCE, ask.series.endpoint, "period", ask.series.window.start) / timedelta(hours=1)


def fill(values: Sequence[Figure | None], given: Any) -> Floats:
    """Figures, 0 where there is none: such rows are refused or masked."""
    return np.where(given, figures(values), 0.0)


# -- contract_stats: four tables in one row


def stats(ask: Ask, answer: Answer) -> Decoded:
    """Open interest, three long/short splits, liquidations and taker volumes of each hour. Rows without taker volumes have no flow."""
    read = shapes.STAT.many(answer.body, "open_interest")
    rows = read.rows
    tables: dict[str, pa.Table] = {}
    sieves = [Sieve("open_interest", rows, read.rejects)]
    tables["open_interest"] = holdings(sieves[0], rows, ask)
    splits = []
    for field, metric in RATIOS.items():
        sieves.append(Sieve("long_short", rows))
        splits.append(split(sieves[-1], rows, ask, field, metric))
    tables["long_short"] = pa.concat_tables(splits)
    sieves.append(Sieve("liquidations", rows))
    tables["liquidations"] = liquidations(sieves[-1], rows, ask)
    flows = [row for row in rows if (row.long_taker_size, row.short_taker_size) != (None, None)]
    sieves.append(Sieve("taker_flow", flows))
    tables["taker_flow"] = takers(sieves[-1], flows, ask)
    return Decoded(tables, [reject for sieve in sieves for reject in sieve.rejects], read.notes)


def stamped(sieve: Sieve, rows: Sequence[shapes.Stat], ask: Ask) -> Stamps:
    """Ends of the buckets, of the contract asked for: where the venue names one, it must be that."""
    common.asked_for(sieve, [row.contract or ask.series.instrument for row in rows], ask)
    return common.stamped(sieve, [row.time for row in rows], ask, common.SECOND)


def holdings(sieve: Sieve, rows: Sequence[shapes.Stat], ask: Ask) -> pa.Table:
    """Open interest in contracts, both sides. The venue's USD value must say the same by the mark price beside it (PITFALLS A2)."""
    as_of = stamped(sieve, rows, ask)
    asset, multiplier = gate_asset(ask.series.instrument)
    size = size_of(ask)
    native = sieve.limits("open_interest_native", figures([row.open_interest for row in rows]))
    usd = sieve.limits("open_interest_usd", figures([row.open_interest_usd for row in rows]))
    marked = np.array([row.mark_price is not None for row in rows], dtype=np.bool_)
    mark = sieve.limits("mark_usd", fill([row.mark_price for row in rows], marked), valid=marked)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ours = native * size * mark
        share = usd / ours
    other = marked & (native > 0.0) & ~((SAME_COUNT[0] <= share) & (share <= SAME_COUNT[1]))
    sieve.refuse(
        other,
        "CONVENTION",
        lambda i: (
            f"open_interest_usd {usd[i]:.12g} is {share[i]:.3g} times {native[i]:.12g} contracts of {size} at {mark[i]:.12g}: "
            "the venue's way of counting or the contract's size is another than declared"
        ),
    )
    sieve.single([as_of], [native, usd])
    given = np.ones(len(rows), dtype=np.bool_)
    return common.interest(sieve, ask, as_of, native, asset=asset, multiplier=multiplier, size=size, usd=Nullable(usd, given))


def split(sieve: Sieve, rows: Sequence[shapes.Stat], ask: Ask, field: str, metric: str) -> pa.Table:
    """Shares out of a ratio long / short."""
    as_of = stamped(sieve, rows, ask)
    ratio = figures([getattr(row, field) for row in rows])
    with np.errstate(divide="ignore", invalid="ignore"):
        long, short = ratio / (1.0 + ratio), 1.0 / (1.0 + ratio)
    strange = ~(np.isfinite(ratio) & (ratio >= 0.0))
    sieve.refuse(strange, "VALUE", lambda i: f"{field} = {getattr(rows[i], field)!r}, expected a ratio of longs to shorts, 0 or more")
    long, short = sieve.limits("long_share", long), sieve.limits("short_share", short)
    sieve.single([as_of], [ratio])
    return sieve.table({**who(ask, as_of), "ratio_metric": metric, "long_share": long, "short_share": short})


def liquidations(sieve: Sieve, rows: Sequence[shapes.Stat], ask: Ask) -> pa.Table:
    """Positions liquidated in each hour, from contracts into coins."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    as_of = stamped(sieve, rows, ask)
    if (sides := conventions.text(SOURCE, endpoint, "liquidation_sides", at)) != "position":
        raise LookupError(f"found liquidation_sides {sides!r} of {SOURCE} {endpoint}; this decoder reads sides of the position only")
    coins = size_of(ask) * gate_asset(ask.series.instrument)[1]
    long = sieve.limits("long_liquidated_base", figures([row.long_liq_size for row in rows]), coins)
    short = sieve.limits("short_liquidated_base", figures([row.short_liq_size for row in rows]), coins)
    sieve.single([as_of], [long, short])
    return sieve.table(
        {
            **who(ask, as_of),
            "interval_h": hours(ask),
            "long_liquidated_base": long,
            "short_liquidated_base": short,
            "completeness": conventions.text(SOURCE, endpoint, "completeness", at),
        }
    )


def takers(sieve: Sieve, rows: Sequence[shapes.Stat], ask: Ask) -> pa.Table:
    """Volumes whose taker bought (long) or sold (short), from contracts into coins."""
    as_of = stamped(sieve, rows, ask)
    both = np.array([row.long_taker_size is not None and row.short_taker_size is not None for row in rows], dtype=np.bool_)
    sieve.refuse(~both, "MISSING", lambda i: f"one of long_taker_size, short_taker_size is missing at {stamp(as_of[i])}")
    coins = size_of(ask) * gate_asset(ask.series.instrument)[1]
    buy = sieve.limits("taker_buy_base", fill([row.long_taker_size for row in rows], both), coins)
    sell = sieve.limits("taker_sell_base", fill([row.short_taker_size for row in rows], both), coins)
    sieve.single([as_of], [buy, sell])
    return sieve.table({**who(ask, as_of), "interval_h": hours(ask), "taker_buy_base": buy, "taker_sell_base": sell})


# -- other histories


def candles(ask: Ask, answer: Answer) -> Decoded:
    """Bars, prices per coin and amounts in coins; the venue counts them in contracts."""
    read = shapes.CANDLE.many(answer.body, "candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    as_of = common.stamped(sieve, [row.t for row in rows], ask, common.SECOND)
    multiplier = gate_asset(ask.series.instrument)[1]
    named = {"open_usd": "o", "high_usd": "h", "low_usd": "l", "close_usd": "c"}
    prices = {name: sieve.texts(name, [getattr(row, field) for row in rows], 1 / multiplier) for name, field in named.items()}
    common.counted_in(ask, "contracts")
    volume = sieve.limits("volume_base", figures([row.v for row in rows]), size_of(ask) * multiplier)
    sieve.single([as_of], [*prices.values(), volume])
    columns = {**who(ask, as_of), "interval_h": hours(ask), **prices, "volume_base": volume, "taker_buy_base": None, "trades": None}
    return Decoded({"candles": sieve.table(columns)}, sieve.rejects, read.notes)


def premiums(ask: Ask, answer: Answer) -> Decoded:
    """Premium over the index at the end of each bar, its close."""
    read = shapes.PREMIUM.many(answer.body, "premiums")
    rows = read.rows
    sieve = Sieve("premiums", rows, read.rejects)
    as_of = common.stamped(sieve, [row.t for row in rows], ask, common.SECOND)
    scale = conventions.number(SOURCE, ask.series.endpoint, "rate_scale", ask.series.window.start)
    premium = sieve.texts("premium_share", [row.c for row in rows], scale)
    common.within(sieve, [row.h for row in rows], [row.l for row in rows], [row.c for row in rows])
    sieve.single([as_of], [premium])
    columns = {**who(ask, as_of), "interval_h": hours(ask), "premium_share": premium}
    return Decoded({"premiums": sieve.table(columns)}, sieve.rejects, read.notes)


def funding(ask: Ask, answer: Answer) -> Decoded:
    """Settled rates at the hour they belong to. The rows do not say which interval they pay for: null, to be inferred."""
    read = shapes.SETTLEMENT.many(answer.body, "funding")
    rows = read.rows
    sieve = Sieve("funding", rows, read.rejects)
    paid = np.array([row.t for row in rows], dtype=np.int64) * common.SECOND
    as_of = np.asarray(paid // HOUR_US * HOUR_US, dtype=np.int64)
    late = paid - as_of > LATE // common.MICROSECOND
    sieve.refuse(late, "STAMP", lambda i: f"settlement at {stamp(paid[i])} is more than {LATE} after its hour")
    sieve.inside(as_of, ask.series.window, None)
    scale = conventions.number(SOURCE, ask.series.endpoint, "rate_scale", ask.series.window.start)
    rate = sieve.texts("funding_rate", [row.r for row in rows], scale)
    sieve.single([as_of], [rate])
    columns = {**who(ask, as_of), "funding_rate": rate, "funding_kind": "settlement", "funding_interval_h": None}
    return Decoded({"funding": sieve.table(columns)}, sieve.rejects, read.notes)


# -- snapshots: the answers have no stamp of their own


def contract(ask: Ask, answer: Answer) -> Decoded:
    """Open interest (longs), mark and index price, and the rate displayed for the running interval, as of our asking (PITFALLS C7)."""
    row, notes = shapes.CONTRACT.one(answer.body, "open_interest")
    held, marks, quotes = (Sieve(name, [row]) for name in ("open_interest", "marks", "funding"))
    as_of = np.full(1, to_us(answer.fetched_at), dtype=np.int64)
    asset, multiplier = gate_asset(ask.series.instrument)
    for sieve in (held, marks, quotes):
        common.asked_for(sieve, [row.name], ask)
    size = held.texts("contract_size", [row.quanto_multiplier])
    native = held.limits("open_interest_native", figures([row.position_size]))
    mark = marks.texts("mark_usd", [row.mark_price], 1 / multiplier)
    index = marks.texts("index_usd", [row.index_price], 1 / multiplier)
    over = row.funding_next_apply * common.SECOND <= as_of[0]
    quotes.refuse(np.array([over]), "CONVENTION", lambda i: f"funding_next_apply {row.funding_next_apply} is not after {stamp(as_of[i])}")
    scale = conventions.number(SOURCE, ask.series.endpoint, "rate_scale", answer.fetched_at)
    rate = quotes.texts("funding_rate", [row.funding_rate], scale)
    each = quotes.limits("funding_interval_h", np.array([row.funding_interval / 3600]))
    at = answer.fetched_at
    found = common.who(ask, as_of, asset, at)
    tables = {
        "open_interest": common.interest(held, ask, as_of, native, asset=asset, multiplier=multiplier, size=size, at=at),
        "marks": marks.table({**found, "mark_usd": mark, "index_usd": index}),
        "funding": quotes.table({**found, "funding_rate": rate, "funding_kind": "quote", "funding_interval_h": each}),
    }
    return Decoded(tables, [*held.rejects, *marks.rejects, *quotes.rejects], notes)


#: `type` of a contract -> pay-out; on the USDT exchange all are direct
PAYOFFS: Final[Mapping[str, str]] = {"direct": "linear"}


def listing(ask: Ask, answer: Answer) -> Decoded:
    """Every contract of the exchange, whatever its status."""
    read = shapes.CONTRACT.many(answer.body, "instruments")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    names = [row.name for row in rows]
    assets, multipliers = common.named(sieve, names, gate_asset)
    strange = np.array([row.type not in PAYOFFS for row in rows], dtype=np.bool_)
    sieve.refuse(strange, "CONVENTION", lambda i: f"{names[i]} is of type {rows[i].type!r}; declared are {', '.join(PAYOFFS)}")
    size = sieve.texts("contract_size", [row.quanto_multiplier for row in rows])
    each = sieve.limits("funding_interval_h", np.array([row.funding_interval / 3600 for row in rows], dtype=np.float64))
    born = np.array([row.create_time or 0.0 for row in rows], dtype=np.float64)
    dated = (born > 0.0) & (born < 1e11)
    listed = instants((np.where(dated, born, 0.0) * common.SECOND).astype(np.int64))
    words = np.array([row.status or ("delisting" if row.in_delisting else "trading") for row in rows], dtype=object)
    sieve.single([np.array(names, dtype=object)], [size, each, words, listed, dated])
    as_of = np.full(len(rows), to_us(answer.fetched_at), dtype=np.int64)
    columns: Mapping[str, Any] = {
        **common.whose(ask, answer, names, assets, as_of),
        "base_asset": np.array([name.removesuffix(_QUOTE) for name in names], dtype=object),
        "quote_asset": "USDT",
        "margin_asset": "USDT",
        "contract_type": np.array([row.type for row in rows], dtype=object),
        "instrument_status": words,
        "base_multiplier": multipliers,
        "payoff": "linear",
        "contract_size": size,
        "contract_unit": "base",
        "funding_interval_h": each,
        "listed_at": Nullable(listed, dated),
        "delivery_at": None,
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, read.notes)

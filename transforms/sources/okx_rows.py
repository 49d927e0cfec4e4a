"""How OKX's REST answers become rows of core tables (helper of the source in okx.py).

Payload examples per endpoint: tests/payloads/okx; the shapes: okx_shapes.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from transforms import conventions
from transforms.instruments import coin
from transforms.reading import Floats, Nullable, Read, Shape, Sieve, Stamps, floats, instants, micros, stamp, to_us
from transforms.sources import okx_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Decoded, Instrument, Reject, Unreadable
from transforms.sources.rows import MILLI, asked_for, settled, stamped
from transforms.windows import HOUR

SOURCE: Final = "okx"
RATIOS: Final = (
    "long-short-account-ratio-contract",
    "long-short-account-ratio-contract-top-trader",
    "long-short-position-ratio-contract-top-trader",
)
#: how far the venue's amounts may lie from contracts x size: they are rounded, and inverse ones priced
TOLERANCE: Final = 0.01
HOUR_US: Final = 3_600_000_000
_SWAP: Final = re.compile(r"([A-Z0-9]+)-(USDT|USDC|USD)-SWAP", re.ASCII)
R = TypeVar("R", bound=msgspec.Struct)


class Spelled(NamedTuple):
    """What the name of a swap says. `multiplier`: coins per base unit."""

    base: str
    quote: str
    asset: str
    multiplier: float


class Terms(NamedTuple):
    """What one contract is: `size` in base units where linear, in USD where inverse."""

    payoff: str
    size: float


class Page(NamedTuple):
    """How many rows an answer holds, their stamps, and how far above the oldest one the next page begins (milliseconds)."""

    held: int
    stamps_ms: Sequence[int]
    overlap_ms: int


@lru_cache(maxsize=4096)
def swap(name: str) -> Spelled:
    """The swap of that name; a name of another form raises LookupError.

    >>> swap("BTC-USD-SWAP")
    Spelled(base='BTC', quote='USD', asset='BTC', multiplier=1.0)
    """
    found = _SWAP.fullmatch(name)
    if found is None:
        raise LookupError(f"found instrument {name!r}; a swap is spelled COIN-USDT-SWAP, COIN-USDC-SWAP or COIN-USD-SWAP")
    return Spelled(found[1], found[2], *coin(found[1]))


def options(one: Instrument) -> tuple[tuple[str, str], ...]:
    """The terms of a contract as a Series carries them."""
    return ("payoff", one.payoff), ("contract_size", repr(one.contract_size))


def terms(ask: Ask) -> Terms:
    """The terms under which an answer was asked for; LookupError where the Series has none."""
    said = dict(ask.series.options)
    size = float(floats([said.get("contract_size", "")])[0])
    if said.get("payoff") not in ("linear", "inverse") or not size > 0.0:
        raise LookupError(f"found options {said} of {ask.series.instrument}; payoff (linear, inverse) and contract_size are needed")
    return Terms(said["payoff"], size)


def opened(answer: Answer, shape: Shape[R], target: str) -> Read[R]:
    """The rows inside the envelope. The venue's own error raises Unreadable (VENUE_ERROR)."""
    envelope, notes = shapes.ENVELOPE.one(answer.body, target)
    if envelope.code != "0":
        start = answer.body[:2000].decode("utf-8", "replace")
        raise Unreadable(Reject(target, "VENUE_ERROR", shapes.venue_error(answer.body) or envelope.code, start))
    read = shape.many(envelope.data, target, "$.data")
    return replace(read, notes=[*notes, *read.notes])


def who(ask: Ask, as_of: Stamps) -> dict[str, Any]:
    """The columns that say who and when, for one contract."""
    return common.who(ask, as_of, swap(ask.series.instrument).asset)


def taken(sieve: Sieve, stamps: Sequence[str], ask: Ask, answer: Answer) -> Stamps:
    """When a snapshot was taken: min(venue stamp, fetched_at), microseconds (PITFALLS A10)."""
    return common.fresh(sieve, np.minimum(instant(sieve, stamps), to_us(answer.fetched_at)), ask)


def instant(sieve: Sieve, stamps: Sequence[str]) -> Stamps:
    """Instants, microseconds, of Unix milliseconds."""
    raw, readable = micros(stamps, MILLI)
    sieve.refuse(~readable, "VALUE", lambda i: f"found stamp {stamps[i]!r}, expected Unix milliseconds")
    return raw


# -- open interest


def interest_history(ask: Ask, answer: Answer) -> Decoded:
    """Open interest at the end of each hour, contracts."""
    read = opened(answer, shapes.INTEREST_HOUR, "open_interest")
    sieve = Sieve("open_interest", read.rows, read.rejects)
    as_of = stamped(sieve, [row.ts for row in read.rows], ask)
    return interest(sieve, ask, as_of, read)


def interest_now(ask: Ask, answer: Answer) -> Decoded:
    """Open interest now, contracts."""
    read = opened(answer, shapes.OPEN_INTEREST, "open_interest")
    sieve = Sieve("open_interest", read.rows, read.rejects)
    asked_for(sieve, [row.inst_id for row in read.rows], ask)
    as_of = taken(sieve, [row.ts for row in read.rows], ask, answer)
    return interest(sieve, ask, as_of, read)


def interest(sieve: Sieve, ask: Ask, as_of: Stamps, read: Read[shapes.OpenInterest] | Read[shapes.InterestHour]) -> Decoded:
    """Rows of open_interest. A zero among the three amounts is no market but a dead feed; amounts that do not fit the size are put aside."""
    contract = terms(ask)
    native = sieve.texts("open_interest_native", [row.oi for row in read.rows])
    coins = sieve.texts("open_interest_base", [row.oi_ccy for row in read.rows])
    usd = common.optional(sieve, "open_interest_usd", [row.oi_usd for row in read.rows])
    dead = (native == 0.0) | (coins == 0.0) | (usd.valid & (usd.values == 0.0))
    sieve.refuse(
        dead,
        "ZERO_OPEN_INTEREST",
        lambda i: f"open interest of exactly 0 at {stamp(as_of[i])}: {native[i]} contracts, {coins[i]} coins, {usd.values[i]} USD",
    )
    linear = contract.payoff == "linear"
    fits(sieve, native * contract.size, coins if linear else np.where(usd.valid, usd.values, native * contract.size), contract)
    sieve.single([as_of], [native, coins, usd.values])
    with np.errstate(divide="ignore", invalid="ignore"):
        size: Floats | float = contract.size if linear else coins / native  # only the venue knows the price it divided by
    asset = swap(ask.series.instrument)
    table = common.interest(sieve, ask, as_of, native, asset=asset.asset, multiplier=asset.multiplier, size=size, usd=usd)
    return Decoded({"open_interest": table}, sieve.rejects, read.notes)


def fits(sieve: Sieve, ours: Floats, theirs: Floats, contract: Terms) -> None:
    """Contracts x size must be the amount that the venue states beside it (CONVENTION): a contract of another size is another contract."""
    off = ~(np.abs(ours - theirs) <= TOLERANCE * np.abs(theirs))
    unit = "coins" if contract.payoff == "linear" else "USD"
    sieve.refuse(off, "CONVENTION", lambda i: f"contracts x {contract.size} = {ours[i]} {unit}, the venue says {theirs[i]}")


# -- positioning and flow


def ratio(ask: Ask, answer: Answer) -> Decoded:
    """Long and short shares from long over short: r / (1 + r) and 1 / (1 + r)."""
    read = opened(answer, shapes.RATIO, "long_short")
    sieve = Sieve("long_short", read.rows, read.rejects)
    as_of = stamped(sieve, [row.ts for row in read.rows], ask)
    texts = [row.ratio for row in read.rows]
    long_over_short = floats(texts)
    with np.errstate(invalid="ignore"):
        sieve.refuse(~((long_over_short >= 0.0) & np.isfinite(long_over_short)), "VALUE", lambda i: f"found long over short {texts[i]!r}")
    whole = 1.0 + np.where(sieve.keep, long_over_short, 0.0)
    long = sieve.limits("long_share", np.where(sieve.keep, long_over_short, 0.0) / whole)
    short = sieve.limits("short_share", 1.0 / whole)
    sieve.single([as_of], [long_over_short])
    metric = conventions.text(SOURCE, ask.series.endpoint, "ratio_metric", ask.series.window.start)
    table = sieve.table({**who(ask, as_of), "ratio_metric": metric, "long_share": long, "short_share": short})
    return Decoded({"long_short": table}, sieve.rejects, read.notes)


def taker(ask: Ask, answer: Answer) -> Decoded:
    """Taker volumes in coins (unit 0). The answer names no contract: it is the one asked for."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = opened(answer, shapes.TAKER, "taker_flow")
    sieve = Sieve("taker_flow", read.rows, read.rejects)
    as_of = stamped(sieve, [row.ts for row in read.rows], ask)
    _coins_only(endpoint, ask)
    multiplier = swap(ask.series.instrument).multiplier
    buy = sieve.texts("taker_buy_base", [row.buy_vol for row in read.rows], multiplier)
    sell = sieve.texts("taker_sell_base", [row.sell_vol for row in read.rows], multiplier)
    sieve.single([as_of], [buy, sell])
    hours = conventions.span(SOURCE, endpoint, "period", at) / HOUR
    table = sieve.table({**who(ask, as_of), "interval_h": hours, "taker_buy_base": buy, "taker_sell_base": sell})
    return Decoded({"taker_flow": table}, sieve.rejects, read.notes)


def _coins_only(endpoint: str, ask: Ask) -> None:
    if (unit := conventions.text(SOURCE, endpoint, "native_unit", ask.series.window.start)) != "base":
        raise LookupError(f"found unit {unit!r} of {endpoint}; this decoder reads coins only")


def candles(ask: Ask, answer: Answer) -> Decoded:
    """Bars that are over, prices per coin and volume in coins."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = opened(answer, shapes.CANDLE, "candles")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    as_of = stamped(sieve, [row.ts for row in rows], ask)
    unknown = np.array([row.confirm not in ("0", "1") for row in rows], dtype=np.bool_)
    sieve.refuse(unknown, "CONVENTION", lambda i: f"found confirm {rows[i].confirm!r}, known are 0 (the bar runs) and 1 (it is over)")
    running = np.array([row.confirm == "0" for row in rows], dtype=np.bool_)
    sieve.refuse(running, "VALUE", lambda i: f"the bar that ends at {stamp(as_of[i])} is not over: confirm 0")
    _coins_only(endpoint, ask)
    multiplier = swap(ask.series.instrument).multiplier
    prices = [sieve.texts(f"{name}_usd", [getattr(row, name) for row in rows], 1 / multiplier) for name in ("open", "high", "low", "close")]
    coins, worth = [row.vol_ccy for row in rows], [row.vol_ccy_quote for row in rows]
    volume = sieve.texts("volume_base", coins, multiplier)
    common.priced(sieve, worth, coins, [row.high for row in rows], [row.low for row in rows])
    sieve.single([as_of], [*prices, volume])
    table = sieve.table(
        {
            **who(ask, as_of),
            "interval_h": conventions.span(SOURCE, endpoint, "period", at) / HOUR,
            **dict(zip(("open_usd", "high_usd", "low_usd", "close_usd"), prices, strict=True)),
            "volume_base": volume,
            "taker_buy_base": None,
            "trades": None,
        }
    )
    return Decoded({"candles": table}, sieve.rejects, read.notes)


# -- funding


def settlements(ask: Ask, answer: Answer) -> Decoded:
    """Rates that were paid. The rows do not say which interval they pay for: null, to be inferred from the settlements (PITFALLS C1)."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = opened(answer, shapes.SETTLEMENT, "funding")
    rows = read.rows
    sieve = Sieve("funding", rows, read.rejects)
    asked_for(sieve, [row.inst_id for row in rows], ask)
    as_of = settled(sieve, instant(sieve, [row.funding_time for row in rows]), ask)
    rate = sieve.texts("funding_rate", [row.realized_rate for row in rows], conventions.number(SOURCE, endpoint, "rate_scale", at))
    sieve.single([as_of], [rate])
    kind = conventions.text(SOURCE, endpoint, "funding_kind", at)
    table = sieve.table({**who(ask, as_of), "funding_rate": rate, "funding_kind": kind, "funding_interval_h": None})
    return Decoded({"funding": table}, sieve.rejects, read.notes)


def page_of_settlements(answer: Answer) -> Page:
    """What `follow` needs to know; stamps are distinct, so the next page begins right below the oldest."""
    read = opened(answer, shapes.SETTLEMENT, "funding")
    return page([row.funding_time for row in read.rows], len(read.rejects), 0)


def page(stamps: Sequence[str], rejected: int, overlap_ms: int) -> Page:
    """The page of rows with these stamps; what cannot be read is a row without one."""
    at, readable = micros(stamps, MILLI)
    return Page(len(stamps) + rejected, (at[readable] // MILLI).tolist(), overlap_ms)


def quote(ask: Ask, answer: Answer) -> Decoded:
    """The rate to be settled next with the interval it covers, and the contract's terms: nothing is paid yet (PITFALLS C7)."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = opened(answer, shapes.FUNDING_QUOTE, "funding")
    rows = read.rows
    quotes, limits = Sieve("funding", rows, read.rejects), Sieve("funding_terms", rows)
    scale = conventions.number(SOURCE, endpoint, "rate_scale", at)
    (as_of, hours), _ = (_due(sieve, ask, answer, rows) for sieve in (quotes, limits))
    rate = quotes.texts("funding_rate", [row.funding_rate for row in rows], scale)
    cap = limits.texts("funding_cap_rate", [row.max_funding_rate for row in rows], scale)
    floor = limits.texts("funding_floor_rate", [row.min_funding_rate for row in rows], scale)
    quotes.single([as_of], [rate, hours])
    limits.single([as_of], [cap, floor, hours])
    columns = {**who(ask, as_of), "funding_interval_h": hours}
    kind = conventions.text(SOURCE, endpoint, "funding_kind", at)
    tables = {
        "funding": quotes.table({**columns, "funding_rate": rate, "funding_kind": kind}),
        "funding_terms": limits.table({**columns, "funding_cap_rate": cap, "funding_floor_rate": floor}),
    }
    return Decoded(tables, [*quotes.rejects, *limits.rejects], read.notes)


def _due(sieve: Sieve, ask: Ask, answer: Answer, rows: Sequence[shapes.FundingQuote]) -> tuple[Stamps, Floats]:
    """When the rates were shown, and the hours each covers: up to fundingTime, which lies ahead.

    The interval begins at prevFundingTime. Where the answer does not have it, the one that follows, up to nextFundingTime, stands for it.
    """
    asked_for(sieve, [row.inst_id for row in rows], ask)
    as_of = taken(sieve, [row.ts for row in rows], ask, answer)
    due, onward = instant(sieve, [row.funding_time for row in rows]), instant(sieve, [row.next_funding_time for row in rows])
    sieve.refuse(due <= as_of, "CONVENTION", lambda i: f"fundingTime {rows[i].funding_time} is not after {stamp(as_of[i])}")
    begun = instant(sieve, [row.prev_funding_time or row.funding_time for row in rows])
    return as_of, sieve.limits("funding_interval_h", np.where(begun == due, onward - due, due - begun) / HOUR_US)


def mark(ask: Ask, answer: Answer) -> Decoded:
    """Mark price per coin; the index has an endpoint of its own, so it is null here."""
    read = opened(answer, shapes.MARK_PRICE, "marks")
    rows = read.rows
    sieve = Sieve("marks", rows, read.rejects)
    asked_for(sieve, [row.inst_id for row in rows], ask)
    as_of = taken(sieve, [row.ts for row in rows], ask, answer)
    price = sieve.texts("mark_usd", [row.mark_px for row in rows], 1 / swap(ask.series.instrument).multiplier)
    sieve.single([as_of], [price])
    return Decoded({"marks": sieve.table({**who(ask, as_of), "mark_usd": price, "index_usd": None})}, sieve.rejects, read.notes)


# -- the listing


def listing(ask: Ask, answer: Answer) -> Decoded:
    """Every swap of the venue, whatever its state. The answer has no stamp of its own: as of our asking."""
    read = opened(answer, shapes.LISTED, "instruments")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    known = [_or_none(row.inst_id) for row in rows]
    sieve.refuse(
        np.array([one is None for one in known], dtype=np.bool_),
        "CONVENTION",
        lambda i: f"instrument {rows[i].inst_id!r} is outside the declared spelling (transforms/sources/okx_rows.py)",
    )
    units = [_unit(row, one) for row, one in zip(rows, known, strict=True)]
    sieve.refuse(
        np.array([not unit for unit in units], dtype=np.bool_),
        "CONVENTION",
        lambda i: f"found a {rows[i].ct_type!r} contract of {rows[i].ct_val_ccy!r}; declared are linear of its coin and inverse of USD",
    )
    pays = [
        "" if one is None else {"linear": one.quote, "inverse": one.base}.get(row.ct_type, "") for row, one in zip(rows, known, strict=True)
    ]
    third = np.array([row.settle_ccy != coin for row, coin in zip(rows, pays, strict=True)], dtype=np.bool_)
    sieve.refuse(
        third, "CONVENTION", lambda i: f"{rows[i].inst_id} of type {rows[i].ct_type} is paid in {rows[i].settle_ccy}, expected {pays[i]}"
    )
    size = sieve.limits("contract_size", floats([row.ct_val for row in rows]) * floats([row.ct_mult for row in rows]))
    listed, ends = (_instant_or_null(sieve, texts) for texts in ([row.list_time for row in rows], [row.exp_time for row in rows]))
    names = [row.inst_id for row in rows]
    words = {
        "base_asset": ["" if one is None else one.base for one in known],
        "quote_asset": ["" if one is None else one.quote for one in known],
        "margin_asset": [row.settle_ccy for row in rows],
        "contract_type": [row.inst_type for row in rows],
        "instrument_status": [row.state for row in rows],
        "payoff": [row.ct_type for row in rows],
        "contract_unit": units,
    }
    said = [np.array(column, dtype=object) for column in words.values()]
    sieve.single([np.array(names, dtype=object)], [*said, size, listed.values, ends.values])
    as_of = np.full(len(rows), to_us(answer.fetched_at), dtype=np.int64)
    assets = np.array(["" if one is None else one.asset for one in known], dtype=object)
    columns: Mapping[str, Any] = {
        **common.whose(ask, answer, names, assets, as_of),
        **dict(zip(words, said, strict=True)),
        "base_multiplier": np.array([1.0 if one is None else one.multiplier for one in known], dtype=np.float64),
        "contract_size": size,
        "funding_interval_h": None,
        "listed_at": listed,
        "delivery_at": ends,
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, read.notes)


def _or_none(name: str) -> Spelled | None:
    try:
        return swap(name)
    except LookupError:
        return None


def _unit(row: shapes.Listed, one: Spelled | None) -> str:
    """Unit of the contract's size; empty where type and currency do not go together."""
    if one is None:
        return "base"  # put aside already
    return {("linear", one.base): "base", ("inverse", "USD"): "usd"}.get((row.ct_type, row.ct_val_ccy), "")


def _instant_or_null(sieve: Sieve, texts: Sequence[str]) -> Nullable:
    """A stamp that is empty where there is none."""
    there = np.array([text != "" for text in texts], dtype=np.bool_)
    return Nullable(instants(instant(sieve, [text or "0" for text in texts])), there)

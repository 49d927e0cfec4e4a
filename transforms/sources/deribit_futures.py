"""Deribit's inverse perpetuals: funding by the hour, the tape with its liquidations, open interest and listing (helper of deribit.py).

Funding is paid all the time. A row of the history gives what one USD of position paid over the hour that ends at its stamp (interest_1h)
and over the eight hours that end there (interest_8h). The first is what was settled in that hour; hourly rows of the second overlap, so
adding them up would count every payment eight times (PITFALLS C3).

Liquidations are trades of the tape that carry a flag: T = the taker's position was liquidated, M = the maker's, MT = both. Which position
that was follows from the taker's direction: who was liquidated by selling was long. All other trades are no rows of ours. Amounts of
inverse contracts are USD: coins = amount / price.

Documents: https://docs.deribit.com/ (public/get_funding_rate_history, public/get_last_trades_by_instrument_and_time,
public/get_book_summary_by_currency with kind=future, public/get_instruments)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from transforms import conventions
from transforms.reading import Nullable, Sieve, instants, stamp, to_us
from transforms.sources import deribit_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Decoded, Reject, Series, Unreadable
from transforms.windows import HOUR, Window, from_ms, to_ms

SOURCE: Final = "deribit"
FUNDING: Final = "get_funding_rate_history"
TAPE: Final = "get_last_trades_by_instrument_and_time"
INSTRUMENTS: Final = "get_instruments"
#: get_book_summary_by_currency with kind=future: other rows, units and tables than the options' under the same path
FUTURES: Final = "get_book_summary_by_currency_future"
SUMMARY_PATH: Final = "/public/get_book_summary_by_currency"
TABLES: Final[Mapping[str, str]] = {
    FUNDING: "funding",
    TAPE: "forced_trades",
    FUTURES: "open_interest",
    INSTRUMENTS: "instruments",
}
PERPETUALS: Final = ("BTC-PERPETUAL", "ETH-PERPETUAL")
PERPETUAL: Final = "perpetual"
FUNDING_ROWS: Final = 744
FUNDING_STEP_MS: Final = 3_600_000
TAPE_ROWS: Final = 1000
SNAPSHOT_WIDTH: Final = timedelta(minutes=1)
#: the venue's word -> payoff, and what contract_size counts
PAYOFFS: Final[Mapping[str, tuple[str, str]]] = {"reversed": ("inverse", "usd"), "linear": ("linear", "base")}
#: whose order a flag names
FLAGS: Final[Mapping[str, tuple[str, ...]]] = {"T": ("taker",), "M": ("maker",), "MT": ("taker", "maker")}
#: (whose order, direction of the taker) -> position that the order closed
CLOSED: Final[Mapping[tuple[str, str], str]] = {
    ("taker", "sell"): "long",
    ("taker", "buy"): "short",
    ("maker", "sell"): "short",
    ("maker", "buy"): "long",
}
#: "391044210"; of other coins "ETH-391044210"
_TRADE: Final = re.compile(r"(?:[A-Z0-9_]+-)?[0-9]{1,20}", re.ASCII)
_NAME: Final = re.compile(r"([A-Z0-9]+)(?:_[A-Z]+)?-(?:PERPETUAL|[1-9][0-9]?[A-Z]{3}[0-9]{2})", re.ASCII)


def future_asset(name: str) -> str:
    """The coin behind a future or perpetual; another spelling raises LookupError.

    >>> future_asset("BTC-PERPETUAL"), future_asset("ETH-25DEC26"), future_asset("SOL_USDC-PERPETUAL")
    ('BTC', 'ETH', 'SOL')
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise LookupError(f"found instrument name {name!r}; a future is spelled COIN[_USDC]-PERPETUAL or COIN[_USDC]-DMMMYY")
    return found[1]


# -- what to ask


def plan(window: Window, now: datetime) -> Iterator[Series]:
    """Histories of the perpetuals: funding from its beginning, the tape as far back as it is asked (`history_depth`)."""
    for name in PERPETUALS:
        start = max(window.start, conventions.instant(SOURCE, FUNDING, "history_since", now))
        end = min(window.end, now)
        if start < end and Window(start, end).grid(HOUR):
            yield Series(SOURCE, FUNDING, name, Window(start, end), HOUR)
        start = max(window.start, now - conventions.span(SOURCE, TAPE, "history_depth", now))
        if start < end:
            yield Series(SOURCE, TAPE, name, Window(start, end))


def plan_now(window: Window) -> Iterator[Series]:
    """Snapshots."""
    for name in PERPETUALS:
        yield Series(SOURCE, FUTURES, name, window)
        yield Series(SOURCE, INSTRUMENTS, future_asset(name), window)


def asks(series: Series) -> Iterator[Ask]:
    """The requests of one series: funding in pages, the tape in hours, so that they run in parallel."""
    path, name = f"/public/{series.endpoint}", (("instrument_name", series.instrument),)
    match series.endpoint:
        case "get_funding_rate_history":
            for stamps in common.pages(series, FUNDING_ROWS):
                first, last = common.labels_ms(series, stamps)
                # just after the label before: in the document's example a row stamped at the start is not served
                begin = first - FUNDING_STEP_MS + 1
                yield Ask(series, "api", path, (*name, ("start_timestamp", str(begin)), ("end_timestamp", str(last))))
        case "get_last_trades_by_instrument_and_time":
            for piece in series.window.split(HOUR):
                span = (("start_timestamp", str(to_ms(piece.start) + 1)), ("end_timestamp", str(to_ms(piece.end))))
                yield Ask(series, "api", path, (*name, *span, ("count", str(TAPE_ROWS)), ("sorting", "asc")))
        case "get_book_summary_by_currency_future":
            yield Ask(series, "api", SUMMARY_PATH, (("currency", future_asset(series.instrument)), ("kind", "future")))
        case _:
            yield Ask(series, "api", path, (("currency", series.instrument), ("kind", "future")), "instruments")


def follow(ask: Ask, answer: Answer) -> Ask | None:
    """The tape goes on AT the stamp of its last trade, for others may share it; what comes twice is counted as a duplicate."""
    try:
        envelope, _ = shapes.ENVELOPE.one(answer.body, "forced_trades")
        page, _ = shapes.TRADES.one(bytes(envelope.result), "forced_trades")
        found = shapes.TRADE.many(page.trades, "forced_trades")
    except Unreadable:
        return None
    params = dict(ask.params)
    if not page.has_more or not found.rows:
        return None
    last = max(row.timestamp for row in found.rows)
    if not int(params["start_timestamp"]) < last <= int(params["end_timestamp"]):
        return None
    return replace(ask, params=tuple((name, str(last) if name == "start_timestamp" else value) for name, value in ask.params))


# -- how to read the answer


def funding(ask: Ask, _answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """What was paid over each hour, per USD of position: interest_1h."""
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = shapes.FUNDING.many(bytes(envelope.result), "funding", "$.result")
    rows = read.rows
    sieve = Sieve("funding", rows, read.rejects)
    as_of = common.stamped(sieve, [row.timestamp for row in rows], ask)
    scale = conventions.number(SOURCE, endpoint, "rate_scale", at)
    rate = sieve.limits("funding_rate", np.array([row.interest_1h for row in rows], dtype=np.float64), scale)
    sieve.single([as_of], [rate])
    table = sieve.table(
        {
            **common.who(ask, as_of, future_asset(ask.series.instrument)),
            "funding_rate": rate,
            "funding_kind": conventions.text(SOURCE, endpoint, "funding_kind", at),
            "funding_interval_h": conventions.number(SOURCE, endpoint, "funding_interval_h", at),
        }
    )
    return Decoded({"funding": table}, sieve.rejects, read.notes)


def tape(ask: Ask, _answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Liquidated positions of a page of trades; a trade that closed two gives two rows, `<trade_id>/taker` and `<trade_id>/maker`."""
    series, at = ask.series, ask.series.window.start
    page, notes = shapes.TRADES.one(bytes(envelope.result), "forced_trades")
    read = shapes.TRADE.many(page.trades, "forced_trades", "$.result.trades")
    whole = Sieve("forced_trades", read.rows, read.rejects)
    common.asked_for(whole, [row.instrument_name for row in read.rows], ask)
    stamps = np.array([row.timestamp for row in read.rows], dtype=np.int64) * common.MILLI
    whole.inside(stamps, series.window, None)
    strange = np.array([row.liquidation not in (None, *FLAGS) or row.direction not in ("buy", "sell") for row in read.rows], dtype=np.bool_)
    whole.refuse(
        strange,
        "CONVENTION",
        lambda i: f"found direction {read.rows[i].direction!r}, liquidation {read.rows[i].liquidation!r}; declared are {', '.join(FLAGS)}",
    )
    unnamed = np.array([_TRADE.fullmatch(row.trade_id) is None for row in read.rows], dtype=np.bool_)
    whole.refuse(
        unnamed, "CONVENTION", lambda i: f"found trade_id {read.rows[i].trade_id!r}; one is digits, with the coin before a dash or without"
    )
    forced = [(row, who) for row, kept in zip(read.rows, whole.keep, strict=True) if kept for who in FLAGS.get(row.liquidation or "", ())]
    common.counted_in(ask, "usd")
    if (named := conventions.text(SOURCE, TAPE, "liquidation_sides", at)) != "order":
        raise LookupError(f"found liquidation_sides {named!r} of {TAPE}; this decoder reads 'order' only")
    rows = [row for row, _ in forced]
    sieve = Sieve("forced_trades", rows)
    as_of = np.array([row.timestamp for row in rows], dtype=np.int64) * common.MILLI
    price = sieve.limits("price_usd", np.array([row.price for row in rows], dtype=np.float64))
    sieve.refuse(price == 0.0, "VALUE", lambda i: f"trade {rows[i].trade_id} has a price of 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        amount = sieve.limits("amount_base", np.array([row.amount for row in rows], dtype=np.float64) / price)
    names = np.array([f"{row.trade_id}/{who}" if row.liquidation == "MT" else row.trade_id for row, who in forced], dtype=object)
    sides = np.array([CLOSED[who, row.direction] for row, who in forced], dtype=object)
    sieve.single([as_of, names], [sides, price, amount])
    table = sieve.table(
        {
            **common.who(ask, as_of, future_asset(series.instrument)),
            "trade_id": names,
            "position_side": sides,
            "price_usd": price,
            "price_kind": conventions.text(SOURCE, TAPE, "price_kind", at),
            "amount_base": amount,
            "completeness": conventions.text(SOURCE, TAPE, "completeness", at),
        }
    )
    rejects = [*whole.rejects, *sieve.rejects, *_stuck(ask, page.has_more, read.rows)]
    return Decoded({"forced_trades": table}, rejects, [*notes, *read.notes])


def _stuck(ask: Ask, more: bool, trades: Sequence[shapes.Trade]) -> list[Reject]:
    """A page that has more behind it but ends at the instant it was asked from: by time nobody can get at the rest."""
    start = dict(ask.params).get("start_timestamp", "0")
    if not more or any(row.timestamp > int(start) for row in trades):
        return []
    detail = f"{len(trades)} trades at {from_ms(int(start)).isoformat()} and the venue has more, which cannot be asked for by time"
    return [Reject("forced_trades", "TRUNCATED", detail, ask.target)]


def summary(ask: Ask, answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Open interest of one perpetual in USD, mark and index, at the instant the venue sent the answer. Dated futures are no rows of ours."""
    read = shapes.FUTURE.many(bytes(envelope.result), "open_interest", "$.result")
    rows = [row for row in read.rows if row.instrument_name == ask.series.instrument]
    stock, marks = Sieve("open_interest", rows, read.rejects), Sieve("marks", rows)
    sent = envelope.us_out
    own = np.array([row.creation_timestamp for row in rows], dtype=np.int64) * common.MILLI
    as_of = np.full(len(rows), min(sent, to_us(answer.fetched_at)), dtype=np.int64)
    for sieve in (stock, marks):
        sieve.refuse(
            np.abs(own - sent) > SNAPSHOT_WIDTH // common.MICROSECOND,
            "STAMP",
            lambda i: f"a row of {stamp(own[i])} in an answer of {stamp(sent)}, more than {SNAPSHOT_WIDTH} apart",
        )
        common.fresh(sieve, as_of, ask)
    native = stock.limits("open_interest_native", np.array([row.open_interest for row in rows], dtype=np.float64))
    stock.single([as_of], [native])
    asset = future_asset(ask.series.instrument)
    stocks = common.interest(stock, ask, as_of, native, asset=asset)
    mark = marks.limits("mark_usd", np.array([row.mark_price for row in rows], dtype=np.float64))
    index = marks.limits("index_usd", np.array([row.estimated_delivery_price for row in rows], dtype=np.float64))
    marks.single([as_of], [mark, index])
    table = marks.table({**common.who(ask, as_of, asset), "mark_usd": mark, "index_usd": index})
    if not rows and not stock.rejects:
        detail = f"{ask.series.instrument} is not among the {len(read.rows)} futures that were served"
        stock.rejects.append(Reject("open_interest", "MISSING", detail, ask.target))
    return Decoded({"open_interest": stocks, "marks": table}, [*stock.rejects, *marks.rejects], read.notes)


def listing(ask: Ask, answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Every listed future that settles in one coin, perpetual or dated."""
    read = shapes.INSTRUMENT.many(bytes(envelope.result), "instruments", "$.result")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    names = [row.instrument_name for row in rows]
    assets, _ = common.named(sieve, names, lambda name: (future_asset(name), 1.0))
    found = [PAYOFFS.get(row.instrument_type) for row in rows]
    other = [one is None or row.base_currency != asset for one, row, asset in zip(found, rows, assets, strict=True)]
    sieve.refuse(
        np.array(other, dtype=np.bool_),
        "CONVENTION",
        lambda i: (
            f"{names[i]} of {rows[i].base_currency} is {rows[i].instrument_type!r}; declared are {', '.join(PAYOFFS)} of the coin in the name"
        ),
    )
    size = sieve.limits("contract_size", np.array([row.contract_size for row in rows], dtype=np.float64))
    as_of = common.fresh(sieve, np.full(len(rows), min(envelope.us_out, to_us(answer.fetched_at)), dtype=np.int64), ask)
    words = {
        "base_asset": [row.base_currency for row in rows],
        "quote_asset": [row.quote_currency for row in rows],
        "margin_asset": [row.settlement_currency for row in rows],
        "contract_type": [row.settlement_period for row in rows],
        "instrument_status": [row.state for row in rows],
        "payoff": [one[0] if one else "" for one in found],
        "contract_unit": [one[1] if one else "" for one in found],
    }
    columns: dict[str, Any] = {name: np.array(column, dtype=object) for name, column in words.items()}
    listed, ends = (
        np.array([getattr(row, name) for row in rows], dtype=np.int64) for name in ("creation_timestamp", "expiration_timestamp")
    )
    sieve.single([np.array(names, dtype=object)], [*columns.values(), size, listed, ends])
    dated = np.array([row.settlement_period != PERPETUAL for row in rows], dtype=np.bool_)
    columns |= {
        **common.whose(ask, answer, names, assets, as_of),
        "base_multiplier": 1.0,
        "contract_size": size,
        "funding_interval_h": None,
        "listed_at": instants(listed * common.MILLI),
        "delivery_at": Nullable(instants(ends * common.MILLI), dated),
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, read.notes)


DECODERS: Final[Mapping[str, Callable[[Ask, Answer, shapes.Envelope], Decoded]]] = {
    FUNDING: funding,
    TAPE: tape,
    FUTURES: summary,
    INSTRUMENTS: listing,
}

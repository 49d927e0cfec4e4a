"""Bitget USDT-margined perpetuals: settled funding, hourly bars, two long/short splits, and the state as it stands.

Settlements and splits cannot be asked for by time. Settlements come in pages from the newest back, and pages are turned until one reaches
beyond the window; should a settlement happen meanwhile, rows move to later pages and one comes twice, none is lost. Splits are the last 30
hours only. Of both, rows outside the window asked for are not rows of ours and are counted nowhere. Open interest exists for now only.

Documents: https://www.bitget.com/api-doc/contract/market/Get-All-Symbols-Contracts and its siblings
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from transforms import conventions
from transforms.instruments import binance_asset, coin
from transforms.reading import Floats, Mask, Nullable, Shape, Sieve, Stamps, instants, micros, stamp, to_us
from transforms.sources import bitget_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Reject, Series, Source, Unreadable
from transforms.windows import HOUR, Window, floor

NAME: Final = "bitget"
PRODUCT: Final = "USDT-FUTURES"
CONTRACTS: Final = "contracts"
OPEN_INTEREST: Final = "open-interest"
FUNDING: Final = "history-fund-rate"
QUOTE: Final = "current-fund-rate"
PRICE: Final = "symbol-price"
CANDLES: Final = "history-candles"
ACCOUNTS: Final = "account-long-short"
POSITIONS: Final = "position-long-short"
RATIOS: Final = (ACCOUNTS, POSITIONS)
SNAPSHOTS: Final = (OPEN_INTEREST, QUOTE, PRICE)
FUNDING_ROWS: Final = 100
CANDLES_ROWS: Final = 200
#: the requests of a long run leave later than its clock
SLACK: Final = HOUR
SNAPSHOT_REACH: Final = timedelta(hours=2)
#: errors that pass by themselves: timed out, system abnormal, upgrade, service error, unknown (Bitget document, "RestAPI Error Codes")
PASSING: Final = frozenset({"429", "30007", "40010", "40015", "40200", "40725", "45001"})
R = TypeVar("R", bound=msgspec.Struct)


class Bitget(Source):
    """See the module's docstring."""

    name = NAME
    hosts: Mapping[str, str] = {"api": "https://api.bitget.com"}
    #: published: 20 a second per address and path, for splits one; half of it for all paths together is plenty
    budgets: Mapping[str, Budget] = {"market": Budget(10, 1), "ratios": Budget(1, 1)}
    endpoints: Mapping[str, str] = {
        CONTRACTS: "instruments",
        OPEN_INTEREST: "open_interest",
        FUNDING: "funding",
        QUOTE: "funding",
        PRICE: "marks",
        CANDLES: "candles",
        ACCOUNTS: "long_short",
        POSITIONS: "long_short",
    }
    also: Mapping[str, tuple[str, ...]] = {QUOTE: ("funding_terms",)}
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        {"quote_asset": ("USDT",), "margin_asset": ("USDT",), "contract_type": ("perpetual",), "instrument_status": ("normal",)},
    )

    # -- what to ask

    def catalogue(self, now: datetime) -> Series:
        return Series(self.name, CONTRACTS, "", Window(now - HOUR, now))

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """Series up to `now`, from the contract's listing on; splits no further back than they are kept; snapshots in windows that end about now."""
        ours = [one for one in instruments if one.venue == self.name]
        for one in ours:
            whole = common.known_span(window, one, now)
            if whole is None:
                continue
            yield Series(self.name, FUNDING, one.instrument, whole)
            yield Series(self.name, CANDLES, one.instrument, whole, HOUR)
            for endpoint in RATIOS:
                kept = floor(now - conventions.span(self.name, endpoint, "history_depth", now) + SLACK, HOUR)
                if kept < whole.end:
                    yield Series(self.name, endpoint, one.instrument, Window(max(whole.start, kept), whole.end), HOUR)
        if window.start < now and now - window.end <= SNAPSHOT_REACH:
            for one in ours:
                for endpoint in SNAPSHOTS:
                    yield Series(self.name, endpoint, one.instrument, window)

    def asks(self, series: Series) -> Iterator[Ask]:
        product = ("productType", PRODUCT)
        symbol = (("symbol", series.instrument),)
        path = f"/api/v2/mix/market/{series.endpoint}"
        match series.endpoint:
            case "contracts":
                yield Ask(series, "api", path, (product,), "market")
            case "open-interest" | "current-fund-rate" | "symbol-price":
                yield Ask(series, "api", path, (*symbol, product), "market")
            case "history-fund-rate":
                yield Ask(series, "api", path, (*symbol, product, ("pageSize", str(FUNDING_ROWS)), ("pageNo", "1")), "market")
            case "account-long-short" | "position-long-short":
                yield Ask(series, "api", path, (*symbol, ("period", "1h")), "ratios")
            case "history-candles":
                for stamps in common.pages(series, CANDLES_ROWS):
                    first, last = common.labels_ms(series, stamps)
                    # all but a millisecond of the last bar: the next one stays out, however ends are counted
                    span = (("startTime", str(first)), ("endTime", str(last + HOUR // timedelta(milliseconds=1) - 1)))
                    yield Ask(series, "api", path, (*symbol, product, ("granularity", "1H"), *span, ("limit", str(CANDLES_ROWS))), "market")
            case unknown:
                raise ValueError(f"bitget has no endpoint {unknown!r}; it has {', '.join(self.endpoints)}")

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """The next page of settlements while this one is full and has not reached the window's start.

        No contract pays more than once an hour, so there are no more pages than hours between the window's start and now ask for.
        """
        if ask.series.endpoint != FUNDING:
            return None
        try:
            envelope, _ = shapes.ENVELOPE.one(answer.body, "funding")
            page = shapes.FUNDING.many(envelope.data, "funding", "$.data")
        except Unreadable:
            return None
        params = dict(ask.params)
        number, size = int(params["pageNo"]), int(params["pageSize"])
        raw, readable = micros([row.funding_time for row in page.rows], common.MILLI)
        if len(page.rows) + len(page.rejects) < size or not readable.any():
            return None
        start = ask.series.window.start
        most = (answer.fetched_at - start) // (HOUR * size) + 2
        if int(raw[readable].min()) <= to_us(start) or number >= most:
            return None
        return replace(ask, params=tuple((name, str(number + 1) if name == "pageNo" else value) for name, value in ask.params))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """The venue's own errors, whatever their status."""
        verdict = super().classify(ask, answer)
        if answer.status == 0 or verdict.reason_code in ("HTTP_BLOCKED", "HTTP_BANNED", "CONTENT_TYPE"):
            return verdict
        code, text = shapes.said(answer.body)
        if not code:
            return verdict
        detail = f"HTTP {answer.status} from {ask.target}: {text}"
        if verdict.verb == "retry" or code in PASSING:
            return Disposition("retry", "HTTP_EXHAUSTED", detail, verdict.wait)
        return Disposition("reject", "VENUE_ERROR", detail)

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        endpoint = ask.series.endpoint
        if endpoint not in DECODERS:
            raise ValueError(f"bitget has no endpoint {endpoint!r}; it has {', '.join(self.endpoints)}")
        target = self.endpoints[endpoint]
        envelope, notes = shapes.ENVELOPE.one(answer.body, target)
        if error := shapes.venue_error(answer.body):
            raise Unreadable(Reject(target, "VENUE_ERROR", error, answer.body[:2000].decode("utf-8", "replace")))
        try:
            decoded = DECODERS[endpoint](ask, answer, envelope)
        except LookupError as undeclared:
            raise Unreadable(Reject(target, "CONVENTION", str(undeclared), ask.target)) from undeclared
        return replace(decoded, notes=[*notes, *decoded.notes])


def _of_window(rows: list[R], stamps: Sequence[str], ask: Ask, shift: timedelta = timedelta(0)) -> list[R]:
    """Rows of the window asked for, and those whose stamp cannot be read. A jitter early or late does not put a row outside.

    `shift` leads from a stamp to the instant described.
    """
    raw, readable = micros(stamps, common.MILLI)
    as_of = common.whole_minutes(raw) + shift // common.MICROSECOND
    window = ask.series.window
    kept = ~readable | ((as_of > to_us(window.start)) & (as_of <= to_us(window.end)))
    return [row for row, keep in zip(rows, kept.tolist(), strict=True) if keep]


# -- histories


def funding(ask: Ask, _answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Settled rates. The rows do not say which interval they pay for: null, to be inferred from the settlements (PITFALLS C1)."""
    read = shapes.FUNDING.many(envelope.data, "funding", "$.data")
    rows = _of_window(read.rows, [row.funding_time for row in read.rows], ask)
    sieve = Sieve("funding", rows, read.rejects)
    common.asked_for(sieve, [row.symbol for row in rows], ask)
    raw, readable = micros([row.funding_time for row in rows], common.MILLI)
    sieve.refuse(~readable, "VALUE", lambda i: f"found stamp {rows[i].funding_time!r}, expected Unix milliseconds")
    as_of = common.settled(sieve, raw, ask)
    at = ask.series.window.start
    rate = sieve.texts("funding_rate", [row.funding_rate for row in rows], conventions.number(NAME, FUNDING, "rate_scale", at))
    sieve.single([as_of], [rate])
    table = sieve.table(
        {
            **common.who(ask, as_of, binance_asset(ask.series.instrument)[0]),
            "funding_rate": rate,
            "funding_kind": conventions.text(NAME, FUNDING, "funding_kind", at),
            "funding_interval_h": None,
        }
    )
    return Decoded({"funding": table}, sieve.rejects, read.notes)


def accounts(ask: Ask, _answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Shares of accounts that are long and short."""
    return _ratio(ask, envelope, shapes.ACCOUNTS, lambda row: (row.long_account_ratio, row.short_account_ratio, row.ts))


def positions(ask: Ask, _answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Shares of positions that are long and short."""
    return _ratio(ask, envelope, shapes.POSITIONS, lambda row: (row.long_position_ratio, row.short_position_ratio, row.ts))


def _ratio(ask: Ask, envelope: shapes.Envelope, shape: Shape[R], parts: Callable[[R], tuple[str, str, str]]) -> Decoded:
    endpoint, at = ask.series.endpoint, ask.series.window.start
    read = shape.many(envelope.data, "long_short", "$.data")
    rows = _of_window(read.rows, [parts(row)[2] for row in read.rows], ask, conventions.shift(NAME, endpoint, at))
    sieve = Sieve("long_short", rows, read.rejects)
    as_of = common.stamped(sieve, [parts(row)[2] for row in rows], ask)
    long = sieve.texts("long_share", [parts(row)[0] for row in rows])
    short = sieve.texts("short_share", [parts(row)[1] for row in rows])
    sieve.single([as_of], [long, short])
    table = sieve.table(
        {
            **common.who(ask, as_of, binance_asset(ask.series.instrument)[0]),
            "ratio_metric": conventions.text(NAME, endpoint, "ratio_metric", at),
            "long_share": long,
            "short_share": short,
        }
    )
    return Decoded({"long_short": table}, sieve.rejects, read.notes)


def candles(ask: Ask, _answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Bars at their END, prices per coin and amounts in coins. The venue says neither who took nor how many trades there were."""
    at = ask.series.window.start
    read = shapes.CANDLE.many(envelope.data, "candles", "$.data")
    rows = read.rows
    sieve = Sieve("candles", rows, read.rejects)
    as_of = common.stamped(sieve, [row.opened for row in rows], ask)
    _only_base(CANDLES, at)
    asset, multiplier = binance_asset(ask.series.instrument)
    prices = {
        f"{name}_usd": sieve.texts(f"{name}_usd", [getattr(row, name) for row in rows], 1 / multiplier)
        for name in ("open", "high", "low", "close")
    }
    volume = sieve.texts("volume_base", [row.volume for row in rows], multiplier)
    sieve.single([as_of], [*prices.values(), volume])
    table = sieve.table(
        {
            **common.who(ask, as_of, asset),
            "interval_h": conventions.span(NAME, CANDLES, "period", at) / HOUR,
            **prices,
            "volume_base": volume,
            "taker_buy_base": None,
            "trades": None,
        }
    )
    return Decoded({"candles": table}, sieve.rejects, read.notes)


def _only_base(endpoint: str, at: datetime) -> None:
    if (unit := conventions.text(NAME, endpoint, "native_unit", at)) != "base":
        raise LookupError(f"found unit {unit!r} of {endpoint}; this decoder reads base units only")


# -- snapshots: as_of is the venue's stamp, never later than the time we asked (PITFALLS A10)


def _taken(sieve: Sieve, stamps: Sequence[str], ask: Ask, answer: Answer) -> Stamps:
    raw, readable = micros(stamps, common.MILLI)
    sieve.refuse(~readable, "VALUE", lambda i: f"found stamp {stamps[i]!r}, expected Unix milliseconds")
    return common.fresh(sieve, np.minimum(raw, to_us(answer.fetched_at)), ask)


def open_interest(ask: Ask, answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Open interest now, in base units; the answer gives no value in USD."""
    said, notes = shapes.OPEN_INTEREST.one(bytes(envelope.data), "open_interest")
    rows = said.open_interest_list
    sieve = Sieve("open_interest", rows)
    common.asked_for(sieve, [row.symbol for row in rows], ask)
    as_of = _taken(sieve, [said.ts] * len(rows), ask, answer)
    native: Floats = sieve.texts("open_interest_native", [row.size for row in rows])
    sieve.single([as_of], [native])
    asset, multiplier = binance_asset(ask.series.instrument)
    sieve.rejects += common.unheard(ask, [row.symbol for row in rows], "open_interest")
    table = common.interest(sieve, ask, as_of, native, asset=asset, multiplier=multiplier, at=answer.fetched_at)
    return Decoded({"open_interest": table}, sieve.rejects, notes)


def price(ask: Ask, answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Mark and index price per coin."""
    read = shapes.PRICE.many(envelope.data, "marks", "$.data")
    rows = read.rows
    sieve = Sieve("marks", rows, read.rejects)
    common.asked_for(sieve, [row.symbol for row in rows], ask)
    as_of = _taken(sieve, [row.ts for row in rows], ask, answer)
    asset, multiplier = binance_asset(ask.series.instrument)
    mark = sieve.texts("mark_usd", [row.mark_price for row in rows], 1 / multiplier)
    index = sieve.texts("index_usd", [row.index_price for row in rows], 1 / multiplier)
    sieve.single([as_of], [mark, index])
    sieve.rejects += common.unheard(ask, [row.symbol for row in rows], "marks")
    who = common.who(ask, as_of, asset, answer.fetched_at)
    return Decoded({"marks": sieve.table({**who, "mark_usd": mark, "index_usd": index})}, sieve.rejects, read.notes)


def quote(ask: Ask, answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """The rate displayed for the running interval, a quote and no payment (PITFALLS C7); its interval, cap and floor."""
    read = shapes.QUOTE.many(envelope.data, "funding", "$.data")
    rows = read.rows
    quotes, terms = Sieve("funding", rows, read.rejects), Sieve("funding_terms", rows)
    as_of = np.full(len(rows), min(envelope.request_time * common.MILLI, to_us(answer.fetched_at)), dtype=np.int64)
    raw, readable = micros([row.next_update for row in rows], common.MILLI)
    for sieve in (quotes, terms):
        common.fresh(sieve, as_of, ask)
        common.asked_for(sieve, [row.symbol for row in rows], ask)
        hours = sieve.texts("funding_interval_h", [row.funding_rate_interval for row in rows])
        over: Mask = ~readable | (raw <= as_of)
        sieve.refuse(over, "CONVENTION", lambda i: f"nextUpdate {rows[i].next_update!r} is not after {stamp(as_of[i])}")
    scale = conventions.number(NAME, QUOTE, "rate_scale", answer.fetched_at)
    rate = quotes.texts("funding_rate", [row.funding_rate for row in rows], scale)
    cap = terms.texts("funding_cap_rate", [row.max_funding_rate for row in rows], scale)
    lowest = terms.texts("funding_floor_rate", [row.min_funding_rate for row in rows], scale)
    quotes.single([as_of], [rate, hours])
    terms.single([as_of], [hours, cap, lowest])
    quotes.rejects += common.unheard(ask, [row.symbol for row in rows], "funding")
    who = common.who(ask, as_of, binance_asset(ask.series.instrument)[0], answer.fetched_at)
    kind = conventions.text(NAME, QUOTE, "funding_kind", answer.fetched_at)
    tables = {
        "funding": quotes.table({**who, "funding_rate": rate, "funding_kind": kind, "funding_interval_h": hours}),
        "funding_terms": terms.table({**who, "funding_interval_h": hours, "funding_cap_rate": cap, "funding_floor_rate": lowest}),
    }
    return Decoded(tables, [*quotes.rejects, *terms.rejects], read.notes)


def contracts(ask: Ask, answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Every contract of the product, whatever its status. One that is announced to go has its end (`offTime`) in `delivery_at`."""
    read = shapes.CONTRACT.many(envelope.data, "instruments", "$.data")
    rows = read.rows
    sieve = Sieve("instruments", rows, read.rejects)
    assets, multipliers = common.named(sieve, [row.base_coin for row in rows], coin)
    symbols = [row.symbol for row in rows]
    other = [row.symbol != row.base_coin + row.quote_coin for row in rows]  # histories know a contract by its symbol alone
    sieve.refuse(
        np.array(other, dtype=np.bool_),
        "CONVENTION",
        lambda i: f"{symbols[i]} is listed as {rows[i].base_coin} against {rows[i].quote_coin}",
    )
    as_of = np.full(len(rows), min(envelope.request_time * common.MILLI, to_us(answer.fetched_at)), dtype=np.int64)
    common.fresh(sieve, as_of, ask)
    hours = sieve.texts("funding_interval_h", [row.fund_interval for row in rows])
    listed = _instant(sieve, "launchTime", [row.launch_time for row in rows])
    ends = _instant(sieve, "offTime or deliveryTime", [row.off_time if row.off_time not in NEVER else row.delivery_time for row in rows])
    words = {
        "base_asset": [row.base_coin for row in rows],
        "quote_asset": [row.quote_coin for row in rows],
        "margin_asset": [",".join(row.support_margin_coins) for row in rows],
        "contract_type": [row.symbol_type for row in rows],
        "instrument_status": [row.symbol_status for row in rows],
    }
    told = {name: np.array(column, dtype=object) for name, column in words.items()}
    sieve.single([np.array(symbols, dtype=object)], [*told.values(), hours, listed.values, ends.values])
    columns: Mapping[str, Any] = {
        **common.whose(ask, answer, symbols, assets, as_of),
        **told,
        "base_multiplier": multipliers,
        "payoff": "linear",
        "contract_size": 1.0,
        "contract_unit": "base",
        "funding_interval_h": hours,
        "listed_at": listed,
        "delivery_at": ends,
    }
    return Decoded({"instruments": sieve.table(columns)}, sieve.rejects, read.notes)


#: what stands for no instant
NEVER: Final = frozenset({"", "-1", "0"})


def _instant(sieve: Sieve, name: str, texts: Sequence[str]) -> Nullable:
    """A column of instants, null where the venue gives none."""
    given = np.array([text not in NEVER for text in texts], dtype=np.bool_)
    raw, readable = micros([text if text not in NEVER else "0" for text in texts], common.MILLI)
    sieve.refuse(given & ~readable, "VALUE", lambda i: f"found {name} {texts[i]!r}, expected Unix milliseconds, -1 or nothing")
    return Nullable(instants(raw), given)


DECODERS: Final[Mapping[str, Callable[[Ask, Answer, shapes.Envelope], Decoded]]] = {
    CONTRACTS: contracts,
    OPEN_INTEREST: open_interest,
    FUNDING: funding,
    QUOTE: quote,
    PRICE: price,
    CANDLES: candles,
    ACCOUNTS: accounts,
    POSITIONS: positions,
}

SOURCE: Final = Bitget()

"""Deribit: option chains as they stand, the history of its volatility index DVOL, and its perpetuals (deribit_futures.py).

A chain is served for now only and nobody publishes its past, so an hour nobody asked in has none. All rows of one answer are of one
instant, the one at which the venue sent it (`usOut`); the rows' own stamps lie some milliseconds before. Which option a row speaks of is
read from its name, `BTC-26JUN26-80000-C`: coin, expiry, strike, kind. A name in any other form is put aside, never guessed.

`index_usd` is the field estimated_delivery_price: the venue's index, but for options in the last half hour before their expiry, where it
is the running average that they will be settled at. `underlying_usd` is the forward of the option's own expiry.

BTC and ETH are asked for: their chains are settled in coins. `USDC` would list the linear options of all coins, and would be read as well.

Documents: https://docs.deribit.com/ ; limits: https://support.deribit.com/hc/en-us/articles/25944617523357-Rate-Limits
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from transforms import conventions
from transforms.reading import Sieve, Stamps, instants, stamp, to_us
from transforms.sources import deribit_futures as futures
from transforms.sources import deribit_shapes as shapes
from transforms.sources import rows as common
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Disposition, Instrument, Reject, Series, Source, Unreadable
from transforms.windows import HOUR, Window, to_ms

SOURCE_NAME: Final = "deribit"
CHAIN: Final = "get_book_summary_by_currency"
DVOL: Final = "get_volatility_index_data"
#: asked for, by currency of settlement; DVOL exists for these two
CURRENCIES: Final = ("BTC", "ETH")
DVOL_SUFFIX: Final = "-DVOL"
DVOL_ROWS: Final = 1000
#: a snapshot describes now; it is asked for only in windows that end about now
SNAPSHOT_REACH: Final = timedelta(hours=2)
#: rows of one answer carry stamps of their own: recorded ones lie within 10 ms. An older one is no part of this snapshot
SNAPSHOT_WIDTH: Final = timedelta(minutes=1)
MICROSECOND: Final = timedelta(microseconds=1)
MILLI: Final = 1000  # microseconds

#: what follows the coin in a name -> what the pay-out is made in
SETTLEMENTS: Final[Mapping[str, str]] = {"": "coin", "USDC": "usd"}
OPTION_TYPES: Final[Mapping[str, str]] = {"C": "call", "P": "put"}
MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_NAME: Final = re.compile(r"([A-Z0-9]+)(?:_([A-Z]+))?-([1-9][0-9]?)([A-Z]{3})([0-9]{2})-([0-9]+(?:d[0-9]+)?)-([CP])", re.ASCII)

#: errors that pass by themselves: out of credits, retry, settlement in progress, queue full, too many at once, maintenance, internal error,
#: unavailable, timed out (Deribit document, "RPC Error Codes")
PASSING: Final = frozenset({10028, 10040, 10041, 10047, 10066, 11051, 11094, 13028, 13888})
#: seconds the whole host is left alone when we were too fast; credits for 20 requests flow in meanwhile
TOO_FAST: Final[Mapping[int, float]] = {10028: 1.0, 10066: 1.0}


class Option(NamedTuple):
    """What an option's name says. `settled_in` is the currency under which the venue lists it."""

    asset: str
    settled_in: str
    settlement: str
    expires_on: datetime
    strike_usd: float
    option_type: str


@lru_cache(maxsize=8192)
def option(name: str) -> Option:
    """The option of that name; a name of another form, or with an undeclared settlement, raises LookupError.

    >>> option("BTC-30APR26-77500-P")[:3], option("XRP_USDC-3MAY26-0d55-C")[:3]
    (('BTC', 'BTC', 'coin'), ('XRP', 'USDC', 'usd'))
    >>> option("XRP_USDC-3MAY26-0d55-C").strike_usd
    0.55
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise LookupError(f"found instrument name {name!r}; an option is spelled COIN[_USDC]-DMMMYY-STRIKE-C or -P")
    asset, quote, day, month, year, strike, kind = found.groups(default="")
    if quote not in SETTLEMENTS:
        raise LookupError(f"found instrument name {name!r}; options in {quote} are not declared (transforms/sources/deribit.py)")
    try:
        expires_on = datetime(2000 + int(year), MONTHS.index(month) + 1, int(day), tzinfo=UTC)
    except ValueError as error:
        raise LookupError(f"found instrument name {name!r}; {day}{month}{year} is no date") from error
    return Option(asset, quote or asset, SETTLEMENTS[quote], expires_on, float(strike.replace("d", ".")), OPTION_TYPES[kind])


class Deribit(Source):
    """See the module's docstring."""

    name = SOURCE_NAME
    hosts: Mapping[str, str] = {"api": "https://www.deribit.com/api/v2"}
    #: the venue lets 20 requests a second through (500 of 10,000 credits each) and cuts off who spends more; a quarter of it is plenty
    #: a listing changes slowly, and the venue counts get_instruments dearer than others: how much was not read, so it is asked gently
    budgets: Mapping[str, Budget] = {"default": Budget(5, 1), "instruments": Budget(4, 40)}
    endpoints: Mapping[str, str] = {CHAIN: "option_chain", DVOL: "volatility_index", **futures.TABLES}
    also: Mapping[str, tuple[str, ...]] = {futures.FUTURES: ("marks",)}
    listing: Sequence[Mapping[str, tuple[str, ...]]] = (
        {"payoff": ("inverse",), "contract_type": (futures.PERPETUAL,), "instrument_status": ("open",)},
    )

    # -- what to ask

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        """DVOL of the window, hours that are over by `now`; chains when the window ends within two hours of `now`: their rows lie there."""
        if window.start >= now:
            return
        start = max(window.start, conventions.instant(self.name, DVOL, "history_since", now))
        end = min(window.end, now)
        if start < end and Window(start, end).grid(HOUR):
            for currency in CURRENCIES:
                yield Series(self.name, DVOL, f"{currency}{DVOL_SUFFIX}", Window(start, end), HOUR)
        yield from futures.plan(window, now)
        if now - window.end <= SNAPSHOT_REACH:
            yield from futures.plan_now(window)
            for currency in CURRENCIES:
                yield Series(self.name, CHAIN, currency, window)

    def asks(self, series: Series) -> Iterator[Ask]:
        if series.endpoint == CHAIN:
            yield Ask(series, "api", f"/public/{CHAIN}", (("currency", series.instrument), ("kind", "option")))
            return
        if series.endpoint in futures.TABLES:
            yield from futures.asks(series)
            return
        if series.endpoint != DVOL:
            raise ValueError(f"deribit has no endpoint {series.endpoint!r}; it has {', '.join(self.endpoints)}")
        if series.step is None:
            raise ValueError(f"{DVOL} has no grid to cut pages from")
        shift = conventions.shift(self.name, DVOL, series.window.start)
        for piece in series.window.split(series.step * DVOL_ROWS):
            if not (stamps := piece.grid(series.step)):
                continue
            # the last bar's label plus all but a millisecond of its length: the bar that still runs stays out, however ends are counted
            params = (
                ("currency", _currency(series)),
                ("start_timestamp", str(to_ms(stamps[0] - shift))),
                ("end_timestamp", str(to_ms(stamps[-1] - shift + series.step) - 1)),
                ("resolution", str(int(series.step.total_seconds()))),
            )
            yield Ask(series, "api", f"/public/{DVOL}", params)

    def follow(self, ask: Ask, answer: Answer) -> Ask | None:
        """Pages are cut to what the venue serves at once; should it serve less, it says from where to go on, backwards in time."""
        if ask.series.endpoint == futures.TAPE:
            return futures.follow(ask, answer)
        if ask.series.endpoint != DVOL:
            return None
        try:
            envelope, _ = shapes.ENVELOPE.one(answer.body, "volatility_index")
            page, _ = shapes.PAGE.one(bytes(envelope.result), "volatility_index")
        except Unreadable:
            return None
        params = dict(ask.params)
        end = page.continuation
        if end is None or not int(params["start_timestamp"]) <= end < int(params["end_timestamp"]):
            return None
        return replace(ask, params=tuple((name, str(end) if name == "end_timestamp" else value) for name, value in ask.params))

    def classify(self, ask: Ask, answer: Answer) -> Disposition:
        """The venue's own errors, whatever their status; and nothing from its test network, whose prices are play."""
        verdict = super().classify(ask, answer)
        if answer.status == 0 or verdict.reason_code in ("HTTP_BLOCKED", "HTTP_BANNED", "CONTENT_TYPE"):
            return verdict
        found = shapes.head(answer.body)
        if found.error is not None:
            detail = f"HTTP {answer.status} from {ask.target}: {shapes.said(found.error)}"
            if found.error.code in PASSING:
                wait = TOO_FAST.get(found.error.code) if verdict.wait is None else verdict.wait
                return Disposition("retry", "HTTP_EXHAUSTED", detail, wait)
            return verdict if verdict.verb == "retry" else Disposition("reject", "VENUE_ERROR", detail)
        if verdict.verb == "accept" and found.testnet:
            return Disposition("reject", "CONVENTION", f"{ask.host}{ask.path} answers for the venue's test network, expected the real one")
        return verdict

    # -- how to read the answer

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        endpoint = ask.series.endpoint
        if endpoint not in DECODERS:
            raise ValueError(f"deribit has no endpoint {endpoint!r}; it has {', '.join(self.endpoints)}")
        target = self.endpoints[endpoint]
        envelope, notes = shapes.ENVELOPE.one(answer.body, target)
        if envelope.testnet:
            start = answer.body[:2000].decode("utf-8", "replace")
            raise Unreadable(Reject(target, "CONVENTION", "the answer is of the venue's test network, expected the real one", start))
        try:
            decoded = DECODERS[endpoint](ask, answer, envelope)
        except LookupError as undeclared:
            raise Unreadable(Reject(target, "CONVENTION", str(undeclared), ask.target)) from undeclared
        return replace(decoded, notes=[*notes, *decoded.notes])


def _currency(series: Series) -> str:
    currency = series.instrument.removesuffix(DVOL_SUFFIX)
    if currency == series.instrument or currency not in CURRENCIES:
        raise ValueError(
            f"found {series.instrument!r}; the volatility indices are {', '.join(f'{one}{DVOL_SUFFIX}' for one in CURRENCIES)}"
        )
    return currency


def _who(endpoint: str, at: datetime, instrument: Any, asset: Any, as_of: Stamps) -> dict[str, Any]:
    """The columns that say who and when."""
    lag = conventions.span(SOURCE_NAME, endpoint, "lag", at)
    return {
        "source": SOURCE_NAME,
        "venue": SOURCE_NAME,
        "instrument": instrument,
        "asset": asset,
        "as_of": instants(as_of),
        "known_at": instants(as_of + lag // MICROSECOND),
    }


def chain(ask: Ask, answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """Every listed option of one currency, at the instant the venue sent the answer, never later than we asked (PITFALLS A10)."""
    at = answer.fetched_at
    read = shapes.SUMMARY.many(bytes(envelope.result), "option_chain", "$.result")
    rows = read.rows
    sieve = Sieve("option_chain", rows, read.rejects)
    found = [_or_nothing(row.instrument_name) for row in rows]
    said = [one if isinstance(one, str) else "" for one in found]
    sieve.refuse(np.array([bool(text) for text in said], dtype=np.bool_), "CONVENTION", lambda i: said[i])
    known = [None if isinstance(one, str) else one for one in found]
    other = [
        one is not None and (one.settled_in != ask.series.instrument or one.asset != row.base_currency)
        for one, row in zip(known, rows, strict=True)
    ]
    sieve.refuse(
        np.array(other, dtype=np.bool_),
        "CONVENTION",
        lambda i: f"found {rows[i].instrument_name} of {rows[i].base_currency}, asked for options in {ask.series.instrument}",
    )
    sent = envelope.us_out
    own = np.array([row.creation_timestamp for row in rows], dtype=np.int64) * MILLI
    sieve.refuse(
        np.abs(own - sent) > SNAPSHOT_WIDTH // MICROSECOND,
        "STAMP",
        lambda i: f"a row of {stamp(own[i])} in an answer of {stamp(sent)}, more than {SNAPSHOT_WIDTH} apart",
    )
    as_of = common.fresh(sieve, np.full(len(rows), min(sent, to_us(at)), dtype=np.int64), ask)
    hour = conventions.span(SOURCE_NAME, CHAIN, "expiry_time", at)
    expiry = np.array([0 if one is None else to_us(one.expires_on + hour) for one in known], dtype=np.int64)
    sieve.refuse(
        expiry <= as_of, "STAMP", lambda i: f"{rows[i].instrument_name} expired at {stamp(expiry[i])}, listed at {stamp(as_of[i])}"
    )
    if (unit := conventions.text(SOURCE_NAME, CHAIN, "native_unit", at)) != "base":
        raise LookupError(f"found unit {unit!r} of {CHAIN}; this decoder reads coins only")
    percent = conventions.number(SOURCE_NAME, CHAIN, "volatility_scale", at)
    columns = {
        "strike_usd": sieve.limits("strike_usd", _column(1.0 if one is None else one.strike_usd for one in known)),
        "open_interest_base": sieve.limits("open_interest_base", _column(row.open_interest for row in rows)),
        "volume_24h_base": sieve.limits("volume_24h_base", _column(row.volume for row in rows)),
        "mark_iv": sieve.limits("mark_iv", _column(row.mark_iv for row in rows), percent),
        "underlying_usd": sieve.limits("underlying_usd", _column(row.underlying_price for row in rows)),
        "index_usd": sieve.limits("index_usd", _column(row.estimated_delivery_price for row in rows)),
    }
    names = np.array([row.instrument_name for row in rows], dtype=object)
    sieve.single([names], list(columns.values()))
    assets, words, kinds = (_words(known, field) for field in ("asset", "settlement", "option_type"))
    table = sieve.table(
        {
            **_who(CHAIN, at, names, assets, as_of),
            **columns,
            "expiry_at": instants(expiry),
            "option_type": kinds,
            "settlement": words,
        }
    )
    if not rows and not read.rejects:  # a currency that is asked for always has options: these are lost, not none
        sieve.rejects.append(Reject("option_chain", "MISSING", f"an empty chain of {ask.series.instrument}", ask.target))
    return Decoded({"option_chain": table}, sieve.rejects, read.notes)


def _or_nothing(name: str) -> Option | str:
    """The option, or what is wrong with its name."""
    try:
        return option(name)
    except LookupError as error:
        return str(error)


def _column(values: Iterator[float]) -> Any:
    return np.array(list(values), dtype=np.float64)


def _words(known: Sequence[Option | None], field: str) -> Any:
    return np.array(["" if one is None else getattr(one, field) for one in known], dtype=object)


def volatility(ask: Ask, _answer: Answer, envelope: shapes.Envelope) -> Decoded:
    """DVOL at the end of each bar, its close. A bar outside the window asked for, e.g. one that still runs, is put aside."""
    series, at = ask.series, ask.series.window.start
    page, notes = shapes.PAGE.one(bytes(envelope.result), "volatility_index")
    read = shapes.BAR.many(page.data, "volatility_index", "$.result.data")
    rows = read.rows
    sieve = Sieve("volatility_index", rows, read.rejects)
    shift = conventions.shift(SOURCE_NAME, DVOL, at)
    as_of = np.array([row.timestamp for row in rows], dtype=np.int64) * MILLI + shift // MICROSECOND
    sieve.inside(as_of, series.window, series.step)
    percent = conventions.number(SOURCE_NAME, DVOL, "volatility_scale", at)
    level = sieve.limits("implied_volatility", _column(row.close for row in rows), percent)
    outside = np.array([not row.low <= row.close <= row.high for row in rows], dtype=np.bool_)
    sieve.refuse(outside, "VALUE", lambda i: f"close {rows[i].close} is not between low {rows[i].low} and high {rows[i].high} of its bar")
    sieve.single([as_of], [level])
    table = sieve.table(
        {
            **_who(DVOL, at, series.instrument, _currency(series), as_of),
            "interval_h": conventions.span(SOURCE_NAME, DVOL, "period", at) / HOUR,
            "implied_volatility": level,
        }
    )
    return Decoded({"volatility_index": table}, sieve.rejects, [*notes, *read.notes])


DECODERS: Final[Mapping[str, Callable[[Ask, Answer, shapes.Envelope], Decoded]]] = {
    CHAIN: chain,
    DVOL: volatility,
    **futures.DECODERS,
}
SOURCE: Final = Deribit()

"""What the decoders of several venues do alike: who and when, stamps on their grid, amounts in their unit, names that are known.

Everything is checked on the way and put aside with a reason (transforms/reading.py); what a number means is asked of conventions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from transforms import conventions
from transforms.reading import Floats, Nullable, Read, Shape, Sieve, Stamps, floats, instants, micros, stamp, to_us
from transforms.sources.contract import Answer, Ask, Instrument, Reject, Series, Unreadable
from transforms.windows import Window, to_ms

#: settlements are stamped some milliseconds late: fundingTime 1602806400002 is 2020-10-16T00:00:00Z
JITTER: Final = timedelta(seconds=1)
MICROSECOND: Final = timedelta(microseconds=1)
MILLI: Final = 1000  # microseconds
SECOND: Final = 1_000_000  # microseconds
MINUTE_US: Final = 60_000_000
#: how far a share may lie from the ratio beside it: recorded ones differ by 5e-5, the rounding of four digits
RATIO_ROUNDING: Final = 1e-3
#: how far, relatively, worth over amount may lie outside a bar's extremes: far above rounding, far below another unit
VOLUME_ROUNDING: Final = 0.1
R = TypeVar("R", bound=msgspec.Struct)


# -- what to ask


def known_span(window: Window, one: Instrument, now: datetime) -> Window | None:
    """The part of the window that lies between the contract's listing and now."""
    start, end = max(window.start, one.listed_at or window.start), min(window.end, now)
    return Window(start, end) if start < end else None


def cut(asked: Iterable[Series], snapshots: Collection[str]) -> Iterator[Series]:
    """Series cut where a convention of their endpoint changes. A snapshot is of the window's end: it is asked for once, in the last part."""
    for one in asked:
        parts = conventions.readings(one.source, one.endpoint, one.window)
        for part in parts[-1:] if one.endpoint in snapshots else parts:
            yield replace(one, window=part)


def one_reading(ask: Ask, target: str) -> Ask:
    """The ask, where no convention changes inside its window. Else Unreadable (CONVENTION): rows of a part would be read as those of another."""
    series = ask.series
    if len(parts := conventions.readings(series.source, series.endpoint, series.window)) > 1:
        said = f"{series.endpoint} of {series.window} was asked across a change of its conventions at {parts[1].start:%Y-%m-%dT%H:%MZ}: ask again"
        raise Unreadable(Reject(target, "CONVENTION", said, ask.question))
    return ask


def pages(series: Series, limit: int) -> Iterator[list[datetime]]:
    """The expected stamps in pages of at most `limit`."""
    if series.step is None:
        raise ValueError(f"{series.endpoint} has no grid to cut pages from")
    for piece in series.window.split(series.step * limit):
        if stamps := piece.grid(series.step):
            yield stamps


def labels_ms(series: Series, stamps: Sequence[datetime]) -> tuple[int, int]:
    """First and last stamp of a page (both inclusive) in the venue's labels, Unix milliseconds."""
    shift = conventions.shift(series.source, series.endpoint, series.window.start)
    return to_ms(stamps[0] - shift), to_ms(stamps[-1] - shift)


# -- who and when


def who(ask: Ask, as_of: Stamps, asset: str, at: datetime | None = None) -> dict[str, Any]:
    """The columns that say who and when, for the one instrument asked for; source and venue are the same.

    `at`: when the rows' conventions are looked up; of a snapshot when we asked, of a history (None) the start of its window.
    """
    series = ask.series
    lag = conventions.span(series.source, series.endpoint, "lag", at or series.window.start)
    return {
        "source": series.source,
        "venue": series.source,
        "instrument": series.instrument,
        "asset": asset,
        "as_of": instants(as_of),
        "known_at": instants(as_of + lag // MICROSECOND),
    }


def whose(ask: Ask, answer: Answer, symbols: Sequence[str], assets: Any, as_of: Stamps) -> dict[str, Any]:
    """The columns that say who and when, for several instruments of one snapshot."""
    source = ask.series.source
    lag = conventions.span(source, ask.series.endpoint, "lag", answer.fetched_at)
    return {
        "source": source,
        "venue": source,
        "instrument": np.array(symbols, dtype=object),
        "asset": assets,
        "as_of": instants(as_of),
        "known_at": instants(as_of + lag // MICROSECOND),
    }


def asked_for(sieve: Sieve, symbols: Sequence[str], ask: Ask) -> None:
    """Rows must speak of an instrument that was asked for (CONVENTION)."""
    wanted = ask.series.instruments
    if wanted and not (len(wanted) == 1 and symbols.count(wanted[0]) == len(symbols)):
        strange = np.array([symbol not in wanted for symbol in symbols], dtype=np.bool_)
        sieve.refuse(strange, "CONVENTION", lambda i: f"found symbol {symbols[i]!r}, asked for {ask.series.instrument}")


def unheard(ask: Ask, symbols: Sequence[str], target: str) -> list[Reject]:
    """A state that was asked for and did not come is missed by name (MISSING): no grid of stamps would tell."""
    detail = "was asked for and is not in the answer, or cannot be read"
    return [Reject(target, "MISSING", f"{name} {detail}", name) for name in ask.series.instruments if name not in symbols]


def or_none(name: Callable[[str], tuple[str, float]], text: str) -> tuple[str, float] | None:
    """Asset and multiplier of a spelling, None where it is not a declared one."""
    try:
        return name(text)
    except LookupError:
        return None


def named(sieve: Sieve, symbols: Sequence[str], name: Callable[[str], tuple[str, float]]) -> tuple[Any, Any]:
    """Asset and multiplier of each symbol by the venue's spelling `name`; a symbol outside of it is put aside (CONVENTION)."""
    found = [or_none(name, symbol) for symbol in symbols]
    unknown = np.array([one is None for one in found], dtype=np.bool_)
    sieve.refuse(unknown, "CONVENTION", lambda i: f"symbol {symbols[i]!r} is outside the declared spelling (transforms/instruments.py)")
    assets = np.array([one[0] if one else "" for one in found], dtype=object)
    return assets, np.array([one[1] if one else 1.0 for one in found], dtype=np.float64)


# -- stamps


def stamped(sieve: Sieve, stamps: Sequence[int | str], ask: Ask, unit: int = MILLI) -> Stamps:
    """END instants (microseconds) of labelled rows, checked against window and grid. `unit`: microseconds per unit of the stamps."""
    raw, readable = micros(stamps, unit)
    sieve.refuse(~readable, "VALUE", lambda i: f"found stamp {stamps[i]!r}, expected Unix {'milliseconds' if unit == MILLI else 'seconds'}")
    shift = conventions.shift(ask.series.source, ask.series.endpoint, ask.series.window.start)
    as_of = raw + shift // MICROSECOND
    sieve.inside(as_of, ask.series.window, ask.series.step)
    return as_of


def whole_minutes(stamps: Stamps) -> Stamps:
    """The nearest whole minute, microseconds."""
    return np.asarray((stamps + MINUTE_US // 2) // MINUTE_US * MINUTE_US, dtype=np.int64)


def settled(sieve: Sieve, stamps: Stamps, ask: Ask) -> Stamps:
    """Settlement instants: the whole minute within a second of each stamp (microseconds), inside the window."""
    as_of = whole_minutes(stamps)
    far = np.abs(stamps - as_of) > JITTER // MICROSECOND
    sieve.refuse(far, "STAMP", lambda i: f"settlement at {stamp(stamps[i])} is more than {JITTER} from a whole minute")
    sieve.inside(as_of, ask.series.window, None)
    return as_of


def taken(sieve: Sieve, stamps: Sequence[int], ask: Ask, answer: Answer) -> Stamps:
    """When a snapshot was taken: min(venue stamp in milliseconds, fetched_at), microseconds (PITFALLS A10); see `fresh`."""
    return fresh(sieve, np.minimum(np.array(stamps, dtype=np.int64) * MILLI, to_us(answer.fetched_at)), ask)


def fresh(sieve: Sieve, as_of: Stamps, ask: Ask) -> Stamps:
    """`as_of` of a snapshot, checked: what speaks of now does not lie before the window it was asked for (STAMP).

    An older one comes from a cache or from a clock that is wrong: it would put today's state into the past, and say it was known there.
    """
    window = ask.series.window
    old = as_of <= to_us(window.start)
    sieve.refuse(old, "STAMP", lambda i: f"a state of {stamp(as_of[i])} in answer to a question about the end of {window}")
    return as_of


# -- values


def interest(
    sieve: Sieve,
    ask: Ask,
    as_of: Stamps,
    native: Floats,
    *,
    asset: str,
    multiplier: float = 1.0,
    size: Floats | float = 1.0,
    usd: Nullable | None = None,
    at: datetime | None = None,
) -> pa.Table:
    """Rows of open_interest of one instrument; exactly zero on a trading contract is put aside (PITFALLS A11).

    `native`: as the venue states it, in the declared native_unit. `multiplier`: coins per base unit. `size`: base units per contract,
    for contracts. `usd`: the venue's own value, counted as `native` is (both are divided by the declared sides). Contracts counted in
    USD have no amount in coins here: nobody but the venue knows the price it would divide by. `at`: as in `who`.
    """
    series, when = ask.series, at or ask.series.window.start
    sieve.refuse(native == 0.0, "ZERO_OPEN_INTEREST", lambda i: f"open interest of exactly 0 at {stamp(as_of[i])}")
    unit = conventions.text(series.source, series.endpoint, "native_unit", when)
    sides = conventions.number(series.source, series.endpoint, "oi_sides", when)
    every = np.ones(len(native), dtype=np.bool_)
    if unit == "usd":
        coins, worth = Nullable(native, ~every), Nullable(native / sides, every)
    elif unit in ("base", "contracts"):
        with np.errstate(invalid="ignore"):  # what is not finite is refused already
            coins = Nullable(native * (size if unit == "contracts" else 1.0) * multiplier / sides, every)
        worth = Nullable(native, ~every) if usd is None else Nullable(usd.values / sides, usd.valid)
        sieve.refuse(worth.valid & (worth.values == 0.0), "ZERO_OPEN_INTEREST", lambda i: f"a value of exactly 0 USD at {stamp(as_of[i])}")
    else:
        raise LookupError(f"found unit {unit!r} of {series.source} {series.endpoint}; known are base, contracts, usd")
    return sieve.table(
        {
            **who(ask, as_of, asset, at),
            "open_interest_native": native,
            "native_unit": unit,
            "oi_sides": int(sides),
            "open_interest_base": coins,
            "open_interest_usd": worth,
        }
    )


def counted_in(ask: Ask, unit: str) -> None:
    """The endpoint's amounts must be declared in the unit that its decoder reads; another one raises LookupError."""
    series = ask.series
    if (found := conventions.text(series.source, series.endpoint, "native_unit", series.window.start)) != unit:
        raise LookupError(f"found unit {found!r} of {series.source} {series.endpoint}; this decoder reads {unit} only")


def within(sieve: Sieve, high: Sequence[str], low: Sequence[str], close: Sequence[str]) -> None:
    """Where only the close of a bar is kept, its place between the extremes is checked here (VALUE)."""
    last = floats(close)
    strange = ~((floats(low) <= last) & (last <= floats(high)))
    sieve.refuse(strange, "VALUE", lambda i: f"close {close[i]!r} is not between low {low[i]!r} and high {high[i]!r} of its bar")


def agrees(sieve: Sieve, long: Floats, short: Floats, ratios: Sequence[str]) -> None:
    """Long over short, as the venue states it beside the two, is their ratio: else they are exchanged, or something else (CONVENTION)."""
    said = floats(ratios)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(long / (long + short) - said / (1.0 + said)) > RATIO_ROUNDING
    sieve.refuse(apart, "CONVENTION", lambda i: f"{long[i]:g} over {short[i]:g} is not the ratio stated beside them, {ratios[i]!r}")


def priced(sieve: Sieve, worth: Sequence[str | None], amount: Sequence[str], high: Sequence[str], low: Sequence[str]) -> None:
    """What was paid for a bar's amount is a price within the bar: else the amount is counted in another unit (CONVENTION, PITFALLS A4).

    All as the venue states them. Where it states no worth, or 0, there is nothing to compare.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        price = floats([text or "" for text in worth]) / floats(amount)
        apart = (price > 0.0) & ((price < floats(low) * (1 - VOLUME_ROUNDING)) | (price > floats(high) * (1 + VOLUME_ROUNDING)))
    sieve.refuse(
        apart, "CONVENTION", lambda i: f"{worth[i]} paid for {amount[i]} is {price[i]:g} each, outside the bar's {low[i]} to {high[i]}"
    )


def optional(sieve: Sieve, name: str, texts: Sequence[str | None], scale: float = 1.0) -> Nullable:
    """A numeric column that a row may leave null."""
    valid = np.array([text is not None for text in texts], dtype=np.bool_)
    values = sieve.limits(name, floats([text or "" for text in texts]), scale, valid=valid)
    return Nullable(values, valid)


def several(shape: Shape[R], body: bytes, target: str) -> Read[R]:
    """One object, or a list of them."""
    if body.lstrip()[:1] == b"[":
        return shape.many(body, target)
    row, notes = shape.one(body, target)
    return Read([row], notes=notes)

"""Shapes of Kraken Futures' answers, named as in the venue's documents, and its errors (helper of the source in kraken_futures.py).

Three families of answers: `{"result": "success", ...}` of the trading API, candles, and analytics, whose columns lie side by side:
`{"result": {"timestamp": [...], "data": [...] or {"name": [...]}, "more": false}, "errors": []}`. The columns become rows before they are
read, so that what is wrong with one bucket puts aside that bucket alone. Names of columns are spelled in camel case in the document and
partly with underscores in answers: both are read.

https://docs.kraken.com/api/docs/futures-api/charts/market-analytics , https://docs.kraken.com/api/docs/futures-api/trading/get-instruments
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from transforms.reading import Floats, Millis, Seconds, Shape, floats
from transforms.sources.contract import Reject, Unreadable

#: a number, or a text that holds one
Figure = float | str
#: an instant in ISO 8601 with its offset
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_ABSENT: Final = msgspec.Raw(b"null")
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Row(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A row as the venue's document names its fields."""


# -- envelopes


class Instruments(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    result: Literal["success"]
    instruments: msgspec.Raw
    server_time: Moment | None = None


class Tickers(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    result: Literal["success"]
    tickers: msgspec.Raw
    server_time: Moment


class Rates(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    result: Literal["success"]
    rates: msgspec.Raw
    server_time: msgspec.Raw = _ABSENT


class Candles(msgspec.Struct, forbid_unknown_fields=True):
    """`more_candles`: the range holds more after the last one."""

    candles: msgspec.Raw
    more_candles: bool


class Analytics(msgspec.Struct, forbid_unknown_fields=True):
    result: msgspec.Raw
    errors: list[msgspec.Raw]


class Page(msgspec.Struct, forbid_unknown_fields=True):
    """`more`: the range holds more buckets after the last one."""

    timestamp: list[msgspec.Raw]
    data: msgspec.Raw
    more: bool = False


# -- rows


class Instrument(msgspec.Struct, rename="camel", gc=False):
    """Part of a listing: the document promises nothing about further fields, so they are not noted. Indices are listed too."""

    symbol: str
    type: str
    tradeable: bool
    contract_size: float | None = None
    base: str | None = None
    quote: str | None = None
    opening_date: Moment | None = None
    last_trading_time: Moment | None = None


class Ticker(_Row, rename="camel"):
    """State of a contract, or of an index, which has few of the fields. `funding_rate` is absolute and not read (PITFALLS C6)."""

    symbol: str
    open_interest: Figure | None = None
    mark_price: Figure | None = None
    index_price: Figure | None = None
    ask: msgspec.Raw = _ABSENT
    ask_size: msgspec.Raw = _ABSENT
    bid: msgspec.Raw = _ABSENT
    bid_size: msgspec.Raw = _ABSENT
    change24h: msgspec.Raw = _ABSENT
    funding_rate: msgspec.Raw = _ABSENT
    funding_rate_prediction: msgspec.Raw = _ABSENT
    greeks: msgspec.Raw = _ABSENT
    high24h: msgspec.Raw = _ABSENT
    is_underlying_market_closed: msgspec.Raw = _ABSENT
    last: msgspec.Raw = _ABSENT
    last_size: msgspec.Raw = _ABSENT
    last_time: msgspec.Raw = _ABSENT
    low24h: msgspec.Raw = _ABSENT
    open24h: msgspec.Raw = _ABSENT
    pair: msgspec.Raw = _ABSENT
    post_only: msgspec.Raw = _ABSENT
    suspended: msgspec.Raw = _ABSENT
    tag: msgspec.Raw = _ABSENT
    vol24h: msgspec.Raw = _ABSENT
    volume_quote: msgspec.Raw = _ABSENT


class Rate(_Row, rename="camel"):
    """`funding_rate` is absolute, an amount of money per contract, and not read (PITFALLS C6)."""

    timestamp: Moment
    relative_funding_rate: Figure
    funding_rate: msgspec.Raw = _ABSENT


class Candle(_Row):
    time: Millis
    open: str
    high: str
    low: str
    close: str
    volume: str


class Interest(_Row):
    """Open interest in a bucket: open, high, low, close."""

    timestamp: Seconds
    value: tuple[str, str, str, str]


class Heads(_Row):
    """Holders of long and of short positions. `ratio` is what the venue calls so; see the source."""

    timestamp: Seconds
    long_count: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    short_count: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    long_percent: msgspec.Raw = _ABSENT
    short_percent: msgspec.Raw = _ABSENT
    ratio: msgspec.Raw = _ABSENT
    open_interest: msgspec.Raw = _ABSENT


class Flow(_Row):
    """`cvd` adds up from wherever the question began: not read."""

    timestamp: Seconds
    buy_volume: Figure
    sell_volume: Figure
    cvd: msgspec.Raw = _ABSENT


# -- errors


class Problem(msgspec.Struct):
    """One error; a severity of W is a warning beside a good result."""

    severity: str = "E"
    error_class: str | None = None
    type: str | None = None
    msg: str | None = None
    value: str | None = None
    field: str | None = None
    code: int | None = None
    message: str | None = None

    def __str__(self) -> str:
        parts = (self.code, self.error_class, self.type, self.field, self.value, self.msg, self.message)
        return " ".join(str(part) for part in parts if part not in (None, ""))


class Head(msgspec.Struct):
    """What decides about an answer before anybody reads its rows."""

    result: msgspec.Raw = _ABSENT
    error: str | None = None
    errors: list[Problem] | None = None
    status: str | None = None


_HEADS: Final = msgspec.json.Decoder(Head)
_COLUMN: Final = msgspec.json.Decoder(list[msgspec.Raw])
_COLUMNS: Final = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])
_COHORTS: Final = msgspec.json.Decoder(dict[str, dict[str, list[msgspec.Raw]]])
_PROBLEM: Final = msgspec.json.Decoder(Problem)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])[A-Z]")


def venue_error(body: bytes) -> str:
    """The venue's own error, e.g. `apiLimitExceeded`; empty when the body is none. It comes with any status, HTTP 200 included."""
    try:
        head = _HEADS.decode(body)
    except _FAULTS:
        return ""
    grave = [problem for problem in head.errors or () if problem.severity != "W"]
    if bytes(head.result) != b'"error"' and not head.error and not grave:
        return ""
    words = [head.error or "", *(str(problem) for problem in grave)]
    return "; ".join(word for word in words if word) or head.status or "error without a word"


def warnings(analytics: Analytics) -> list[str]:
    """What the venue says beside a good result."""
    found = []
    for raw in analytics.errors:
        try:
            found.append(f"the venue warns: {_PROBLEM.decode(raw)}")
        except _FAULTS:
            found.append(f"the venue warns: {bytes(raw)[:200].decode('utf-8', 'replace')}")
    return found


def page(body: bytes, target: str) -> tuple[Page, list[str]]:
    """The columns of an analytics answer, and notes."""
    envelope, notes = ANALYTICS.one(body, target)
    if said := venue_error(body):
        raise Unreadable(Reject(target, "VENUE_ERROR", said, body[:2000].decode("utf-8", "replace")))
    found, more = PAGE.one(bytes(envelope.result), target)
    return found, [*notes, *warnings(envelope), *more]


def side_by_side(found: Page, target: str, cohort: str = "") -> bytes:
    """Columns as a JSON list of rows. `cohort` names the group of traders where the answer holds groups. Raises Unreadable (SHAPE)."""
    shown = bytes(found.data)[:2000].decode("utf-8", "replace")
    columns: Mapping[str, Sequence[msgspec.Raw]]
    try:
        if cohort:
            columns = _COHORTS.decode(found.data)[cohort]
        elif shown.startswith("["):
            columns = {"value": _COLUMN.decode(found.data)}
        else:
            columns = _COLUMNS.decode(found.data)
    except (KeyError, *_FAULTS) as fault:
        raise Unreadable(Reject(target, "SHAPE", f"no columns in $.result.data: {fault}", shown)) from fault
    columns = {"timestamp": found.timestamp, **{_HUMP.sub(lambda hump: f"_{hump[0].lower()}", name): one for name, one in columns.items()}}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise Unreadable(Reject(target, "SHAPE", f"columns of different lengths in $.result: {lengths}", shown))
    keys = [msgspec.json.encode(name) + b":" for name in columns]
    rows = (b"{" + b",".join(key + raw for key, raw in zip(keys, row, strict=True)) + b"}" for row in zip(*columns.values(), strict=True))
    return b"[" + b",".join(rows) + b"]"


def figures(values: Sequence[Figure | None]) -> Floats:
    """Numbers, and texts that hold one; NaN where there is none."""
    texts = floats([value if isinstance(value, str) else "" for value in values])
    return np.array([value if isinstance(value, float) else text for value, text in zip(values, texts, strict=True)], dtype=np.float64)


INSTRUMENTS: Final = Shape(Instruments, venue_error)
INSTRUMENT: Final = Shape(Instrument, venue_error)
TICKERS: Final = Shape(Tickers, venue_error)
TICKER: Final = Shape(Ticker, venue_error)
RATES: Final = Shape(Rates, venue_error)
RATE: Final = Shape(Rate, venue_error)
CANDLES: Final = Shape(Candles, venue_error)
CANDLE: Final = Shape(Candle, venue_error)
ANALYTICS: Final = Shape(Analytics, venue_error)
PAGE: Final = Shape(Page)
INTEREST: Final = Shape(Interest)
HEADS: Final = Shape(Heads)
FLOW: Final = Shape(Flow)

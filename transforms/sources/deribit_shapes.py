"""Shapes of Deribit's answers, named as in the venue's document, and its errors (helper of the source in deribit.py).

https://docs.deribit.com/ (JSON-RPC 2.0 over HTTP GET; methods public/get_book_summary_by_currency, public/get_volatility_index_data)
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from transforms.reading import Millis, Shape

_ABSENT: Final = msgspec.Raw(b"null")
#: Unix microseconds up to the year 9999
Micros = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """What every good answer is wrapped in. `us_out`: when the venue sent it. `testnet`: whose numbers they are."""

    result: msgspec.Raw
    us_out: Micros = msgspec.field(name="usOut")
    testnet: bool
    jsonrpc: str = "2.0"
    us_in: msgspec.Raw = msgspec.field(default=_ABSENT, name="usIn")
    us_diff: msgspec.Raw = msgspec.field(default=_ABSENT, name="usDiff")
    id: msgspec.Raw = _ABSENT


class Summary(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One option of a chain. Fields with a default are not read; the document has them, and most are null without a quote or a trade."""

    instrument_name: str
    base_currency: str
    creation_timestamp: Millis
    open_interest: float
    volume: float
    mark_iv: float
    underlying_price: float
    estimated_delivery_price: float
    underlying_index: msgspec.Raw = _ABSENT
    quote_currency: msgspec.Raw = _ABSENT
    interest_rate: msgspec.Raw = _ABSENT
    mark_price: msgspec.Raw = _ABSENT
    mid_price: msgspec.Raw = _ABSENT
    bid_price: msgspec.Raw = _ABSENT
    ask_price: msgspec.Raw = _ABSENT
    last: msgspec.Raw = _ABSENT
    high: msgspec.Raw = _ABSENT
    low: msgspec.Raw = _ABSENT
    price_change: msgspec.Raw = _ABSENT
    volume_usd: msgspec.Raw = _ABSENT
    volume_notional: msgspec.Raw = _ABSENT


class Page(msgspec.Struct, forbid_unknown_fields=True):
    """Bars of the volatility index; `continuation` is the `end_timestamp` to ask with for the older ones, null when there are none."""

    data: msgspec.Raw
    continuation: Millis | None = None


class Bar(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A positional row."""

    timestamp: Millis
    open: float
    high: float
    low: float
    close: float


class VenueError(msgspec.Struct):
    """`data` may say more, e.g. which parameter."""

    code: int
    message: str
    data: msgspec.Raw = _ABSENT


class Head(msgspec.Struct):
    """What decides about an answer before anybody reads its rows."""

    error: VenueError | None = None
    testnet: bool = False


_HEADS: Final = msgspec.json.Decoder(Head)


def head(body: bytes) -> Head:
    """The error and the network of an answer; an empty head when the body is of another shape: the decoder names that."""
    try:
        return _HEADS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Head()


def said(error: VenueError) -> str:
    """`-32602 Invalid params {"reason":"invalid currency","param":"currency"}`."""
    more = bytes(error.data).decode("utf-8", "replace")
    return f"{error.code} {error.message}{f' {more[:200]}' if more != 'null' else ''}"


def venue_error(body: bytes) -> str:
    """The venue's own error in words; empty when the body is none."""
    error = head(body).error
    return said(error) if error else ""


ENVELOPE: Final = Shape(Envelope, venue_error)
SUMMARY: Final = Shape(Summary, venue_error)
PAGE: Final = Shape(Page, venue_error)
BAR: Final = Shape(Bar, venue_error)

"""Shapes of Deribit's answers, named as in the venue's document, and its errors (helper of the source in deribit.py).

https://docs.deribit.com/ (JSON-RPC 2.0 over HTTP GET; the methods are named in deribit.py and deribit_futures.py)
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


class Funding(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One hour of a perpetual."""

    timestamp: Millis
    interest_1h: float
    interest_8h: float
    index_price: msgspec.Raw = _ABSENT
    prev_index_price: msgspec.Raw = _ABSENT


class Trades(msgspec.Struct, forbid_unknown_fields=True):
    """A page of the tape; `has_more`: the range held more than was asked for."""

    trades: msgspec.Raw
    has_more: bool


class Trade(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One trade. `direction` is the taker's; `liquidation` is there only where a position was liquidated: M, T or MT."""

    trade_id: str
    instrument_name: str
    timestamp: Millis
    price: float
    amount: float
    direction: str
    liquidation: str | None = None
    trade_seq: msgspec.Raw = _ABSENT
    tick_direction: msgspec.Raw = _ABSENT
    mark_price: msgspec.Raw = _ABSENT
    index_price: msgspec.Raw = _ABSENT
    contracts: msgspec.Raw = _ABSENT
    iv: msgspec.Raw = _ABSENT
    block_trade_id: msgspec.Raw = _ABSENT
    block_trade_leg_count: msgspec.Raw = _ABSENT
    block_rfq_id: msgspec.Raw = _ABSENT
    combo_id: msgspec.Raw = _ABSENT
    combo_trade_id: msgspec.Raw = _ABSENT


class Future(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One future or perpetual of a book summary. Fields with a default are not read."""

    instrument_name: str
    base_currency: str
    creation_timestamp: Millis
    open_interest: float
    mark_price: float
    estimated_delivery_price: float
    quote_currency: msgspec.Raw = _ABSENT
    volume: msgspec.Raw = _ABSENT
    volume_usd: msgspec.Raw = _ABSENT
    volume_notional: msgspec.Raw = _ABSENT
    price_change: msgspec.Raw = _ABSENT
    mid_price: msgspec.Raw = _ABSENT
    bid_price: msgspec.Raw = _ABSENT
    ask_price: msgspec.Raw = _ABSENT
    last: msgspec.Raw = _ABSENT
    high: msgspec.Raw = _ABSENT
    low: msgspec.Raw = _ABSENT
    current_funding: msgspec.Raw = _ABSENT
    funding_8h: msgspec.Raw = _ABSENT


class Instrument(msgspec.Struct, gc=False):
    """Part of a contract's listing: the document promises nothing about further fields, so they are not noted."""

    instrument_name: str
    base_currency: str
    quote_currency: str
    settlement_currency: str
    settlement_period: str
    instrument_type: str
    state: str
    contract_size: float
    creation_timestamp: Millis
    expiration_timestamp: Millis


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
FUNDING: Final = Shape(Funding, venue_error)
TRADES: Final = Shape(Trades, venue_error)
TRADE: Final = Shape(Trade, venue_error)
FUTURE: Final = Shape(Future, venue_error)
INSTRUMENT: Final = Shape(Instrument, venue_error)

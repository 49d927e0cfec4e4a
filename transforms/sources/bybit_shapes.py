"""Shapes of Bybit's v5 answers, named as in the venue's document, and its errors (helper of the source in bybit.py).

https://bybit-exchange.github.io/docs/v5/guide ; every number and stamp of a row is a text, an error comes with HTTP 200 and retCode != 0.
"""

from __future__ import annotations

from typing import Final

import msgspec

from transforms.reading import Count, Millis, Shape

_ABSENT: Final = msgspec.Raw(b"null")


class Envelope(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What every answer is wrapped in. `time`: when the venue sent it."""

    ret_code: int
    ret_msg: str
    result: msgspec.Raw
    time: Millis
    ret_ext_info: msgspec.Raw = _ABSENT


class Page(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """`result` of a list. `symbol` stands here where rows do not name it; a cursor leads to older rows, empty or null when there are none."""

    list: msgspec.Raw
    category: str | None = None
    symbol: str | None = None
    next_page_cursor: str | None = None


class _Row(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A row as the venue's document names its fields."""


class OpenInterest(_Row):
    """`open_interest` counts both sides; `single_open_interest` one, and is absent, null or empty in answers of before 2026-06-11."""

    open_interest: str
    timestamp: str
    single_open_interest: str | None = None


class Ratio(_Row):
    symbol: str
    buy_ratio: str
    sell_ratio: str
    timestamp: str


class Funding(_Row):
    symbol: str
    funding_rate: str
    funding_rate_timestamp: str


class Kline(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A positional row. Which of `volume` and `turnover` is in coins depends on the category."""

    start: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    turnover: str


class PremiumKline(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A positional row of the premium index."""

    start: str
    open: str
    high: str
    low: str
    close: str


class Ticker(_Row):
    """A contract now. Fields that default to null are in the document and are not read."""

    symbol: str
    mark_price: str
    index_price: str
    funding_rate: str
    next_funding_time: str
    funding_interval_hour: str | None = None
    last_price: msgspec.Raw = _ABSENT
    prev_price_24h: msgspec.Raw = msgspec.field(default=_ABSENT, name="prevPrice24h")
    price_24h_pcnt: msgspec.Raw = msgspec.field(default=_ABSENT, name="price24hPcnt")
    high_price_24h: msgspec.Raw = msgspec.field(default=_ABSENT, name="highPrice24h")
    low_price_24h: msgspec.Raw = msgspec.field(default=_ABSENT, name="lowPrice24h")
    prev_price_1h: msgspec.Raw = msgspec.field(default=_ABSENT, name="prevPrice1h")
    turnover_24h: msgspec.Raw = msgspec.field(default=_ABSENT, name="turnover24h")
    volume_24h: msgspec.Raw = msgspec.field(default=_ABSENT, name="volume24h")
    open_interest: msgspec.Raw = _ABSENT
    open_interest_value: msgspec.Raw = _ABSENT
    single_open_interest: msgspec.Raw = _ABSENT
    single_open_interest_value: msgspec.Raw = _ABSENT
    funding_cap: msgspec.Raw = _ABSENT
    predicted_delivery_price: msgspec.Raw = _ABSENT
    basis: msgspec.Raw = _ABSENT
    basis_rate: msgspec.Raw = _ABSENT
    basis_rate_year: msgspec.Raw = _ABSENT
    delivery_fee_rate: msgspec.Raw = _ABSENT
    delivery_time: msgspec.Raw = _ABSENT
    bid_1_price: msgspec.Raw = msgspec.field(default=_ABSENT, name="bid1Price")
    bid_1_size: msgspec.Raw = msgspec.field(default=_ABSENT, name="bid1Size")
    ask_1_price: msgspec.Raw = msgspec.field(default=_ABSENT, name="ask1Price")
    ask_1_size: msgspec.Raw = msgspec.field(default=_ABSENT, name="ask1Size")
    pre_open_price: msgspec.Raw = _ABSENT
    pre_qty: msgspec.Raw = _ABSENT
    cur_pre_listing_phase: msgspec.Raw = _ABSENT


class Listed(msgspec.Struct, rename="camel", gc=False):
    """Part of a contract's listing: the document adds fields every few months, so further ones are not noted.

    `funding_interval` is in minutes; `launch_time` and `delivery_time` are Unix milliseconds, "0" for none.
    """

    symbol: str
    contract_type: str
    status: str
    base_coin: str
    quote_coin: str
    settle_coin: str
    launch_time: str
    delivery_time: str
    funding_interval: Count | None = None


class Head(msgspec.Struct, rename="camel"):
    """What decides about an answer before anybody reads its rows."""

    ret_code: int = 0
    ret_msg: str = ""


_HEADS: Final = msgspec.json.Decoder(Head)


def head(body: bytes) -> Head:
    """The code and message of an answer; an empty head when the body is of another shape: the decoder names that."""
    try:
        return _HEADS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Head()


def venue_error(body: bytes) -> str:
    """The venue's own error, e.g. `10001 Symbol Invalid`; empty when the body is none."""
    found = head(body)
    return f"{found.ret_code} {found.ret_msg}" if found.ret_code else ""


ENVELOPE: Final = Shape(Envelope, venue_error)
PAGE: Final = Shape(Page, venue_error)
OPEN_INTEREST: Final = Shape(OpenInterest, venue_error)
RATIO: Final = Shape(Ratio, venue_error)
FUNDING: Final = Shape(Funding, venue_error)
KLINE: Final = Shape(Kline, venue_error)
PREMIUM_KLINE: Final = Shape(PremiumKline, venue_error)
TICKER: Final = Shape(Ticker, venue_error)
LISTED: Final = Shape(Listed, venue_error)

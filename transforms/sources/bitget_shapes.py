"""Shapes of Bitget's v2 futures answers, named as in the venue's document (helper of the source in bitget.py).

https://www.bitget.com/api-doc/contract/market/Get-All-Symbols-Contracts and its siblings
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from transforms.reading import Millis, Shape

GOOD: Final = "00000"


class _Row(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """A row as the venue's document names its fields."""


class Envelope(_Row):
    """What every answer comes in; `code` is 00000 unless it is an error."""

    code: str
    msg: str
    request_time: Millis
    data: msgspec.Raw


class Contract(msgspec.Struct, rename="camel", gc=False):
    """Part of a contract's listing: the limits of the trading engine are nobody's business here, so further fields are not noted.

    Instants are Unix milliseconds as text; empty or -1 where there is none. `fund_interval` is hours.
    """

    symbol: str
    base_coin: str
    quote_coin: str
    support_margin_coins: list[str]
    symbol_type: str
    symbol_status: str
    off_time: str
    limit_open_time: str
    launch_time: str
    fund_interval: str
    delivery_time: str


class Held(_Row):
    symbol: str
    size: str


class OpenInterest(_Row):
    open_interest_list: list[Held]
    ts: str


class Funding(_Row):
    symbol: str
    funding_rate: str
    funding_time: str


class Quote(_Row):
    """The running interval: hours it lasts, when it is paid, and the limits of its rate."""

    symbol: str
    funding_rate: str
    funding_rate_interval: str
    next_update: str
    min_funding_rate: str
    max_funding_rate: str


class Accounts(_Row):
    """`long_short_account_ratio` is no ratio of the other two but a hundredth of it: .58 to .42 goes with .0138. It is not read."""

    long_account_ratio: str
    short_account_ratio: str
    long_short_account_ratio: str
    ts: str


class Positions(_Row):
    """As Accounts: .5061 to .4939 goes with .0102."""

    long_position_ratio: str
    short_position_ratio: str
    long_short_position_ratio: str
    ts: str


class Candle(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A positional row; `quote_volume` is in the quote asset. A replayed recording may not hold it; the venue always sends it."""

    opened: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str | None


class Price(_Row):
    symbol: str
    price: str
    index_price: str
    mark_price: str
    ts: str


class _Head(msgspec.Struct):
    code: str
    msg: str = ""


class Said(NamedTuple):
    """The venue's word on a request: nothing where the body has no code."""

    code: str
    text: str


_HEADS: Final = msgspec.json.Decoder(_Head)


def said(body: bytes) -> Said:
    """The venue's own error; empty when the body is none."""
    try:
        head = _HEADS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Said("", "")
    return Said("", "") if head.code == GOOD else Said(head.code, f"{head.code} {head.msg}")


def venue_error(body: bytes) -> str:
    """The venue's own error, e.g. `40034 Parameter does not exist`; empty when the body is none."""
    return said(body).text


ENVELOPE: Final = Shape(Envelope, venue_error)
CONTRACT: Final = Shape(Contract)
OPEN_INTEREST: Final = Shape(OpenInterest)
FUNDING: Final = Shape(Funding)
QUOTE: Final = Shape(Quote)
ACCOUNTS: Final = Shape(Accounts)
POSITIONS: Final = Shape(Positions)
CANDLE: Final = Shape(Candle)
PRICE: Final = Shape(Price)

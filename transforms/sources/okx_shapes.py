"""Shapes of OKX's REST answers, named as in the venue's document, and its errors (helper of the source in okx.py).

https://www.okx.com/docs-v5/en/ (Public Data, Order Book Trading > Market Data, Trading Statistics). Numbers and stamps are texts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from transforms.reading import Shape

_ABSENT: Final = msgspec.Raw(b"null")


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """What every answer is wrapped in. A `code` other than "0" is an error, whatever the HTTP status says."""

    code: str
    data: msgspec.Raw
    msg: msgspec.Raw = _ABSENT


class _Row(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A row as the venue's document names its fields. Those with a Raw default are not read."""


class _Positional(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A row without names."""


class OpenInterest(_Row):
    inst_id: str
    oi: str
    oi_ccy: str
    ts: str
    oi_usd: str | None = None
    inst_type: msgspec.Raw = _ABSENT


class InterestHour(_Positional):
    ts: str
    oi: str
    oi_ccy: str
    oi_usd: str


class Ratio(_Positional):
    """Long over short."""

    ts: str
    ratio: str


class Taker(_Positional):
    """Sells stand before buys."""

    ts: str
    sell_vol: str
    buy_vol: str


class Candle(_Positional):
    """`vol` in contracts, `vol_ccy` in the base currency, `vol_ccy_quote` in the quote currency; `confirm` "1": the bar is over."""

    ts: str
    open: str
    high: str
    low: str
    close: str
    vol: str
    vol_ccy: str
    vol_ccy_quote: str
    confirm: str


class Settlement(_Row):
    inst_id: str
    funding_time: str
    realized_rate: str
    funding_rate: msgspec.Raw = _ABSENT
    inst_type: msgspec.Raw = _ABSENT
    method: msgspec.Raw = _ABSENT
    formula_type: msgspec.Raw = _ABSENT


class FundingQuote(_Row):
    """`funding_time` is the settlement ahead; `prev_funding_time` the one before it, which older answers do not have."""

    inst_id: str
    funding_rate: str
    funding_time: str
    next_funding_time: str
    max_funding_rate: str
    min_funding_rate: str
    ts: str
    prev_funding_time: str | None = None
    inst_type: msgspec.Raw = _ABSENT
    method: msgspec.Raw = _ABSENT
    formula_type: msgspec.Raw = _ABSENT
    next_funding_rate: msgspec.Raw = _ABSENT
    premium: msgspec.Raw = _ABSENT
    sett_funding_rate: msgspec.Raw = _ABSENT
    sett_state: msgspec.Raw = _ABSENT
    interest_rate: msgspec.Raw = _ABSENT
    impact_value: msgspec.Raw = _ABSENT


class MarkPrice(_Row):
    inst_id: str
    mark_px: str
    ts: str
    inst_type: msgspec.Raw = _ABSENT


class Liquidated(_Row):
    """Liquidations of one contract: every order is one of `details` (PITFALLS D5)."""

    inst_id: str
    details: msgspec.Raw
    inst_type: msgspec.Raw = _ABSENT
    inst_family: msgspec.Raw = _ABSENT
    uly: msgspec.Raw = _ABSENT
    total_loss: msgspec.Raw = _ABSENT


class Detail(_Row):
    """One forced order. `side` is the order's, `pos_side` the position's."""

    bk_px: str
    pos_side: str
    side: str
    sz: str
    ts: str
    bk_loss: msgspec.Raw = _ABSENT
    ccy: msgspec.Raw = _ABSENT
    time: msgspec.Raw = _ABSENT


class Listed(msgspec.Struct, rename="camel", gc=False):
    """Part of a contract's listing, whose further fields change every few months: they are not noted."""

    inst_id: str
    inst_type: str
    ct_type: str
    ct_val: str
    ct_mult: str
    ct_val_ccy: str
    settle_ccy: str
    state: str
    list_time: str
    exp_time: str


class Head(msgspec.Struct):
    """What decides about an answer before anybody reads its rows."""

    code: str = "0"
    msg: str = ""


_HEADS: Final = msgspec.json.Decoder(Head)


def head(body: bytes) -> Head:
    """Code and message of an answer; those of a good one when the body is of another shape: the decoder names that."""
    try:
        return _HEADS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Head()


def venue_error(body: bytes) -> str:
    """The venue's own error, e.g. `51001 Instrument ID doesn't exist`; empty when the body is none."""
    found = head(body)
    return "" if found.code == "0" else f"{found.code} {found.msg}"


ENVELOPE: Final = Shape(Envelope, venue_error)
OPEN_INTEREST: Final = Shape(OpenInterest)
INTEREST_HOUR: Final = Shape(InterestHour)
RATIO: Final = Shape(Ratio)
TAKER: Final = Shape(Taker)
CANDLE: Final = Shape(Candle)
SETTLEMENT: Final = Shape(Settlement)
FUNDING_QUOTE: Final = Shape(FundingQuote)
MARK_PRICE: Final = Shape(MarkPrice)
LIQUIDATED: Final = Shape(Liquidated)
DETAIL: Final = Shape(Detail)
LISTED: Final = Shape(Listed)

"""Shapes of Gate's answers, named as in the venue's document, and its errors (helper of the source in gate.py).

https://www.gate.com/docs/developers/apiv4/en/#futures . The document writes contract counts as texts since sizes may have decimals, older
answers hold them as numbers: a `Figure` takes both. Fields with a default and type Raw are named by the document and not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np

from transforms.reading import Floats, Seconds, Shape, floats

#: a number, or a text that holds one
Figure = float | str
_ABSENT: Final = msgspec.Raw(b"null")
_Positive = Annotated[int, msgspec.Meta(gt=0, le=31 * 86_400)]


class _Row(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A row as the venue's document names its fields."""


class Stat(_Row):
    """One bucket of contract_stats. The document does not name the fields from top_long_size on; the venue sends them."""

    time: Seconds
    open_interest: Figure
    open_interest_usd: Figure
    lsr_account: Figure
    top_lsr_account: Figure
    top_lsr_size: Figure
    long_liq_size: Figure
    short_liq_size: Figure
    mark_price: Figure | None = None
    long_taker_size: Figure | None = None
    short_taker_size: Figure | None = None
    lsr_taker: msgspec.Raw = _ABSENT
    long_liq_amount: msgspec.Raw = _ABSENT
    short_liq_amount: msgspec.Raw = _ABSENT
    long_liq_usd: msgspec.Raw = _ABSENT
    short_liq_usd: msgspec.Raw = _ABSENT
    long_liq_usd_new: msgspec.Raw = _ABSENT
    short_liq_usd_new: msgspec.Raw = _ABSENT
    top_long_size: msgspec.Raw = _ABSENT
    top_short_size: msgspec.Raw = _ABSENT
    top_long_account: msgspec.Raw = _ABSENT
    top_short_account: msgspec.Raw = _ABSENT
    long_users: msgspec.Raw = _ABSENT
    short_users: msgspec.Raw = _ABSENT
    last_funding_rate: msgspec.Raw = _ABSENT
    contract: str | None = None


class Settlement(_Row):
    t: Seconds
    r: str


class Candle(_Row):
    """`v` in contracts, `sum` in the quote currency."""

    t: Seconds
    v: Figure
    o: str
    h: str
    l: str
    c: str
    sum: msgspec.Raw = _ABSENT


class PremiumCandle(_Row):
    t: Seconds
    o: str
    h: str
    l: str
    c: str
    v: msgspec.Raw = _ABSENT
    sum: msgspec.Raw = _ABSENT


class Contract(_Row):
    """A listed contract with its state now. `position_size`: contracts held long."""

    name: str
    type: str
    quanto_multiplier: str
    mark_price: str
    index_price: str
    funding_rate: str
    funding_interval: _Positive
    funding_next_apply: float
    position_size: Figure
    in_delisting: bool
    status: str = ""
    create_time: float | None = None
    config_change_time: msgspec.Raw = _ABSENT
    contract_type: msgspec.Raw = _ABSENT
    cross_leverage_default: msgspec.Raw = _ABSENT
    delisted_time: msgspec.Raw = _ABSENT
    delisting_time: msgspec.Raw = _ABSENT
    enable_bonus: msgspec.Raw = _ABSENT
    enable_circuit_breaker: msgspec.Raw = _ABSENT
    enable_credit: msgspec.Raw = _ABSENT
    enable_decimal: msgspec.Raw = _ABSENT
    funding_cap_ratio: msgspec.Raw = _ABSENT
    funding_impact_value: msgspec.Raw = _ABSENT
    funding_offset: msgspec.Raw = _ABSENT
    funding_rate_indicative: msgspec.Raw = _ABSENT
    funding_rate_limit: msgspec.Raw = _ABSENT
    interest_rate: msgspec.Raw = _ABSENT
    is_pre_market: msgspec.Raw = _ABSENT
    last_price: msgspec.Raw = _ABSENT
    launch_time: msgspec.Raw = _ABSENT
    leverage_max: msgspec.Raw = _ABSENT
    leverage_min: msgspec.Raw = _ABSENT
    long_users: msgspec.Raw = _ABSENT
    maintenance_rate: msgspec.Raw = _ABSENT
    maker_fee_rate: msgspec.Raw = _ABSENT
    mark_price_round: msgspec.Raw = _ABSENT
    mark_type: msgspec.Raw = _ABSENT
    market_order_size_max: msgspec.Raw = _ABSENT
    market_order_slip_ratio: msgspec.Raw = _ABSENT
    order_price_deviate: msgspec.Raw = _ABSENT
    order_price_round: msgspec.Raw = _ABSENT
    order_size_max: msgspec.Raw = _ABSENT
    order_size_min: msgspec.Raw = _ABSENT
    orderbook_id: msgspec.Raw = _ABSENT
    orders_limit: msgspec.Raw = _ABSENT
    ref_discount_rate: msgspec.Raw = _ABSENT
    ref_rebate_rate: msgspec.Raw = _ABSENT
    risk_limit_base: msgspec.Raw = _ABSENT
    risk_limit_max: msgspec.Raw = _ABSENT
    risk_limit_step: msgspec.Raw = _ABSENT
    short_users: msgspec.Raw = _ABSENT
    taker_fee_rate: msgspec.Raw = _ABSENT
    trade_id: msgspec.Raw = _ABSENT
    trade_size: msgspec.Raw = _ABSENT
    voucher_leverage: msgspec.Raw = _ABSENT


class VenueError(msgspec.Struct):
    label: str
    message: str = ""


_ERRORS: Final = msgspec.json.Decoder(VenueError)


def venue_error(body: bytes) -> str:
    """The venue's own error, e.g. `INVALID_PARAM_VALUE Candlestick too long ago`; empty when the body is none."""
    try:
        said = _ERRORS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f"{said.label} {said.message}".strip()


def figures(values: Sequence[Figure | None]) -> Floats:
    """Numbers, and texts that hold one; NaN where there is none.

    >>> figures([5.0, "0.25", None, "many"])
    array([5.  , 0.25,  nan,  nan])
    """
    texts = floats([value if isinstance(value, str) else "" for value in values])
    return np.array([value if isinstance(value, float) else text for value, text in zip(values, texts, strict=True)], dtype=np.float64)


STAT: Final = Shape(Stat, venue_error)
SETTLEMENT: Final = Shape(Settlement, venue_error)
CANDLE: Final = Shape(Candle, venue_error)
PREMIUM: Final = Shape(PremiumCandle, venue_error)
CONTRACT: Final = Shape(Contract, venue_error)

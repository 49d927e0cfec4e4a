"""Shapes of BitMEX's answers, named as in the venue's document (helper of the source in bitmex.py).

https://www.bitmex.com/api/explorer/
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, cast

import msgspec

from transforms.reading import Count, Shape

#: ISO 8601 with its offset, as the venue writes every stamp
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_ABSENT: Final = msgspec.Raw(b"null")
#: intervals are written as the instant that lies so long after this one: 2000-01-01T08:00 is eight hours
INTERVAL_ZERO: Final = datetime(2000, 1, 1, tzinfo=UTC)
#: fields of an instrument that are not read
IGNORED: Final = (
    *("rootSymbol", "instrumentID", "front", "settle", "listedSettle", "relistInterval", "inverseLeg", "sellLeg", "buyLeg"),
    *("optionStrikePcnt", "optionStrikeRound", "optionStrikePrice", "optionMultiplier", "optionUnderlyingPrice", "positionCurrency"),
    *("underlyingSymbol", "reference", "referenceSymbol", "calcInterval", "publishInterval", "publishTime", "maxOrderQty", "minPrice"),
    *("maxPrice", "lotSize", "tickSize", "initMargin", "maintMargin", "riskLimit", "riskStep", "limit", "capped", "taxed", "deleverage"),
    *("makerFee", "takerFee", "settlementFee", "insuranceFee", "fundingBaseSymbol", "fundingQuoteSymbol", "fundingPremiumSymbol"),
    *("fundingTimestamp", "fundingRate", "fundingBaseRate", "fundingQuoteRate", "rebalanceTimestamp", "rebalanceInterval"),
    *("openingTimestamp", "closingTimestamp", "sessionInterval", "prevClosePrice", "limitDownPrice", "limitUpPrice"),
    *("bankruptLimitDownPrice", "bankruptLimitUpPrice", "prevTotalVolume", "totalVolume", "volume", "volume24h", "prevTotalTurnover"),
    *("totalTurnover", "turnover", "turnover24h", "homeNotional24h", "foreignNotional24h", "prevPrice24h", "vwap", "highPrice", "lowPrice"),
    *("lastPrice", "lastPriceProtected", "lastTickDirection", "lastChangePcnt", "bidPrice", "midPrice", "askPrice", "impactBidPrice"),
    *("impactMidPrice", "impactAskPrice", "hasLiquidity", "fairMethod", "fairBasisRate", "fairBasis", "fairPrice", "markMethod"),
    *("indicativeTaxRate", "settledPriceAdjustmentRate", "settledPrice", "instantPnl", "minTick", "pool", "referencePrice"),
    *("farLegSymbol", "nearLegSymbol"),
)


class Listed(msgspec.Struct, rename="camel", gc=False):
    """An instrument: what it is, and how it stands. What only some kinds have may be absent."""

    symbol: str
    state: str
    typ: str
    timestamp: Instant
    underlying: str
    quote_currency: str
    is_quanto: bool
    is_inverse: bool
    multiplier: float
    settl_currency: str | None = None
    listing: Instant | None = None
    expiry: Instant | None = None
    underlying_to_position_multiplier: float | None = None
    underlying_to_settle_multiplier: float | None = None
    quote_to_settle_multiplier: float | None = None
    funding_interval: Instant | None = None
    indicative_funding_rate: float | None = None
    open_interest: float | None = None
    open_value: float | None = None
    mark_price: float | None = None
    indicative_settle_price: float | None = None


class Funding(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    timestamp: Instant
    symbol: str
    funding_interval: Instant
    funding_rate: float
    funding_rate_daily: msgspec.Raw = _ABSENT


class Bucket(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """A bar without a trade has no mean price and no last size; its prices are the last known one."""

    timestamp: Instant
    symbol: str
    high: float
    low: float
    close: float
    trades: Count
    home_notional: float
    open: float | None = None
    volume: msgspec.Raw = _ABSENT
    vwap: msgspec.Raw = _ABSENT
    last_size: msgspec.Raw = _ABSENT
    turnover: msgspec.Raw = _ABSENT
    foreign_notional: msgspec.Raw = _ABSENT


def hours(interval: datetime) -> float:
    """Length of an interval as the venue writes it.

    >>> hours(datetime(2000, 1, 1, 8, tzinfo=UTC)), hours(datetime(2000, 1, 2, tzinfo=UTC))
    (8.0, 24.0)
    """
    return (interval - INTERVAL_ZERO) / timedelta(hours=1)


class _Said(msgspec.Struct):
    message: str
    name: str = ""


class _Refusal(msgspec.Struct):
    error: _Said


_REFUSALS: Final = msgspec.json.Decoder(_Refusal)


def venue_error(body: bytes) -> str:
    """The venue's own error, e.g. `HTTPError Invalid API Key.`; empty when the body is none."""
    try:
        said = _REFUSALS.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f"{said.name} {said.message}".strip()


_STRICT: Final = msgspec.defstruct(
    "Listed", [(name, msgspec.Raw, _ABSENT) for name in IGNORED], bases=(Listed,), rename="camel", forbid_unknown_fields=True, gc=False
)
LISTED: Final = Shape(cast("type[Listed]", _STRICT), venue_error)
FUNDING: Final = Shape(Funding, venue_error)
BUCKET: Final = Shape(Bucket, venue_error)

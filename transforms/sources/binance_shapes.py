"""Shapes of Binance's REST answers, named as in the venue's document (helper of the source in binance.py).

https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api
"""

from __future__ import annotations

from typing import Final

import msgspec

from transforms.reading import Count, Millis, Shape

_ABSENT: Final = msgspec.Raw(b"null")


class _Row(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A row as the venue's document names its fields."""


class OpenInterestHist(_Row):
    symbol: str
    sum_open_interest: str
    sum_open_interest_value: str
    timestamp: Millis | str
    supply: msgspec.Raw = msgspec.field(default=_ABSENT, name="CMCCirculatingSupply")


class Ratio(_Row):
    symbol: str
    long_account: str
    short_account: str
    long_short_ratio: str
    timestamp: Millis | str


class Taker(_Row):
    buy_vol: str
    sell_vol: str
    buy_sell_ratio: str
    timestamp: Millis | str


class Funding(_Row):
    symbol: str
    funding_time: Millis
    funding_rate: str
    mark_price: str | None = None


class FundingTerms(_Row):
    symbol: str
    adjusted_funding_rate_cap: str
    adjusted_funding_rate_floor: str
    funding_interval_hours: Count
    disclaimer: bool | None = None
    update_time: Millis | None = None


class OpenInterest(_Row):
    symbol: str
    open_interest: str
    time: Millis


class Premium(_Row):
    symbol: str
    mark_price: str
    index_price: str
    last_funding_rate: str
    next_funding_time: Millis
    interest_rate: str
    time: Millis
    estimated_settle_price: str | None = None


class Kline(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A positional row. A replayed recording may not hold the fields that are optional here; the venue always sends them."""

    open_time: Millis
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_time: Millis
    quote_volume: str | None
    trades: Count | None
    taker_buy: str | None
    taker_buy_quote: str | None
    ignore: str | None


class PremiumKline(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A positional row of the premium index. The document says of all other elements that they are to be ignored."""

    open_time: Millis
    open: str
    high: str
    low: str
    close: str
    ignore: msgspec.Raw
    close_time: Millis
    ignore_7: msgspec.Raw = _ABSENT
    ignore_8: msgspec.Raw = _ABSENT
    ignore_9: msgspec.Raw = _ABSENT
    ignore_10: msgspec.Raw = _ABSENT
    ignore_11: msgspec.Raw = _ABSENT


class Symbol(msgspec.Struct, rename="camel", gc=False):
    """Part of a contract's listing: the document promises nothing about further fields, so they are not noted."""

    symbol: str
    status: str
    contract_type: str
    base_asset: str
    quote_asset: str
    margin_asset: str
    onboard_date: Millis
    delivery_date: Millis


class ExchangeInfo(msgspec.Struct, rename="camel"):
    server_time: Millis
    symbols: msgspec.Raw


# -- COIN-M: https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api


class CoinOpenInterestHist(_Row):
    """`sum_open_interest` counts contracts, `sum_open_interest_value` coins of the base asset."""

    pair: str
    contract_type: str
    sum_open_interest: str
    sum_open_interest_value: str
    timestamp: Millis | str


class CoinAccounts(_Row):
    pair: str
    long_account: str
    short_account: str
    long_short_ratio: str
    timestamp: Millis | str


class CoinPositions(_Row):
    pair: str
    long_position: str
    short_position: str
    long_short_ratio: str
    timestamp: Millis | str


class CoinTaker(_Row):
    """Volumes count contracts, their values coins of the base asset."""

    pair: str
    contract_type: str
    taker_buy_vol: str
    taker_sell_vol: str
    taker_buy_vol_value: str
    taker_sell_vol_value: str
    timestamp: Millis | str


class CoinOpenInterest(_Row):
    symbol: str
    pair: str
    contract_type: str
    open_interest: str
    time: Millis


class CoinPremium(Premium, kw_only=True):
    pair: str


class CoinKline(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A positional row: volume and taker_buy count contracts, the two after them coins of the base asset."""

    open_time: Millis
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_time: Millis
    base_volume: str
    trades: Count
    taker_buy: str
    taker_buy_base: str
    ignore: str | None


class CoinSymbol(msgspec.Struct, rename="camel", gc=False):
    """Part of a contract's listing: the document promises nothing about further fields, so they are not noted."""

    symbol: str
    pair: str
    contract_status: str
    contract_type: str
    contract_size: float
    base_asset: str
    quote_asset: str
    margin_asset: str
    onboard_date: Millis
    delivery_date: Millis


class CoinExchangeInfo(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    server_time: Millis
    symbols: msgspec.Raw
    timezone: msgspec.Raw = _ABSENT
    rate_limits: msgspec.Raw = _ABSENT
    exchange_filters: msgspec.Raw = _ABSENT


class VenueError(msgspec.Struct):
    code: int
    msg: str


_ERRORS: Final = msgspec.json.Decoder(VenueError)


def venue_error(body: bytes) -> str:
    """The venue's own error, e.g. `-1121 Invalid symbol.`; empty when the body is none."""
    try:
        said = _ERRORS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f"{said.code} {said.msg}"


FUNDING: Final = Shape(Funding, venue_error)
OPEN_INTEREST_HIST: Final = Shape(OpenInterestHist, venue_error)
RATIO: Final = Shape(Ratio, venue_error)
TAKER: Final = Shape(Taker, venue_error)
TERMS: Final = Shape(FundingTerms, venue_error)
OPEN_INTEREST: Final = Shape(OpenInterest, venue_error)
PREMIUM: Final = Shape(Premium, venue_error)
KLINE: Final = Shape(Kline, venue_error)
PREMIUM_KLINE: Final = Shape(PremiumKline, venue_error)
INFO: Final = Shape(ExchangeInfo, venue_error)
SYMBOL: Final = Shape(Symbol, venue_error)
COIN_OPEN_INTEREST_HIST: Final = Shape(CoinOpenInterestHist, venue_error)
COIN_ACCOUNTS: Final = Shape(CoinAccounts, venue_error)
COIN_POSITIONS: Final = Shape(CoinPositions, venue_error)
COIN_TAKER: Final = Shape(CoinTaker, venue_error)
COIN_OPEN_INTEREST: Final = Shape(CoinOpenInterest, venue_error)
COIN_PREMIUM: Final = Shape(CoinPremium, venue_error)
COIN_KLINE: Final = Shape(CoinKline, venue_error)
COIN_INFO: Final = Shape(CoinExchangeInfo, venue_error)
COIN_SYMBOL: Final = Shape(CoinSymbol, venue_error)

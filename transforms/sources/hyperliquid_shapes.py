"""Shapes of Hyperliquid's answers, named as in the venue's document (helper of the source in hyperliquid.py).

https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint/perpetuals
"""

from __future__ import annotations

from typing import Final

import msgspec

from transforms.reading import Count, Millis, Shape

_ABSENT: Final = msgspec.Raw(b"null")


class _Row(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A row as the venue's document names its fields."""


class Coin(_Row):
    """A perpetual of the universe. A contract that trades may leave the flags out or send null."""

    name: str
    sz_decimals: Count
    max_leverage: Count
    only_isolated: bool | None = None
    is_delisted: bool | None = None
    margin_table_id: Count | None = None
    margin_mode: str | None = None
    growth_mode: str | None = None
    last_growth_mode_change_time: str | None = None


class Meta(_Row):
    """`collateral_token` is the index of a spot token: 0 is USDC. Older answers leave it out."""

    universe: msgspec.Raw
    margin_tables: msgspec.Raw = _ABSENT
    collateral_token: Count = 0


class MetaAndContexts(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The universe, and a context for each of its coins, paired by their places."""

    meta: msgspec.Raw
    contexts: msgspec.Raw


class Context(_Row):
    """A coin now. Without a book `premium`, `mid_px` and `impact_pxs` are null."""

    funding: str
    open_interest: str
    prev_day_px: str
    day_ntl_vlm: str
    premium: str | None
    oracle_px: str
    mark_px: str
    mid_px: str | None
    impact_pxs: list[str] | None
    day_base_vlm: str | None = None


class Funding(_Row):
    """`premium` is the average over the interval that was paid for; some answers leave it out."""

    coin: str
    funding_rate: str
    time: Millis
    premium: str | None = None


class Candle(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """t, T: first and last millisecond. s: coin. i: interval. v: amount in base units. n: trades, always sent by the venue;
    a replayed recording may not hold them."""

    opened: Millis = msgspec.field(name="t")
    closed: Millis = msgspec.field(name="T")
    coin: str = msgspec.field(name="s")
    interval: str = msgspec.field(name="i")
    open: str = msgspec.field(name="o")
    high: str = msgspec.field(name="h")
    low: str = msgspec.field(name="l")
    close: str = msgspec.field(name="c")
    volume: str = msgspec.field(name="v")
    trades: Count | None = msgspec.field(name="n")


def venue_error(body: bytes) -> str:
    """The venue's refusals: a bare `null`, or a sentence that is no JSON; empty when the body is neither."""
    start = body[:300].strip()
    if start == b"null":
        return "null: the venue knows no such coin, or is not able to answer"
    if start.startswith(b"Failed to "):
        return start.decode("utf-8", "replace")
    return ""


COIN: Final = Shape(Coin, venue_error)
META: Final = Shape(Meta, venue_error)
BOTH: Final = Shape(MetaAndContexts, venue_error)
CONTEXT: Final = Shape(Context, venue_error)
FUNDING: Final = Shape(Funding, venue_error)
CANDLE: Final = Shape(Candle, venue_error)

"""Who takes part: names only, loaded on use (importing the objects costs seconds, and every task start parses its Dag)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transforms.sources.contract import Source

#: source name -> slots of its Airflow pool (one pool per venue; requests within a slot are limited by the source's own budgets).
SOURCES: Final[dict[str, int]] = {
    "binance": 1,
    "bybit": 1,
    "okx": 1,
    "deribit": 1,
    "hyperliquid": 1,
    "gate": 1,
    "kraken_futures": 1,
    "bitmex": 1,
    "bitget": 1,
    "coinalyze": 1,
    "defillama": 1,
    "coinmetrics": 1,
    "alternative_me": 1,
}

#: Who is asked every hour, and who once a day; history asks everybody.
HOURLY_SOURCES: Final[tuple[str, ...]] = (
    "binance",
    "bybit",
    "okx",
    "deribit",
    "hyperliquid",
    "gate",
    "kraken_futures",
    "bitmex",
    "bitget",
)
DAILY_SOURCES: Final[tuple[str, ...]] = ("coinalyze", "defillama", "coinmetrics", "alternative_me")

#: Whose files of an archive are looked at again.
ARCHIVES: Final[tuple[str, ...]] = ("binance",)

#: Assets the hourly index covers, in the order they are shown.
HOURLY_ASSETS: Final[tuple[str, ...]] = ("BTC", "ETH", "SOL")

#: Assets asked of the daily sources of a live market: Coinalyze counts 40 contracts a minute, so all it lists would take an hour a day.
DAILY_ASSETS: Final[tuple[str, ...]] = ("BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ADA", "AVAX", "LINK", "TRX", "DOT", "LTC")


def source(name: str) -> Source:
    """The source of that name; an unknown name raises KeyError and lists the roster."""
    if name not in SOURCES:
        raise KeyError(f"found source {name!r}; the roster in transforms/roster.py has {', '.join(SOURCES)}")
    found: Source = import_module(f"transforms.sources.{name}").SOURCE
    return found

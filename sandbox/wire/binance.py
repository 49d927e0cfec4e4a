"""Binance: USD-M and COIN-M by REST, and the public archive."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.market import Market
from sandbox.wire.binance_archive import Vision
from sandbox.wire.binance_coin import Dapi
from sandbox.wire.binance_fapi import Fapi
from sandbox.wire.reply import Venue


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"fapi": Fapi(market, clock, scale), "dapi": Dapi(market, clock, scale), "archive": Vision(market)}

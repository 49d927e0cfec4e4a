"""The peer everybody names: ccxt's unified call, pointed at the sandbox. Installed apart from the project (requirements-bench.lock).

One `fetch_open_interest_history` a page, so many at once as ours; its own rate limiter is off, as ours is wide open. It returns dicts that
hold the venue's strings beside floats: no frame is made of them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

PEERS: Final = Path(__file__).parents[2] / ".venv" / "peers"


class Unified:
    """Its markets are loaded once, outside of what is timed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.markets: dict[str, Any] = asyncio.run(_markets(address))

    def pages(self, urls: Sequence[str], width: int) -> list[list[dict[str, Any]]]:
        """The rows of each page, by one exchange object in one loop."""
        return asyncio.run(_pages(self.address, self.markets, urls, width))


def _exchange(address: str) -> Any:
    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))
    from ccxt import async_support

    exchange = async_support.binanceusdm({"enableRateLimit": False, "aiohttp_trust_env": False})
    base = f"{address}/binance.fapi"
    exchange.urls["api"] |= {"fapiPublic": f"{base}/fapi/v1", "fapiData": f"{base}/futures/data"}
    return exchange


async def _markets(address: str) -> dict[str, Any]:
    exchange = _exchange(address)
    try:
        found: dict[str, Any] = await exchange.load_markets()
        return found
    finally:
        await exchange.close()


async def _pages(address: str, markets: dict[str, Any], urls: Sequence[str], width: int) -> list[list[dict[str, Any]]]:
    exchange = _exchange(address)
    exchange.set_markets(markets)
    try:
        gate = asyncio.Semaphore(width)

        async def page(url: str) -> list[dict[str, Any]]:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
            symbol = asked["symbol"].removesuffix("USDT") + "/USDT:USDT"
            async with gate:
                rows: list[dict[str, Any]] = await exchange.fetch_open_interest_history(
                    symbol, asked["period"], int(asked["startTime"]), int(asked["limit"]), {"endTime": int(asked["endTime"])}
                )
            return rows

        return await asyncio.gather(*(page(url) for url in urls))
    finally:
        await exchange.close()

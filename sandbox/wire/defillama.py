"""stablecoins.llama.fi in its real shapes, which its published OpenAPI describes wrongly: dates are STRINGS of seconds,
amounts are objects by peg, `chainCirculating` is an object, minted and bridged are 0 for "all".

The newest day moves through the day and settles later (the simulated market does so; the recorded one shows days that are over).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sandbox.market import COINS, Coin, Market, Rows
from sandbox.wire.reply import JSON, Query, Reply, Venue, as_json, json_rows

_CACHE: Final = {"Cache-Control": "max-age=1800"}
_CHAINS: Final = {"Ethereum": 0.55, "Tron": 0.45}


class Stablecoins:
    """stablecoins.llama.fi."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def answer(self, query: Query) -> Reply:
        if query.path == "/stablecoincharts/all":
            return self._chart(query.params.get("stablecoin"))
        if query.path == "/stablecoins":
            return self._list(query.params.get("includePrices") == "true")
        return Reply(404, b'{"message":"Not Found"}', JSON)

    def _chart(self, coin_id: str | None) -> Reply:
        rows = self.market.supply(coin_id)
        if rows is None:
            return Reply(404, b'{"message":"Not Found"}', JSON)
        amount = rows["circulating"]
        pieces = [
            ('{"date":', '"%d"', rows.at // 1000),
            (',"totalCirculating":{"peggedUSD":', "%.2f", amount),
            ('},"totalUnreleased":{"peggedUSD":0},"totalCirculatingUSD":{"peggedUSD":', "%.2f", amount),
        ]
        return Reply(200, json_rows(pieces, '},"totalMintedUSD":{"peggedUSD":0},"totalBridgedToUSD":{"peggedUSD":0}}'), JSON, _CACHE)

    def _list(self, prices: bool) -> Reply:
        every = [(coin, rows) for coin in COINS if (rows := self.market.supply(coin.id)) is not None and len(rows)]
        assets = [self._asset(coin, rows, prices) for coin, rows in every]
        chains: list[dict[str, Any]] = []
        if self.market.kind == "simulated":
            total = sum(float(rows["circulating"][-1]) for _, rows in every)
            chains = [{"totalCirculatingUSD": {"peggedUSD": round(total * part, 2)}, "name": name} for name, part in _CHAINS.items()]
        return as_json({"peggedAssets": assets, "chains": chains}, 200, _CACHE)

    def _asset(self, coin: Coin, rows: Rows, prices: bool) -> dict[str, Any]:
        values = rows["circulating"]

        def back(days: int, part: float = 1.0) -> dict[str, float]:
            return {"peggedUSD": round(part * float(values[max(0, len(values) - 1 - days)]), 2)}

        shares = _CHAINS if self.market.kind == "simulated" else {}
        chains = {name: {"current": back(0, part), "circulatingPrevDay": back(1, part)} for name, part in shares.items()}
        return {
            "id": coin.id,
            "name": coin.name,
            "symbol": coin.symbol,
            "gecko_id": coin.gecko_id,
            "pegType": "peggedUSD",
            "priceSource": "defillama",
            "pegMechanism": coin.mechanism,
            "circulating": back(0),
            "circulatingPrevDay": back(1),
            "circulatingPrevWeek": back(7),
            "circulatingPrevMonth": back(30),
            "chainCirculating": chains,
            "chains": list(chains),
            **({"price": 1.0 if self.market.kind == "simulated" else None} if prices else {}),
        }


def hosts(market: Market, _clock: Callable[[], float], _scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"stablecoins": Stablecoins(market)}

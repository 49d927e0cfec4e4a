"""api.alternative.me/fng: newest first, every number a string, `time_until_update` on the newest only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sandbox.market import DAY_MS, Market
from sandbox.wire.reply import Query, Reply, Venue, as_json

#: Upper ends of the bands, as recorded since 2022: 25, 46, 54, 75.
_BANDS: Final = ((25, "Extreme Fear"), (46, "Fear"), (54, "Neutral"), (75, "Greed"), (100, "Extreme Greed"))


class FearGreed:
    """api.alternative.me."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def answer(self, query: Query) -> Reply:
        if query.path.rstrip("/") != "/fng":
            return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")
        limit = query.params.get("limit", "1")
        if not limit.isdecimal() or len(limit) > 6:
            return as_json({"name": "Fear and Greed Index", "data": [], "metadata": {"error": "limit must be a number"}}, 400)
        rows = self.market.fear_greed()
        chosen = rows.take(slice(-int(limit), None)) if int(limit) else rows
        data = [
            {"value": f"{value:.0f}", "value_classification": _label(value), "timestamp": str(stamp // 1000)}
            for stamp, value in zip(reversed(chosen.at.tolist()), reversed(chosen["value"].tolist()), strict=True)
        ]
        if data:
            data[0]["time_until_update"] = str((DAY_MS - self.market.now_ms() % DAY_MS) // 1000)
        return as_json({"name": "Fear and Greed Index", "data": data, "metadata": {"error": None}})


def _label(value: float) -> str:
    return next(label for top, label in _BANDS if value <= top)


def hosts(market: Market, _clock: Callable[[], float], _scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": FearGreed(market)}

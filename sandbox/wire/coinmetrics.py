"""community-api.coinmetrics.io/v4: asset metrics by day, pages with a token, 10 requests per 6 s, error bodies.

Documents: https://docs.coinmetrics.io/api-reference/timeseries/timeseries-rest/asset-metrics
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np

from sandbox.limits import Limit
from sandbox.market import DAY_MS, Market, Rows
from sandbox.wire.reply import JSON, Query, Reply, Venue, as_json, render, seconds
from transforms.windows import to_ms

PATH: Final = "/timeseries/asset-metrics"
#: the vendor's asset -> the market's
ASSETS: Final = {"btc": "BTC", "eth": "ETH", "usdt_eth": "USDT_ETH"}
#: the vendor's metric -> the market's column and its format
METRICS: Final = {
    "AssetEODCompletionTime": ("completed", '"%.0f"'),
    "FlowInExUSD": ("inflow", '"%.12f"'),
    "FlowOutExUSD": ("outflow", '"%.12f"'),
    "PriceUSD": ("price", '"%.14f"'),
    "SplyCur": ("supply", '"%.8f"'),
}
#: of a token only these are free
OF_TOKENS: Final = ("AssetEODCompletionTime", "PriceUSD", "SplyCur")
PAGE: Final = 100
MOST: Final = 10_000


class Refused(Exception):
    """An error body of the vendor."""

    def __init__(self, kind: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reply = as_json({"error": {"type": kind, "message": message}}, status)


class Community:
    """community-api.coinmetrics.io: 10 requests per 6 s and address, times `scale`."""

    def __init__(self, market: Market, clock: Callable[[], float], scale: float = 1.0) -> None:
        self.market = market
        self.limit = Limit(10 * scale, 6, clock)

    def answer(self, query: Query) -> Reply:
        wait = self.limit.take(1)
        if wait is not None:
            refused = Refused("too_many_requests", "The rate limit exceeded: 10 requests per 6 seconds.", 429).reply
            return Reply(429, refused.body, JSON, {"Retry-After": seconds(wait)})
        if query.path != PATH:
            return Refused("not_found", "Not found.", 404).reply
        try:
            return self.asset_metrics(query.params)
        except Refused as refused:
            return refused.reply

    def asset_metrics(self, params: Mapping[str, str]) -> Reply:
        """Rows by asset and time, ascending; from the newest page on unless `paging_from=start`."""
        assets, metrics = _list(params, "assets", ASSETS), _list(params, "metrics", METRICS)
        if params.get("frequency", "1d") != "1d":
            raise _bad("frequency", params["frequency"])
        size = params.get("page_size", str(PAGE))
        if not size.isdecimal() or not 1 <= int(size[:9]) <= MOST or len(size) > 9:
            raise _bad("page_size", size)
        side = params.get("paging_from", "end")
        if side not in ("start", "end"):
            raise _bad("paging_from", side)
        start, end = _day(params, "start_time", 0), _day(params, "end_time", self.market.now_ms())
        rows = [row for asset in sorted(assets) for row in self._rows(asset, metrics, start, end)]
        skipped = _offset(params.get("next_page_token", ""))
        ahead = rows[skipped:] if side == "start" else rows[: max(0, len(rows) - skipped)]
        page = ahead[: int(size)] if side == "start" else ahead[-int(size) :]
        body = f'{{"data":[{",".join(page)}]'
        if len(page) < len(ahead):
            token = urlsafe_b64encode(f"0.{skipped + len(page)}".encode()).decode().rstrip("=")
            onward = urlencode({**{name: value for name, value in params.items() if name != "next_page_token"}, "next_page_token": token})
            body += f',"next_page_token":"{token}","next_page_url":"https://community-api.coinmetrics.io/v4{PATH}?{onward}"'
        return Reply(200, f"{body}}}".encode())

    def _rows(self, asset: str, metrics: list[str], start: int, end: int) -> list[str]:
        if asset.startswith("usdt") and (paid := sorted(set(metrics) - set(OF_TOKENS))):
            raise Refused(
                "forbidden",
                f"Requested metric '{paid[0]}' with frequency '1d' for asset '{asset}' is not available with supplied credentials.",
                403,
            )
        found = self.market.chain_metrics(ASSETS[asset])
        if found is None:
            return []
        held: Rows = found.between(-(-start // DAY_MS) * DAY_MS, end)
        days = np.array([f"{datetime.fromtimestamp(at // 1000, UTC):%Y-%m-%d}" for at in held.at.tolist()], dtype=object)
        pieces: list[tuple[str, str, Any]] = [(f'{{"asset":"{asset}","time":', '"%sT00:00:00.000000000Z"', days)]
        pieces += [(f',"{name}":', METRICS[name][1], held[METRICS[name][0]]) for name in metrics]
        return render(pieces, "}", "\n").splitlines()


def _bad(name: str, value: str) -> Refused:
    return Refused("bad_parameter", f"Bad parameter '{name}'. Value '{value[:100]}' is not supported.")


def _list(params: Mapping[str, str], name: str, known: Mapping[str, Any]) -> list[str]:
    if name not in params:
        raise Refused("missing_parameter", f"Missing parameter '{name}'.")
    found = params[name].split(",")
    for value in found:
        if value not in known:
            raise _bad(name, value)
    return sorted(set(found))


def _day(params: Mapping[str, str], name: str, default: int) -> int:
    """A day or an instant in ISO 8601, UTC; both ends of a range are inclusive."""
    text = params.get(name)
    if text is None:
        return default
    try:
        found = datetime.fromisoformat(text)
        return to_ms(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise _bad(name, text) from None


def _offset(token: str) -> int:
    """How many rows came before the page that the token is for."""
    if not token:
        return 0
    try:
        head, _, count = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition(".")
    except ValueError:
        raise _bad("next_page_token", token) from None
    if head != "0" or not count.isdecimal() or len(count) > 9:
        raise _bad("next_page_token", token)
    return int(count)


def hosts(market: Market, clock: Callable[[], float], scale: float) -> dict[str, Venue]:
    """The hosts of this source, by name."""
    return {"api": Community(market, clock, scale)}

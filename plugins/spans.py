"""Which spans of history the markets hold, by source: what the pipeline may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from transforms.roster import HOURLY_SOURCES
from transforms.spec import SPEC

Held = Mapping[str, Sequence[Sequence[str]]]

#: What the recordings hold that belongs together: the daily set, the 15-minute set, what was recorded of other venues beside it, and the slow
#: series with the look-back both need.
RECORDED: Final[Held] = {
    "coinalyze": [["2022-01-02", "2023-12-06"]],
    "binance": [["2026-04-28T21:00", "2026-05-28"]],
    "deribit": [["2026-05-27", "2026-05-28"]],
    "bybit": [["2026-05-21", "2026-05-28"]],
    "hyperliquid": [["2026-04-28T21:00", "2026-05-28"]],
    **{venue: [] for venue in ("okx", "gate", "kraken_futures", "bitmex", "bitget")},
    "*": [["2021-10-01", "2023-12-06"], ["2026-01-01", "2026-05-28"]],
}
#: An hour after the last recorded bar: the 30 days that the venue's REST keeps reach back to the first one, and all inputs are known.
RECORDED_NOW: Final = "2026-05-28T01:00:00Z"
#: how much simulated history is asked of venues that no number reads yet
SHADOW: Final = timedelta(days=45)
_FOREVER: Final = "2100-01-01"


def in_shadow() -> list[str]:
    """Venues that are asked every hour and in no number yet (METHODOLOGY 3.4)."""
    return [name for name in HOURLY_SOURCES if name not in SPEC.cadence("1h").voices]


def default_start(market: str, now: datetime) -> str:
    """First day to hold: for the simulated market the quarter that began half a year before this one, live the last 90 days."""
    if market == "live":
        return f"{now - timedelta(days=90):%Y-%m-%d}"
    quarters = now.year * 4 + (now.month - 1) // 3 - 2
    return f"{quarters // 4}-{quarters % 4 * 3 + 1:02d}-01"


def held(market: str, start: str, now: datetime) -> Held:
    """Spans by source, `*` for all others. `start`: first day asked for of a market that goes on, empty for the default."""
    if market == "recorded":
        return RECORDED
    found = {"*": [[start or default_start(market, now), _FOREVER]]}
    if market == "simulated":
        found |= {name: [[f"{now - SHADOW:%Y-%m-%d}", _FOREVER]] for name in in_shadow()}
    return found

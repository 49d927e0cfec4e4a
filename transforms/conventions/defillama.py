"""DefiLlama: stablecoin supply."""

from __future__ import annotations

from typing import Final

from transforms.conventions.entry import Entry
from transforms.windows import DAY

ENTRIES: Final[tuple[Entry, ...]] = (
    Entry(
        "defillama", "stablecoincharts", "label", "start", "peggedassets-server: a point is the day's last record, stamped at its midnight"
    ),
    Entry("defillama", "stablecoincharts", "period", DAY, "one point a day"),
    Entry(
        "defillama",
        "stablecoincharts",
        "lag",
        DAY,
        "METHODOLOGY 5.1: stablecoin supply, day end + 24 h; the newest point moves (PITFALLS F2)",
    ),
)

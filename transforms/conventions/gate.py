"""Gate: USDT perpetuals by REST."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import LAG_1, LAG_5, MINUTE, Entry
from transforms.windows import DAY, HOUR

_STATS: Final = "contract_stats"
_LABEL: Final = (
    "Gate document: 'Stat timestamp', not which end. Third parties read it as the start of the bucket, as the candlesticks beside it are "
    "labelled; were it the end, our rows would be an hour late, never early"
)
_180: Final = (
    "a third party was refused beyond 180 days on 2026-09-04 ('from time exceeds 180-day limit') and on 2026-09-12 (contract_stats)"
)
_POINTS: Final = (
    "'Candlestick too long ago. Maximum 10000 points ago are allowed': third parties in 2025 and 2026; "
    "one was served 9998 h of spot bars, another about 416 days of these"
)
_SIZES: Final = "Gate document 'Contract': sizes are numbers of contracts, of quanto_multiplier base units each (PITFALLS A4)"

ENTRIES: Final[tuple[Entry, ...]] = (
    # --- contract_stats
    Entry("gate", _STATS, "label", "start", _LABEL),
    Entry("gate", _STATS, "period", HOUR, "the interval we ask for: 1h"),
    Entry("gate", _STATS, "lag", 5 * MINUTE, LAG_5),
    Entry("gate", _STATS, "history_depth", 180 * DAY, _180),
    Entry(
        "gate",
        _STATS,
        "oi_sides",
        2,
        "'Total open interest size': twice contracts.position_size, which counts longs; perp-md 0.5.3 doubles the one to get the other, and "
        "LiquidVision names Gate among venues that show both sides (PITFALLS A2)",
    ),
    Entry(
        "gate",
        _STATS,
        "native_unit",
        "contracts",
        f"{_SIZES}; in a client's example of 2026 open_interest_usd is size x mark of them to 1e-7",
    ),
    Entry(
        "gate",
        _STATS,
        "liquidation_sides",
        "position",
        "Gate document: long_liq_size is 'Long liquidation size (contracts)': the side of the position (PITFALLS D3)",
    ),
    Entry(
        "gate",
        _STATS,
        "completeness",
        "full",
        "the venue's own sum of a bucket; a throttle is documented of the stream alone. Not held against a tape: none is published",
    ),
    # --- funding
    Entry("gate", "funding_rate", "lag", MINUTE, LAG_1),
    Entry("gate", "funding_rate", "history_depth", 180 * DAY, _180),
    Entry(
        "gate",
        "funding_rate",
        "rate_scale",
        1.0,
        "a fraction: the document's example is 0.000157; recorded settlements of BTC and ETH of 2020..2023 have the median 0.0001 of Binance's "
        "4,290 at the same hours",
    ),
    Entry(
        "gate",
        "funding_rate",
        "settlement_hour",
        0,
        "all 8,580 recorded settlements of 2020-01..2023-12 lie at 00:00, 08:00 or 16:00 UTC (recordings: series/funding_settlements)",
    ),
    # --- bars
    Entry("gate", "candlesticks", "label", "start", "Gate document: t is the bar's start, as all its candlesticks"),
    Entry("gate", "premium_index", "label", "start", "Gate document: premium index candlesticks are labelled as the others"),
    *(Entry("gate", name, "period", HOUR, "the interval we ask for: 1h") for name in ("candlesticks", "premium_index")),
    *(Entry("gate", name, "lag", MINUTE, LAG_1) for name in ("candlesticks", "premium_index")),
    *(Entry("gate", name, "history_depth", timedelta(hours=9998), _POINTS) for name in ("candlesticks", "premium_index")),
    Entry("gate", "candlesticks", "native_unit", "contracts", f"{_SIZES}; v is the size volume, sum the volume in quote currency"),
    Entry("gate", "premium_index", "rate_scale", 1.0, "a fraction: the document's example bar is high 0.00023"),
    # --- snapshots
    *(
        Entry("gate", name, "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1")
        for name in ("contract", "contracts")
    ),
    Entry("gate", "contract", "oi_sides", 1, "Gate document 'Contract': position_size is the 'Current total long position size'"),
    Entry("gate", "contract", "native_unit", "contracts", _SIZES),
    Entry("gate", "contract", "rate_scale", 1.0, "as in the history of funding_rate, a fraction"),
)

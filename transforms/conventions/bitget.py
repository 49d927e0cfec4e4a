"""Bitget: USDT-margined futures by the v2 REST interface."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import LAG_1, LAG_5, MINUTE, Entry
from transforms.windows import HOUR

_DOCUMENT: Final = "https://www.bitget.com/api-doc/contract/market"
_NOW: Final = "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1"
_RATIOS: Final = ("account-long-short", "position-long-short")
_START: Final = (
    "documented answers of 5-minute rows: asked at 07:00:33 the first is 04:30, asked at 07:12:32 the first is 04:40; with 30 rows the newest "
    "are 06:55 and 07:05, the last buckets that were over, by their starts. Were the stamp the end, 07:00 and 07:10 would be lacking. The later "
    "of the two readings is taken: it never looks ahead"
)
_NEWEST: Final = "the same answers reach back 30 rows, and the interface takes neither a range nor a page"

ENTRIES: Final[tuple[Entry, ...]] = (
    # --- snapshots
    *(Entry("bitget", name, "lag", MINUTE, _NOW) for name in ("contracts", "open-interest", "current-fund-rate", "symbol-price")),
    Entry(
        "bitget",
        "open-interest",
        "native_unit",
        "base",
        f"{_DOCUMENT}/Get-Open-Interest: size in the base coin; documented answers of BTCUSDT are 52234.134, 18166.3583 and 7452.6421 (PITFALLS A4)",
    ),
    Entry(
        "bitget",
        "open-interest",
        "oi_sides",
        1,
        f"NOT STATED by {_DOCUMENT}/Get-Open-Interest ('total open interest of the pair'), and no second source was found; lists of two-sided "
        "venues name Bybit, Gate and HTX (PITFALLS A1, A2) and leave Bitget out. Taken as one-sided, as served. If that is wrong, this venue's "
        "coins are twice too high and its weight with them; its links ln(q_t / q_t-1) are right all the same",
    ),
    Entry(
        "bitget",
        "current-fund-rate",
        "rate_scale",
        1.0,
        f"a fraction: {_DOCUMENT}/Get-Current-Funding-Rate shows -0.000013 between minFundingRate -0.003 and maxFundingRate 0.003",
    ),
    Entry(
        "bitget",
        "current-fund-rate",
        "funding_kind",
        "quote",
        f"{_DOCUMENT}/Get-Current-Funding-Rate: the running interval's rate, paid at nextUpdate at the earliest (PITFALLS C7)",
    ),
    # --- settled funding
    Entry("bitget", "history-fund-rate", "lag", MINUTE, LAG_1),
    Entry("bitget", "history-fund-rate", "rate_scale", 1.0, "a fraction, as current-fund-rate: documented example -0.0003"),
    Entry("bitget", "history-fund-rate", "funding_kind", "settlement", f"{_DOCUMENT}/Get-History-Funding-Rate: settled at fundingTime"),
    # --- ratios
    *(Entry("bitget", name, "label", "start", _START) for name in _RATIOS),
    *(Entry("bitget", name, "period", HOUR, "the period we ask for: 1h") for name in _RATIOS),
    *(Entry("bitget", name, "lag", 5 * MINUTE, LAG_5) for name in _RATIOS),
    *(Entry("bitget", name, "history_depth", timedelta(hours=30), _NEWEST) for name in _RATIOS),
    Entry(
        "bitget",
        "account-long-short",
        "ratio_metric",
        "global_account",
        "https://www.bitget.com/api-doc/common/apidata/Account-Long-Short: shares of accounts, no group of them named (PITFALLS E1)",
    ),
    Entry(
        "bitget",
        "position-long-short",
        "ratio_metric",
        "top_position",
        "https://www.bitget.com/api-doc/common/apidata/Position-Long-Short: shares of positions. Over all traders they are equal, and the "
        "documented .5061 to .4939 are not: they are a group's. That the group is the largest traders, as elsewhere, is NOT STATED (PITFALLS E1)",
    ),
    # --- bars
    Entry("bitget", "history-candles", "label", "start", f"{_DOCUMENT}/Get-History-Candle-Data: element 0 is the bar's own time, its open"),
    Entry("bitget", "history-candles", "period", HOUR, "the granularity we ask for: 1H"),
    Entry("bitget", "history-candles", "lag", MINUTE, LAG_1),
    Entry(
        "bitget",
        "history-candles",
        "native_unit",
        "base",
        f"{_DOCUMENT}/Get-History-Candle-Data: element 5 in the base coin, 6 in the quote",
    ),
)

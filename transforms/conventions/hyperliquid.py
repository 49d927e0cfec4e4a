"""Hyperliquid: perpetuals of the venue's own dex."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import LAG_1, MINUTE, Entry
from transforms.windows import HOUR, utc

_DOCUMENT: Final = "https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint"
_NOW: Final = "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1"
_FRACTION: Final = (
    "a fraction per interval: recorded rates and premiums of 2024-01-01..2025-07-31 obey (P + clamp(1e-4 - P, -5e-4, 5e-4)) / 8 to 5e-11 on "
    "all 19,384 rows, 1e-4 being the documented interest of 0.01 % per 8 h"
)

ENTRIES: Final[tuple[Entry, ...]] = (
    # --- snapshots
    Entry("hyperliquid", "meta", "lag", MINUTE, _NOW),
    Entry(
        "hyperliquid",
        "meta",
        "instrument_status",
        "TRADING",
        f"{_DOCUMENT}/perpetuals: no status word; a coin of the universe trades unless isDelisted is true",
    ),
    Entry("hyperliquid", "metaAndAssetCtxs", "lag", MINUTE, _NOW),
    Entry(
        "hyperliquid",
        "metaAndAssetCtxs",
        "native_unit",
        "base",
        "recorded contexts: openInterest of BTC is 27353.17682, dayBaseVlm 19707.77457 at a mark of 77562 (PITFALLS A4)",
    ),
    Entry(
        "hyperliquid",
        "metaAndAssetCtxs",
        "oi_sides",
        1,
        "CONTRADICTED (PITFALLS A3). One-sided: https://docs.nexus.xyz/api-reference/statistics/fetch-open-interest ('the one-sided figure "
        "reference venues such as Hyperliquid and dYdX headline') and Bitquery. Two-sided: openinteresthistory in "
        "https://docs.hydromancer.xyz and a reply of @BinanceFutures of 2025-07. The venue's own document does not say. Taken as one-sided, as "
        "served. If that is wrong, this venue's coins and USD are twice too high, its links ln(q_t / q_t-1) are right all the same, and its "
        "weight among seven recorded venues on 2026-03-07 falls from 13 % to 7 % for BTC (tests/unit/test_hyperliquid_recorded.py)",
    ),
    Entry("hyperliquid", "metaAndAssetCtxs", "rate_scale", 1.0, f"funding and premium as in fundingHistory: {_FRACTION}"),
    Entry(
        "hyperliquid",
        "metaAndAssetCtxs",
        "funding_kind",
        "quote",
        f"{_DOCUMENT}/perpetuals: 'current funding', the running hour's; what was paid is in fundingHistory (PITFALLS C3, C7)",
    ),
    Entry(
        "hyperliquid",
        "metaAndAssetCtxs",
        "funding_interval_h",
        1.0,
        "paid every hour: recorded settlements of 2024-01-01..2026-08-22 lie one hour apart (PITFALLS C2)",
        utc("2024-01-01"),
    ),
    Entry(
        "hyperliquid",
        "metaAndAssetCtxs",
        "funding_interval_h",
        None,
        "as fundingHistory: before the first recorded hourly row nobody can say",
    ),
    # --- settled funding
    Entry("hyperliquid", "fundingHistory", "lag", MINUTE, LAG_1),
    Entry("hyperliquid", "fundingHistory", "rate_scale", 1.0, _FRACTION),
    Entry("hyperliquid", "fundingHistory", "funding_kind", "settlement", f"{_DOCUMENT}/perpetuals: historical funding rates, as paid"),
    Entry(
        "hyperliquid",
        "fundingHistory",
        "funding_interval_h",
        None,
        "METHODOLOGY 12: rows of 2023-05 lie 8 h apart, the documented example of 2023-05-12T00:00Z among them; when that changed to one hour "
        "was not found, so before the first recorded hourly row nobody can say",
    ),
    Entry(
        "hyperliquid",
        "fundingHistory",
        "funding_interval_h",
        1.0,
        "paid every hour, annualise by 8760 (PITFALLS C2): recorded settlements from 2024-01-01T00:00Z on lie one hour apart",
        utc("2024-01-01"),
    ),
    # --- bars
    Entry(
        "hyperliquid",
        "candleSnapshot",
        "label",
        "start",
        f"{_DOCUMENT}: t is the open, T the last millisecond; the example's are 15 min apart",
    ),
    Entry("hyperliquid", "candleSnapshot", "period", HOUR, "the interval we ask for: 1h"),
    Entry("hyperliquid", "candleSnapshot", "lag", MINUTE, LAG_1),
    Entry(
        "hyperliquid",
        "candleSnapshot",
        "native_unit",
        "base",
        "documented example: v 3495670.8399999999 of HYPE at 34.9 in one day of 2025-12",
    ),
    Entry(
        "hyperliquid",
        "candleSnapshot",
        "history_depth",
        timedelta(hours=5000),
        f"{_DOCUMENT}: 'Only the most recent 5000 candles are available'; recorded hourly series end after exactly 1000 (recordings, README)",
    ),
)

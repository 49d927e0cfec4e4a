"""Coinalyze: daily bars of Binance contracts."""

from __future__ import annotations

from typing import Final

from transforms.conventions.entry import DAWN, LAG_5, MINUTE, Entry
from transforms.windows import DAY, utc

_BARS: Final = ("open-interest-history", "funding-rate-history", "long-short-ratio-history", "liquidation-history", "ohlcv-history")
_COINALYZE: Final = "Coinalyze API document: history[].t is the start of the interval, in seconds"
_EIGHT: Final = "recorded settlements lie 8 h apart without exception (recordings: series/funding_settlements)"

ENTRIES: Final[tuple[Entry, ...]] = (
    *(Entry("coinalyze", name, "label", "start", _COINALYZE) for name in _BARS),
    *(Entry("coinalyze", name, "period", DAY, "the interval we ask for: daily") for name in _BARS),
    Entry("coinalyze", "future-markets", "lag", MINUTE, "a snapshot is known when it was taken"),
    Entry(
        "coinalyze",
        "future-markets",
        "instrument_status",
        "TRADING",
        "Coinalyze API document 'Supported future markets': no status field, a market that is listed is served",
    ),
    Entry("coinalyze", "ohlcv-history", "lag", MINUTE, "METHODOLOGY 5.1: klines 60 s after the bar's close"),
    Entry("coinalyze", "funding-rate-history", "lag", MINUTE, "METHODOLOGY 5.1: settled funding 60 s"),
    *(Entry("coinalyze", name, "lag", 5 * MINUTE, LAG_5) for name in (_BARS[0], _BARS[2], _BARS[3])),
    Entry(
        "coinalyze",
        "open-interest-history",
        "oi_sides",
        1,
        "with convert_to_usd=false Binance's figure is passed on as served, one-sided in base units: a third party measured 0.9998 of "
        "Binance's own "
        "(10th to 90th percentile within 0.6 %) on 2026-09-03; market field oi_lq_vol_denominated_in = BASE_ASSET",
    ),
    Entry("coinalyze", "open-interest-history", "native_unit", "base", "oi_lq_vol_denominated_in = BASE_ASSET and convert_to_usd=false"),
    Entry("coinalyze", "liquidation-history", "native_unit", "base", "oi_lq_vol_denominated_in = BASE_ASSET and convert_to_usd=false"),
    Entry("coinalyze", "ohlcv-history", "native_unit", "base", "oi_lq_vol_denominated_in = BASE_ASSET"),
    Entry(
        "coinalyze",
        "funding-rate-history",
        "rate_scale",
        0.01,
        "served in percent: ratio to Binance's own fundingRate exactly 100 (a third party's measurement of 2026-09-03; recordings README)",
    ),
    Entry(
        "coinalyze",
        "funding-rate-history",
        "funding_interval_h",
        8.0,
        "Binance's standard interval; the earliest updateTime in the recorded fundingInfo is 2023-09-28; recordings name the column 8h",
    ),
    Entry(
        "coinalyze",
        "funding-rate-history",
        "funding_interval_h",
        None,
        "from here on Binance sets 4 h and shorter for single contracts (recorded fundingInfo, PITFALLS C1); Coinalyze does not say which",
        utc("2023-09-28"),
    ),
    *(Entry("coinalyze", "funding-rate-history", "funding_interval_h", 8.0, _EIGHT, DAWN, f"{base}USDT_PERP.A") for base in ("BTC", "ETH")),
    *(
        Entry("coinalyze", "funding-rate-history", "funding_interval_h", 8.0, _EIGHT, utc("2026-01-01"), f"{base}USDT_PERP.A")
        for base in ("SOL", "BNB", "XRP", "DOGE")
    ),
    Entry("coinalyze", "long-short-ratio-history", "share_scale", 0.01, "l and s are percent and add up to 100; r = l / s"),
    Entry(
        "coinalyze",
        "long-short-ratio-history",
        "ratio_metric",
        "global_account",
        "equals Binance's globalLongShortAccountRatio: no difference over 179 points (a third party's measurement of 2026-09-03)",
    ),
    Entry(
        "coinalyze",
        "liquidation-history",
        "liquidation_sides",
        "position",
        "Coinalyze API document: l = liquidated longs, s = liquidated shorts (side of the position, not of the order; PITFALLS D3)",
    ),
    Entry(
        "coinalyze",
        "liquidation-history",
        "completeness",
        "floor",
        "Binance streams at most one liquidation per symbol and second, so every collector holds a lower bound (PITFALLS D1)",
    ),
)

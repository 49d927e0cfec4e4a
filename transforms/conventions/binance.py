"""Binance: USD-M REST and archive."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import LAG_1, LAG_5, MINUTE, Entry
from transforms.windows import utc

_FUTURES_DATA: Final = (
    "openInterestHist",
    "globalLongShortAccountRatio",
    "topLongShortAccountRatio",
    "topLongShortPositionRatio",
    "takerlongshortRatio",
)
_REST_LABEL: Final = (
    "Binance USD-M document 'Open Interest Statistics' and its siblings: timestamp is the end time of the period; the recorded snapshots "
    "of 2026-04-28..05-27 agree: value over quantity is the price at the stamp"
)
_ONE_SIDED: Final = (
    "Binance document 'Open Interest': contracts outstanding, one side; aggregates that show it beside two-sided venues halve those, "
    "not Binance (PITFALLS A1, A2)"
)
_BASE: Final = "Binance document: USD-M quantities are in the base asset; recorded openInterest of BTCUSDT is 83782.317 (PITFALLS A4)"

ENTRIES: Final[tuple[Entry, ...]] = (
    # --- binance, REST histories
    *(Entry("binance", name, "label", "end", _REST_LABEL) for name in _FUTURES_DATA[:4]),
    Entry(
        "binance",
        "takerlongshortRatio",
        "label",
        "start",
        "measured, against the document: recorded BTCUSDT imbalance of 2026-04-28..05-27 correlates .53 with the return of the 15 min "
        "after the stamp and .03 with the 15 min before it",
    ),
    *(Entry("binance", name, "period", timedelta(minutes=15), "the period we ask for; 15m of 5m..1d") for name in _FUTURES_DATA),
    *(Entry("binance", name, "lag", 5 * MINUTE, LAG_5) for name in _FUTURES_DATA),
    Entry("binance", "openInterestHist", "oi_sides", 1, _ONE_SIDED),
    Entry("binance", "openInterestHist", "native_unit", "base", _BASE),
    Entry(
        "binance", "takerlongshortRatio", "native_unit", "base", "Binance document 'Taker Buy/Sell Volume': buyVol, sellVol in base asset"
    ),
    Entry("binance", "klines", "label", "start", "Binance document 'Kline Data': element 0 is the open time, element 6 the close time"),
    Entry("binance", "klines", "period", timedelta(hours=1), "the interval we ask for: 1h"),
    Entry("binance", "klines", "lag", MINUTE, LAG_1),
    Entry("binance", "klines", "native_unit", "base", "Binance document 'Kline Data': element 5 is the volume in the base asset"),
    Entry(
        "binance",
        "premiumIndexKlines",
        "label",
        "start",
        "Binance document 'Premium Index Kline Data': element 0 is the open time, element 6 the close time",
    ),
    Entry("binance", "premiumIndexKlines", "period", timedelta(hours=1), "the interval we ask for: 1h"),
    Entry("binance", "premiumIndexKlines", "lag", MINUTE, "bars as in METHODOLOGY 5.1: klines, 60 s after the close"),
    Entry(
        "binance",
        "premiumIndexKlines",
        "rate_scale",
        1.0,
        "a fraction: the document's example closes at -0.00043659, and its premium index is (impact price - index) / index; settled funding "
        "of 0.0001 is 0.01 % in the same account",
    ),
    Entry("binance", "fundingRate", "lag", MINUTE, LAG_1),
    Entry(
        "binance", "fundingRate", "rate_scale", 1.0, "Binance document: 0.00010000 is 0.01 %; recorded values agree to 1e-8 across venues"
    ),
    # --- binance, snapshots
    *(
        Entry("binance", name, "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1")
        for name in ("openInterest", "premiumIndex", "fundingInfo", "exchangeInfo")
    ),
    Entry("binance", "openInterest", "oi_sides", 1, _ONE_SIDED),
    Entry("binance", "openInterest", "native_unit", "base", _BASE),
    Entry("binance", "premiumIndex", "rate_scale", 1.0, "Binance document 'Mark Price': lastFundingRate as fundingRate, a fraction"),
    Entry("binance", "fundingInfo", "rate_scale", 1.0, "Binance document: adjustedFundingRateCap 0.02500000 is 2.5 %"),
    # --- binance, archive
    Entry(
        "binance",
        "archiveMetrics",
        "label",
        "end",
        "binance-public-data issue 491: daily files hold 00:05..00:00 next day, stock columns at T are the snapshot at T (PITFALLS B1)",
    ),
    Entry(
        "binance",
        "archiveMetrics",
        "label",
        "start",
        "binance-public-data issue 491: from the file of 2026-06-25 on 00:00..23:55, stock columns at T are the snapshot at T + 5 min",
        utc("2026-06-25"),
    ),
    Entry("binance", "archiveMetrics", "period", timedelta(minutes=5), "binance-public-data issue 491: 288 rows a day"),
    Entry("binance", "archiveMetrics", "lag", 5 * MINUTE, "METHODOLOGY 5.1: rows as REST would have shown them, 5 min"),
    Entry("binance", "archiveMetrics", "oi_sides", 1, _ONE_SIDED),
    Entry(
        "binance", "archiveMetrics", "native_unit", "base", "sum_open_interest agrees with openInterestHist (binance-public-data 211, 491)"
    ),
    Entry("binance", "archiveMetrics", "history_since", utc("2020-09-01"), "SOURCES: BTC from 2020-09"),
    Entry("binance", "archiveFundingRate", "lag", MINUTE, LAG_1),
    Entry("binance", "archiveFundingRate", "rate_scale", 1.0, "last_funding_rate equals fundingRate of REST, a fraction"),
)

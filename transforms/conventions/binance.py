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
_COIN_DATA: Final = (
    "coinOpenInterestHist",
    "coinGlobalLongShortAccountRatio",
    "coinTopLongShortAccountRatio",
    "coinTopLongShortPositionRatio",
    "coinTakerBuySellVol",
)
_CONTRACTS: Final = (
    "Binance COIN-M document: quantities are contracts; recorded openInterest of BTCUSD_PERP is 6784657, as coins a third of all there are "
    "(PITFALLS A4)"
)

#: COIN-M, host dapi
_COIN: Final[tuple[Entry, ...]] = (
    *(
        Entry(
            "binance",
            name,
            "label",
            "end",
            "as its USD-M sibling, which the document describes in the same words: snapshots at their stamp; recorded COIN-M answers alone "
            "cannot decide it",
        )
        for name in _COIN_DATA[:4]
    ),
    Entry(
        "binance",
        "coinTakerBuySellVol",
        "label",
        "start",
        "as takerlongshortRatio of the same service, measured there against the document; recorded COIN-M answers alone cannot decide it",
    ),
    *(
        Entry(
            "binance",
            name,
            "ratio_metric",
            metric,
            f"Binance COIN-M document '{title}', asked by pair: it counts the pair's perpetual and dated contracts together and no endpoint tells "
            "them apart; the rows stand under the perpetual",
        )
        for name, metric, title in (
            ("coinGlobalLongShortAccountRatio", "global_account", "Long/Short Ratio"),
            ("coinTopLongShortAccountRatio", "top_account", "Top Trader Long/Short Ratio (Accounts)"),
            ("coinTopLongShortPositionRatio", "top_position", "Top Trader Long/Short Ratio (Positions)"),
        )
    ),
    *(Entry("binance", name, "period", timedelta(hours=1), "the period we ask for: 1h of 5m..1d") for name in _COIN_DATA),
    *(Entry("binance", name, "lag", 5 * MINUTE, LAG_5) for name in _COIN_DATA),
    Entry("binance", "coinOpenInterestHist", "oi_sides", 1, _ONE_SIDED),
    Entry(
        "binance",
        "coinOpenInterestHist",
        "native_unit",
        "contracts",
        "recorded BTCUSD of 2020-10-18: 284391 contracts of 100 USD beside a value of 2451.46, which is coins: 11,601 USD each. The document's "
        "example (20403 beside 176196512.234) would be neither coins nor USD; the recorded answer is followed (PITFALLS A4, A5)",
    ),
    Entry(
        "binance",
        "coinTakerBuySellVol",
        "native_unit",
        "contracts",
        "recorded BTCUSD of 2020-10-18: takerBuyVol 2286 contracts of 100 USD, takerBuyVolValue 19.9173 coins: 11,477 USD each",
    ),
    *(
        Entry(
            "binance",
            name,
            "label",
            "start",
            "Binance COIN-M document 'Kline Data' and 'Premium Index Kline Data': element 0 is the open time, element 6 the close time",
        )
        for name in ("coinKlines", "coinPremiumIndexKlines")
    ),
    *(
        Entry("binance", name, "period", timedelta(hours=1), "the interval we ask for: 1h")
        for name in ("coinKlines", "coinPremiumIndexKlines")
    ),
    *(Entry("binance", name, "lag", MINUTE, LAG_1) for name in ("coinKlines", "coinPremiumIndexKlines", "coinFundingRate")),
    Entry(
        "binance",
        "coinKlines",
        "native_unit",
        "contracts",
        "Binance COIN-M document 'Kline Data': elements 5 and 9 count contracts, 7 and 10 are base asset volumes; recorded BTCUSD_PERP of "
        "2023-01-01: 2067959 contracts of 100 USD beside 12496.62852978 coins: 16,548 USD each, inside the bar",
    ),
    Entry("binance", "coinPremiumIndexKlines", "rate_scale", 1.0, "as premiumIndexKlines: the document's example closes at -0.00043659"),
    Entry("binance", "coinFundingRate", "rate_scale", 1.0, "recorded rates of BTCUSD_PERP: 0.00010000 in most, 0.01 % per 8 h"),
    *(
        Entry("binance", name, "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1")
        for name in ("coinOpenInterest", "coinPremiumIndex", "coinExchangeInfo")
    ),
    Entry("binance", "coinOpenInterest", "oi_sides", 1, _ONE_SIDED),
    Entry("binance", "coinOpenInterest", "native_unit", "contracts", _CONTRACTS),
    Entry(
        "binance", "coinPremiumIndex", "rate_scale", 1.0, "Binance COIN-M document 'Index Price and Mark Price': as fundingRate, a fraction"
    ),
)

ENTRIES: Final[tuple[Entry, ...]] = (
    *_COIN,
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
    Entry(
        "binance",
        "fundingRate",
        "settlement_hour",
        0,
        "all 17,740 recorded settlements of 2019-09..2026-08 lie at 00:00, 08:00 or 16:00 UTC (recordings: series/funding_settlements). "
        "Contracts that pay every 4 h or oftener are not among them",
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
    Entry("binance", "archiveChecksums", "lag", MINUTE, "a checksum is known when it was seen; 60 s for its way"),
)

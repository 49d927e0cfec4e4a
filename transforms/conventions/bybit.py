"""Bybit: v5 public REST. Linear and inverse contracts are different datasets where their numbers mean different things."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import DAWN, LAG_1, LAG_5, MINUTE, Entry
from transforms.windows import utc

_INTEREST: Final = ("open-interest", "inverse-open-interest")
_BARS: Final = ("kline", "inverse-kline", "premium-index-price-kline")
_SINGLE_SINCE: Final = utc("2026-06-11")
_BOTH_SIDES: Final = (
    "Bybit document 'Get Open Interest': openInterest is the sum of both sides. An older text of the page says 'single side data'; numbers decide: "
    "recorded BTCUSDT of 2026-05-20 is 51,430 where an answer of 2026-09-15, quoted by a third party, states 52,664.642 beside "
    "singleOpenInterest 26,332.321 (PITFALLS A1)"
)
_STILL_BOTH: Final = (
    "Bybit changelog 2026-06-11 adds singleOpenInterest and leaves openInterest as it was; what halved that day is the venue's own display "
    "(PITFALLS A1). A quoted answer of 2026-09-15 has 52,664.642 beside singleOpenInterest 26,332.321, one of 2026-08-13 59,972.256 and 29,986.128"
)
_BAR_LABEL: Final = "Bybit document 'Get Kline': list[0] is the start time of the candle"

ENTRIES: Final[tuple[Entry, ...]] = (
    # --- open interest
    *(
        Entry(
            "bybit",
            name,
            "label",
            "end",
            "measured on recorded quarter hours of 2026-05-20..06-07: the change of open interest that arrives at a stamp goes with the "
            "volume of the 15 min before it (correlation .60 BTC, .61 ETH), not with those after it (.33, .40): a snapshot at its stamp",
        )
        for name in _INTEREST
    ),
    *(Entry("bybit", name, "period", timedelta(hours=1), "the interval we ask for: 1h of 5min..1d") for name in _INTEREST),
    *(Entry("bybit", name, "lag", 5 * MINUTE, LAG_5) for name in _INTEREST),
    *(Entry("bybit", name, "oi_sides", 2, _BOTH_SIDES) for name in _INTEREST),
    *(Entry("bybit", name, "oi_sides", 2, _STILL_BOTH, _SINGLE_SINCE) for name in _INTEREST),
    *(
        Entry("bybit", name, "single_oi_tolerance", None, "before this date the venue states no one-sided figure to compare with", DAWN)
        for name in _INTEREST
    ),
    *(
        Entry(
            "bybit",
            name,
            "single_oi_tolerance",
            1e-3,
            "Bybit changelog 2026-06-11: singleOpenInterest. "
            "Quoted pairs are exactly 2 to 1 in coins and to 2e-8 in value; a thousandth leaves room for whole "
            "contracts of small markets, and is far from the factor 2 of a redefined field",
            _SINGLE_SINCE,
        )
        for name in _INTEREST
    ),
    Entry("bybit", "open-interest", "native_unit", "base", "Bybit document 'Get Open Interest': the unit of BTCUSDT (linear) is BTC"),
    Entry(
        "bybit", "inverse-open-interest", "native_unit", "usd", "Bybit document 'Get Open Interest': the unit of BTCUSD (inverse) is USD"
    ),
    # --- long/short
    Entry(
        "bybit",
        "account-ratio",
        "label",
        "end",
        "measured on recorded quarter hours of 2026-05-20..05-27: its changes go with those of Binance's globalLongShortAccountRatio, "
        "stamped at the end, at the same stamp (correlation .44 BTC, .37 ETH; .22 and less one stamp off)",
    ),
    Entry("bybit", "account-ratio", "period", timedelta(hours=1), "the period we ask for: 1h of 5min..1d"),
    Entry("bybit", "account-ratio", "lag", 5 * MINUTE, LAG_5),
    Entry(
        "bybit",
        "account-ratio",
        "ratio_metric",
        "global_account",
        "Bybit document 'Get Long Short Ratio': buyRatio is the ratio of users with a net long position, heads of all accounts (PITFALLS E1)",
    ),
    Entry("bybit", "account-ratio", "share_scale", 1.0, "Bybit document: buyRatio 0.5777 and sellRatio 0.4223 add up to 1"),
    Entry("bybit", "account-ratio", "history_since", utc("2020-07-20"), "SOURCES: Bybit document, data since 2020-07-20"),
    # --- bars
    *(Entry("bybit", name, "label", "start", _BAR_LABEL) for name in _BARS),
    *(Entry("bybit", name, "period", timedelta(hours=1), "the interval we ask for: 60 minutes") for name in _BARS),
    *(Entry("bybit", name, "lag", MINUTE, LAG_1) for name in _BARS),
    Entry(
        "bybit",
        "kline",
        "native_unit",
        "base",
        "Bybit document 'Get Kline': volume of USDT contracts is in the base coin, turnover in the quote coin; recorded turnover over volume "
        "of BTCUSDT is its price",
    ),
    Entry(
        "bybit",
        "inverse-kline",
        "native_unit",
        "usd",
        "Bybit document 'Get Kline': volume of inverse contracts is in USD, turnover in the base coin: example 268,611 beside 15.74462667",
    ),
    Entry(
        "bybit",
        "premium-index-price-kline",
        "rate_scale",
        1.0,
        "a fraction: Bybit document 'Get Premium Index Price Kline' closes at -0.000344, beside settled funding of 0.0001",
    ),
    # --- funding
    Entry("bybit", "funding-history", "lag", MINUTE, LAG_1),
    Entry(
        "bybit",
        "funding-history",
        "rate_scale",
        1.0,
        "Bybit document 'Get Funding Rate History': 0.0001 is 0.01 %; recorded values agree across venues to 1e-8 (recordings README)",
    ),
    Entry(
        "bybit",
        "funding-history",
        "settlement_hour",
        0,
        "all 11,168 recorded settlements of 2021-01..2026-08 lie at 00:00, 08:00 or 16:00 UTC (recordings: series/funding_settlements)",
    ),
    Entry("bybit", "funding-history", "funding_kind", "settlement", "Bybit document: the rate that was settled at fundingRateTimestamp"),
    # --- snapshots
    *(
        Entry("bybit", name, "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1")
        for name in ("tickers", "instruments-info")
    ),
    Entry("bybit", "tickers", "rate_scale", 1.0, "Bybit document 'Get Tickers': fundingRate as in its history, a fraction"),
    Entry(
        "bybit",
        "tickers",
        "funding_kind",
        "quote",
        "Bybit document 'Get Tickers': the rate displayed for nextFundingTime moves until it is settled (PITFALLS C7)",
    ),
    Entry(
        "bybit",
        "instruments-info",
        "contract_size",
        1.0,
        "no contract size is listed: quantities of linear contracts are base coins, of inverse contracts USD, one by one "
        "(Bybit document 'Get Instruments Info': qtyStep)",
    ),
)

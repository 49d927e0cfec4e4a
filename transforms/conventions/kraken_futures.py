"""Kraken Futures: linear perpetuals (PF_) and inverse ones (PI_)."""

from __future__ import annotations

from typing import Final

from transforms.conventions.entry import DAWN, LAG_1, LAG_5, MINUTE, Entry
from transforms.windows import HOUR, utc

_ANALYTICS: Final = ("open-interest", "open-interest-inverse", "long-short-info", "top-traders", "cvd")
_INTEREST: Final = ("open-interest", "tickers")
_BUCKETS: Final = (
    "Kraken document 'Market Analytics': data divided into time buckets; a third party's capture of PF_XBTUSD of 2026-10: each bucket opens at "
    "the close of the one before it, and a client library reads the stamps as starts"
)
_SIDED: Final = (
    "Kraken document: openInterest is the current open interest of the contract; nobody who halves two-sided venues names Kraken "
    "(PITFALLS A2: Gate, HTX, Bybit), and the open interest of its largest fifth of traders stays below the total"
)
_LINEAR: Final = "contractSize 1 of the base; positions have decimals of it (contractValueTradePrecision 3 of PF_ETHUSD)"
_INVERSE: Final = "contractSize 1 USD: recorded openInterest 21,279,580 of PI_XBTUSD is whole, and no amount of bitcoin"

ENTRIES: Final[tuple[Entry, ...]] = (
    # --- analytics
    *(Entry("kraken_futures", name, "label", "start", _BUCKETS) for name in _ANALYTICS),
    *(Entry("kraken_futures", name, "period", HOUR, "the interval we ask for: 3600 s") for name in _ANALYTICS),
    *(Entry("kraken_futures", name, "lag", 5 * MINUTE, LAG_5) for name in _ANALYTICS),
    *(
        Entry(
            "kraken_futures", name, "history_since", utc("2023-02-16"), "the document's example asks from here on; older is not confirmed"
        )
        for name in _ANALYTICS
    ),
    *(Entry("kraken_futures", f"{name}{kind}", "oi_sides", 1, _SIDED) for name in _INTEREST for kind in ("", "-inverse")),
    *(Entry("kraken_futures", name, "native_unit", "base", _LINEAR) for name in _INTEREST),
    *(Entry("kraken_futures", f"{name}-inverse", "native_unit", "usd", _INVERSE) for name in _INTEREST),
    Entry("kraken_futures", "cvd", "native_unit", "base", f"buy and sell volumes add up to trade-volume, which is in contracts; {_LINEAR}"),
    Entry(
        "kraken_futures",
        "long-short-info",
        "ratio_metric",
        "global_account",
        "longCount and shortCount are heads, longPercent their share: 3663 and 1829 with 66.69 in a client library's capture, whose `ratio` "
        "of 0.66 is that share again, not longs over shorts (PITFALLS E1)",
    ),
    Entry(
        "kraken_futures",
        "top-traders",
        "ratio_metric",
        "top_account",
        "top20Percent: heads among the traders with the largest positions, 683 and 415 where all are 3663 and 1829 (PITFALLS E1)",
    ),
    # --- bars
    Entry("kraken_futures", "candles", "label", "start", "recorded candles: each opens at its stamp, at the close of the one before it"),
    Entry("kraken_futures", "candles", "period", HOUR, "the resolution we ask for: 1h"),
    Entry("kraken_futures", "candles", "lag", MINUTE, LAG_1),
    Entry("kraken_futures", "candles", "native_unit", "base", f"volume counts contracts; {_LINEAR}"),
    Entry("kraken_futures", "candles", "history_since", DAWN, "from the contract's opening, which the listing states"),
    # --- funding
    Entry(
        "kraken_futures",
        "historicalfundingrates",
        "label",
        "start",
        "Kraken document: 'the date and time of the period to which the funding rate applies', not which end. Read as the start: were it the "
        "end, our rows would be an hour late, never early",
    ),
    Entry("kraken_futures", "historicalfundingrates", "period", HOUR, "a rate an hour (fundingRateCoefficient 24: a day's premium in 24)"),
    Entry("kraken_futures", "historicalfundingrates", "lag", MINUTE, LAG_1),
    Entry(
        "kraken_futures",
        "historicalfundingrates",
        "rate_scale",
        1.0,
        "relativeFundingRate is a fraction of the position's value; fundingRate is money per contract (PITFALLS C6)",
    ),
    Entry(
        "kraken_futures",
        "historicalfundingrates",
        "funding_interval_h",
        1.0,
        "the venue's daily premium divided by its fundingRateCoefficient of 24; a third party was served 24 hourly stamps of funding a day in 2026",
    ),
    Entry(
        "kraken_futures",
        "historicalfundingrates",
        "history_since",
        utc("2023-01-01"),
        "the document's example of 2022-06-28 has periods of 4 h and does not say whether a rate is per hour or per period: not asked for",
    ),
    # --- snapshots
    *(
        Entry("kraken_futures", name, "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1")
        for name in ("instruments", "tickers", "tickers-inverse")
    ),
    Entry("kraken_futures", "instruments", "funding_interval_h", 1.0, "perpetuals settle hourly; the listing states no interval"),
)

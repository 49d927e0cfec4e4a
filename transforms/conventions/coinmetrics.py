"""Coin Metrics: daily asset metrics of the community API."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import Entry
from transforms.windows import DAY

_METRICS: Final = "asset-metrics"

ENTRIES: Final[tuple[Entry, ...]] = (
    Entry(
        "coinmetrics",
        _METRICS,
        "label",
        "start",
        "recorded captures: AssetEODCompletionTime lies 2.0 h or more after the END of the day its row is stamped with, on all 2,638 days of "
        "BTC; cumulated issue events of USDT up to the end of a day equal SplyCur of the row stamped with its start on all 945 days",
    ),
    Entry("coinmetrics", _METRICS, "period", DAY, "the frequency we ask for: 1d"),
    Entry(
        "coinmetrics",
        _METRICS,
        "lag",
        timedelta(hours=2),
        "a lower limit, for each row carries AssetEODCompletionTime, its own instant: recorded delays of BTC's last 1,800 days are 2.02 h at "
        "least, 4.2 h in the middle, 6.5 h at p95",
    ),
    *(
        Entry("coinmetrics", _METRICS, "native_unit", unit, evidence, instrument=metric)
        for metric, unit, evidence in (
            (
                "FlowInExUSD",
                "usd",
                "Coin Metrics document 'Exchange flows': USD value sent to exchanges that interval, transfers between them left out",
            ),
            ("FlowOutExUSD", "usd", "Coin Metrics document 'Exchange flows': USD value withdrawn from exchanges that interval"),
            (
                "SplyCur",
                "base",
                "Coin Metrics document 'Supply': all native units ever created and visible on the ledger at the end of the interval",
            ),
            ("PriceUSD", "usd", "Coin Metrics document 'Price': closing price at 00:00 UTC of the following day, in USD per native unit"),
        )
    ),
)

"""Deribit: option chains and DVOL."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import MINUTE, Entry
from transforms.windows import utc

ENTRIES: Final[tuple[Entry, ...]] = (
    Entry(
        "deribit",
        "get_book_summary_by_currency",
        "lag",
        MINUTE,
        "a snapshot is known when it was taken (METHODOLOGY 5.1: option chains are capture, live only); 60 s for its way",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency",
        "native_unit",
        "base",
        "Deribit document: open_interest of options is in coins of the base currency, of perpetuals and inverse futures in USD "
        "(METHODOLOGY 9.2.3, PITFALLS A4); recorded chains of 2026-04-27..05-29 add up to 348,000..419,000 for BTC",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency",
        "volatility_scale",
        0.01,
        "served in percent: recorded mark_iv of BTC options of 2025-06-14 lie between 22.09 and 140.5",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency",
        "expiry_time",
        timedelta(hours=8),
        "08:00 UTC of the date in the name: recorded expiration_timestamp 1779523200000 of BTC-23MAY26-68000-C, and all 54,660 recorded rows",
    ),
    Entry(
        "deribit",
        "get_volatility_index_data",
        "label",
        "start",
        "recorded captures of the newest daily point: of 94 taken within a day after its stamp 93 moved later, of 121 taken after that day "
        "one did, the invented vintage (recordings, defects): a point is final when the bar that begins at its stamp is over",
    ),
    Entry("deribit", "get_volatility_index_data", "period", timedelta(hours=1), "the resolution we ask for: 3600 s"),
    Entry("deribit", "get_volatility_index_data", "lag", MINUTE, "published every second; bars as klines in METHODOLOGY 5.1, 60 s"),
    Entry(
        "deribit",
        "get_volatility_index_data",
        "volatility_scale",
        0.01,
        "points are percent p.a.: recorded BTC closes lie between 32 and 114",
    ),
    Entry(
        "deribit",
        "get_volatility_index_data",
        "history_since",
        utc("2021-03-01"),
        "SOURCES: from launch in 2021-03, not verified to the day; stamps before the first count as missing",
    ),
)

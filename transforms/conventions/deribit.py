"""Deribit: option chains, DVOL and the inverse perpetuals."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import LAG_1, MINUTE, Entry
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
    # --- perpetuals
    Entry(
        "deribit",
        "get_funding_rate_history",
        "label",
        "end",
        "Deribit document, 'real example' of the method: asked from 2019-10-01T00:00 to 04:00 it answers 01:00, 02:00, 03:00 and 04:00, and "
        "prev_index_price of a row is index_price of the row before",
    ),
    Entry("deribit", "get_funding_rate_history", "period", timedelta(hours=1), "Deribit document: hourly historical interest rate"),
    Entry("deribit", "get_funding_rate_history", "lag", MINUTE, LAG_1),
    Entry("deribit", "get_funding_rate_history", "rate_scale", 1.0, "fraction: the document's example has interest_1h of -4.7e-7"),
    Entry(
        "deribit",
        "get_funding_rate_history",
        "funding_kind",
        "settlement",
        "interest_1h, what was paid over the hour; not interest_8h, a trailing sum whose hourly rows overlap (PITFALLS C3: adding such rows up "
        "overstates). Funding itself is paid continuously, the hour is the finest that is published",
    ),
    Entry("deribit", "get_funding_rate_history", "funding_interval_h", 1.0, "interest_1h covers one hour (PITFALLS C1, C2)"),
    Entry(
        "deribit",
        "get_funding_rate_history",
        "history_since",
        utc("2019-05-01"),
        "SOURCES: from launch; the document's example is of 2019-10, the first row was not looked up; stamps before it count as missing",
    ),
    Entry("deribit", "get_last_trades_by_instrument_and_time", "lag", MINUTE, "a trade is public when it happens; 60 s for its way"),
    Entry(
        "deribit",
        "get_last_trades_by_instrument_and_time",
        "native_unit",
        "usd",
        "Deribit document, field amount: for perpetuals and inverse futures in USD; a trade in a client library's fixtures has amount 20 "
        "beside 2 contracts of 10 USD",
    ),
    Entry(
        "deribit",
        "get_last_trades_by_instrument_and_time",
        "liquidation_sides",
        "order",
        "Deribit document, field liquidation: M when the maker side was under liquidation, T the taker side, MT both; direction is the taker's "
        "(PITFALLS D3: the position's side is what we store)",
    ),
    Entry(
        "deribit",
        "get_last_trades_by_instrument_and_time",
        "price_kind",
        "trade",
        "Deribit document, field price: of the trade itself, neither a bankruptcy price nor an average (PITFALLS D7)",
    ),
    Entry(
        "deribit",
        "get_last_trades_by_instrument_and_time",
        "completeness",
        "full",
        "the flag stands on the trades of the whole tape, which is paged to its end; the venue throttles nothing of it (against PITFALLS D1). "
        "get_last_settlements, which a client library calls liquidations, is bankruptcies and is not asked (PITFALLS D6)",
    ),
    Entry(
        "deribit",
        "get_last_trades_by_instrument_and_time",
        "history_depth",
        timedelta(days=3),
        "our choice: the venue keeps more, but a day of two perpetuals is hundreds of pages; what an hourly run looks back on plus a day",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency_future",
        "lag",
        MINUTE,
        "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency_future",
        "native_unit",
        "usd",
        "Deribit document: open_interest of perpetuals and inverse futures is in USD, of options in coins (PITFALLS A4); recorded BTC-PERPETUAL "
        "of 2026-05-22: 1012315080, as coins fifty times all there are",
    ),
    Entry(
        "deribit",
        "get_book_summary_by_currency_future",
        "oi_sides",
        1,
        "Deribit document: the total amount of outstanding contracts, so one side; no source says otherwise",
    ),
    Entry("deribit", "get_instruments", "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1"),
)

"""OKX: perpetual swaps by REST (v5), statistics of /rubik included."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import LAG_1, LAG_5, MINUTE, Entry

_RATIOS: Final = (
    "long-short-account-ratio-contract",
    "long-short-account-ratio-contract-top-trader",
    "long-short-position-ratio-contract-top-trader",
)
_RUBIK: Final = ("open-interest-history", *_RATIOS, "taker-volume-contract")
_HOUR: Final = timedelta(hours=1)
_START: Final = (
    "two independent public collectors read rubik stamps as period starts: the newest row keeps moving until its period is over (daily rows "
    "stand at 16:00 UTC, their value is the level at the close). Not in the document; of snapshots an end would look an hour ahead if "
    "this is right, a start is an hour late if it is wrong"
)
_DEPTH: Final = (
    "OKX document: the latest 1,440 entries of each period, 60 days of hours. A third party measured 94 hours in 2026-06 (one page) and "
    "another about five days of open interest in 2026-09 (PITFALLS A9); unproven by us: what does not come shows in coverage"
)
_ONE_SIDED: Final = (
    "OKX document 'Get open interest': total open interest; among the venues shown at twice the figure by aggregates are Bybit, Gate and HTX, "
    "not OKX (PITFALLS A2)"
)
_CONTRACTS: Final = (
    "OKX document: oi is in contracts, oiCcy in coins, oiUsd in USD (PITFALLS A4); a documented answer of 2022-09 has 2125419 contracts of "
    "0.01 BTC = 21254.19. How much a contract is, ctVal x ctMult, comes with the listing and is held against oiCcy in every row"
)

ENTRIES: Final[tuple[Entry, ...]] = (
    # --- histories of /rubik
    *(Entry("okx", name, "label", "start", _START) for name in _RUBIK),
    *(Entry("okx", name, "period", _HOUR, "the period we ask for: 1H") for name in _RUBIK),
    *(Entry("okx", name, "lag", 5 * MINUTE, LAG_5) for name in _RUBIK),
    *(Entry("okx", name, "history_depth", timedelta(days=60), _DEPTH) for name in _RUBIK),
    Entry("okx", "open-interest-history", "oi_sides", 1, _ONE_SIDED),
    Entry("okx", "open-interest-history", "native_unit", "contracts", _CONTRACTS),
    Entry(
        "okx",
        _RATIOS[0],
        "ratio_metric",
        "global_account",
        "OKX document 'Get contract long/short ratio': users with net long over users with net short positions",
    ),
    Entry(
        "okx",
        _RATIOS[1],
        "ratio_metric",
        "top_account",
        "OKX document 'Get top traders contract long/short ratio': accounts of the 5 % of users with the largest positions",
    ),
    Entry(
        "okx",
        _RATIOS[2],
        "ratio_metric",
        "top_position",
        "OKX document 'Get top traders contract long/short ratio (by position)': positions of the 5 % of users with the largest positions",
    ),
    Entry(
        "okx",
        "taker-volume-contract",
        "native_unit",
        "base",
        "OKX document 'Get contract taker volume': unit 0 is crypto, 1 contracts (the default), 2 U; we ask for 0. Rows are [ts, sellVol, buyVol]",
    ),
    # --- bars
    Entry("okx", "history-candles", "label", "start", "OKX document 'Get candlesticks history': ts is the opening time of the bar"),
    Entry("okx", "history-candles", "period", _HOUR, "the bar we ask for: 1H"),
    Entry("okx", "history-candles", "lag", MINUTE, LAG_1),
    Entry(
        "okx",
        "history-candles",
        "native_unit",
        "base",
        "OKX document: volCcy of derivatives is in the base currency; a documented bar of BTC-USD-SWAP has 628 contracts of 100 USD at 24323, "
        "volCcy 2.5819, volCcyQuote 62800",
    ),
    # --- funding
    Entry("okx", "funding-rate-history", "lag", MINUTE, LAG_1),
    Entry(
        "okx",
        "funding-rate-history",
        "settlement_hour",
        0,
        "READ, not recorded: documented fundingTime of 2021-10-15, 2023-11-23, 2023-12-20 and 2023-12-21 lie at 00:00, 08:00 or 16:00 UTC, and "
        "so do the two of a client's fixture of 2024-01-01",
    ),
    Entry(
        "okx",
        "funding-rate-history",
        "funding_kind",
        "settlement",
        "OKX document 'Get funding rate history': fundingRate is the predicted, realizedRate the actual rate; realizedRate is read",
    ),
    Entry(
        "okx",
        "funding-rate-history",
        "rate_scale",
        1.0,
        "a fraction: the document's example 0.0000746604960499 with maxFundingRate 0.00375 beside it in 'Get funding rate'",
    ),
    Entry(
        "okx",
        "funding-rate-history",
        "history_depth",
        timedelta(days=90),
        "OKX document: the last three months; a third party measured 94.3 days on 2026-06-25 (PITFALLS C4)",
    ),
    Entry("okx", "funding-rate", "rate_scale", 1.0, "OKX document 'Get funding rate': as fundingRate of the history, a fraction"),
    Entry(
        "okx",
        "funding-rate",
        "funding_kind",
        "quote",
        "OKX document 'Get funding rate': the rate to be settled at fundingTime, still ahead",
    ),
    # --- snapshots
    *(
        Entry("okx", name, "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1")
        for name in ("instruments", "open-interest", "funding-rate", "mark-price")
    ),
    Entry("okx", "open-interest", "oi_sides", 1, _ONE_SIDED),
    Entry("okx", "open-interest", "native_unit", "contracts", _CONTRACTS),
    # --- liquidations
    Entry("okx", "liquidation-orders", "lag", MINUTE, "listed as they happen; 60 s for their way, as bars in METHODOLOGY 5.1"),
    Entry(
        "okx",
        "liquidation-orders",
        "liquidation_sides",
        "position",
        "OKX document: posSide is the position's side, side the order's; a sold order closes a long, so the two must agree. "
        "The third word of the document, net, names no side: such an order is put aside",
    ),
    Entry("okx", "liquidation-orders", "price_kind", "bankruptcy", "OKX document: bkPx is the bankruptcy price (PITFALLS D7)"),
    Entry("okx", "liquidation-orders", "native_unit", "contracts", "OKX document: sz is the number of contracts of derivatives"),
    Entry(
        "okx",
        "liquidation-orders",
        "completeness",
        "floor",
        "OKX document of the channel of the same name: at most one order per contract and second, not all liquidations of the venue. "
        "Of the list by REST nothing better is said, so it counts as a floor",
    ),
    Entry("okx", "liquidation-orders", "throttle", timedelta(seconds=1), "OKX document of the channel: one order per contract and second"),
    Entry(
        "okx",
        "liquidation-orders",
        "history_depth",
        timedelta(days=1),
        "OKX document: the last day; older texts say seven (PITFALLS D11), a third party saw 14 hours of a small contract in 2026",
    ),
)

"""Every column of the house, declared once: name, type, unit, meaning and limits.

Tables (tables.py) only choose from here. The Arrow schema, the Great Expectations suite, the SQL DDL, the data dictionary and
the BI dataset are compiled from the two; none of them is written by hand. Same quantity and unit means same name everywhere.
"""

from __future__ import annotations

from typing import Final

from transforms.columns import (
    BANDS,
    COMPONENTS,
    CONTRACT_UNITS,
    FAMILIES,
    FUNDING_KINDS,
    INDICES,
    MARKETS,
    NATIVE_UNITS,
    OPTION_TYPES,
    PAYOFFS,
    RATIO_METRICS,
    REGIMES,
    RISK_STATES,
    SCHEMES,
    SETTLEMENTS,
    SIDES,
    SOURCES,
    STATUSES,
    TREATMENTS,
    VENUES,
    VINTAGES,
    Column,
    Kind,
)
from transforms.columns_index import INDEX_COLUMNS

__all__ = [
    "BANDS",
    "COMPONENTS",
    "CONTRACT_UNITS",
    "FAMILIES",
    "FUNDING_KINDS",
    "INDICES",
    "MARKETS",
    "NATIVE_UNITS",
    "OPTION_TYPES",
    "PAYOFFS",
    "RATIO_METRICS",
    "REGIMES",
    "RISK_STATES",
    "SCHEMES",
    "SETTLEMENTS",
    "SIDES",
    "SOURCES",
    "STATUSES",
    "TREATMENTS",
    "VENUES",
    "VINTAGES",
    "VOCABULARY",
    "Column",
    "Kind",
]


def _columns(*columns: Column) -> dict[str, Column]:
    named = {column.name: column for column in columns}
    if len(named) != len(columns):
        raise ValueError("a column is declared twice in the vocabulary")
    return named


VOCABULARY: Final[dict[str, Column]] = _columns(
    # who and when
    Column("source", "string", "", "who said it", allowed=SOURCES),
    Column("venue", "string", "", "where it happened", allowed=VENUES),
    Column("instrument", "string", "", "the contract in the venue's own spelling, e.g. BTCUSDT"),
    Column("asset", "string", "", "the crypto asset, without multiplier prefix, e.g. BTC, PEPE"),
    Column("as_of", "instant", "UTC", "the instant the value describes; for interval values the interval's END"),
    Column(
        "known_at",
        "instant",
        "UTC",
        "the earliest instant the value could have been used: as_of plus the declared lag, or for a restatement the time we saw it",
    ),
    Column("revision", "int", "count", "0 for the first version we stored, then 1, 2, ... when the source restated the value", minimum=0),
    Column("date", "day", "UTC day", "partition: the day the value describes (the day that ends at or after as_of)"),
    Column("fetched_at", "instant", "UTC", "when we asked", provenance=True),
    Column("raw_sha256", "string", "hex", "SHA-256 of the untouched answer this row was decoded from", provenance=True),
    Column("flags", "string", "", "space-separated warning codes; empty when nothing is wrong", provenance=False),
    Column("interval_h", "float", "h", "length of the interval that ends at as_of", minimum=0.0, maximum=24 * 31.0),
    # prices and volumes
    Column("open_usd", "float", "USD", "first price of the interval", minimum=0.0, nullable=True),
    Column("high_usd", "float", "USD", "highest price of the interval", minimum=0.0, nullable=True),
    Column("low_usd", "float", "USD", "lowest price of the interval", minimum=0.0, nullable=True),
    Column("close_usd", "float", "USD", "last price of the interval", minimum=1e-12),
    Column("volume_base", "float", "base coin", "amount traded in the interval, one side counted", minimum=0.0),
    Column("taker_buy_base", "float", "base coin", "part of volume_base whose taker bought", minimum=0.0, nullable=True),
    Column("taker_sell_base", "float", "base coin", "amount sold by takers in the interval", minimum=0.0),
    Column("trades", "int", "count", "number of trades in the interval", minimum=0, nullable=True),
    Column("mark_usd", "float", "USD", "the venue's mark price", minimum=1e-12),
    Column("index_usd", "float", "USD", "the venue's index price; null where none comes with the mark", minimum=1e-12, nullable=True),
    # open interest
    Column("open_interest_native", "float", "see native_unit", "open interest as the venue states it, before any conversion", minimum=0.0),
    Column("native_unit", "string", "", "unit of open_interest_native", allowed=NATIVE_UNITS),
    Column("oi_sides", "int", "sides", "sides the venue counts: 1 (longs = shorts counted once) or 2", minimum=1, maximum=2),
    Column(
        "open_interest_base",
        "float",
        "base coin",
        "open interest, one-sided, in coins; null where the source gives only USD",
        minimum=0.0,
        nullable=True,
    ),
    Column(
        "open_interest_usd",
        "float",
        "USD",
        "open interest, one-sided, at the venue's own price; null where the source gives none",
        minimum=0.0,
        nullable=True,
    ),
    # funding
    Column(
        "funding_rate",
        "float",
        "fraction per interval",
        "rate paid by longs to shorts for one interval; negative: shorts pay",
        minimum=-0.75,
        maximum=0.75,
    ),
    Column("funding_kind", "string", "", "settlement = paid; quote = a rate that is only displayed", allowed=FUNDING_KINDS),
    Column(
        "funding_interval_h",
        "float",
        "h",
        "interval the rate covers; null when the source does not carry it and it must be inferred from settlements",
        minimum=0.25,
        maximum=24.0,
        nullable=True,
    ),
    Column("funding_cap_rate", "float", "fraction per interval", "upper limit of funding_rate in force", minimum=0.0, maximum=0.75),
    Column("funding_floor_rate", "float", "fraction per interval", "lower limit of funding_rate in force", minimum=-0.75, maximum=0.0),
    Column(
        "premium_share",
        "float",
        "share of index",
        "premium of the perpetual over its index at as_of, (mark or impact price - index) / index; positive: the perpetual is dearer",
        minimum=-0.75,
        maximum=0.75,
    ),
    # options and implied volatility
    Column("expiry_at", "instant", "UTC", "when the option expires"),
    Column("strike_usd", "float", "USD", "strike price", minimum=1e-9),
    Column("option_type", "string", "", "call or put", allowed=OPTION_TYPES),
    Column("settlement", "string", "", "what the pay-out is made in: coin (pay-out divided by price) or usd", allowed=SETTLEMENTS),
    Column("volume_24h_base", "float", "base coin", "amount traded in the 24 h before as_of", minimum=0.0),
    Column("mark_iv", "float", "p.a.", "implied volatility at the venue's mark, as a fraction (0.55, not 55)", minimum=0.0, maximum=20.0),
    Column(
        "underlying_usd", "float", "USD", "forward price of the option's expiry, the price its implied volatility refers to", minimum=1e-9
    ),
    Column(
        "implied_volatility",
        "float",
        "p.a.",
        "a venue's own 30-day implied volatility index (DVOL) at as_of, as a fraction (0.55, not 55)",
        minimum=0.0,
        maximum=20.0,
    ),
    # positioning
    Column(
        "ratio_metric",
        "string",
        "",
        "which of the things called long/short this is: heads of all accounts, heads or positions of top traders",
        allowed=RATIO_METRICS,
    ),
    Column("long_share", "float", "share 0..1", "long part of long + short", minimum=0.0, maximum=1.0),
    Column("short_share", "float", "share 0..1", "short part of long + short", minimum=0.0, maximum=1.0),
    # liquidations
    Column(
        "long_liquidated_base",
        "float",
        "base coin",
        "LONG positions liquidated in the interval (side of the position, not of the order)",
        minimum=0.0,
    ),
    Column("short_liquidated_base", "float", "base coin", "SHORT positions liquidated in the interval", minimum=0.0),
    Column(
        "completeness",
        "string",
        "",
        "full = every liquidation; floor = the venue throttles its feed, so this is a lower bound",
        allowed=("full", "floor"),
    ),
    Column("trade_id", "string", "", "the venue's id of the trade; where it gives none, its stamp, side, price, size and ordinal"),
    Column(
        "position_side", "string", "", "side of the position that was closed, not of the order that closed it", allowed=("long", "short")
    ),
    Column(
        "price_kind",
        "string",
        "",
        "bankruptcy = where the position's margin was gone; average = of the fills; mark = the venue's mark price",
        allowed=("bankruptcy", "average", "mark"),
    ),
    Column("amount_base", "float", "base coin", "amount of the order in coins; of contracts counted in USD at price_usd", minimum=0.0),
    # instruments
    Column("base_asset", "string", "", "base asset in the venue's spelling, e.g. 1000PEPE"),
    Column("quote_asset", "string", "", "quote asset"),
    Column("margin_asset", "string", "", "asset the contract is margined and settled in"),
    Column("contract_type", "string", "", "the venue's contract type, e.g. PERPETUAL"),
    Column("instrument_status", "string", "", "the venue's status word, e.g. TRADING"),
    Column("base_multiplier", "float", "coins per base unit", "1000 for 1000PEPE, else 1", minimum=1e-9),
    Column("payoff", "string", "", "linear, inverse (pays in the base coin) or quanto (pays in a third coin)", allowed=PAYOFFS),
    Column(
        "contract_size", "float", "see contract_unit", "how much one contract is, as the venue counts: base units or USD", minimum=1e-12
    ),
    Column("contract_unit", "string", "", "unit of contract_size", allowed=CONTRACT_UNITS),
    Column("listed_at", "instant", "UTC", "when the venue listed the contract; null where the source does not say", nullable=True),
    Column("delivery_at", "instant", "UTC", "when the contract expires; null for a perpetual", nullable=True),
    # chain and reference
    Column("stablecoin", "string", "", "ticker of the stablecoin, or ALL for the source's own total"),
    Column("circulating_usd", "float", "USD", "circulating supply at its peg", minimum=0.0),
    Column("reference", "string", "", "name of a third party's index, kept for comparison only"),
    Column("reference_value", "float", "points 0..100", "value of a third party's index", minimum=0.0, maximum=100.0),
    Column("reference_label", "string", "", "the third party's own word for the value"),
    *INDEX_COLUMNS,
    # evidence and operations
    Column("endpoint", "string", "", "the source's endpoint by its name in transforms/sources"),
    Column("url", "string", "", "what was asked, without credentials"),
    Column("http_status", "int", "", "status code; 0 when there was no answer", minimum=0, maximum=599),
    Column("headers_json", "string", "JSON", "answer headers that matter: content type, dates, limits"),
    Column("body", "bytes", "", "the untouched answer"),
    Column("body_bytes", "int", "B", "length of body", minimum=0),
    Column("bundle", "string", "", "object that holds the answer: key of a content-addressed Parquet file below the bucket"),
    Column("run_id", "string", "", "Airflow run that wrote the row", provenance=True),
    Column("step", "string", "", "fetch, load, derive or publish"),
    Column("subject", "string", "", "what the step worked on: a source, a table or a partition key"),
    Column("outcome", "string", "", "how the step ended", allowed=("success", "partial", "failed")),
    Column("detail", "string", "", "what was found, where, and what to do"),
    Column("started_at", "instant", "UTC", "start of the step", provenance=True),
    Column("finished_at", "instant", "UTC", "end of the step", provenance=True),
    Column("recorded_at", "instant", "UTC", "when this row of evidence was written", provenance=True),
    Column("answers", "int", "count", "answers received or read", minimum=0),
    Column("rows_decoded", "int", "rows", "rows decoded from answers, rejects included: = core + quarantined + duplicates", minimum=0),
    Column("rows_core", "int", "rows", "rows that entered core tables", minimum=0),
    Column("rows_quarantined", "int", "rows", "rows put aside with a reason", minimum=0),
    Column("rows_duplicate", "int", "rows", "exact repetitions of a stored or decoded row: counted, not stored", minimum=0),
    Column("rows_published", "int", "rows", "rows written to published tables", minimum=0),
    Column("target", "string", "", "table the row or window was meant for"),
    Column("reason_code", "string", "", "machine-readable reason (docs/operations.md lists them)"),
    Column("row_json", "string", "JSON", "the rejected row or the part of the answer that could not be read"),
    Column("window_start", "instant", "UTC", "start of the window asked for (exclusive for as_of stamps)"),
    Column("window_end", "instant", "UTC", "end of the window asked for (inclusive for as_of stamps)"),
    Column("expected", "int", "count", "stamps the window's grid should hold; -1 where the source has no regular grid", minimum=-1),
    Column("received", "int", "count", "distinct stamps received", minimum=0),
    Column("missing", "int", "count", "expected stamps that did not come", minimum=0),
    Column(
        "refused",
        "int",
        "count",
        "answers of the window that were rejected or could not be read whole: the window is asked again",
        minimum=0,
    ),
    Column("missing_stamps", "string", "JSON", "missing stamps, at most 10,000"),
    Column("complete", "bool", "", "every expected stamp came, or the source has no grid and the last page ended inside the window"),
    Column("day", "day", "UTC day", "the partition the row speaks of"),
    Column("table_name", "string", "", "a table of the lake"),
    Column("row_count", "int", "rows", "rows of the partition", minimum=0),
    Column("content_sha256", "string", "hex", "SHA-256 over the partition's rows in key order, provenance columns left out"),
    Column(
        "inputs_sha256",
        "string",
        "hex",
        "SHA-256 over what the partition was computed from: content hashes of its inputs, specification and code",
    ),
)

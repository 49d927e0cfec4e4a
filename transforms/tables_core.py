"""Core tables: what sources said, typed, one row per fact and revision."""

from __future__ import annotations

from typing import Final

from transforms.table import Rule, Table

_WHO: Final = ("source", "venue", "instrument", "asset", "as_of", "known_at")
_LOADED: Final = ("flags", "revision", "fetched_at", "raw_sha256", "date")
_MEASURED: Final = ("source", "venue", "instrument", "as_of")

CORE: Final = (
    Table(
        "candles",
        "core",
        "one price bar of one instrument",
        (*_MEASURED, "interval_h"),
        (*_WHO, "interval_h", "open_usd", "high_usd", "low_usd", "close_usd", "volume_base", "taker_buy_base", "trades", *_LOADED),
        cautions=(
            "as_of is the bar's END; venues stamp the open",
            "USDT quotes are taken as USD: a USDT depeg moves every price here",
            "bitmex: the open is the close of the bar before",
        ),
        rules=(
            Rule("LOW_ABOVE_HIGH", "not_above", ("low_usd", "high_usd"), "critical", meaning="low <= high"),
            Rule("CLOSE_ABOVE_HIGH", "not_above", ("close_usd", "high_usd"), "critical", meaning="close <= high"),
            Rule("CLOSE_BELOW_LOW", "not_above", ("low_usd", "close_usd"), "critical", meaning="low <= close"),
            Rule("TAKER_ABOVE_VOLUME", "not_above", ("taker_buy_base", "volume_base"), "critical", 1e-9, "taker buys <= volume"),
        ),
    ),
    Table(
        "open_interest",
        "core",
        "open interest of one instrument at one instant",
        _MEASURED,
        (*_WHO, "open_interest_native", "native_unit", "oi_sides", "open_interest_base", "open_interest_usd", *_LOADED),
        cautions=(
            "USD open interest falls when price falls: use the quantity index to see leverage leave",
            "contracts counted in USD have no amount in coins where the source gives no price with them",
        ),
        rules=(
            Rule(
                "NO_OPEN_INTEREST",
                "any_given",
                ("open_interest_base", "open_interest_usd"),
                "critical",
                meaning="an amount in coins or in USD is given",
            ),
        ),
    ),
    Table(
        "funding",
        "core",
        "one funding rate of one instrument",
        (*_MEASURED, "funding_kind"),
        (*_WHO, "funding_rate", "funding_kind", "funding_interval_h", *_LOADED),
        cautions=(
            "a rate per interval: annualise with the row's own interval, never with 3 x 365 for all",
            "coinalyze rows are the last settlement of the day, not the day's sum",
        ),
    ),
    Table(
        "funding_terms",
        "core",
        "funding terms of one instrument as seen at one instant",
        _MEASURED,
        (*_WHO, "funding_interval_h", "funding_cap_rate", "funding_floor_rate", *_LOADED),
        cautions=("a snapshot: the venue publishes no history of its terms",),
        snapshot=True,
    ),
    Table(
        "long_short",
        "core",
        "one long/short split of one instrument",
        (*_MEASURED, "ratio_metric"),
        (*_WHO, "ratio_metric", "long_share", "short_share", *_LOADED),
        cautions=("account ratios count heads; over all traders long notional equals short notional",),
        rules=(Rule("SHARES_DO_NOT_ADD_UP", "sums_to_one", ("long_share", "short_share"), "critical", 2e-3, "long + short = 1"),),
    ),
    Table(
        "taker_flow",
        "core",
        "taker volume of one instrument in one interval",
        (*_MEASURED, "interval_h"),
        (*_WHO, "interval_h", "taker_buy_base", "taker_sell_base", *_LOADED),
    ),
    Table(
        "liquidations",
        "core",
        "liquidated volume of one instrument in one interval",
        (*_MEASURED, "interval_h"),
        (*_WHO, "interval_h", "long_liquidated_base", "short_liquidated_base", "completeness", *_LOADED),
        cautions=("most venues throttle their feed: `floor` is a lower bound",),
    ),
    Table(
        "forced_trades",
        "core",
        "one forced order of one instrument",
        (*_MEASURED, "trade_id"),
        (*_WHO, "trade_id", "position_side", "price_usd", "price_kind", "amount_base", "completeness", *_LOADED),
        cautions=(
            "a venue that throttles shows some of its orders only: sums of `floor` rows are a lower bound, never a total",
            "a bankruptcy price is not the price the order was filled at: value amounts at the mark, or keep the two kinds apart",
            "venues serve about a day of them: an hour nobody asked about has none",
        ),
    ),
    Table(
        "marks",
        "core",
        "mark and index price of one instrument at one instant",
        _MEASURED,
        (*_WHO, "mark_usd", "index_usd", *_LOADED),
        snapshot=True,
    ),
    Table(
        "instruments",
        "core",
        "one instrument as seen at one instant",
        _MEASURED,
        (
            *_WHO,
            "base_asset",
            "quote_asset",
            "margin_asset",
            "contract_type",
            "instrument_status",
            "base_multiplier",
            "payoff",
            "contract_size",
            "contract_unit",
            "funding_interval_h",
            "listed_at",
            "delivery_at",
            *_LOADED,
        ),
        cautions=("point in time: a delisted contract stays in the snapshots that knew it",),
        snapshot=True,
    ),
    Table(
        "premiums",
        "core",
        "premium of one perpetual over its index at the end of one interval",
        (*_MEASURED, "interval_h"),
        (*_WHO, "interval_h", "premium_share", *_LOADED),
        cautions=("the premium before the funding clamp: where funding is pinned at its interest component, this still speaks",),
    ),
    Table(
        "option_chain",
        "core",
        "one listed option as seen at one instant",
        _MEASURED,
        (
            *_WHO,
            "expiry_at",
            "strike_usd",
            "option_type",
            "settlement",
            "open_interest_base",
            "volume_24h_base",
            "mark_iv",
            "underlying_usd",
            "index_usd",
            *_LOADED,
        ),
        cautions=(
            "a snapshot: venues publish no history of their chains, so an instant nobody asked at has none",
            "all rows of one answer share one as_of: compare strikes within it, never across",
        ),
        snapshot=True,
    ),
    Table(
        "volatility_index",
        "core",
        "a venue's own 30-day implied volatility index of one asset at the end of one interval",
        (*_MEASURED, "interval_h"),
        (*_WHO, "interval_h", "implied_volatility", *_LOADED),
        cautions=("the newest point moves until its interval is over",),
    ),
    Table(
        "stablecoin_supply",
        "core",
        "circulating supply of one stablecoin on one day",
        ("source", "stablecoin", "as_of"),
        ("source", "stablecoin", "as_of", "known_at", "circulating_usd", *_LOADED),
        cautions=("the source rewrites its history: read the revision that was known at your instant",),
    ),
    Table(
        "chain_metrics",
        "core",
        "one metric of one asset's chain on one day",
        ("source", "asset", "metric", "as_of"),
        ("source", "asset", "metric", "as_of", "known_at", "metric_value", "metric_unit", *_LOADED),
        cautions=(
            "exchange flows are restated for weeks (the sign of BTC's net flow differs on 22 % of days): read the revision known at your instant",
            "which addresses count as exchanges' is the vendor's label set; its version is not published, so no row carries it",
            "coinmetrics: Creative Commons BY-NC 4.0, so commercial use needs the vendor's consent",
        ),
    ),
    Table(
        "reference_index",
        "core",
        "a third party's index on one day",
        ("source", "reference", "as_of"),
        ("source", "reference", "as_of", "known_at", "reference_value", "reference_label", *_LOADED),
        cautions=("for comparison only: no value of ours uses it",),
    ),
)

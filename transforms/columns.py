"""What a column is, and the words that columns may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["string", "instant", "day", "float", "int", "bool", "bytes"]


@dataclass(frozen=True, slots=True)
class Column:
    """One named quantity. `minimum` and `maximum` are inclusive limits a right value can never leave; NaN and inf never pass."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    nullable: bool = False
    #: Differs between two honest runs over the same facts (who fetched, when): left out of content hashes.
    provenance: bool = False


VENUES: Final = ("binance", "bybit", "okx", "deribit", "hyperliquid", "gate", "kraken_futures", "bitmex", "bitget")
SOURCES: Final = (
    "binance",
    "bybit",
    "okx",
    "deribit",
    "hyperliquid",
    "gate",
    "kraken_futures",
    "bitmex",
    "bitget",
    "coinalyze",
    "defillama",
    "coinmetrics",
    "alternative_me",
)
MARKETS: Final = ("simulated", "recorded", "live")
VINTAGES: Final = ("reconstructed", "live", "restated")
NATIVE_UNITS: Final = ("base", "contracts", "usd")
PAYOFFS: Final = ("linear", "inverse", "quanto")
CONTRACT_UNITS: Final = ("base", "usd")
FUNDING_KINDS: Final = ("settlement", "quote")
POSITION_SIDES: Final = ("long", "short")
PRICE_KINDS: Final = ("bankruptcy", "average", "mark", "trade")
OPTION_TYPES: Final = ("call", "put")
SETTLEMENTS: Final = ("coin", "usd")
#: what a daily number of a chain counts; whose addresses are an exchange's is the source's opinion
CHAIN_METRICS: Final = ("exchange_inflow", "exchange_outflow", "supply", "price")
METRIC_UNITS: Final = ("usd", "base")
RATIO_METRICS: Final = ("global_account", "top_account", "top_position")
FAMILIES: Final = ("carry", "trend", "options", "flow", "positioning", "stablecoin", "conviction")
INDICES: Final = ("S", "F", "X")
COMPONENTS: Final = (
    *FAMILIES,
    "leverage_level",
    "build_up",
    "crowding",
    "latent_liquidation",
    "thinness",
    "options_convexity",
    "concentration",
    "interaction",
    "liquidation",
    "deleveraging",
    "volatility",
    "term_structure",
    "dispersion",
    "asset",
)
REGIMES: Final = ("capitulation", "deleveraging", "euphoria", "leverage_buildup", "recovery", "neutral")
RISK_STATES: Final = ("risk_on", "risk_off", "mixed")
SIDES: Final = ("long_crowded", "short_crowded")
EVENT_SIDES: Final = ("long", "short", "up", "down", "none")
SCHEMES: Final = ("erc", "pca", "ic")
TREATMENTS: Final = ("set aside", "used: no second venue")
DECISIONS: Final = ("release", "reject")
CAUSES: Final = ("restated by source", "released from quarantine", "republished archive")
STATUSES: Final = ("ok", "indicative", "withheld")
BANDS: Final = ("extreme_fear", "fear", "neutral", "greed", "extreme_greed")

"""What an entry of the conventions is, and the words its fields may hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

What = Literal[
    "label",
    "period",
    "lag",
    "oi_sides",
    "single_oi_tolerance",
    "native_unit",
    "contract_size",
    "rate_scale",
    "funding_kind",
    "funding_interval_h",
    "settlement_hour",
    "share_scale",
    "volatility_scale",
    "ratio_metric",
    "instrument_status",
    "liquidation_sides",
    "price_kind",
    "completeness",
    "throttle",
    "history_since",
    "history_depth",
    "expiry_time",
]
Value = str | int | float | timedelta | datetime | None

DAWN: Final = datetime(2009, 1, 3, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
LAG_5: Final = "METHODOLOGY 5.1: OI, long/short and taker history 5 min until the p95 of live capture is measured"
LAG_1: Final = "METHODOLOGY 5.1: 60 s until the p95 of live capture is measured"


@dataclass(frozen=True, slots=True)
class Entry:
    """`what` of a source's dataset is `value` from `since` on (for one instrument, or for all when `instrument` is empty).

    A dataset is an endpoint by its name in the source's `endpoints`; products whose numbers mean different things are different datasets.

        label               "start" or "end": which end of its period a stamp names; `period` is that period
        lag                 as_of to known_at: how long after the instant described the value can be had
        oi_sides            1 = longs counted once, 2 = longs and shorts added
        single_oi_tolerance how far, relatively, a one-sided figure beside it may lie from it; None = the venue states none
        native_unit         base | contracts | usd; for contracts `contract_size` says how much one is, where the listing does not
        rate_scale, share_scale, volatility_scale   served value times this = fraction
        funding_kind        settlement = paid, quote = displayed; `funding_interval_h` = hours a rate covers, None = nobody can say
        settlement_hour     hour of the UTC day, modulo the interval, at which the venue pays funding; all its contracts keep to it
        liquidation_sides   "position" or "order": whose side the word names; `price_kind` = bankruptcy | average | mark | trade
        completeness        "full" or "floor"; `throttle` = the shortest span between two messages where the feed drops the rest
        history_since       the first instant served; `history_depth` = how far back from now the endpoint goes
    """

    source: str
    dataset: str
    what: What
    value: Value
    evidence: str
    since: datetime = DAWN
    instrument: str = ""

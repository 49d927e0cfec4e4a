"""BitMEX: instruments as they stand, settled funding, bars of trades."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import LAG_1, MINUTE, Entry
from transforms.windows import utc

ACTIVE: Final = "instrument/active"
BUCKETED: Final = "trade/bucketed"

ENTRIES: Final[tuple[Entry, ...]] = (
    Entry("bitmex", ACTIVE, "lag", MINUTE, "a snapshot is known when it was taken; 60 s for its way, as in METHODOLOGY 5.1"),
    Entry(
        "bitmex",
        ACTIVE,
        "oi_sides",
        1,
        "openInterest counts open contracts, each with one long and one short; no document or reader reports twice that (PITFALLS A1 names "
        "those that do). Read from documents, not measured",
    ),
    Entry(
        "bitmex",
        ACTIVE,
        "native_unit",
        "contracts",
        "BitMEX help 'How Do I Calculate Contract Size': one contract is multiplier / underlyingToSettleMultiplier USD where inverse, "
        "1 / underlyingToPositionMultiplier coins where linear. openValue counts the settlement currency's smallest unit: XBTUSD 411,647,400 "
        "contracts at 97,849.76 are 4,206.9 XBT = 420,691,293,378 satoshi in a captured answer (PITFALLS A4)",
    ),
    Entry(
        "bitmex",
        ACTIVE,
        "rate_scale",
        1.0,
        "a fraction: fundingRate 0.0001 is the interest component of 0.01 % per 8 h (BitMEX guide 'Perpetual Contracts')",
    ),
    Entry(
        "bitmex",
        ACTIVE,
        "funding_kind",
        "quote",
        "BitMEX guide 'Perpetual Contracts': indicativeFundingRate is the running estimate from the premium of the present interval; "
        "fundingRate beside it was fixed an interval ago and is paid at fundingTimestamp",
    ),
    Entry("bitmex", "funding", "lag", MINUTE, LAG_1),
    Entry(
        "bitmex", "funding", "rate_scale", 1.0, "a fraction, as in instrument/active: documented row of 0.0001 with fundingRateDaily 0.0003"
    ),
    Entry("bitmex", "funding", "funding_kind", "settlement", "BitMEX document 'Funding: Swap Funding History'"),
    Entry("bitmex", "funding", "history_since", utc("2016-05-07"), "first day of the documented example; SOURCES: from 2016"),
    Entry(
        "bitmex",
        BUCKETED,
        "label",
        "end",
        "ccxt issues 4446 and 5641: the 1h bar of 2018-12-29T00:00 closes at the price the charts open that hour with; BitMEX stamps the close",
    ),
    Entry("bitmex", BUCKETED, "period", timedelta(hours=1), "the binSize we ask for: 1h"),
    Entry("bitmex", BUCKETED, "lag", MINUTE, LAG_1),
    Entry(
        "bitmex",
        BUCKETED,
        "native_unit",
        "base",
        "homeNotional is in coins of the underlying: recorded homeNotional24h of XBTUSD is its turnover24h of satoshi x 1e-8, that of LTCUSDT "
        "its volume24h of contracts / underlyingToPositionMultiplier",
    ),
    Entry("bitmex", BUCKETED, "history_since", utc("2017-01-01"), "ccxt issue 2049: asked without a start, bars begin at 2017-01-01T00:00"),
)

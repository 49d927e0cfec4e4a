"""Made-up option chains for the tests: expiries of calls and puts, as rows of one snapshot and as rows of the core table."""

from __future__ import annotations

import math

import numpy as np

from tests.property.synthetic import core_table
from transforms.estimators import DAY_US
from transforms.option_book import Listed
from transforms.options import YEAR_US

NOW = 1_700_000_000_000_000
#: known answers 30 to 33
STRIKES = np.arange(80.0, 121.0, 10.0)
CALLS, PUTS = np.array([0.0, 10, 20, 40, 30]), np.array([30.0, 40, 20, 5, 0])


def skewed(strike, years):
    """A smile that is neither flat nor symmetric."""
    x = math.log(strike / 100.0) / math.sqrt(years)
    return 0.6 - 0.1 * x + 0.08 * x * x


def listed(days=30.0, strikes=STRIKES, calls=CALLS, puts=PUTS, *, volatility=0.6, volume=1.0, forward=100.0, spot=100.0, settlement=0):
    """Rows of one expiry: a call and a put at each strike."""
    count = len(strikes)
    left = round(days * DAY_US)
    smile = [volatility(k, left / YEAR_US) if callable(volatility) else volatility for k in strikes]
    whole = {"volume": volume, "forward": forward, "spot": spot}
    return Listed(
        settlement=np.full(2 * count, settlement),
        call=np.repeat([1, 0], count),
        as_of=np.full(2 * count, NOW),
        expiry=np.full(2 * count, NOW + left),
        strike=np.tile(np.asarray(strikes, dtype=float), 2),
        interest=np.concatenate([np.broadcast_to(calls, count), np.broadcast_to(puts, count)]).astype(float),
        volatility=np.tile(np.array(smile, dtype=float), 2),
        **{name: np.full(2 * count, value, dtype=float) for name, value in whole.items()},
    )


def together(*parts):
    return Listed(*(np.concatenate([getattr(part, name) for part in parts]) for name in Listed.__slots__))


def but(rows, where=slice(None), **columns):
    """The rows with columns changed at some places."""
    found = {name: getattr(rows, name).copy() for name in Listed.__slots__}
    for name, value in columns.items():
        found[name][where] = value
    return Listed(**found)


FINE = np.arange(40.0, 201.0, 2.0)
SURFACE = together(*(listed(days, FINE, 3.0, 2.0, volatility=skewed) for days in (2, 9, 23, 37, 65, 120)))


def chain(as_of, rows=SURFACE, *, asset="BTC", source="deribit", venue="deribit", delay=60_000_000, **columns):
    """Rows of `option_chain` at as_of, known a delay later (us): expiries as far away as in `rows`; columns may be given as they are."""
    count = len(rows.strike)
    left = rows.expiry - rows.as_of
    sides = np.where(rows.call == 1, "call", "put")
    given = {
        "instrument": [f"{asset}-{hours}-{strike:g}-{side}" for hours, strike, side in zip(left, rows.strike, sides, strict=True)],
        "expiry_at": as_of + left,
        "strike_usd": rows.strike,
        "option_type": sides,
        "settlement": np.where(rows.settlement == 1, "usd", "coin"),
        "open_interest_base": rows.interest,
        "volume_24h_base": rows.volume,
        "mark_iv": rows.volatility,
        "underlying_usd": rows.forward,
        "index_usd": rows.spot,
        **columns,
    }
    stamps = np.full(count, as_of)
    return core_table("option_chain", stamps, stamps + delay, asset=asset, source=source, venue=venue, **given)

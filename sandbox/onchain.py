"""What a vendor would say of the simulated coins' chains, day by day, and how it changes its mind. All of it is simulated.

Flows follow the crowd: coins move to exchanges while longs pile up and away from them when they are gone, and more of them move on days
of much trade. The first value of a day is shown some hours after its end; then the vendor learns which addresses were an exchange's, every
Tuesday at 00:00 UTC, and after four of these the value is final (PITFALLS F3). First and final differ so much that the sign of the net
flow is another on about every fifth day, as in the recorded captures of BTC (22 %). Supply and price are never restated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sandbox.market import DAY_MS, HOUR_MS, Floats, Rows
from sandbox.simulation import normal

#: coins sent to exchanges on a usual day, coins in existence at the beginning, coins made a day
COINS: Final = {"BTC": (24_000.0, 19_803_000.0, 450.0), "ETH": (350_000.0, 120_450_000.0, 1_800.0)}
#: Tether on Ethereum, and the part of Tether's supply that is there
TETHER: Final = "USDT_ETH"
SHARE: Final = 0.46
ROUNDS: Final = 4
#: spread of what the vendor knows wrong at first, of each side
ERROR: Final = 0.09
_STREAMS: Final = {"BTC": 1900, "ETH": 1910, TETHER: 1920}
#: 1970-01-01 was one: so many days after a Tuesday
_THURSDAY: Final = 2


@dataclass(frozen=True, slots=True)
class Days:
    """Days that are over, in order: prices at their ends, mean heat, trade in units of a usual day; or, of a token, its supply."""

    price: Floats | None = None
    heat: Floats | None = None
    activity: Floats | None = None
    supply: Floats | None = None


def shown(seed: int, asset: str, genesis_ms: int, now_ms: int, days: Days) -> Rows:
    """The days that were complete by now, as the vendor shows them now."""
    stream = _STREAMS[asset]
    count = len(days.supply if days.supply is not None else days.price if days.price is not None else ())
    at = genesis_ms + np.arange(count, dtype=np.int64) * DAY_MS
    hours = np.array([2.05 + 2.0 * math.exp(0.5 * normal(seed, stream, d)) for d in range(count)])
    completed = (at + DAY_MS + (hours * HOUR_MS).astype(np.int64)) // 1000
    columns = {"completed": completed.astype(np.float64)}
    unknown = np.full(count, np.nan)
    if days.price is None or days.heat is None or days.activity is None:
        swing = np.array([1.0 + 2e-4 * normal(seed, stream + 1, d) for d in range(count)])
        columns |= {
            "supply": np.round(unknown if days.supply is None else days.supply, 6),
            "price": swing,
            "inflow": unknown,
            "outflow": unknown,
        }
    else:
        usual, begin, made = COINS[asset]
        columns["supply"] = np.round(begin + made * np.arange(1.0, count + 1.0), 8)
        columns["price"] = days.price
        final = _flows(seed, stream, usual * days.price, days.heat, days.activity)
        left = 1.0 - np.minimum(tuesdays(completed, now_ms // 1000), ROUNDS) / ROUNDS
        for n, (name, values) in enumerate(final.items()):
            wrong = np.array([ERROR * normal(seed, stream + 5 + n, d) for d in range(count)])
            columns[name] = np.round(values * np.exp(wrong * left), 6)
    return Rows(at, columns).take(completed * 1000 <= now_ms)


def _flows(seed: int, stream: int, usual_usd: Floats, heat: Floats, activity: Floats) -> dict[str, Floats]:
    """What is final: both sides by trade, and what is between them by heat."""
    count = len(heat)
    size = usual_usd * np.sqrt(activity) * np.exp(np.array([0.15 * normal(seed, stream + 2, d) for d in range(count)]))
    lean = 0.25 * np.tanh(1.5 * heat) + np.array([0.12 * normal(seed, stream + 3, d) for d in range(count)])
    return {"inflow": size * np.exp(lean / 2.0), "outflow": size * np.exp(-lean / 2.0)}


def tuesdays(since_s: np.ndarray, now_s: int) -> np.ndarray:
    """How many Tuesdays 00:00 UTC lie after each instant and not after now."""
    week = 7 * 86_400
    shift = _THURSDAY * 86_400
    return np.asarray((now_s + shift) // week - (since_s + shift) // week)

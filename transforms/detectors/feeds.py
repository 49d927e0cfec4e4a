"""Feeds that are alive in form only: all zero, constant, or carried forward by whoever passes them on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from transforms.detectors.contract import HOUR_US, Detector, Finding, Inputs, Lines, Told, constant, findings, lines
from transforms.detectors.units import runs
from transforms.estimators import Bools, Ints

#: what must move, by table; where two columns are named, both must stand still
MOVING: Final[dict[str, tuple[str, ...]]] = {
    "open_interest": ("open_interest_native",),
    "candles": ("close_usd", "volume_base"),
    "long_short": ("long_share",),
    "taker_flow": ("taker_buy_base", "taker_sell_base"),
    "marks": ("mark_usd",),
    "volatility_index": ("implied_volatility",),
}
#: what cannot be zero on a living contract
LIVING: Final[dict[str, tuple[str, ...]]] = {
    "open_interest": ("open_interest_native",),
    "stablecoin_supply": ("circulating_usd",),
    "marks": ("mark_usd",),
}


@dataclass(frozen=True, slots=True)
class DeadRule:
    """A11: Binance metrics began with 116 zero rows; OKX's open interest was "0" for 24 days in one collector."""

    #: zeros in a row; [C] one zero may be the last row of a delisted contract
    zeros: int = 3
    #: unchanged for this long, and at least so many rows, is dead whatever its past was like; [C] a day of 24 equal hours has 23 h
    constant_h: float = 20.0
    constant_rows: int = 6


@dataclass(frozen=True, slots=True)
class CarryRule:
    """A run of repetitions whose chance, at the series' own rate of repetitions, is below `chance`."""

    #: [C] 20 assets x 5 venues x 5 years of hours are 4e6 rows: one false alarm in 200 such lakes
    chance: float = 1e-9
    #: rows before the run in which the own rate is counted, and the fewest
    rows: int = 200
    least: int = 48
    #: never below this many repetitions, however lively the series was
    shortest: int = 3


def _still(held: Lines, columns: tuple[str, ...]) -> Bools:
    same = np.ones(len(held.as_of), dtype=bool)
    for column in columns:
        same &= held.values[column] == held.before(held.values[column])
    return same


class DeadFeed(Detector):
    name = "dead_feed"
    reason_code = "DEAD_FEED"
    reads = (*MOVING, "stablecoin_supply")
    rule: DeadRule = DeadRule()
    lookback_h = 24 * 7.0
    catches = "a feed that answers zero, or the same number, for ever"
    rule_text = "3 rows of zero where zero is impossible; or no change for 20 h and 6 rows"

    def find(self, inputs: Inputs) -> list[Finding]:
        rule = self.rule
        found: list[Finding] = []
        for table, columns in LIVING.items():
            held = lines(inputs, table, columns)
            count = runs(held.values[columns[0]] == 0, held.first)
            bad, known, proof = _reached(count, count >= rule.zeros, held)
            detail = f"{columns[0]} of {{instrument}} is 0 row after row: the feed is dead or the field was renamed"
            found += findings(
                self,
                held,
                Told(bad, held.values[columns[0]], constant(held, np.nan), constant(held, np.nan), "quarantine", detail, known, proof),
            )
        for table, columns in MOVING.items():
            held = lines(inputs, table, columns)
            still = _still(held, columns)
            count = runs(still & (held.values[columns[0]] != 0), held.first)
            begin = held.as_of[np.maximum(0, np.arange(len(count)) - count)] if len(count) else held.as_of
            long = (held.as_of - begin >= rule.constant_h * HOUR_US) & (count >= rule.constant_rows)
            bad, known, proof = _reached(count, long, held)
            detail = f"{columns[0]} of {{instrument}} stays at {{observed:.6g}} for {rule.constant_h:g} h and longer"
            found += findings(
                self,
                held,
                Told(bad, held.values[columns[0]], constant(held, np.nan), constant(held, np.nan), "quarantine", detail, known, proof),
            )
        return found


class CarriedForward(Detector):
    name = "carried_forward"
    reason_code = "CARRIED_FORWARD"
    reads = tuple(MOVING)
    rule: CarryRule = CarryRule()
    lookback_h = 24 * 14.0
    catches = "a provider that repeats its last value where the source itself is silent"
    rule_text = "a run of equal rows that has a chance below 1e-9 at the series' own rate of repetition over 200 rows"

    def find(self, inputs: Inputs) -> list[Finding]:
        rule = self.rule
        found: list[Finding] = []
        for table, columns in MOVING.items():
            held = lines(inputs, table, columns)
            if len(held.as_of) == 0:
                continue
            still = _still(held, columns)
            count = runs(still, held.first)
            begin = np.arange(len(count)) - count  # the last row that was news
            total = np.append(0, np.cumsum(still))
            far = np.maximum(held.starts[held.track], begin - rule.rows + 1)
            seen = begin - far + 1
            share = (total[begin + 1] - total[far] + 1.0) / (seen + 2.0)
            long = (seen >= rule.least) & (count >= rule.shortest) & (count * np.log(share) < np.log(rule.chance))
            bad, known, proof = _reached(count, long, held)
            detail = f"{columns[0]} of {{instrument}} repeats {{observed:.6g}} more often than it ever does: carried forward"
            found += findings(
                self, held, Told(bad, held.values[columns[0]], constant(held, np.nan), constant(held, np.nan), "flag", detail, known, proof)
            )
        return found


def _reached(count: Ints, long: Bools, held: Lines) -> tuple[Bools, Ints, Ints]:
    """Rows of runs that became long, when that was known, and the stamp at which they did. Once long, a run stays so."""
    known = held.known
    if len(count) == 0:
        return count > 0, known, held.as_of
    place = np.arange(len(count))
    run = np.cumsum(count <= 1)  # number of the run; rows that are in none have their own
    first = np.full(run[-1] + 1, len(count), dtype=np.int64)
    np.minimum.at(first, run[long], place[long])
    at = first[run]
    bad = (count > 0) & (at < len(count))
    at = np.minimum(at, len(count) - 1)
    return bad, np.where(bad, np.maximum(known, known[at]), known), np.where(bad, held.as_of[at], 0)

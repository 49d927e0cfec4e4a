"""Sums that cannot be: a total below its part, and sides that do not add up to their total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from transforms.asof import floats, micros, tracks_of
from transforms.detectors.contract import Detector, Finding, Inputs, Told, constant, findings, lines
from transforms.estimators import Floats, Ints

TOTAL: Final = "ALL"


@dataclass(frozen=True, slots=True)
class TotalRule:
    """DefiLlama 2026-07-15: a total of 122 bn while USDT alone was 184 bn."""

    #: parts may exceed the total by this share; [C] the sum of USDT, USDC and DAI never exceeded 0.95 of the total in 2019-2026
    slack: float = 0.01


class TotalBelowPart(Detector):
    name = "total_below_part"
    reason_code = "TOTAL_BELOW_PART"
    reads = ("stablecoin_supply",)
    rule: TotalRule = TotalRule()
    lookback_h = 0.0
    catches = "a total of stablecoins that is smaller than the coins it is made of"
    rule_text = "the total of a day is below the sum of the coins of that day"

    def find(self, inputs: Inputs) -> list[Finding]:
        held = lines(inputs, "stablecoin_supply", ("circulating_usd",))
        amount = held.values["circulating_usd"]
        parts = constant(held, 0.0)
        known = held.known.copy()
        sums: dict[str, tuple[Ints, Floats, Ints]] = {}
        for source in {name[0] for name in held.names}:
            mine = np.array([name[0] == source and name[2] != TOTAL for name in held.names], dtype=bool)[held.track]
            stamps, place = np.unique(held.as_of[mine], return_inverse=True)
            when: Ints = np.zeros(len(stamps), dtype=np.int64)
            total: Floats = np.bincount(place, weights=np.nan_to_num(amount[mine]), minlength=len(stamps)).astype(np.float64)
            np.maximum.at(when, place, held.known[mine])
            sums[source] = (np.asarray(stamps, dtype=np.int64), total, when)
        whole = np.array([name[2] == TOTAL for name in held.names], dtype=bool)[held.track] if held.names else np.zeros(0, dtype=bool)
        for n, name in enumerate(held.names):
            stamps, total, when = sums[name[0]]
            if name[2] != TOTAL or len(stamps) == 0:
                continue
            a, b = held.starts[n], held.starts[n + 1]
            place = np.minimum(np.searchsorted(stamps, held.as_of[a:b]), len(stamps) - 1)
            same = stamps[place] == held.as_of[a:b]
            parts[a:b] = np.where(same, total[place], 0.0)
            known[a:b] = np.where(same, np.maximum(known[a:b], when[place]), known[a:b])
        with np.errstate(invalid="ignore"):
            bad = whole & (amount * (1 + self.rule.slack) < parts)
        detail = "the total of {instrument} is {observed:.6g} USD, its coins alone are {expected:.6g} USD: a part was left out"
        return findings(self, held, Told(bad, amount, parts, constant(held, np.nan), "quarantine", detail, known))


@dataclass(frozen=True, slots=True)
class SidesRule:
    """Recorded liquidations of one vendor: long + short is 1.7 % below the total on average, 15 % at worst."""

    #: rounding of a venue's own numbers
    tolerance: float = 0.005


class SidesBesideTotal(Detector):
    """Reads `liquidation_totals` besides the core tables: who, as_of, known_at, interval_h, total_liquidated_base, where a source gives one."""

    name = "sides_beside_total"
    reason_code = "SIDES_BESIDE_TOTAL"
    reads = ("liquidations",)
    rule: SidesRule = SidesRule()
    lookback_h = 0.0
    catches = "liquidations whose long and short sides do not add up to the total the source states, or to another source's sides"
    rule_text = "long + short is more than 0.5 % away from the total of the same interval"

    def find(self, inputs: Inputs) -> list[Finding]:
        stated = inputs.tables.get("liquidation_totals")
        held = lines(inputs, "liquidations", ("long_liquidated_base", "short_liquidated_base", "interval_h"))
        if stated is None or stated.num_rows == 0:
            return []
        number, names = tracks_of(stated, ("source", "venue", "instrument"))
        place = {name: n for n, name in enumerate(names)}
        when, told = micros(stated.column("as_of")), micros(stated.column("known_at"))
        hours, amount = floats(stated.column("interval_h")), floats(stated.column("total_liquidated_base"))
        total = constant(held, np.nan)
        known = held.known.copy()
        for n, name in enumerate(held.names):
            mine = np.flatnonzero(number == place.get(name[:3], -1))
            if len(mine) == 0:
                continue
            mine = mine[np.argsort(when[mine], kind="stable")]
            a, b = held.starts[n], held.starts[n + 1]
            at = mine[np.minimum(np.searchsorted(when[mine], held.as_of[a:b]), len(mine) - 1)]
            same = (when[at] == held.as_of[a:b]) & (hours[at] == held.values["interval_h"][a:b])
            total[a:b] = np.where(same, amount[at], np.nan)
            known[a:b] = np.where(same, np.maximum(known[a:b], told[at]), known[a:b])
        sides = held.values["long_liquidated_base"] + held.values["short_liquidated_base"]
        with np.errstate(invalid="ignore"):
            bad = np.abs(sides - total) > self.rule.tolerance * np.maximum(sides, total)
        detail = "long + short of {instrument} is {observed:.6g}, the stated total {expected:.6g}: sides are missing or counted twice"
        return findings(self, held, Told(bad, sides, total, constant(held, np.nan), "flag", detail, known))

"""What a feature is: a measured quantity, named, with its formula, the tables it reads and a finite look-back.

A feature is computed for all assets and all bars of a panel at once. What it says at t may depend only on rows the bar at t can see
(transforms/asof.py) and on no bar further back than its look-back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import Bools, Floats
from transforms.rules import CadenceRule
from transforms.spec import Spec

if TYPE_CHECKING:
    from transforms.features.panel import Panel

Codes = NDArray[np.int8]


class Why(IntEnum):
    """Why a value is missing or worth a remark."""

    FINE = 0
    NO_INPUT = 1
    STALE = 2
    TOO_FEW = 3
    INTERVAL = 4
    GATE = 5
    IMPLIED = 6
    NO_BASE = 7
    FLAT = 8
    ONE_VENUE = 9


WORDS: Final[dict[Why, str]] = {
    Why.FINE: "",
    Why.NO_INPUT: "no input",
    Why.STALE: "stale input",
    Why.TOO_FEW: "too few inputs in the window",
    Why.INTERVAL: "funding interval unknown",
    Why.GATE: "volume below the gate",
    Why.IMPLIED: "price implied by open interest",
    Why.NO_BASE: "no value at the start of the window",
    Why.FLAT: "nothing traded or moved in the window",
    Why.ONE_VENUE: "one venue: nothing to compare",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A feature of (assets, bars), or of (1, bars) where it is the same for the whole market.

    value: NaN = unknown; age_h: age of the newest input at the bar, NaN = none; why: code from `Why`.
    """

    value: Floats
    age_h: Floats
    why: Codes

    def fresh(self, limit_h: float) -> Bools:
        """Where the value is known and its newest input younger than the limit."""
        found: Bools = np.isfinite(self.value) & (self.age_h < limit_h)
        return found


def measured(value: Floats, age_h: Floats, reasons: Mapping[Why, Bools] | None = None) -> Measured:
    """A Measured whose bars without a value carry the first reason that applies, else NO_INPUT; IMPLIED only remarks on a value."""
    known = np.isfinite(value)
    value = np.where(known, value, np.nan)
    why = np.where(known, np.int8(Why.FINE), np.int8(Why.NO_INPUT)).astype(np.int8)
    for reason, where in reversed(list((reasons or {}).items())):
        why[(where if where.shape == why.shape else np.broadcast_to(where, why.shape)) & (known if reason is Why.IMPLIED else ~known)] = (
            reason
        )
    return Measured(value, np.where(np.isfinite(age_h), age_h, np.nan), why)


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature. `reads`: core tables; `lookback`: how far before a bar its inputs may lie."""

    name: str
    #: number in METHODOLOGY 2
    id: str
    unit: str
    formula: str
    reads: frozenset[str]
    lookback: Callable[[Spec, CadenceRule], timedelta]
    compute: Callable[[Panel], Measured]


def named(*features: Feature) -> dict[str, Feature]:
    """Features by name; a name used twice raises ValueError."""
    found = {feature.name: feature for feature in features}
    if len(found) != len(features):
        raise ValueError("a feature is declared twice")
    return found

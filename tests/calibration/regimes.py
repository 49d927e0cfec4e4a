"""Choosing the thresholds of the regimes, walk-forward, by the guard-rails of METHODOLOGY 4.7 alone.

No return, no later outcome is looked at: a candidate is better when its states take up the shares of time that the method allows. So the
choice cannot be fitted to what came next. Euphoria and capitulation keep the method's own values: they ask for markets (S >= 75 with dear
carry; X >= 85) that two years do not hold often enough to move a threshold by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import product
from typing import Any

import numpy as np

from transforms.index import regimes
from transforms.rules import RegimeRule
from transforms.windows import to_ms

#: what was tried: percentile thresholds beside the method's absolute ones, 0 and 1 meaning "absolute only"
GRID: dict[str, tuple[float, ...]] = {
    "deleveraging_drawdown_p": (0.0, 0.5, 0.7),
    "deleveraging_oi_change_168h_p": (1.0, 0.25, 0.15, 0.1, 0.05),
    "deleveraging_leave_oi_change_168h_p": (1.0, 0.3, 0.4, 0.5),
    "buildup_oi_change_168h_p": (0.0, 0.75, 0.8, 0.85, 0.9, 0.95),
    "buildup_leave_oi_change_168h_p": (0.0, 0.5, 0.6, 0.7),
}
#: rails whose states the calibration leaves alone
LEFT_ALONE = ("euphoria", "capitulation")


@dataclass(frozen=True)
class Judged:
    """A candidate on a span: its distance from the guard-rails (0 = all hold), the room left to the nearest of them, how many fields leave the
    method's value, and the rails themselves.
    """

    rule: RegimeRule
    distance: float
    room: float
    departures: int
    rails: dict[str, Any]


def candidates(method: RegimeRule) -> Iterator[RegimeRule]:
    """Every combination of GRID that is a rule."""
    for values in product(*GRID.values()):
        rule = replace(method, **dict(zip(GRID, values, strict=True)))
        try:
            regimes.check_rule(rule)
        except ValueError:
            continue  # leaving would not be looser than entering
        yield rule


def measured(rails: dict[str, Any], rule: RegimeRule) -> tuple[float, float]:
    """(how far outside the rails, room to the nearest): shares as such, changes as a share of what is allowed."""
    if rails["shares"] is None:
        return float("inf"), float("-inf")
    room = [rule.other_max_share - rails["shares"][word] for word in regimes.REGIMES if word not in (*LEFT_ALONE, "neutral")]
    low, high = rule.neutral_share
    room += [rails["shares"]["neutral"] - low, high - rails["shares"]["neutral"], 1.0 - rails["changes_30d"] / rule.max_changes_30d]
    return round(sum(max(0.0, -one) for one in room), 6), round(min(room), 6)


def judged(rule: RegimeRule, inputs: regimes.RegimeInputs, when: np.ndarray, span: tuple[datetime, datetime], method: RegimeRule) -> Judged:
    """A rule run from the first bar; judged on the bars of [start, end)."""
    found, _ = regimes.run(inputs, when, regimes.start(inputs.s.shape[0], rule), rule, 24.0)
    start, end = (to_ms(instant) * 1000 for instant in span)
    inside = (when > start) & (when <= end)
    rails = regimes.guard_rails(found.code[:, inside], when[inside], rule)
    departures = sum(getattr(rule, field.name) != getattr(method, field.name) for field in fields(rule))
    off, room = measured(rails, rule)
    return Judged(rule, off, room, departures, rails)


def choose(inputs: regimes.RegimeInputs, when: np.ndarray, span: tuple[datetime, datetime], method: RegimeRule) -> list[Judged]:
    """All candidates on a span, best first: inside the rails, then nearest to the method, then with most room to the rails."""
    found = [judged(rule, inputs, when, span, method) for rule in candidates(method)]
    return sorted(found, key=lambda one: (one.distance, one.departures, -one.room, [getattr(one.rule, name) for name in GRID]))


def settings(rule: RegimeRule) -> str:
    """The calibrated fields of a rule."""
    return ", ".join(f"{name} {getattr(rule, name):g}" for name in GRID)


def shares(rails: dict[str, Any]) -> Sequence[str]:
    """Shares of the states and changes per 30 d, as cells."""
    return [*(f"{rails['shares'][word]:.3f}" for word in regimes.REGIMES), f"{rails['changes_30d']:.2f}"]

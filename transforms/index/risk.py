"""Risk state: is the market taking risk, shedding it, or neither (METHODOLOGY 2.6, ST.7)? Orthogonal to the regimes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import HOUR_US, Floats, Ints, kernel
from transforms.features.contract import Codes
from transforms.rules import RiskRule

State = dict[str, NDArray[Any]]

#: a code is a place in this tuple
RISK_STATES: Final = ("risk_on", "risk_off", "mixed")
NO_STATE: Final = -1
_ON: Final = 0
_OFF: Final = 1
_MIXED: Final = 2
_NEVER: Final = -(2**63)


@kernel
def _walk(value: Floats, when: Ints, code: Codes, last_known: Ints, enter: float, leave: float, unknown_us: int) -> Codes:
    """Code per asset and bar; `code` and `last_known` hold the state and are updated."""
    assets, bars = value.shape
    codes = np.empty((assets, bars), np.int8)
    for a in range(assets):
        c = int(code[a])
        heard = int(last_known[a])
        for t in range(bars):
            v = value[a, t]
            if c != NO_STATE and when[t] - heard > unknown_us:
                c = NO_STATE
            if np.isfinite(v):
                heard = int(when[t])
                if v >= enter:
                    c = _ON
                elif v <= -enter:
                    c = _OFF
                elif not ((c == _ON and v >= leave) or (c == _OFF and v <= -leave)):
                    c = _MIXED
            codes[a, t] = c
        code[a] = c
        last_known[a] = heard
    return codes


def start(assets: int, rule: RiskRule) -> State:
    """State before the first bar: none. code int8, last_known int64 us, each (assets,). Checks the rule."""
    check_rule(rule)
    return {"code": np.full(assets, NO_STATE, dtype=np.int8), "last_known": np.full(assets, _NEVER, dtype=np.int64)}


def run(
    stablecoin_score: Floats, trend_score: Floats, x: Floats, when: Ints, state: State, rule: RiskRule
) -> tuple[tuple[Codes, Floats], State]:
    """((code, value), state after the last bar) of the bars ending at `when` (us).

    `value = 0.4 * stablecoin_score + 0.3 * trend_score + 0.3 * (1 - 2 X / 100)` in [-1, 1], rounded to 1e-6; +1 = all take risk.
    stablecoin_score: score of g30 in [-1, 1], (assets, bars) or (1, bars) for all; trend_score: in [-1, 1], x: 0..100, (assets, bars).
    risk_on from value >= 0.2 until value < 0.1; risk_off from value <= -0.2 until value > -0.1; else mixed. Constants: RiskRule.
    One unknown input leaves the value NaN and the state as it was, for at most unknown_after_h; then, and before the first value, -1.
    Raises ValueError where shapes, state or rule do not fit.
    """
    check_rule(rule)
    shape = (len(state["code"]), len(when))
    if trend_score.shape != shape or x.shape != shape or stablecoin_score.shape not in (shape, (1, shape[1])):
        found = f"{stablecoin_score.shape}, {trend_score.shape} and {x.shape}"
        raise ValueError(f"found inputs of shapes {found}; state and bars ask for (assets, bars) = {shape}")
    if len(when) and len(state["code"]) and state["last_known"].max() >= when[0]:
        raise ValueError(f"found a state that was written at or after the first bar ({when[0]} us); pass the state from before it")
    calm = 1.0 - 2.0 * x / 100.0
    value = np.round(rule.stablecoin_weight * stablecoin_score + rule.trend_weight * trend_score + rule.calm_weight * calm, 6) + 0.0
    value = np.where(np.isfinite(value), value, np.nan)
    after: State = {name: np.array(state[name]) for name in ("code", "last_known")}
    code = _walk(
        value,
        np.array(when, dtype=np.int64),
        after["code"],
        after["last_known"],
        round(rule.enter, 6),
        round(rule.leave, 6),
        round(rule.unknown_after_h * HOUR_US),
    )
    return (code, value), after


def check_rule(rule: RiskRule) -> None:
    """Raise ValueError where weights do not add up to 1, or leaving is not looser than entering."""
    weights = (rule.stablecoin_weight, rule.trend_weight, rule.calm_weight)
    if not abs(sum(weights) - 1.0) < 1e-9 or not min(weights) >= 0.0:
        raise ValueError(f"found RiskRule with weights {weights}; they are not negative and add up to 1")
    if not 0.0 <= rule.leave < rule.enter <= 1.0:
        raise ValueError(f"found RiskRule with leave = {rule.leave}, enter = {rule.enter}; choose 0 <= leave < enter <= 1")
    if not rule.unknown_after_h >= 0.0:
        raise ValueError(f"found RiskRule.unknown_after_h = {rule.unknown_after_h}; hours are not negative")

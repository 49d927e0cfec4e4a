"""Regimes: a named state per asset, with hysteresis, and the rule behind every change (METHODOLOGY 4.7).

The regime at t is a function of the state before and of the inputs at t, rounded to 1e-6. What holds:

* Priority is the order of REGIMES. A state whose rule to enter is met replaces any state below it, and any state that is being left.
* Nothing replaces a state younger than `min_dwell_h` but capitulation.
* Capitulation and deleveraging, left while no rule to enter is met, become recovery; the other states become neutral.
* Recovery ends after `recovery_max_h`, or when a rule to enter is met.
* A comparison with an unknown value is not met: nothing is entered on it and nothing is left on it. Recovery ends by the clock alone.
* The first bar at which anything is known of an asset is neutral, whatever its inputs say; the rules apply from the next bar on.
* After more than `unknown_after_h` without any input there is no regime (-1), and the next bar with input is a first bar again.

The comparisons stand in one table (ENTER, LEAVE): what the kernel walks on and what `explain` says come from the same numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import DAY_US, HOUR_US, Bools, Floats, Ints, kernel
from transforms.features.contract import Codes
from transforms.rules import RegimeRule

State = dict[str, NDArray[Any]]
Explanation = dict[str, Any]

#: by priority; a code is a place in this tuple
REGIMES: Final = ("capitulation", "deleveraging", "euphoria", "leverage_buildup", "recovery", "neutral")
NO_REGIME: Final = -1
_WORDS: Final = (*REGIMES, None)
_CAPITULATION: Final = 0
_RECOVERY: Final = 4
_NEUTRAL: Final = 5

#: what made a change; a rule_code is a place in this tuple
RULES: Final = (*(f"enter_{word}" for word in REGIMES[:4]), *(f"leave_{word}" for word in REGIMES[:4]), "recovery_over", "start", "unknown")
NO_RULE: Final = -1
_LEAVE: Final = 4
_START: Final = 9
_UNKNOWN: Final = 10
#: where each rule leads
_LEADS_TO: Final = (0, 1, 2, 3, _RECOVERY, _RECOVERY, _NEUTRAL, _NEUTRAL, _NEUTRAL, _NEUTRAL, NO_REGIME)

#: no such instant (numpy's NaT in a datetime64[us])
NEVER: Final = -(2**63)
_PLACES: Final = 6


@dataclass(frozen=True, slots=True)
class RegimeInputs:
    """What the rules read, each (assets, bars), NaN = unknown.

    s, x: indices 0..100, NaN where withheld; carry_score: in [-1, 1], positive = longs pay; level_p: percentile 0..1 of the leverage level;
    return_24h: log; sigma_d: standard deviation of daily log returns (not positive counts as unknown); oi_change_24h, oi_change_168h: log
    of the quantity index; oi_drawdown_90d: share below its 90-d high; buildup_p, drawdown_p, flush_p: percentiles 0..1 of oi_change_168h,
    oi_drawdown_90d and minus oi_change_24h in their own trailing past.
    """

    s: Floats
    carry_score: Floats
    level_p: Floats
    x: Floats
    return_24h: Floats
    sigma_d: Floats
    oi_change_24h: Floats
    oi_change_168h: Floats
    oi_drawdown_90d: Floats
    buildup_p: Floats
    drawdown_p: Floats
    flush_p: Floats

    def at(self, asset: int, bar: int) -> dict[str, float]:
        """The inputs of one bar by name."""
        return {name: float(getattr(self, name)[asset, bar]) for name in INPUTS}


INPUTS: Final = tuple(field.name for field in fields(RegimeInputs))


@dataclass(frozen=True, slots=True)
class Regimes:
    """(assets, bars). code: place in REGIMES, -1 = none; since: us, when the state was entered, NEVER without one.

    changed: a state was entered or lost at this bar (a first bar is entered even after neutral); rule_code: place in RULES of the rule that
    made the change, -1 where there was none.
    """

    code: Codes
    since: Ints
    changed: Bools
    rule_code: Codes


@dataclass(frozen=True, slots=True)
class Comparison:
    """`value is limit`: names of an input, of a sign and of a field of RegimeRule; the limit may be a multiple of another input.

    Not asked where the limit equals `neutral`.
    """

    value: str
    sign: str
    limit: str
    multiple_of: str = ""
    neutral: float | None = None


_SIGNS: Final[dict[str, Callable[[Any, Any], Any]]] = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}

#: all must hold
ENTER: Final = (
    (
        Comparison("x", ">=", "capitulation_x"),
        Comparison("return_24h", "<=", "capitulation_return_sigmas", multiple_of="sigma_d"),
        Comparison("oi_change_24h", "<=", "capitulation_oi_change_24h_log"),
        Comparison("flush_p", ">=", "capitulation_flush_p", neutral=0.0),
    ),
    (
        Comparison("oi_drawdown_90d", ">=", "deleveraging_drawdown_share"),
        Comparison("drawdown_p", ">=", "deleveraging_drawdown_p", neutral=0.0),
        Comparison("oi_change_168h", "<=", "deleveraging_oi_change_168h_log"),
        Comparison("buildup_p", "<=", "deleveraging_oi_change_168h_p", neutral=1.0),
    ),
    (
        Comparison("s", ">=", "euphoria_s"),
        Comparison("carry_score", ">=", "euphoria_carry_score"),
        Comparison("level_p", ">=", "euphoria_level_p", neutral=0.0),
    ),
    (
        Comparison("oi_change_168h", ">=", "buildup_oi_change_168h_log"),
        Comparison("buildup_p", ">=", "buildup_oi_change_168h_p", neutral=0.0),
        Comparison("level_p", ">=", "buildup_level_p", neutral=0.0),
    ),
)
#: one is enough
LEAVE: Final = (
    (Comparison("x", "<", "capitulation_leave_x"),),
    (
        Comparison("oi_change_168h", ">", "deleveraging_leave_oi_change_168h_log"),
        Comparison("buildup_p", ">", "deleveraging_leave_oi_change_168h_p", neutral=1.0),
    ),
    (Comparison("s", "<", "euphoria_leave_s"), Comparison("carry_score", "<", "euphoria_leave_carry_score")),
    (
        Comparison("oi_change_168h", "<", "buildup_leave_oi_change_168h_log"),
        Comparison("buildup_p", "<", "buildup_leave_oi_change_168h_p", neutral=0.0),
    ),
)


# --- the walk ---------------------------------------------------------------------------------------------------------------------


@kernel
def _walk(
    known: Bools, enters: Bools, leaves: Bools, when: Ints, code: Codes, since: Ints, last_known: Ints, spans_us: tuple[int, int, int]
) -> tuple[Codes, Ints, Codes]:
    """(code, since, rule_code) per asset and bar; the arrays of the state are updated. enters, leaves: (4, assets, bars)."""
    assets, bars = known.shape
    dwell_us, recovery_us, unknown_us = spans_us
    codes = np.empty((assets, bars), np.int8)
    instants = np.empty((assets, bars), np.int64)
    rules = np.empty((assets, bars), np.int8)
    for a in range(assets):
        c = int(code[a])
        entered = int(since[a])
        heard = int(last_known[a])
        for t in range(bars):
            now = int(when[t])
            made = NO_RULE
            if c != NO_REGIME and now - heard > unknown_us:
                c, entered, made = NO_REGIME, NEVER, _UNKNOWN
            if known[a, t]:
                heard = now
            if c == NO_REGIME:
                if known[a, t]:
                    c, entered, made = _NEUTRAL, now, _START
            else:
                dwelt = now - entered >= dwell_us
                over = c == _RECOVERY and now - entered >= recovery_us
                left = dwelt and (over or (c < _RECOVERY and leaves[c, a, t]))
                for k in range(_RECOVERY):
                    if k == c and not left:
                        break
                    if k != c and enters[k, a, t] and (dwelt or k == _CAPITULATION):
                        made = k
                        break
                if left and made == NO_RULE:
                    made = _LEAVE + c
                if made != NO_RULE:
                    c, entered = _LEADS_TO[made], now
            codes[a, t] = c
            instants[a, t] = entered
            rules[a, t] = made
        code[a] = c
        since[a] = entered
        last_known[a] = heard
    return codes, instants, rules


def start(assets: int, rule: RegimeRule) -> State:
    """State before the first bar: no regime. code int8, since and last_known int64 us, each (assets,). Checks the rule."""
    check_rule(rule)
    since, last_known = np.full((2, assets), NEVER, dtype=np.int64)
    return {"code": np.full(assets, NO_REGIME, dtype=np.int8), "since": since, "last_known": last_known}


def run(inputs: RegimeInputs, when: Ints, state: State, rule: RegimeRule, step_h: float) -> tuple[Regimes, State]:
    """Regimes of the bars ending at `when` (us, every step_h hours), and the state after the last.

    Raises ValueError where shapes, grid, state or rule do not fit.
    """
    check_rule(rule)
    _check_grid(inputs, when, state, step_h)
    after: State = {name: np.array(state[name]) for name in ("code", "since", "last_known")}
    spans_us = (round(rule.min_dwell_h * HOUR_US), round(rule.recovery_max_h * HOUR_US), round(rule.unknown_after_h * HOUR_US))
    enters = np.stack([_met(one, inputs, rule, every=True) for one in ENTER])
    leaves = np.stack([_met(one, inputs, rule, every=False) for one in LEAVE])
    instants = np.array(when, dtype=np.int64)
    code, since, rule_code = _walk(_known(inputs), enters, leaves, instants, after["code"], after["since"], after["last_known"], spans_us)
    return Regimes(code, since, rule_code != NO_RULE, rule_code), after


def _rounded(values: Floats, name: str) -> Floats:
    """Values as they are compared: rounded to 1e-6, NaN where they are not finite or not a volatility."""
    found: Floats = np.round(values, _PLACES) + 0.0
    fit = np.isfinite(found) & (found > 0.0) if name == "sigma_d" else np.isfinite(found)
    return np.where(fit, found, np.nan)


def _sides(one: Comparison, inputs: RegimeInputs, rule: RegimeRule) -> tuple[Floats, Floats]:
    """(value, limit) as they are compared."""
    limit = np.full((1, 1), getattr(rule, one.limit))
    if one.multiple_of:
        limit = limit * _rounded(getattr(inputs, one.multiple_of), one.multiple_of)
    return _rounded(getattr(inputs, one.value), one.value), np.round(limit, _PLACES) + 0.0


def _asked(comparisons: tuple[Comparison, ...], rule: RegimeRule) -> list[Comparison]:
    return [one for one in comparisons if getattr(rule, one.limit) != one.neutral]


def _met(comparisons: tuple[Comparison, ...], inputs: RegimeInputs, rule: RegimeRule, *, every: bool) -> Bools:
    """Where all (every) or any of the comparisons hold; one with NaN does not."""
    found = np.full(inputs.x.shape, every)
    for one in _asked(comparisons, rule):
        value, limit = _sides(one, inputs, rule)
        met = _SIGNS[one.sign](value, limit)
        found = found & met if every else found | met
    return found


def _known(inputs: RegimeInputs) -> Bools:
    """Where any input is known."""
    found = np.zeros(inputs.x.shape, dtype=bool)
    for name in INPUTS:
        found |= np.isfinite(getattr(inputs, name))
    return found


# --- why ------------------------------------------------------------------------------------------------------------------------------


def explain(
    at: Mapping[str, float], before: int, after: int, rule_code: int, rule: RegimeRule, *, held_h: float = np.nan, silent_h: float = np.nan
) -> Explanation:
    """The rule behind a change with every value it compared and every limit, as plain JSON (unknown = null).

    at: inputs of the bar by name; before, after: codes; held_h: how long the state before had lasted; silent_h: how long nothing had been
    known. A state left for one below it shows both the rule that let it go and the rule that took over. Raises ValueError where these
    numbers do not make this change.

    {"from", "to": words or null, "rule", "compared": [{"rule", "input", "value", "is", "limit", "setting", "met"}]}
    """
    inputs = RegimeInputs(**{name: np.full((1, 1), at[name]) for name in INPUTS})
    possible = rule_code != NO_RULE and after == _LEADS_TO[rule_code] and _applies(rule_code, before)
    parts: list[tuple[list[Explanation], Callable[[Iterable[bool]], bool]]] = []
    if rule_code == _UNKNOWN or (rule_code == _START and before != NO_REGIME):
        parts.append(([_row("unknown", "silent_h", silent_h, ">", "unknown_after_h", rule.unknown_after_h)], all))
    elif rule_code != _START:
        if rule_code != _CAPITULATION:
            parts.append(([_row("dwell", "held_h", held_h, ">=", "min_dwell_h", rule.min_dwell_h)], all))
        if rule_code == _LEAVE + _RECOVERY:
            parts.append(([_row("recovery_over", "held_h", held_h, ">=", "recovery_max_h", rule.recovery_max_h)], all))
        elif possible and rule_code > before:
            parts.append(([_compared(one, RULES[_LEAVE + before], inputs, rule) for one in _asked(LEAVE[before], rule)], any))
        if rule_code < _LEAVE:
            parts.append(([_compared(one, RULES[rule_code], inputs, rule) for one in _asked(ENTER[rule_code], rule)], all))
    rows = [row for part, _ in parts for row in part]
    found = {"from": _WORDS[before], "to": _WORDS[after], "rule": RULES[rule_code], "compared": rows}
    if not possible or not all(enough(row["met"] for row in part) for part, enough in parts):
        raise ValueError(f"found a change that these inputs do not make: {found}; pass the inputs, codes and rule of one change")
    return found


def explained(inputs: RegimeInputs, when: Ints, found: Regimes, state: State, rule: RegimeRule) -> dict[tuple[int, int], Explanation]:
    """`explain` for every change of a run, by (asset, bar). inputs, when, state: as they were handed to `run`."""
    known = _known(inputs)
    reasons = {}
    for a, t in np.argwhere(found.changed).tolist():
        before, since = (found.code[a, t - 1], found.since[a, t - 1]) if t else (state["code"][a], state["since"][a])
        earlier = np.flatnonzero(known[a, :t])
        heard = when[earlier[-1]] if len(earlier) else state["last_known"][a]
        held_h, silent_h = (np.nan if instant == NEVER else (int(when[t]) - int(instant)) / HOUR_US for instant in (since, heard))
        after, rule_code = int(found.code[a, t]), int(found.rule_code[a, t])
        reasons[a, t] = explain(inputs.at(a, t), int(before), after, rule_code, rule, held_h=held_h, silent_h=silent_h)
    return reasons


def _applies(rule_code: int, before: int) -> bool:
    if rule_code < _LEAVE or rule_code == _UNKNOWN:
        return before not in (NO_REGIME, rule_code)
    return rule_code == _START or before == rule_code - _LEAVE


def _compared(one: Comparison, name: str, inputs: RegimeInputs, rule: RegimeRule) -> Explanation:
    value, limit = (float(side[0, 0]) for side in _sides(one, inputs, rule))
    multiple = {"multiple": getattr(rule, one.limit), "of": one.multiple_of} if one.multiple_of else {}
    return _row(name, one.value, value, one.sign, one.limit, limit) | multiple


def _row(name: str, what: str, value: float, sign: str, setting: str, limit: float) -> Explanation:
    shown = [None if np.isnan(number) else number for number in (value, limit)]
    met = bool(_SIGNS[sign](value, limit))
    return {"rule": name, "input": what, "value": shown[0], "is": sign, "limit": shown[1], "setting": setting, "met": met}


# --- calibration ------------------------------------------------------------------------------------------------------------------------


def guard_rails(codes: Codes, when: Ints, rule: RegimeRule) -> Explanation:
    """How often each state holds and changes, and which guard-rails of METHODOLOGY 4.7 that breaks, as plain JSON.

    codes: (assets, bars); assets are pooled, so pass one row to judge one asset. Shares: of the bars that have a regime. Changes: between
    neighbouring bars that both have one, per 30 d of such time. Without any, there is nothing to judge, and that is a breach, too.

    {"bars", "days", "shares": {word: share}, "changes_30d", "broken": [sentence]}
    """
    has = codes != NO_REGIME
    bars, both = int(has.sum()), has[:, 1:] & has[:, :-1]
    days = float((both * np.diff(when)[None, :]).sum() / DAY_US)
    if not days:
        return {"bars": bars, "days": 0.0, "shares": None, "changes_30d": None, "broken": ["no two neighbouring bars have a regime"]}
    shares = {word: round(int((codes == place).sum()) / bars, _PLACES) for place, word in enumerate(REGIMES)}
    changes = round(int((both & (codes[:, 1:] != codes[:, :-1])).sum()) * 30.0 / days, _PLACES)
    allowed = dict.fromkeys(REGIMES, (0.0, rule.other_max_share))
    allowed |= {"neutral": rule.neutral_share, "capitulation": rule.capitulation_share, "euphoria": rule.euphoria_share}
    broken = [
        f"{word} holds a share of {shares[word]:g} of the bars; {low:g} to {high:g} are allowed"
        for word, (low, high) in allowed.items()
        if not low <= shares[word] <= high
    ]
    if changes > rule.max_changes_30d:
        broken.append(f"{changes:g} changes in 30 d; {rule.max_changes_30d:g} are allowed")
    return {"bars": bars, "days": days, "shares": shares, "changes_30d": changes, "broken": broken}


# --- what does not fit --------------------------------------------------------------------------------------------------------------


def check_rule(rule: RegimeRule) -> None:
    """Raise ValueError where leaving is not looser than entering, a limit has the wrong sign or range, or hours make no sense."""
    for place, leaving in enumerate(LEAVE):
        for one in _asked(leaving, rule):
            enter = next(other for other in ENTER[place] if other.value == one.value)
            out, into = getattr(rule, one.limit), getattr(rule, enter.limit)
            if not _SIGNS[one.sign](out, into):
                side = "below" if one.sign == "<" else "above"
                raise ValueError(f"found RegimeRule.{one.limit} = {out}, {enter.limit} = {into}; choose the first {side} the second")
    for one in (one for entering in ENTER for one in entering):
        limit = getattr(rule, one.limit)
        if one.limit.endswith(("_log", "_sigmas")) and not _SIGNS[one.sign](limit, 0.0):
            raise ValueError(f"found RegimeRule.{one.limit} = {limit}; choose a limit {one.sign} 0")
    for field in fields(rule):
        value = getattr(rule, field.name)
        low, high = value if isinstance(value, tuple) else (value, value)
        if field.name.endswith(("_p", "_share")) and not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"found RegimeRule.{field.name} = {value}; percentiles and shares lie in 0..1, the lower first")
    dwell, recovery, unknown = rule.min_dwell_h, rule.recovery_max_h, rule.unknown_after_h
    if not 0.0 <= dwell <= recovery or not unknown >= 0.0:
        found = f"min_dwell_h = {dwell}, recovery_max_h = {recovery}, unknown_after_h = {unknown}"
        raise ValueError(f"found RegimeRule.{found}; choose hours of at least 0, and recovery_max_h no shorter than min_dwell_h")


def _check_grid(inputs: RegimeInputs, when: Ints, state: State, step_h: float) -> None:
    shape = (len(state["code"]), len(when))
    for name in INPUTS:
        if getattr(inputs, name).shape != shape:
            raise ValueError(f"found {name} of shape {getattr(inputs, name).shape}; state and bars ask for (assets, bars) = {shape}")
    if len(when) > 1 and not (np.diff(when) == round(step_h * HOUR_US)).all():
        raise ValueError(f"found bars that are not {step_h} h apart; pass every bar of the grid, with NaN where nothing is known")
    if len(when) and len(state["code"]) and max(state["since"].max(), state["last_known"].max()) >= when[0]:
        raise ValueError(f"found a state that was written at or after the first bar ({when[0]} us); pass the state from before it")

"""Events: dated warnings with a reason and their own track record (METHODOLOGY 4.8). The types stand in transforms/index/event_types.py.

The record of a type is kept per asset: what happens to one asset happens to many on the same day, and counting it many times would make ten
days of history look like a hundred (METHODOLOGY 9.1, trap 10). It counts only what can be judged: an event counts when its horizon is over,
an onset when it is known, and a move that had begun before the event is no hit (trap 7). The base rate is the record of control windows:
one horizon long, one after the other, at fixed calendar instants, judged by the same code.

Recursive: `run` takes the state of the bar before its first and returns the state after its last; whole == pieces, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import HOUR_US, Bools, Floats, Ints, kernel
from transforms.index.cascades import ANY_CHANGE, NEVER, Starts, State, copied, follow, micro, onsets
from transforms.index.event_types import DELEVERAGING, EVENT_TYPES, OUTCOMES, EventType, Read, Reading
from transforms.index.track_records import STREAMS, track
from transforms.rules import CascadeRule, EventRule

#: One row an event, flat columns of one length, ordered by bar, asset, type.
#: type: place in EVENT_TYPES; asset, bar: index in this run; as_of: instant, us; n_hist: events of the type and asset whose horizon is over;
#: hist_precision: share of them that were hits; hist_recall: share of the outcome's onsets that lay in the horizon of an event;
#: base_rate: share of control windows with a hit. Shares are NaN below EventRule.min_history.
EventRows = dict[str, NDArray[Any]]
COLUMNS: Final[Mapping[str, type]] = {
    "type": np.int16,
    "asset": np.int64,
    "bar": np.int64,
    "as_of": np.int64,
    "side": np.int8,
    "severity": np.float64,
    "value": np.float64,
    "threshold": np.float64,
    "horizon_h": np.float64,
    "n_hist": np.int64,
    "hist_precision": np.float64,
    "hist_recall": np.float64,
    "base_rate": np.float64,
}


# --- state ------------------------------------------------------------------------------------------------------------------------


def _spans_us(kind: EventType, rule: EventRule, step_h: float, cascade: CascadeRule) -> tuple[int, int, int]:
    """(horizon and cool-down, wait until an event can be judged, lead of a detection) of a type, us."""
    horizon_h = max(rule.horizon_h(kind.name), step_h)
    if horizon_h % step_h:
        raise ValueError(f"found a horizon of {horizon_h:g} h for {kind.name} on a grid of {step_h:g} h; make it a multiple of the step")
    window_h = max(step_h, OUTCOMES[kind.outcome].window_h(rule, cascade.window_h)) if kind.outcome else step_h
    lead_h = window_h if kind.detects else 0.0
    return round(horizon_h * HOUR_US), round((horizon_h - step_h + window_h) * HOUR_US), round(lead_h * HOUR_US)


def _reach(rule: EventRule, step_h: float) -> int:
    """Bars the windows of the price outcomes may reach back to."""
    return max(1, round(max(rule.jump_h, rule.swing_h) / step_h))


def start(assets: int, rule: EventRule, step_h: float, cascade: CascadeRule) -> State:
    """State before the first bar: nothing raised, nothing judged. Each array begins with the asset axis.

    Every type and side holds as many unjudged events as its cool-down lets stand at once.
    """
    types, slots = len(EVENT_TYPES), 1
    for kind in EVENT_TYPES:
        horizon, wait, _ = _spans_us(kind, rule, step_h, cascade)
        slots = max(slots, -(-wait // horizon))
    return {
        "until": np.full(assets, NEVER),
        "settlements": np.full((assets, rule.settlements), np.nan),
        "regime": np.full((assets, 1), np.nan),
        "returns": np.full((assets, _reach(rule, step_h)), np.nan),
        "sigma": np.full((assets, _reach(rule, step_h)), np.nan),
        "jump": np.full(assets, NEVER),
        "swing": np.full(assets, NEVER),
        "open_at": np.full((assets, types, STREAMS, slots), NEVER),
        "open_hit": np.zeros((assets, types, STREAMS, slots), np.bool_),
        "open_whole": np.zeros((assets, types, STREAMS, slots), np.bool_),
        #: judged, hits
        "judged": np.zeros((assets, types, STREAMS, 2), np.int64),
        #: onsets, those within the horizon of an event
        "onsets": np.zeros((assets, types, 2), np.int64),
        #: beginning and side of the last onset
        "onset": np.full((assets, types, 2), NEVER),
        #: last event by side
        "raised": np.full((assets, types, 3), NEVER),
        #: first and last bar at which the condition could be judged
        "awake": np.full((assets, types, 2), NEVER),
    }


_PER_TYPE: Final = ("open_at", "open_hit", "open_whole", "judged", "onsets", "onset", "raised", "awake")


# --- running ----------------------------------------------------------------------------------------------------------------------


def run(
    inputs: Mapping[str, Floats], when: Ints, state: Mapping[str, NDArray[Any]], rule: EventRule, step_h: float, cascade: CascadeRule
) -> tuple[EventRows, State]:
    """Events of all types at the bars of `when`, and the state after the last.

    inputs by name: (assets, bars), or (1, bars) for what is one for the market; NaN = unknown. An input that is missing raises nothing.
    `settled` marks bars with a funding settlement (on the daily grid, where it is missing: every bar); `regime` holds places in REGIMES, -1
    none; `cascade_known`: Starts.signed(), `cascade_age_h`: Starts.age_h() (missing: a start counts as early as it can have been).
    A shape that does not fit raises ValueError.
    """
    left = copied(state)
    follow(left, when, step_h)
    shape = (len(left["until"]), len(when))
    held = {name: _fitted(name, values, shape) for name, values in inputs.items()}
    nothing = np.full(shape, np.nan)

    def read(name: str) -> Floats:
        return held.get(name, nothing)

    _remember(held, read, left, rule, step_h)
    moves = {name: _moves(name, read, when, left, rule, step_h, cascade) for name in OUTCOMES}
    _keep_returns(read, left)
    parts = [_of_type(k, kind, read, when, moves.get(kind.outcome), left, rule, step_h, cascade) for k, kind in enumerate(EVENT_TYPES)]
    rows: EventRows = {name: np.concatenate([part[name] for part in parts]).astype(kind) for name, kind in COLUMNS.items()}
    order = np.lexsort((rows["type"], rows["asset"], rows["bar"]))
    return {name: values[order] for name, values in rows.items()}, left


def _fitted(name: str, values: NDArray[Any], shape: tuple[int, int]) -> Floats:
    """An input as floats of the shape of the run."""
    if values.ndim != 2 or values.shape[0] not in (1, shape[0]) or values.shape[1] != shape[1]:
        raise ValueError(f"found input {name} of shape {values.shape}; hand over (assets, bars) = {shape}, or one row for the market")
    return np.ascontiguousarray(np.broadcast_to(values.astype(np.float64), shape))


def _remember(held: dict[str, Floats], read: Read, left: State, rule: EventRule, step_h: float) -> None:
    """Inputs that look back: `funding_held` (FU.9) and `regime_before`; a regime of -1 is unknown."""
    daily = step_h >= 24.0
    settled = held["settled"] == 1.0 if "settled" in held else np.full(read("carry_score").shape, daily)
    held["funding_held"] = _held_funding(read("carry_score"), settled, rule.extreme_settlements, left["settlements"])
    regime = np.where(read("regime") >= 0.0, read("regime"), np.nan)
    held["regime"], held["regime_before"] = regime, _before(regime, left["regime"])


@kernel
def _held_funding(score: Floats, settled: Bools, least: int, last: Floats) -> Floats:
    """At settlements: the score reached on one side in `least` of the last ones, 0 where sides differ; NaN elsewhere or where too few are known.

    `last` (assets, settlements) is changed.
    """
    found = np.full(score.shape, np.nan)
    for a in range(score.shape[0]):
        for t in range(score.shape[1]):
            if not settled[a, t]:
                continue
            for n in range(last.shape[1] - 1):
                last[a, n] = last[a, n + 1]
            last[a, last.shape[1] - 1] = score[a, t]
            ranked = np.sort(last[a][np.isfinite(last[a])])
            size = ranked.shape[0]
            if size >= least:
                up, down = ranked[size - least], -ranked[least - 1]
                found[a, t] = max(up, 0.0) if up >= down else -max(down, 0.0)
    return found


@kernel
def _before(codes: Floats, last: Floats) -> Floats:
    """The last known code before each bar, NaN while there is none. `last` is changed."""
    found = np.full(codes.shape, np.nan)
    for a in range(codes.shape[0]):
        for t in range(codes.shape[1]):
            found[a, t] = last[a, 0]
            if np.isfinite(codes[a, t]):
                last[a, 0] = codes[a, t]
    return found


# --- outcomes ---------------------------------------------------------------------------------------------------------------------


def _moves(name: str, read: Read, when: Ints, left: State, rule: EventRule, step_h: float, cascade: CascadeRule) -> Starts:
    """Onsets of an outcome. What is known at a bar at once began in that bar: the event of the bar before is the last that can have said so."""
    step_us = round(step_h * HOUR_US)
    if name == "cascade":
        known, age = read("cascade_known"), read("cascade_age_h")
        side = np.where(np.isfinite(known), known, 0.0).astype(np.int8)
        age_us = (np.where(np.isfinite(age), age, max(cascade.window_h, step_h)) * HOUR_US).astype(np.int64)
        return Starts(side, np.where(side != 0, when - age_us, NEVER), np.isfinite(known))
    if name in ("jump", "swing"):
        sigmas, hours = (rule.jump_sigmas, rule.jump_h) if name == "jump" else (rule.swing_sigmas, rule.swing_h)
        returns, sigma = (
            np.concatenate([left[kept], read(now)], axis=1) for kept, now in (("returns", "return_1bar"), ("sigma", "sigma_d"))
        )
        bars, gap_us = max(1, round(hours / step_h)), round(hours * HOUR_US)
        return Starts(*onsets(returns, returns, sigma, when, step_us, bars, micro(sigmas), ANY_CHANGE, gap_us, left[name]))
    if name == "deleveraging":
        now, before = read("regime"), read("regime_before")
        begun = np.isin(now, DELEVERAGING) & np.isfinite(before) & ~np.isin(before, DELEVERAGING)
        seen = np.isfinite(now)
    else:
        away, left_h = read("strike_distance_em"), read("option_expiry_h")
        seen = np.isfinite(away) & np.isfinite(left_h)
        begun = seen & (left_h > 0.0) & (left_h <= step_h) & (np.rint(np.abs(away) * 1e6) <= micro(rule.pin_em))
    return Starts(begun.astype(np.int8), np.where(begun, when - step_us, NEVER), seen)


def _keep_returns(read: Read, left: State) -> None:
    """The last bars of the price, for the windows of the next run."""
    for kept, now in (("returns", "return_1bar"), ("sigma", "sigma_d")):
        bars = left[kept].shape[1]
        long = np.concatenate([left[kept], read(now)], axis=1)
        left[kept] = long[:, long.shape[1] - bars :].copy()


# --- one type ---------------------------------------------------------------------------------------------------------------------


def _of_type(
    k: int, kind: EventType, read: Read, when: Ints, moves: Starts | None, left: State, rule: EventRule, step_h: float, cascade: CascadeRule
) -> EventRows:
    """Rows of one type, in its own order; its part of the state is changed."""
    reading: Reading = kind.condition(read, rule)
    awake = np.isfinite(reading.value)
    raised = reading.raised & awake
    side = np.where(raised, reading.side, 0.0).astype(np.int8)
    horizon_us, wait_us, lead_us = _spans_us(kind, rule, step_h, cascade)
    if moves is None:
        nobody = np.zeros(awake.shape, np.bool_)
        moves = Starts(np.zeros(awake.shape, np.int8), np.full(awake.shape, NEVER), nobody)
    own = {name: np.ascontiguousarray(left[name][:, k]) for name in _PER_TYPE}
    asset, bar, judged, precision, recall, base = track(
        raised,
        side,
        awake,
        when,
        moves.side,
        moves.began,
        moves.seen,
        (kind.outcome != "", int(kind.counts)),
        (horizon_us, wait_us, lead_us),
        rule.min_history,
        tuple(own.values()),
    )
    for name, values in own.items():
        left[name][:, k] = values
    return {
        "type": np.full(len(asset), k),
        "asset": asset,
        "bar": bar,
        "as_of": when[bar],
        "side": side[asset, bar],
        "severity": reading.severity[asset, bar],
        "value": reading.value[asset, bar],
        "threshold": np.full(len(asset), reading.threshold),
        "horizon_h": np.full(len(asset), horizon_us / HOUR_US),
        "n_hist": judged,
        "hist_precision": precision,
        "hist_recall": recall,
        "base_rate": base,
    }

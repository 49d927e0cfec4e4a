"""When a cascade began, and whether one is going on.

`label` is the ground truth (METHODOLOGY 4.6): price and open interest only, no input of S, F or X. It is a causal stream: a start is told at
the bar where the move had happened, together with the bar where it began. `detect` is the online detector (LQ.10), which sees liquidations.

Recursive: each takes the state of the bar before its first and returns the state after its last; whole == pieces, bit for bit.
Layout as in transforms/estimators.py, asset axis first in every array of a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import HOUR_US, Bools, Floats, Ints, kernel
from transforms.rules import CascadeRule

Sides = NDArray[np.int8]
State = dict[str, NDArray[Any]]

#: instant of what has not happened
NEVER: Final = -(2**62)
#: no fall asked for, in steps of 1e-6
ANY_CHANGE: Final = -(2**40)


@dataclass(frozen=True, slots=True)
class Starts:
    """Starts of moves, (assets, bars), told at the bar where each became known.

    side: -1 down, +1 up, 0 none; began: instant (us) of the last bar before the move, NEVER where side is 0;
    seen: could the bar be judged (return and open interest of the bar, sigma of the bar before)?
    """

    side: Sides
    began: Ints
    seen: Bools

    def signed(self) -> Floats:
        """Sides as floats, NaN where the bar could not be judged."""
        return np.where(self.seen | (self.side != 0), self.side.astype(np.float64), np.nan)

    def age_h(self, when: Ints) -> Floats:
        """Hours between the beginning and the bar that tells it, NaN where nothing is told."""
        return np.where(self.side != 0, (when - self.began) / HOUR_US, np.nan)


# --- shared by what is recursive --------------------------------------------------------------------------------------------------


@kernel
def micro(x: float) -> int:
    """A finite number in whole steps of 1e-6: what is compared with a threshold (METHODOLOGY 4.7, 5.2)."""
    return int(np.floor(min(max(x, -1e9), 1e9) * 1e6 + 0.5))


def copied(state: Mapping[str, NDArray[Any]]) -> State:
    """A state of its own, so that nobody else's changes."""
    return {name: values.copy() for name, values in state.items()}


def follow(state: State, when: Ints, step_h: float) -> None:
    """Note the last bar in `until`. A run that does not begin one bar after the state ends raises ValueError: a bar is missing or told twice."""
    if not len(when):
        return
    step_us, until = round(step_h * HOUR_US), state["until"]
    if len(when) > 1 and (np.diff(when) != step_us).any():
        raise ValueError(f"found bars that are not {step_h:g} h apart; hand over every bar of the grid, also those without input")
    wrong = (until != NEVER) & (until != when[0] - step_us)
    if wrong.any():
        raise ValueError(
            f"found a run from {int(when[0])} us after a state that ends at {int(until[wrong][0])} us; "
            f"hand over the state of the bar {step_h:g} h before, or start anew"
        )
    until[:] = when[-1]


@kernel
def onsets(
    returns: Floats,
    links: Floats,
    sigma: Floats,
    when: Ints,
    step_us: int,
    window: int,
    sigmas: int,
    fall: int,
    gap_us: int,
    last: Ints,
) -> tuple[Sides, Ints, Bools]:
    """(side, began, seen) of declustered moves: |sum r| >= sigmas * sigma_d(t) and sum of links <= -fall over (t, u], u - t <= window bars.

    returns, links and sigma begin at least one bar before when[0] and end with it. The shortest window that qualifies at u says where the move
    began: the latest t before which nothing of it had happened. Starts are told in the order they become known, `gap_us` apart per asset;
    `last` (assets) is changed. Thresholds in steps of 1e-6; fall = ANY_CHANGE asks for none. An unknown bar breaks every window over it.
    """
    assets, bars = returns.shape[0], when.shape[0]
    history = returns.shape[1] - bars
    side = np.zeros((assets, bars), np.int8)
    began = np.full((assets, bars), NEVER)
    seen = np.zeros((assets, bars), np.bool_)
    for a in range(assets):
        for t in range(bars):
            now = t + history
            seen[a, t] = np.isfinite(returns[a, now]) and np.isfinite(links[a, now]) and sigma[a, now - 1] > 0.0
            move, change = 0.0, 0.0
            for k in range(1, min(window, now) + 1):
                r, q = returns[a, now - k + 1], links[a, now - k + 1]
                if not (np.isfinite(r) and np.isfinite(q)):
                    break
                move += r
                change += q
                scale = sigma[a, now - k]
                if not scale > 0.0 or micro(change) > -fall:
                    continue
                size = micro(move / scale)
                if abs(size) < sigmas:
                    continue
                start = when[t] - k * step_us
                if start - last[a] >= gap_us:
                    side[a, t] = 1 if size > 0 else -1
                    began[a, t] = start
                    last[a] = start
                break
    return side, began, seen


# --- the label --------------------------------------------------------------------------------------------------------------------


def label_start(assets: int, rule: CascadeRule, step_h: float) -> State:
    """State before the first bar: nothing known, nothing begun. Holds the bars a window may reach back to."""
    bars = rule.window_bars(step_h)
    unknown = np.full((assets, bars), np.nan)
    never = np.full(assets, NEVER)
    return {"returns": unknown, "links": unknown.copy(), "sigma": unknown.copy(), "last": never, "until": never.copy()}


def label(
    returns_1bar: Floats,
    oi_links: Floats,
    sigma_d: Floats,
    when: Ints,
    rule: CascadeRule,
    step_h: float,
    state: Mapping[str, NDArray[Any]],
) -> tuple[Starts, State]:
    """METHODOLOGY 4.6: down-cascade: within 4 h r <= -1.2 sigma_d and dlnQ <= -5 %; up-squeeze: r >= +1.2 sigma_d and the same fall.

    returns_1bar: log price return of the bar; oi_links: log step of the quantity index (OI.3); sigma_d: standard deviation of log returns
    per square root of a day, at the bar where the move begins. On the daily grid the window is one bar (CascadeRule).
    """
    left = copied(state)
    follow(left, when, step_h)
    bars = rule.window_bars(step_h)
    long = {name: _after(left, name, values) for name, values in (("returns", returns_1bar), ("links", oi_links), ("sigma", sigma_d))}
    side, began, seen = onsets(
        long["returns"],
        long["links"],
        long["sigma"],
        when,
        round(step_h * HOUR_US),
        bars,
        micro(rule.sigmas_at(step_h)),
        micro(rule.fall_log),
        round(rule.gap_h * HOUR_US),
        left["last"],
    )
    for name, values in long.items():
        left[name] = values[:, values.shape[1] - bars :].copy()
    return Starts(side, began, seen), left


def _after(state: State, name: str, values: Floats) -> Floats:
    """The bars a state holds and the new ones behind them."""
    return np.concatenate([state[name], np.asarray(values, dtype=np.float64)], axis=1)


# --- the detector -----------------------------------------------------------------------------------------------------------------


def detector_start(assets: int) -> State:
    """State before the first bar: no cascade is going on."""
    none = np.zeros(assets, np.int64)
    return {"ongoing": np.zeros(assets, np.int8), "calm": none, "blind": none.copy(), "until": np.full(assets, NEVER)}


def detect(
    intensity_p: Floats,
    return_1bar: Floats,
    sigma_h: Floats,
    oi_link: Floats,
    when: Ints,
    rule: CascadeRule,
    step_h: float,
    state: Mapping[str, NDArray[Any]],
) -> tuple[Floats, State]:
    """LQ.10: -1 a down-cascade is going on, +1 a squeeze, 0 neither, NaN where liquidations are not known or cannot decide.

    Opens where the intensity's percentile in its epoch (0..1) is above 0.99, |r| of the bar above 3 sigma of a bar and open interest fell by
    more than 1 % (CascadeRule for the daily grid); closes at the third hour in a row below 0.90. sigma_h: per square root of an hour.
    A new burst against the side turns it. Without liquidation data for as long, the cascade is forgotten, not ended.
    """
    left = copied(state)
    follow(left, when, step_h)
    scale = sigma_h * np.sqrt(step_h)
    p, r, sigma, q = (np.ascontiguousarray(values, dtype=np.float64) for values in (intensity_p, return_1bar, scale, oi_link))
    found = _detected(
        p,
        r,
        sigma,
        q,
        micro(rule.detect_above_p),
        micro(rule.calm_below_p),
        micro(rule.detect_sigmas),
        micro(rule.detect_fall_at(step_h)),
        max(1, round(rule.calm_h / step_h)),
        left["ongoing"],
        left["calm"],
        left["blind"],
    )
    return found, left


@kernel
def _detected(
    intensity_p: Floats,
    returns: Floats,
    sigma: Floats,
    links: Floats,
    above: int,
    below: int,
    sigmas: int,
    fall: int,
    calm_bars: int,
    ongoing: Sides,
    calm: Ints,
    blind: Ints,
) -> Floats:
    """`detect`; sigma per bar, thresholds in steps of 1e-6; the last three arrays (assets) are changed."""
    assets, bars = intensity_p.shape
    found = np.full((assets, bars), np.nan)
    for a in range(assets):
        for t in range(bars):
            if not np.isfinite(intensity_p[a, t]):
                blind[a] += 1
                if blind[a] >= calm_bars:
                    ongoing[a] = 0
                    calm[a] = 0
                continue
            blind[a] = 0
            intensity = micro(intensity_p[a, t])
            r, q, scale = returns[a, t], links[a, t], sigma[a, t]
            moved = np.isfinite(r) and scale > 0.0
            no = intensity <= above or (moved and micro(abs(r) / scale) <= sigmas) or (np.isfinite(q) and micro(q) >= -fall)
            if not no and moved and np.isfinite(q):
                ongoing[a] = 1 if r > 0.0 else -1
                calm[a] = 0
            elif ongoing[a] != 0:
                calm[a] = calm[a] + 1 if intensity < below else 0
                if calm[a] >= calm_bars:
                    ongoing[a] = 0
                    calm[a] = 0
            elif not no:
                continue
            found[a, t] = ongoing[a]
    return found

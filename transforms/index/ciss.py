"""The ciss alternative of F: components that are high together weigh more than the same components one at a time (METHODOLOGY 4.3).

`F = 100 sqrt(a'Ca)`, a = w p, C the exponentially weighted cross-correlation of (p - 1/2), about zero: Hollo, Kremer, Lo Duca (2012),
"CISS - a composite indicator of systemic stress in the financial system", ECB Working Paper 1426. The root, which they do not take, makes it
homogeneous: where C is 1 throughout, F is the weighted mean, and the Euler terms `a_k (Ca)_k / sqrt(a'Ca)` add up to F.

A component whose correlations are not known yet counts as in the weighted mean, `F = 100 (sum_unknown a_k + sqrt(a'Ca))`, as if it always
moved with the rest: before any history the alternative equals F. C is a Gram matrix divided by its diagonal, so a'Ca >= 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import DAY_US, HOUR_US, Bools, Floats, Ints, kernel
from transforms.features.contract import Codes
from transforms.rules import SchemeRule

#: what a run leaves for the next one: arrays of fixed shape, assets first
State = dict[str, NDArray[Any]]

#: `when` of a state that has seen no bar
NEVER: Final = int(np.iinfo(np.int64).min)
#: p of the middle rank
_MEDIAN: Final = 0.5
_SCALE: Final = 100.0
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Ciss:
    """value: (assets, bars), 0..100, NaN where no component is known; contributions: (components, assets, bars), adding up to it;
    linear: (assets, bars), how many components count as in the weighted mean, because their correlations are not known yet.
    """

    value: Floats
    contributions: Floats
    linear: Codes


@kernel
def euler(exposures: Floats, correlation: Floats, joined: Bools) -> tuple[float, Floats]:
    """(`sum of the not joined + sqrt(a'Ca) over the joined`, terms that add up to it); exposures a = w p >= 0."""
    count = exposures.shape[0]
    terms = np.zeros(count)
    total = 0.0
    square = 0.0
    for k in range(count):
        if not joined[k]:
            terms[k] = exposures[k]
            total += exposures[k]
            continue
        together = 0.0
        for m in range(count):
            if joined[m]:
                together += correlation[k, m] * exposures[m]
        terms[k] = exposures[k] * together
        square += terms[k]
    root = np.sqrt(max(0.0, square))
    for k in range(count):
        if joined[k]:
            terms[k] = terms[k] / root if root > 0.0 else 0.0
    return total + root, terms


def start(assets: int, components: int, rule: SchemeRule) -> State:
    """State before the first bar. Raises ValueError where the rule has no half-life."""
    if not rule.ciss_half_life_d > 0.0:
        raise ValueError(f"found ciss_half_life_d {rule.ciss_half_life_d} in SchemeRule; give days above 0")
    return {
        "when": np.full(assets, NEVER, dtype=np.int64),
        "samples": np.zeros((assets, components), dtype=np.int64),
        "scale": np.zeros((assets, components)),
        "moments": np.zeros((assets, components, components)),
    }


@kernel
def _correlations(
    moments: Floats, scale: Floats, samples: Ints, min_samples: float, min_deviation: float, correlation: Floats, joined: Bools
) -> None:
    """Correlations in [-1, 1] from sums of products, and which components have them."""
    count = scale.shape[0]
    for k in range(count):
        joined[k] = False
        if samples[k] > 0 and samples[k] >= min_samples:
            joined[k] = np.floor(np.sqrt(moments[k, k] / scale[k]) * 1e6 + 0.5) / 1e6 >= min_deviation
    for k in range(count):
        correlation[k, k] = 1.0
        for m in range(k):
            found = 0.0
            if joined[k] and joined[m]:
                found = max(-1.0, min(1.0, moments[k, m] / (np.sqrt(moments[k, k]) * np.sqrt(moments[m, m]))))
            correlation[k, m] = found
            correlation[m, k] = found


@kernel
def _walk(
    p: Floats,
    known: Bools,
    weights: Floats,
    when: Ints,
    reference_us: int,
    decay: float,
    min_samples: float,
    min_deviation: float,
    samples: Ints,
    scale: Floats,
    moments: Floats,
) -> tuple[Floats, Floats, Codes]:
    """(value, contributions, linear); samples, scale and moments move on in place."""
    count, assets, bars = p.shape
    value = np.full((assets, bars), np.nan)
    contributions = np.full((count, assets, bars), np.nan)
    linear = np.zeros((assets, bars), np.int8)
    correlation = np.empty((count, count))
    joined = np.empty(count, np.bool_)
    for a in range(assets):
        _correlations(moments[a], scale[a], samples[a], min_samples, min_deviation, correlation, joined)
        for t in range(bars):
            # Before the bar's own p joins the moments: C is strictly past.
            linear[a, t] = count - joined.sum()
            if known[:, a, t].any():
                total, terms = euler(weights * p[:, a, t], correlation, joined)
                value[a, t] = min(_SCALE, _SCALE * total)
                contributions[:, a, t] = _SCALE * terms
            if when[t] % reference_us != 0:
                continue
            for k in range(count):
                scale[a, k] *= decay
                if known[k, a, t]:
                    scale[a, k] += 1.0
                    samples[a, k] += 1
                for m in range(k + 1):
                    # A missing component does not deviate; leaving its pair out instead would cost a'Ca >= 0.
                    both = known[k, a, t] and known[m, a, t]
                    product = (p[k, a, t] - _MEDIAN) * (p[m, a, t] - _MEDIAN) if both else 0.0
                    moments[a, k, m] = decay * moments[a, k, m] + product
                    moments[a, m, k] = moments[a, k, m]
            _correlations(moments[a], scale[a], samples[a], min_samples, min_deviation, correlation, joined)
    return value, contributions, linear


def run(p: Floats, known: Bools, weights: Floats, when: Ints, state: State, rule: SchemeRule, step_h: float) -> tuple[Ciss, State]:
    """The ciss alternative at each bar and the state after the last.

    p: (components, assets, bars) in [0, 1], 0.5 where missing; known: where it is not missing; weights: (components,), >= 0, adding up to 1;
    when: bar ends, us, one step apart, following the state's. C is the one after the last reference bar before t. Raises ValueError for
    anything else.
    """
    step_us = round(step_h * HOUR_US)
    check_bars(when, state["when"], step_us)
    if known.shape != p.shape or weights.shape != p.shape[:1]:
        raise ValueError(
            f"found p {p.shape}, known {known.shape}, weights {weights.shape}; hand over (components, assets, bars) and (components,)"
        )
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("found a component outside [0, 1]; p is a share of ranks, 0.5 where it is missing")
    check_weights(weights, "weights of the components")
    reference_us = max(round(rule.reference_h * HOUR_US), step_us)
    after = {name: values.copy() for name, values in state.items()}
    value, contributions, linear = _walk(
        np.array(p, dtype=np.float64, order="C"),
        np.array(known, dtype=np.bool_, order="C"),
        weights.astype(np.float64),
        when.copy(),
        reference_us,
        2.0 ** (-reference_us / (rule.ciss_half_life_d * DAY_US)),
        rule.ciss_min_history_d * DAY_US / reference_us,
        rule.min_deviation,
        after["samples"],
        after["scale"],
        after["moments"],
    )
    if len(when):
        after["when"][:] = when[-1]
    return Ciss(value, contributions, linear), after


def check_bars(when: Ints, last: Ints, step_us: int) -> None:
    """Raise ValueError unless bars are one step apart and follow the last bar of each asset's state."""
    if not len(when):
        return
    if (np.diff(when) != step_us).any():
        raise ValueError(f"found bars that are not {step_us} us apart; hand over every bar of the grid, also those without input")
    if ((last != NEVER) & (last != when[0] - step_us)).any():
        ends = sorted({int(one) for one in last} - {NEVER, int(when[0]) - step_us})
        raise ValueError(
            f"found states that end at {ends} and bars from {int(when[0])} on (us); begin one step ({step_us} us) after the state"
        )


def check_weights(weights: Floats, what: str) -> None:
    """Raise ValueError unless weights are >= 0 and add up to 1."""
    if not (np.isfinite(weights).all() and (weights >= 0.0).all() and abs(sum(weights.tolist()) - 1.0) <= _TOLERANCE):
        raise ValueError(f"found {what} {weights.tolist()}; they are >= 0 and add up to 1")

"""From a feature to a percentile in [0, 1]: where it stands in its own strictly past history. What F and X are made of.

A percentile without fresh input is held, then pulled back to one half as a score is to zero (METHODOLOGY 3.3, 4.3): a missing one counts as
0.5, with factor 0 and a reason, and confidence pays for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from transforms.estimators import Bools, Floats
from transforms.features.contract import Codes, Measured, Why
from transforms.features.panel import Panel
from transforms.rules import Part
from transforms.signals.contract import State, against_past, fresh_h, held_back

#: what a missing percentile counts as
UNKNOWN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Ranked:
    """A percentile of (assets, bars) or (1, bars). Bars before the window hold nothing.

    p: in [0, 1] before decay, NaN = none; factor: part of its distance from 0.5 still used, 0 where there is none; history_d: effective
    history; state: code from `State`; why: code of the feature.
    """

    p: Floats
    factor: Floats
    history_d: Floats
    state: Codes
    why: Codes

    def used(self) -> Floats:
        """`0.5 + (p - 0.5) * factor`; 0.5 where there is none."""
        found: Floats = UNKNOWN + np.where(np.isfinite(self.p), self.p - UNKNOWN, 0.0) * self.factor
        return found


def percentile(feature: Measured, part: Part, panel: Panel) -> Ranked:
    """Percentile of a feature of the panel for one part of F or X."""
    if part.feature == "oi_level_180d":
        # Ranked on ln Q itself, within 180 d: integers counted from anywhere, so only their order matters.
        level = panel.own_bars(panel.log_quantity[0][:, 1:]).astype(np.float64)
        return rank(level, feature.fresh(fresh_h(panel, part.feature)), feature.why, panel, part)
    return rank(feature.value * part.sign, feature.fresh(fresh_h(panel, part.feature)), feature.why, panel, part)


def rank(values: Floats, fresh: Bools, why: Codes, panel: Panel, part: Part) -> Ranked:
    """`percentile` of plain values."""
    rule, spec = panel.rule, panel.spec
    first = max(0, panel.window_first - int(np.ceil(rule.stale.horizon_h / rule.step_h)))
    sizes = part.norm == "magnitude"
    name = f"percentile of {'-' if part.sign < 0 else ''}{part.feature} {part.norm} {part.window_d}"
    scores, history = against_past(np.abs(values) if sizes else values, fresh, panel, first, sizes, 0.0, part.window_d, name=name)
    held, factor = held_back(panel, name, scores, fresh)
    p = np.abs(held) if sizes else (held + 1.0) / 2.0
    warm = spec.score.warm_d if part.window_d is None else min(spec.score.warm_d, part.window_d / 2)
    return Ranked(p, factor, history, states(held, fresh, history, warm), np.where(fresh, why, np.where(why == 0, np.int8(Why.STALE), why)))


def states(held: Floats, fresh: Bools, history: Floats, warm_d: float) -> Codes:
    """What became of a value at a bar."""
    state = np.full(held.shape, State.FINE, dtype=np.int8)
    state[history < warm_d] = State.WARMING
    state[~fresh & np.isfinite(held)] = State.STALE
    state[np.isnan(held) & (~fresh | (history >= warm_d))] = State.MISSING
    return state

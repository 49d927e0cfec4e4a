"""What a signal is: a feature oriented in [-1, +1] against its own strictly past history, with the constants the spec gives it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from transforms.estimators import DAY_US, Bools, Floats
from transforms.features.contract import WORDS, Codes, Measured, Why
from transforms.features.panel import Panel
from transforms.rules import Constituent
from transforms.signals.scores import ecdf_scores, held_scores, robust_scores


class State(IntEnum):
    """What became of a score at a bar."""

    FINE = 0
    #: effective history below spec.warm_d: with a score it is a flag, without one the reason
    WARMING = 1
    #: no fresh input: the last score, decaying
    STALE = 2
    #: no fresh input and nothing left to hold
    MISSING = 3


_STATE_WORDS: Final[dict[State, str]] = {State.FINE: "", State.WARMING: "warming", State.STALE: "stale", State.MISSING: "missing"}


@dataclass(frozen=True, slots=True)
class Scored:
    """A signal of (assets, bars) or (1, bars). Bars before the window hold nothing.

    score: in [-1, 1] before decay, not yet times its sign, NaN = none; factor: part of it still used, 0 where there is none;
    history_d: effective history; state: code from `State`; why: code of the feature.
    """

    score: Floats
    factor: Floats
    history_d: Floats
    state: Codes
    why: Codes


def wording(state: State, why: Why) -> str:
    """Text of a contribution's reason: `stale: no input`; empty when nothing is wrong."""
    return ": ".join(word for word in (_STATE_WORDS[state], WORDS[why]) if word)


@dataclass(frozen=True, slots=True)
class Signal:
    """A constituent of the index: which feature it reads and what the score means. Subclass to score in another way."""

    feature: str
    meaning: str

    def score(self, feature: Measured, constituent: Constituent, panel: Panel) -> Scored:
        """METHODOLOGY 3.1 and 3.3 on the panel: score against the past, then hold and decay while there is no fresh input."""
        rule, spec = panel.rule, panel.spec
        fresh = feature.fresh(fresh_h(panel, self.feature))
        first = max(0, panel.window_first - int(np.ceil(rule.stale.horizon_h / rule.step_h)))
        scores, history = self.against_past(feature, constituent, panel, first)
        held, factor = held_back(panel, f"score of {self.feature}", scores, fresh)
        state = np.full(held.shape, State.FINE, dtype=np.int8)
        state[history < spec.score.warm_d] = State.WARMING
        state[~fresh & np.isfinite(held)] = State.STALE
        flat = fresh & np.isnan(held) & (history >= spec.score.warm_d)  # a robust z without spread or floor
        state[(~fresh & np.isnan(held)) | flat] = State.MISSING
        return Scored(held, factor, history, state, np.where(fresh | np.isnan(feature.value), feature.why, np.int8(Why.STALE)))

    def against_past(self, feature: Measured, constituent: Constituent, panel: Panel, first: int) -> tuple[Floats, Floats]:
        """(score, effective history in days) from bar `first` on."""
        usable = feature.fresh(fresh_h(panel, self.feature))
        name, anchored = f"score of {self.feature}", constituent.norm == "anchored"
        return against_past(feature.value, usable, panel, first, anchored, constituent.floor, name=name)


def against_past(
    values: Floats, usable: Bools, panel: Panel, first: int, anchored: bool, floor: float, window_d: float | None = None, *, name: str
) -> tuple[Floats, Floats]:
    """(score in [-1, 1], effective history in days) from bar `first` on, by the method the spec selects.

    values: (rows, bars) of the panel; `window_d`: reference window where it is not the spec's own; name: under which its samples are
    remembered.
    """
    rule, score = panel.rule, panel.spec.score
    window = round((score.window_d if window_d is None else window_d) * DAY_US)
    long, when, reference = panel.sampled(name, values, window, usable)
    lead = len(when) - panel.bars
    known = np.concatenate([np.isfinite(long[:, :lead]), usable], axis=1) if lead else usable
    plain = (np.ascontiguousarray(long), known, when, reference, lead + first, window)
    days, least = rule.reference_step_h / 24, score.min_history_d
    if score.method == "robust_z":
        scores, history = robust_scores(*plain, days, least, anchored, floor, score.z_limit)
    else:
        scores, history = ecdf_scores(*plain[:6], round(score.half_life_d * DAY_US), days, least, anchored, floor)
    return panel.own_bars(scores), panel.own_bars(history)


def held_back(panel: Panel, name: str, scores: Floats, fresh: Bools) -> tuple[Floats, Floats]:
    """`held_scores` by the cadence's rule (METHODOLOGY 3.3); name: under which the last scores are remembered."""
    rule = panel.rule.stale
    bars = int(np.ceil(rule.horizon_h / panel.rule.step_h))
    scores, fresh = panel.past(f"{name}: last", scores, bars), panel.past(f"{name}: fresh", fresh, bars)
    first = scores.shape[1] - panel.bars + panel.window_first
    held, factor = held_scores(scores, fresh, panel.whens(scores.shape[1]), first, rule.grace_h, rule.half_life_h, rule.horizon_h)
    return panel.own_bars(held), panel.own_bars(factor)


def fresh_h(panel: Panel, feature: str) -> float:
    """Age below which the feature counts as fresh at this cadence."""
    return next(use.fresh_h for use in panel.rule.uses if use.feature == feature)

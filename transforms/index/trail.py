"""The past of a number that is itself recursive, kept on the reference grid, so that it can be ranked against itself.

Features are computed again from core rows as far back as a score needs; S or the cohort book are not: what is needed of their past travels
in the state. The ring holds the last window's reference samples; ranking joins it with the new bars and is the ECDF of every other score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transforms.estimators import DAY_US, HOUR_US, Floats, Ints
from transforms.rules import CadenceRule, ScoreRule
from transforms.signals.scores import ecdf_scores

State = dict[str, NDArray[np.generic]]


def start(assets: int, score: ScoreRule, rule: CadenceRule) -> State:
    """An empty past: `values` (assets, samples of the window), `pooled_when` (1, samples) in us, 0 where there is none yet."""
    samples = round(score.window_d * 24 / rule.reference_step_h)
    return {"values": np.full((assets, samples), np.nan), "pooled_when": np.zeros((1, samples), dtype=np.int64)}


def run(values: Floats, when: Ints, state: State, score: ScoreRule, rule: CadenceRule) -> tuple[Floats, Floats, State]:
    """(percentile in [0, 1] against the strictly past window, effective history in days, state after the last bar).

    values: (assets, bars), NaN = unknown; its percentile is NaN, too, and so is one with less than min_history_d behind it.
    """
    past, stamps = state["values"].astype(np.float64), state["pooled_when"][0].astype(np.int64)
    held = stamps > 0
    joined = np.concatenate([past[:, held], values], axis=1)
    at = np.concatenate([stamps[held], when])
    on_grid = at % round(rule.reference_step_h * HOUR_US) == 0
    first = int(held.sum())
    scores, history = ecdf_scores(
        np.ascontiguousarray(joined),
        np.isfinite(joined),
        at,
        on_grid,
        first,
        round(score.window_d * DAY_US),
        round(score.half_life_d * DAY_US),
        rule.reference_step_h / 24,
        score.min_history_d,
        False,
        0.0,
    )
    size = past.shape[1]
    kept = np.flatnonzero(on_grid)[-size:]
    ring, marks = np.full(past.shape, np.nan), np.zeros((1, size), dtype=np.int64)
    if len(kept):
        ring[:, size - len(kept) :] = joined[:, kept]
        marks[0, size - len(kept) :] = at[kept]
    return (scores[:, first:] + 1.0) / 2.0, history[:, first:], {"values": ring, "pooled_when": marks}

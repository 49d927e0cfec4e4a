"""The market as a whole: `MKT = 50 + sum_a w_a (S_a - 50)`, additive through its assets; F and X alike (METHODOLOGY 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from transforms.estimators import Floats, kernel
from transforms.features.contract import Codes
from transforms.rolling import median_shares
from transforms.rules import MarketRule
from transforms.vocabulary import STATUSES

#: multiples of one part in this, below 1, are floats without rounding, and so is their sum
_QUANTA: Final = 2.0**52


@dataclass(frozen=True, slots=True)
class Market:
    """The index of the market and what it is made of.

    value: (bars,), NaN = withheld; contributions: (assets, bars) in points, adding up to value - neutral, 0 for an asset without a value,
    NaN where the market has none; known_weight: (bars,), weight of the assets that have a value, 0 where no weight is known;
    status: (bars,), places in STATUSES.
    """

    value: Floats
    contributions: Floats
    known_weight: Floats
    status: Codes


@kernel
def exact_shares(weights: Floats) -> Floats:
    """Each column of (rows, columns) as multiples of 2^-52 that add up to 1 exactly; the first largest row takes the remainder.

    Weights are >= 0. A column that is all 0 or holds a NaN is NaN. What is exact already keeps its bits.
    """
    rows, columns = weights.shape
    found = np.empty((rows, columns))
    for c in range(columns):
        total = 0.0
        largest = 0
        for r in range(rows):
            total += weights[r, c]
            if weights[r, c] > weights[largest, c]:
                largest = r
        if not total > 0.0:
            found[:, c] = np.nan
            continue
        left = np.int64(_QUANTA)
        for r in range(rows):
            if r != largest:
                quanta = np.int64(np.floor(weights[r, c] / total * _QUANTA))
                left -= quanta
                found[r, c] = quanta / _QUANTA
        found[largest, c] = left / _QUANTA
    return found


def weights(oi_usd: Floats, assets: Sequence[str], rule: MarketRule, step_h: float, first: int) -> Floats:
    """Weight of each asset in the market, (assets, bars): >= 0, adding up to 1 exactly; NaN where no share is known and before `first`.

    Median share of USD open interest over the last `share_window_d` days, t included, over the assets of the rule that exist; others get 0.
    What the capped asset has above its cap is spread over the others pro rata; alone it has all of it. oi_usd: (assets, bars), NaN =
    unknown, beginning at least that many days before `first`. Raises ValueError where the rule or the assets name one twice.
    """
    for names, where in ((rule.assets, "MarketRule.assets"), (assets, "assets")):
        if len(set(names)) != len(names):
            raise ValueError(f"found {', '.join(names)} in {where}; name each asset once")
    if not 0.0 < rule.cap_share <= 1.0:
        raise ValueError(f"found cap_share {rule.cap_share} in MarketRule; give a share above 0, at most 1")
    members = [name for name in rule.assets if name in assets]
    found = np.full(oi_usd.shape, np.nan)
    if not members:
        return found
    rows = [assets.index(name) for name in members]
    steps = max(1, round(rule.share_window_d * 24 / step_h))
    share = exact_shares(median_shares(np.ascontiguousarray(oi_usd[rows]), np.array([0, len(rows)]), steps, first))
    if rule.capped_asset in members:
        capped = members.index(rule.capped_asset)
        others: Floats = np.zeros(share.shape[1])
        for n in range(len(rows)):
            if n != capped:
                others = others + share[n]
        above = (share[capped] > rule.cap_share) & (others > 0.0)
        spread = (1.0 - rule.cap_share) / np.where(above, others, 1.0)
        for n in range(len(rows)):
            share[n] = np.where(above, rule.cap_share if n == capped else share[n] * spread, share[n])
        share = exact_shares(share)
    known = np.isfinite(share[0])
    found[:, known] = 0.0
    for n, row in enumerate(rows):
        found[row, known] = share[n, known]
    return found


def aggregate(values: Floats, weights: Floats, rule: MarketRule, neutral: float) -> Market:
    """`neutral + sum_a w_a (values_a - neutral)`. values: (assets, bars), NaN = withheld; weights: as `weights` gives them.

    A withheld asset contributes 0 and lowers the known weight; the other weights never change. Below `min_known_weight` the market has no
    value, below `indicative_below` it is indicative.
    """
    index: Floats = np.full(values.shape[1], float(neutral))
    known_weight: Floats = np.zeros(values.shape[1])
    parts = np.zeros(values.shape)
    for a in range(values.shape[0]):
        known = np.isfinite(values[a]) & np.isfinite(weights[a])
        weight = np.where(known, weights[a], 0.0)
        parts[a] = weight * (np.where(known, values[a], neutral) - neutral)
        index = index + parts[a]
        known_weight = known_weight + weight
    rounded = np.round(known_weight, 6)
    withheld = (rounded < rule.min_known_weight) | (rounded == 0.0)
    status = np.full(values.shape[1], STATUSES.index("ok"), dtype=np.int8)
    status[rounded < rule.indicative_below] = STATUSES.index("indicative")
    status[withheld] = STATUSES.index("withheld")
    return Market(np.where(withheld, np.nan, index), np.where(withheld, np.nan, parts), known_weight, status)

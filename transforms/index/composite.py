"""F and X: weighted sums of percentiles, 0..100, with contributions that add up to the value exactly (METHODOLOGY 4.3, 4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from transforms.estimators import Bools, Floats
from transforms.rules import Component, Part
from transforms.signals.contract import State
from transforms.signals.percentiles import Ranked

FULL: Final = 100.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one part adds to F or X: points of (assets, bars) and its weight in the index. A product has one share, named like itself."""

    component: str
    feature: str
    weight: float
    points: Floats


@dataclass(frozen=True, slots=True)
class Composite:
    """F or X of (assets, bars) in points 0..100: the sum of `shares` in order.

    levels: each component in [0, 1]; freshness: sum of weights times stale factors; history: weighted mean of min(1, effective history /
    warm_d); both in [0, 1]. warming, stale: does a part lack history, is one without fresh input.
    """

    value: Floats
    shares: tuple[Share, ...]
    levels: dict[str, Floats]
    freshness: Floats
    history: Floats
    warming: Bools
    stale: Bools


def composite(parts: tuple[Part, ...], components: Mapping[Component, float], ranked: Mapping[str, Ranked], warm_d: float) -> Composite:
    """Combine percentiles of equal shape (assets, bars), by feature.

    mean: weights within renormalised over the parts of this epoch; max: the largest of the parts (the first of equals carries the
    points); product: of two other components. A missing percentile counts as 0.5 and takes its weight out of `freshness`.
    """
    own: dict[str, list[Part]] = {}
    for part in parts:
        own.setdefault(part.component, []).append(part)
    shape = np.broadcast_shapes(*(ranked[part.feature].p.shape for part in parts))
    levels: dict[str, Floats] = {}
    fresh: dict[str, Floats] = {}
    aged: dict[str, Floats] = {}
    shares: list[Share] = []
    warming, stale = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    value, freshness, history = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for one, weight in sorted(components.items(), key=lambda item: item[0].combine == "product"):
        if one.combine == "product":
            first, second = one.factors
            levels[one.name] = levels[first] * levels[second]
            fresh[one.name] = np.minimum(fresh[first], fresh[second])
            aged[one.name] = np.minimum(aged[first], aged[second])
            made = [Share(one.name, one.name, weight, FULL * weight * levels[one.name])]
        else:
            inputs = [(part, ranked[part.feature]) for part in own[one.name]]
            for _, rank in inputs:
                warming = warming | (rank.state == State.WARMING)
                stale = stale | (rank.state >= State.STALE)
            made = _shares(one, weight, inputs, shape)
            levels[one.name] = _level(one, inputs, shape)
            total = sum(part.within for part, _ in inputs)
            fresh[one.name] = _blend([(part.within / total, rank.factor) for part, rank in inputs], shape)
            aged[one.name] = _blend([(part.within / total, np.minimum(1.0, rank.history_d / warm_d)) for part, rank in inputs], shape)
        for share in made:
            value = value + share.points
        shares += made
        freshness = freshness + weight * fresh[one.name]
        history = history + weight * aged[one.name]
    return Composite(value, tuple(shares), levels, np.minimum(freshness, 1.0), np.minimum(history, 1.0), warming, stale)


def _blend(terms: list[tuple[float, Floats]], shape: tuple[int, ...]) -> Floats:
    """Weighted sum in the given order."""
    found: Floats = np.zeros(shape)
    for weight, values in terms:
        found = found + weight * values
    return found


def _level(one: Component, inputs: list[tuple[Part, Ranked]], shape: tuple[int, ...]) -> Floats:
    if one.combine == "max":
        found: Floats = np.zeros(shape)
        for _, rank in inputs:
            found = np.maximum(found, rank.used())
        return found
    total = sum(part.within for part, _ in inputs)
    return _blend([(part.within / total, rank.used()) for part, rank in inputs], shape)


def _shares(one: Component, weight: float, inputs: list[tuple[Part, Ranked]], shape: tuple[int, ...]) -> list[Share]:
    if one.combine == "max":
        level, taken = _level(one, inputs, shape), np.zeros(shape, dtype=bool)
        found = []
        for part, rank in inputs:
            leads = (np.broadcast_to(rank.used(), shape) == level) & ~taken
            taken |= leads
            found.append(Share(one.name, part.feature, weight, np.where(leads, FULL * weight * level, 0.0)))
        return found
    total = sum(part.within for part, _ in inputs)
    return [
        Share(
            one.name,
            part.feature,
            weight * part.within / total,
            np.broadcast_to(FULL * weight * (part.within / total) * rank.used(), shape),
        )
        for part, rank in inputs
    ]

"""Who made S what it is: contributions in points that add up to S - 50 exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from transforms.estimators import Floats

#: points on either side of neutral
HALF_RANGE: Final = 50.0


def contribution(weight: float, sign: int, score: Floats, factor: Floats) -> Floats:
    """`50 * weight * sign * score * factor` in points; a missing score contributes 0. Weights never change for missing data."""
    used: Floats = np.where(np.isfinite(score), score, 0.0) * factor
    return HALF_RANGE * weight * sign * used


def added(contributions: Sequence[Floats], shape: tuple[int, ...]) -> Floats:
    """`50 + sum of contributions`, added in the given order. Within [0, 100] without clipping, since weights add up to 1."""
    total: Floats = np.full(shape, HALF_RANGE)
    for one in contributions:
        total = total + one
    return total


def displayed(contributions: Sequence[float], decimals: int = 1) -> list[float]:
    """Contributions rounded for display so that they add up to their rounded sum (largest remainder).

    >>> displayed([1.26, 1.26, 1.26])
    [1.3, 1.3, 1.2]
    """
    unit = 10**decimals
    scaled = [one * unit for one in contributions]
    floors = [math.floor(one) for one in scaled]
    lacking = round(math.fsum(scaled)) - sum(floors)
    by_remainder = sorted(range(len(scaled)), key=lambda n: (floors[n] - scaled[n], n))
    for n in by_remainder[:lacking]:
        floors[n] += 1
    return [whole / unit for whole in floors]

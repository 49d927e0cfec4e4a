"""S: which way people are leaning, 0..100, 50 = neutral. It describes; it does not forecast (METHODOLOGY 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

import numpy as np

from transforms.estimators import Bools, Floats
from transforms.features.contract import Codes
from transforms.index.attribution import added
from transforms.index.confidence import Confidence, Ground
from transforms.rules import Constituent
from transforms.spec import Spec
from transforms.vocabulary import STATUSES


class Doubt(IntFlag):
    """What lowers the standing of a value."""

    NONE = 0
    NO_VENUE = 1
    SINGLE_VENUE = 2
    LOW_COVERAGE = 4
    LOW_CONFIDENCE = 8
    STALE = 16
    WARMING = 32
    OUTLIER = 64


_WORDS: Final[dict[Doubt, str]] = {
    Doubt.NO_VENUE: "no venue",
    Doubt.SINGLE_VENUE: "single venue",
    Doubt.LOW_COVERAGE: "low coverage",
    Doubt.LOW_CONFIDENCE: "low confidence",
    Doubt.STALE: "inputs stale or missing",
    Doubt.WARMING: "warming",
    Doubt.OUTLIER: "an input was beyond its limit",
}
_OK: Final = STATUSES.index("ok")
_INDICATIVE: Final = STATUSES.index("indicative")
_WITHHELD: Final = STATUSES.index("withheld")


@dataclass(frozen=True, slots=True)
class Sentiment:
    """(assets, bars). s and s_ex NaN where withheld; band and status: places in BANDS and STATUSES, band -1 where withheld."""

    s: Floats
    s_ex: Floats
    band: Codes
    status: Codes
    doubts: Codes


def doubt_words(doubts: Doubt) -> str:
    """Reasons in words, joined by semicolons.

    >>> doubt_words(Doubt.SINGLE_VENUE | Doubt.WARMING)
    'single venue; warming'
    """
    return "; ".join(word for doubt, word in _WORDS.items() if doubt in doubts)


def bands(s: Floats, edges: tuple[float, float, float, float]) -> Codes:
    """Place of each s in BANDS: below 25, below 45, up to 55, up to 75, above; -1 for NaN. Compared after rounding to 1e-6.

    >>> bands(np.array([24.9, 45.0, 55.0, 75.1]), (25.0, 45.0, 55.0, 75.0)).tolist()
    [0, 2, 2, 4]
    """
    rounded = np.round(s, 6)
    place = (rounded >= edges[0]).astype(np.int8) + (rounded >= edges[1]) + (rounded > edges[2]) + (rounded > edges[3])
    found: Codes = np.where(np.isfinite(s), place, -1).astype(np.int8)
    return found


def standing(base: Ground, sure: Confidence, spec: Spec) -> tuple[Codes, Codes]:
    """(status code, doubts) of a number: withheld below the limits of confidence or coverage; indicative below the softer ones or with one
    venue. Compared after rounding to 1e-6.
    """
    rule = spec.confidence
    trust, coverage = np.round(sure.value, 6), np.round(base.coverage, 6)
    withheld = (trust < rule.withheld_below) | (coverage < rule.coverage_withheld_below)
    doubtful = (trust < rule.indicative_below) | (coverage < rule.coverage_indicative_below) | (base.venues < rule.min_venues)
    doubts = np.zeros(trust.shape, dtype=np.int8)
    doubts[base.venues == 0] |= Doubt.NO_VENUE
    doubts[base.venues == 1] |= Doubt.SINGLE_VENUE
    doubts[coverage < rule.coverage_indicative_below] |= Doubt.LOW_COVERAGE
    doubts[trust < rule.indicative_below] |= Doubt.LOW_CONFIDENCE
    doubts[sure.stale] |= Doubt.STALE
    doubts[sure.warming] |= Doubt.WARMING
    doubts[base.outlier] |= Doubt.OUTLIER
    return np.where(withheld, _WITHHELD, np.where(doubtful, _INDICATIVE, _OK)).astype(np.int8), doubts


def withheld(status: Codes) -> Bools:
    """Where a number has no value."""
    found: Bools = status == _WITHHELD
    return found


def sentiment(
    contributions: Sequence[Floats], constituents: Sequence[Constituent], base: Ground, sure: Confidence, spec: Spec
) -> Sentiment:
    """S = 50 + all contributions; s_ex = 50 + those without trend and conviction, scaled by nothing. Withheld means no value, never 50."""
    free = [part for part, one in zip(contributions, constituents, strict=True) if one.family not in spec.priced_families]
    status, doubts = standing(base, sure, spec)
    none = withheld(status)
    s = np.where(none, np.nan, added(contributions, none.shape))
    return Sentiment(s, np.where(none, np.nan, added(free, none.shape)), bands(s, spec.band_edges), status, doubts)

"""Agreement between sources (METHODOLOGY 3.5): how far the worst comparison of an asset is beyond its tolerance."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms import agreement
from transforms.features.contract import Feature, Measured, measured, named
from transforms.features.panel import Panel


def _worst(panel: Panel) -> Measured:
    value, age = agreement.worst(panel)
    return measured(value, age)


FEATURES: Final = named(
    Feature(
        "source_disagreement",
        "3.5",
        "tolerances",
        "largest difference between two voices about the same thing, in its tolerance: open interest 2 %, settled funding 1e-8, close 10 bp "
        "(second path to a venue), price of a contract against the median of the venues",
        frozenset({"open_interest", "funding", "candles"}),
        lambda spec, rule: timedelta(hours=spec.agreement.max_age_h + spec.agreement.settlement_reach_h) + rule.step,
        _worst,
    ),
)

"""Detectors: what tells a broken source from a moving market (METHODOLOGY.md 3, docs/detectors.md). They say so; they repair nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from transforms.detectors.contract import Consequence, Detector, Finding, Inputs, suspect, to_table
from transforms.detectors.feeds import CarriedForward, DeadFeed
from transforms.detectors.gaps import MissingInCrash, StaleInStress, TruncatedHistory
from transforms.detectors.labels import LabelShift
from transforms.detectors.ratios import CohortRedraw
from transforms.detectors.sides import SideBreak
from transforms.detectors.units import RateUnitBreak, UnitBreak
from transforms.detectors.vintages import DuplicatedMidnight, InventedHistory
from transforms.detectors.whole import SidesBesideTotal, TotalBelowPart

__all__ = ["DETECTORS", "Consequence", "Detector", "Finding", "Inputs", "InventedHistory", "find_all", "suspect", "to_table"]

DETECTORS: Final[tuple[Detector, ...]] = (
    UnitBreak(),
    RateUnitBreak(),
    SideBreak(),
    LabelShift(),
    DeadFeed(),
    CarriedForward(),
    MissingInCrash(),
    StaleInStress(),
    TruncatedHistory(),
    CohortRedraw(),
    TotalBelowPart(),
    SidesBesideTotal(),
    InventedHistory(),
    DuplicatedMidnight(),
)


def find_all(inputs: Inputs, detectors: Sequence[Detector] = DETECTORS) -> list[Finding]:
    """Findings of every detector given, in order of detector, table, series and window."""
    return [one for detector in detectors for one in detector.find(inputs)]

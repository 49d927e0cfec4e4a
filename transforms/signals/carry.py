"""Carry: what it costs to be long."""

from __future__ import annotations

from typing import Final

from transforms.signals.contract import Signal

SIGNALS: Final = (
    Signal(
        "premium_excess_annual",
        "the perpetual is dearer than its index by more than the anchor: leaning long, also where funding is clamped",
    ),
    Signal("funding_excess_annual", "longs pay more than the contract's own interest component: leaning long"),
)

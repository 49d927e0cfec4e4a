"""Carry: what it costs to be long."""

from __future__ import annotations

from typing import Final

from transforms.signals.contract import Signal

SIGNALS: Final = (Signal("funding_excess_annual", "longs pay more than the contract's own interest component: leaning long"),)

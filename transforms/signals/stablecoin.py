"""Stablecoins: money that can buy, growing faster or slower than usual."""

from __future__ import annotations

from typing import Final

from transforms.signals.contract import Signal

SIGNALS: Final = (Signal("stablecoin_growth_30d", "supply grew faster over 30 days than usual"),)

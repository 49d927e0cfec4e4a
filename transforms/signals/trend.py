"""Trend: price against its own volatility. Left out of s_ex, which must stay free of price."""

from __future__ import annotations

from typing import Final

from transforms.signals.contract import Signal

SIGNALS: Final = (Signal("momentum", "price rose over weeks and months by more than its noise"),)

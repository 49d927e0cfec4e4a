"""Conviction: new positions in the direction of the move. Left out of s_ex, which must stay free of price."""

from __future__ import annotations

from typing import Final

from transforms.signals.contract import Signal

SIGNALS: Final = (Signal("conviction", "open interest grew while price rose (positive) or fell (negative)"),)

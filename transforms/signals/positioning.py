"""Positioning: how heads and large positions are split, against what is usual on the venue."""

from __future__ import annotations

from typing import Final

from transforms.signals.contract import Signal

SIGNALS: Final = (
    Signal("long_short_accounts_log", "more accounts than usual are long"),
    Signal("long_short_top_positions_log", "top traders' positions are longer than usual"),
)

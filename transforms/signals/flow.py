"""Flow: who crosses the spread, and who is forced out."""

from __future__ import annotations

from typing import Final

from transforms.signals.contract import Signal

SIGNALS: Final = (
    Signal("taker_imbalance_8h", "takers buy more than they sell"),
    Signal("liquidation_imbalance_24h", "more longs than shorts were liquidated (enters with sign -1)"),
)

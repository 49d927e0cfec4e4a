"""Options: what insurance against a fall costs, and which side is traded."""

from __future__ import annotations

from typing import Final

from transforms.signals.contract import Signal

SIGNALS: Final = (
    Signal("risk_reversal_25d", "calls are dearer than puts at equal delta, against what is usual"),
    Signal("volatility_term_slope", "far volatility above near: no hurry; an inverted slope is stress"),
    Signal(
        "call_put_volume_log", "more calls than puts are traded; ambiguous, since puts are sold as well as bought, hence its small weight"
    ),
)

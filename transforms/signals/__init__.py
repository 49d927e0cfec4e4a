"""Every signal by the feature it reads. A new family is one file here, one line below, and its constants in transforms/spec.py."""

from __future__ import annotations

from typing import Final

from transforms.signals import carry, conviction, flow, options, positioning, stablecoin, trend
from transforms.signals.contract import Signal

SIGNALS: Final[dict[str, Signal]] = {
    signal.feature: signal for family in (carry, trend, options, flow, positioning, stablecoin, conviction) for signal in family.SIGNALS
}

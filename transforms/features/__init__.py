"""Every feature by name. A new family is one file here and one line below."""

from __future__ import annotations

from typing import Final

from transforms.features import agreement, flow, funding, liquidations, open_interest, options, positioning, price, stablecoins
from transforms.features.contract import Feature, named

_FAMILIES: Final = (open_interest, funding, positioning, flow, liquidations, options, stablecoins, price, agreement)

FEATURES: Final[dict[str, Feature]] = named(*(feature for family in _FAMILIES for feature in family.FEATURES.values()))

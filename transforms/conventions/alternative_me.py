"""alternative.me: Fear & Greed."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from transforms.conventions.entry import Entry
from transforms.windows import DAY

ENTRIES: Final[tuple[Entry, ...]] = (
    Entry("alternative_me", "fng", "label", "end", "METHODOLOGY 5.1: the day-start stamp is the instant the value is published for"),
    Entry("alternative_me", "fng", "period", DAY, "one point a day"),
    Entry("alternative_me", "fng", "lag", timedelta(hours=1), "METHODOLOGY 5.1: 1 h"),
)

"""Request limits as the venues count them: so much weight in a span of wall time, and a ban for those who do not stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Credits:
    """A pool that fills evenly, as Deribit counts: at most `most` credits, `refill` a second; a refused request takes none."""

    most: float
    refill: float
    clock: Callable[[], float]
    held: float = field(init=False)
    _seen: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.held, self._seen = self.most, self.clock()

    def take(self, cost: float) -> bool:
        """Whether the request may pass."""
        now = self.clock()
        self.held = min(self.most, self.held + max(0.0, now - self._seen) * self.refill)
        self._seen = now
        if self.held < cost:
            return False
        self.held -= cost
        return True


@dataclass(slots=True)
class Limit:
    """At most `weight` in each span of `per` seconds, spans aligned to the clock as Binance's minute is.

    After `patience` refusals inside one span the address is banned for `ban` seconds: the venue answers 418 to those who go on
    after 429, and bans from 2 minutes up to 3 days (Binance, general info, "IP limits"). None: no bans.
    """

    weight: float
    per: float
    clock: Callable[[], float]
    patience: int | None = None
    ban: float = 120.0
    used: float = 0.0
    _span: int = field(default=-1, repr=False)
    _refused: int = field(default=0, repr=False)
    banned_until: float = 0.0

    def take(self, weight: float) -> float | None:
        """None when the request may pass, else the seconds to wait. The weight of a refused request counts too."""
        now = self.clock()
        span = int(now // self.per)
        if span != self._span:
            self._span, self.used, self._refused = span, 0.0, 0
        if now < self.banned_until:
            return self.banned_until - now
        self.used += weight
        if self.used <= self.weight:
            return None
        self._refused += 1
        if self.patience is not None and self._refused > self.patience:
            self.banned_until = now + self.ban
            return self.ban
        return (span + 1) * self.per - now

    @property
    def banned(self) -> bool:
        """Whether the last refusal was a ban."""
        return self.clock() < self.banned_until

"""Spans of time. A window is `[start, end)` of described time; a value with interval END `as_of` belongs to it when `start < as_of <= end`.

Partition days follow the same rule: the hour 23:00-24:00 of day D has `as_of` = D+1 00:00 and lies in partition D,
and so does the funding settlement of D+1 00:00, which pays for the interval that ends there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)

#: Step of the published grid, by the name that every row carries in `cadence`.
CADENCES: Final[dict[str, timedelta]] = {"1h": HOUR, "1d": DAY}


def utc(text: str) -> datetime:
    """Parse an ISO date or instant as UTC; a text with another offset raises.

    >>> utc("2022-05-09")
    datetime.datetime(2022, 5, 9, 0, 0, tzinfo=datetime.timezone.utc)
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    if instant.utcoffset() != timedelta(0):
        raise ValueError(f"found {text!r}; an instant must be in UTC (offset +00:00 or Z)")
    return instant.astimezone(UTC)


def from_ms(milliseconds: int) -> datetime:
    """UTC instant of a Unix stamp in milliseconds, exact to the millisecond.

    >>> from_ms(1602819600000).isoformat()
    '2020-10-16T03:40:00+00:00'
    """
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def to_ms(instant: datetime) -> int:
    """Unix stamp in milliseconds, rounded down."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def floor(instant: datetime, step: timedelta) -> datetime:
    """The last multiple of `step` since the epoch at or before `instant`."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (instant - epoch) // step * step


def partition_day(as_of: datetime) -> date:
    """The day a value describes: the day that ends at or after `as_of`.

    >>> partition_day(utc("2022-05-10T00:00")), partition_day(utc("2022-05-10T00:15"))
    (datetime.date(2022, 5, 9), datetime.date(2022, 5, 10))
    """
    return (as_of - timedelta(microseconds=1)).date()


def partition_days(as_of: pa.ChunkedArray | pa.Array) -> pa.Array:
    """`partition_day` for a column: timestamp[us, UTC] of any length in, date32 out."""
    micros = pc.cast(as_of, pa.timestamp("us")).to_numpy(zero_copy_only=False).astype("datetime64[us]")
    return pa.array((micros - np.timedelta64(1, "us")).astype("datetime64[D]"), type=pa.date32())


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """`[start, end)` in UTC. An empty or reversed span raises ValueError."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name, instant in (("start", self.start), ("end", self.end)):
            if instant.tzinfo is None or instant.utcoffset() != timedelta(0):
                raise ValueError(f"window {name} {instant!r} is not in UTC")
        if self.end <= self.start:
            raise ValueError(f"window ends {self.end} at or before its start {self.start}")

    def __str__(self) -> str:
        return f"[{self.start:%Y-%m-%dT%H:%MZ}, {self.end:%Y-%m-%dT%H:%MZ})"

    def __contains__(self, as_of: datetime) -> bool:
        return self.start < as_of <= self.end

    @classmethod
    def day(cls, day: date) -> Window:
        """The whole UTC day."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return cls(start, start + DAY)

    def clip(self, other: Window) -> Window | None:
        """The common part, or None."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Window(start, end) if start < end else None

    def days(self) -> list[date]:
        """Partition days touched, in order."""
        first, last = self.start.date(), partition_day(self.end)
        return [first + timedelta(days=n) for n in range((last - first).days + 1)]

    def grid(self, step: timedelta) -> list[datetime]:
        """All multiples of `step` since the epoch that the window contains: the expected `as_of` stamps.

        >>> Window(utc("2022-05-09"), utc("2022-05-09T03:00")).grid(HOUR)[0].isoformat()
        '2022-05-09T01:00:00+00:00'
        """
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        first = (self.start - epoch) // step + 1
        last = (self.end - epoch) // step
        return [epoch + n * step for n in range(first, last + 1)]

    def split(self, span: timedelta) -> Iterator[Window]:
        """Consecutive pieces of at most `span`, aligned to multiples of `span` since the epoch, so that any two callers cut alike."""
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        start = self.start
        while start < self.end:
            edge = epoch + ((start - epoch) // span + 1) * span
            yield Window(start, min(edge, self.end))
            start = edge


def window_of(key: str) -> Window:
    """The span a partition key names: an hour `2026-05-01T07`, a day `2026-05-01`, or the quarter that begins with month `2026-04`.

    >>> str(window_of("2026-05-01T07")), str(window_of("2026-04"))
    ('[2026-05-01T07:00Z, 2026-05-01T08:00Z)', '[2026-04-01T00:00Z, 2026-07-01T00:00Z)')
    """
    for form, length in (("%Y-%m-%dT%H", HOUR), ("%Y-%m-%d", DAY)):
        try:
            start = datetime.strptime(key, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return Window(start, start + length)
    start = datetime.strptime(key, "%Y-%m").replace(tzinfo=UTC)
    months = start.year * 12 + start.month + 2  # months since year 0 at the end, counted from 0
    return Window(start, datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC))

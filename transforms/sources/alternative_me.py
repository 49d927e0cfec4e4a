"""alternative.me: the Crypto Fear & Greed Index, kept for comparison only. One value a day, published for the day it is stamped with.

The endpoint serves the newest N values, so the plan asks for as many as reach back to the window's start.
Document: https://alternative.me/crypto/fear-and-greed-index/#api
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import numpy as np

from transforms import conventions
from transforms.reading import Shape, Sieve, instants, micros, to_us
from transforms.sources.contract import Answer, Ask, Budget, Decoded, Instrument, Reject, Series, Source, Unreadable
from transforms.windows import DAY, Window

REFERENCE: Final = "fear_and_greed"
SECOND: Final = 1_000_000  # microseconds


class Value(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    value: str
    value_classification: str
    timestamp: str
    time_until_update: str | None = None


class Metadata(msgspec.Struct):
    error: str | None = None


class Index(msgspec.Struct, forbid_unknown_fields=True):
    data: msgspec.Raw
    metadata: Metadata
    name: str = ""


class Failed(msgspec.Struct):
    metadata: Metadata


_FAILED: Final = msgspec.json.Decoder(Failed)


def venue_error(body: bytes) -> str:
    """What `metadata.error` says; empty when it says nothing."""
    try:
        return _FAILED.decode(body).metadata.error or ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


_INDEX: Final = Shape(Index, venue_error)
_VALUE: Final = Shape(Value)


class AlternativeMe(Source):
    """See the module's docstring."""

    name = "alternative_me"
    hosts: Mapping[str, str] = {"api": "https://api.alternative.me"}
    budgets: Mapping[str, Budget] = {"default": Budget(60, 60)}  # the document: 60 requests per minute
    endpoints: Mapping[str, str] = {"fng": "reference_index"}

    def plan(self, window: Window, instruments: Sequence[Instrument], now: datetime) -> Iterator[Series]:
        if window.start >= now:
            return
        asked = Window(window.start, min(window.end, now))
        if asked.grid(DAY):
            newest = (now - asked.start) // DAY + 2
            yield Series(self.name, "fng", REFERENCE, asked, DAY, (("limit", str(newest)),))

    def asks(self, series: Series) -> Iterator[Ask]:
        if series.endpoint not in self.endpoints:
            raise ValueError(f"alternative_me has no endpoint {series.endpoint!r}; it has fng")
        yield Ask(series, "api", "/fng/", (*series.options, ("format", "json")))

    def decode(self, ask: Ask, answer: Answer) -> Decoded:
        """Values of the window; the others that the endpoint serves are no rows. A stamp off midnight is put aside."""
        series, target = ask.series, "reference_index"
        if said := venue_error(answer.body):
            raise Unreadable(Reject(target, "VENUE_ERROR", said, answer.body[:2000].decode("utf-8", "replace")))
        index, notes = _INDEX.one(answer.body, target)
        read = _VALUE.many(index.data, target, "$.data")
        try:
            shift = conventions.shift(self.name, series.endpoint, series.window.start)
            lag = conventions.span(self.name, series.endpoint, "lag", series.window.start)
        except LookupError as undeclared:
            raise Unreadable(Reject(target, "CONVENTION", str(undeclared), ask.target)) from undeclared
        raw, readable = micros([row.timestamp for row in read.rows], SECOND)
        as_of = raw + shift // timedelta(microseconds=1)
        ours = ~readable | (as_of > to_us(series.window.start)) & (as_of <= to_us(series.window.end))
        rows = [read.rows[i] for i in np.flatnonzero(ours)]
        as_of, readable = as_of[ours], readable[ours]
        sieve = Sieve(target, rows, read.rejects)
        sieve.refuse(~readable, "VALUE", lambda i: f"found timestamp {rows[i].timestamp!r}, expected Unix seconds")
        sieve.inside(as_of, series.window, series.step)
        value = sieve.texts("reference_value", [row.value for row in rows])
        label = np.array([row.value_classification for row in rows], dtype=object)
        sieve.single([as_of], [value, label])
        columns = {
            "source": self.name,
            "reference": series.instrument,
            "as_of": instants(as_of),
            "known_at": instants(as_of + lag // timedelta(microseconds=1)),
            "reference_value": value,
            "reference_label": label,
        }
        return Decoded({target: sieve.table(columns)}, sieve.rejects, [*notes, *read.notes])


SOURCE: Final = AlternativeMe()

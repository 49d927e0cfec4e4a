"""What a number of a source means: sides, units, labels, lags, signs. Dated entries with their evidence; nothing is inferred from data.

A venue changes such things without a word (PITFALLS A1, B1, D2), so every entry says from when on it holds, and a lookup names
the instant it asks for. What is not declared raises LookupError: a decoder then puts the row aside as CONVENTION, it never guesses.
Entries lie in one file a source beside this one.
To correct a convention, add an entry with its date and evidence; do not edit one that data was decoded with.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Final, TypeVar

from transforms.conventions.entry import DAWN, MINUTE, Entry, Value, What
from transforms.roster import SOURCES
from transforms.windows import Window

__all__ = [
    "DAWN",
    "MINUTE",
    "Entry",
    "Value",
    "What",
    "entries",
    "find",
    "instant",
    "number",
    "number_or_none",
    "readings",
    "regimes",
    "settlement_hours",
    "shift",
    "span",
    "text",
]

T = TypeVar("T", str, float, timedelta, datetime)

#: what decoders ask once an answer, for its whole window: where one of these changes, no answer may lie across
MEANING: Final = frozenset(
    {
        "label",
        "period",
        "lag",
        "oi_sides",
        "native_unit",
        "contract_size",
        "rate_scale",
        "share_scale",
        "ratio_metric",
        "funding_kind",
        "liquidation_sides",
        "price_kind",
        "completeness",
    }
)


@cache
def entries(source: str) -> tuple[Entry, ...]:
    """All entries of a source; none for a name that is not on the roster."""
    if source not in SOURCES:
        return ()
    found: tuple[Entry, ...] = import_module(f"transforms.conventions.{source}").ENTRIES
    return found


@cache
def _of(source: str) -> dict[tuple[str, str], tuple[Entry, ...]]:
    held: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries(source):
        held[entry.dataset, entry.what].append(entry)
    return {key: tuple(found) for key, found in held.items()}


def find(source: str, dataset: str, what: What, at: datetime, instrument: str = "") -> Entry:
    """The entry in force at `at`; one for the instrument itself goes before one for all. Raises LookupError when nothing is declared.

    >>> from transforms.windows import utc
    >>> find("binance", "archiveMetrics", "label", utc("2026-06-24")).value
    'end'
    >>> find("binance", "archiveMetrics", "label", utc("2026-06-25")).value
    'start'
    """
    declared = _of(source).get((dataset, what), ())
    for name in dict.fromkeys((instrument, "")):
        held = [entry for entry in declared if entry.instrument == name and entry.since <= at]
        if held:
            return max(held, key=lambda entry: entry.since)
    raise LookupError(
        f"no convention declares {what!r} of {source} {dataset}{f' {instrument}' if instrument else ''} at {at:%Y-%m-%dT%H:%MZ}; "
        f"add an entry with its evidence to transforms/conventions/{source}.py"
    )


def regimes(source: str, dataset: str, window: Window, what: What = "label") -> list[Window]:
    """The window cut where `what` changes, so that no answer holds two readings of one field."""
    changes = {entry.since for entry in _of(source).get((dataset, what), ()) if not entry.instrument}
    edges = [window.start, *sorted(at for at in changes if window.start < at < window.end), window.end]
    return [Window(first, last) for first, last in pairwise(edges)]


def readings(source: str, dataset: str, window: Window) -> list[Window]:
    """The window cut where anything of `MEANING` becomes another value: each part has one reading of every field."""
    edges = {window.start, window.end}
    for (name, what), declared in _of(source).items():
        if name == dataset and what in MEANING:
            for instrument in {entry.instrument for entry in declared}:
                held = sorted((entry for entry in declared if entry.instrument == instrument), key=lambda entry: entry.since)
                edges |= {new.since for old, new in pairwise(held) if old.value != new.value and window.start < new.since < window.end}
    return [Window(first, last) for first, last in pairwise(sorted(edges))]


def settlement_hours(venue: str) -> tuple[tuple[datetime, float], ...]:
    """From when on a venue pays funding at which hour of the day, modulo the interval, in order of time; nothing where none is declared.

    A venue that speaks for itself is a source of the same name.

    >>> [hour for _, hour in settlement_hours("binance")], settlement_hours("hyperliquid")
    ([0.0], ())
    """
    stated = sorted((entry for entry in entries(venue) if entry.what == "settlement_hour"), key=lambda entry: entry.since)
    return tuple((entry.since, _typed(entry, float)) for entry in stated)


def text(source: str, dataset: str, what: What, at: datetime, instrument: str = "") -> str:
    """A declared word: a label, a unit, a side."""
    return _typed(find(source, dataset, what, at, instrument), str)


def number(source: str, dataset: str, what: What, at: datetime, instrument: str = "") -> float:
    """A declared factor or count."""
    return _typed(find(source, dataset, what, at, instrument), float)


def number_or_none(source: str, dataset: str, what: What, at: datetime, instrument: str = "") -> float | None:
    """A declared factor, or None where what is declared is that nobody can say."""
    entry = find(source, dataset, what, at, instrument)
    return None if entry.value is None else _typed(entry, float)


def span(source: str, dataset: str, what: What, at: datetime) -> timedelta:
    """A declared length of time."""
    return _typed(find(source, dataset, what, at), timedelta)


def instant(source: str, dataset: str, what: What, at: datetime) -> datetime:
    """A declared instant."""
    return _typed(find(source, dataset, what, at), datetime)


def shift(source: str, dataset: str, at: datetime) -> timedelta:
    """What to add to a stamp to reach the END of what it describes: the period where the label is its start, else nothing.

    >>> from transforms.windows import utc
    >>> shift("binance", "klines", utc("2022-05-09"))
    datetime.timedelta(seconds=3600)
    """
    label = text(source, dataset, "label", at)
    if label not in ("start", "end"):
        raise LookupError(f"label {label!r} of {source} {dataset} is neither start nor end")
    return span(source, dataset, "period", at) if label == "start" else timedelta(0)


def _typed(entry: Entry, kind: type[T]) -> T:
    value = float(entry.value) if kind is float and isinstance(entry.value, int) else entry.value
    if not isinstance(value, kind):
        raise TypeError(f"{entry.what} of {entry.source} {entry.dataset} is declared as {value!r}, asked for as {kind.__name__}")
    return value

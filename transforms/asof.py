"""What was known when: rows of core tables, sorted into tracks, read through the knowledge clock.

A track is one measured thing over time (an instrument's open interest, a stablecoin's supply). A bar at t sees the rows with
as_of <= t and known_at <= t + publication delay; of several revisions of one as_of, the highest it can see.
A sample taken at a bar stays what it was: later restatements change later bars only, as published values do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.estimators import Bools, Floats, Ints, kernel

#: what names a track: a tuple of column values
Track = tuple[str, ...]


class UnusableInput(ValueError):
    """Input that breaks the declaration of its table. Says what was found, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table in tracks: rows of track i are starts[i]..starts[i+1]-1, by as_of, then revision. Instants in us."""

    starts: Ints
    as_of: Ints
    known_at: Ints
    values: dict[str, Floats]

    @property
    def tracks(self) -> int:
        """How many tracks."""
        return len(self.starts) - 1


def micros(column: pa.ChunkedArray | pa.Array) -> Ints:
    """Instants as int64 microseconds since the epoch."""
    found: Ints = np.array(column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(), dtype=np.int64)
    return found


def floats(column: pa.ChunkedArray | pa.Array) -> Floats:
    """Numbers as float64, null as NaN."""
    found: Floats = np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return found


def tracks_of(table: pa.Table, keys: Sequence[str]) -> tuple[Ints, list[Track]]:
    """Number of each row's track and the tracks in sorted order: distinct combinations of the key columns."""
    codes = np.zeros(table.num_rows, dtype=np.int64)
    names: list[list[str]] = []
    for key in keys:
        column = table.column(key).cast(pa.string())
        if column.null_count:
            raise UnusableInput(f"{column.null_count} rows without {key}: the gate must not let them through; reject them when decoding")
        encoded = pc.dictionary_encode(column.combine_chunks())
        if isinstance(encoded, pa.ChunkedArray):  # pyarrow keeps an empty column chunked
            encoded = encoded.combine_chunks()
        names.append(encoded.dictionary.to_pylist())
        codes = codes * max(1, len(names[-1])) + encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    distinct, number = np.unique(codes, return_inverse=True)
    parts: list[list[str]] = []
    left = distinct
    for values in reversed(names):
        left, place = np.divmod(left, max(1, len(values)))
        parts.append([values[n] for n in place.tolist()])
    found: list[Track] = list(zip(*reversed(parts), strict=True))
    order = sorted(range(len(found)), key=found.__getitem__)
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    return rank[number], [found[n] for n in order]


def in_tracks(
    name: str,
    table: pa.Table,
    *,
    keys: Sequence[str],
    tracks: Sequence[Track],
    columns: Mapping[str, Floats],
    usable: Bools,
    agree: bool = True,
    numbered: tuple[Ints, list[Track]] | None = None,
) -> Rows:
    """Rows of `table` (any order) sorted into the given tracks; rows of other tracks and rows not `usable` are left out.

    columns: values by name, one per row of `table`. agree: two rows of equal track, as_of and revision must say the same, else
    UnusableInput is raised. numbered: what tracks_of says about them, where it has been asked already.
    """
    number, found = tracks_of(table, keys) if numbered is None else numbered
    place = {track: n for n, track in enumerate(tracks)}
    to = np.arange(len(found)) if found == tracks else np.array([place.get(track, -1) for track in found], dtype=np.int64)
    track = to[number] if len(found) else number
    as_of, known_at = micros(table.column("as_of")), micros(table.column("known_at"))
    revision = np.array(table.column("revision").to_numpy(), dtype=np.int64)
    keep = np.flatnonzero((track >= 0) & usable)
    track, as_of, known_at, revision = track[keep], as_of[keep], known_at[keep], revision[keep]
    held = {column: values[keep] for column, values in columns.items()}
    if not _ascending(track, as_of, revision):
        order = np.lexsort((known_at, revision, as_of, track))
        track, as_of, known_at, revision = track[order], as_of[order], known_at[order], revision[order]
        held = {column: values[order] for column, values in held.items()}
        same = (track[1:] == track[:-1]) & (as_of[1:] == as_of[:-1]) & (revision[1:] == revision[:-1])
        for column, values in {"known_at": known_at, **held}.items() if agree else ():
            clash = np.flatnonzero(same & (values[1:] != values[:-1]) & ~((values[1:] != values[1:]) & (values[:-1] != values[:-1])))
            if len(clash):
                at = clash[0]
                when = np.datetime64(int(as_of[at]), "us")
                raise UnusableInput(
                    f"{name}: {' '.join(tracks[track[at]])} has two rows of revision {revision[at]} at {when}Z that differ in {column}; "
                    "give every change its own revision (transforms/revisions.py)"
                )
    starts = np.searchsorted(track, np.arange(len(tracks) + 1)).astype(np.int64)
    return Rows(starts, as_of, known_at, held)


def _ascending(track: Ints, as_of: Ints, revision: Ints) -> bool:
    """Whether the rows are already in strict order, as a stored partition is."""
    later = as_of[1:] > as_of[:-1]
    again = (as_of[1:] == as_of[:-1]) & (revision[1:] > revision[:-1])
    return bool(np.all((track[1:] > track[:-1]) | ((track[1:] == track[:-1]) & (later | again))))


@kernel
def newest(starts: Ints, as_of: Ints, known_at: Ints, at: Ints, cutoff: Ints, max_age: int) -> Ints:
    """Row each track shows at each bar: the newest as_of <= at known by cutoff, not older than max_age (us); -1 = none."""
    found = np.full((starts.shape[0] - 1, at.shape[0]), -1)
    for i in range(starts.shape[0] - 1):
        p = starts[i]
        for t in range(at.shape[0]):
            while p < starts[i + 1] and as_of[p] <= at[t]:
                p += 1
            k = p - 1
            while k >= starts[i] and as_of[k] >= at[t] - max_age:
                if known_at[k] <= cutoff[t]:
                    found[i, t] = k
                    break
                k -= 1
    return found


@kernel
def newest_before(starts: Ints, as_of: Ints, known_at: Ints, at: Ints, cutoff: Ints, max_age: int) -> Ints:
    """As `newest`, with an own instant `at` per track and bar (tracks, bars), in any order; an instant below 0 finds nothing."""
    found = np.full(at.shape, -1)
    for i in range(starts.shape[0] - 1):
        own = as_of[starts[i] : starts[i + 1]]
        for t in range(at.shape[1]):
            if at[i, t] < 0:
                continue
            k = starts[i] + np.searchsorted(own, at[i, t], "right") - 1
            while k >= starts[i] and as_of[k] >= at[i, t] - max_age:
                if known_at[k] <= cutoff[t]:
                    found[i, t] = k
                    break
                k -= 1
    return found


@kernel
def bar_sums(
    starts: Ints, as_of: Ints, known_at: Ints, hours: Floats, amounts: Floats, at: Ints, cutoff: Ints, span: int
) -> tuple[Floats, Floats]:
    """Amounts of the intervals that end in (at - span, at]: (sums of shape (kinds, tracks, bars), hours covered (tracks, bars)).

    Of several revisions the highest known by the cutoff counts, once. hours: length of each row's interval; amounts: (kinds, rows).
    """
    tracks, bars, kinds = starts.shape[0] - 1, at.shape[0], amounts.shape[0]
    sums = np.zeros((kinds, tracks, bars))
    covered = np.zeros((tracks, bars))
    for i in range(tracks):
        p = starts[i]
        for t in range(bars):
            while p < starts[i + 1] and as_of[p] <= at[t]:
                p += 1
            k = p - 1
            taken = at[t] + 1
            while k >= starts[i] and as_of[k] > at[t] - span:
                if known_at[k] <= cutoff[t] and as_of[k] < taken:
                    taken = as_of[k]
                    covered[i, t] += hours[k]
                    for n in range(kinds):
                        sums[n, i, t] += amounts[n, k]
                k -= 1
    return sums, covered


@kernel
def settlements(
    starts: Ints,
    as_of: Ints,
    known_at: Ints,
    rate: Floats,
    own_hours: Floats,
    allowed: Floats,
    terms: Floats,
    at: Ints,
    cutoff: Ints,
    span: int,
    infer: bool,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Funding of each track: (sum of rates, hours they cover, last rate, its interval, its age in h), each (tracks, bars).

    Sums run over settlements in (at - span, at]. The interval of a settlement is its own where the source states it, else (if `infer`)
    the distance to the settlement before when that is one of the `allowed` hours, else the terms in force (tracks, bars), else NaN;
    hours covered are NaN when one interval is unknown. The last rate may be as old as the span.
    """
    shape = (starts.shape[0] - 1, at.shape[0])
    sums, covered = np.zeros(shape), np.zeros(shape)
    last, interval, age = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for i in range(shape[0]):
        p = starts[i]
        for t in range(shape[1]):
            while p < starts[i + 1] and as_of[p] <= at[t]:
                p += 1
            k = p - 1
            taken = at[t] + 1
            while k >= starts[i] and as_of[k] > at[t] - span:
                if known_at[k] <= cutoff[t] and as_of[k] < taken:
                    taken = as_of[k]
                    hours = own_hours[k]
                    before = k - 1
                    while infer and np.isnan(hours) and before >= starts[i] and as_of[before] >= taken - span:
                        if known_at[before] <= cutoff[t] and as_of[before] < taken:
                            gap = (taken - as_of[before]) / 3.6e9
                            for one in allowed:
                                if gap == one:
                                    hours = one
                            break
                        before -= 1
                    if np.isnan(hours):
                        hours = terms[i, t]
                    if np.isnan(age[i, t]):
                        last[i, t] = rate[k]
                        interval[i, t] = hours
                        age[i, t] = (at[t] - taken) / 3.6e9
                    sums[i, t] += rate[k]
                    covered[i, t] += hours
                k -= 1
    return sums, covered, last, interval, age

"""Files that a source published again: which ones to look at, and which ones to read once more (PITFALLS B2, B5).

An archive mends its files without notice. What was read of each stands in `core.archive_files`: the checksum published then, the file's own
hash, and the part of it that was decoded. A file is looked at for some weeks after it was read last: the CHECKSUM alone is asked for, and
where it is another one, the file is read again, for the very part that is held. Its rows then take the way of every restatement: equal
rows are duplicates, others the next revision (transforms/revisions.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from transforms.sources.contract import Series
from transforms.windows import Window

#: names of the options by which a series is about one file
FILE: Final = "file"
ENDPOINT: Final = "endpoint"


@dataclass(frozen=True, slots=True)
class Held:
    """The part of a file that was read last: when, and under which published checksum."""

    endpoint: str
    instrument: str
    file: str
    window: Window
    checksum: str
    read_at: datetime


def option(series: Series, name: str) -> str:
    """An option of a series; empty when it has none of that name."""
    return dict(series.options).get(name, "")


def held(rows: Iterable[Mapping[str, Any]]) -> list[Held]:
    """What is held, from rows of `archive_files` in any order: per file and part the newest reading, parts inside another one left out."""
    newest: dict[tuple[str, Window], Held] = {}
    for row in rows:
        if row["file_sha256"] is None:
            continue  # only looked at
        window = Window(row["window_start"], row["window_end"])
        one = Held(row["endpoint"], row["instrument"], row["file"], window, row["checksum_sha256"], row["as_of"])
        known = newest.get((one.file, window))
        if known is None or known.read_at < one.read_at:
            newest[one.file, window] = one
    by_file: dict[str, list[Held]] = defaultdict(list)
    for one in newest.values():
        by_file[one.file].append(one)
    found = [one for parts in by_file.values() for one in parts if not any(other is not one and _covers(other, one) for other in parts)]
    return sorted(found, key=lambda one: (one.file, one.window))


def _covers(other: Held, one: Held) -> bool:
    """Whether `other`, read no earlier, holds all of `one`."""
    inside = other.window.start <= one.window.start and one.window.end <= other.window.end
    return inside and other.read_at >= one.read_at


def questions(source: str, endpoint: str, rows: Iterable[Mapping[str, Any]], now: datetime, reach: timedelta) -> Iterator[Series]:
    """One series of `endpoint`, which asks for checksums, per file that was read within `reach`."""
    parts: dict[str, list[Held]] = defaultdict(list)
    for one in held(rows):
        parts[one.file].append(one)
    for file, some in parts.items():
        if max(one.read_at for one in some) > now - reach:
            window = Window(min(one.window.start for one in some), max(one.window.end for one in some))
            yield Series(source, endpoint, some[0].instrument, window, None, ((ENDPOINT, some[0].endpoint), (FILE, file)))


def again(
    source: str, rows: Iterable[Mapping[str, Any]], seen: Iterable[Mapping[str, Any]], steps: Mapping[str, timedelta | None]
) -> Iterator[Series]:
    """The parts whose file has another checksum now, by `seen` (rows of `archive_files` of the checksums' answers). `steps`: endpoint -> grid."""
    published = {row["file"]: row["checksum_sha256"] for row in seen}
    for one in held(rows):
        if one.file in published and published[one.file] != one.checksum:
            yield Series(source, one.endpoint, one.instrument, one.window, steps[one.endpoint], ((FILE, one.file),))

"""The evidence tables: what each step did (outcomes), what came of what was expected (coverage), what each partition holds (partitions)."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plugins.lake import Lake
from transforms import conventions
from transforms.coverage import by_day, touched
from transforms.schema import arrow_schema, content_sha256
from transforms.sources.contract import Series
from transforms.tables import TABLES, Table
from transforms.windows import Window

#: Sources publish late and mend gaps for some days: for so long a window with missing stamps is asked again.
HEALING: Final = timedelta(days=3)


#: How far back the newest of something is looked for before everything is.
LATE: Final = timedelta(days=3)


#: Object that holds which entries of `ops.partitions` are in force.
SETTLED: Final = "ledger/partitions_in_force.parquet"


def rows_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of an evidence table from dictionaries; `recorded_at` and `date` are filled with now and today when absent."""
    now = datetime.now(UTC)
    full = [{"recorded_at": now, "date": now.date(), **row} for row in rows]
    schema = arrow_schema(TABLES[name])
    return pa.table({field.name: pa.array([row[field.name] for row in full], type=field.type) for field in schema}, schema=schema)


#: The longest time between two rows of a table whose stamps lie on no grid: no contract settles funding less often than every 8 hours.
SILENCE: Final = {"funding": timedelta(hours=8)}


@dataclass
class Outcome:
    """What a step reports while it works; becomes one row of `outcomes` however the step ends."""

    answers: int = 0
    rows_decoded: int = 0
    rows_core: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0
    rows_published: int = 0
    outcome: str = "success"
    detail: list[str] = field(default_factory=list)
    #: a step that works for several sources reports each: the row of the whole is then replaced by one row per part
    parts: dict[str, Outcome] = field(default_factory=dict)

    def part(self, name: str) -> Outcome:
        """What one source contributed; made on first use."""
        return self.parts.setdefault(name, Outcome())

    def add_up(self) -> None:
        """Set the counters of the whole to the sums over the parts."""
        for name in self.counts():
            setattr(self, name, sum(part.counts()[name] for part in self.parts.values()))

    def counts(self) -> dict[str, int]:
        """The counters by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}

    def remark(self, notes: Iterable[str]) -> None:
        """Say something once that did no harm, e.g. a field the venue's document does not name."""
        self.detail += [note for note in dict.fromkeys(notes) if note not in self.detail]

    def partly(self, detail: str) -> None:
        """Note something that went wrong without ending the step."""
        self.outcome = "partial"
        self.detail.append(detail)


@contextmanager
def recorded(lake: Lake, step: str, subject: str, run_id: str, window: Window | None = None) -> Iterator[Outcome]:
    """Write a row of `outcomes` (one per part, where the step reports parts) when the block ends, also when it fails (the failure goes on)."""
    began = datetime.now(UTC)
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as error:
        outcome.outcome = "failed"
        outcome.detail.append(f"{type(error).__name__}: {error}")
        raise
    finally:
        nowhere = datetime(1970, 1, 1, tzinfo=UTC)
        shared = {
            "run_id": run_id,
            "step": step,
            "window_start": window.start if window else nowhere,
            "window_end": window.end if window else nowhere,
            "started_at": began,
            "finished_at": datetime.now(UTC),
        }
        told = {f"{name}/{subject}": part for name, part in outcome.parts.items()} if outcome.outcome != "failed" else {}
        rows = [
            shared | {"subject": who, "outcome": one.outcome, "detail": "; ".join(one.detail)[:4000]} | one.counts()
            for who, one in (told or {subject: outcome}).items()
        ]
        try:
            lake.append("outcomes", rows_table("outcomes", rows))
        except Exception:
            if outcome.outcome != "failed":  # a lake that is down has already raised its own sentence
                raise


def latest(lake: Lake, table: str, column: str, now: datetime, where: Mapping[str, str | Sequence[str]] | None = None) -> datetime | None:
    """The newest instant in a column, of rows with some values: looked for in files of late first, for there it nearly always is."""
    for since in (now - LATE, None):
        found: datetime | None = pc.max(
            lake.read(table, columns=(column,), where=where, between={column: (since, None)}).column(column)
        ).as_py()
        if found is not None:
            return found
    return None


# -- coverage


def covered(lake: Lake, source: str, since: datetime | None = None) -> dict[tuple[str, str], list[Window]]:
    """Windows that end after `since` and need not be asked again, by (endpoint, instrument), in order of start.

    Complete ones; and ones that were answered in full with stamps missing when they were older than HEALING: then the source has no more.
    """
    names = ("endpoint", "instrument", "window_start", "window_end", "complete", "refused", "recorded_at")
    stored = lake.read("coverage", columns=names, where={"source": source}, between={"window_end": (since, None)})
    found: dict[tuple[str, str], list[Window]] = defaultdict(list)
    for row in stored.to_pylist():
        if row["complete"] or (row["refused"] == 0 and row["window_end"] < row["recorded_at"] - HEALING):
            found[row["endpoint"], row["instrument"]].append(Window(row["window_start"], row["window_end"]))
    return {key: sorted(windows) for key, windows in found.items()}


def without_rewritten(
    known: Mapping[tuple[str, str], Sequence[Window]], rewrites: Mapping[str, timedelta], now: datetime
) -> dict[tuple[str, str], list[Window]]:
    """`known` without what the source may have said anew since: the last days of endpoints that rewrite their history."""
    found = {}
    for (endpoint, instrument), windows in known.items():
        settled = now - rewrites[endpoint] if endpoint in rewrites else now
        found[endpoint, instrument] = [Window(one.start, min(one.end, settled)) for one in windows if one.start < settled]
    return found


def with_twins(
    known: Mapping[tuple[str, str], Sequence[Window]], twins: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str], list[Window]]:
    """`known`, and for an endpoint with twins also the windows that all of these cover."""
    found = {key: list(windows) for key, windows in known.items()}
    for endpoint, others in twins.items():
        for instrument in sorted({name for told, name in known if told == others[0]}):
            shared = set(known[others[0], instrument]).intersection(*(known.get((other, instrument), ()) for other in others))
            found[endpoint, instrument] = sorted({*known.get((endpoint, instrument), ()), *shared})
    return found


def open_part(series: Series, known: Mapping[tuple[str, str], Sequence[Window]]) -> Series | None:
    """The part of a series that is not proved complete yet: from the end of its covered beginning; None when nothing is open.

    A series about several instruments stays open from the earliest open instant of any of them.
    """
    starts = []
    for instrument in series.instrument.split(","):
        start = series.window.start
        for window in known.get((series.endpoint, instrument), ()):
            if window.start <= start < window.end:
                start = window.end
        starts.append(start)
    if min(starts) >= series.window.end:
        return None
    return Series(series.source, series.endpoint, series.instrument, Window(min(starts), series.window.end), series.step, series.options)


def coverage_row(
    source: str,
    endpoint: str,
    instrument: str,
    target: str,
    window: Window,
    series: Series,
    got: set[datetime],
    *,
    answers: int,
    failed: int,
) -> dict[str, Any]:
    """Expected against received stamps of one window. Without a regular grid, complete means that every page was accepted whole.

    Where such a table is never silent for long (`SILENCE`), a longer silence is a hole, and the latest stamps that could fill it are missing.
    """
    expected = series.expected()
    inside = {stamp for stamp in got if stamp in window}
    missing = (
        _holes(sorted(inside), window, _silence(source, endpoint, target, window)) if expected is None else sorted(set(expected) - inside)
    )
    return {
        "source": source,
        "endpoint": endpoint,
        "instrument": instrument,
        "target": target,
        "window_start": window.start,
        "window_end": window.end,
        "expected": -1 if expected is None else len(expected),
        "received": len(inside),
        "missing": len(missing),
        "refused": failed,
        "missing_stamps": json.dumps([stamp.isoformat() for stamp in missing[:10_000]]),
        "complete": failed == 0 and not missing,
        "answers": answers,
    }


def _silence(source: str, endpoint: str, target: str, window: Window) -> timedelta | None:
    """How long the table may be silent where the endpoint tells of the past; a rate on display is of now and says nothing about before."""
    with suppress(LookupError):
        if conventions.text(source, endpoint, "funding_kind", window.end) == "quote":
            return None
    return SILENCE.get(target)


def _holes(stamps: Sequence[datetime], window: Window, longest: timedelta | None) -> list[datetime]:
    """Stamps that are lacking between those that came, at least one every `longest`; none where silence proves nothing."""
    found: list[datetime] = []
    if longest is None:
        return found
    before = window.start
    for stamp in (*stamps, window.end + timedelta.resolution):
        while before + longest < stamp:
            before += longest
            found.append(before)
        before = stamp
    return found


def note_coverage_days(lake: Lake) -> int:
    """Bring the coverage ledger up to date for the days that were asked about since it was written last; returns the days rewritten."""
    told = latest(lake, "coverage_days", "recorded_at", datetime.now(UTC))
    rows = lake.read("coverage", between={"recorded_at": (told, None)}).to_pylist()
    days = touched([row for row in rows if told is None or row["recorded_at"] > told])
    if not days:
        return 0
    first, last = Window.day(min(days)).start, Window.day(max(days)).end
    near = lake.read("coverage", between={"window_end": (first, None), "window_start": (None, last)}).to_pylist()
    near = [row for row in near if row["window_end"] > first and row["window_start"] < last]
    newest = max(row["recorded_at"] for row in rows)
    fresh = pa.Table.from_pylist(
        [row | {"recorded_at": newest} for row in by_day(near, days)], schema=arrow_schema(TABLES["coverage_days"])
    )
    kept = lake.read("coverage_days", days=(min(days), max(days)))
    kept = kept.filter(pc.invert(pc.is_in(kept.column("date"), value_set=pa.array(sorted(days), type=pa.date32()))))
    lake.replace("coverage_days", pa.concat_tables([kept, fresh]), (min(days), max(days)))
    return len(days)


# -- partitions


def hash_days(table: Table, rows: pa.Table, subject_column: str) -> dict[tuple[str, date], tuple[int, str]]:
    """Row count and content hash by (subject, day); the subject is a source (core) or a cadence (index)."""
    found: dict[tuple[str, date], tuple[int, str]] = {}
    if rows.num_rows == 0:
        return found
    ordered = rows.sort_by([(subject_column, "ascending"), ("date", "ascending")])
    groups = ordered.group_by([subject_column, "date"], use_threads=False).aggregate([([], "count_all")])
    start = 0
    for subject, day, count in zip(*(groups.column(n).to_pylist() for n in (subject_column, "date", "count_all")), strict=True):
        found[subject, day] = (count, content_sha256(table, ordered.slice(start, count)))
        start += count
    return found


def note_partitions(lake: Lake, run_id: str, rows: Iterable[tuple[str, str, date, int, str, str]]) -> None:
    """Append (table, subject, day, rows, content hash, inputs hash) to the ledger of partitions."""
    entries = [
        {"table_name": t, "subject": s, "day": d, "row_count": n, "content_sha256": c, "inputs_sha256": i, "run_id": run_id}
        for t, s, d, n, c, i in rows
    ]
    if entries:
        lake.append("partitions", rows_table("partitions", entries))


def partitions(lake: Lake) -> dict[tuple[str, str, date], tuple[str, str]]:
    """(content hash, inputs hash) in force by (table, subject, day)."""
    settled, since = _settled(lake)
    return _by_key(settled) | _by_key(_recorded(lake, since, date.max))


_ENTRY: Final = ("table_name", "subject", "day", "content_sha256", "inputs_sha256")


def _recorded(lake: Lake, first: date, last: date) -> pa.Table:
    """Entries recorded on the days `[first, last]`, in order of recording."""
    return lake.read("partitions", days=(first, last), columns=(*_ENTRY, "recorded_at")).sort_by("recorded_at").select(_ENTRY)


def _by_key(entries: pa.Table) -> dict[tuple[str, str, date], tuple[str, str]]:
    """The last of each (table, subject, day)."""
    columns = [entries.column(name).to_pylist() for name in _ENTRY]
    return {(table, subject, day): (content, inputs) for table, subject, day, content, inputs in zip(*columns, strict=True)}


def _settled(lake: Lake) -> tuple[pa.Table, date]:
    """What was in force at the start of a day of recording, as `settle_partitions` left it, and that day; nothing where it left nothing."""
    if SETTLED in lake.keys(SETTLED):
        found = pq.read_table(io.BytesIO(lake.get(SETTLED)))
        said = found.schema.metadata
        if said[b"table_uuid"].decode() == lake.uuid("partitions"):  # of this table, not of one that lay here before it was dropped
            return found, date.fromisoformat(said[b"since"].decode())
    return pa.table({name: [] for name in _ENTRY}), date.min


def settle_partitions(lake: Lake, today: date) -> None:
    """Keep what is in force of all entries recorded before yesterday in one object, once a day: the ledger grows by every hour, what is in force by
    the day. The ledger stays as it is; without the object all of it is read.
    """
    before, since = _settled(lake)
    until = today - timedelta(days=1)
    if since >= until:
        return
    held = _by_key(before) | _by_key(_recorded(lake, since, until - timedelta(days=1)))
    if not held:
        return
    columns = [pa.array(part) for part in zip(*((*key, *said) for key, said in held.items()), strict=True)]
    rows = pa.table(dict(zip(_ENTRY, columns, strict=True))).replace_schema_metadata(
        {"table_uuid": lake.uuid("partitions"), "since": until.isoformat()}
    )
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    lake.put(SETTLED, sink.getvalue(), "application/vnd.apache.parquet")

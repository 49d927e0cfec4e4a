"""The first half of a number's way: ask a source, store its answers untouched, decode, merge, gate and commit them."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plugins import gate, ledger, listings, recorder, suspecting
from plugins.decisions import TEXT, Decisions, let_in, reject_id, waiver
from plugins.fetcher import Fetched, fetch
from plugins.lake import Lake
from plugins.settings import Settings
from transforms.instruments import Departed
from transforms.revisions import complete, merge
from transforms.roster import source as source_of
from transforms.rulings import Rulings, is_released, plain, released, row_id, ruled
from transforms.sources.contract import Decoded, Instrument, Reject, Series, Source, Unreadable
from transforms.tables import TABLES
from transforms.windows import Window

log = logging.getLogger(__name__)


# -- fetch


def ask(lake: Lake, settings: Settings, name: str, window: Window, run_id: str, *, again: bool, rewritten: bool = False) -> list[str]:
    """Ask one source for one window and store the answers; returns the bundles' keys. Bad answers never raise: they are evidence too."""
    source = source_of(name)
    with ledger.recorded(lake, "fetch", name, run_id, window) as outcome:
        fetched: list[Fetched] = []
        now = settings.clock()
        catalogue = source.catalogue(now)
        instruments: list[Instrument] = []
        gone: list[Departed] = []
        if catalogue is not None:
            listed = _fetch(settings, source, [catalogue])
            fetched += listed
            lists = listings.told(source, listed)
            instruments = listings.trading(settings, source, lists)
            if not instruments:
                outcome.partly(f"{name} listed no instrument of ours: {_why(listed)}")
            if any(one.disposition.verb != "accept" for one in listed):  # refused or down: its silence is a gap, not a delisting
                known_before = listings.remembered(lake, settings, source)
                instruments = [*instruments, *(one for one in known_before if one.instrument not in {i.instrument for i in instruments})]
            else:
                gone = listings.gone(lake, settings, source, lists, window, now)

        def still_open(plan: Iterable[Series]) -> list[Series]:
            planned = list(plan)
            known = {} if again or not planned else _proved(lake, source, planned, now if rewritten else None)
            return [part for one in planned if (part := ledger.open_part(one, known)) is not None]

        series = still_open((*source.plan(window, instruments, now), *listings.last_words(source, window, gone, now)))
        log.info("%s: %d series open in %s", name, len(series), window)
        if not series and not fetched:
            return []
        fetched += _fetch(settings, source, series)
        substitute = getattr(source, "plan_blocked", None)
        if substitute and any(one.disposition.reason_code == "HTTP_BLOCKED" for one in fetched):
            outcome.partly(f"{name} refuses this location: its archive is asked instead")
            fetched += _fetch(settings, source, still_open(substitute(window, instruments, now)))
        rejected = [one for one in fetched if one.disposition.verb != "accept"]
        absent = [one for one in rejected if one.answer.status == 404]  # a file that was never published is a gap, not a fault of the run
        refused = [one for one in rejected if one.answer.status != 404]
        if refused:
            outcome.partly(f"{len(refused)} of {len(fetched)} answers rejected, first: {refused[0].disposition.detail}")
        if absent:
            outcome.remark([f"{len(absent)} of {len(fetched)} files not published (404), first: {absent[0].disposition.detail}"])
        outcome.answers = len(fetched)
        if not series and not rejected:
            return []  # nothing was open: the catalogue alone is no news
        return recorder.store(lake, name, fetched, run_id)


def _proved(lake: Lake, source: Source, planned: Sequence[Series], rewritten_by: datetime | None) -> dict[tuple[str, str], list[Window]]:
    """The windows that planned series need not ask for; `rewritten_by`: now, where what the source says anew is to be asked again."""
    known = ledger.with_twins(ledger.covered(lake, source.name, min(one.window.start for one in planned)), source.twins)
    return known if rewritten_by is None else ledger.without_rewritten(known, source.rewrites, rewritten_by)


def _fetch(settings: Settings, source: Source, series: Sequence[Series]) -> list[Fetched]:
    def progress(done: int, total: int) -> None:
        if done == total or done % 200 == 0:
            log.info("%s: %d of %d answers", source.name, done, total)

    return fetch(
        source,
        series,
        hosts=settings.hosts(source),
        key=settings.key(source),
        contact=settings.contact,
        budget_scale=settings.budget_scale,
        progress=progress,
        now=lambda: datetime.now(UTC),
    )


def _why(fetched: Sequence[Fetched]) -> str:
    bad = [one.disposition.detail for one in fetched if one.disposition.verb != "accept"]
    return bad[0] if bad else "the list holds none of the wanted assets"


def recheck(lake: Lake, settings: Settings, name: str, run_id: str) -> list[str]:
    """Look whether files that were read in the last weeks were published again, and read those once more; returns the bundles' keys."""
    source = source_of(name)
    with ledger.recorded(lake, "recheck", name, run_id) as outcome:
        now = datetime.now(UTC)  # the files' own stamps are of asking, so a replay's clock does not count here
        files = lake.read("archive_files", where={"source": name}).to_pylist()
        looked = _fetch(settings, source, list(source.plan_recheck(files, now)))
        seen: list[dict[str, Any]] = []
        for one in looked:
            if one.disposition.verb == "accept":
                with suppress(Unreadable):  # the load step quarantines it with its reason
                    seen += source.decode(one.ask, one.answer).tables["archive_files"].to_pylist()
        read = _fetch(settings, source, list(source.plan_republished(files, seen)))
        rejected = [one for one in (*looked, *read) if one.disposition.verb != "accept"]
        if rejected:
            outcome.partly(f"{len(rejected)} of {len(looked) + len(read)} answers rejected, first: {rejected[0].disposition.detail}")
        outcome.remark([f"{len(looked)} files looked at"] + [f"published again: {one.ask.path}" for one in read])
        outcome.answers = len(looked) + len(read)
        return recorder.store(lake, name, [*looked, *read], run_id) if looked else []


# -- load


@dataclass
class _Batch:
    """Decoded rows of one load, by table, with the evidence that goes beside them."""

    run_id: str
    tables: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    stamps: dict[tuple[str, str, str, Window], set[datetime]] = field(default_factory=lambda: defaultdict(set))
    series: dict[tuple[str, str, str, Window], Series] = field(default_factory=dict)
    answers: dict[tuple[str, str, str, Window], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    outcome: ledger.Outcome = field(default_factory=ledger.Outcome)
    decisions: Decisions = field(default_factory=Decisions)

    def put_aside(self, one: Fetched, reject: Reject, *, whole: bool = False) -> None:
        series = one.ask.series
        self.outcome.part(series.source).rows_quarantined += 1
        self.quarantine.append(
            {
                "source": series.source,
                "endpoint": series.endpoint,
                "instrument": series.instrument,
                "target": reject.target,
                "reason_code": reject.reason_code,
                "detail": reject.detail,
                "row_json": reject.row[:TEXT],
                "raw_sha256": one.answer.sha256,
                "fetched_at": one.answer.fetched_at,
                "quarantine_id": reject_id(one, reject, whole=whole),
                "run_id": self.run_id,
            }
        )

    def take(self, one: Fetched) -> None:
        """Decode one answer: rows to their tables, rejects aside, stamps to coverage."""
        series = one.ask.series
        source = source_of(series.source)
        target = source.endpoints.get(series.endpoint, "")
        part = self.outcome.part(series.source)
        part.answers += 1
        keys = [(series.source, series.endpoint, instrument, series.window) for instrument in series.instrument.split(",")]
        for key in keys:
            self.series[key] = series
            self.answers[key][0] += 1
        reject: Reject | None = None
        if one.disposition.verb != "accept":
            reject = Reject(target, one.disposition.reason_code, one.disposition.detail, one.answer.body[:2000].decode("utf-8", "replace"))
        else:
            rulings = self.decisions.rulings(series, one.answer.sha256)
            try:
                with ruled(rulings):
                    found = source.decode(one.ask, one.answer)
            except Unreadable as error:
                reject = error.reject
        if reject is not None:
            part.rows_decoded += 1
            self.put_aside(one, reject, whole=True)
            for key in keys:
                self.answers[key][1] += 1
            return
        part.rows_decoded += found.rows
        part.remark(found.notes)
        rejects, more = self._released(one, source, found, rulings)
        for row in rejects:
            self.put_aside(one, row)
        # a zero is the source's last word, damage is not; what a person decided about is closed
        if any(row.reason_code != "ZERO_OPEN_INTEREST" and reject_id(one, row) not in self.decisions.by_id for row in rejects):
            for key in keys:
                self.answers[key][1] += 1
        for name, rows in found.tables.items():
            if rows.num_rows == 0:
                continue
            self.tables[name].append(loaded(name, rows, one))
            if name == target:
                final = pc.less_equal(rows.column("known_at"), pa.scalar(one.answer.fetched_at, rows.schema.field("known_at").type))
                self._cover(
                    series, rows.filter(final)
                )  # asked before the source is done with it, a value proves nothing: it is asked again
        if target in more:
            self._cover(series, more[target])

    def _released(self, one: Fetched, source: Source, found: Decoded, rulings: Rulings) -> tuple[Sequence[Reject], dict[str, pa.Table]]:
        """What is left to put aside when released parts are taken out, and the rows these parts are: in core already, or said again."""
        mine = self.decisions.released(one, found.rejects)
        if not mine:
            return found.rejects, {}
        more = let_in(source, one, found, replace(rulings, waived=waiver(decision for _, decision in mine)))
        if sum(rows.num_rows for rows in more.values()) != len(mine):  # today's decoder reads them otherwise: they are put aside as before
            return found.rejects, {}
        since = max(decision["recorded_at"] for _, decision in mine)
        if one.answer.fetched_at > since:
            for name, rows in more.items():
                self.tables[name].append(released(loaded(name, rows, one), one.answer.fetched_at))
        else:
            self.outcome.part(one.ask.series.source).rows_duplicate += len(mine)
        gone = {id(reject) for reject, _ in mine}
        return [reject for reject in found.rejects if id(reject) not in gone], more

    def put_back(self, name: str, rows: pa.Table) -> None:
        """Put typed rows aside again that a person rejected."""
        for row in rows.to_pylist():
            decision = self.decisions.by_id[row_id(TABLES[name], row)]
            known = ("source", "instrument", "target", "reason_code", "detail", "quarantine_id")
            text = json.dumps({key: plain(value) for key, value in row.items()}, ensure_ascii=False)
            own = {
                "endpoint": "",
                "row_json": text,
                "raw_sha256": row["raw_sha256"],
                "fetched_at": row["fetched_at"],
                "run_id": self.run_id,
            }
            self.quarantine.append({key: decision[key] for key in known} | own)
            part = self.outcome.part(row["source"])
            part.rows_quarantined += 1
            part.rows_duplicate -= 1  # it was counted as arrived and not fresh

    def _cover(self, series: Series, rows: pa.Table) -> None:
        stamps = rows.column("as_of").to_pylist()
        names = rows.column("instrument").to_pylist() if "instrument" in rows.column_names else [series.instrument] * len(stamps)
        several = "," in series.instrument
        for name, stamp in zip(names, stamps, strict=True):
            self.stamps[series.source, series.endpoint, name if several else series.instrument, series.window].add(stamp)

    def coverage(self) -> list[dict[str, Any]]:
        """One row per (source, endpoint, instrument, window) asked."""
        found = []
        for key, series in self.series.items():
            source, endpoint, instrument, window = key
            target = source_of(source).endpoints.get(endpoint, "")
            answers, failed = self.answers[key]
            found.append(
                ledger.coverage_row(source, endpoint, instrument, target, window, series, self.stamps[key], answers=answers, failed=failed)
            )
        return found


def loaded(name: str, rows: pa.Table, one: Fetched) -> pa.Table:
    """Decoded rows with the provenance of their answer."""
    sha = pa.array([one.answer.sha256] * rows.num_rows, type=pa.string())
    asked = pa.array([one.answer.fetched_at] * rows.num_rows, type=pa.timestamp("us", tz="UTC"))
    return complete(TABLES[name], rows, sha, asked)


def load(lake: Lake, bundles: Iterable[str], run_id: str, subject: str) -> ledger.Outcome:
    """Decode, merge, gate and commit the answers of some bundles. Safe to run again: what is stored already counts as duplicate."""
    with ledger.recorded(lake, "load", subject, run_id) as outcome:
        batch = _Batch(run_id, outcome=outcome, decisions=Decisions.read(lake))
        for key in bundles:
            for one in recorder.load(lake, key):
                batch.take(one)
        merged = {name: merge_in(lake, name, pieces, batch.decisions) for name, pieces in batch.tables.items()}
        said_again = {name: part.rows.filter(pa.array(part.fresh & is_released(part.rows))) for name, part in merged.items()}
        fresh = {name: part.rows.filter(pa.array(part.fresh & ~is_released(part.rows))) for name, part in merged.items()}
        fresh = {name: rows for name, rows in fresh.items() if rows.num_rows}
        verdicts = gate.gate(fresh)
        now = datetime.now(UTC)
        stored = {name: part.rows.filter(pa.array(~part.fresh)) for name, part in merged.items()}
        coverage = ledger.rows_table("coverage", [row | {"run_id": run_id} for row in batch.coverage()])
        arrived = {name: pa.concat_tables(pieces) for name, pieces in batch.tables.items()}
        judged = suspecting.judge(lake, {name: one.passed for name, one in verdicts.items()}, stored, run_id, now, arrived, coverage)
        batch.quarantine += judged.aside
        held = {}
        for name, part in merged.items():
            kept = stored[name]
            passed = judged.passed[name] if name in fresh else kept.slice(0, 0)
            again = said_again[name]
            _count(outcome, part.arrived, pa.concat_tables([fresh.get(name, passed), again]), pa.concat_tables([passed, again]))
            batch.put_back(name, part.closed)
            if name in fresh and verdicts[name].blocked:
                for source in pc.unique(fresh[name].column("source")).to_pylist():
                    outcome.part(source).partly(f"{name}: {verdicts[name].blocked}")
            held[name] = commit(lake, name, kept, pa.concat_tables([passed, again]))
        _record(lake, batch, gate.evidence(fresh, verdicts, run_id, now), run_id)
        if judged.findings is not None:
            lake.append("findings", judged.findings)
        note(lake, run_id, held)
        outcome.add_up()
        lost = [
            name for name, one in outcome.parts.items() if one.rows_decoded != one.rows_core + one.rows_quarantined + one.rows_duplicate
        ]
        if lost:
            raise AssertionError(f"rows lost: { ({name: outcome.parts[name].counts() for name in lost}) }")
    return outcome


def _by_source(rows: pa.Table) -> Counter[str]:
    return Counter({one["values"]: one["counts"] for one in pc.value_counts(rows.column("source")).to_pylist()})


def _count(outcome: ledger.Outcome, arrived: Counter[str], fresh: pa.Table, passed: pa.Table) -> None:
    """Arrived rows are fresh or duplicates; fresh rows pass the gate or are put aside."""
    new, kept = _by_source(fresh), _by_source(passed)
    for source, count in arrived.items():
        part = outcome.part(source)
        part.rows_duplicate += count - new[source]
        part.rows_quarantined += new[source] - kept[source]
        part.rows_core += kept[source]


@dataclass(frozen=True)
class Part:
    """A table's days after the merge: rows, which of them are new, how many arrived by source, and what is rejected for good."""

    rows: pa.Table
    fresh: np.ndarray
    arrived: Counter[str]
    closed: pa.Table


def merge_in(lake: Lake, name: str, pieces: Sequence[pa.Table], decisions: Decisions) -> Part:
    """Merge rows into the days of the table that they speak of; nothing is written."""
    arrived = pa.concat_tables(pieces)
    settled = decisions.settle(name, arrived)
    days = pc.min_max(arrived.column("date")).as_py()
    stored = lake.read(name, days=(days["min"], days["max"]))
    merged = merge(TABLES[name], stored, settled.rows)
    return Part(merged.rows, merged.fresh, _by_source(arrived), settled.closed)


def commit(lake: Lake, name: str, stored: pa.Table, passed: pa.Table) -> pa.Table:
    """Replace the days that `passed` touches by their old rows and the new ones; returns all rows the table now holds of the merged days."""
    rows = pa.concat_tables([stored, passed])
    if passed.num_rows:
        days = pc.min_max(passed.column("date")).as_py()
        touched = pc.and_(pc.greater_equal(rows.column("date"), days["min"]), pc.less_equal(rows.column("date"), days["max"]))
        lake.replace(name, rows.filter(touched), (days["min"], days["max"]))
    return rows


def note(lake: Lake, run_id: str, held: Mapping[str, pa.Table]) -> None:
    """Tell the ledger what the merged days hold, where it does not know yet: also after a crash between the commit and this line."""
    known = ledger.partitions(lake)
    entries = []
    for name, rows in held.items():
        for (source, day), (count, sha) in ledger.hash_days(TABLES[name], rows, "source").items():
            if known.get((name, source, day), ("", ""))[0] != sha:
                entries.append((name, source, day, count, sha, ""))
    ledger.note_partitions(lake, run_id, entries)


def _record(lake: Lake, batch: _Batch, gated: Mapping[str, pa.Table], run_id: str) -> None:
    """Write the evidence: quarantine (each reject of an answer once, however often it is loaded), coverage and verdicts."""
    aside = [*batch.quarantine, *gated["quarantine"].to_pylist()]
    if aside:
        # two contracts may be answered by the same bytes (an error page), and a page may hold a bad row twice: both are kept
        identity = ("raw_sha256", "fetched_at", "source", "endpoint", "instrument", "target", "reason_code", "row_json")
        stored = lake.read("quarantine", columns=identity, where={"raw_sha256": sorted({row["raw_sha256"] for row in aside})})
        seen = Counter(tuple(row[name] for name in identity) for row in stored.to_pylist())
        new = []
        for row in aside:
            key = tuple(row[name] for name in identity)
            if seen[key] > 0:
                seen[key] -= 1
            else:
                new.append(row)
        lake.append("quarantine", ledger.rows_table("quarantine", new))
    lake.append("coverage", ledger.rows_table("coverage", [row | {"run_id": run_id} for row in batch.coverage()]))
    lake.append("verdicts", gated["verdicts"])

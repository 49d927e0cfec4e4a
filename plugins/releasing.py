"""From quarantine back into core: the rows behind entries, restored or decoded again, judged, merged and committed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa

from plugins import gate, recorder
from plugins.decisions import Decisions, let_in, reject_id, waiver
from plugins.errors import DecisionRefused
from plugins.fetcher import Fetched
from plugins.lake import Lake
from plugins.loading import commit, loaded, merge_in, note
from transforms.roster import source as source_of
from transforms.rulings import Rulings, is_released, released, row_id, ruled, typed
from transforms.schema import arrow_schema
from transforms.sources.contract import Unreadable
from transforms.tables import TABLES, Table

#: Checks a person may overrule: a limit, or a law between columns of one row. The others say that there is no row to speak of.
OVERRULED: Final = frozenset({"within", "not_above", "sums_to_one", "ratio_within"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing put aside, however often it came: its newest row of `ops.quarantine`."""

    quarantine_id: str
    source: str
    endpoint: str
    instrument: str
    target: str
    reason_code: str
    detail: str
    row_json: str
    raw_sha256: str
    fetched_at: datetime
    recorded_at: datetime

    @property
    def typed(self) -> bool:
        """Whether the gate put it aside, as a row of its table; otherwise a decoder did, as a part of an answer."""
        return not self.endpoint

    @property
    def at(self) -> datetime:
        """The instant it speaks of where it is a typed row, else when we asked."""
        said = json.loads(self.row_json).get("as_of") if self.typed else None
        return datetime.fromisoformat(said).astimezone(UTC) if said else self.fetched_at

    def __str__(self) -> str:
        who = " ".join(part for part in (self.source, self.endpoint, self.instrument) if part)
        return f"{self.quarantine_id[:12]} ({who}, for {self.target or 'no table'}: {self.reason_code})"


def bundles_of(lake: Lake, shas: Sequence[str]) -> dict[tuple[str, datetime], str]:
    """The object that holds an answer, by the answer's SHA-256 and when it was fetched: the same bytes may have come often."""
    stored = lake.read("raw_answers", columns=("raw_sha256", "fetched_at", "bundle"), where={"raw_sha256": sorted(set(shas))})
    return {(row["raw_sha256"], row["fetched_at"]): row["bundle"] for row in stored.to_pylist()}


def release(
    lake: Lake, mine: Sequence[Entry], known: Decisions, now: datetime, run_id: str, *, named: bool
) -> tuple[dict[str, int], dict[str, list[date]]]:
    """Put the rows of the entries into core; returns how many, and the days they lie in, by table. named: a person gave the id itself.

    Raises DecisionRefused with everything that stands against it; then nothing was changed.
    """
    rows, faults = _rows(lake, mine, known)
    parts, fresh = {}, {}
    for name, found in rows.items():
        table = pa.concat_tables([one for _, one in found])
        parts[name] = merge_in(lake, name, [released(table, now)], Decisions())
        fresh[name] = parts[name].rows.filter(pa.array(parts[name].fresh))
        faults += _standing(TABLES[name], found, parts[name].rows, fresh[name], now) + _rivals(TABLES[name], found)
        faults += [] if named else _answered_since(TABLES[name], found, parts[name].rows.filter(pa.array(~parts[name].fresh)))
    for name, verdict in gate.gate({name: some for name, some in fresh.items() if some.num_rows}).items():
        faults += _against(name, fresh[name], verdict.rejected, rows[name])
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DecisionRefused(f"Nothing was released, for {len(faults)} of {len(mine)} cannot be: {'; '.join(faults[:5])}{more}.")
    held = {}
    for name, part in parts.items():
        held[name] = commit(lake, name, part.rows.filter(pa.array(~part.fresh)), fresh[name])
    note(lake, run_id, held)
    return {name: rows.num_rows for name, rows in fresh.items()}, {
        name: sorted(set(rows.column("date").to_pylist())) for name, rows in fresh.items()
    }


Rows = dict[str, list[tuple[Entry, pa.Table]]]


def _rows(lake: Lake, mine: Sequence[Entry], known: Decisions) -> tuple[Rows, list[str]]:
    """The core rows behind entries, by table; and for each entry that gives none, why."""
    rows: Rows = defaultdict(list)
    faults = []
    answers = _answers(lake, [entry for entry in mine if not entry.typed])
    for entry in mine:
        if entry.target not in TABLES or TABLES[entry.target].layer != "core":
            faults.append(f"{entry}: only rows of core tables are released; mend its cause and run the step again, or reject it")
            continue
        try:
            found = {entry.target: _restored(entry)} if entry.typed else _decoded(entry, answers, known)
            for name, table in found.items():
                rows[name].append((entry, table))
        except DecisionRefused as error:
            faults.append(str(error))
    return rows, faults


def _restored(entry: Entry) -> pa.Table:
    """The typed row as the gate saw it."""
    table = TABLES[entry.target]
    said = json.loads(entry.row_json)
    schema = arrow_schema(table)
    lacking = [one.name for one in schema if one.name not in said or (said[one.name] is None and not one.nullable)]
    if lacking:
        raise DecisionRefused(f"{entry}: it has no {', '.join(lacking)}; ask the source again, or reject it")
    row = {one.name: typed(said[one.name], one.type) for one in schema}
    return pa.Table.from_pylist([row | {"revision": 0}], schema=schema)


def _answers(lake: Lake, parts: Sequence[Entry]) -> dict[str, list[Fetched]]:
    """The stored answers that entries are parts of, by SHA-256; each bundle is opened once."""
    wanted = {(entry.raw_sha256, entry.fetched_at) for entry in parts}
    found: dict[str, list[Fetched]] = defaultdict(list)
    held = bundles_of(lake, [sha for sha, _ in wanted]) if wanted else {}
    for bundle in sorted({bundle for key, bundle in held.items() if key in wanted}):
        for one in recorder.load(lake, bundle):
            if (one.answer.sha256, one.answer.fetched_at) in wanted:
                found[one.answer.sha256].append(one)
    return found


def _decoded(entry: Entry, answers: Mapping[str, Sequence[Fetched]], known: Decisions) -> dict[str, pa.Table]:
    """The rows that the answer gives when the entry's reason is passed over, and does not give otherwise."""
    source, mine = source_of(entry.source), (entry.source, entry.endpoint, entry.instrument)
    asked = [one for one in answers.get(entry.raw_sha256, ()) if _who(one) == mine and one.answer.fetched_at == entry.fetched_at]
    if not asked:
        raise DecisionRefused(f"{entry}: its answer {entry.raw_sha256[:12]} is not among the stored ones")
    one = asked[0]
    whole = f"{entry}: the whole answer is put aside ({entry.detail[:200]}), there is no row in it to release; ask again, or reject it"
    if one.disposition.verb != "accept":
        raise DecisionRefused(whole)
    rulings = known.rulings(one.ask.series, one.answer.sha256)
    try:
        with ruled(rulings):
            plainly = source.decode(one.ask, one.answer)
    except Unreadable:
        raise DecisionRefused(whole) from None
    waived = waiver([{"target": entry.target, "reason_code": entry.reason_code, "row_json": entry.row_json}])
    found = let_in(source, one, plainly, Rulings(waived, rulings.barred))
    if not found:
        now = next((reject for reject in plainly.rejects if reject_id(one, reject) == entry.quarantine_id), None)
        says = (
            f"the decoder cannot read it ({now.detail[:200]}); mend the decoder or declare the convention"
            if now
            else "today's decoder reads it"
        )
        raise DecisionRefused(f"{entry}: {says}, then replay {entry.source} for {entry.fetched_at:%Y-%m-%d} (Dag `replay`)")
    return {name: loaded(name, rows, one) for name, rows in found.items()}


def _who(one: Fetched) -> tuple[str, str, str]:
    series = one.ask.series
    return series.source, series.endpoint, series.instrument


def _ids(table: Table, rows: pa.Table) -> list[str]:
    return [row_id(table, row) for row in rows.to_pylist()]


def _standing(table: Table, found: Sequence[tuple[Entry, pa.Table]], merged: pa.Table, fresh: pa.Table, now: datetime) -> list[str]:
    """What the state of core has against a release: the row may not be used yet, or is there already (by another way than a release)."""
    new = set(_ids(table, fresh))
    let = set(_ids(table, merged.filter(pa.array(is_released(merged)))))  # by a run that was killed before it noted its decision
    faults = []
    for entry, rows in found:
        due = max(rows.column("known_at").to_pylist())
        if due > now:
            faults.append(
                f"{entry}: it may be used from {due:%Y-%m-%d %H:%M} UTC on, until then the source may still say better; release it after"
            )
        elif not set(_ids(table, rows)) <= new | let:
            faults.append(f"{entry}: {table.identifier} holds this value already, there is nothing to release; reject it to close it")
    return faults


Key = tuple[Any, ...]


def _keys(table: Table, rows: pa.Table) -> list[Key]:
    return [tuple(row.values()) for row in rows.select(list(table.key)).to_pylist()]


def _rivals(table: Table, found: Sequence[tuple[Entry, pa.Table]]) -> list[str]:
    """Entries that claim a key another one claims too: released at one moment, neither would stand before the other."""
    claimed: dict[Key, Entry] = {}
    faults = []
    for entry, rows in found:
        rival = next((claimed[key] for key in _keys(table, rows) if claimed.setdefault(key, entry) is not entry), None)
        if rival is not None:
            faults.append(f"{entry}: it claims the same key as {rival}; release the right one by its id and reject the other")
    return faults


def _answered_since(table: Table, found: Sequence[tuple[Entry, pa.Table]], stored: pa.Table) -> list[str]:
    """Entries whose source gave core another word in a later answer: a filter does not overrule that."""
    newest: dict[Key, datetime] = {}
    for key, asked in zip(_keys(table, stored), stored.column("fetched_at").to_pylist(), strict=True):
        newest[key] = max(newest.get(key, asked), asked)
    return [
        f"{entry}: the source has said otherwise since, asked {later:%Y-%m-%d %H:%M} UTC; release it by its id if it is right, or reject it"
        for entry, rows in found
        if (later := max((newest[key] for key in _keys(table, rows) if key in newest), default=entry.fetched_at)) > entry.fetched_at
    ]


def _against(name: str, fresh: pa.Table, rejected: Sequence[Any], found: Sequence[tuple[Entry, pa.Table]]) -> list[str]:
    """What the gate has against the rows beyond what they were put aside for."""
    from expectations.suites import checks

    table = TABLES[name]
    kinds = {check.code: check for check in checks(table)}
    whose = {one: entry for entry, rows in found for one in _ids(table, rows)}
    names = _ids(table, fresh)
    faults = []
    for reject in rejected:
        entry = whose[names[reject.row]]
        codes = [] if reject.reason_code == "BLOCKED" else gate.codes(reject.detail)
        before = gate.codes(entry.detail) if entry.typed else [code for code in codes if kinds[code].reason_code == entry.reason_code]
        never = [code for code in codes if kinds[code].kind not in OVERRULED]
        other = [code for code in codes if code not in before]
        if never:
            faults.append(
                f"{entry}: {', '.join(never)} cannot be overruled ({kinds[never[0]].meaning}); mend the cause and replay, or reject it"
            )
        elif other:
            faults.append(f"{entry}: it also fails {', '.join(other)}, which it was not put aside for; look at {name} again, or reject it")
    return faults

"""The second half of a number's way: from core tables to features, contributions and the index, for every day whose inputs changed.

What a day of the index was made from is one hash: the content hashes of all core partitions its look-back reaches, the specification and the
code. A day is derived when that hash is not the stored one; so a late or restated row re-derives exactly what it can touch, a new
specification re-derives everything, and a second run finds nothing to do.
"""

from __future__ import annotations

import hashlib
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from plugins import gate, ledger
from plugins.errors import GateClosed
from plugins.kernels import code_sha
from plugins.lake import Lake
from plugins.settings import Settings
from transforms.index.build import OUTPUT, Checkpoint, Stamp, derive, lookback, reach, reads, stored, voices
from transforms.index.segments import month_start
from transforms.schema import content_sha256
from transforms.spec import SPEC, Spec
from transforms.tables import TABLES
from transforms.windows import CADENCES, DAY, Window, floor, partition_day

log = logging.getLogger(__name__)
Partitions = Mapping[tuple[str, str, date], tuple[str, str]]


def sources_of(spec: Spec, cadence: str) -> tuple[str, ...]:
    """The sources a cadence reads."""
    return voices(spec.cadence(cadence))


def asked_until(lake: Lake, source: str, now: datetime) -> datetime | None:
    """How far a source was asked, whatever came back: the index is derived up to here, with stale inputs where nothing came."""
    measured = [name for name, table in TABLES.items() if table.layer == "core" and not table.snapshot]
    return ledger.latest(lake, "coverage", "window_end", now, {"source": source, "target": measured})


def domain(known: Partitions, spec: Spec, cadence: str, until: datetime | None) -> Window | None:
    """From the first day the cadence's leading source spoke to the last bar it was asked for; None before it ever spoke."""
    days = [day for (table, subject, day) in known if subject == spec.cadence(cadence).sources[0] and table in reads(spec, cadence)]
    if not days or until is None:
        return None
    start, end = Window.day(min(days)).start, floor(until, CADENCES[cadence])
    return Window(start, end) if start < end else None


def inputs_hashes(known: Partitions, spec: Spec, cadence: str, span: Window) -> dict[date, str]:
    """What each day is made from: every core partition within the look-back, how much of the day was asked for, specification and code, and
    the day before, since the index remembers: a changed day changes every later one.
    """
    wanted, sources = reads(spec, cadence), sources_of(spec, cadence)
    parts = sorted(
        (day, table, subject, sha) for (table, subject, day), (sha, _) in known.items() if table in wanted and subject in sources
    )
    at = [part[0] for part in parts]
    lines = [f"{day}/{table}/{subject}/{sha}\n".encode() for day, table, subject, sha in parts]
    head = f"{spec.sha256}/{code_sha()}/{cadence}\n".encode()
    back = lookback(spec, cadence)
    found: dict[date, str] = {}
    before = b""
    for day in span.days():
        low, high = bisect_left(at, day - back - DAY), bisect_right(at, day)  # a date minus hours is no earlier date
        end = f"{min(Window.day(day).end, span.end).isoformat()}\n".encode()
        found[day] = hashlib.sha256(head + end + b"".join(lines[low:high]) + before).hexdigest()
        before = found[day].encode()
    return found


def stale(known: Partitions, spec: Spec, cadence: str, span: Window) -> dict[date, str]:
    """Days to derive, with the hash of their inputs."""
    hashes = inputs_hashes(known, spec, cadence, span)
    return {day: sha for day, sha in hashes.items() if known.get(("readings", cadence, day), ("", ""))[1] != sha}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one cadence has to derive: a window of whole days up to its last bar, the input hash of every stale day in it, and the checkpoint
    to continue from (None: from the first day of the index).
    """

    cadence: str
    window: Window
    inputs: Mapping[date, str]
    before: Checkpoint | None

    @property
    def first_needed(self) -> date:
        """First day whose bars are computed."""
        return (self.before.as_of if self.before else self.window.start).date()


def plans(lake: Lake, spec: Spec) -> list[Plan]:
    """The open work, by cadence: from the first stale day to the last."""
    known = ledger.partitions(lake)
    found = []
    for cadence in CADENCES:
        span = domain(known, spec, cadence, asked_until(lake, spec.cadence(cadence).sources[0], lake.settings.clock()))
        open_days = stale(known, spec, cadence, span) if span else {}
        if span and open_days:
            window = Window(Window.day(min(open_days)).start, min(Window.day(max(open_days)).end, span.end))
            before = checkpoint(lake, cadence, window.start) if month_start(window.start) > span.start else None
            if before is None:  # no state to continue from: from the first day of the index on
                window = Window(span.start, window.end)
            found.append(Plan(cadence, window, open_days, before))
            log.info("%s: %d days to derive, %s", cadence, len(open_days), window)
    return found


def checkpoint(lake: Lake, cadence: str, start: datetime) -> Checkpoint | None:
    """State of the index at the start of the month `start` lies in, as the last derivation of the day before left it."""
    as_of = month_start(start)
    day = partition_day(as_of)
    rows = lake.read("checkpoints", days=(day, day), where={"cadence": cadence})
    return stored(rows.filter(pc.equal(rows.column("as_of"), pa.scalar(as_of, rows.schema.field("as_of").type))))


def bring_up_to_date(lake: Lake, settings: Settings, run_id: str, subject: str, spec: Spec = SPEC) -> ledger.Outcome:
    """Derive every stale day of every cadence: one read, one gate and one commit per table for all of them.

    Raises GateClosed when a derived partition fails a critical expectation; then nothing of it is published.
    """
    with ledger.recorded(lake, "derive", subject, run_id) as outcome:
        todo = plans(lake, spec)
        if not todo:
            return outcome
        core = _core(lake, spec, todo)
        stamp = Stamp(market=settings.market, vintage="reconstructed", code_sha=code_sha())
        made = [
            derive(_of(core, sources_of(spec, plan.cadence)), plan.window, plan.cadence, spec, stamp=stamp, before=plan.before)
            for plan in todo
        ]
        tables = {name: pa.concat_tables([one[name] for one in made]) for name in OUTPUT}
        verdicts = gate.gate(tables)
        for name, rows in gate.evidence(tables, verdicts, run_id, datetime.now(UTC)).items():
            lake.append(name, rows)
        blocked = {name: verdict.blocked or verdict.rejected[0].detail for name, verdict in verdicts.items() if verdict.rejected}
        if blocked:
            raise GateClosed(f"not published, the index keeps its last good values: {blocked}")
        first = min(plan.window.days()[0] for plan in todo)
        last = max(plan.window.days()[-1] for plan in todo)
        known = ledger.partitions(lake)
        others = _others(known, todo, first, last)
        holds = {name for name, _, day in known if first <= day <= last}
        entries = []
        for name in OUTPUT:
            fresh = verdicts[name].passed
            kept = _outside(lake.read(name, days=(first, last)), todo) if others else fresh.slice(0, 0)
            if fresh.num_rows or kept.num_rows or name in holds:  # a table that is and stays empty is not committed
                lake.replace(name, pa.concat_tables([kept, fresh]), (first, last))
            hashed = ledger.hash_days(TABLES[name], fresh, "cadence")
            inputs = {(plan.cadence, day): sha for plan in todo for day, sha in plan.inputs.items()}
            nothing = (0, content_sha256(TABLES[name], fresh.slice(0, 0)))  # a day that derives to no row is done, too
            entries += [(name, *key, *hashed.get(key, nothing), sha) for key, sha in inputs.items()]
            outcome.rows_published += fresh.num_rows
        ledger.note_partitions(lake, run_id, entries)
    return outcome


def _core(lake: Lake, spec: Spec, todo: Sequence[Plan]) -> dict[str, pa.Table]:
    """The core rows all plans need, each table read once: without provenance, which no number may depend on."""
    since: dict[str, date] = {}
    for plan in todo:
        for name, back in reach(spec, plan.cadence).items():
            first = plan.first_needed - back - DAY
            since[name] = min(first, since.get(name, first))
    until = max(plan.window.days()[-1] for plan in todo)
    sources = sorted({source for plan in todo for source in sources_of(spec, plan.cadence)})
    return {
        name: lake.read(name, days=(first, until), where={"source": sources}, columns=TABLES[name].content)
        for name, first in sorted(since.items())
    }


def _of(core: Mapping[str, pa.Table], sources: Sequence[str]) -> dict[str, pa.Table]:
    wanted = pa.array(sources)
    return {name: rows.filter(pc.is_in(rows.column("source"), wanted)) for name, rows in core.items()}


def _others(known: Partitions, todo: Sequence[Plan], first: date, last: date) -> bool:
    """Whether the days hold, or may hold, rows that no plan replaces: another cadence's, or of days outside a plan's window."""
    replaced = {(plan.cadence, day) for plan in todo for day in plan.window.days()}
    return any(name in OUTPUT and first <= day <= last and (cadence, day) not in replaced for name, cadence, day in known)


def _outside(rows: pa.Table, todo: Sequence[Plan]) -> pa.Table:
    """Stored rows that no plan replaces: another cadence's, or days before and after a plan's window."""
    for plan in todo:
        days = plan.window.days()
        replaced = pc.and_(
            pc.equal(rows.column("cadence"), plan.cadence),
            pc.and_(pc.greater_equal(rows.column("date"), days[0]), pc.less_equal(rows.column("date"), days[-1])),
        )
        rows = rows.filter(pc.invert(replaced))
    return rows

"""Quarantine as a person uses it: what is open and why, and releasing it into core or rejecting it for good.

A released row becomes a new revision of its core table, known from the moment of its release on: no bar before that moment may use it. The days
it lies in get new content hashes, so derivation follows by itself. The decision is a row of `ops.decisions`; loading obeys it from then on
(plugins/decisions.py).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from plugins import ledger
from plugins.decisions import Decisions
from plugins.errors import DecisionRefused, NotFound
from plugins.lake import Lake
from plugins.releasing import Entry, bundles_of, release
from transforms.rulings import part_id, row_id
from transforms.tables import TABLES
from transforms.vocabulary import DECISIONS
from transforms.windows import partition_day

#: An id may be shortened to this many characters.
SHORTEST: Final = 8
#: Who put a row aside that has no endpoint: not the exchange of that name.
OURS: Final = "(our gate)"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to decide on: one id (or its first 8 characters or more), or all open entries that fit every filter given.

    `first` and `last` are days, of the instant a row speaks of; of the time of asking where the row could not be typed.
    """

    quarantine_id: str = ""
    source: str = ""
    table: str = ""
    instrument: str = ""
    reason_code: str = ""
    first: date | None = None
    last: date | None = None

    @property
    def filters(self) -> dict[str, object]:
        """The filters given, by name."""
        named = {"source": self.source, "table": self.table, "instrument": self.instrument, "reason_code": self.reason_code}
        return {name: value for name, value in {**named, "first": self.first, "last": self.last}.items() if value}

    def fits(self, entry: Entry) -> bool:
        """Whether an entry passes the filters."""
        pairs = (
            (self.source, entry.source),
            (self.table, entry.target),
            (self.instrument, entry.instrument),
            (self.reason_code, entry.reason_code),
        )
        day = partition_day(entry.at)
        within = (self.first is None or day >= self.first) and (self.last is None or day <= self.last)
        return within and all(not wanted or wanted == found for wanted, found in pairs)


@dataclass
class Decided:
    """What a decision did."""

    entries: list[Entry] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    days: dict[str, list[date]] = field(default_factory=dict)

    def __str__(self) -> str:
        put = "; ".join(f"{count} in {name}, days {', '.join(map(str, self.days[name]))}" for name, count in self.rows.items())
        return f"{len(self.entries)} decided" + (f"; rows put into core: {put}" if put else "")


def entries(lake: Lake) -> dict[str, Entry]:
    """Everything ever put aside, by id; the newest row of each."""
    names = tuple(Entry.__dataclass_fields__)
    found: dict[str, Entry] = {}
    for row in sorted(lake.read("quarantine", columns=names).to_pylist(), key=lambda row: row["recorded_at"]):
        row["quarantine_id"] = row["quarantine_id"] or _named(row)
        found[row["quarantine_id"]] = Entry(**row)
    return found


def _named(row: Mapping[str, Any]) -> str:
    """The id of a row that was put aside before ids were stored."""
    if not row["endpoint"]:
        return row_id(TABLES[row["target"]], json.loads(row["row_json"]))
    bound = row["target"] not in TABLES or TABLES[row["target"]].snapshot
    return part_id(
        *(row[name] for name in ("source", "endpoint", "instrument", "target", "reason_code", "row_json")), row["raw_sha256"] * bound
    )


def still_open(lake: Lake, choice: Choice = Choice()) -> list[Entry]:
    """What nobody has decided about, newest first."""
    decided = Decisions.read(lake).by_id
    found = [entry for name, entry in entries(lake).items() if name not in decided and choice.fits(entry)]
    return sorted(found, key=lambda entry: entry.recorded_at, reverse=True)


# -- deciding


def decide(lake: Lake, choice: Choice, decision: str, why: str, who: str, run_id: str) -> Decided:
    """Release or reject. All of it or nothing: an entry that cannot be released is named, and nothing is changed.

    Raises NotFound where nothing fits, DecisionRefused where something stands against it. A run that was killed half-way may run again.
    """
    why, who, now = why.strip(), who.strip(), datetime.now(UTC)
    if decision not in DECISIONS:
        raise DecisionRefused(f"The decision is {decision!r}: it must be one of {', '.join(DECISIONS)}.")
    if not why or not who:
        raise DecisionRefused(f"A decision needs {'a reason' if not why else 'a name'}: it is kept with the rows for whoever asks later.")
    with ledger.recorded(lake, "decide", decision, run_id) as outcome:
        known = Decisions.read(lake)
        chosen = _chosen(lake, choice, known, run_id)
        mine = [entry for entry in chosen if entry.quarantine_id not in known.by_id]
        done = Decided(mine)
        if decision == "release" and mine:
            done.rows, done.days = release(lake, mine, known, now, run_id, named=bool(choice.quarantine_id))
        outcome.rows_decoded = outcome.rows_core = sum(done.rows.values())
        outcome.remark([f"{who}: {why}", str(done)])
        said = {"decision": decision, "decision_reason": why, "decided_by": who, "run_id": run_id, "recorded_at": now, "date": now.date()}
        kept = [name for name in TABLES["decisions"].columns if name not in said]
        lake.append("decisions", ledger.rows_table("decisions", [{name: getattr(one, name) for name in kept} | said for one in mine]))
    return done


def _chosen(lake: Lake, choice: Choice, known: Decisions, run_id: str) -> list[Entry]:
    """The entries to decide on. What is decided already is refused, except by this very run: then it is being tried again."""
    there = entries(lake)
    if bool(choice.quarantine_id) == bool(choice.filters):
        raise DecisionRefused(
            "Say either an id or filters (source, table, instrument, reason_code, first, last): `make quarantine` lists what is open."
        )
    if not choice.quarantine_id:
        found = [one for name, one in there.items() if choice.fits(one) and _undecided(known, name, run_id)]
        if not found:
            said = ", ".join(f"{name}={value}" for name, value in choice.filters.items())
            raise NotFound(
                f"Nothing open in quarantine fits {said} ({len(there)} entries looked at): `make quarantine` lists what is open."
            )
        return found
    wanted = choice.quarantine_id.lower()
    found = [one for name, one in there.items() if name.startswith(wanted)] if len(wanted) >= SHORTEST else []
    if len(found) != 1:
        what = (
            f"{len(found)} entries begin so"
            if found
            else "no entry has it"
            if len(wanted) >= SHORTEST
            else f"give at least {SHORTEST} characters"
        )
        raise NotFound(f"Quarantine id {choice.quarantine_id!r}: {what}. `make quarantine` lists what is open.")
    if not _undecided(known, found[0].quarantine_id, run_id):
        before = known.by_id[found[0].quarantine_id]
        next_step = (
            "it is in core; a wrong value is mended by asking the source again, which adds a revision"
            if before["decision"] == "release"
            else "a rejection is for good; if the source says it again with other bytes or values, that is decided anew"
        )
        raise DecisionRefused(
            f"{found[0]}: {before['decision']} was decided on {before['recorded_at']:%Y-%m-%d %H:%M} UTC by {before['decided_by']} "
            f"({before['decision_reason']}); {next_step}."
        )
    return found


def _undecided(known: Decisions, name: str, run_id: str) -> bool:
    return name not in known.by_id or known.by_id[name]["run_id"] == run_id


def listing(lake: Lake, choice: Choice, limit: int) -> str:
    """What is open, as text: counts by reason, then the newest entries with why, row and the object that holds the raw answer."""
    found = still_open(lake, choice)
    if not found:
        return "Nothing is open in quarantine" + (" that fits." if choice.filters else ".")
    groups: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for entry in found:
        groups[entry.source, entry.endpoint or OURS, entry.target, entry.reason_code] += 1
    lines = [f"{len(found):,} open in quarantine", ""]
    lines += [f"{count:7,}  {' '.join(group)}" for group, count in sorted(groups.items(), key=lambda item: -item[1])]
    shown = found[:limit]
    bundles = bundles_of(lake, [entry.raw_sha256 for entry in shown])
    for entry in shown:
        bundle = bundles.get((entry.raw_sha256, entry.fetched_at), "no stored answer")
        lines += [
            "",
            f"{entry.quarantine_id[:16]}  {entry.reason_code}  {entry.source} {entry.endpoint or OURS} {entry.instrument} -> {entry.target}",
            f"  why   {entry.detail[:300]}",
            f"  row   {entry.row_json[:300]}",
            f"  raw   {entry.raw_sha256}  in {bundle}",
        ]
    if len(found) > limit:
        lines += ["", f"{len(found) - limit:,} more: narrow it with SOURCE=, TABLE=, REASON=, or raise LIMIT="]
    return "\n".join([*lines, "", 'Decide with `make release ID=... WHY="..."` or `make reject ID=... WHY="..."`.'])

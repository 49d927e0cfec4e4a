"""What people decided about quarantined rows, as the load step obeys it: a decision is remembered whenever the same row comes again.

A released row that comes again in an answer asked for before its release is a duplicate of the one in core; in a later answer it is what the
source says now, and goes the way of every row, only that the gate does not judge it again. A rejected row is put aside again, also where
today's decoder or gate would take it. Neither leaves its window open: what a person has decided about is no reason to ask again.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plugins.fetcher import Fetched
from plugins.lake import Lake
from transforms.rulings import Rulings, part_id, plain, released, row_id, ruled
from transforms.schema import empty
from transforms.sources.contract import Decoded, Reject, Series, Source
from transforms.tables import TABLES

#: How much of a rejected part is kept as evidence.
TEXT: Final = 8000


def reject_id(one: Fetched, reject: Reject, *, whole: bool = False) -> str:
    """Id of what a decoder put aside; `whole`: nothing could be taken from the answer, so it is the answer of its window that is put aside."""
    series, table = one.ask.series, TABLES.get(reject.target)
    bytes_of = f"{one.answer.sha256} {series.window}" if whole else one.answer.sha256 if table is None or table.snapshot else ""
    return part_id(series.source, series.endpoint, series.instrument, reject.target, reject.reason_code, reject.row[:TEXT], bytes_of)


def waiver(rows: Iterable[Mapping[str, Any]]) -> frozenset[tuple[str, str, str]]:
    """What a decoder passes over for released parts (mappings with target, reason_code and row_json)."""
    return frozenset((row["target"], row["reason_code"], row["row_json"]) for row in rows)


def let_in(source: Source, one: Fetched, plainly: Decoded, rulings: Rulings) -> dict[str, pa.Table]:
    """The rows, by table, that the answer gives under `rulings` beyond those of `plainly`. Small: a waiver names single parts."""
    with ruled(rulings):
        more = source.decode(one.ask, one.answer).tables
    found = {}
    for name, rows in more.items():
        had = plainly.tables.get(name, rows.slice(0, 0))
        if rows.num_rows > had.num_rows:
            known = Counter(map(_said, had.to_pylist()))
            new = []
            for number, row in enumerate(map(_said, rows.to_pylist())):
                new += [number] if known[row] == 0 else []
                known[row] -= 1
            found[name] = rows.take(pa.array(new, type=pa.int64()))
    return found


def _said(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(map(plain, row.values()))


@dataclass(frozen=True, slots=True)
class Settled:
    """Arrived rows that go on to the merge, those that are rejected for good, and how many are in core by their release (the rest)."""

    rows: pa.Table
    closed: pa.Table


class Decisions:
    """The decisions in force, by id: rows of `ops.decisions`."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.by_id: dict[str, Mapping[str, Any]] = {row["quarantine_id"]: row for row in sorted(rows, key=lambda row: row["recorded_at"])}
        self._parts: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
        self._rows: dict[str, set[datetime]] = defaultdict(set)
        for row in self.by_id.values():
            if row["endpoint"]:
                self._parts[row["source"], row["endpoint"], row["instrument"]].append(row)
            elif row["target"] in TABLES and (stamp := _as_of(row["row_json"])):
                self._rows[row["target"]].add(stamp)

    @classmethod
    def read(cls, lake: Lake) -> Self:
        """Those of a lake."""
        return cls(lake.read("decisions").to_pylist())

    def rulings(self, series: Series, sha256: str) -> Rulings:
        """What is rejected of the answers about a series."""
        mine = [
            row
            for row in self._parts.get((series.source, series.endpoint, series.instrument), ())
            if row["decision"] == "reject" and (row["raw_sha256"] == sha256 or not _bound(row["target"]))
        ]
        return Rulings(barred={(row["target"], row["row_json"]): (row["reason_code"], row["detail"]) for row in mine})

    def released(self, one: Fetched, rejects: Sequence[Reject]) -> list[tuple[Reject, Mapping[str, Any]]]:
        """Rejects of an answer that were released, each with its decision."""
        found = [(reject, self.by_id.get(reject_id(one, reject))) for reject in rejects] if self._parts else []
        return [(reject, decision) for reject, decision in found if decision is not None and decision["decision"] == "release"]

    def settle(self, name: str, arrived: pa.Table) -> Settled:
        """Sort typed rows that arrive for a table by what was decided about them."""
        nothing = empty(TABLES[name])
        stamps = self._rows.get(name)
        if not stamps:
            return Settled(arrived, nothing)
        kind = arrived.schema.field("as_of").type
        doubted = np.flatnonzero(pc.is_in(arrived.column("as_of"), pa.array(sorted(stamps), type=kind)).to_numpy(zero_copy_only=False))
        keep, closed, again = np.ones(arrived.num_rows, dtype=bool), [], []
        for number, row in zip(doubted.tolist(), arrived.take(pa.array(doubted)).to_pylist(), strict=True):
            decision = self.by_id.get(row_id(TABLES[name], row))
            if decision is None:
                continue
            keep[number] = False
            if decision["decision"] == "reject":
                closed.append(number)
            elif row["fetched_at"] > decision["recorded_at"]:
                again.append(released(arrived.slice(number, 1), row["fetched_at"]))
        return Settled(pa.concat_tables([arrived.filter(pa.array(keep)), *again]), arrived.take(pa.array(closed, type=pa.int64())))


def _bound(target: str) -> bool:
    return target not in TABLES or TABLES[target].snapshot


def _as_of(row_json: str) -> datetime | None:
    said = json.loads(row_json).get("as_of")
    return datetime.fromisoformat(said).astimezone(UTC) if said else None

"""The detectors between the gate and the commit: what passes the gate row by row may still come from a broken source.

Suspect rows are put aside under SUSPECT, the detector's own code first in the detail, or carry the code as a flag; both are findings in
`ops.findings`. Judged are the rows that arrive, beside what the lake holds before them, in core and under SUSPECT: a defect that lasts is
judged against what was sound before it, not against a gap. A row is judged once, with what was known when it came. What is in core stays
there; a finding about it is written all the same, for a person to decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plugins import detecting
from plugins.lake import Lake
from transforms.detectors import DETECTORS, Detector, InventedHistory
from transforms.rulings import plain, row_id, typed
from transforms.schema import arrow_schema, empty
from transforms.tables import TABLES
from transforms.windows import Window

CODE: Final = "SUSPECT"
_SEEN: Final = frozenset(name for one in DETECTORS for name in one.reads if name in TABLES)


@dataclass(frozen=True)
class Judged:
    """`passed`: by table, what may be committed, flags added. `aside`: rows of ops.quarantine. `findings`: rows of ops.findings."""

    passed: dict[str, pa.Table]
    aside: list[dict[str, Any]] = field(default_factory=list)
    findings: pa.Table | None = None


def judge(
    lake: Lake,
    passed: Mapping[str, pa.Table],
    kept: Mapping[str, pa.Table],
    run_id: str,
    now: datetime,
    arrived: Mapping[str, pa.Table] | None = None,
    coverage: pa.Table | None = None,
) -> Judged:
    """Judge what passed the gate. kept: rows of the same days that core holds already. Nothing is written.

    arrived, coverage: decoded rows of this load before the merge, and its rows of ops.coverage.
    """
    ours = {name: rows for name, rows in passed.items() if name in _SEEN and rows.num_rows}
    if not ours:
        return Judged(dict(passed))
    spans = [pc.min_max(rows.column("date")).as_py() for rows in ours.values()]
    first, last = min(span["min"] for span in spans), max(span["max"] for span in spans)
    wanted = detecting.wanted(ours)
    back = {name: max(wanted[one] for one in wanted if name in one.reads) for name in sorted(_beside_whom(wanted))}
    aside = _suspects(lake, first - max(back.values(), default=timedelta(0)) - timedelta(days=1))
    tables = {
        name: _beside(lake, name, (first - span, last), ours.get(name), kept.get(name), aside.get(name)) for name, span in back.items()
    }
    found = detecting.inspect(
        tables, run_id, now, arrived=arrived, coverage=coverage, since=Window.day(first).start, detectors=list(wanted)
    )
    judged = Judged(dict(passed), [], found.findings)
    for name, rows in ours.items():
        if name not in tables:
            continue
        own = slice(tables[name].num_rows - rows.num_rows, None)
        bad = {code: mask[own] for code, mask in found.quarantine.get(name, {}).items()}
        flags = {code: mask[own] for code, mask in found.flag.get(name, {}).items()}
        judged.passed[name] = _flagged(rows, flags).filter(pa.array(~_any(bad, rows.num_rows)))
        judged.aside.extend(_aside(name, rows, bad, found.findings, run_id))
    return judged


def _beside_whom(detectors: Iterable[Detector]) -> set[str]:
    """Tables that these detectors read."""
    return {name for one in detectors for name in one.reads if name in TABLES}


def _suspects(lake: Lake, since: date) -> dict[str, pa.Table]:
    """Rows put aside as suspect from a day on, by table; no row is put aside before the day it speaks of.

    Not those of an invented history: what they are compared with is in core.
    """
    said: dict[str, list[Mapping[str, Any]]] = {}
    stored = lake.read("quarantine", days=(since, date.max), columns=("target", "detail", "row_json"), where={"reason_code": CODE})
    for row in stored.to_pylist():
        if row["target"] in _SEEN and not row["detail"].startswith(f"{InventedHistory.reason_code}:"):
            said.setdefault(row["target"], []).append(json.loads(row["row_json"]))
    found = {}
    for name, rows in said.items():
        schema = arrow_schema(TABLES[name])
        whole = [{one.name: typed(row[one.name], one.type) for one in schema} for row in rows if all(n in row for n in schema.names)]
        found[name] = pa.Table.from_pylist(whole, schema=schema)
    return found


def _holes(name: str, aside: pa.Table, days: tuple[date, date], others: pa.Table) -> pa.Table:
    """The rows put aside in a span whose keys nothing else has: what was released or said otherwise since is judged instead."""
    inside = pc.and_(pc.greater_equal(aside.column("date"), days[0]), pc.less_equal(aside.column("date"), days[1]))
    near = aside.filter(inside)
    if near.num_rows == 0:
        return empty(TABLES[name])
    keys = TABLES[name].key
    stamps = pc.unique(near.column("as_of"))
    same = others.filter(pc.is_in(others.column("as_of"), value_set=stamps)).select(keys).to_pylist()
    taken = {tuple(row.values()) for row in same}
    places = [n for n, row in enumerate(near.select(keys).to_pylist()) if tuple(row.values()) not in taken]
    return near.take(pa.array(places, type=pa.int64()))


def _beside(
    lake: Lake, name: str, days: tuple[date, date], fresh: pa.Table | None, kept: pa.Table | None, aside: pa.Table | None
) -> pa.Table:
    """What the lake holds of a table on these days, and on the one before them, and behind it the rows that arrive."""
    first, last = days[0] - timedelta(days=1), days[1]
    held = lake.read(name, days=(first, last))
    if kept is not None and kept.num_rows:  # the merge has looked at these days: what it read is what they hold
        span = pc.min_max(kept.column("date")).as_py()
        inside = pc.and_(pc.greater_equal(held.column("date"), span["min"]), pc.less_equal(held.column("date"), span["max"]))
        held = pa.concat_tables([held.filter(pc.invert(inside)), kept])
    rows = held if fresh is None else pa.concat_tables([held, fresh])
    return rows if aside is None else pa.concat_tables([_holes(name, aside, (first, last), rows), rows])


def _any(masks: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    found = np.zeros(count, dtype=np.bool_)
    for mask in masks.values():
        found |= mask
    return found


def _flagged(rows: pa.Table, masks: Mapping[str, np.ndarray]) -> pa.Table:
    if not masks:
        return rows
    place = rows.column_names.index("flags")
    words = rows.column(place).to_pylist()
    for code, mask in sorted(masks.items()):
        for n in np.flatnonzero(mask).tolist():
            words[n] = " ".join(dict.fromkeys([*words[n].split(), code]))
    return rows.set_column(place, rows.schema.field(place), pa.array(words, type=pa.string()))


def _aside(name: str, rows: pa.Table, masks: Mapping[str, np.ndarray], findings: pa.Table, run_id: str) -> list[dict[str, Any]]:
    """Rows of ops.quarantine, each with the first finding that names it."""
    numbers = np.flatnonzero(_any(masks, rows.num_rows))
    said = [one for one in findings.to_pylist() if one["table_name"] == name and one["consequence"] == "quarantine"]
    found = []
    for n, row in zip(numbers.tolist(), rows.take(pa.array(numbers)).to_pylist(), strict=True):
        code = next(code for code, mask in sorted(masks.items()) if mask[n])
        who = row.get("instrument") or row.get("stablecoin") or ""
        detail = next(
            (
                one["detail"]
                for one in said
                if one["reason_code"] == code
                and one["source"] == row["source"]
                and one["instrument"] == who
                and one["window_start"] < row["as_of"] <= one["window_end"]
            ),
            "see ops.findings",
        )
        text = json.dumps({key: plain(value) for key, value in row.items()}, ensure_ascii=False)
        found.append(
            {
                "source": row["source"],
                "endpoint": "",
                "instrument": who,
                "target": name,
                "reason_code": CODE,
                "detail": f"{code}: {detail}",
                "row_json": text,
                "raw_sha256": row["raw_sha256"],
                "fetched_at": row["fetched_at"],
                "quarantine_id": row_id(TABLES[name], json.loads(text)),
                "run_id": run_id,
            }
        )
    return found

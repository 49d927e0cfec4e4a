"""The detectors at the lake's door: what a load should see besides its rows, and findings as evidence. No lake in here: the caller reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import pyarrow as pa

from transforms.detectors import DETECTORS, Consequence, Detector, Finding, Inputs, find_all, suspect, to_table
from transforms.estimators import Bools


class Inspected(NamedTuple):
    """`findings`: rows of ops.findings. `quarantine`, `flag`: by table and reason code, which of the rows given are suspect."""

    findings: pa.Table
    quarantine: dict[str, dict[str, Bools]]
    flag: dict[str, dict[str, Bools]]


def wanted(arriving: Mapping[str, pa.Table]) -> dict[Detector, timedelta]:
    """The detectors that rows that arrive (by table) are something to, and how much history before these rows each needs."""
    asked = {one: one.back(arriving) for one in DETECTORS}
    return {one: timedelta(hours=back) for one, back in asked.items() if back is not None}


def inspect(
    tables: Mapping[str, pa.Table],
    run_id: str,
    recorded_at: datetime,
    *,
    arrived: Mapping[str, pa.Table] | None = None,
    coverage: pa.Table | None = None,
    since: datetime | None = None,
    detectors: Sequence[Detector] = DETECTORS,
) -> Inspected:
    """Run detectors over core tables (the rows that arrived and what each `wanted` before them, all revisions, any order).

    arrived: decoded rows before the merge. coverage: rows of ops.coverage of this load. since: findings that end before it are old news
    and are left out. A row that is suspect for two reasons is in both masks; one that came before the proof was complete is in none: a
    history asked for at once is judged as it would have been hour by hour.
    """
    found = find_all(Inputs(tables, arrived or {}, coverage), detectors)
    if since is not None:
        first = int(since.timestamp() * 1_000_000)
        found = [one for one in found if one.window_end >= first]
    return Inspected(to_table(found, run_id, recorded_at), _masks(tables, found, "quarantine"), _masks(tables, found, "flag"))


def _masks(tables: Mapping[str, pa.Table], found: Sequence[Finding], consequence: Consequence) -> dict[str, dict[str, Bools]]:
    masks: dict[str, dict[str, Bools]] = {}
    for name, code in sorted({(one.table, one.reason_code) for one in found if one.consequence == consequence and one.table in tables}):
        mask = suspect(name, tables[name], [one for one in found if one.reason_code == code], consequence, proved=True)
        if mask.any():
            masks.setdefault(name, {})[code] = mask
    return masks

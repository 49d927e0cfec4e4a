"""Where rows went, out of `ops.outcomes`: decoded = core + quarantined + duplicates, by source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from transforms.vocabulary import SOURCES


@dataclass(frozen=True, slots=True)
class Account:
    """Where rows went: decoded = core + quarantined + duplicates."""

    subject: str
    answers: int
    decoded: int
    core: int
    quarantined: int
    duplicate: int
    published: int

    @property
    def difference(self) -> int:
        """Rows that are neither in core, nor in quarantine, nor duplicates. Anything but 0 is a fault of ours."""
        return self.decoded - self.core - self.quarantined - self.duplicate


_COUNTS: Final = ("answers", "rows_decoded", "rows_core", "rows_quarantined", "rows_duplicate", "rows_published")


def accounts(outcomes: pa.Table) -> list[Account]:
    """Row accounting by source. A step whose subject begins with no source's name is listed under its own name."""
    totals: dict[str, list[int]] = {}
    for row in outcomes.select(["step", "subject", *_COUNTS]).to_pylist():
        if not any(row[name] for name in _COUNTS[1:5]):
            continue
        subject = next((name for name in SOURCES if row["subject"].replace(".", "/").split("/")[0] == name), row["subject"])
        summed = totals.setdefault(subject, [0] * len(_COUNTS))
        for i, name in enumerate(_COUNTS):
            summed[i] += row[name]
    return [Account(subject, *totals[subject]) for subject in sorted(totals)]


def total_account(outcomes: pa.Table) -> Account:
    """Row accounting over all outcomes given."""
    sums = [int(pc.sum(outcomes.column(name)).as_py() or 0) for name in _COUNTS]
    return Account("all", *sums)


def undecided(quarantine: pa.Table, decisions: pa.Table, count: int) -> tuple[int, list[dict[str, Any]]]:
    """How many entries of quarantine nobody has decided about, and the newest of them."""
    done = set(decisions.column("quarantine_id").to_pylist())
    rows = quarantine.sort_by([("recorded_at", "ascending"), ("raw_sha256", "ascending")]).to_pylist()
    found = {row["quarantine_id"]: row for row in rows if row["quarantine_id"] not in done}
    return len(found), list(found.values())[: -count - 1 : -1]

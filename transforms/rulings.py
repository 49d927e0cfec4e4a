"""What people decided about rows that were put aside: how such a row is named, and how a decision takes effect while answers are decoded.

A quarantined row is named by what it says, not by when it was fetched: the same row in another answer has the same id, so a decision holds
for it too. What does not carry its own instant (a row of a snapshot, a whole answer) is named with the bytes it came from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.table import Table

#: The word in `flags` of a row that a person released from quarantine.
RELEASED: Final = "RELEASED"
#: Says when we learnt of a row and what we thought of it, not what the row says.
_LEARNT: Final = frozenset({"known_at", "revision", "flags", "date"})


def plain(value: Any) -> Any:
    """A value JSON can say: NaN and the infinities as words, instants in ISO 8601, bytes in hex."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else value


def typed(value: Any, kind: pa.DataType) -> Any:
    """Inverse of `plain` for a column of this type."""
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    if pa.types.is_floating(kind):
        return float(value)
    return bytes.fromhex(value) if pa.types.is_binary(kind) else value


def _sha256(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def row_id(table: Table, row: Mapping[str, Any]) -> str:
    """Id of a typed row of `table`: a mapping of columns, or what `json.loads` gives of its `row_json`."""
    said = {name: plain(row[name]) for name in table.content if name in row and name not in _LEARNT}
    return _sha256("row", table.name, said)


def part_id(source: str, endpoint: str, instrument: str, target: str, reason_code: str, text: str, bytes_of: str = "") -> str:
    """Id of a part of an answer that a decoder put aside; `bytes_of` names the answer where the part does not say its own instant.

    Parts of one answer that read the same (two contracts asked about together) share an id, and so a decision.
    """
    return _sha256("part", source, endpoint, instrument, target, reason_code, text, bytes_of)


def released(rows: pa.Table, at: datetime) -> pa.Table:
    """The rows as a release at `at` puts them into core: flagged, and known from `at` on where they were not known later."""
    kind = rows.schema.field("known_at").type
    declared, moment = rows.column("known_at"), pa.scalar(at, kind)
    known = pc.if_else(pc.less(declared, moment), moment, declared)
    flags = [" ".join(dict.fromkeys([*text.split(), RELEASED])) for text in rows.column("flags").to_pylist()]
    rows = rows.set_column(rows.column_names.index("known_at"), rows.schema.field("known_at"), known)
    return rows.set_column(rows.column_names.index("flags"), rows.schema.field("flags"), pa.array(flags, type=pa.string()))


def is_released(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mask of the rows that carry the flag."""
    found = pc.match_substring_regex(rows.column("flags"), rf"(^| ){RELEASED}( |$)")
    mask: np.ndarray[Any, np.dtype[np.bool_]] = pc.fill_null(found, False).to_numpy(zero_copy_only=False).astype(bool)
    return mask


@dataclass(frozen=True, slots=True)
class Rulings:
    """Decisions that bear on one answer, by target and text of the part: `waived` reasons are passed over, `barred` parts are put aside again.

    waived: (target, reason code, text). barred: (target, text) -> (reason code, detail) as found when it was rejected.
    """

    waived: frozenset[tuple[str, str, str]] = frozenset()
    barred: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)


#: In force while an answer is decoded; nothing is, unless `ruled` says so.
_NONE: Final = Rulings()
IN_FORCE: Final[ContextVar[Rulings]] = ContextVar("rulings", default=_NONE)


@contextmanager
def ruled(rulings: Rulings) -> Iterator[None]:
    """The rulings are in force for what is decoded inside the block."""
    token = IN_FORCE.set(rulings)
    try:
        yield
    finally:
        IN_FORCE.reset(token)

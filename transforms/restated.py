"""What revisions changed, column by column: from which value to which, by how much, known since when."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.revisions import values_of
from transforms.rulings import is_released, plain
from transforms.schema import in_key_order
from transforms.table import Table
from transforms.vocabulary import CAUSES
from transforms.windows import partition_day

SOURCE, RELEASE, ARCHIVE = CAUSES
#: Changes kept.
NEWEST: Final = 1000


def changes(table: Table, rows: pa.Table, newest: int = NEWEST) -> list[dict[str, Any]]:
    """The newest changes in core rows of `table`: rows of `ops.revisions`, last known first, whose cause is the source's word or a release.

    Give every revision of the keys you give. A row released where core had none counts as a change from nothing.
    """
    ordered = in_key_order(table, rows)
    let = is_released(ordered)
    revision = np.asarray(ordered.column("revision").to_numpy())
    places = np.flatnonzero((revision > 0) | let)
    known = ordered.column("known_at").take(pa.array(places))
    latest = places[pc.sort_indices(known, sort_keys=[("", "descending")]).to_numpy()[:newest]]
    found = [one for place in latest.tolist() for one in _change(table, ordered, place, bool(let[place]))]
    return found[:newest]


def _change(table: Table, ordered: pa.Table, place: int, let: bool) -> Iterator[dict[str, Any]]:
    (after,) = ordered.slice(place, 1).to_pylist()
    before: dict[str, Any] = ordered.slice(place - 1, 1).to_pylist()[0] if after["revision"] > 0 else {}
    for name in values_of(table):
        if _text(before.get(name)) == _text(after[name]):
            continue
        yield {
            "table_name": table.name,
            "key_text": " ".join(f"{key}={plain(after[key])}" for key in table.key if key != "as_of"),
            "as_of": after["as_of"],
            "revision": after["revision"],
            "column_name": name,
            "value_before": _text(before.get(name)),
            "value_after": _text(after[name]),
            "relative_change": _relative(before.get(name), after[name]),
            "known_at_before": before.get("known_at", after["known_at"]),
            "known_at": after["known_at"],
            "raw_sha256_before": before.get("raw_sha256", ""),
            "raw_sha256": after["raw_sha256"],
            "cause": RELEASE if let else SOURCE,
            "date": partition_day(after["known_at"]),
        }


def _text(value: Any) -> str:
    return "" if value is None else str(plain(value))


def _relative(before: Any, after: Any) -> float | None:
    if not (isinstance(before, (int, float)) and isinstance(after, (int, float))) or not before:
        return None
    change = after / before - 1.0
    return change if math.isfinite(change) else None

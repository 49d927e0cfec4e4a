"""How answers become history: repetitions are counted, restatements become new revisions, nothing is edited.

Within a key, rows are ordered by the time we asked; a row that repeats its predecessor is a duplicate; every change is the next revision.
Loading answers in the order of asking, in any grouping and any number of times, gives one and the same history. An older answer loaded late
still takes its right place, but a confirmation that was already counted as a duplicate is not remembered (A, A again, then a late B in
between reads A, B): replay the stored answers in order of asking to restore it.

A row that a person released from quarantine stands where it was released: behind every answer that was asked for before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.rulings import is_released
from transforms.schema import arrow_schema, in_key_order
from transforms.tables import Table
from transforms.windows import partition_days


@dataclass(frozen=True, slots=True)
class Merged:
    """`rows`: the table after the merge, in key order. `fresh`: mask over `rows` of what was not stored before. `duplicates`: count."""

    rows: pa.Table
    fresh: npt.NDArray[np.bool_]
    duplicates: int


def complete(table: Table, decoded: pa.Table, raw_sha256: pa.Array, fetched_at: pa.Array) -> pa.Table:
    """Decoded rows with the columns that loading adds: provenance, partition day, an empty flag list and revision 0."""
    added = {
        "flags": pa.array([""] * decoded.num_rows, type=pa.string()),
        "revision": pa.array(np.zeros(decoded.num_rows, dtype=np.int64)),
        "fetched_at": fetched_at,
        "raw_sha256": raw_sha256,
        "date": partition_days(decoded.column("as_of")),
    }
    schema = arrow_schema(table)
    columns = [added[name] if name in added else decoded.column(name) for name in table.columns]
    return pa.table(columns, schema=schema)


def values_of(table: Table) -> tuple[str, ...]:
    """The columns whose change makes a revision: what a row says, not when we learnt of it or what we thought of it."""
    return tuple(name for name in table.content if name not in {*table.key, "known_at", "revision", "flags", "date"})


def merge(table: Table, stored: pa.Table, arrived: pa.Table) -> Merged:
    """Merge arrived rows into stored ones of the same days. Both carry all columns of `table`; any row order.

    `known_at` of a first revision is the declared one (as_of plus lag); of a restatement, the time we saw it.
    Rows that come out = stored + arrived - duplicates, always.
    """
    rows = pa.concat_tables([stored, arrived])
    count = rows.num_rows
    if count == 0:
        return Merged(rows, np.zeros(0, dtype=bool), 0)
    new = np.concatenate([np.zeros(stored.num_rows, dtype=bool), np.ones(arrived.num_rows, dtype=bool)])
    rows = rows.append_column("_new", pa.array(new))
    rows = rows.append_column("_said_at", _said_at(rows))
    order = pc.sort_indices(rows, [(name, "ascending") for name in (*table.key, "_said_at", "raw_sha256", "_new")])
    rows = rows.take(order)
    same_key = _like_previous(rows, table.key)
    run = np.cumsum(~(same_key & _like_previous(rows, values_of(table)))) - 1  # consecutive rows that say the same
    new = rows.column("_new").to_numpy(zero_copy_only=False).astype(bool)
    chosen = np.flatnonzero(np.diff(run, prepend=-1))
    chosen[run[~new]] = np.flatnonzero(~new)  # of a run keep the stored row: a late answer that only confirms it is a duplicate
    first = np.maximum.accumulate(np.where(same_key, 0, np.arange(count)))
    revision: npt.NDArray[np.int64] = (run - run[first]).astype(np.int64)
    known, asked = (rows.column(name).cast(pa.int64()).to_numpy() for name in ("known_at", "fetched_at"))
    known_at = pa.array(np.where(revision > 0, np.maximum(known, asked), known)).cast(rows.schema.field("known_at").type)
    rows = rows.set_column(rows.column_names.index("revision"), "revision", pa.array(revision))
    rows = rows.set_column(rows.column_names.index("known_at"), "known_at", known_at)
    rows = rows.take(pa.array(chosen))
    ordered = in_key_order(table, rows)  # the sort above already is key order; this also drops the helper column
    return Merged(ordered, new[chosen], count - len(chosen))


def known(table: Table, rows: pa.Table, at: datetime, *, held: bool = False) -> pa.Table:
    """Rows of `table` as they were known at an instant: of each key the newest revision with `known_at <= at`, in key order.

    History that was asked for later counts as known when it could first have been (as_of plus the declared lag). With `held` only what
    had been asked for by then counts: what this lake would show had it stopped at `at`. Tables without `known_at` raise ValueError.
    """
    if "known_at" not in table.columns:
        raise ValueError(f"table {table.name} has no known_at: what it says is not a fact about the world that becomes known")
    moment = pa.scalar(at, rows.schema.field("known_at").type)
    seen = pc.less_equal(rows.column("known_at"), moment)
    if held and "fetched_at" in table.columns:
        seen = pc.and_(seen, pc.less_equal(rows.column("fetched_at"), moment))
    found = in_key_order(table, rows.filter(seen))
    if "revision" not in table.columns or found.num_rows == 0:
        return found
    return found.filter(pa.array(np.append(~_like_previous(found, table.key)[1:], True)))  # the last of each key


def _said_at(rows: pa.Table) -> pa.ChunkedArray:
    """What revisions are ordered by: the time of asking, or of release."""
    return pc.if_else(pa.array(is_released(rows)), rows.column("known_at"), rows.column("fetched_at"))


def _like_previous(rows: pa.Table, columns: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Whether each row equals the one before it in these columns; two nulls are equal. The first row never does."""
    alike = np.ones(rows.num_rows, dtype=bool)
    alike[0] = False
    for name in columns:
        column = rows.column(name)
        later, earlier = column.slice(1), column.slice(0, rows.num_rows - 1)
        equal = pc.fill_null(pc.equal(later, earlier), False)
        both = pc.and_(pc.is_null(later), pc.is_null(earlier))
        alike[1:] &= pc.or_(equal, both).to_numpy(zero_copy_only=False).astype(bool)
    return alike

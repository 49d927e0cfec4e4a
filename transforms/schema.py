"""What is compiled from the declaration: Arrow schemas, SQL DDL, canonical row order and content hashes."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.tables import Table
from transforms.vocabulary import VOCABULARY, Kind

ARROW: Final[dict[Kind, pa.DataType]] = {
    "string": pa.string(),
    "instant": pa.timestamp("us", tz="UTC"),
    "day": pa.date32(),
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "bytes": pa.binary(),
}
SQL: Final[dict[Kind, str]] = {
    "string": "VARCHAR",
    "instant": "TIMESTAMP WITH TIME ZONE",
    "day": "DATE",
    "float": "DOUBLE",
    "int": "BIGINT",
    "bool": "BOOLEAN",
    "bytes": "VARBINARY",
}


def arrow_schema(table: Table, columns: tuple[str, ...] | None = None) -> pa.Schema:
    """Arrow schema of a table, or of some of its columns, in declared order; nullability as declared."""
    chosen = table.columns if columns is None else columns
    return pa.schema([pa.field(name, ARROW[VOCABULARY[name].kind], nullable=VOCABULARY[name].nullable) for name in chosen])


def empty(table: Table, columns: tuple[str, ...] | None = None) -> pa.Table:
    """A table without rows."""
    return arrow_schema(table, columns).empty_table()


def ddl(table: Table) -> str:
    """`CREATE TABLE` in standard SQL types, with the meaning of each column as a comment."""
    lines = []
    for number, (name, column) in enumerate(table.fields.items()):
        comma = "," if number < len(table.fields) - 1 else ""
        null = "" if column.nullable else " NOT NULL"
        unit = f" [{column.unit}]" if column.unit else ""
        lines.append(f"  {name} {SQL[column.kind]}{null}{comma}  -- {column.meaning}{unit}")
    return f"CREATE TABLE {table.identifier} (\n" + "\n".join(lines) + "\n);\n"


def known_macro(table: Table) -> str:
    """DuckDB: `known.<table>(instant)`, the rows of a view as they were known at an instant (transforms/revisions.py, `known`)."""
    newest = (
        f" QUALIFY row_number() OVER (PARTITION BY {', '.join(table.key)} ORDER BY revision DESC) = 1"
        if "revision" in table.columns
        else ""
    )
    return (
        f"CREATE OR REPLACE MACRO known.{table.name}(instant) AS TABLE SELECT * FROM {table.identifier} WHERE known_at <= instant{newest};"  # noqa: S608 - declared names only
    )


def in_key_order(table: Table, rows: pa.Table) -> pa.Table:
    """Rows sorted by the table's key (then revision), columns in declared order: the one order in which a partition is stored."""
    order = [*table.key, *(["revision"] if "revision" in table.columns else [])]
    return rows.select(list(table.columns)).cast(arrow_schema(table)).sort_by([(name, "ascending") for name in order])


def content_sha256(table: Table, rows: pa.Table) -> str:
    """SHA-256 over the rows in key order, provenance columns left out: equal content, equal hash, whatever run wrote it.

    Rows: any order, the table's columns. The hash covers names, types, validity and values; -0.0 equals 0.0, and a null differs from 0.
    """
    digest = hashlib.sha256()
    ordered = in_key_order(table, rows)
    for name in table.content:
        field = arrow_schema(table).field(name)
        digest.update(f"{name}:{field.type}:{rows.num_rows}\n".encode())
        column = ordered.column(name).cast(field.type).combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # pyarrow keeps an empty column chunked
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=field.type)
        digest.update(np.packbits(pc.is_valid(column).to_numpy(zero_copy_only=False)).tobytes())
        digest.update(_values(column))
    return digest.hexdigest()


def _values(column: pa.Array) -> bytes:
    """The values of a column as bytes, without the padding and offsets that differ between equal arrays."""
    kind = column.type
    if pa.types.is_floating(kind):
        return bytes((pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False) + 0.0).tobytes())
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        plain = pc.fill_null(column.cast(pa.large_binary()), b"")
        offsets = np.frombuffer(plain.buffers()[1], dtype=np.int64)[plain.offset : plain.offset + len(plain) + 1]
        body = memoryview(plain.buffers()[2] or b"")[int(offsets[0]) : int(offsets[-1])] if len(plain) else b""
        return bytes(np.diff(offsets).astype("int64").tobytes()) + bytes(body)
    if pa.types.is_boolean(kind):
        return bytes(pc.fill_null(column, False).to_numpy(zero_copy_only=False).tobytes())
    width = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    return bytes(pc.fill_null(column.cast(width), 0).to_numpy(zero_copy_only=False).tobytes())
